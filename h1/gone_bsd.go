//go:build unix && !linux

package h1

import "net"

// gone says whether the client has closed its side of nc. It cannot see behind
// bytes that wait to be read.
func gone(nc net.Conn) bool {
	left := false
	control(nc, func(fd int) { left = atEnd(fd) })
	return left
}
