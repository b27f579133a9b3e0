package autoscale_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/autoscale"
)

// replayBlock is Ray's defaults without delays and with the bounds far away.
func replayBlock(change func(*appspec.Autoscaling)) *appspec.Autoscaling {
	b := &appspec.Autoscaling{
		Policy: "ray", MinReplicas: 0, MaxReplicas: 100, TargetOngoingRequests: 2,
		UpscalingFactor: 1, DownscalingFactor: 1, MetricsInterval: appspec.Duration(time.Second), Aggregation: "mean",
	}
	if change != nil {
		change(b)
	}
	return b
}

func compile(t *testing.T, b *appspec.Autoscaling) *autoscale.Policy {
	t.Helper()
	policy, err := autoscale.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func readTrace(t *testing.T, lines ...string) *autoscale.Trace {
	t.Helper()
	trace, err := autoscale.ReadTrace(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

// replay runs in ticks of 0.1 s if the options do not say.
func replay(t *testing.T, b *appspec.Autoscaling, trace *autoscale.Trace, options autoscale.ReplayOptions) *autoscale.Result {
	t.Helper()
	if options.Tick == 0 {
		options.Tick = 100 * time.Millisecond
	}
	result, err := autoscale.Replay(compile(t, b), trace, options)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// story writes a run as "0s:1/1 30s:1/2": when, how many ran, how many were
// wanted from then on.
func story(r *autoscale.Result) string {
	var list []string
	for _, c := range r.Changes {
		list = append(list, fmt.Sprintf("%s:%d/%d", c.At, c.Running, c.Target))
	}
	return strings.Join(list, " ")
}

func after(d time.Duration) appspec.Duration { return appspec.Duration(d) }

// Ray's own cases of a single step, from its unit tests.
func TestReplayDoesInOneStepWhatRayDoes(t *testing.T) {
	half := func(b *appspec.Autoscaling) { b.UpscalingFactor, b.DownscalingFactor = 0.5, 0.5 }
	slowUp := func(b *appspec.Autoscaling) { b.UpscaleDelay = after(30 * time.Second) }
	slowDown := func(b *appspec.Autoscaling) { b.DownscaleDelay = after(30 * time.Second) }
	for _, test := range []struct {
		requests float64
		replicas int // that run and are wanted
		each     float64
		change   func(*appspec.Autoscaling)
		want     int
	}{
		{20, 4, 5, nil, 4},
		{100, 4, 5, nil, 20},
		{10, 4, 5, nil, 2},
		{20, 10, 1, half, 15},
		{5, 20, 1, half, 13},
		{0.6, 2, 1, half, 1},
		{100, 1, 50, slowUp, 1},
		{100, 1, 50, slowDown, 2},
		{40, 2, 50, slowDown, 2},
		{40, 2, 50, slowUp, 1},
	} {
		t.Run(fmt.Sprintf("%g at %d of %g", test.requests, test.replicas, test.each), func(t *testing.T) {
			b := replayBlock(test.change)
			b.InitialReplicas, b.TargetOngoingRequests = new(test.replicas), test.each
			trace := readTrace(t, fmt.Sprintf(`{"at": 0, "requests": %g, "running": %d}`, test.requests, test.replicas))
			got := replay(t, b, trace, autoscale.ReplayOptions{})
			if last := got.Changes[len(got.Changes)-1].Target; last != test.want {
				t.Errorf("%d are wanted, should be %d: %s", last, test.want, story(got))
			}
		})
	}
}

func TestReplayTellsWhatHappensWhen(t *testing.T) {
	const hour = time.Hour
	for _, test := range []struct {
		name    string
		change  func(*appspec.Autoscaling)
		trace   []string
		options autoscale.ReplayOptions
		want    string
	}{
		{
			name: "Ray: up after 300 ticks",
			change: func(b *appspec.Autoscaling) {
				b.MinReplicas, b.TargetOngoingRequests, b.UpscaleDelay = 1, 1, after(30*time.Second)
			},
			trace:   []string{`{"at": 0, "requests": 2, "running": 1}`},
			options: autoscale.ReplayOptions{Until: hour},
			want:    "0s:1/1 30s:1/2",
		},
		{
			name: "Ray: down after 6000 ticks",
			change: func(b *appspec.Autoscaling) {
				b.MinReplicas, b.InitialReplicas, b.DownscaleDelay = 1, new(2), after(600*time.Second)
			},
			trace:   []string{`{"at": 0, "requests": 0}`},
			options: autoscale.ReplayOptions{Until: hour},
			want:    "0s:2/2 10m0s:2/1",
		},
		{
			name: "to nothing it goes over one",
			change: func(b *appspec.Autoscaling) {
				b.InitialReplicas, b.DownscaleDelay, b.DownscaleToZeroDelay = new(5), after(10*time.Second), after(20*time.Second)
			},
			trace:   []string{`{"at": 0, "requests": 0}`},
			options: autoscale.ReplayOptions{Until: hour},
			want:    "0s:5/5 10s:5/1 30.1s:1/0",
		},
		{
			name:    "from nothing at once, before the first line there is no load",
			trace:   []string{`{"at": 5.05, "requests": 9}`},
			options: autoscale.ReplayOptions{Until: time.Minute},
			want:    "0s:0/0 5.1s:0/1 5.2s:1/5",
		},
		{
			name:    "replicas take time to start, and stop at once",
			trace:   []string{`{"at": 1, "requests": 8}`, `{"at": 20, "requests": 2}`},
			options: autoscale.ReplayOptions{Until: time.Minute, StartDelay: 3 * time.Second},
			want:    "0s:0/0 1s:0/1 4s:1/4 20s:4/1",
		},
		{
			name:    "what starts goes first",
			change:  func(b *appspec.Autoscaling) { b.InitialReplicas = new(2) },
			trace:   []string{`{"at": 0, "requests": 4}`, `{"at": 1, "requests": 8}`, `{"at": 2, "requests": 6}`},
			options: autoscale.ReplayOptions{Until: 5 * time.Second, StartDelay: 3 * time.Second},
			want:    "0s:2/2 1s:2/4 2s:2/3",
		},
		{
			name:    "what is pinned runs, whatever is wanted",
			trace:   []string{`{"at": 0, "requests": 6, "running": 2}`, `{"at": 1, "requests": 6}`, `{"at": 2, "requests": 0, "running": 7}`},
			options: autoscale.ReplayOptions{Until: 5 * time.Second},
			want:    "0s:2/2 0s:2/3 2s:7/1 2.1s:7/0",
		},
		{
			name:    "initial_replicas are wanted whatever runs",
			change:  func(b *appspec.Autoscaling) { b.InitialReplicas = new(3) },
			trace:   []string{`{"at": 0, "requests": 1, "running": 0}`},
			options: autoscale.ReplayOptions{Until: 5 * time.Second},
			want:    "0s:0/3",
		},
		{
			name: "look-back",
			change: func(b *appspec.Autoscaling) {
				b.InitialReplicas, b.LookBackPeriod = new(2), after(10*time.Second)
			},
			trace:   []string{`{"at": 0, "requests": 4}`, `{"at": 20, "requests": 8}`},
			options: autoscale.ReplayOptions{Until: time.Minute, Tick: time.Second},
			want:    "0s:2/2 20s:2/3 26s:3/4", // a step counts 1 ms at least,
		},
		{
			name:    "the last tick belongs to the run",
			change:  func(b *appspec.Autoscaling) { b.MinReplicas, b.UpscaleDelay = 1, after(time.Second) },
			trace:   []string{`{"at": 0, "requests": 4}`},
			options: autoscale.ReplayOptions{Until: time.Second},
			want:    "0s:1/1 1s:1/2",
		},
		{
			name: "a metric",
			change: func(b *appspec.Autoscaling) {
				b.MinReplicas = 1
				b.Metric = &appspec.Metric{Source: "prometheus", Target: 10, Combine: "replace", Interval: after(time.Second)}
			},
			trace:   []string{`{"at": 0, "requests": 0, "metric": 10}`, `{"at": 1, "requests": 50}`, `{"at": 2, "requests": 0, "metric": 35}`},
			options: autoscale.ReplayOptions{Until: 5 * time.Second},
			want:    "0s:1/1 2s:1/4",
		},
		{
			name: "a schedule goes by the clock",
			change: func(b *appspec.Autoscaling) {
				b.Schedules = []*appspec.Schedule{{Name: "morning", Cron: "0 8 * * 1", Duration: after(10 * time.Second), Timezone: "UTC", MinReplicas: new(3)}}
			},
			trace:   []string{`{"at": 0, "requests": 0}`},
			options: autoscale.ReplayOptions{Until: time.Minute, Start: time.Date(2026, 1, 5, 7, 59, 50, 0, time.UTC)},
			want:    "0s:0/0 10s:0/3 20s:3/1 20.1s:1/0",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := replay(t, replayBlock(test.change), readTrace(t, test.trace...), test.options)
			if story(got) != test.want {
				t.Errorf("got  %s\nwant %s", story(got), test.want)
			}
		})
	}
}

// The summary of a run that can be added up by hand.
func TestReplaySumsUp(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) { b.MinReplicas, b.TargetOngoingRequests = 1, 1 })
	trace := readTrace(t, `{"at": 0, "requests": 1}`, `{"at": 600, "requests": 5}`, `{"at": 1800, "requests": 2}`, `{"at": 3000.05, "requests": 3}`)
	got := replay(t, b, trace, autoscale.ReplayOptions{Until: time.Hour, StartDelay: 60 * time.Second})
	want := autoscale.Summary{
		Changes: 3, Turns: 2, MinTarget: 1, MaxTarget: 5,
		ReplicaHours: (1*600 + 5*1200 + 2*1200.1 + 3*599.9) / 3600,
		Short:        (60 + 60.05) / 3600,
	}
	if diff := cmp.Diff(want, got.Summary, cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	running := []autoscale.Point{
		{At: 0, Value: 1}, {At: 660 * time.Second, Value: 5}, {At: 1800 * time.Second, Value: 2}, {At: 3060100 * time.Millisecond, Value: 3},
	}
	if diff := cmp.Diff(running, got.Running); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	load := []autoscale.Point{
		{At: 0, Value: 1}, {At: 600 * time.Second, Value: 5}, {At: 1800 * time.Second, Value: 2}, {At: 3000050 * time.Millisecond, Value: 3},
	}
	if diff := cmp.Diff(load, got.Load); diff != "" {
		t.Errorf("load (-want +got):\n%s", diff)
	}
}

// What was ordered last and does not run yet is what is not wanted any more.
func TestReplayCancelsStarts(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) { b.InitialReplicas, b.TargetOngoingRequests = new(2), 1 })
	trace := readTrace(t, `{"at": 0, "requests": 2}`, `{"at": 1, "requests": 4}`, `{"at": 2, "requests": 7}`, `{"at": 3, "requests": 3}`, `{"at": 9, "requests": 1}`)
	got := replay(t, b, trace, autoscale.ReplayOptions{Until: 20 * time.Second, StartDelay: 4 * time.Second})
	if want := "0s:2/2 1s:2/4 2s:2/7 3s:2/3 9s:3/1"; story(got) != want {
		t.Errorf("got %s, want %s", story(got), want)
	}
	running := []autoscale.Point{{At: 0, Value: 2}, {At: 5 * time.Second, Value: 3}, {At: 9 * time.Second, Value: 1}}
	if diff := cmp.Diff(running, got.Running); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	const hours = (2*1 + 4*1 + 7*1 + 3*6 + 1*11) / 3600.0
	if diff := got.Summary.ReplicaHours - hours; diff < -1e-12 || diff > 1e-12 {
		t.Errorf("%g replica-hours, want %g", got.Summary.ReplicaHours, hours)
	}
}

