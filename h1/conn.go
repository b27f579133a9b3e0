package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// lingerTime is for how long what a client goes on sending is read after the
// last response of its connection: else the response could be lost with it.
const lingerTime = 500 * time.Millisecond

// phase is what a connection does. The sweep bounds how long it may.
type phase int

const (
	fresh     phase = iota // no byte has come yet
	shaking                // it is being opened; for TLS, hands are shaken
	idle                   // between two requests
	reading                // a head
	serving                // the handler runs
	finishing              // the response's end, and the request's
	over                   // its time is over: whatever it does fails
)

// conn is one connection and the goroutine that serves it.
type conn struct {
	server *Server
	nc     net.Conn
	raw    syscall.RawConn // nil: it cannot be waited for without a buffer
	out    io.Writer       // nc, or its socket
	secure *tls.ConnectionState
	remote string
	ctx    context.Context //nolint:containedctx // what ConnContext gave to all requests of the connection
	index  int             // in the server's list

	mu     sync.Mutex
	phase  phase
	since  int64 // tick
	resign bool  // its work may be taken from it while it is idle
	work   *work // nil: it has been taken

	// Of await.
	look    func(fd uintptr) bool
	parked  bool
	resting phase // fresh before the first request, then idle
	got     int
	gotErr  error
	one     [1]byte

	posted bool // the last request was a POST
}

// enter begins a phase. It says false if the connection's time is over.
func (c *conn) enter(p phase) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == over {
		return false
	}
	c.phase, c.since = p, c.server.tick.Load()
	if p == reading && c.work == nil {
		c.work = c.server.takeWork()
	}
	return true
}

func (c *conn) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == over
}

// serve serves the connection to its end.
func (c *conn) serve() {
	orderly := false
	defer func() {
		if !orderly {
			c.breakDown(recover())
		}
	}()
	c.run()
	orderly = true
	c.end()
}

// breakDown ends a connection over a fault of ours, or of a handler that has
// ended its goroutine: the others must not pay for it.
func (c *conn) breakDown(reason any) {
	c.server.logf("h1: panic on the connection of %s: %v\n%s", c.remote, reason, debug.Stack())
	c.server.forget(c)
	if c.work == nil || !c.work.response.hijacked {
		c.close()
	}
}

func (c *conn) run() {
	if !c.open() {
		return
	}
	for c.await() {
		f, ok := c.readHead()
		if !ok {
			c.close()
			return
		}
		if f.status != 0 {
			c.refuse(f)
			return
		}
		if c.server.Fallback != nil && c.isPreface() {
			c.server.forget(c) // its time is another's
			c.handOver(&replayed{Conn: c.nc, rest: append([]byte(nil), c.work.in.b[:c.work.in.w]...)})
			return
		}
		if !c.exchange() {
			return
		}
		c.resting = idle
	}
	c.close()
}

