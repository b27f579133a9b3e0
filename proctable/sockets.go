package proctable

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Connection is one TCP connection to a listener of this machine, as the
// listener's end has it.
type Connection struct {
	Peer net.IP // who connected
	Left bool   // the peer has closed its side, and this one has not
}

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

// connectionsOf picks the connections to each of the addresses on which one of
// the sockets listens. The other addresses are absent.
func connectionsOf(addresses []string, sockets []socket) map[string][]Connection {
	wanted := make(map[netip.AddrPort]string, len(addresses))
	for _, address := range addresses {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			continue // no address of this machine
		}
		wanted[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())] = address
	}
	found := make(map[string][]Connection, len(addresses))
	for _, s := range sockets {
		if s.state != stateListen {
			continue
		}
		for at, address := range wanted {
			if at.Port() == s.local.Port() && (s.local.Addr() == at.Addr() || s.local.Addr().IsUnspecified()) {
				found[address] = []Connection{}
			}
		}
	}
	for _, s := range sockets {
		if s.state != stateEstablished && s.state != stateCloseWait {
			continue
		}
		if address, ok := wanted[s.local]; ok && found[address] != nil {
			found[address] = append(found[address], Connection{Peer: s.remote.Addr().AsSlice(), Left: s.state == stateCloseWait})
		}
	}
	return found
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
