package proxy

import "net"

// socketOf returns the connection below TLS, whose state says whether the client
// is still there.
func socketOf(nc net.Conn) net.Conn {
	for {
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = layer.NetConn()
	}
}
