package listeners

import (
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
	if !c.closed.Swap(true) {
		c.listener.clients.leave(c.client)
	}
	return c.TCPConn.Close()
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
