package h2

import (
	"errors"
	"os"
	"runtime"
	"time"
)

const (
	// What may wait to be written before bodies wait as well.
	maxPending = 64 << 10
	// A larger buffer is not kept.
	maxKept = 64 << 10
	// Written at once, so that a server that reads slowly, but reads, is seen to.
	maxWrite = 64 << 10
)

// frameWriter is where a connection's framer writes to. c.mu is held.
type frameWriter Conn

func (w *frameWriter) Write(p []byte) (int, error) {
	c := (*Conn)(w)
	if c.err == nil { // else nobody writes it
		c.pending = append(c.pending, p...)
		c.queued += int64(len(p))
	}
	if c.idle {
		c.idle = false
		c.work.Signal()
	}
	return len(p), nil
}

// write writes what is pending until the connection has failed.
func (c *Conn) write() {
	defer c.nc.Close()
	var until time.Time
	for {
		p, last := c.take()
		if len(p) > 0 {
			if err := c.writeAll(p, &until, last); err != nil {
				c.fail(err)
				return
			}
		}
		if last {
			return
		}
	}
}

// take returns what is pending, when there is something. Others go first, so
// that what they have to write goes with it: a system call costs more than
// anything else here. last says that the connection has failed.
func (c *Conn) take() (p []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) == 0 && c.err == nil {
		c.idle = true
		c.work.Wait()
	}
	if c.err == nil {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	p = c.pending
	c.pending, c.spare = c.spare[:0], nil
	if cap(p) <= maxKept {
		c.spare = p // written before the next is taken
	}
	c.written, c.answers = c.queued, 0
	if c.waiting > 0 {
		c.room.Broadcast()
	}
	return p, c.err != nil
}

// writeAll writes p as long as the server reads. until is the deadline that the
// connection has for that; of the last words it has another.
func (c *Conn) writeAll(p []byte, until *time.Time, last bool) error {
	for len(p) > 0 {
		if now := time.Now(); !last && until.Sub(now) < c.config.WriteStall-min(time.Second, c.config.WriteStall/2) {
			*until = now.Add(c.config.WriteStall)
			if err := c.nc.SetWriteDeadline(*until); err != nil {
				return err
			}
		}
		n, err := c.out.Write(p[:min(len(p), maxWrite)])
		p = p[n:]
		if err != nil && (n == 0 || last || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}
