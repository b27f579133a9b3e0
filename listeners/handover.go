//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package listeners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Times of a handover.
const (
	helloWithin   = 5 * time.Second // for each message that needs nothing but the sending
	readyWithin   = 2 * time.Minute // in which a new process has to be ready
	servingWithin = 5 * time.Second // in which it has to serve, while nobody accepts
)

// maxSocketPath is what a Unix socket's path may have on every system, in bytes.
const maxSocketPath = 103

// Offer waits at a Unix socket for a process that takes this one's ports over.
type Offer struct {
	Path      string             // of the socket
	Listeners func() []*Listener // all that the process has, running
	// State is called when nothing is accepted any more; what it returns the
	// new process gets before it accepts. nil: there is nothing to be told.
	State func() []byte
	// Resume is called with that when the new process has failed after all, and
	// this one goes on. nil: there is nothing to be done.
	Resume func(state []byte)
	Log    hclog.Logger

	socket *net.UnixListener
}

// Bind makes the socket: who takes over after it has returned finds this
// process, and not the one before. Serve is to be called then.
func (o *Offer) Bind() (err error) {
	o.socket, err = bind(o.Path)
	return err
}

// Serve offers the ports until ctx ends, which is an error, or until another
// process has them and serves: then this one has stopped listening. Attempts
// that fail leave everything as it was.
func (o *Offer) Serve(ctx context.Context) error {
	defer func() { _ = o.socket.Close() }()
	unhook := context.AfterFunc(ctx, func() { _ = o.socket.Close() })
	defer unhook()
	for {
		conn, err := o.socket.AcceptUnix()
		if ctx.Err() != nil {
			_ = os.Remove(o.Path) // the next one makes its own
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("wait at %s: %w", o.Path, err)
		}
		err = o.handOver(ctx, conn)
		_ = conn.Close() // all has been said
		if err == nil {
			return nil
		}
		o.Log.Error("no process took over; this one goes on", "error", err)
	}
}

// bind listens on a path, in the place of whoever was there.
func bind(path string) (*net.UnixListener, error) {
	temporary := path + "." + strconv.Itoa(os.Getpid())
	if len(temporary) > maxSocketPath {
		return nil, fmt.Errorf("the path %s is too long for a socket: %d bytes are possible", path, maxSocketPath-len(temporary)+len(path))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	socket.SetUnlinkOnClose(false) // the path may be another process's by then
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		return nil, errors.Join(err, socket.Close(), os.Remove(temporary))
	}
	return socket, nil
}

// handOver is one attempt.
func (o *Offer) handOver(ctx context.Context, conn *net.UnixConn) error {
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unhook()
	ports := o.Listeners()
	if err := o.offer(conn, ports); err != nil {
		return giveUp(conn, err)
	}
	if err := expect(conn, readyWithin, kindReady); err != nil {
		return giveUp(conn, fmt.Errorf("wait for the new process to be ready: %w", err))
	}
	for _, l := range ports {
		l.Pause()
	}
	if err := o.stop(conn); err != nil {
		for _, l := range ports {
			l.Resume()
		}
		return giveUp(conn, err)
	}
	for _, l := range ports {
		l.Stop()
	}
	// Should it not arrive, the new process finds this one gone and serves.
	_ = send(conn, message{Kind: kindGoodbye})
	return nil
}

// offer sends the ports.
func (o *Offer) offer(conn *net.UnixConn, listeners []*Listener) error {
	if err := conn.SetDeadline(time.Now().Add(helloWithin)); err != nil {
		return err
	}
	hello, err := receive(conn, kindHello)
	if err != nil {
		return err
	}
	if hello.Protocol != protocol {
		return fmt.Errorf("the new process speaks version %d of the handover and this one %d: restart it in the ordinary way", hello.Protocol, protocol)
	}
	ports := message{Kind: kindPorts}
	sockets := make([]*net.TCPListener, 0, len(listeners))
	for _, l := range listeners {
		ports.Ports = append(ports.Ports, port{l.name, l.address})
		sockets = append(sockets, l.socket)
	}
	if err := send(conn, ports); err != nil {
		return err
	}
	return sendSockets(conn, sockets)
}

// stop sends the state of now, when nothing is accepted any more, and waits
// until the new process serves.
func (o *Offer) stop(conn *net.UnixConn) error {
	stopped := message{Kind: kindStopped}
	if o.State != nil {
		stopped.State = o.State()
	}
	err := announceStop(conn, stopped)
	if err != nil && o.Resume != nil {
		o.Resume(stopped.State)
	}
	return err
}

func announceStop(conn *net.UnixConn, stopped message) error {
	if err := conn.SetDeadline(time.Now().Add(servingWithin)); err != nil {
		return err
	}
	if err := send(conn, stopped); err != nil {
		return err
	}
	if err := expect(conn, servingWithin, kindServing); err != nil {
		return fmt.Errorf("wait for the new process to serve: %w", err)
	}
	return nil
}

func expect(conn *net.UnixConn, within time.Duration, kind string) error {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := receive(conn, kind)
	return err
}

// giveUp tells the other side why, if it still listens.
func giveUp(conn *net.UnixConn, err error) error {
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // an error means that it does not
	_ = send(conn, message{Kind: kindFailed, Reason: err.Error()})
	return err
}

// sendSockets sends the sockets with one byte. Their descriptors are not taken
// out of the listeners for it, which would make these block.
func sendSockets(conn *net.UnixConn, sockets []*net.TCPListener) error {
	return withDescriptors(sockets, nil, func(descriptors []int) error {
		_, _, err := conn.WriteMsgUnix([]byte{0}, syscall.UnixRights(descriptors...), nil)
		return err
	})
}

// withDescriptors calls do while it holds every socket's descriptor.
func withDescriptors(sockets []*net.TCPListener, held []int, do func([]int) error) error {
	if len(sockets) == 0 {
		return do(held)
	}
	raw, err := sockets[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = withDescriptors(sockets[1:], append(held, int(fd)), do)
	})
	return errors.Join(err, inner)
}
