package conformance

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/proctable"
	"github.com/serve-nomad/serve-nomad/routes"
)

// sockets are those of this machine.
type sockets struct{}

func (sockets) Connections(addresses []string) (map[string][]gatekeeper.Connection, error) {
	seen, err := proctable.Connections(addresses)
	found := map[string][]gatekeeper.Connection{}
	for address, connections := range seen {
		list := make([]gatekeeper.Connection, 0, len(connections))
		for _, c := range connections {
			list = append(list, gatekeeper.Connection(c))
		}
		found[address] = list
	}
	return found, err
}

// keep starts the gatekeeper of the i-th proxy, on a host of its own as far as
// the machine has them.
func keep(tb testing.TB, i int) (*gatekeeper.Gatekeeper, routes.Gatekeeper) {
	tb.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(hostOf(i), "0"))
	if err != nil {
		tb.Skipf("this machine has no address of its own for a second proxy: %v", err)
	}
	own := l.Addr().String()
	g := gatekeeper.New(gatekeeper.Config{
		Name: fmt.Sprint("proxy", i), Incarnation: time.Now().UnixNano(), Sockets: sockets{},
	}, hclog.NewNullLogger())
	var keeping sync.WaitGroup
	keeping.Go(func() {
		if err := g.Keep(l, own); err != nil && !errors.Is(err, net.ErrClosed) {
			tb.Errorf("keep the book: %v", err)
		}
	})
	tb.Cleanup(func() {
		g.Close()
		keeping.Wait()
	})
	eventually(tb, "the gatekeeper keeps its book", func() bool { return g.Own() == own })
	return g, routes.Gatekeeper{Address: own, Passing: true}
}

// hostOf is the address of the i-th proxy's host.
func hostOf(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }
