package gate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

func TestTakeSpare(t *testing.T) {
	scenario := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { inGateBubble(t, f) })
	}

	scenario("a copy takes a free slot and counts in nothing else", func(t *testing.T) {
		g := openGate(1, -1, "a")
		g.Watch(true)
		s, err := g.TakeSpare(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, had := g.Report(time.Now(), time.Second); had {
			t.Error("a copy is part of the load")
		}
		if got := tells(t, g); got.Ongoing != 0 {
			t.Errorf("%d requests are ongoing, of a copy", got.Ongoing)
		}
		if g.Status().Ongoing != 1 {
			t.Error("the replica's slot is not taken")
		}
		s.Answered(500)
		s.Failed()
		s.BrokeOff()
		s.Release()
		if d := cmp.Diff(loads.Served{Application: "app", Deployment: "main", Version: "v1"}, tells(t, g)); d != "" {
			t.Error(d)
		}
		if r := g.replicas["a"]; r.copies != 0 || r.member.InFlight() != 0 || g.load.present != 0 {
			t.Errorf("%d copies, %d requests, a load of %d are left", r.copies, r.member.InFlight(), g.load.present)
		}
	})

	scenario("a copy does not wait, and has no place in the queue", func(t *testing.T) {
		g := openGate(1, 0, "a")
		s, err := g.TakeSpare(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.TakeSpare(t.Context(), nil); !errors.Is(err, ErrNoSpare) {
			t.Errorf("with no slot: %v", err)
		}
		g.Configure(deployment(1, 1), endpoints("a"), nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatal(w.err)
		}
		g.Configure(deployment(1, 1), endpoints("a", "b"), nil)
		if !w.ended() || w.slot == nil {
			t.Fatal("a request waits for a copy although another replica is free")
		}
		w = enqueue(g, g.Ticket(nil, time.Time{}))
		s.Unreachable()
		if _, err := g.TakeSpare(t.Context(), nil); !errors.Is(err, ErrNoSpare) {
			t.Errorf("while somebody waits: %v", err)
		}
		if g.replicas["a"].copies != 0 {
			t.Error("a copy that was not sent is counted")
		}
		w.cancel()
		synctest.Wait()
		g.Close()
		if _, err := g.TakeSpare(t.Context(), nil); !errors.Is(err, ErrNoSpare) {
			t.Errorf("of a gate that is closed: %v", err)
		}
	})
}

// A copy asks another gatekeeper for its slot, and whoever comes meanwhile gets
// that before it.
func TestTakeSpareElsewhere(t *testing.T) {
	_, own := newKeeper(t, "far", "127.0.0.1:0")
	k, _ := newKeeper(t, "p", "")
	g := New("app", 0, "main", Config{Log: hclog.NewNullLogger(), Slots: k.Gatekeeper})
	defer g.Close()
	keepers := []routes.Gatekeeper{{Address: own, Passing: true}}
	g.Configure(deployment(1, -1), []routes.Endpoint{endpoint("r0", "127.0.0.9:1")}, keepers)
	var s *Slot
	eventually(t, "the gatekeeper grants a slot", func() (ok bool) {
		var err error
		s, err = g.TakeSpare(t.Context(), nil)
		return err == nil
	})
	if _, err := g.TakeSpare(t.Context(), nil); !errors.Is(err, ErrNoSpare) {
		t.Errorf("of a replica that is full: %v", err)
	}
	waiting := make(chan *Slot)
	go func() {
		s, err := g.Acquire(context.Background(), g.Ticket(nil, time.Time{}))
		if err != nil {
			t.Error(err)
		}
		waiting <- s
	}()
	eventually(t, "a request waits", func() bool { return g.Status().Queued == 1 })
	s.Release()
	(<-waiting).Release()
	eventually(t, "nothing is asked for, and nothing kept", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.asked == 0 && len(g.copies) == 0 && g.replicas["r0"].spare == 0 && g.replicas["r0"].member.Elsewhere() == 0
	})

	// One that gives up leaves nothing behind, whatever comes of what it asked.
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if s, err := g.TakeSpare(ctx, nil); err == nil {
			s.Release()
		}
	}
	eventually(t, "the replica is free", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		r := g.replicas["r0"]
		return g.asked == 0 && len(g.copies) == 0 && r.copies == 0 && r.member.InFlight() == 0 && r.member.Elsewhere() == 0
	})
}

func TestCompared(t *testing.T) {
	inGateBubble(t, func(t *testing.T) {
		g := watchedGate("a")
		for _, c := range []Comparison{
			{Primary: 200, Copy: 200, PrimaryTook: time.Second, CopyTook: 4 * time.Second},
			{Primary: 200, Copy: 404, PrimaryTook: time.Second, CopyTook: time.Second},
			{Primary: 200, Copy: 500, PrimaryTook: time.Second, CopyTook: time.Second},
			{Primary: 200, PrimaryTook: time.Second},
			{Primary: 500, Copy: 500, PrimaryTook: time.Second, CopyTook: time.Second},
			{Primary: 502},
		} {
			c.Version = "v1"
			g.Compared(c)
		}
		g.Compared(Comparison{Version: "of which there is nothing here", Primary: 200})
		g.CopyDropped()
		want := loads.Served{
			Application: "app", Deployment: "main", Version: "v1",
			Shadow: &loads.Shadowed{
				Requests: 6, Differing: 4, Errors: 2, Dropped: 1,
				Latency: map[int]uint64{loads.LatencyBucket(time.Second): 3, loads.LatencyBucket(4 * time.Second): 1},
				Primary: map[int]uint64{loads.LatencyBucket(time.Second): 5},
			},
		}
		got := tells(t, g)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		g.Compared(Comparison{Version: "v1", Primary: 200, Copy: 200, CopyTook: time.Second})
		g.ServedArrived()
		got = tells(t, g)
		want.Shadow = &loads.Shadowed{Requests: 1, Latency: map[int]uint64{loads.LatencyBucket(time.Second): 1}, Primary: map[int]uint64{}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("after a report: %s", d)
		}
	})
}
