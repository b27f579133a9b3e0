package h1

import (
	"errors"
	"net"
	"net/http"
	"sync"
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
