package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

var (
	errHeadTooLarge = errors.New("the replica's response header is too large")
	// errStale means that a kept connection had died before anything was sent.
	errStale = errors.New("the replica has closed the kept connection")
)

const connBufferSize = 4 << 10

// conn is one HTTP/1.1 connection to a replica. One exchange uses it at a time,
// from two goroutines: the request's body is written by one, the response read
// by the other.
type conn struct {
	nc        net.Conn
	raw       syscall.RawConn // nil where there is none
	in        io.Reader       // nc, or its socket
	br        *bufio.Reader
	bw        *bufio.Writer
	idleSince time.Time
	reused    bool
	look      look
	asking    asking
	answer    answer
	maxHeader int64  // bytes that the header of a response, or its trailer, may have
	leave     func() // halfClose, with patience

	// Of the exchange under way. sent belongs to whoever writes, the others
	// to whoever reads.
	sent     int64         // bytes of the request that the kernel took
	got      bool          // a byte of the response has been read
	budget   int64         // bytes that the response header may still have; negative: no limit
	patience time.Duration // for halfClose, when the client leaves

	mu       sync.Mutex
	deadline time.Time // of the exchange; zero: none
	armed    time.Time // what nc has for a deadline: at most deadline, and earlier where that saves setting it; zero: none
	settled  bool      // nc's deadlines are what somebody wants them to be
	bound    time.Time // set by halfClose: when waiting for the replica ends
}

func newConn(nc net.Conn, maxHeader int64) *conn {
	c := &conn{nc: nc, in: nc, budget: -1, maxHeader: maxHeader}
	if s := nonblock.Of(nc); s != nil {
		c.in = s
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.br = bufio.NewReaderSize(connReader{c}, connBufferSize)
	c.bw = bufio.NewWriterSize(connWriter{c}, connBufferSize)
	c.leave = func() { c.halfClose(c.patience) }
	return c
}

// begin makes c ready for an exchange that has to end by the deadline; zero:
// no deadline.
//
// Setting a deadline costs as much as parsing a small response. Requests to one
// replica mostly have the same timeout, so that one that was set for an earlier
// request ends before this one's: it stays until half of the time is over, and
// whoever runs into it sets it anew, see rearm.
func (c *conn) begin(now, deadline time.Time) error {
	c.sent, c.got, c.budget = 0, false, -1
	c.asking.out, c.asking.taken, c.asking.short = nil, nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
	switch {
	case deadline.IsZero() && c.armed.IsZero():
		return nil
	case !deadline.IsZero() && !c.armed.IsZero() && !c.armed.After(deadline) && c.armed.Sub(now) >= deadline.Sub(now)/2:
		return nil
	}
	return c.arm()
}

// arm sets the exchange's own deadline. c.mu is held.
func (c *conn) arm() error {
	c.armed = c.deadline
	return c.nc.SetDeadline(c.deadline)
}

// rearm is called when nc's deadline has ended a read or a write, and says
// whether it was an earlier exchange's, and this one goes on.
func (c *conn) rearm(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled || (!c.deadline.IsZero() && !time.Now().Before(c.deadline)) {
		return false
	}
	return c.arm() == nil
}

// settle takes the deadline away, for whoever sets others.
func (c *conn) settle() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	return c.nc.SetDeadline(time.Time{})
}

// halfClose tells the replica that nobody waits for its answer any more, and
// bounds how long the reader goes on waiting for it to finish. The first call
// decides.
func (c *conn) halfClose(patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.bound.IsZero() {
		return
	}
	now := time.Now()
	c.bound, c.settled = now.Add(patience), true
	// The errors mean that the connection is dead, which the reader learns.
	_ = c.nc.SetReadDeadline(c.bound)
	_ = c.nc.SetWriteDeadline(now)
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// patienceOver says that halfClose was called and that its bound has passed.
func (c *conn) patienceOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.bound.IsZero() && !time.Now().Before(c.bound)
}

// wakeReader makes the reader return with a timeout, unless halfClose has
// already said how long it waits.
func (c *conn) wakeReader() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	if c.bound.IsZero() {
		_ = c.nc.SetReadDeadline(time.Now())
	}
}

// wakeWriter makes the writer return with a timeout.
func (c *conn) wakeWriter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	// An error means that the connection is dead, and so is the writer.
	_ = c.nc.SetWriteDeadline(time.Now())
}

// reusable says whether the next request may have the connection as it is.
func (c *conn) reusable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.settled && c.br.Buffered() == 0
}

func (c *conn) close() {
	// Nothing is to be done about a close that fails.
	_ = c.nc.Close()
}

// connReader and connWriter count what passes, under the buffers.
type (
	connReader struct{ c *conn }
	connWriter struct{ c *conn }
)

func (r connReader) Read(p []byte) (int, error) {
	c := r.c
	if c.budget == 0 {
		return 0, errHeadTooLarge
	}
	if c.budget > 0 && int64(len(p)) > c.budget {
		p = p[:c.budget]
	}
	n, err := c.askOrRead(p)
	for n == 0 && err != nil && c.rearm(err) {
		n, err = c.in.Read(p)
	}
	if n > 0 {
		c.got = true
		if c.budget > 0 {
			c.budget -= int64(n)
		}
	}
	return n, err
}

// askOrRead sends the request that waits to be sent, if there is one, and reads.
func (c *conn) askOrRead(p []byte) (int, error) {
	if len(c.asking.out) == 0 {
		return c.in.Read(p)
	}
	return c.ask(p)
}

// askPlainly does the one after the other.
func (c *conn) askPlainly(p []byte) (int, error) {
	a := &c.asking
	out := a.out
	a.out = nil
	if _, err := (connWriter{c}).Write(out); err != nil {
		return 0, err
	}
	if a.taken != nil {
		a.taken()
	}
	return c.nc.Read(p)
}

func (w connWriter) Write(p []byte) (int, error) {
	c := w.c
	n, err := c.nc.Write(p)
	for err != nil && c.rearm(err) {
		var more int
		more, err = c.nc.Write(p[n:])
		n += more
	}
	c.sent += int64(n)
	return n, err
}
