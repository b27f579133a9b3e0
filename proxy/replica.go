package proxy

import (
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
)

// replica is one replica as its gate sees it. The gate's mutex guards all of
// it, but for the pool, which guards itself.
type replica struct {
	id       string
	address  string
	version  string          // of the deployment; with node and series never changed
	node     string          // in Consul; "": not said
	http2    bool            // it speaks HTTP/2 and nothing else; as its version does
	series   Series          // the observer's
	member   *balance.Member // counts its slots, and what is held against it
	passing  bool
	unproven bool   // nothing but its own check stands in the way
	passed   bool   // it has passed since Consul listed it
	probe    *probe // nil: it is not asked whether it could serve
	known    bool   // Consul lists it, with the version that takes traffic
	pool     pool

	line       *gatekeeper.Line // where its slots are handed out; nil: here, see reserve.go
	asked      int              // slots asked for and not answered
	spare      int              // slots held without a request
	leastSpare int              // of them not needed since they were looked at last
	full       bool             // it counts as full for a while, see countFull
}

// proven says whether r has passed since Consul listed it, and nothing is known
// against it since but by its own check.
func (r *replica) proven() bool {
	return r.known && r.passed && (r.passing || r.unproven)
}

// pool is the idle connections to one replica, the one used last on top.
type pool struct {
	mu     sync.Mutex
	closed bool
	idle   []*conn

	h2 h2Conns // has a mutex of its own
}

// take returns an idle connection, or nil. Whether it is still good shows when
// it is used.
func (p *pool) take(now time.Time, maxIdle time.Duration) *conn {
	for {
		c := p.pop()
		if c == nil {
			return nil
		}
		if now.Sub(c.idleSince) < maxIdle {
			return c
		}
		c.close()
	}
}

func (p *pool) pop() *conn {
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

// count says how many connections are idle.
func (p *pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// put keeps c for the next request, unless the replica is gone.
func (p *pool) put(c *conn, now time.Time) {
	c.idleSince = now
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if closed {
		c.close()
	}
}

// sweep closes the connections that have been idle since before cutoff.
func (p *pool) sweep(cutoff time.Time) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].idleSince.Before(cutoff) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.mu.Unlock()
	closeAll(old)
	p.h2.sweep(cutoff)
}

// setOpen closes the pool with all that is in it, or opens it again.
func (p *pool) setOpen(open bool) {
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

// flush closes what is idle now; the pool stays open.
func (p *pool) flush() {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	closeAll(old)
	p.h2.flush()
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		c.close()
	}
}
