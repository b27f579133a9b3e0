//go:build unix

package h1

import (
	"net"
	"syscall"
)

// control has f look at the descriptor under nc, and says whether it could.
func control(nc net.Conn, f func(fd int)) bool {
	sc, ok := innermost(nc).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) }) == nil
}

// atEnd says whether the next thing to read from fd is the end.
func atEnd(fd int) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n == 0 && err == nil
}
