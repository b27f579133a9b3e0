//go:build unix

package nonblock

import (
	"errors"
	"io"
	"syscall"
)

const possible = true

// Read is that of io.Reader.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	in := &s.input
	if in.step == nil {
		in.step = in.read
	}
	return in.run(s.raw.Read, p)
}

// Write is that of io.Writer. It has p sent in pieces that are few bytes.
func (s *Socket) Write(p []byte) (int, error) {
	out := &s.output
	if out.step == nil {
		out.step = out.write
	}
	return out.run(s.raw.Write, p)
}

// run has step called until it needs to wait no more.
func (t *transfer) run(wait func(func(fd uintptr) bool) error, p []byte) (int, error) {
	t.p, t.n, t.err = p, 0, nil
	err := wait(t.step)
	t.p = nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

func (t *transfer) read(fd uintptr) bool {
	t.n, t.err = Read(fd, t.p)
	switch {
	case errors.Is(t.err, syscall.EAGAIN):
		t.n, t.err = 0, nil
		return false
	case t.n == 0 && t.err == nil:
		t.err = io.EOF
	}
	return true
}

func (t *transfer) write(fd uintptr) bool {
	for len(t.p) > 0 {
		n, err := Write(fd, t.p[:min(len(t.p), MaxWrite)])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			t.err = err
			return true
		}
		t.n += n
		t.p = t.p[n:]
	}
	return true
}
