//go:build unix

package proxy

import (
	"errors"
	"syscall"
)

// stale says whether an idle connection can no longer carry a request: the
// replica has closed it, or has sent something that nobody asked for. It looks
// at the socket without reading from it.
func (c *conn) stale() bool {
	if c.br.Buffered() > 0 {
		return true
	}
	if c.raw == nil {
		return false
	}
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
		return true
	})
	return err != nil || !quiet
}
