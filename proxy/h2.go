package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Bounds on the HTTP/2 connections to one replica. One connection would do for
// the protocol, but what is lost on it, and what its one reader is busy with,
// holds up every stream on it. So there are some, opened as they are needed.
const (
	streamsPerConn = 8         // beyond so many at once another connection is opened
	connsPerPeer   = 8         // beyond so many, only where the replica takes no more streams on those that there are
	streamBuffer   = 256 << 10 // bytes of one response that are read ahead of its client

	frontStreams = 250              // of one connection of a client
	frontBuffer  = 128 << 10        // bytes of one request that are read ahead of its replica
	frontFrame   = 16 << 10         // bytes of one frame; what every client begins with
	frontPing    = 30 * time.Second // for which a client's connection may be silent, and then the answer be late

	writeStall = 30 * time.Second // for which a replica may read nothing off a connection, whatever its windows say
)

var errNoStreams = errors.New("it takes no streams on a new connection")

// newH2Transport returns what makes HTTP/2 connections out of TCP connections.
// It keeps none, and asks none for a sign of life: servers of gRPC end a
// connection on which they are asked more often than each five minutes.
func newH2Transport(maxHeader int64) *http2.Transport {
	t, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer},
	})
	if err != nil { // only of a transport that has been configured already
		t = &http2.Transport{DisableCompression: true}
	}
	t.AllowHTTP = true
	t.MaxHeaderListSize = uint32(min(maxHeader, 1<<30))
	t.WriteByteTimeout = writeStall
	return t
}

// frontHTTP2 is what clients are offered. A connection may have as much
// unread as all of its streams together, or requests that wait for a slot would
// keep those from being read that have one.
func frontHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          frontStreams,
		MaxReceiveBufferPerStream:     frontBuffer,
		MaxReceiveBufferPerConnection: frontStreams * frontBuffer,
		// A frame that is allowed must fit into the buffer of its stream.
		MaxReadFrameSize: frontFrame,
		// A stream may be silent for long, so a client that has vanished is
		// found out by a question.
		SendPingTimeout: frontPing,
		PingTimeout:     frontPing,
	}
}

// h2Conn is one HTTP/2 connection to a replica. The mutex of its h2Conns guards
// the rest.
type h2Conn struct {
	*http2.ClientConn
	address   string
	streams   int
	idleSince time.Time
	doomed    bool // closed when its last stream has ended
}

// h2Conns is the HTTP/2 connections to one replica.
type h2Conns struct {
	mu      sync.Mutex
	closed  bool
	conns   []*h2Conn
	dialing *h2Dial // nil: nobody opens another
}

// h2Dial is a connection that one request opens, and others wait for.
type h2Dial struct {
	done chan struct{}
	err  error // once done; nil also where only the request that dialled has ended
}

// take returns a connection with a stream reserved for the caller: the one with
// the fewest, or a new one. Of several requests that need a new one, one dials.
func (p *h2Conns) take(ctx context.Context, address string, dial func() (*http2.ClientConn, error)) (*h2Conn, error) {
	for grow := true; ; {
		c, other, own := p.choose(address, grow)
		switch {
		case c != nil:
			return c, nil
		case own != nil:
			cc, err := dial()
			c, usable := p.dialled(own, address, cc, err, ctx.Err() != nil)
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
func (p *h2Conns) choose(address string, grow bool) (c *h2Conn, other, own *h2Dial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune()
	for _, next := range p.conns {
		if next.address == address && next.CanTakeNewRequest() && (c == nil || next.streams < c.streams) {
			c = next
		}
	}
	more := grow && c != nil && c.streams >= streamsPerConn && len(p.conns) < connsPerPeer && p.dialing == nil
	if c != nil && !more && c.ReserveNewRequest() {
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
func (p *h2Conns) dialled(d *h2Dial, address string, cc *http2.ClientConn, err error, ended bool) (c *h2Conn, usable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing = nil
	defer close(d.done)
	if err == nil && !cc.ReserveNewRequest() {
		err = errNoStreams
		_ = cc.Close() // it is of no use, however it closes
	}
	if err != nil {
		usable = len(p.conns) > 0
		if !ended && !usable {
			d.err = err
		}
		return nil, usable
	}
	c = &h2Conn{ClientConn: cc, address: address, streams: 1}
	if p.closed {
		c.doomed = true // the replica leaves: this request is its last
	} else {
		p.conns = append(p.conns, c)
	}
	return c, true
}

// put gives back a stream, which has ended.
func (p *h2Conns) put(c *h2Conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.streams--
	if c.streams > 0 {
		return
	}
	c.idleSince = now
	if c.doomed {
		_ = c.Close() // as is a connection that does not close
	}
}

// prune forgets idle connections that take no more streams: either side has
// ended them. (Their State would say so of the others too, but waits for a
// write that hangs.)
func (p *h2Conns) prune() {
	p.keep(func(c *h2Conn) bool { return c.streams > 0 || c.CanTakeNewRequest() })
}

// keep closes the connections that are not to be kept, when they are idle.
func (p *h2Conns) keep(wanted func(c *h2Conn) bool) {
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
func (p *h2Conns) retire(c *h2Conn) {
	c.doomed = true
	if c.streams == 0 {
		_ = c.Close() // as in put
	}
}

// sweep closes the connections that have been idle since before cutoff.
func (p *h2Conns) sweep(cutoff time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(func(c *h2Conn) bool { return c.streams > 0 || !c.idleSince.Before(cutoff) })
}

// setOpen has connections kept, or closes those that there are as they become
// idle, because the replica leaves.
func (p *h2Conns) setOpen(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = !open; p.closed {
		p.keep(func(*h2Conn) bool { return false })
	}
}

// flush closes the connections that there are as they become idle.
func (p *h2Conns) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(func(*h2Conn) bool { return false })
}

// dialH2 opens a connection and waits until the replica has said how many
// streams it takes, and with that, that it speaks HTTP/2: it has not been sent
// anything of a request by then.
func (t *transit) dialH2(ctx context.Context, address string) (*http2.ClientConn, error) {
	patience := t.proxy.config.DialTimeout
	d := net.Dialer{Timeout: patience, Deadline: t.deadline, KeepAlive: 15 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	cc, err := greet(ctx, t.proxy.h2, nc, patience)
	if err != nil {
		return nil, err
	}
	t.record.Dialled++
	return cc, nil
}

// greet exchanges HTTP/2's settings on a new connection, or closes it.
func greet(ctx context.Context, h2 *http2.Transport, nc net.Conn, patience time.Duration) (*http2.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cc, err := h2.NewClientConn(nc)
	if err != nil {
		_ = nc.Close() // it is of no use, however it closes
		return nil, fmt.Errorf("greet it over HTTP/2: %w", err)
	}
	if err := cc.Ping(ctx); err != nil {
		_ = cc.Close() // as above
		return nil, fmt.Errorf("it does not speak HTTP/2, or not in time: %w", err)
	}
	return cc, nil
}
