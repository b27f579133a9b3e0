package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/proctable"
	"github.com/serve-nomad/serve-nomad/routes"
)

// counted is replicas that count how many requests each has.
type counted struct {
	addresses []string
	most      atomic.Int64
	served    atomic.Int64
}

func countedReplicas(tb testing.TB, n int, takes time.Duration) *counted {
	tb.Helper()
	c := &counted{}
	for range n {
		var present atomic.Int64
		c.addresses = append(c.addresses, replicaServer(tb, func(w http.ResponseWriter, _ *http.Request) {
			now := present.Add(1)
			for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
			}
			time.Sleep(takes) // its work: not a way to wait for anything
			present.Add(-1)
			c.served.Add(1)
			_, _ = w.Write([]byte("ok"))
		}))
	}
	return c
}

// lookAtSockets looks at the connections of this machine.
func lookAtSockets() (gatekeeper.Seen, error) { return proctable.LookAtSockets() }

// keeperRig is a gatekeeper's part of a proxy.
type keeperRig struct {
	*gatekeeper.Gatekeeper
	stop func()
}

// newKeeper starts one, which keeps the book when listen is not "".
func newKeeper(tb testing.TB, name, listen string) (*keeperRig, string) {
	tb.Helper()
	g := gatekeeper.New(gatekeeper.Config{
		Name: name, Incarnation: time.Now().UnixNano(), Look: lookAtSockets,
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

func withSlots(k *keeperRig) func(*Config) {
	return func(c *Config) { c.Slots = k.Gatekeeper }
}

// keptView is a view in which all replicas have their gatekeeper at own.
func keptView(a app, own string) routes.View {
	v := a.view()
	v.Gatekeepers = []routes.Gatekeeper{{Address: own, Passing: true}}
	return v
}

// load sends requests through proxies, and counts those that were not answered
// by 200.
func sendAll(t *testing.T, rigs []*rig, clients, each int) (lost int64) {
	t.Helper()
	var wg sync.WaitGroup
	var bad atomic.Int64
	for _, r := range rigs {
		for range clients {
			wg.Go(func() {
				for range each {
					res, err := r.client.Get(r.url + "/app/x")
					if err != nil {
						bad.Add(1)
						continue
					}
					if res.StatusCode != http.StatusOK {
						bad.Add(1)
					}
					_ = res.Body.Close()
				}
			})
		}
	}
	wg.Wait()
	return bad.Load()
}

func TestManyProxiesKeepOneLimit(t *testing.T) {
	for _, limit := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			c := countedReplicas(t, 3, time.Millisecond)
			k, own := newKeeper(t, "p0", "127.0.0.1:0")
			v := keptView(app{ongoing: limit, queued: -1, addresses: c.addresses}, own)
			rigs := []*rig{start(t, v, withSlots(k))}
			for i := range 2 {
				other, _ := newKeeper(t, fmt.Sprintf("p%d", i+1), "")
				rigs = append(rigs, start(t, v, withSlots(other)))
			}
			if lost := sendAll(t, rigs, 8, 25); lost > 0 {
				t.Errorf("%d requests lost", lost)
			}
			if most := c.most.Load(); most > int64(limit) {
				t.Errorf("a replica had %d requests at once, its limit is %d", most, limit)
			}
			for i, r := range rigs {
				for _, d := range r.Status().Deployments {
					if d.Ongoing != 0 || d.Queued != 0 {
						t.Errorf("proxy %d has %d requests and %d that wait, at the end", i, d.Ongoing, d.Queued)
					}
				}
			}
		})
	}
}

// TestALoneRequestFindsTheOnlyFreeReplica has one proxy hold all slots but one,
// on another: the request that comes there goes to it at once.
func TestALoneRequestFindsTheOnlyFreeReplica(t *testing.T) {
	release := make(chan struct{})
	var busy atomic.Int64
	hold := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			busy.Add(1)
			<-release
		}
		_, _ = w.Write([]byte("ok"))
	}
	addresses := []string{replicaServer(t, hold), replicaServer(t, hold), replicaServer(t, hold)}
	k, own := newKeeper(t, "p0", "127.0.0.1:0")
	v := keptView(app{ongoing: 1, queued: -1, addresses: addresses}, own)
	a := start(t, v, withSlots(k))
	other, _ := newKeeper(t, "p1", "")
	b := start(t, v, withSlots(other))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if res, err := a.client.Get(a.url + "/app/hold"); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	eventually(t, "two replicas are busy", func() bool { return busy.Load() == 2 })
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/app/x", nil)
		res, err := b.client.Do(req)
		if err != nil {
			t.Fatalf("a request waits while a replica idles: %v", err)
		}
		_ = res.Body.Close()
		cancel()
	}
	close(release)
	wg.Wait()
}

// TestAGatekeeperThatIsReplaced has it die under load: the others wait, and go on
// with the next, and no limit is passed.
func TestAGatekeeperThatIsReplaced(t *testing.T) {
	c := countedReplicas(t, 2, 2*time.Millisecond)
	k, own := newKeeper(t, "k", "127.0.0.1:0")
	v := keptView(app{ongoing: 2, queued: -1, addresses: c.addresses}, own)
	var rigs []*rig
	for i := range 2 {
		other, _ := newKeeper(t, fmt.Sprintf("p%d", i), "")
		rigs = append(rigs, start(t, v, withSlots(other)))
	}
	done := make(chan int64, 1)
	go func() { done <- sendAll(t, rigs, 6, 100) }()
	for n := range int64(3) {
		eventually(t, "requests are served", func() bool { return c.served.Load() > (n+1)*100 })
		k.stop()
		k, _ = newKeeper(t, "k", own)
	}
	if lost := <-done; lost > 0 {
		t.Errorf("%d requests lost", lost)
	}
	if most := c.most.Load(); most > 2 {
		t.Errorf("a replica had %d requests at once, its limit is 2", most)
	}
}

// TestProxiesShareTheQueue fills the queue at one proxy: the other refuses.
func TestProxiesShareTheQueue(t *testing.T) {
	release := make(chan struct{})
	address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) { <-release })
	k, own := newKeeper(t, "p0", "127.0.0.1:0")
	v := keptView(app{ongoing: 1, queued: 3, addresses: []string{address}}, own)
	a := start(t, v, withSlots(k))
	other, _ := newKeeper(t, "p1", "")
	b := start(t, v, withSlots(other))
	var wg sync.WaitGroup
	get := func(r *rig) {
		wg.Go(func() {
			if res, err := r.client.Get(r.url + "/app/x"); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	for range 4 {
		get(a)
	}
	eventually(t, "three wait", func() bool { return a.Status().Deployments[0].Queued == 3 })
	eventually(t, "the other proxy knows", func() bool { return other.Queued("app", "main") == 3 })
	res, err := b.client.Get(b.url + "/app/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get(errorHeader) != codeQueueFull {
		t.Errorf("%s %s, want 503 %s", res.Status, res.Header.Get(errorHeader), codeQueueFull)
	}
	close(release)
	wg.Wait()
}
