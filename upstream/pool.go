package upstream

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Pool is the connections to one replica: those for HTTP/1.1 that are idle, the
// one used last on top, and all of those for HTTP/2. The zero value is open and has
// none.
type Pool struct {
	mu     sync.Mutex
	closed bool
	idle   []*Conn
	all    map[*Conn]bool // for HTTP/1.1, and not closed

	h2 h2Conns // has a mutex of its own
}

// Dial opens a connection for HTTP/1.1 that is the pool's until it is closed,
// whether it is put back or not.
func (p *Pool) Dial(ctx context.Context, d *Dialer, address string, deadline time.Time) (*Conn, error) {
	c, err := d.Dial(ctx, address, deadline)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[*Conn]bool{}
	}
	p.all[c], c.pool = true, p
	return c, nil
}

// forget is told that c is closed.
func (p *Pool) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, c)
}

// Own returns where the connections come from, idle or not.
func (p *Pool) Own() []netip.AddrPort {
	p.mu.Lock()
	own := make([]netip.AddrPort, 0, len(p.all))
	for c := range p.all {
		own = append(own, localAddress(c.nc))
	}
	p.mu.Unlock()
	return p.h2.own(own)
}

// Take returns an idle connection, or nil. Whether it is still good shows when
// it is used.
func (p *Pool) Take(now time.Time, maxIdle time.Duration) *Conn {
	for {
		c := p.pop()
		if c == nil {
			return nil
		}
		if now.Sub(c.idleSince) < maxIdle {
			c.Reused = true
			return c
		}
		c.Close()
	}
}

func (p *Pool) pop() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

// Count says how many connections are idle.
func (p *Pool) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// TakeH2 returns an HTTP/2 connection with a stream reserved for the caller: the one
// with the fewest, or a new one. Of several requests that need a new one, one dials.
func (p *Pool) TakeH2(ctx context.Context, address string, dial func() (*H2Conn, error)) (*H2Conn, error) {
	return p.h2.take(ctx, address, dial)
}

// PutH2 gives back a stream, which has ended.
func (p *Pool) PutH2(c *H2Conn, now time.Time) { p.h2.put(c, now) }

// Put keeps c for the next request, unless the replica is gone.
func (p *Pool) Put(c *Conn, now time.Time) {
	c.idleSince = now
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if closed {
		c.Close()
	}
}

// Sweep closes the connections that have been idle since before cutoff.
func (p *Pool) Sweep(cutoff time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].idleSince.Before(cutoff) {
		n++
	}
	old := append([]*Conn(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.mu.Unlock()
	closeAll(old)
	p.h2.sweep(cutoff)
}

// SetOpen closes the pool with all that is in it, or opens it again.
func (p *Pool) SetOpen(open bool) {
	p.mu.Lock()
	p.closed = !open
	old := p.idle
	if open {
		old = nil
	} else {
		p.idle = nil
	}
	p.mu.Unlock()
	closeAll(old)
	p.h2.setOpen(open)
}

// Flush closes what is idle now; the pool stays open.
func (p *Pool) Flush() {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	closeAll(old)
	p.h2.flush()
}

func closeAll(conns []*Conn) {
	for _, c := range conns {
		c.Close()
	}
}
