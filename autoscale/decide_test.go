package autoscale

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func epoch() time.Time { return time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC) } // a Monday

// block returns Ray's defaults with wide bounds, no delays and the present
// value, changed by each of changes.
func block(changes ...func(*appspec.Autoscaling)) *appspec.Autoscaling {
	b := &appspec.Autoscaling{
		Policy: "ray", MinReplicas: 0, MaxReplicas: 1000, TargetOngoingRequests: 1,
		UpscalingFactor: 1, DownscalingFactor: 1, Aggregation: "mean",
		MetricsInterval: appspec.Duration(time.Second),
	}
	for _, change := range changes {
		change(b)
	}
	return b
}

func compile(tb testing.TB, b *appspec.Autoscaling) *Policy {
	tb.Helper()
	p, err := Compile(b)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// constant is a load that has been the same for an hour.
func constant(q float64) *Series { return NewSeries(Level(epoch().Add(-time.Hour), q)) }

// TestRayCases is cases of Ray Serve's own unit tests, each a single step from a
// fresh state.
func TestRayCases(t *testing.T) {
	up, down := func(f float64) func(*appspec.Autoscaling) {
		return func(b *appspec.Autoscaling) { b.UpscalingFactor = f }
	},
		func(f float64) func(*appspec.Autoscaling) {
			return func(b *appspec.Autoscaling) { b.DownscalingFactor = f }
		}
	delays := func(upscale, downscale time.Duration) func(*appspec.Autoscaling) {
		return func(b *appspec.Autoscaling) {
			b.UpscaleDelay, b.DownscaleDelay = appspec.Duration(upscale), appspec.Duration(downscale)
			b.DownscaleToZeroDelay = b.DownscaleDelay
		}
	}
	half := 30 * time.Second
	for _, c := range []struct {
		name            string
		load            float64
		running, target int
		each            float64
		change          func(*appspec.Autoscaling)
		want            int
	}{
		{"at the target", 20, 4, 4, 5, nil, 4},
		{"five times the load", 100, 4, 4, 5, nil, 20},
		{"half the load", 10, 4, 4, 5, nil, 2},
		{"half of the way up", 20, 10, 10, 1, up(0.5), 15},
		{"half of the way down", 5, 20, 20, 1, down(0.5), 13},
		{"never stuck", 0.6, 2, 2, 1, down(0.5), 1},
		{"a delay up", 100, 1, 1, 50, delays(half, 0), 1},
		{"no delay up", 100, 1, 1, 50, delays(0, half), 2},
		{"a delay down", 40, 2, 2, 50, delays(0, half), 2},
		{"no delay down", 40, 2, 2, 50, delays(half, 0), 1},
		{"cold start orders one", 100, 0, 0, 2, delays(half, half), 1},
		{"cold start orders as much as the factor says", 100, 0, 0, 2, up(2.5), 3},
		{"cold start takes nothing back", 100, 0, 7, 2, delays(half, half), 7},
		{"nothing runs and nothing is asked for", 0, 0, 3, 2, nil, 3},
		{"to zero over one", 0, 5, 5, 2, nil, 1},
		{"from one to zero", 0, 1, 1, 2, nil, 0},
		{"what starts already is not ordered twice", 20, 2, 10, 2, nil, 10},
		{"the factor is of what runs", 40, 2, 10, 2, up(0.5), 11},
		{"rounding does not add a replica", 0.7, 7, 7, 0.1, nil, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := block()
			b.TargetOngoingRequests = c.each
			if c.change != nil {
				c.change(b)
			}
			in := Input{Now: epoch(), Running: c.running, Target: c.target, Load: constant(c.load)}
			got, _ := compile(t, b).Decide(in, State{})
			if got.Target != c.want {
				t.Errorf("%d, want %d: %s", got.Target, c.want, got.Reason)
			}
			if got.Target != c.target && got.Reason == "" {
				t.Error("a change without a reason")
			}
		})
	}
}

