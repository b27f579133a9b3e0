package proxy

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
)

// A generation that takes no requests yet may get copies of some: they show what
// it would have said, and its answers are dropped. A copy is made when the request
// itself has its replica, and sent on a goroutine of its own: nothing waits for
// it. It takes a slot that nobody else wants, or is not sent. Left out are requests
// whose body has not been gathered (upfront.go): those of 28 KiB and more, of
// unknown length, or held back by the client until it is asked; and upgrades and
// gRPC, whose bodies are conversations.

// Bounds on the copies of one application.
const (
	mostCopies     = 64             // under way
	mostCopied     = 1 << 20        // bytes of their headers and bodies
	copyWait       = time.Second    // for another gatekeeper's word whether there is a slot
	copyTime       = time.Minute    // until a copy must be answered, where the application has no request_timeout
	copyFixedBytes = 4 << 10        // that a copy holds in any case
	shadowHeader   = "Serve-Shadow" // 1: the request is a copy, whose answer nobody sees
)

// copies is what copies of an application's requests hold.
type copies struct {
	count, bytes  atomic.Int64
	sent, dropped atomic.Uint64
}

func (c *copies) status() *CopiesStatus {
	return &CopiesStatus{UnderWay: c.count.Load(), Sent: c.sent.Load(), Dropped: c.dropped.Load()}
}

// drop counts a copy for that gate which is not sent.
func (c *copies) drop(g *gate.Gate) {
	c.dropped.Add(1)
	g.CopyDropped()
}

// reserve makes room for a copy, if there is some.
func (c *copies) reserve(bytes int64) bool {
	count, held := c.count.Add(1), c.bytes.Add(bytes)
	if count <= mostCopies && held <= mostCopied {
		return true
	}
	c.free(bytes)
	return false
}

func (c *copies) free(bytes int64) {
	c.count.Add(-1)
	c.bytes.Add(-bytes)
}

// pair is a request and its copy, each a side of it.
type pair struct {
	gate *gate.Gate // of the copy

	mu    sync.Mutex
	sides [2]side
	void  bool // there is nothing to compare
	said  gate.Comparison
}

// side is how one of them is answered.
type side struct {
	began time.Time // when it got its slot, the last time
	done  bool
}

// The sides of a pair.
const (
	original = iota
	duplicate
)

// begin notes that a side has got a slot.
func (p *pair) begin(which int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sides[which].began = now
}

// came notes the status of a side's answer as its head comes.
func (p *pair) came(which, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sides[which].done {
		p.end(which, status, time.Since(p.sides[which].began))
	}
}

// failed notes that a side has ended without an answer. status is what the proxy
// itself said instead, 0 for nothing.
func (p *pair) failed(which, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sides[which].done {
		p.end(which, status, 0)
	}
}

// drop notes that there is nothing to compare.
func (p *pair) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.void = true
}

// end takes in how a side was answered, and counts the pair when it is whole. The
// caller holds the mutex.
func (p *pair) end(which, status int, took time.Duration) {
	p.sides[which].done = true
	if which == original {
		p.said.Primary, p.said.PrimaryTook = status, took
	} else {
		p.said.Copy, p.said.CopyTook = status, took
	}
	if p.sides[original].done && p.sides[duplicate].done && !p.void {
		p.gate.Compared(p.said)
	}
}

// shadow sends a copy of the request where it is one that is to be copied, when
// it has got a replica; and notes when it gets another one.
func (t *transit) shadow() {
	if t.pair != nil {
		t.pair.begin(original, time.Now())
		return
	}
	a := t.application
	to := a.shadowed
	if t.weighed || to == nil || t.head.inner || t.proxy.draining.Load() || t.gate.Generation == to.number {
		return
	}
	t.weighed = true
	front := to.front()
	if front == nil || int(place(&a.draws.shadows)) >= to.shadow {
		return
	}
	bytes := int64(copyFixedBytes + t.upfront.n)
	if !t.copyable() || !a.draws.copies.reserve(bytes) {
		a.draws.copies.drop(front)
		return
	}
	t.pair = &pair{gate: front}
	t.pair.begin(original, time.Now())
	t.proxy.sendCopy(t.duplicate(front), bytes)
}

