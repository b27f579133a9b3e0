package nonblock

import (
	"net"
	"syscall"
)

// Socket reads and writes a connection of package net with this package's calls.
// It waits where there is nothing to be read and no room to write, as long as
// the connection's deadlines let it. One goroutine may read while another
// writes.
type Socket struct {
	raw           syscall.RawConn
	input, output transfer
}

// transfer is one way through a socket.
type transfer struct {
	p    []byte // what is left
	n    int
	err  error
	step func(fd uintptr) bool // made once
}

// Of returns the Socket of nc, or nil where nc has none.
func Of(nc net.Conn) *Socket {
	sc, ok := nc.(syscall.Conn)
	if !ok || !possible {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return &Socket{raw: raw}
}
