package nodepool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// Where the ports of machines come from: blocks that lie below the range that
// systems take the ports of outgoing connections from, and apart from Nomad's
// own range for tasks (20000 to 32000). Whoever listens on the first port of a
// block has it; test/nomad-dev reserves its blocks in the same way.
const (
	portsFirst, portsLast = 10000, 19999
	portsBlock            = 250
)

// ports is the block of a machine, by its first port.
type ports int

func (p ports) nomad() int               { return int(p) }
func (p ports) consul() int              { return int(p) + 1 }
func (p ports) serf() int                { return int(p) + 2 }
func (p ports) tasks() (first, last int) { return int(p) + 10, int(p) + portsBlock - 1 }

// freePorts finds a block that nobody uses and that is none of taken.
func freePorts(ctx context.Context, ip string, taken []ports) (ports, error) {
	const n = (portsLast + 1 - portsFirst) / portsBlock
	start := rand.IntN(n)
	for i := range n {
		p := ports(portsFirst + (start+i)%n*portsBlock)
		if !slices.Contains(taken, p) && p.free(ctx, ip) {
			return p, nil
		}
	}
	return 0, errors.New("every block of ports for a machine is in use")
}

// free says whether the agents can listen on their ports.
func (p ports) free(ctx context.Context, ip string) bool {
	return freeTCP(ctx, "127.0.0.1", p.nomad()) && freeTCP(ctx, "127.0.0.1", p.consul()) &&
		freeTCP(ctx, ip, p.serf()) && freeUDP(ctx, ip, p.serf())
}

func freeTCP(ctx context.Context, ip string, port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}

func freeUDP(ctx context.Context, ip string, port int) bool {
	var config net.ListenConfig
	c, err := config.ListenPacket(ctx, "udp", net.JoinHostPort(ip, strconv.Itoa(port)))
	return err == nil && c.Close() == nil
}
