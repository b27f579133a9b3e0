package h1

import (
	"net"
	"syscall"
)

// The states of a TCP connection whose other side has closed, as Linux counts
// them.
const (
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
)

// gone says whether the client has closed its side of nc, even while bytes that
// it sent before wait to be read.
func gone(nc net.Conn) bool {
	left := false
	control(nc, func(fd int) {
		// The first byte of struct tcp_info is the state.
		info, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err != nil { // it is not TCP
			left = atEnd(fd)
			return
		}
		state := info & 0xff
		left = state == tcpClose || state == tcpCloseWait || state == tcpLastAck
	})
	return left
}
