package gate

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// mixed is a deployment of which these versions take requests, the newest first.
func mixed(ongoing int, versions ...string) routes.Deployment {
	d := deployment(ongoing, -1)
	d.Version, d.Also = "", nil
	if len(versions) > 0 {
		d.Version, d.Also = versions[0], versions[1:]
	}
	return d
}

func of(version string, ids ...string) []routes.Endpoint {
	es := endpoints(ids...)
	for i := range es {
		es[i].Version = version
	}
	return es
}

func TestVersionsMix(t *testing.T) {
	scenario := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { inGateBubble(t, f) })
	}
	both := slices.Concat(of("v1", "a", "b"), of("v2", "c"), of("v3", "d"))

	scenario("requests go to all that take them, each with the series of its own", func(t *testing.T) {
		var told []string
		g := New("app", 3, "main", Config{Log: hclog.NewNullLogger(), Serves: func(_, _, version string) any {
			told = append(told, version)
			return "series of " + version
		}})
		g.Configure(mixed(1, "v2", "v1"), both, nil)
		got := map[string]any{}
		for range 3 {
			s := mustAcquire(t, g)
			got[s.Replica.ID+" "+s.Replica.Version] = s.Replica.Series
		}
		if d := cmp.Diff(map[string]any{"a v1": "series of v1", "b v1": "series of v1", "c v2": "series of v2"}, got); d != "" {
			t.Error(d)
		}
		if version, series := g.Serving(); version != "v2" || series != "series of v2" {
			t.Errorf("serving is %q, %v", version, series)
		}
		if s := g.Status(); s.Generation != 3 || s.Version != "v2" || !slices.Equal(s.Also, []string{"v1"}) {
			t.Errorf("status has generation %d, version %q and %q", s.Generation, s.Version, s.Also)
		}
		g.Configure(mixed(1, "v2"), both, nil)
		g.Configure(mixed(1, "v2", "v1"), both, nil)
		if want := []string{"v2", "v1", "v1"}; !slices.Equal(told, want) {
			t.Errorf("told of %q, want %q: once each time that it begins to take requests", told, want)
		}
	})

	scenario("replicas of a version that is gone take no more, and count until they are done", func(t *testing.T) {
		g := openGate(1, -1)
		g.Configure(mixed(1, "v1"), both, nil)
		a, b := mustAcquire(t, g), mustAcquire(t, g)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatal("a replica of another version took a request")
		}
		g.Configure(mixed(1, "v2", "v1"), both, nil)
		if !w.ended() || w.slot.Replica.ID != "c" {
			t.Fatal("the replica of a version that takes requests now did not")
		}
		g.Configure(mixed(1, "v2"), both, nil)
		w = enqueue(g, g.Ticket(nil, time.Time{}))
		a.Release()
		if w.ended() {
			t.Fatal("a replica of a version that is gone took a request")
		}
		g.Configure(mixed(1, "v2", "v1"), both, nil)
		if !w.ended() || w.slot.Replica.ID != a.Replica.ID {
			t.Fatal("the free replica of a version that is back did not take the request")
		}
		w = enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatal("a replica that is back is not as busy as it was")
		}
		b.Release()
		if !w.ended() || w.slot.Replica.ID != b.Replica.ID {
			t.Fatal("the replica that has finished did not take the request")
		}
	})

	scenario("versions that nothing is left of are forgotten", func(t *testing.T) {
		g := openGate(1, -1)
		for _, version := range []string{"v1", "v2", "v3"} {
			g.Configure(mixed(1, version), both, nil)
			s := mustAcquire(t, g)
			g.Configure(mixed(1, "v0"), both, nil)
			if len(g.versions) != 2 {
				t.Errorf("%d versions, want those that take requests and that which has one", len(g.versions))
			}
			s.Release()
			g.Configure(mixed(1, "v0"), both, nil)
			if len(g.versions) != 1 {
				t.Errorf("%d versions, want the one that takes requests", len(g.versions))
			}
		}
	})
}