// Ticks are counted, not added up: after a day of odd ticks each is where it
// belongs.
func TestReplayKeepsTheTime(t *testing.T) {
	b := replayBlock(func(b *appspec.Autoscaling) { b.MinReplicas = 1 })
	got := replay(t, b, readTrace(t, `{"at": 86399.7, "requests": 4}`), autoscale.ReplayOptions{Until: 24 * time.Hour, Tick: 300 * time.Millisecond})
	if want := "0s:1/1 23h59m59.7s:1/2"; story(got) != want {
		t.Errorf("got %s, want %s", story(got), want)
	}
}

func TestReplayRefusesWhatMakesNoSense(t *testing.T) {
	given, rates := readTrace(t, `{"at": 0, "requests": 1}`), readTrace(t, `{"at": 5, "rate": 1e6, "seconds_per_request": 1}`)
	queue := autoscale.QueueOptions{MaxOngoing: 5, MaxQueued: -1}
	ended := errors.New("enough")
	for _, test := range []struct {
		name    string
		change  func(*appspec.Autoscaling)
		trace   *autoscale.Trace
		options autoscale.ReplayOptions
		want    string
	}{
		{"no tick", nil, given, autoscale.ReplayOptions{}, "must be more than 0"},
		{"a tick back", nil, given, autoscale.ReplayOptions{Tick: -1}, "must be more than 0"},
		{"a run back", nil, given, autoscale.ReplayOptions{Tick: 1, Until: -1}, "cannot last -1ns"},
		{"a run without an end", nil, given, autoscale.ReplayOptions{Tick: time.Hour, Until: 290 * 365 * 24 * time.Hour}, "cannot last"},
		{"a start before its order", nil, given, autoscale.ReplayOptions{Tick: 1, StartDelay: -1}, "cannot start in -1ns"},
		{"too many ticks", nil, given, autoscale.ReplayOptions{Tick: 1, Until: time.Hour}, "more than 100000000 decisions"},
		{"nobody decides", func(b *appspec.Autoscaling) { b.Policy = "external" }, given, autoscale.ReplayOptions{Tick: 1}, "policy is external"},
		{
			"no metric", func(b *appspec.Autoscaling) { b.Metric = &appspec.Metric{Target: 1} }, given,
			autoscale.ReplayOptions{Tick: 1},
			`"metric" in its lines`,
		},
		{"too many requests", nil, rates, autoscale.ReplayOptions{Tick: time.Second, Until: time.Minute, Queue: queue}, "about 55000000 requests"},
		{"replicas without room", nil, rates, autoscale.ReplayOptions{Tick: time.Second}, "max_ongoing_requests of at least 1"},
		{"stopped", nil, given, autoscale.ReplayOptions{Tick: 1, Check: func() error { return ended }}, "enough"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := autoscale.Replay(compile(t, replayBlock(test.change)), test.trace, test.options)
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error with %q", got, err, test.want)
			}
		})
	}
}
