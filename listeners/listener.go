// Package listeners is the door to the proxy's own ports: it accepts
// connections within bounds (conn.go, clients.go), believes PROXY protocol
// headers of those that may send them (proxyproto.go), speaks TLS with
// certificates that may change (certificates.go), and hands the ports over to
// the process that comes next (handover.go).
package listeners

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Listener accepts the connections of one port, and gives them out through what
// Attach returns.
type Listener struct {
	name    string
	address string // as it was asked for
	socket  *net.TCPListener
	log     hclog.Logger
	options atomic.Pointer[Options]
	clients clients
	counts  counts

	ready    chan net.Conn
	stopping sync.Once
	stopped  chan struct{} // closed by Stop
	ended    chan struct{} // closed when nothing is accepted any more
	err      error         // why, if not by Stop; to be read after ended
	given    sync.Once
	gone     chan struct{} // closed when nobody takes connections any more

	mu     sync.Mutex
	paused chan struct{} // closed by Resume; nil: it is not paused
	idle   chan struct{} // closed when a pause has taken effect
}

type counts struct{ accepted, full, clientFull, badHeader, badHandshake atomic.Uint64 }

// Stats is what a Listener has seen since it began.
type Stats struct {
	Open         int    `json:"open"`          // connections now
	Accepted     uint64 `json:"accepted"`      // in all, with those that were closed at once
	Full         uint64 `json:"full"`          // closed at once: MaxConnections were open
	ClientFull   uint64 `json:"client_full"`   // closed at once: their client had MaxPerClient
	BadHeader    uint64 `json:"bad_header"`    // closed for want of a PROXY protocol header
	BadHandshake uint64 `json:"bad_handshake"` // closed, by either side, before a TLS handshake was done
}

// Open returns a Listener on address, under a name for the log and for the
// process that may take it over. An error is as net.Listen returns it.
func Open(ctx context.Context, name, address string, options Options, log hclog.Logger) (*Listener, error) {
	var config net.ListenConfig
	socket, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tcp, ok := socket.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %s: it is no TCP port", address), socket.Close())
	}
	return newListener(name, address, tcp, options, log), nil
}

func newListener(name, address string, socket *net.TCPListener, options Options, log hclog.Logger) *Listener {
	l := &Listener{
		name: name, address: address, socket: socket, log: log, ready: make(chan net.Conn),
		stopped: make(chan struct{}), ended: make(chan struct{}), gone: make(chan struct{}),
	}
	l.options.Store(&options)
	return l
}

// Name returns the name that it was opened under.
func (l *Listener) Name() string { return l.name }

// Addr returns the address that it listens on.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// SetOptions changes the options for the connections to come.
func (l *Listener) SetOptions(options Options) { l.options.Store(&options) }

// Stats returns what it has seen.
func (l *Listener) Stats() Stats {
	return Stats{
		Open: l.clients.count(), Accepted: l.counts.accepted.Load(), Full: l.counts.full.Load(),
		ClientFull: l.counts.clientFull.Load(), BadHeader: l.counts.badHeader.Load(), BadHandshake: l.counts.badHandshake.Load(),
	}
}

// Quiet returns a channel that is closed when no connection is open.
func (l *Listener) Quiet() <-chan struct{} { return l.clients.quiet() }

// Run accepts until Stop, or until the port fails.
func (l *Listener) Run() {
	defer close(l.ended)
	var pause time.Duration
	for {
		socket, err := l.socket.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			l.take(socket)
		case l.isStopped():
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.wait()
		case errors.Is(err, net.ErrClosed):
			l.err = errors.New("the port " + l.address + " has closed by itself")
			return
		default:
			// Most likely there are too many files open, which passes.
			if pause == 0 {
				l.log.Error("connections are not accepted; it is tried again", "port", l.name, "error", err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.rest(pause)
		}
	}
}

func (l *Listener) isStopped() bool {
	select {
	case <-l.stopped:
		return true
	default:
		return false
	}
}

func (l *Listener) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.stopped:
	}
}

// take gives a new connection out, if it is one that may be there.
func (l *Listener) take(socket *net.TCPConn) {
	l.counts.accepted.Add(1)
	options := l.options.Load()
	if !l.clients.enter(options.MaxConnections) {
		if l.counts.full.Add(1) == 1 {
			l.log.Warn("as many connections are open as may be; more are closed at once, and counted", "port", l.name, "most", options.MaxConnections)
		}
		refuse(socket)
		return
	}
	c := &Conn{TCPConn: socket, listener: l}
	if from := peer(socket.RemoteAddr()); len(options.ProxyProtocol) == 0 || !Contains(options.ProxyProtocol, from) {
		l.admit(c, from, options)
		return
	}
	go func() {
		client, err := l.header(c, options)
		if err != nil {
			log := l.log.Debug
			if l.counts.badHeader.Add(1) == 1 {
				log = l.log.Warn // most likely proxy_protocol names somebody who sends none
			}
			log("a connection without a PROXY protocol header from one that must send it is closed; more are counted", "port", l.name, "from", c.TCPConn.RemoteAddr(), "error", err)
			_ = c.Close() // nothing is lost with it
			return
		}
		l.admit(c, client, options)
	}()
}

