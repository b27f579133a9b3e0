package autoscale_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/autoscale"
)

// fixed is a block that never changes anything.
func fixed(replicas int) *appspec.Autoscaling {
	return replayBlock(func(b *appspec.Autoscaling) { b.MinReplicas, b.MaxReplicas = replicas, replicas })
}

// erlangC is the share of requests that wait at so many servers that are
// offered so much work.
func erlangC(servers int, work float64) float64 {
	blocked := 1.0 // Erlang's B, by its recursion
	for n := 1; n <= servers; n++ {
		blocked = work * blocked / (float64(n) + work*blocked)
	}
	busy := work / float64(servers)
	return blocked / (1 - busy*(1-blocked))
}

// The simulated waits are those of the textbook's queue: Poisson arrivals,
// exponential service, so many servers.
func TestSimulatedWaitsAreErlangs(t *testing.T) {
	for _, test := range []struct {
		replicas, slots int
		rate, seconds   float64
	}{
		{1, 1, 0.7, 1},
		{2, 5, 16, 0.5},
		{4, 5, 170, 0.1},
	} {
		t.Run(fmt.Sprintf("%d of %d at %g", test.replicas, test.slots, test.rate), func(t *testing.T) {
			const requests = 400_000
			trace := readTrace(t, fmt.Sprintf(`{"at": 0, "rate": %g, "seconds_per_request": %g}`, test.rate, test.seconds))
			got := replay(t, fixed(test.replicas), trace, autoscale.ReplayOptions{
				Tick: time.Hour, Until: time.Duration(requests / test.rate * float64(time.Second)),
				Queue: autoscale.QueueOptions{MaxOngoing: test.slots, MaxQueued: -1, Seed: 1},
			}).Summary.Queue
			servers := test.replicas * test.slots
			waiting := erlangC(servers, test.rate*test.seconds)
			drain := float64(servers)/test.seconds - test.rate
			quantile := func(share float64) float64 { return max(0, math.Log(waiting/(1-share))/drain) }
			want := autoscale.QueueSummary{Requests: requests, WaitP50: quantile(0.5), WaitP99: quantile(0.99), Waiting: got.Waiting}
			if diff := cmp.Diff(want, *got, cmpopts.EquateApprox(0.05, 1e-9), cmp.Transformer("", func(n int) float64 { return float64(n) })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSimulatedQueue(t *testing.T) {
	for _, test := range []struct {
		name     string
		replicas int
		queue    autoscale.QueueOptions
		trace    []string
		until    time.Duration
		want     autoscale.QueueSummary
	}{
		{
			name: "enough room, no wait", replicas: 2, queue: autoscale.QueueOptions{MaxOngoing: 5, MaxQueued: -1},
			trace: []string{`{"at": 0, "rate": 10, "seconds_per_request": 1}`}, until: 100 * time.Second,
			want: autoscale.QueueSummary{Requests: 999}, // the thousandth comes when all is over
		},
		{
			name: "twice the work: half of it waits at the end, for half of the time", replicas: 1, queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: -1},
			trace: []string{`{"at": 0, "rate": 2, "seconds_per_request": 1}`}, until: 100*time.Second + 1,
			want: autoscale.QueueSummary{Requests: 200, Waiting: 100, WaitP50: 24.5, WaitP99: 49},
		},
		{
			name: "no queue: half is rejected", replicas: 1, queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: 0},
			trace: []string{`{"at": 0, "rate": 2, "seconds_per_request": 0.9}`}, until: 100*time.Second + 1,
			want: autoscale.QueueSummary{Requests: 200, Rejected: 100},
		},
		{
			name: "a short queue", replicas: 1, queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: 3},
			trace: []string{`{"at": 0, "rate": 100, "seconds_per_request": 1000}`}, until: time.Second + 1,
			want: autoscale.QueueSummary{Requests: 100, Rejected: 96, Waiting: 3, WaitP50: 0.96, WaitP99: 0.98},
		},
		{
			name: "nobody to take them", replicas: 0, queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: -1},
			trace: []string{`{"at": 10, "rate": 1, "seconds_per_request": 1}`, `{"at": 12.5, "rate": 0, "seconds_per_request": 1}`}, until: 20 * time.Second,
			want: autoscale.QueueSummary{Requests: 2, Waiting: 2, WaitP50: 8, WaitP99: 9},
		},
		{
			name: "half a request has come when the rate changes", replicas: 0, queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: -1},
			trace: []string{`{"at": 10, "rate": 0.5, "seconds_per_request": 1}`, `{"at": 15, "rate": 1, "seconds_per_request": 1}`}, until: 17 * time.Second,
			want: autoscale.QueueSummary{Requests: 4, Waiting: 4, WaitP50: 1.5, WaitP99: 5}, // at 12, 14, 15.5 and 16.5
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.queue.Uniform = true
			got := replay(t, fixed(test.replicas), readTrace(t, test.trace...), autoscale.ReplayOptions{Until: test.until, Queue: test.queue})
			if diff := cmp.Diff(test.want, *got.Summary.Queue, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// From nothing: the first request is heard of at once, and waits for the start
// of a replica and no longer.
func TestSimulatedWakeUp(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) {
		b.MaxReplicas, b.LookBackPeriod, b.MetricsInterval = 1, after(30*time.Second), after(10*time.Second)
	})
	trace := readTrace(t, `{"at": 5.5, "rate": 1, "seconds_per_request": 0.1}`, `{"at": 7, "rate": 0, "seconds_per_request": 0.1}`)
	got := replay(t, b, trace, autoscale.ReplayOptions{
		Until: 20 * time.Second, StartDelay: 2 * time.Second, Queue: autoscale.QueueOptions{MaxOngoing: 1, MaxQueued: -1, Uniform: true},
	})
	if want := "0s:0/0 6.5s:0/1"; story(got) != want {
		t.Errorf("got %s, want %s", story(got), want)
	}
	if q := got.Summary.Queue; q.Requests != 1 || q.WaitP99 != 2 {
		t.Errorf("%+v: one request should have waited 2 s", *q)
	}
}

// What the decisions are made from is what proxies report: means of whole
// metrics_intervals, each when it is over.
func TestSimulatedLoadComesInReports(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) {
		b.MinReplicas, b.TargetOngoingRequests, b.MetricsInterval, b.LookBackPeriod = 1, 1, after(10*time.Second), after(10*time.Second)
	})
	// From 3 s on 4 requests are ongoing at any time, all of them in slots.
	trace := readTrace(t, `{"at": 2, "rate": 4, "seconds_per_request": 1}`)
	got := replay(t, b, trace, autoscale.ReplayOptions{
		Until: 30 * time.Second, Queue: autoscale.QueueOptions{MaxOngoing: 100, MaxQueued: -1, Uniform: true},
	})
	// At 10 s the mean is (0.25 * (1 + 2 + 3) + 7 * 4) / 10 = 2.95. As the window
	// goes on that interval counts as evenly loaded: 2.95 + x/10 * 1.05 is past 3
	// from x = 0.48 on.
	if want := "0s:1/1 10s:1/3 10.5s:3/4"; !strings.HasPrefix(story(got), want) {
		t.Errorf("got %s, want %s and more", story(got), want)
	}
}

