//go:build unix

package h1

import (
	"errors"
	"io"
	"syscall"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

const canLook = true

// tryRead reads what there is. While there is nothing the connection is idle,
// and its work may be taken from it.
func (c *conn) tryRead(fd uintptr) bool {
	if c.parked && !c.enter(reading) {
		c.gotErr = io.EOF
		return true
	}
	c.got, c.gotErr = nonblock.Read(fd, c.work.in.room())
	if errors.Is(c.gotErr, syscall.EAGAIN) {
		c.got, c.gotErr, c.parked = 0, nil, true
		if c.enter(c.resting) {
			return false
		}
		c.gotErr = io.EOF
	}
	return true
}

// tryReadSocket reads what there is; the socket does not block.
func tryReadSocket(fd uintptr, p []byte) (int, error) { return nonblock.Read(fd, p) }

// push is a part of a response that is to be sent.
type push struct {
	rest []byte
	err  error
	step func(fd uintptr) bool // made once, for each connection
}

// write sends p, which is sent at once as a rule.
func (c *conn) write(p []byte) error {
	if c.raw == nil || len(p) > nonblock.MaxWrite {
		_, err := c.nc.Write(p)
		return err
	}
	if c.push.step == nil {
		c.push.step = c.tryWrite
	}
	c.push.rest, c.push.err = p, nil
	err := c.raw.Write(c.push.step)
	c.push.rest = nil
	if err != nil {
		return err
	}
	return c.push.err
}

// tryWrite writes what the kernel takes, and says whether it need not be waited
// for.
func (c *conn) tryWrite(fd uintptr) bool {
	for len(c.push.rest) > 0 {
		n, err := nonblock.Write(fd, c.push.rest)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			c.push.err = err
			return true
		}
		c.push.rest = c.push.rest[n:]
	}
	return true
}
