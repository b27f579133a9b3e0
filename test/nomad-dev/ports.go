package nomaddev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// Where ports come from. All lie below the range that systems take the ports of
// outgoing connections from, so that nothing takes one between the choice and
// its use, and apart from Nomad's own range for tasks (20000 to 32000). nodepool
// reserves blocks for the machines of its target process in the same way.
const (
	singleFirst, singleLast = 9000, 9999   // FreePort
	blockFirst, blockLast   = 10000, 19999 // ReserveBlock
	blockSize               = 250
)

// PortError says that a port is taken, and by what if that can be known.
type PortError struct {
	Address string
	Owner   string // "nginx: master process (pid 812)"; "" when it cannot be known
}

// Error returns "127.0.0.1:8000 is in use by nginx (pid 812)".
func (e *PortError) Error() string {
	if e.Owner == "" {
		return e.Address + " is in use"
	}
	return fmt.Sprintf("%s is in use by %s", e.Address, e.Owner)
}

// CheckPort returns nil when a server can listen on host:port, a *PortError when
// another one does, and any other error as it is.
func CheckPort(ctx context.Context, host string, port int) error {
	return checkAddress(ctx, net.JoinHostPort(host, strconv.Itoa(port)))
}

func checkAddress(ctx context.Context, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err == nil {
		return l.Close()
	}
	if !inUse(err) {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	taken := &PortError{Address: address}
	if _, text, serr := net.SplitHostPort(address); serr == nil {
		if port, aerr := strconv.Atoi(text); aerr == nil {
			taken.Owner = PortOwner(port)
		}
	}
	return taken
}

// free says whether both TCP and UDP have the port free. The agents' gossip
// needs both.
func free(ctx context.Context, port int) bool {
	if CheckPort(ctx, "127.0.0.1", port) != nil {
		return false
	}
	var config net.ListenConfig
	c, err := config.ListenPacket(ctx, "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// FreePort returns a port that is free now and is none of taken.
func FreePort(ctx context.Context, taken map[int]bool) (int, error) {
	n := singleLast - singleFirst + 1
	start := rand.IntN(n)
	for i := range n {
		port := singleFirst + (start+i)%n
		if !taken[port] && free(ctx, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free", singleFirst, singleLast)
}

// Block is a range of ports that no other Block of this machine overlaps,
// whichever process reserved it.
type Block struct {
	first, next int
	guard       net.Listener
}

// ReserveBlock reserves a block that has none of the ports in apart. It is held
// by listening on its first port.
func ReserveBlock(ctx context.Context, apart ...int) (*Block, error) {
	n := (blockLast + 1 - blockFirst) / blockSize
	start := rand.IntN(n)
	var config net.ListenConfig
	for i := range n {
		first := blockFirst + (start+i)%n*blockSize
		if slices.ContainsFunc(apart, func(port int) bool { return port >= first && port < first+blockSize }) {
			continue
		}
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first)))
		if err == nil {
			return &Block{first: first, next: first + 1, guard: l}, nil
		}
	}
	return nil, errors.New("every block of ports is reserved")
}

// Port returns another free port of the block's first hundred.
func (b *Block) Port(ctx context.Context) (int, error) {
	for ; b.next < b.first+100; b.next++ {
		if free(ctx, b.next) {
			b.next++
			return b.next - 1, nil
		}
	}
	return 0, fmt.Errorf("the block of ports from %d is used up", b.first)
}

// Dynamic returns the rest of the block, for Nomad to give to tasks.
func (b *Block) Dynamic() (low, high int) { return b.first + 100, b.first + blockSize - 1 }

// Release gives the block back.
func (b *Block) Release() error { return b.guard.Close() }
