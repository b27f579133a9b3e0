package upstream

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/h2"
)

// Bounds on the HTTP/2 connections to one replica. One connection would do for
// the protocol, but what is lost on it, and what its one reader is busy with,
// holds up every stream on it. So there are some, opened as they are needed.
const (
	streamsPerConn = 8 // beyond so many at once another connection is opened
	connsPerPeer   = 8 // beyond so many, only where the replica takes no more streams on those that there are
)

var errNoStreams = errors.New("it takes no streams on a new connection")

// H2Conn is one HTTP/2 connection to a replica. The mutex of its h2Conns guards
// all but the addresses.
type H2Conn struct {
	*h2.Conn
	Address   string         // of the replica
	from      netip.AddrPort // of this end
	streams   int
	idleSince time.Time
	doomed    bool // closed when its last stream has ended
}

// h2Conns is the HTTP/2 connections to one replica.
type h2Conns struct {
	mu      sync.Mutex
	closed  bool
	conns   []*H2Conn
	ending  map[*H2Conn]bool // no longer among conns, and with streams
	dialing *h2Dial          // nil: nobody opens another
}

// h2Dial is a connection that one request opens, and others wait for.
type h2Dial struct {
	done chan struct{}
	err  error // once done; nil also where only the request that dialled has ended
}

// take returns a connection with a stream reserved for the caller: the one with
// the fewest, or a new one. Of several requests that need a new one, one dials.
func (p *h2Conns) take(ctx context.Context, address string, dial func() (*H2Conn, error)) (*H2Conn, error) {
	for grow := true; ; {
		c, other, own := p.choose(address, grow)
		switch {
		case c != nil:
			return c, nil
		case own != nil:
			next, err := dial()
			c, usable := p.dialled(own, next, err, ctx.Err() != nil)
			if c != nil {
				return c, nil
			}
			if err == nil {
				err = errNoStreams
			}
			if !usable || !grow {
				return nil, err
			}
			grow = false // more would have been better, but some will do
		default:
			select {
			case <-other.done:
				if other.err != nil {
					return nil, other.err
				}
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
}

// choose returns a connection, or a dial to wait for, or one that the caller is
// to do.
func (p *h2Conns) choose(address string, grow bool) (c *H2Conn, other, own *h2Dial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune()
	for _, next := range p.conns {
		if next.Address == address && next.CanTake() && (c == nil || next.streams < c.streams) {
			c = next
		}
	}
	more := grow && c != nil && c.streams >= streamsPerConn && len(p.conns) < connsPerPeer && p.dialing == nil
	if c != nil && !more && c.Reserve() {
		c.streams++
		return c, nil, nil
	}
	if p.dialing != nil {
		return nil, p.dialing, nil
	}
	p.dialing = &h2Dial{done: make(chan struct{})}
	return nil, nil, p.dialing
}

// dialled takes in what came of a dial. It returns the new connection with a
// stream reserved, or says whether there is another one that may do.
func (p *h2Conns) dialled(d *h2Dial, next *H2Conn, err error, ended bool) (c *H2Conn, usable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	defer close(d.done)
	if err == nil && !next.Reserve() {
		err = errNoStreams
		_ = next.Close() // it is of no use, however it closes
	}
	if err != nil {
		usable = len(p.conns) > 0
		if !ended && !usable {
			d.err = err
		}
		return nil, usable
	}
	next.streams = 1
	if p.closed {
		p.retire(next) // the replica leaves: this request is its last
	} else {
		p.conns = append(p.conns, next)
	}
	return next, true
}

// put gives back a stream, which has ended.
func (p *h2Conns) put(c *H2Conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.streams--
	if c.streams > 0 {
		return
	}
	c.idleSince = now
	if c.doomed {
		delete(p.ending, c)
		_ = c.Close() // as is a connection that does not close
	}
}

// prune forgets idle connections that take no more streams: either side has
// ended them.
func (p *h2Conns) prune() {
	p.keep(func(c *H2Conn) bool { return c.streams > 0 || c.CanTake() })
}

// keep closes the connections that are not to be kept, when they are idle.
func (p *h2Conns) keep(wanted func(c *H2Conn) bool) {
	kept := p.conns[:0]
	for _, c := range p.conns {
		if wanted(c) {
			kept = append(kept, c)
		} else {
			p.retire(c)
		}
	}
	clear(p.conns[len(kept):])
	p.conns = kept
}

// retire closes c, when its last stream has ended.
func (p *h2Conns) retire(c *H2Conn) {
	c.doomed = true
	if c.streams == 0 {
		_ = c.Close() // as in put
		return
	}
	if p.ending == nil {
		p.ending = map[*H2Conn]bool{}
	}
	p.ending[c] = true
}

// own adds where the connections come from.
func (p *h2Conns) own(to []netip.AddrPort) []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		to = append(to, c.from)
	}
	for c := range p.ending {
		to = append(to, c.from)
	}
	return to
}

// sweep closes the connections that have been idle since before cutoff.
func (p *h2Conns) sweep(cutoff time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(func(c *H2Conn) bool { return c.streams > 0 || !c.idleSince.Before(cutoff) })
}

// setOpen has connections kept, or closes those that there are as they become
// idle, because the replica leaves.
func (p *h2Conns) setOpen(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = !open; p.closed {
		p.keep(func(*H2Conn) bool { return false })
	}
}

// flush closes the connections that there are as they become idle.
func (p *h2Conns) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(func(*H2Conn) bool { return false })
}