// TestDelays is Ray's timed cases: delays are of the clock, whatever the tick.
func TestDelays(t *testing.T) {
	for _, c := range []struct {
		name   string
		target int
		load   float64
		want   int
		at     time.Duration
	}{
		{"up", 1, 2, 2, 30 * time.Second},
		{"down", 2, 0, 1, 600 * time.Second},
		{"down from many", 8, 3, 3, 600 * time.Second},
		{"to zero", 1, 0, 0, 900 * time.Second},
	} {
		for _, tick := range []time.Duration{100 * time.Millisecond, time.Second, 7 * time.Second} {
			t.Run(c.name+" every "+tick.String(), func(t *testing.T) {
				p := compile(t, block(func(b *appspec.Autoscaling) {
					b.UpscaleDelay, b.DownscaleDelay, b.DownscaleToZeroDelay = appspec.Duration(30*time.Second), appspec.Duration(600*time.Second), appspec.Duration(900*time.Second)
				}))
				state := State{}
				for at := time.Duration(0); ; at += tick {
					var d Decision
					d, state = p.Decide(Input{Now: epoch().Add(at), Running: c.target, Target: c.target, Load: constant(c.load)}, state)
					if at < c.at && d.Target != c.target {
						t.Fatalf("%d after %s: %s", d.Target, at, d.Reason)
					}
					if at >= c.at {
						if d.Target != c.want {
							t.Fatalf("%d after %s, want %d", d.Target, at, c.want)
						}
						return
					}
				}
			})
		}
	}
	t.Run("it goes on while no replica runs, as in Ray", func(t *testing.T) {
		p := compile(t, block(func(b *appspec.Autoscaling) { b.DownscaleDelay = appspec.Duration(10 * time.Second) }))
		state := State{}
		for at := time.Duration(0); at <= 10*time.Second; at += time.Second {
			running, want := 4, 4
			if at == 5*time.Second {
				running = 0
			}
			if at == 10*time.Second {
				want = 1
			}
			var d Decision
			d, state = p.Decide(Input{Now: epoch().Add(at), Running: running, Target: 4, Load: constant(0)}, state)
			if d.Target != want {
				t.Errorf("%d after %s, want %d", d.Target, at, want)
			}
		}
	})
	t.Run("a turn of the load begins the delay anew", func(t *testing.T) {
		p := compile(t, block(func(b *appspec.Autoscaling) { b.UpscaleDelay = appspec.Duration(30 * time.Second) }))
		state := State{}
		step := func(at time.Duration, load float64) int {
			var d Decision
			d, state = p.Decide(Input{Now: epoch().Add(at), Running: 2, Target: 2, Load: constant(load)}, state)
			return d.Target
		}
		for _, s := range []struct {
			at   time.Duration
			load float64
			want int
		}{{0, 4, 2}, {29 * time.Second, 2, 2}, {30 * time.Second, 4, 2}, {59 * time.Second, 5, 2}, {60 * time.Second, 6, 6}} {
			if got := step(s.at, s.load); got != s.want {
				t.Errorf("at %s: %d, want %d", s.at, got, s.want)
			}
		}
	})
}

