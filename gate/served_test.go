package gate

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// inGateBubble runs a test in a bubble of its own.
func inGateBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func watchedGate(ids ...string) *Gate {
	g := openGate(100, -1, ids...)
	g.Watch(true)
	return g
}

// tells is what a report would say of the only version.
func tells(t *testing.T, g *Gate) loads.Served {
	t.Helper()
	list := g.Served()
	if len(list) != 1 {
		t.Fatalf("%d versions, want one: %+v", len(list), list)
	}
	return list[0]
}

func TestServed(t *testing.T) {
	bucket := loads.LatencyBucket
	at := map[int]uint64{bucket(2 * time.Second): 1}
	arrived := time.Now()
	for _, test := range []struct {
		name string
		do   func(s *Slot)
		want loads.Served
	}{
		{"an answer", func(s *Slot) { s.Answered(200) }, loads.Served{Requests: 1, Latency: at}},
		{"a fault of the client", func(s *Slot) { s.Answered(404) }, loads.Served{Requests: 1, Latency: at}},
		{"a tunnel", func(s *Slot) { s.Answered(http.StatusSwitchingProtocols) }, loads.Served{Requests: 1, Latency: at}},
		{"an error", func(s *Slot) { s.Answered(500) }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
		{"a gateway's error", func(s *Slot) { s.Answered(503) }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
		{"no answer", func(s *Slot) { s.Failed() }, loads.Served{Requests: 1, Errors: 1}},
		{"none, over a kept connection", func(s *Slot) { s.Unanswered() }, loads.Served{Requests: 1, Errors: 1}},
		{"a client that leaves", func(*Slot) {}, loads.Served{Requests: 1}},
		{"late", func(s *Slot) { s.Late(arrived, arrived) }, loads.Served{Requests: 1, Errors: 1}},
		{"late, in little time", func(s *Slot) { s.Late(arrived.Add(-time.Hour), time.Now()) }, loads.Served{Requests: 1, Errors: 1}},
		{"broken off", func(s *Slot) { s.Answered(200); s.BrokeOff() }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
		{"an error that broke off", func(s *Slot) { s.Answered(500); s.Failed(); s.BrokeOff() }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
		{"gRPC, good", func(s *Slot) { s.HeadCame(); time.Sleep(time.Minute); s.Answered(200) }, loads.Served{Requests: 1, Latency: at}},
		{"gRPC, bad in the end", func(s *Slot) { s.HeadCame(); time.Sleep(time.Minute); s.Answered(500) }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
		{"gRPC, broken off", func(s *Slot) { s.HeadCame(); s.Failed(); s.BrokeOff() }, loads.Served{Requests: 1, Errors: 1, Latency: at}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inGateBubble(t, func(t *testing.T) {
				g := watchedGate("a")
				s := mustAcquire(t, g)
				time.Sleep(2 * time.Second)
				test.do(s)
				s.Release()
				want := test.want
				want.Application, want.Deployment, want.Version = "app", "main", "v1"
				if d := cmp.Diff(want, tells(t, g)); d != "" {
					t.Error(d)
				}
			})
		})
	}

	t.Run("unreachable", func(t *testing.T) {
		inGateBubble(t, func(t *testing.T) {
			g := watchedGate("a")
			mustAcquire(t, g).Unreachable()
			if got := tells(t, g); got.Requests != 1 || got.Errors != 1 {
				t.Errorf("%+v", got)
			}
		})
	})

	t.Run("each try counts against its own version", func(t *testing.T) {
		inGateBubble(t, func(t *testing.T) {
			g := openGate(1, -1)
			g.Watch(true)
			g.Configure(mixed(1, "v2", "v1"), append(of("v2", "a"), of("v1", "b")...), nil)
			for range 2 {
				s := mustAcquire(t, g)
				if s.Replica.Version == "v2" {
					s.Failed()
				} else {
					s.Answered(200)
				}
			}
			for _, s := range g.Served() {
				if s.Requests != 1 || s.Ongoing != 1 || (s.Errors == 1) != (s.Version == "v2") {
					t.Errorf("%+v", s)
				}
			}
		})
	})

	t.Run("an answer counts when it begins", func(t *testing.T) {
		inGateBubble(t, func(t *testing.T) {
			g := watchedGate("a")
			s := mustAcquire(t, g)
			s.Answered(200)
			if got := tells(t, g); got.Requests != 1 || got.Ongoing != 1 {
				t.Errorf("%+v", got)
			}
			g.ServedArrived()
			if got := tells(t, g); got.Requests != 0 || got.Ongoing != 1 {
				t.Errorf("after a report: %+v", got)
			}
			// It breaks off: the next request brings the error with it.
			s.BrokeOff()
			s.Release()
			if got := tells(t, g); got.Requests != 0 || got.Errors != 0 || got.Ongoing != 0 {
				t.Errorf("with an error and no request: %+v", got)
			}
			g.ServedArrived()
			s = mustAcquire(t, g)
			s.Answered(200)
			if got := tells(t, g); got.Requests != 1 || got.Errors != 1 {
				t.Errorf("with the next request: %+v", got)
			}
		})
	})

	t.Run("what is not watched is not counted", func(t *testing.T) {
		inGateBubble(t, func(t *testing.T) {
			g := openGate(1, -1, "a")
			s := mustAcquire(t, g)
			s.Answered(500)
			if s.Release(); g.Served() != nil {
				t.Errorf("%+v", g.Served())
			}
			g.Watch(true)
			if got := tells(t, g); got.Requests != 0 {
				t.Errorf("from before: %+v", got)
			}
			mustAcquire(t, g).Release()
			g.Watch(false)
			g.Watch(true)
			if got := tells(t, g); got.Requests != 0 {
				t.Errorf("from when it was watched last: %+v", got)
			}
		})
	})

	t.Run("a gate that is gone stays until it has told", func(t *testing.T) {
		inGateBubble(t, func(t *testing.T) {
			g := watchedGate("a")
			s := mustAcquire(t, g)
			s.Answered(200)
			if g.Close() {
				t.Fatal("forgotten with a request")
			}
			if got := tells(t, g); got.Ongoing != 1 || got.Requests != 1 {
				t.Errorf("%+v", got)
			}
			if s.Release(); g.Close() {
				t.Fatal("forgotten before it has told of what it was like")
			}
			g.Served()
			if g.ServedArrived(); !g.Close() {
				t.Error("it is not forgotten")
			}
		})
	})
}

// TestServedLaws reports at random, with reports that do not arrive: in the end
// everything has been told once, and no report has said what cannot be.
func TestServedLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var ended any
		synctest.Test(t, func(*testing.T) {
			defer func() { ended = recover() }()
			servedLaws(rt)
		})
		if ended != nil {
			panic(ended)
		}
	})
}

func servedLaws(rt *rapid.T) {
	g := openGate(100, -1)
	g.Watch(true)
	g.Configure(mixed(100, "v2", "v1"), append(of("v2", "a"), of("v1", "b")...), nil)
	want, got := map[string]loads.Served{}, map[string]loads.Served{}
	add := func(to map[string]loads.Served, s loads.Served) {
		sum := to[s.Version]
		sum.Requests += s.Requests
		sum.Errors += s.Errors
		to[s.Version] = sum
	}
	answers := 0
	report := func(arrives bool) {
		r := loads.Report{Schema: loads.Schema, Proxy: "p", Incarnation: 1, Sequence: 1, Ready: true, Served: g.Served()}
		if err := r.Check(); err != nil {
			rt.Fatalf("the report is refused: %v", err)
		}
		if !arrives {
			return
		}
		for _, s := range r.Served {
			add(got, s)
			for _, n := range s.Latency {
				answers -= int(n)
			}
		}
		g.ServedArrived()
	}
	var begun []*Slot
	for range rapid.IntRange(1, 60).Draw(rt, "steps") {
		time.Sleep(time.Second)
		switch rapid.IntRange(0, 3).Draw(rt, "step") {
		case 0:
			s, err := g.Acquire(context.Background(), g.Ticket(nil, time.Time{}))
			if errors.Is(err, ErrGone) {
				rt.Fatal(err)
			}
			status := rapid.SampledFrom([]int{200, 500}).Draw(rt, "status")
			s.Answered(status)
			answers++
			add(want, loads.Served{Version: s.Replica.Version, Requests: 1, Errors: uint64(status / 500)})
			begun = append(begun, s)
		case 1:
			if len(begun) > 0 {
				s := begun[0]
				begun = begun[1:]
				if rapid.Bool().Draw(rt, "breaks off") {
					if !s.verdict.blamed {
						add(want, loads.Served{Version: s.Replica.Version, Errors: 1})
					}
					s.BrokeOff()
				}
				s.Release()
			}
		default:
			report(rapid.Bool().Draw(rt, "arrives"))
		}
	}
	// As many good requests are enough for what is left to tell.
	for i := range 200 {
		g.Configure(mixed(100, "v2", "v1"), [][]routes.Endpoint{of("v2", "a"), of("v1", "b")}[i%2], nil)
		s, err := g.Acquire(context.Background(), g.Ticket(nil, time.Time{}))
		if err != nil {
			rt.Fatal(err)
		}
		s.Answered(200)
		answers++
		add(want, loads.Served{Version: s.Replica.Version, Requests: 1})
		s.Release()
	}
	report(true)
	if d := cmp.Diff(want, got); d != "" {
		rt.Fatalf("told otherwise than it was:\n%s", d)
	}
	if answers != 0 {
		rt.Fatalf("%d answers are in no bucket, or twice", answers)
	}
}

// Counts stand still where a report would be refused, so that one which has not
// arrived for very long still can.
func TestServedStandsStill(t *testing.T) {
	var s served
	s.open.requests = loads.MaxRequests - 1
	s.open.errors = loads.MaxRequests - 1
	for range 3 {
		s.try(true, time.Second)
		s.broke()
	}
	var out loads.Served
	if s.cut(&out); out.Requests != loads.MaxRequests || out.Errors != loads.MaxRequests {
		t.Errorf("%+v", out)
	}
}

// BenchmarkServed is what it costs to count how a version serves: to be compared
// with a request at a gate that is not watched.
func BenchmarkServed(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(map[bool]string{false: "not watched", true: "watched"}[watched], func(b *testing.B) {
			g := openGate(5, -1, "a", "b")
			g.Watch(watched)
			b.ReportAllocs()
			for b.Loop() {
				s, err := g.Acquire(b.Context(), g.Ticket(nil, time.Time{}))
				if err != nil {
					b.Fatal(err)
				}
				s.Answered(http.StatusOK)
				s.Release()
			}
		})
	}
}
