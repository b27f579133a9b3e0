package h1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// handedOver is the listener of the fallback: it brings the connections that
// are handed over.
type handedOver struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
	addr   net.Addr
}

// Accept returns the next connection that is handed over.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr is where the first connection came in.
func (h *handedOver) Addr() net.Addr { return h.addr }

// handOver gives a connection to the fallback, as it was before it was read
// from.
func (c *conn) handOver(nc net.Conn) {
	to := c.server.fallback(nc.LocalAddr())
	if r, ok := nc.(*replayed); ok { // in the clear: TLS reads ahead by itself
		nc = share(r)
	}
	select {
	case to.conns <- nc:
	case <-to.closed:
		c.close()
	}
}

// fallback returns the way to the fallback, which it has serve.
func (s *Server) fallback(addr net.Addr) *handedOver {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fallbackTo == nil {
		to := &handedOver{conns: make(chan net.Conn), closed: make(chan struct{}), addr: addr}
		s.fallbackTo = to
		go func() {
			defer func() { _ = to.Close() }() // it cannot fail
			if err := s.Fallback.Serve(to); !errors.Is(err, http.ErrServerClosed) {
				s.logf("h1: the server of HTTP/2 has ended: %v", err)
			}
		}()
	}
	return s.fallbackTo
}

// readAhead is how many bytes of an HTTP/2 connection are read at once: net/http's
// server has a system call for each frame's header and one for its payload.
const readAhead = 4 << 10

// smallWrite is up to how many bytes a write may have for others to go first.
const smallWrite = 1 << 10

// maxHeld is how many bytes may wait to be written before writes wait.
const maxHeld = 64 << 10

// shared is a connection of HTTP/2 in the clear, made cheaper for many streams.
type shared struct {
	net.Conn
	br  *bufio.Reader
	out io.Writer

	mu      sync.Mutex
	pending []byte // small writes that a goroutine is about to write
	spare   []byte // to be pending next; nil: none
	writing bool   // there is that goroutine
	err     error  // of it
	room    sync.Cond
}

func share(r *replayed) *shared {
	s := &shared{Conn: r.Conn, out: r.Conn}
	s.room.L = &s.mu
	in := io.Reader(r)
	if socket := nonblock.Of(r.Conn); socket != nil {
		in, s.out = io.MultiReader(bytes.NewReader(r.rest), socket), socket
	}
	s.br = bufio.NewReaderSize(in, readAhead)
	return s
}

func (s *shared) Read(p []byte) (int, error) { return s.br.Read(p) }

// Write leaves little to a goroutine that lets others go first: what their streams
// write meanwhile goes out in one piece with it, and a system call costs more than
// anything else of a small response. An error shows with a later write.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (len(s.pending) > maxHeld || (s.writing && len(p) > smallWrite)) {
		s.room.Wait()
	}
	switch {
	case s.err != nil:
		return 0, s.err
	case len(p) > smallWrite:
		return s.out.Write(p)
	}
	s.pending = append(s.pending, p...)
	if !s.writing {
		s.writing = true
		go s.flush()
	}
	return len(p), nil
}

// flush writes what is pending until there is nothing.
func (s *shared) flush() {
	runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > 0 && s.err == nil {
		p := s.pending
		s.pending, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		_, err := s.out.Write(p)
		s.mu.Lock()
		if s.err = err; cap(p) <= readAhead {
			s.spare = p
		}
		s.room.Broadcast()
	}
	s.writing = false
	s.room.Broadcast()
}

// NetConn returns the connection below.
func (s *shared) NetConn() net.Conn { return s.Conn }

// replayed is a connection that is read from its beginning again.
type replayed struct {
	net.Conn
	rest []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// NetConn returns the connection below.
func (r *replayed) NetConn() net.Conn { return r.Conn }

// innermost returns the connection under all layers.
func innermost(nc net.Conn) net.Conn {
	for {
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = layer.NetConn()
	}
}
