package raftnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// protocol is the first byte of a connection between servers.
type protocol byte

const (
	protocolRaft protocol = 0x01 // followed by the id of the server that it is meant for
	protocolHTTP protocol = 0x02 // HTTP/1.1
)

const (
	dialTimeout     = 2 * time.Second
	protocolTimeout = 5 * time.Second // for the first bytes of a connection that was accepted
)

// mux is the one port that servers talk through. accept and dial are the only
// two places where connections begin, so TLS belongs into these two.
type mux struct {
	listener  net.Listener
	advertise string
	serverID  string
	logger    hclog.Logger
	raft      chan net.Conn
	http      chan net.Conn
	done      chan struct{} // closed by close
	closing   sync.Once
	running   sync.WaitGroup

	mu    sync.Mutex
	conns map[*trackedConn]struct{} // nil once closed; guarded by mu
}

func newMux(l net.Listener, advertise, serverID string, logger hclog.Logger) *mux {
	m := &mux{
		listener: l, advertise: advertise, serverID: serverID, logger: logger,
		raft: make(chan net.Conn), http: make(chan net.Conn), done: make(chan struct{}),
		conns: map[*trackedConn]struct{}{},
	}
	m.running.Go(m.accept)
	return m
}

// listen opens the port, or says who has it.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(address)
		if number, convErr := strconv.Atoi(port); convErr == nil {
			if user := portUser(number); user != "" {
				return nil, fmt.Errorf("listen on %s: the port is in use by %s: %w", address, user, err)
			}
		}
		return nil, fmt.Errorf("listen on %s: the port is in use: %w", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

func (m *mux) accept() {
	const longest = time.Second
	wait := 5 * time.Millisecond
	for {
		conn, err := m.listener.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			m.running.Go(func() { m.sort(conn) })
			continue
		}
		if !errors.Is(err, net.ErrClosed) {
			m.logger.Error("accept connection", "error", err, "retry_in", wait)
		}
		select {
		case <-m.done:
			return
		case <-time.After(wait):
			wait = min(2*wait, longest)
		}
	}
}

// sort hands an accepted connection to whom its first byte names.
func (m *mux) sort(accepted net.Conn) {
	conn, ok := m.track(accepted)
	if !ok {
		return
	}
	to, err := m.preface(conn)
	if err != nil {
		m.logger.Debug("dropped connection", "from", conn.RemoteAddr(), "error", err)
		_ = conn.Close()
		return
	}
	select {
	case to <- conn:
	case <-m.done:
		_ = conn.Close()
	}
}

// preface reads what a connection begins with and says who takes it.
func (m *mux) preface(conn net.Conn) (to chan<- net.Conn, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(protocolTimeout)); err != nil {
		return nil, err
	}
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, err
	}
	switch protocol(first[0]) {
	case protocolRaft:
		meant := make([]byte, len(m.serverID))
		if _, err := io.ReadFull(conn, meant); err != nil {
			return nil, err
		}
		if string(meant) != m.serverID {
			return nil, fmt.Errorf("it is meant for server %q, not for this one", meant)
		}
		to = m.raft
	case protocolHTTP:
		to = m.http
	default:
		return nil, fmt.Errorf("unknown protocol byte %#x", first[0])
	}
	return to, conn.SetReadDeadline(time.Time{})
}

// dial opens a connection to another server's port, with its preface.
func (m *mux) dial(ctx context.Context, address, preface string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	dialled, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn, ok := m.track(dialled)
	if !ok {
		return nil, net.ErrClosed
	}
	if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := io.WriteString(conn, preface); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// close ends the port and every connection through it.
func (m *mux) close() error {
	var err error
	m.closing.Do(func() {
		close(m.done)
		err = m.listener.Close()
		m.mu.Lock()
		conns := m.conns
		m.conns = nil
		m.mu.Unlock()
		for conn := range conns {
			_ = conn.Conn.Close() // what it was used for is over
		}
	})
	m.running.Wait()
	return err
}

// track remembers conn until it is closed. After close it closes conn at once
// and returns false.
func (m *mux) track(conn net.Conn) (net.Conn, bool) {
	t := &trackedConn{Conn: conn, mux: m}
	m.mu.Lock()
	open := m.conns != nil
	if open {
		m.conns[t] = struct{}{}
	}
	m.mu.Unlock()
	if !open {
		_ = conn.Close()
	}
	return t, open
}

type trackedConn struct {
	net.Conn
	mux *mux
}

func (c *trackedConn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.conns, c)
	c.mux.mu.Unlock()
	return c.Conn.Close()
}

// muxListener is one protocol's share of the port.
type muxListener struct {
	mux      *mux
	incoming <-chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (m *mux) listenerFor(p protocol) *muxListener {
	l := &muxListener{mux: m, incoming: m.http, closed: make(chan struct{})}
	if p == protocolRaft {
		l.incoming = m.raft
	}
	return l
}

func (l *muxListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-l.mux.done:
		return nil, net.ErrClosed
	}
}

// Close ends this share alone; the port goes with the mux.
func (l *muxListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is where others reach this server, which Raft tells its peers.
func (l *muxListener) Addr() net.Addr { return namedAddr(l.mux.advertise) }

type namedAddr string

func (namedAddr) Network() string  { return "tcp" }
func (a namedAddr) String() string { return string(a) }
