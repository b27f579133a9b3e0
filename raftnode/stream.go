package raftnode

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Raft sends to addresses and does not check who answers there. A server that
// lost its disk comes back to its old address with a new id, and would then be
// taken for the old one: it would vote again, and acknowledge again, what the
// old one has voted and acknowledged. So every connection says which server it
// is meant for, and any other one drops it.

// addressBook gives raft the addresses of its peers with their ids, as
// "id@host:port".
type addressBook struct {
	id      string
	address string
	raft    atomic.Pointer[raft.Raft] // nil until raft has started
}

// ServerAddr returns the address of a member. For others it returns an error,
// and raft goes on with an address that has no id, which Dial refuses.
func (b *addressBook) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if string(id) == b.id {
		return raft.ServerAddress(b.address), nil // what raft tells others of itself
	}
	if r := b.raft.Load(); r != nil {
		for _, s := range r.GetConfiguration().Configuration().Servers {
			if s.ID == id {
				return raft.ServerAddress(string(id) + "@" + string(s.Address)), nil
			}
		}
	}
	return "", fmt.Errorf("server %s is not a member", id)
}

// raftStream makes the port a raft.StreamLayer.
type raftStream struct{ *muxListener }

// Dial opens a connection for Raft to an address of the addressBook.
func (s raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, hostPort, named := strings.Cut(string(address), "@")
	if !named {
		return nil, fmt.Errorf("the server at %s is not a member", address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.mux.dial(ctx, hostPort, string(rune(protocolRaft))+id)
}
