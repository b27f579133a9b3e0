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
