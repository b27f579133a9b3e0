//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package listeners

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
)

// errNoHandover says that this system cannot pass sockets between processes.
var errNoHandover = errors.New("ports cannot be handed over on this system")

// Offer waits at a Unix socket for a process that takes this one's ports over.
type Offer struct {
	Path      string
	Listeners func() []*Listener
	State     func() []byte
	Resume    func([]byte)
	Log       hclog.Logger
}

// Bind returns an error: this system has no way to do it.
func (o *Offer) Bind() error { return errNoHandover }

// Serve returns the same.
func (o *Offer) Serve(context.Context) error { return errNoHandover }

// Inheritance is empty on this system.
type Inheritance struct{}

// TakeOver returns an empty Inheritance.
func TakeOver(context.Context, string) (*Inheritance, error) { return &Inheritance{}, nil }

// Found says that there is no process to take over from.
func (*Inheritance) Found() bool { return false }

// Open returns a Listener on a new port.
func (*Inheritance) Open(ctx context.Context, name, address string, options Options, log hclog.Logger) (*Listener, error) {
	return Open(ctx, name, address, options, log)
}

// Ready does nothing.
func (*Inheritance) Ready() ([]byte, error) { return nil, nil }

// Serving does nothing.
func (*Inheritance) Serving() error { return nil }

// Fail does nothing.
func (*Inheritance) Fail(error) {}

// Close does nothing.
func (*Inheritance) Close() error { return nil }
