// Package upstream is the connections to replicas: it opens them, keeps them for the
// next request, and finds out which of those the replica has closed meanwhile.
// Over HTTP/1.1 it sends what it is given, and reads answers strictly, without an
// allocation for what can be used again; over HTTP/2 it decides how many
// connections there are and which of them takes a stream. Whose request it is,
// and whether it may be sent again, is the caller's to know.
package upstream

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
	// ErrStale means that a kept connection had died before anything was sent.
	ErrStale = errors.New("the replica has closed the kept connection")
)

const connBufferSize = 4 << 10

// Conn is one HTTP/1.1 connection to a replica. One exchange uses it at a time,
// from two goroutines: the request's body is written by one, the response read
// by the other.
type Conn struct {
	R     *bufio.Reader // what the replica sends
	W     *bufio.Writer // what it is sent
	Leave func()        // is HalfClose with the patience of Begin, made once

	// Of the exchange under way. Sent belongs to whoever writes, the others
	// to whoever reads.
	Reused   bool  // it has had one before
	Sent     int64 // bytes of the request that the kernel took
	Got      bool  // a byte of the response has been read
	HeadSize int   // bytes of the head that was read last

	nc        net.Conn
	pool      *Pool           // whose it is; nil: nobody's
	raw       syscall.RawConn // nil where there is none
	in        io.Reader       // nc, or its socket
	idleSince time.Time
	look      look
	asking    asking
	answer    answer
	maxHeader int64         // bytes that the header of a response, or its trailer, may have
	budget    int64         // bytes that the response header may still have; negative: no limit
	patience  time.Duration // for HalfClose, when the client leaves

	mu       sync.Mutex
	deadline time.Time // of the exchange; zero: none
	armed    time.Time // what nc has for a deadline: at most deadline, and earlier where that saves setting it; zero: none
	settled  bool      // nc's deadlines are what somebody wants them to be
	bound    time.Time // set by HalfClose: when waiting for the replica ends
}

// NewConn returns a connection over nc. The header of a response may have maxHeader
// bytes, and so may its trailer.
func NewConn(nc net.Conn, maxHeader int64) *Conn {
	c := &Conn{nc: nc, in: nc, budget: -1, maxHeader: maxHeader}
	if s := nonblock.Of(nc); s != nil {
		c.in = s
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.R = bufio.NewReaderSize(connReader{c}, connBufferSize)
	c.W = bufio.NewWriterSize(connWriter{c}, connBufferSize)
	c.Leave = func() { c.HalfClose(c.patience) }
	return c
}

// Begin makes c ready for an exchange that has to end by the deadline; zero:
// no deadline. A replica whose client leaves gets that patience.
//
// Setting a deadline costs as much as parsing a small response. Requests to one
// replica mostly have the same timeout, so that one that was set for an earlier
// request ends before this one's: it stays until half of the time is over, and
// whoever runs into it sets it anew, see rearm.
func (c *Conn) Begin(now, deadline time.Time, patience time.Duration) error {
	c.patience = patience
	c.Sent, c.Got, c.budget = 0, false, -1
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
func (c *Conn) arm() error {
	c.armed = c.deadline
	return c.nc.SetDeadline(c.deadline)
}

// rearm is called when nc's deadline has ended a read or a write, and says
// whether it was an earlier exchange's, and this one goes on.
func (c *Conn) rearm(err error) bool {
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

// TakeOver gives what is under c to somebody who sets deadlines of his own: there
// is none on it any more. R is still what is to be read from.
func (c *Conn) TakeOver() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	return c.nc, c.nc.SetDeadline(time.Time{})
}

// HalfClose tells the replica that nobody waits for its answer any more, and
// bounds how long the reader goes on waiting for it to finish. The first call
// decides.
func (c *Conn) HalfClose(patience time.Duration) {
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

// PatienceOver says that HalfClose was called and that its bound has passed.
func (c *Conn) PatienceOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.bound.IsZero() && !time.Now().Before(c.bound)
}

// WakeReader makes the reader return with a timeout, unless HalfClose has
// already said how long it waits.
func (c *Conn) WakeReader() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	if c.bound.IsZero() {
		_ = c.nc.SetReadDeadline(time.Now())
	}
}

// WakeWriter makes the writer return with a timeout.
func (c *Conn) WakeWriter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	// An error means that the connection is dead, and so is the writer.
	_ = c.nc.SetWriteDeadline(time.Now())
}

// Reusable says whether the next request may have the connection as it is.
func (c *Conn) Reusable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.settled && c.R.Buffered() == 0
}

// Close closes the connection.
func (c *Conn) Close() {
	// Nothing is to be done about a close that fails.
	_ = c.nc.Close()
	if c.pool != nil {
		c.pool.forget(c)
	}
}

// connReader and connWriter count what passes, under the buffers.
type (
	connReader struct{ c *Conn }
	connWriter struct{ c *Conn }
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
		c.Got = true
		if c.budget > 0 {
			c.budget -= int64(n)
		}
	}
	return n, err
}

// SendBeforeRead has out be sent when R is next read from, with which it is one
// step. taken is called when the kernel has all of it; nil: nobody needs to know.
// short sends what the kernel did not take at once, so that what comes meanwhile
// is read; nil: it is waited for. A kept connection that has died is ErrStale then.
func (c *Conn) SendBeforeRead(out []byte, taken func(), short func([]byte) error) {
	c.asking.out, c.asking.taken, c.asking.short = out, taken, short
}

// askOrRead sends the request that waits to be sent, if there is one, and reads.
func (c *Conn) askOrRead(p []byte) (int, error) {
	if len(c.asking.out) == 0 {
		return c.in.Read(p)
	}
	return c.ask(p)
}

// askPlainly does the one after the other.
func (c *Conn) askPlainly(p []byte) (int, error) {
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
	c.Sent += int64(n)
	return n, err
}