// header reads the PROXY protocol header of a connection. It returns the client
// by whose address it is to be counted; the zero Addr: by none.
func (l *Listener) header(c *Conn, options *Options) (netip.Addr, error) {
	if err := c.SetReadDeadline(time.Now().Add(options.headerTimeout())); err != nil {
		return netip.Addr{}, err
	}
	remote, err := readHeader(c.TCPConn)
	if err != nil {
		return netip.Addr{}, err
	}
	if remote == nil {
		return netip.Addr{}, c.SetReadDeadline(time.Time{})
	}
	c.remote = remote
	return peer(remote), c.SetReadDeadline(time.Time{})
}

// admit gives a connection out, unless its client has as many as it may.
func (l *Listener) admit(c *Conn, client netip.Addr, options *Options) {
	if options.MaxPerClient > 0 && client.IsValid() && !Contains(options.Uncounted, client) {
		key := clientKey(client)
		if !l.clients.claim(key, options.MaxPerClient) {
			l.counts.clientFull.Add(1)
			c.closed.Store(true)
			l.clients.leave(netip.Addr{})
			refuse(c.TCPConn)
			return
		}
		c.client = key
	}
	var out net.Conn = c
	if options.TLS != nil {
		c.secure = tls.Server(c, options.TLS.config())
		out = c.secure
	}
	select {
	case l.ready <- out:
	case <-l.gone:
		c.secure = nil // nobody has tried
		_ = c.Close()  // as a port that is closed does with those who have not been accepted
	}
}

// refuse closes a connection without the wait that the kernel keeps for one
// that was used.
func refuse(socket *net.TCPConn) {
	_ = socket.SetLinger(0) // it is closed in any case
	_ = socket.Close()
}

// Stop closes the port. Connections that have been accepted are still given out.
func (l *Listener) Stop() {
	l.stopping.Do(func() {
		close(l.stopped)
		_ = l.socket.Close() // Run sees it
	})
}

// Pause has nothing more accepted until Resume or Stop. What comes meanwhile
// waits in the kernel, for this process or for one that has the port too. It
// returns when that is so; Run must be running.
func (l *Listener) Pause() {
	l.mu.Lock()
	if l.paused == nil {
		l.paused, l.idle = make(chan struct{}), make(chan struct{})
		_ = l.socket.SetDeadline(time.Unix(1, 0)) // an error means that it is closed
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
	case <-l.ended:
	}
}

// Resume ends a pause.
func (l *Listener) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused == nil {
		return
	}
	_ = l.socket.SetDeadline(time.Time{}) // as in Pause
	close(l.paused)
	l.paused, l.idle = nil, nil
}

// wait is Run's part of a pause.
func (l *Listener) wait() {
	l.mu.Lock()
	paused := l.paused
	if paused != nil {
		close(l.idle)
	}
	l.mu.Unlock()
	if paused == nil {
		return // resumed already
	}
	select {
	case <-paused:
	case <-l.stopped:
	}
}

// Attachment is a net.Listener that a server takes a Listener's connections
// from. Several may be attached at once, as when a server with other settings
// takes over from another.
type Attachment struct {
	listener *Listener
	detach   sync.Once
	detached chan struct{}
}

// Attach returns a new Attachment.
func (l *Listener) Attach() *Attachment {
	return &Attachment{listener: l, detached: make(chan struct{})}
}

// Accept is for net.Listener.
func (a *Attachment) Accept() (net.Conn, error) {
	l := a.listener
	ended := l.ended
	for {
		select {
		case c := <-l.ready:
			return c, nil
		case <-a.detached:
			return nil, net.ErrClosed
		case <-ended:
			if l.err != nil {
				return nil, l.err
			}
			ended = nil // those whose headers are being read still come
		}
	}
}

// Detach makes Accept return net.ErrClosed. The port stays open for others, also
// when the server that had this attachment closes it then.
func (a *Attachment) Detach() { a.detach.Do(func() { close(a.detached) }) }

// Close is for net.Listener: it closes the port.
func (a *Attachment) Close() error {
	a.detach.Do(func() {
		close(a.detached)
		a.listener.Stop()
		a.listener.given.Do(func() { close(a.listener.gone) })
	})
	return nil
}

// Addr is for net.Listener.
func (a *Attachment) Addr() net.Addr { return a.listener.Addr() }
