// Package h1 is an HTTP/1.1 server loop for net/http handlers that is strict
// with what it is sent and cheap to run.
//
// Strict: a request that servers read in different ways is answered 400 and its
// connection closed, where net/http's server takes it in one of those ways
// (head.go, target.go, chunk.go). Whatever it does accept reaches the handler
// as net/http's server would pass it on, which the tests hold by sending both
// the same bytes.
//
// Cheap: a connection has one goroutine (conn.go) and a request none, no timer
// and no allocation that it can do without. What a request needs (work.go) is
// used again by the next one, on this connection or another. One sweep over all
// connections (sweep.go) keeps the timeouts and looks whether clients are still
// there, and an idle connection holds no buffers.
//
// A handler must not keep its request, that one's header, URL or context, or the
// response writer after it has returned; strings may be kept. It may do so with
// a context whose Done it has called.
//
// HTTP/2 is left to net/http (fallback.go).
package h1

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Server serves HTTP/1.0 and HTTP/1.1. Its exported fields are not to be changed
// once it serves.
type Server struct {
	Handler http.Handler

	// ReadHeaderTimeout is how long a request's head may take, and what
	// follows a response: its last bytes, and the rest of the request's body.
	// Zero: no limit.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is for how long a connection may have no request. Zero: for
	// ReadHeaderTimeout.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds a request's head, the request line with it. Zero:
	// http.DefaultMaxHeaderBytes.
	MaxHeaderBytes int
	// ConnContext may add values to the context of a connection's requests.
	// That its context ends has no effect. May be nil.
	ConnContext func(ctx context.Context, nc net.Conn) context.Context
	// ErrorLog is told of panics of the handler, of requests refused and of
	// handlers' mistakes. Nil: nobody is.
	ErrorLog *log.Logger
	// Fallback gets the connections that speak HTTP/2, in the clear by prior
	// knowledge or by ALPN; it must have a handler of its own. It ends with
	// the Server. Nil: HTTP/2 is refused.
	Fallback *http.Server

	tick    atomic.Int64 // sweeps since the start
	dateNow atomic.Pointer[[]byte]
	works   sync.Pool

	stopping   atomic.Bool // no new connections
	noMore     atomic.Bool // no connection takes another request
	mu         sync.Mutex
	listeners  map[*listener]struct{}
	conns      []*conn
	sweeping   bool
	woken      chan struct{} // has the sweep look whether it is still needed
	empty      chan struct{} // closed when there are no connections; nil: nobody waits
	fallbackTo *handedOver   // nil: no connection has been handed over yet
}

// listener is a listener that is closed once.
type listener struct {
	net.Listener
	once sync.Once
	err  error
	done chan struct{}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.err = l.Listener.Close()
	})
	return l.err
}

// Serve serves the connections that come from l, and closes it. It returns
// http.ErrServerClosed after Shutdown or Close, else why l can no longer be
// used. A connection that implements syscall.Conn is read and written by its
// descriptor: one that has read ahead, or changes what is written, must not.
func (s *Server) Serve(l net.Listener) error {
	own := &listener{Listener: l, done: make(chan struct{})}
	defer func() { _ = own.Close() }() // it is closed already, or nobody needs it
	if !s.begin(own) {
		return http.ErrServerClosed
	}
	defer s.end(own)
	var pause time.Duration
	for {
		nc, err := own.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(nc)
		case s.stopping.Load():
			return http.ErrServerClosed
		case !passes(err):
			return fmt.Errorf("accept a connection: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logf("h1: accept a connection: %v; trying again in %v", err, pause)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-own.done:
				timer.Stop()
			}
		}
	}
}

// passes says whether accepting may work again after err: the process or the
// machine lacks something at the moment, or one client has left too early.
func passes(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return isTimeout(err)
}

// begin adds a listener. It says false when the server has ended.
func (s *Server) begin(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	if s.listeners == nil {
		s.listeners = map[*listener]struct{}{}
	}
	s.listeners[l] = struct{}{}
	s.startSweep()
	return true
}

func (s *Server) end(l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	s.wake()
}

// start serves a connection, unless the server has ended.
func (s *Server) start(nc net.Conn) {
	c := &conn{server: s, nc: nc, phase: shaking, since: s.tick.Load()}
	s.mu.Lock()
	if s.stopping.Load() {
		s.mu.Unlock()
		c.close()
		return
	}
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.startSweep()
	s.mu.Unlock()
	go c.serve()
}

// forget is called when a connection has ended or is another's.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.index < 0 {
		return
	}
	last := s.conns[len(s.conns)-1]
	s.conns[c.index], last.index = last, c.index
	s.conns[len(s.conns)-1] = nil
	s.conns = s.conns[:len(s.conns)-1]
	c.index = -1
	if len(s.conns) == 0 {
		if s.empty != nil {
			close(s.empty)
			s.empty = nil
		}
		s.wake()
	}
}

// SetKeepAlivesEnabled says whether connections may have more than one request.
// When it says no, idle ones are closed, and the others after their response.
func (s *Server) SetKeepAlivesEnabled(enabled bool) {
	s.noMore.Store(!enabled)
	if s.Fallback != nil {
		s.Fallback.SetKeepAlivesEnabled(enabled)
	}
	if !enabled {
		s.retire()
	}
}

func (s *Server) keepsAlive() bool { return !s.noMore.Load() && !s.stopping.Load() }

// Shutdown closes the listeners and the idle connections, and waits until the
// others have had their response. It returns the error of ctx when that ends
// first. Connections that were taken over are not waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	s.retire()
	other := make(chan error, 1)
	if s.Fallback == nil {
		other <- nil
	} else {
		go func() { other <- s.Fallback.Shutdown(ctx) }()
	}
	drained := s.drained()
	select {
	case <-drained: // whether or not ctx has ended
		return errors.Join(err, <-other)
	default:
	}
	select {
	case <-drained:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return errors.Join(err, <-other)
}

// Close closes the listeners and all connections at once.
func (s *Server) Close() error {
	err := s.stop()
	if s.Fallback != nil {
		err = errors.Join(err, s.Fallback.Close())
	}
	s.mu.Lock()
	conns := make([]*conn, len(s.conns))
	copy(conns, s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
	return err
}

// stop closes the listeners.
func (s *Server) stop() error {
	s.stopping.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.wake()
	return errors.Join(errs...)
}

// drained returns a channel that is closed when there are no connections.
func (s *Server) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	if len(s.conns) == 0 {
		close(s.empty)
		s.empty = nil
	}
	return empty
}

func (s *Server) takeWork() *work {
	if w, ok := s.works.Get().(*work); ok {
		w.in.r, w.in.w = 0, 0
		w.in.next()
		return w
	}
	return newWork()
}

func (s *Server) logf(format string, args ...any) {
	if s.ErrorLog != nil {
		s.ErrorLog.Printf(format, args...)
	}
}

// refusal is the response to a request that is at fault.
func (s *Server) refusal(f fault) []byte {
	text := fmt.Sprintf("%d %s: %s\n", f.status, http.StatusText(f.status), f.why)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n%s",
		f.status, http.StatusText(f.status), len(text), s.date(), text)
}