func TestNotKnownIsNotNone(t *testing.T) {
	p := compile(t, block(func(b *appspec.Autoscaling) { b.MinReplicas = 1 }))
	for name, in := range map[string]Input{
		"no report":                 {Running: 5, Target: 5},
		"a silent proxy":            {Running: 5, Target: 5, Load: constant(0), Hold: "proxy a is silent"},
		"no report, nothing runs":   {Running: 0, Target: 5},
		"a silent proxy, and twice": {Running: 5, Target: 5, Load: constant(0), Hold: "proxy a is silent"},
	} {
		in.Now, in.Explain = epoch(), true
		got, _ := p.Decide(in, State{})
		if got.Target != 5 {
			t.Errorf("%s: %d: %s", name, got.Target, got.Reason)
		}
		if in.Hold != "" && !strings.Contains(got.Reason, in.Hold) {
			t.Errorf("%s: the reason does not say so: %s", name, got.Reason)
		}
	}
	t.Run("more is ordered all the same", func(t *testing.T) {
		if got, _ := p.Decide(Input{Now: epoch(), Running: 5, Target: 5, Load: constant(9), Hold: "proxy a is silent"}, State{}); got.Target != 9 {
			t.Errorf("%d: %s", got.Target, got.Reason)
		}
	})
	t.Run("the bounds hold all the same", func(t *testing.T) {
		if got, _ := p.Decide(Input{Now: epoch(), Running: 0, Target: 0, Hold: "x"}, State{}); got.Target != 1 {
			t.Errorf("%d: %s", got.Target, got.Reason)
		}
		if got, _ := p.Decide(Input{Now: epoch(), Running: 2000, Target: 2000, Hold: "x"}, State{}); got.Target != 1000 {
			t.Errorf("%d: %s", got.Target, got.Reason)
		}
	})
	t.Run("evidence that breaks off begins the delay anew", func(t *testing.T) {
		p := compile(t, block(func(b *appspec.Autoscaling) { b.DownscaleDelay = appspec.Duration(time.Minute) }))
		state := State{}
		for at, load := range []*Series{constant(2), nil, constant(2), constant(2)} {
			var d Decision
			d, state = p.Decide(Input{Now: epoch().Add(time.Duration(at) * 40 * time.Second), Running: 5, Target: 5, Load: load}, state)
			if d.Target != 5 {
				t.Errorf("at %d: %d", at, d.Target)
			}
		}
	})
}

func TestNoise(t *testing.T) {
	for _, policy := range []string{"ray", "kpa"} {
		p := compile(t, block(func(b *appspec.Autoscaling) { b.Policy, b.TargetOngoingRequests = policy, 2 }))
		for load, want := range map[float64]int{6: 3, 6.004: 3, 6.1: 4, 5.996: 3, 0.001: 1} {
			got, _ := p.Decide(Input{Now: epoch(), Running: 1, Target: 1, Load: constant(load), Noise: 0.001}, State{Started: true})
			if got.Target != want {
				t.Errorf("%s: %d for %g, want %d", policy, got.Target, load, want)
			}
		}
		if got, _ := p.Decide(Input{Now: epoch(), Running: 1, Target: 1, Load: constant(6.004)}, State{Started: true}); got.Target != 4 {
			t.Errorf("%s: an exact load of 6.004 wants %d", policy, got.Target)
		}
	}
}

func TestMetric(t *testing.T) {
	with := func(combine string) *Policy {
		return compile(t, block(func(b *appspec.Autoscaling) {
			b.Metric = &appspec.Metric{Source: "prometheus", Target: 10, Combine: combine, Interval: appspec.Duration(5 * time.Second)}
		}))
	}
	at := func(ago time.Duration, value float64) *Reading { return &Reading{At: epoch().Add(-ago), Value: value} }
	broken := &Reading{At: epoch(), Err: "connection refused"}
	for _, c := range []struct {
		name    string
		combine string
		running int
		load    *Series
		metric  *Reading
		want    int
	}{
		{"replaces the requests", "replace", 4, constant(40), at(0, 80), 8},
		{"is not read yet", "replace", 4, constant(40), nil, 4},
		{"fails", "replace", 4, constant(40), broken, 4},
		{"is old", "replace", 4, constant(40), at(16*time.Second, 80), 4},
		{"is nothing", "replace", 4, constant(40), at(0, 0), 1},
		{"brings the first replica", "replace", 0, constant(0), at(0, 80), 4},
		{"fails, but somebody waits", "replace", 0, constant(1), broken, 4},
		{"is not a number", "replace", 4, constant(40), at(0, math.NaN()), 4},
		{"has no end", "replace", 4, constant(40), at(0, math.Inf(1)), 4},
		{"is below nothing", "replace", 4, constant(40), at(0, -1), 4},
		{"is 1e18", "replace", 4, constant(40), at(0, 1e18), 4},
		{"is 1e18, and nothing runs", "replace", 0, constant(0), at(0, 1e18), 4},
		{"is the larger", "max", 4, constant(5), at(0, 80), 8},
		{"is the smaller", "max", 4, constant(9), at(0, 80), 9},
		{"fails, and requests may add", "max", 4, constant(9), broken, 9},
		{"fails, and requests may not take away", "max", 4, constant(2), broken, 4},
		{"may add although no proxy reports", "max", 4, nil, at(0, 80), 8},
		{"may not take away when no proxy reports", "max", 4, nil, at(0, 20), 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := with(c.combine).Decide(Input{Now: epoch(), Running: c.running, Target: 4, Load: c.load, Metric: c.metric, Explain: true}, State{})
			if got.Target != c.want {
				t.Errorf("%d, want %d: %s", got.Target, c.want, got.Reason)
			}
			if c.metric == broken && c.running > 0 && c.want == 4 && !strings.Contains(got.Reason, "connection refused") {
				t.Errorf("the reason does not say what failed: %s", got.Reason)
			}
		})
	}
}