// end gives back what the connection has.
func (c *conn) end() {
	c.server.forget(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.work; w != nil && !w.response.hijacked {
		c.work = nil
		w.in.r, w.in.w = 0, 0
		w.slim()
		c.server.works.Put(w)
	}
}

// open shakes hands and learns who is there. It says whether to go on. It
// leaves the phase as it is: await begins the next when the buffers may go.
func (c *conn) open() bool {
	if a := c.nc.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.ctx = context.WithValue(context.Background(), http.LocalAddrContextKey, c.nc.LocalAddr())
	if c.server.ConnContext != nil {
		c.ctx = c.server.ConnContext(c.ctx, c.nc)
	}
	c.out = c.nc
	if t, ok := c.nc.(interface {
		HandshakeContext(ctx context.Context) error
		ConnectionState() tls.ConnectionState
	}); ok {
		if err := t.HandshakeContext(c.ctx); err != nil {
			c.failHandshake(err)
			return false
		}
		state := t.ConnectionState()
		if c.secure = &state; state.NegotiatedProtocol == "h2" && c.server.Fallback != nil {
			c.server.forget(c) // its time is another's
			c.handOver(c.nc)
			return false
		}
		c.resign = true // what is read ahead is in the TLS layer
	} else if sc, ok := c.nc.(syscall.Conn); ok && canLook {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw, c.look, c.resign = raw, c.tryRead, true
			if s := nonblock.Of(c.nc); s != nil {
				c.out = s
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work = c.server.takeWork()
	return c.phase != over
}

// failHandshake closes the connection. A client that has sent a request without
// TLS is told so, in the clear: else it sees that the connection has failed, and
// not why.
func (c *conn) failHandshake(err error) {
	var first tls.RecordHeaderError
	if !errors.As(err, &first) || first.Conn == nil || first.RecordHeader[0] < 'A' || first.RecordHeader[0] > 'Z' {
		c.server.logf("h1: TLS handshake with %s: %v", c.remote, err)
		c.close()
		return
	}
	c.mu.Lock() // which the sweep has when it looks at either
	c.nc, c.work = first.Conn, c.server.takeWork()
	c.mu.Unlock()
	c.refuse(fault{http.StatusBadRequest, "this port takes TLS, and the request came without: use https://"})
}

// await waits for the first byte of a request, without a buffer where it can.
func (c *conn) await() bool {
	in := &c.work.in
	in.next()
	if in.buffered() > 0 {
		return c.enter(reading)
	}
	if c.resting == idle && !c.server.keepsAlive() {
		return false
	}
	c.got, c.gotErr, c.parked = 0, nil, false
	switch {
	case c.raw != nil:
		if err := c.raw.Read(c.look); err != nil || c.gotErr != nil || c.got <= 0 {
			return false
		}
		c.work.in.w += c.got
		return c.parked || c.enter(reading)
	case c.resign:
		if !c.enter(c.resting) {
			return false
		}
		n, err := c.nc.Read(c.one[:])
		if n == 0 || err != nil || !c.enter(reading) {
			return false
		}
		c.work.in.w = copy(c.work.in.b, c.one[:])
		return true
	}
	if !c.enter(c.resting) {
		return false
	}
	n, err := c.nc.Read(in.room())
	in.w += n
	return (n > 0 || err == nil) && c.enter(reading)
}

// more reads more behind what is there.
func (c *conn) more() error {
	in := &c.work.in
	n, err := c.nc.Read(in.room())
	in.w += n
	if n > 0 {
		return nil
	}
	return c.lost(err)
}

// readBody reads a part of the body, without a copy if it is large.
func (c *conn) readBody(p []byte) (int, error) {
	in := &c.work.in
	if in.buffered() == 0 {
		if len(p) >= bufferSize {
			n, err := c.nc.Read(p)
			if n > 0 {
				err = nil
			}
			return n, c.lost(err)
		}
		if err := c.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.b[in.r:in.w])
	in.r += n
	return n, nil
}

// lost ends the request of a client that can no longer be read from.
func (c *conn) lost(err error) error {
	if err != nil && !isTimeout(err) {
		c.work.context.end()
	}
	return err
}

// readHead reads the next head. It says false when the client has left before
// its end, without a fault of its own.
func (c *conn) readHead() (fault, bool) {
	w := c.work
	if c.posted {
		w.in.skipBlank()
		c.posted = false
	}
	limit := c.server.MaxHeaderBytes
	if limit <= 0 {
		limit = http.DefaultMaxHeaderBytes
	}
	for {
		end, f := w.in.scan(&w.line, limit)
		if f.status != 0 {
			if c.isPreface() {
				return fault{}, true
			}
			return f, true
		}
		if end > 0 {
			f = w.headers.parse(w.in.b[w.in.first+len("\r\n") : end])
			if f.status == 0 {
				f = check(&w.line, &w.headers)
			}
			w.in.take(end)
			return f, true
		}
		n, err := c.nc.Read(w.in.room())
		w.in.w += n
		if n > 0 || err == nil {
			continue
		}
		if isTimeout(err) && c.isOver() {
			return fault{http.StatusRequestTimeout, "the headers did not come in time"}, true
		}
		return fault{}, false
	}
}

// isPreface says whether the connection begins as one of HTTP/2 does.
func (c *conn) isPreface() bool {
	in := &c.work.in
	return c.resting == fresh && c.server.Fallback != nil && c.secure == nil && in.lines == 1 &&
		string(in.b[:in.first]) == "PRI * HTTP/2.0"
}

// exchange serves one request, and says whether the connection can have another.
func (c *conn) exchange() bool {
	w := c.work
	c.posted = w.line.method == http.MethodPost
	request := w.begin(c)
	if !c.enter(serving) {
		c.close()
		return false
	}
	answered := c.handle(request)
	if w.response.hijacked {
		w.context.end()
		return false
	}
	alive := c.enter(finishing)
	w.context.end()
	if w.body != nil {
		w.body.end()
	}
	if !answered || !alive {
		c.abort()
		return false
	}
	keep := w.response.finish()
	drained := w.body == nil || w.body.whole.Load() || (keep && w.body.drain())
	if !keep || !drained {
		if drained && w.in.buffered() == 0 || w.response.err != nil {
			c.close()
		} else {
			c.linger()
		}
		return false
	}
	c.liftDeadlines()
	w.slim()
	return true
}

// handle runs the handler, and says whether it has returned.
func (c *conn) handle(r *http.Request) (returned bool) {
	defer func() {
		if returned {
			return
		}
		reason := recover()
		if err, ok := reason.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			return
		}
		c.server.logf("h1: panic serving %s: %v\n%s", c.remote, reason, debug.Stack())
	}()
	if r.RequestURI == "*" {
		return true // OPTIONS, which asks the server itself
	}
	c.server.Handler.ServeHTTP(&c.work.response, r)
	return true
}

// liftDeadlines takes away the deadlines that the handler has set.
func (c *conn) liftDeadlines() {
	w := c.work
	if w.readDeadline.Load() {
		w.readDeadline.Store(false)
		_ = c.nc.SetReadDeadline(time.Time{}) // an error shows again when it is read
	}
	if w.writeDeadline.Load() {
		w.writeDeadline.Store(false)
		_ = c.nc.SetWriteDeadline(time.Time{}) // as above
	}
}

// refuse answers a request that no handler sees.
func (c *conn) refuse(f fault) {
	c.server.logf("h1: refused a request from %s: %d, %s", c.remote, f.status, f.why)
	// The client may read nothing, and the sweep ends reads alone here. An
	// error means that the connection is dead, which the write says.
	_ = c.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	if _, err := c.nc.Write(c.server.refusal(f)); err != nil {
		c.close()
		return
	}
	c.linger()
}

// abort closes the connection so that the client sees that it has not got all.
// A response whose head is not complete has not begun: nothing is sent of it.
func (c *conn) abort() {
	r := &c.work.response
	if r.framing != undecided {
		r.send()
	}
	if r.framing == toTheEnd {
		c.reset()
	}
	c.close()
}

// reset closes the connection in a way that is not taken for the end of what was
// sent on it: by TCP, and without the word that TLS has for it.
func (c *conn) reset() {
	below := innermost(c.nc)
	if tcp, ok := below.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // an error means that it is closed already
	}
	_ = below.Close() // as above
}

// linger closes the connection when the client has, or has had its time to read
// what it was sent.
func (c *conn) linger() {
	defer c.close()
	if half, ok := c.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	in := &c.work.in
	for {
		if _, err := c.nc.Read(in.b); err != nil {
			return
		}
	}
}

func (c *conn) close() {
	// Nothing is to be done about a close that fails.
	_ = c.nc.Close()
}