func TestReadiness(t *testing.T) {
	inGateBubble(t, func(t *testing.T) {
		asleep := mixed(1, "v1")
		asleep.MetricsInterval = time.Second
		failing := of("v1", "a")
		failing[0].Passing = false
		for _, test := range []struct {
			name string
			d    routes.Deployment
			es   []routes.Endpoint
			want Readiness
		}{
			{"no version", mixed(1), of("v1", "a"), Away},
			{"no replica", mixed(1, "v1"), nil, Away},
			{"none of the version", mixed(1, "v1"), of("v2", "a"), Away},
			{"none passes", mixed(1, "v1"), failing, Away},
			{"none, and it scales", asleep, nil, Asleep},
			{"none passes, and it scales", asleep, failing, Away},
			{"one", mixed(1, "v1"), of("v1", "a"), Awake},
			{"one, of the older version", mixed(1, "v2", "v1"), of("v1", "a"), Awake},
		} {
			g := New("app", 0, "main", Config{Log: hclog.NewNullLogger()})
			if got := g.Readiness(); got != Away {
				t.Errorf("%s: before it is known: %d", test.name, got)
			}
			g.Configure(test.d, test.es, nil)
			if got := g.Readiness(); got != test.want {
				t.Errorf("%s: %d, want %d", test.name, got, test.want)
			}
			if g.Close(); g.Readiness() != Away {
				t.Errorf("%s: a gate that is closed takes requests", test.name)
			}
		}
		g := openGate(1, -1, "a")
		s := mustAcquire(t, g)
		if g.Readiness() != Awake {
			t.Error("a replica that is busy is not there")
		}
		left := s.Unreachable()
		if g.Readiness() != Away {
			t.Error("a replica that cannot be reached is there")
		}
		time.Sleep(left)
		synctest.Wait() // for the gate, which wakes in the same moment
		if g.Readiness() != Awake {
			t.Error("a replica does not return")
		}
	})
}

func TestRedirect(t *testing.T) {
	inGateBubble(t, func(t *testing.T) {
		g := openGate(1, 2, "a")
		held := mustAcquire(t, g)
		first, second := enqueue(g, g.Ticket(nil, time.Time{})), enqueue(g, g.Ticket(nil, time.Time{}))
		g.Redirect()
		if !first.ended() || !second.ended() || !errors.Is(first.err, ErrRedirected) || !errors.Is(second.err, ErrRedirected) {
			t.Fatalf("got %v and %v", first.err, second.err)
		}
		if g.load.present != 1 || g.queue.Len() != 0 {
			t.Errorf("the load is %d, %d wait", g.load.present, g.queue.Len())
		}
		// Who finds nobody else comes back, to its old place, whatever the queue's bound.
		g.Configure(deployment(1, 0), endpoints("a"), nil)
		back, last := enqueue(g, second.ticket), enqueue(g, first.ticket)
		held.Release()
		if !last.ended() || last.slot == nil || back.ended() {
			t.Errorf("the one that came first is not served first: %v", last.err)
		}
		last.slot.Release()
		if !back.ended() || back.slot == nil {
			t.Errorf("got %v", back.err)
		}
	})
}

// Generations of an application share the names of their deployments, and not
// their queues: what waits elsewhere for one is nothing to the bound of another.
func TestGenerationsAreApartAtGatekeepers(t *testing.T) {
	far, own := newKeeper(t, "far", "127.0.0.1:0")
	near, _ := newKeeper(t, "near", "")
	keepers := []routes.Gatekeeper{{Address: own, Passing: true}}
	open := func(k *keeperRig, generation, queued int, es ...routes.Endpoint) *Gate {
		g := New("app", generation, "main", Config{Log: hclog.NewNullLogger(), Slots: k.Gatekeeper})
		t.Cleanup(func() { g.Close() })
		d := mixed(1, "v1")
		d.MaxQueuedRequests = queued
		g.Configure(d, es, keepers)
		return g
	}
	wait := func(g *Gate) (*waiting, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &waiting{done: make(chan struct{})}
		go func() {
			defer close(w.done)
			w.slot, w.err = g.Acquire(ctx, g.Ticket(nil, time.Time{}))
		}()
		return w, cancel
	}
	r0, r7 := endpoint("r0", "127.0.0.9:1"), endpoint("r7", "127.0.0.9:2")
	theirs, theirs7 := open(far, 0, -1, r0), open(far, 7, -1, r7)
	ours, ours7 := open(near, 0, 1, r0), open(near, 7, 1, r7)
	for _, g := range []*Gate{theirs, theirs7, theirs} {
		_, leave := wait(g) // two have a slot, one waits
		defer leave()
	}
	eventually(t, "one waits elsewhere", func() bool { return near.Queued("app", "main") == 1 && theirs7.Status().Ongoing == 1 })
	w, leave := wait(ours)
	defer leave()
	var full *FullError
	if <-w.done; !errors.As(w.err, &full) {
		t.Errorf("the bound of generation 0 does not hold: %v", w.err)
	}
	w, leave = wait(ours7)
	eventually(t, "a request of generation 7 waits", func() bool { return ours7.Status().Queued == 1 })
	leave()
	<-w.done
}
