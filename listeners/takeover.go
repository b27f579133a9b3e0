//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package listeners

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Inheritance is the ports that this process takes over from the one before it.
// The zero Inheritance is that of a process with none before it.
type Inheritance struct {
	conn    *net.UnixConn // to the process before; nil: there is none
	sockets map[port]*net.TCPListener
	unhook  func() bool
}

// TakeOver asks the process that waits at path for its ports. When nobody waits
// there the Inheritance is empty, and Found says so.
func TakeOver(ctx context.Context, path string) (*Inheritance, error) {
	if len(path) > maxSocketPath {
		return &Inheritance{}, nil // nobody can wait there
	}
	dialer := net.Dialer{Timeout: helloWithin}
	nc, err := dialer.DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return &Inheritance{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reach the running process: %w", err)
	}
	conn, ok := nc.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("reach the running process: %s is no Unix socket", path), nc.Close())
	}
	i := &Inheritance{conn: conn, unhook: context.AfterFunc(ctx, func() { _ = conn.Close() })}
	if err := i.take(); err != nil {
		return nil, errors.Join(fmt.Errorf("take over from the running process: %w", err), i.Close())
	}
	return i, nil
}

// Found says whether there is a process to take over from.
func (i *Inheritance) Found() bool { return i.conn != nil }

func (i *Inheritance) take() error {
	if err := i.conn.SetDeadline(time.Now().Add(helloWithin)); err != nil {
		return err
	}
	if err := send(i.conn, message{Kind: kindHello, Protocol: protocol}); err != nil {
		return err
	}
	ports, err := receive(i.conn, kindPorts)
	if err != nil {
		return err
	}
	sockets, err := receiveSockets(i.conn, len(ports.Ports))
	if err != nil {
		return err
	}
	i.sockets = make(map[port]*net.TCPListener, len(sockets))
	for n, p := range ports.Ports {
		i.sockets[p] = sockets[n]
	}
	return nil
}

// Open returns a Listener on the port that was taken over under this name, if it
// is at the same address, or else on a new one.
func (i *Inheritance) Open(ctx context.Context, name, address string, options Options, log hclog.Logger) (*Listener, error) {
	key := port{name, address}
	if socket := i.sockets[key]; socket != nil {
		delete(i.sockets, key)
		return newListener(name, address, socket, options, log), nil
	}
	return Open(ctx, name, address, options, log)
}

// Ready says that this process can serve. It returns the state of the process
// before, which accepts nothing from then on: Serving must follow at once. An
// error means that the process before goes on.
func (i *Inheritance) Ready() (state []byte, err error) {
	if i.conn == nil {
		return nil, nil
	}
	if err := i.conn.SetDeadline(time.Now().Add(readyWithin)); err != nil {
		return nil, err
	}
	if err := send(i.conn, message{Kind: kindReady}); err != nil {
		return nil, err
	}
	stopped, err := receive(i.conn, kindStopped)
	if err != nil {
		return nil, fmt.Errorf("wait for the running process to stop: %w", err)
	}
	return stopped.State, nil
}

// Serving says that this process accepts as soon as this returns. An error means
// that it must not: the process before goes on.
func (i *Inheritance) Serving() error {
	if i.conn == nil {
		return nil
	}
	// Killed by now, it has left the ports to us all the same. If it goes on it
	// has said so, also where it does not listen any more.
	said := send(i.conn, message{Kind: kindServing})
	if said != nil && !errors.Is(said, errPeerGone) {
		return fmt.Errorf("take over: %w", said)
	}
	if _, err := receive(i.conn, kindGoodbye); err != nil && !errors.Is(err, errPeerGone) {
		return fmt.Errorf("take over: %w", err)
	}
	return i.Close()
}

// Fail tells the process before why this one will not take over.
func (i *Inheritance) Fail(reason error) {
	if i.conn != nil {
		_ = giveUp(i.conn, reason)
	}
}

// Close lets go of what was not opened. It ends an attempt to take over that
// Serving has not.
func (i *Inheritance) Close() error {
	if i.conn == nil {
		return nil
	}
	i.unhook()
	faults := []error{i.conn.Close()}
	for _, socket := range i.sockets {
		faults = append(faults, socket.Close())
	}
	i.conn, i.sockets = nil, nil
	return errors.Join(faults...)
}

// receiveSockets receives n sockets, which came with one byte.
func receiveSockets(conn *net.UnixConn, n int) ([]*net.TCPListener, error) {
	const most = 64
	if n > most {
		return nil, fmt.Errorf("%d ports, over %d", n, most)
	}
	control := make([]byte, syscall.CmsgSpace(4*n))
	_, length, _, _, err := conn.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return nil, gone(err)
	}
	messages, err := syscall.ParseSocketControlMessage(control[:length])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // the listeners have copies
		}
	}()
	for _, m := range messages {
		descriptors, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, d := range descriptors {
			syscall.CloseOnExec(d)
			files = append(files, os.NewFile(uintptr(d), "port"))
		}
	}
	if len(files) != n {
		return nil, fmt.Errorf("%d sockets came for %d ports", len(files), n)
	}
	sockets := make([]*net.TCPListener, 0, n)
	for _, f := range files {
		socket, err := net.FileListener(f)
		tcp, ok := socket.(*net.TCPListener)
		if err == nil && !ok {
			err = errors.Join(errors.New("a socket that came is no TCP port"), socket.Close())
		}
		if err != nil {
			for _, s := range sockets {
				_ = s.Close() // it is given up
			}
			return nil, err
		}
		sockets = append(sockets, tcp)
	}
	return sockets, nil
}
