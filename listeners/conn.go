package listeners

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"
)

// Conn is a connection that a Listener has accepted. It embeds the TCP
// connection, so that whoever gets it can still look at the socket and copy
// from it without a buffer.
type Conn struct {
	*net.TCPConn
	listener *Listener
	remote   net.Addr   // nil: the socket's own
	client   netip.Addr // counted by this; the zero Addr: not counted
	secure   *tls.Conn  // around this one; nil: it is not encrypted
	closed   atomic.Bool
}

// RemoteAddr returns the client's address: what a PROXY protocol header said,
// or else the socket's.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.TCPConn.RemoteAddr()
}

// Close closes the connection and takes it out of the counts.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.TCPConn.Close()
	}
	c.listener.clients.leave(c.client)
	err := c.TCPConn.Close()
	// It is asked only now: a handshake under way has its lock, until it finds
	// the connection closed.
	if c.secure != nil && !c.secure.ConnectionState().HandshakeComplete {
		c.listener.counts.badHandshake.Add(1)
	}
	return err
}

// peer returns the address of a connection's other side, an IPv4 one as such
// even where the socket is of IPv6.
func peer(address net.Addr) netip.Addr {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}