func TestExternal(t *testing.T) {
	p := compile(t, block(func(b *appspec.Autoscaling) { b.Policy, b.MinReplicas, b.MaxReplicas = "external", 2, 5 }))
	for target, want := range map[int]int{0: 2, 3: 3, 9: 5} {
		if got, _ := p.Decide(Input{Now: epoch(), Running: target, Target: target, Load: constant(100)}, State{}); got.Target != want {
			t.Errorf("from %d to %d, want %d", target, got.Target, want)
		}
	}
}

func TestSchedules(t *testing.T) {
	office := &appspec.Schedule{
		Name: "office", Cron: "0 8 * * MON-FRI", Duration: appspec.Duration(10 * time.Hour), Timezone: "Europe/Berlin",
		MinReplicas: new(4), MaxReplicas: new(40),
	}
	lunch := &appspec.Schedule{Name: "lunch", Cron: "30 11 * * *", Duration: appspec.Duration(2 * time.Hour), Timezone: "Europe/Berlin", MinReplicas: new(6), MaxReplicas: new(12)}
	p := compile(t, block(func(b *appspec.Autoscaling) {
		b.MinReplicas, b.MaxReplicas, b.Schedules = 1, 20, []*appspec.Schedule{office, lunch}
	}))
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at          string
		least, most int
	}{
		{"2026-01-05 07:59:59", 1, 20},
		{"2026-01-05 08:00:00", 4, 40},
		{"2026-01-05 11:29:59", 4, 40},
		{"2026-01-05 11:30:00", 6, 40}, // the largest floor and the largest ceiling
		{"2026-01-05 13:30:00", 4, 40},
		{"2026-01-05 17:59:59", 4, 40},
		{"2026-01-05 18:00:00", 1, 20},
		{"2026-01-10 12:00:00", 6, 12}, // Saturday: lunch alone, with a lower ceiling
		{"2026-07-06 08:00:00", 4, 40}, // the zone's own summer time
		{"2026-03-29 12:00:00", 6, 12}, // the day on which it begins
	} {
		at, err := time.ParseInLocation(time.DateTime, c.at, berlin)
		if err != nil {
			t.Fatal(err)
		}
		if least, most := p.Bounds(at.UTC()); least != c.least || most != c.most {
			t.Errorf("%s: %d..%d, want %d..%d", c.at, least, most, c.least, c.most)
		}
	}
	t.Run("a day without a midnight has its schedule", func(t *testing.T) {
		p := compile(t, block(func(b *appspec.Autoscaling) {
			b.Schedules = []*appspec.Schedule{{Name: "market", Cron: "0 8 * * FRI", Duration: appspec.Duration(time.Hour), Timezone: "Africa/Cairo", MinReplicas: new(3)}}
		}))
		cairo, err := time.LoadLocation("Africa/Cairo")
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[time.Time]int{
			time.Date(2026, 4, 24, 7, 59, 0, 0, cairo): 0,
			time.Date(2026, 4, 24, 8, 30, 0, 0, cairo): 3,
			time.Date(2026, 4, 24, 9, 0, 0, 0, cairo):  0,
			time.Date(2026, 4, 17, 8, 0, 0, 0, cairo):  3,
		} {
			if least, _ := p.Bounds(at); least != want {
				t.Errorf("%s: a floor of %d, want %d", at, least, want)
			}
		}
	})
	t.Run("a schedule in the hour that is there twice, or not at all", func(t *testing.T) {
		p := compile(t, block(func(b *appspec.Autoscaling) {
			b.Schedules = []*appspec.Schedule{{Name: "night", Cron: "30 2 * * *", Duration: appspec.Duration(30 * time.Minute), Timezone: "Europe/Berlin", MinReplicas: new(3)}}
		}))
		for _, day := range []string{"2026-03-28", "2026-03-29", "2026-10-25", "2026-10-26"} {
			from, err := time.ParseInLocation(time.DateOnly, day, berlin)
			if err != nil {
				t.Fatal(err)
			}
			minutes := 0
			for m := range 25 * 60 {
				if least, _ := p.Bounds(from.Add(time.Duration(m) * time.Minute)); least == 3 {
					minutes++
				}
			}
			if minutes != 30 {
				t.Errorf("%s: in force for %d minutes", day, minutes)
			}
		}
	})
	t.Run("acts at once, and says so", func(t *testing.T) {
		at, _ := time.ParseInLocation(time.DateTime, "2026-01-05 11:30:00", berlin)
		got, _ := p.Decide(Input{Now: at, Running: 1, Target: 1, Load: NewSeries(Level(at, 0))}, State{})
		if got.Target != 6 || !strings.Contains(got.Reason, "lunch") {
			t.Errorf("%d: %s", got.Target, got.Reason)
		}
	})
}

