package autoscale

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// anyBlock draws a block that appspec lets through.
func anyBlock(t *rapid.T) *appspec.Autoscaling {
	seconds := func(name string, most int) appspec.Duration {
		return appspec.Duration(time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Second)
	}
	least := rapid.IntRange(0, 20).Draw(t, "min")
	b := &appspec.Autoscaling{
		Policy:      rapid.SampledFrom([]string{"ray", "kpa", "external"}).Draw(t, "policy"),
		MinReplicas: least, MaxReplicas: max(1, least+rapid.IntRange(0, 50).Draw(t, "more")),
		TargetOngoingRequests: rapid.Float64Range(0.1, 50).Draw(t, "target"),
		UpscaleDelay:          seconds("up", 60), DownscaleDelay: seconds("down", 60), DownscaleToZeroDelay: seconds("zero", 60),
		UpscalingFactor: rapid.Float64Range(0.1, 3).Draw(t, "up factor"), DownscalingFactor: rapid.Float64Range(0.1, 3).Draw(t, "down factor"),
		LookBackPeriod: seconds("look back", 60), MetricsInterval: appspec.Duration(time.Second),
		Aggregation: rapid.SampledFrom([]string{"mean", "max", "min"}).Draw(t, "aggregation"),
	}
	if b.Policy == "kpa" {
		b.KPA = &appspec.KPA{
			StableWindow: max(appspec.Duration(6*time.Second), seconds("stable", 120)), PanicWindowPercentage: rapid.Float64Range(1, 100).Draw(t, "panic"),
			PanicThresholdPercentage: rapid.Float64Range(110, 1000).Draw(t, "threshold"), TargetUtilization: rapid.Float64Range(0.1, 1).Draw(t, "utilization"),
			MaxScaleUpRate: rapid.Float64Range(1.1, 1000).Draw(t, "rate up"), MaxScaleDownRate: rapid.Float64Range(1.1, 10).Draw(t, "rate down"),
			ScaleDownDelay: seconds("scale down", 60), ActivationScale: rapid.IntRange(1, 5).Draw(t, "activation"), ScaleToZeroRetention: seconds("retention", 60),
		}
	}
	if rapid.Bool().Draw(t, "forecasts") && b.Policy != "external" {
		b.Forecast = &appspec.Forecast{Window: appspec.Duration(time.Minute), Horizon: seconds("horizon", 60)}
	}
	if rapid.Bool().Draw(t, "scheduled") {
		s := &appspec.Schedule{Name: "s", Cron: "*/2 * * * *", Duration: appspec.Duration(time.Minute), Timezone: "UTC"}
		s.MinReplicas = new(rapid.IntRange(0, b.MaxReplicas).Draw(t, "schedule min"))
		s.MaxReplicas = new(max(*s.MinReplicas, rapid.IntRange(1, 100).Draw(t, "schedule max")))
		b.Schedules = append(b.Schedules, s)
	}
	return b
}

// loadOf makes a series of a second a step, up to now.
func loadOf(now time.Time, values ...float64) *Series {
	var steps []Step
	for i, v := range values {
		steps = append(steps, Level(now.Add(time.Duration(i-len(values)+1)*time.Second), v))
	}
	return NewSeries(steps...)
}

func anyLoad(t *rapid.T, name string) float64 {
	return rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0, 300), rapid.Float64Range(0, 1e9)).Draw(t, name)
}

// TestLawBounds holds that whatever comes in, what comes out is within the
// bounds of the time, has a reason when it is a change, is the same when it is
// explained, and leaves what came in alone.
func TestLawBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := Compile(anyBlock(t))
		if err != nil {
			t.Fatal(err)
		}
		state, now := State{}, epoch()
		var values []float64
		for range rapid.IntRange(1, 40).Draw(t, "ticks") {
			now = now.Add(time.Duration(rapid.IntRange(-2, 70).Draw(t, "tick")) * time.Second)
			values = append(values, anyLoad(t, "load"))
			in := Input{
				Now: now, Running: rapid.IntRange(-1, 200).Draw(t, "running"), Target: rapid.IntRange(-1, 200).Draw(t, "target"),
				StartTime: time.Duration(rapid.IntRange(0, 600).Draw(t, "start")) * time.Second,
				Hold:      rapid.SampledFrom([]string{"", "a proxy is silent"}).Draw(t, "hold"),
			}
			if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
				in.Load = loadOf(now, values...)
			}
			before := asJSON(t, state)
			got, next := p.Decide(in, state)
			if least, most := p.Bounds(now); got.Target < least || got.Target > most {
				t.Fatalf("%d is not within %d..%d", got.Target, least, most)
			}
			if got.Target != max(0, in.Target) && got.Reason == "" {
				t.Fatalf("%d -> %d without a reason", in.Target, got.Target)
			}
			if math.IsNaN(got.Desired) || math.IsInf(got.Desired, 0) || got.Desired < 0 {
				t.Fatalf("it desires %g", got.Desired)
			}
			if after := asJSON(t, state); after != before {
				t.Fatalf("the state that came in was changed\n%s\n%s", before, after)
			}
			in.Explain = true
			told, nextTold := p.Decide(in, state)
			if told.Target != got.Target || asJSON(t, next) != asJSON(t, nextTold) {
				t.Fatalf("%d, and explained %d", got.Target, told.Target)
			}
			if len(told.Rules) == 0 || told.Reason == "" {
				t.Fatal("nothing is explained")
			}
			state = next
		}
	})
}

func asJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLawMonotone holds that more load never means fewer replicas, all else
// being equal.
func TestLawMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBlock(t)
		b.Forecast = nil // a trend is no matter of more or less
		p, err := Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		var less, more []float64
		for range rapid.IntRange(1, 90).Draw(t, "seconds") {
			q := anyLoad(t, "load")
			less = append(less, q)
			more = append(more, q*rapid.Float64Range(1, 3).Draw(t, "times"))
		}
		in := Input{Now: epoch(), Running: rapid.IntRange(1, 60).Draw(t, "running"), Target: rapid.IntRange(0, 60).Draw(t, "target")}
		if b.UpscalingFactor > 1 || b.DownscalingFactor > 1 || b.UpscalingFactor != b.DownscalingFactor {
			// Two factors meet at what runs, where the way is nothing.
			in.Target = in.Running
		}
		state := State{Started: true}
		in.Load = loadOf(in.Now, less...)
		a, _ := p.Decide(in, state)
		in.Load = loadOf(in.Now, more...)
		c, _ := p.Decide(in, state)
		if a.Target > c.Target {
			t.Fatalf("%d for less and %d for more:\n%s\n%s", a.Target, c.Target, a.Reason, c.Reason)
		}
	})
}

// TestLawFixedPoint holds that what the load wants, runs and is the target stays
// so, and that a constant load comes to such a point and leaves it no more.
// Factors above 1 are left out: they overshoot, and two of them for ever, which
// is so in Ray Serve too.
func TestLawFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBlock(t)
		b.Schedules = nil
		b.UpscalingFactor, b.DownscalingFactor = min(1, b.UpscalingFactor), min(1, b.DownscalingFactor)
		p, err := Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		q := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.01, 200)).Draw(t, "load")
		load := NewSeries(Level(epoch().Add(-time.Hour), q))
		replicas := rapid.IntRange(0, 70).Draw(t, "replicas")
		state := State{}
		last := 0
		const ticks = 7_200 // two hours of a second each
		for i := range ticks {
			var d Decision
			d, state = p.Decide(Input{Now: epoch().Add(time.Duration(i) * time.Second), Running: replicas, Target: replicas, Load: load}, state)
			if d.Target != replicas {
				last = i
			}
			replicas = d.Target
		}
		if last > ticks-600 {
			t.Fatalf("it still changes after %d s of a constant load", last)
		}
		if b.Policy == "external" {
			return
		}
		each := b.TargetOngoingRequests
		want := roundUp(q / each)
		if b.Policy == "kpa" {
			if want = roundUp(q / max(0.01, each*b.KPA.TargetUtilization)); want > 0 {
				want = max(want, b.KPA.ActivationScale)
			}
		}
		least, most := p.Bounds(epoch())
		if want = min(max(want, least), most); replicas != want {
			t.Fatalf("%d replicas for a load of %g at %g each, want %d", replicas, q, each, want)
		}
	})
}

// TestNoFlapping holds that a load that swings makes the target swing with it,
// and no more than that: one turn for each half-wave at most.
func TestNoFlapping(t *testing.T) {
	for _, policy := range []string{"ray", "kpa"} {
		for _, period := range []time.Duration{2 * time.Minute, 10 * time.Minute, time.Hour} {
			for _, delay := range []time.Duration{0, 30 * time.Second} {
				t.Run(fmt.Sprintf("%s, a wave of %s, delays %s", policy, period, delay), func(t *testing.T) {
					p := compile(t, block(func(b *appspec.Autoscaling) {
						b.Policy, b.TargetOngoingRequests = policy, 3
						b.LookBackPeriod, b.UpscaleDelay, b.DownscaleDelay = appspec.Duration(30*time.Second), appspec.Duration(delay), appspec.Duration(delay)
					}))
					const waves = 4
					turns, direction, target := 0, 0, 10
					state := State{Started: true} // a KPA that has just begun panics, whatever the load does
					var steps []Step
					for i := range int(waves * period / time.Second) {
						now := epoch().Add(time.Duration(i) * time.Second)
						steps = append(steps, Level(now, 30+25*math.Sin(2*math.Pi*float64(i)/period.Seconds())))
						if len(steps) > 120 {
							steps = steps[1:]
						}
						var d Decision
						d, state = p.Decide(Input{Now: now, Running: target, Target: target, Load: NewSeries(steps...)}, state)
						if way := d.Target - target; way != 0 {
							if way*direction < 0 {
								turns++
							}
							direction = way
						}
						target = d.Target
					}
					if turns > 2*waves {
						t.Errorf("%d turns in %d waves", turns, waves)
					}
					if turns == 0 {
						t.Error("it does not follow the load at all")
					}
				})
			}
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, policy := range []string{"ray", "kpa"} {
		b.Run(policy, func(b *testing.B) {
			p := compile(b, block(func(a *appspec.Autoscaling) {
				a.Policy, a.LookBackPeriod = policy, appspec.Duration(30*time.Second)
			}))
			values := make([]float64, 60)
			for i := range values {
				values[i] = 5
			}
			in := Input{Now: epoch(), Running: 5, Target: 5, Load: loadOf(epoch(), values...)}
			state := State{Started: true}
			b.ReportAllocs()
			for b.Loop() {
				_, state = p.Decide(in, state)
			}
		})
	}
}