// The window reaches as far back as the block says: what was reported within it
// counts, and nothing else.
func TestSimulatedWindow(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) {
		b.MinReplicas, b.InitialReplicas, b.TargetOngoingRequests, b.LookBackPeriod = 1, new(8), 1, after(40*time.Second)
	})
	// 8 requests are ongoing from 1 s on until 61 s. When 35 of the 40 s lie after
	// that, the mean is 1, and no more than one replica is wanted.
	trace := readTrace(t, `{"at": 0, "rate": 8, "seconds_per_request": 1}`, `{"at": 60, "rate": 0, "seconds_per_request": 1}`)
	got := replay(t, b, trace, autoscale.ReplayOptions{
		Until: 2 * time.Minute, Tick: time.Second, Queue: autoscale.QueueOptions{MaxOngoing: 5, MaxQueued: -1, Uniform: true},
	})
	last := got.Changes[len(got.Changes)-1]
	if last.Target != 1 || last.At < 94*time.Second || last.At > 97*time.Second {
		t.Errorf("one is wanted from %s on: %s", last.At, story(got))
	}
}

// The same seed gives the same requests whatever is decided, so that specs can
// be compared; another seed gives others.
func TestSimulatedChance(t *testing.T) {
	trace := readTrace(t, `{"at": 0, "rate": 3, "seconds_per_request": 1}`, `{"at": 60, "rate": 30, "seconds_per_request": 1}`)
	run := func(replicas int, seed uint64) *autoscale.Result {
		return replay(t, fixed(replicas), trace, autoscale.ReplayOptions{
			Until: 2 * time.Minute, Queue: autoscale.QueueOptions{MaxOngoing: 2, MaxQueued: 50, Seed: seed},
		})
	}
	few, many, again, other := run(2, 7), run(20, 7), run(2, 7), run(2, 8)
	if diff := cmp.Diff(few, again); diff != "" {
		t.Errorf("a second run differs:\n%s", diff)
	}
	if few.Summary.Queue.Requests != many.Summary.Queue.Requests {
		t.Errorf("%d requests for few replicas, %d for many", few.Summary.Queue.Requests, many.Summary.Queue.Requests)
	}
	if few.Summary.Queue.WaitP99 <= many.Summary.Queue.WaitP99 || few.Summary.Queue.Rejected <= many.Summary.Queue.Rejected {
		t.Errorf("few replicas do better: %+v, many: %+v", *few.Summary.Queue, *many.Summary.Queue)
	}
	if cmp.Equal(few.Summary, other.Summary) {
		t.Error("another seed makes no difference")
	}
}

// Replicas that are taken away finish what they began, and take nothing new.
func TestSimulatedReplicasFinishWhatTheyBegan(t *testing.T) {
	trace := readTrace(t,
		`{"at": 0, "rate": 10, "seconds_per_request": 10, "running": 4}`,
		`{"at": 1, "rate": 10, "seconds_per_request": 10, "running": 0}`,
		`{"at": 1.5, "rate": 0, "seconds_per_request": 10}`)
	b := replayBlock(func(b *appspec.Autoscaling) { b.MaxReplicas = 4 })
	got := replay(t, b, trace, autoscale.ReplayOptions{
		Until: 20 * time.Second, Queue: autoscale.QueueOptions{MaxOngoing: 100, MaxQueued: -1, Uniform: true},
	})
	value := func(at time.Duration) float64 {
		last := 0.0
		for _, p := range got.Load {
			if p.At <= at {
				last = math.Round(p.Value)
			}
		}
		return last
	}
	begun, left := value(5*time.Second), value(15*time.Second)
	if q := got.Summary.Queue; begun != float64(q.Requests) || left != float64(q.Waiting) || left == 0 || left >= begun {
		t.Errorf("load %g while the first finish and %g after; %+v", begun, left, *q)
	}
}