// copyable says whether all of the request is there.
func (t *transit) copyable() bool {
	return !t.grpc && t.head.upgrade == "" && (t.body == nil || t.upfront.whole)
}

// duplicate is the copy as a request of its own, for that gate.
func (t *transit) duplicate(g *gate.Gate) *transit {
	r := &http.Request{
		Method: t.r.Method, URL: &url.URL{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: t.r.Header.Clone(), Host: t.r.Host, RemoteAddr: t.r.RemoteAddr, Body: http.NoBody, ContentLength: t.r.ContentLength,
	}
	// The trace is that of the request: spans of a copy would look like its own.
	delete(r.Header, "Traceparent")
	delete(r.Header, "Tracestate")
	r.Header[shadowHeader] = []string{"1"}
	w := nobody{http.Header{}}
	c := &transit{
		proxy: t.proxy, w: w, control: *http.NewResponseController(w), r: r, arrived: time.Now(),
		application: t.application, gate: g, head: t.head, patience: t.patience, pair: t.pair, duplicated: true,
	}
	c.head.request, c.head.inner, c.head.traceparent, c.head.tracestate = r, true, "", nil
	c.deadline = c.arrived.Add(cmp.Or(max(t.application.route.RequestTimeout, 0), copyTime))
	if t.body != nil {
		c.body = r
		c.upfront = upfront{buffers: t.upfront.buffers, buf: t.upfront.buffers.get(), n: t.upfront.n, whole: true}
		copy(c.upfront.bytes(), t.upfront.bytes())
	}
	return c
}

// sendCopy sends a copy, for which so many bytes are reserved, whatever comes of
// it.
func (p *Proxy) sendCopy(c *transit, bytes int64) {
	of := &c.application.draws.copies
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx = ctx
	over := p.copying.add(cancel)
	go func() {
		defer over()
		defer cancel()
		defer of.free(bytes)
		defer c.upfront.drop()
		defer c.copyEnded()
		wait, stop := context.WithTimeout(ctx, copyWait)
		s, err := c.gate.TakeSpare(wait, c.r.Header)
		stop()
		if err != nil {
			c.pair.drop()
			of.drop(c.gate)
			return
		}
		of.sent.Add(1)
		c.pair.given(s.Replica.Version)
		if s.Replica.HTTP2 {
			c.attemptStream(s)
		} else {
			c.attempt(s)
		}
	}()
}

// compare takes in the status of an answer whose head has come. Whoever it was for
// may have left: then its time means nothing.
func (t *transit) compare(status int) {
	switch {
	case t.pair == nil:
	case t.ctx.Err() != nil:
		t.pair.drop()
	case t.duplicated:
		t.pair.came(duplicate, status)
	default:
		t.pair.came(original, status)
	}
}

// given notes which version has got the copy.
func (p *pair) given(version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said.Version, p.sides[duplicate].began = version, time.Now()
}

// copyEnded takes in that a copy has ended. One that is broken off by the proxy's
// own end says nothing.
func (t *transit) copyEnded() {
	// An answer that breaks off ends in a panic, as towards a client; and a fault
	// of ours must not cost more than a copy.
	if fault := recover(); fault != nil && fault != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
		t.proxy.log.Error("a copy of a request could not be sent: this is a fault of the proxy", "application", t.gate.Application, "error", fault)
	}
	if t.ctx.Err() != nil && !t.late() {
		t.pair.drop()
	}
	t.pair.failed(duplicate, 0)
}

// originalEnded takes in that a request has ended of which there is a copy.
func (t *transit) originalEnded() {
	switch {
	case t.pair == nil:
	case t.begun:
		t.pair.failed(original, t.record.Status) // by the proxy's own word, if it has no answer yet
	default: // its client has left
		t.pair.drop()
	}
}

// nobody is the client of a copy: it takes everything at once.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header         { return n.header }
func (n nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n nobody) WriteHeader(int)             {}

// What http.ResponseController asks for.

func (n nobody) Flush()                           {}
func (n nobody) EnableFullDuplex() error          { return nil }
func (n nobody) SetReadDeadline(time.Time) error  { return nil }
func (n nobody) SetWriteDeadline(time.Time) error { return nil }
