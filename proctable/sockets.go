package proctable

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
)

// socket is one line of the system's table of TCP sockets.
type socket struct {
	local, remote netip.AddrPort
	state         uint64
}

// States of a TCP socket, as Linux numbers them.
const (
	stateEstablished = 0x01
	stateCloseWait   = 0x08
	stateListen      = 0x0A
)

// Sockets is what a look at this machine's TCP sockets has shown.
type Sockets struct {
	listening map[netip.AddrPort]bool
	accepted  map[netip.AddrPort][]socket // by the listener's end
}

// EachTo tells of every connection to an address of this machine, host:port, where
// it comes from, and whether that side has closed it and the listener's has not. It
// says whether a process listens there. What is in another network namespace is
// not seen.
func (s Sockets) EachTo(address string, visit func(from netip.AddrPort, left bool)) (listening bool) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return false // no address of this machine
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if !s.listening[at] && !s.listening[netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())] &&
		!s.listening[netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())] {
		return false
	}
	for _, c := range s.accepted[at] {
		visit(c.remote, c.state == stateCloseWait)
	}
	return true
}

// sort makes sense of the system's table.
func sort(sockets []socket) Sockets {
	s := Sockets{listening: map[netip.AddrPort]bool{}, accepted: map[netip.AddrPort][]socket{}}
	for _, one := range sockets {
		switch one.state {
		case stateListen:
			s.listening[one.local] = true
		case stateEstablished, stateCloseWait:
			s.accepted[one.local] = append(s.accepted[one.local], one)
		}
	}
	return s
}

// parseSockets reads /proc/net/tcp or tcp6. Lines that it does not understand
// are left out.
func parseSockets(text string) []socket {
	var sockets []socket
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		local, okLocal := parseEnd(fields[1])
		remote, okRemote := parseEnd(fields[2])
		state, err := strconv.ParseUint(fields[3], 16, 8)
		if okLocal && okRemote && err == nil {
			sockets = append(sockets, socket{local, remote, state})
		}
	}
	return sockets
}

// parseEnd reads an address as the kernel prints it: words of 32 bits in the
// machine's byte order, and the port.
func parseEnd(text string) (netip.AddrPort, bool) {
	host, port, found := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}
