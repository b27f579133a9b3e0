//go:build linux

package proxy

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

// clientGone says whether the client has closed its side of nc, even while
// bytes that it sent before wait to be read.
func clientGone(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info is the state.
		info, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err != nil {
			return
		}
		state := info & 0xff
		gone = state == tcpClose || state == tcpCloseWait || state == tcpLastAck
	})
	return gone || err != nil
}
