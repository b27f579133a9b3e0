//go:build unix

package upstream

import (
	"errors"
	"io"
	"syscall"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// asking is a request without a body that is sent, and its answer awaited, in
// one go: the runtime's poller is told of one wait instead of two, and nothing
// is read in vain before the answer can be there.
type asking struct {
	out   []byte             // what is to be sent; empty: nothing
	taken func()             // called when the kernel has all of it; nil: nobody needs to know
	short func([]byte) error // sends what the kernel did not take at once; nil: it is waited for
	in    []byte             // where the answer goes
	n     int                // bytes of it
	sent  bool
	err   error
	step  func(fd uintptr) bool // made once, for each connection
}

// ask sends what is to be sent, and reads. It is ErrStale when a kept connection
// has died, and nothing was sent.
func (c *Conn) ask(p []byte) (int, error) {
	a := &c.asking
	if c.raw == nil {
		return c.askPlainly(p)
	}
	if a.step == nil {
		a.step = c.askStep
	}
	a.in, a.n, a.sent, a.err = p, 0, false, nil
	err := c.raw.Read(a.step)
	for err != nil && !a.sent && c.rearm(err) {
		err = c.raw.Read(a.step) // an earlier exchange's deadline came before anything was sent
	}
	rest := a.out
	a.in, a.out = nil, nil
	if err == nil {
		err = a.err
	}
	if err != nil || a.n > 0 {
		return a.n, err
	}
	// The kernel has taken a part.
	if a.short != nil {
		err = a.short(rest)
	} else {
		_, err = connWriter{c}.Write(rest)
	}
	if err != nil {
		return 0, err
	}
	return c.nc.Read(p)
}

// askStep is called when the poller watches the socket, and then whenever there
// is something to be read. It says whether it needs to be called no more.
//
// That the socket is looked at, and found empty, before the request is sent is
// what makes it safe to wait without having tried to read.
func (c *Conn) askStep(fd uintptr) bool {
	a := &c.asking
	if !a.sent {
		if c.Reused && !c.look.peek(fd) {
			a.err = ErrStale
			return true
		}
		n, err := nonblock.Write(fd, a.out)
		if n > 0 {
			c.Sent += int64(n)
			a.out = a.out[n:]
		}
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			a.err = err
			return true
		}
		if a.sent = len(a.out) == 0; a.sent && a.taken != nil {
			a.taken()
		}
		return !a.sent
	}
	n, err := nonblock.Read(fd, a.in)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		a.err = err
	case n == 0:
		a.err = io.EOF
	default:
		a.n = n
	}
	return true
}
