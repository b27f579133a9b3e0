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

// look looks at the connections of this machine.
func look() (gatekeeper.Seen, error) { return proctable.LookAtSockets() }

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
		Name: fmt.Sprint("proxy", i), Incarnation: time.Now().UnixNano(), Look: look,
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
