//go:build unix

package upstream

import (
	"errors"
	"syscall"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// Stale says whether an idle connection can no longer carry a request: the
// replica has closed it, or has sent something that nobody asked for. It looks
// at the socket without reading from it.
func (c *Conn) Stale() bool {
	if c.R.Buffered() > 0 {
		return true
	}
	if c.raw == nil {
		return false
	}
	if c.look.see == nil {
		c.look.see = func(fd uintptr) bool { // made once: it would be made anew for each look
			c.look.peek(fd)
			return true
		}
	}
	err := c.raw.Read(c.look.see)
	return err != nil || !c.look.quiet
}

// look is what a look at the socket needs, kept with the connection because it
// happens on the way of every request.
type look struct {
	see   func(fd uintptr) bool
	quiet bool
	b     [1]byte
}

// peek says whether the socket is open and has nothing to be read.
func (l *look) peek(fd uintptr) bool {
	_, err := nonblock.Peek(fd, l.b[:])
	l.quiet = errors.Is(err, syscall.EAGAIN)
	return l.quiet
}
