//go:build unix

package nonblock_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// pair returns two sockets that do not block, connected to each other.
func pair(t *testing.T) (a, b uintptr) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) }) // it may be closed already
	}
	return uintptr(fds[0]), uintptr(fds[1])
}

func TestReadWritePeek(t *testing.T) {
	a, b := pair(t)
	p := make([]byte, 16)
	for name, f := range map[string]func(uintptr, []byte) (int, error){"read": nonblock.Read, "peek": nonblock.Peek} {
		if n, err := f(b, p); n != 0 || !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("%s of nothing: %d, %v", name, n, err)
		}
	}
	if n, err := nonblock.Write(a, []byte("hello")); n != 5 || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	if n, err := nonblock.Peek(b, p[:3]); n != 3 || err != nil || string(p[:3]) != "hel" {
		t.Errorf("peek: %d, %v, %q", n, err, p[:3])
	}
	if n, err := nonblock.Read(b, p); n != 5 || err != nil || string(p[:5]) != "hello" {
		t.Errorf("read: %d, %v, %q", n, err, p[:5])
	}
	_ = syscall.Close(int(a))
	if n, err := nonblock.Read(b, p); n != 0 || err != nil {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if n, err := nonblock.Write(b, p); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to nobody: %d, %v", n, err)
	}
}

func TestFullSocket(t *testing.T) {
	a, b := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), nonblock.MaxWrite/16)
	total := 0
	for {
		n, err := nonblock.Write(a, sent)
		total += n
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for p := make([]byte, 4096); got < total; {
		n, err := nonblock.Read(b, p)
		if n == 0 || err != nil {
			t.Fatalf("after %d of %d bytes: %d, %v", got, total, n, err)
		}
		got += n
	}
}

// A socket of package net does not block, which all of this relies on.
func TestSocketsOfNetDoNotBlock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, nc := range []net.Conn{client, server} {
		raw, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		read := os.ErrInvalid
		if err := raw.Read(func(fd uintptr) bool {
			_, read = nonblock.Read(fd, make([]byte, 1))
			return true
		}); err != nil || !errors.Is(read, syscall.EAGAIN) {
			t.Errorf("read of nothing: %v, %v", err, read)
		}
	}
}

// dial returns two connections that are connected to each other.
func dial(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close() // the test may have closed them
		_ = b.Close()
	})
	return a, b
}

func TestSocketCarriesMoreThanTheKernelTakesAtOnce(t *testing.T) {
	a, b := dial(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	go func() {
		defer a.Close()
		if n, err := nonblock.Of(a).Write(sent); n != len(sent) || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	}()
	got, err := io.ReadAll(nonblock.Of(b))
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
}

func TestSocketKeepsDeadlines(t *testing.T) {
	a, b := dial(t)
	past := time.Unix(1, 0)
	if err := a.SetDeadline(past); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := nonblock.Of(a).Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if _, err := nonblock.Of(a).Write([]byte("x")); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("write: %v", err)
	}
	// One that comes while it waits.
	ended := make(chan error)
	go func() {
		_, err := nonblock.Of(b).Read(make([]byte, 1))
		ended <- err
	}()
	if err := b.SetReadDeadline(past); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

func TestSocketThatIsClosed(t *testing.T) {
	a, b := dial(t)
	ended := make(chan error)
	go func() {
		_, err := nonblock.Of(a).Read(make([]byte, 1))
		ended <- err
	}()
	_ = a.Close() // a connection that does not close is no matter here
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := nonblock.Of(b).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read of the other side: %v", err)
	}
}

func TestOfWhatIsNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if nonblock.Of(a) != nil {
		t.Error("a pipe in memory has a socket")
	}
}
