package proxy

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

var errHeadTooLarge = errors.New("the replica's response header is too large")

const connBufferSize = 4 << 10

// conn is one HTTP/1.1 connection to a replica. One exchange uses it at a time,
// from two goroutines: the request's body is written by one, the response read
// by the other.
type conn struct {
	nc        net.Conn
	raw       syscall.RawConn // nil where there is none
	br        *bufio.Reader
	bw        *bufio.Writer
	idleSince time.Time
	reused    bool
	look      look
	answer    answer
	maxHeader int64 // bytes that the header of a response, or its trailer, may have

	// Of the exchange under way. sent belongs to whoever writes, the others
	// to whoever reads.
	sent   int64 // bytes of the request that the kernel took
	got    bool  // a byte of the response has been read
	budget int64 // bytes that the response header may still have; negative: no limit

	mu    sync.Mutex
	bound time.Time // set by halfClose: when waiting for the replica ends
}

func newConn(nc net.Conn, maxHeader int64) *conn {
	c := &conn{nc: nc, budget: -1, maxHeader: maxHeader}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.br = bufio.NewReaderSize(connReader{c}, connBufferSize)
	c.bw = bufio.NewWriterSize(connWriter{c}, connBufferSize)
	return c
}

// begin makes c ready for an exchange that has to end by the deadline; zero:
// no deadline.
func (c *conn) begin(deadline time.Time) error {
	c.sent, c.got, c.budget = 0, false, -1
	if deadline.IsZero() {
		return nil // it has none: a connection is kept without
	}
	return c.nc.SetDeadline(deadline)
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
	c.bound = now.Add(patience)
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
	if c.bound.IsZero() {
		_ = c.nc.SetReadDeadline(time.Now())
	}
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
	if r.c.budget == 0 {
		return 0, errHeadTooLarge
	}
	if r.c.budget > 0 && int64(len(p)) > r.c.budget {
		p = p[:r.c.budget]
	}
	n, err := r.c.nc.Read(p)
	if n > 0 {
		r.c.got = true
		if r.c.budget > 0 {
			r.c.budget -= int64(n)
		}
	}
	return n, err
}

func (w connWriter) Write(p []byte) (int, error) {
	n, err := w.c.nc.Write(p)
	w.c.sent += int64(n)
	return n, err
}