func TestForecast(t *testing.T) {
	p := compile(t, block(func(b *appspec.Autoscaling) {
		b.Forecast = &appspec.Forecast{Window: appspec.Duration(5 * time.Minute), Horizon: appspec.Duration(20 * time.Second)}
		b.LookBackPeriod = appspec.Duration(30 * time.Second)
		b.DownscaleDelay = appspec.Duration(10 * time.Minute)
	}))
	series := func(f func(second int) float64) *Series {
		var steps []Step
		for s := range 300 {
			steps = append(steps, Level(epoch().Add(time.Duration(s-300)*time.Second), f(s)))
		}
		return NewSeries(steps...)
	}
	ramp := func(s int) float64 { return float64(s) / 10 }
	for _, c := range []struct {
		name  string
		load  func(int) float64
		start time.Duration
		want  int
	}{
		{"a ramp is met where it will be", ramp, 0, 32},
		{"as far ahead as a replica takes to start", ramp, 60 * time.Second, 36},
		{"never beyond twice what has been seen", ramp, time.Hour, 60},
		{"a constant load has no trend", func(int) float64 { return 7 }, 0, 7},
		{"nor has one that falls", func(s int) float64 { return 30 - ramp(s) }, 0, 2},
		{"nor has noise", func(s int) float64 { return 10 + float64((s*7919)%13)/13 }, 0, 11},
		{"nor has nothing", func(int) float64 { return 0 }, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Now: epoch(), Running: 1, Target: 1, Load: series(c.load), StartTime: c.start}
			got, _ := p.Decide(in, State{})
			if got.Target != c.want {
				t.Errorf("%d, want %d: %s", got.Target, c.want, got.Reason)
			}
		})
	}
}

// TestDesiredCanBeTold holds that JSON can say what the load wants, however
// small the target.
func TestDesiredCanBeTold(t *testing.T) {
	for _, running := range []int{0, 3} {
		p := compile(t, block(func(b *appspec.Autoscaling) { b.TargetOngoingRequests = math.SmallestNonzeroFloat64 }))
		got, _ := p.Decide(Input{Now: epoch(), Running: running, Target: 3, Load: constant(1e9)}, State{})
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("with %d running: %v", running, err)
		}
	}
}
