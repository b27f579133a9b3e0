package autoscale

import (
	"slices"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func kpaPolicy(tb testing.TB, each float64, changes ...func(*appspec.KPA)) *Policy {
	tb.Helper()
	k := &appspec.KPA{
		StableWindow: appspec.Duration(time.Minute), PanicWindowPercentage: 10, PanicThresholdPercentage: 200,
		TargetUtilization: 1, MaxScaleUpRate: 10, MaxScaleDownRate: 10, ActivationScale: 1,
	}
	for _, change := range changes {
		change(k)
	}
	return compile(tb, block(func(b *appspec.Autoscaling) { b.Policy, b.KPA, b.TargetOngoingRequests = "kpa", k, each }))
}

// TestKPACases is cases of Knative's own unit tests: the means of both windows
// and what runs go in.
func TestKPACases(t *testing.T) {
	for _, c := range []struct {
		name           string
		each           float64
		running        int
		stable, panics float64
		state          State
		want           int
	}{
		{"stable", 10, 1, 50, 50, State{}, 5},
		{"not enough", 181, 1, 21, 26, State{}, 1},
		{"stable, a little less in the panic window", 10, 1, 50, 49, State{}, 5},
		{"panic", 10, 1, 50, 100, State{}, 10},
		{"panicking, it only grows", 1, 5, 50, 30, State{PanicSince: epoch(), PanicMax: 5}, 50},
		{"panicking, by the panic window", 1, 5, 20, 30, State{PanicSince: epoch(), PanicMax: 5}, 30},
		{"panicking, it never falls", 10, 5, 10, 10, State{PanicSince: epoch(), PanicMax: 5}, 5},
		{"no more than the rate up", 1, 2, 100, 100, State{}, 20},
		{"no less than the rate down", 1, 100, 1, 1, State{}, 10},
		{"nothing", 10, 1, 0, 0, State{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.state.Started = true
			d := &decider{policy: kpaPolicy(t, c.each), in: Input{Now: epoch(), Running: c.running}, state: c.state}
			if got := d.kpaWant(c.stable, c.panics); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

// run decides once a second, with what is decided running at once.
func run(p *Policy, seconds, target int, load []Step, start State) (targets []int, end State) {
	end = start
	for s := range seconds {
		now := epoch().Add(time.Duration(s) * time.Second)
		known := NewSeries(slices.DeleteFunc(slices.Clone(load), func(step Step) bool { return step.At.After(now) })...)
		var d Decision
		d, end = p.Decide(Input{Now: now, Running: target, Target: target, Load: known}, end)
		target = d.Target
		targets = append(targets, target)
	}
	return targets, end
}

func TestKPAOverTime(t *testing.T) {
	level := func(second int, q float64) Step { return Level(epoch().Add(time.Duration(second)*time.Second), q) }
	always := func(q float64) []Step { return []Step{Level(epoch().Add(-time.Hour), q)} }
	t.Run("a burst after idleness is met within seconds, held, and let go", func(t *testing.T) {
		p := kpaPolicy(t, 10, func(k *appspec.KPA) { k.MaxScaleUpRate, k.MaxScaleDownRate = 1000, 2 })
		load := []Step{Level(epoch().Add(-time.Hour), 0), level(10, 100), level(40, 1)}
		got, _ := run(p, 200, 0, load, State{Started: true})
		if got[9] != 0 || got[11] != 10 {
			t.Errorf("at 9 s %d, at 11 s %d", got[9], got[11])
		}
		if got[60] != 10 {
			t.Errorf("at 60 s, while it panics: %d", got[60])
		}
		if got[199] != 1 {
			t.Errorf("at the end %d", got[199])
		}
	})
	t.Run("panic ends a stable window after the last tick over the threshold", func(t *testing.T) {
		p := kpaPolicy(t, 10)
		load := []Step{Level(epoch(), 100), level(1, 10)}
		_, end := run(p, 2, 1, load, State{Started: true})
		if end.PanicSince.IsZero() {
			t.Fatal("it does not panic")
		}
		for s, want := range map[int]int{30: 10, 62: 1} {
			d, _ := p.Decide(Input{Now: epoch().Add(time.Duration(s) * time.Second), Running: 10, Target: 10, Load: NewSeries(load...)}, end)
			if d.Target != want {
				t.Errorf("at %d s: %d, want %d: %s", s, d.Target, want, d.Reason)
			}
		}
	})
	t.Run("one that finds replicas running keeps them for a window", func(t *testing.T) {
		p := kpaPolicy(t, 10)
		got, _ := run(p, 70, 8, always(10), State{})
		if got[0] != 8 || got[59] != 8 || got[69] != 1 {
			t.Errorf("%v", got)
		}
	})
	t.Run("the last replica goes when the window is empty and its retention over", func(t *testing.T) {
		p := kpaPolicy(t, 10, func(k *appspec.KPA) { k.ScaleToZeroRetention = appspec.Duration(30 * time.Second) })
		got, _ := run(p, 120, 1, []Step{Level(epoch().Add(-time.Hour), 5), level(10, 0)}, State{Started: true})
		if got[99] != 1 || got[101] != 0 {
			t.Errorf("at 99 s %d, at 101 s %d", got[99], got[101])
		}
	})
	t.Run("the most of the scale-down delay counts", func(t *testing.T) {
		p := kpaPolicy(t, 10, func(k *appspec.KPA) {
			k.ScaleDownDelay, k.StableWindow, k.PanicThresholdPercentage = appspec.Duration(time.Minute), appspec.Duration(6*time.Second), 1000
		})
		got, end := run(p, 120, 1, []Step{Level(epoch().Add(-time.Hour), 80), level(20, 10)}, State{Started: true})
		if got[0] != 8 || got[79] != 8 || got[90] != 1 {
			t.Errorf("%v", got)
		}
		if len(end.Recent) > 8 {
			t.Errorf("it remembers %d", len(end.Recent))
		}
	})
	t.Run("activation scale is the least of any load", func(t *testing.T) {
		p := kpaPolicy(t, 10, func(k *appspec.KPA) { k.ActivationScale = 3 })
		got, _ := run(p, 5, 0, always(1), State{Started: true})
		if got[4] != 3 {
			t.Errorf("%v", got)
		}
		if got, _ = run(p, 5, 0, always(0), State{Started: true}); got[4] != 0 {
			t.Errorf("without load %v", got)
		}
	})
}
