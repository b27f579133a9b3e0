package gate

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/proctable"
	"github.com/serve-nomad/serve-nomad/routes"
)

// TestWhatWasAskedOfAnotherGatekeeperIsForgotten has a replica change its
// gatekeeper while an answer is due.
func TestWhatWasAskedOfAnotherGatekeeperIsForgotten(t *testing.T) {
	first, firstOwn := newKeeper(t, "first", "127.0.0.1:0")
	_, secondOwn := newKeeper(t, "second", "127.0.0.1:0")
	k, _ := newKeeper(t, "p", "")
	g := New("app", 0, "main", Config{Log: hclog.NewNullLogger(), Slots: k.Gatekeeper})
	defer g.Close()
	e := endpoint("r0", "127.0.0.9:1")
	g.Configure(deployment(1, -1), []routes.Endpoint{e}, []routes.Gatekeeper{{Address: firstOwn, Passing: true}})
	eventually(t, "the gatekeeper can be asked", func() bool { return k.Status().Asks[0].Connected })
	g.mu.Lock()
	g.ask(g.replicas["r0"])
	g.mu.Unlock()
	g.Configure(deployment(1, -1), []routes.Endpoint{e}, []routes.Gatekeeper{{Address: secondOwn, Passing: true}})
	eventually(t, "the other is asked", func() bool {
		s := k.Status()
		return len(s.Asks) == 1 && s.Asks[0].Address == secondOwn && s.Asks[0].Connected
	})
	first.stop()
	eventually(t, "nothing is asked, and the replica is free", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.asked == 0 && g.replicas["r0"].asked == 0 && g.replicas["r0"].member.Elsewhere() == 0
	})
}

// keeperRig is a gatekeeper's part of a proxy.
type keeperRig struct {
	*gatekeeper.Gatekeeper
	stop func()
}

// newKeeper starts one, which keeps the book when listen is not "".
func newKeeper(tb testing.TB, name, listen string) (*keeperRig, string) {
	tb.Helper()
	g := gatekeeper.New(gatekeeper.Config{
		Name: name, Incarnation: time.Now().UnixNano(), Look: func() (gatekeeper.Seen, error) { return proctable.LookAtSockets() },
		Retry: 5 * time.Millisecond, Recovery: 200 * time.Millisecond, Patience: 2 * time.Second,
	}, hclog.NewNullLogger())
	k := &keeperRig{Gatekeeper: g}
	k.stop = sync.OnceFunc(g.Close)
	tb.Cleanup(func() { k.stop() })
	if listen == "" {
		return k, ""
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		tb.Fatal(err)
	}
	own := l.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := g.Keep(l, own); err != nil && !errors.Is(err, net.ErrClosed) {
			tb.Errorf("keep: %v", err)
		}
	}()
	k.stop = sync.OnceFunc(func() { g.Close(); <-ended })
	eventually(tb, "the gatekeeper keeps its book", func() bool { return g.Own() == own })
	return k, own
}
