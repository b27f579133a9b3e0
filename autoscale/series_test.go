package autoscale_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

// moment is so many seconds after the beginning of a series' test.
func moment(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// levels is a series of moments and values in turn.
func levels(numbers ...float64) *autoscale.Series {
	var steps []autoscale.Step
	for i := 0; i < len(numbers); i += 2 {
		steps = append(steps, autoscale.Level(moment(numbers[i]), numbers[i+1]))
	}
	return autoscale.NewSeries(steps...)
}

// piece is what Each visits, in seconds.
type piece struct{ at, lasts, mean, most, least float64 }

func pieces(s *autoscale.Series, from, to float64) []piece {
	var all []piece
	s.Each(moment(from), moment(to), func(step autoscale.Step, lasts time.Duration) {
		all = append(all, piece{step.At.Sub(moment(0)).Seconds(), lasts.Seconds(), step.Mean, step.Max, step.Min})
	})
	return all
}

func equalPieces(t *testing.T, got []piece, want ...piece) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("piece %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestMergeAsRay(t *testing.T) {
	sum := autoscale.Merge(levels(1, 5, 3, 7), levels(2, 3, 4, 1))
	equalPieces(
		t, pieces(sum, 0, 5),
		piece{1, 1, 5, 5, 5}, piece{2, 1, 8, 8, 8}, piece{3, 1, 10, 10, 10}, piece{4, 1, 8, 8, 8},
	)
	if got := sum.Present(); got != 8 {
		t.Errorf("present is %v, want 8", got)
	}
	if !sum.First().Equal(moment(1)) {
		t.Errorf("first is %v", sum.First())
	}
}

func TestMergeDropsWhatChangesNothing(t *testing.T) {
	sum := autoscale.Merge(levels(0, 5, 1, 5, 2, 4, 3, 6), levels(0, 1, 2, 2, 3, 0), levels(), autoscale.NewSeries())
	equalPieces(t, pieces(sum, 0, 4), piece{0, 4, 6, 6, 6})
}

func TestMergeOfNothing(t *testing.T) {
	for name, s := range map[string]*autoscale.Series{
		"no series": autoscale.Merge(), "empty series": autoscale.Merge(levels(), levels()), "no steps": levels(),
	} {
		if s.Present() != 0 || s.Over(moment(1), time.Second, "min") != 0 || s.Over(moment(1), 0, "mean") != 0 {
			t.Errorf("%s: a load came out", name)
		}
		s.Each(moment(0), moment(1), func(step autoscale.Step, _ time.Duration) {
			if step.Mean != 0 {
				t.Errorf("%s: %v", name, step)
			}
		})
	}
}

func TestMeanAsRay(t *testing.T) {
	s := levels(0, 5, 1, 10, 2, 15)
	if got := s.Mean(moment(0.5), moment(1.5)); got != 7.5 {
		t.Errorf("got %v, want 7.5", got)
	}
	if got := s.Over(moment(1.5), time.Second, "mean"); got != 7.5 {
		t.Errorf("over the window it is %v, want 7.5", got)
	}
}

func TestOver(t *testing.T) {
	rising := levels(0, 5, 1, 10, 2, 15)
	spans := autoscale.NewSeries(
		autoscale.Step{At: moment(0), Mean: 2, Max: 9, Min: 1},
		autoscale.Step{At: moment(10), Mean: 4, Max: 6, Min: 3},
		autoscale.Level(moment(20), 5),
	)
	for _, test := range []struct {
		name        string
		series      *autoscale.Series
		now, window float64
		aggregation string
		want        float64
	}{
		{"the last step holds until now", rising, 4, 2, "mean", 15},
		{"a window that begins within a step", rising, 2.5, 1, "mean", 12.5},
		{"a window from before the first step", rising, 2, 100, "mean", (5 + 10 + 15*0.001) / 2.001},
		{"the step that begins now counts for 1 ms", rising, 1, 1, "mean", (5 + 10*0.001) / 1.001},
		{"and for the max", rising, 2, 1, "max", 15},
		{"and for the min", levels(0, 5, 1, 1), 1, 1, "min", 1},
		{"max", rising, 2.5, 1, "max", 15},
		{"min", rising, 2.5, 1, "min", 10},
		{"min of the last step", rising, 10, 1, "min", 15},
		{"no window", rising, 1.5, 0, "mean", 10},
		{"no window, whatever the aggregation", rising, 1.5, 0, "min", 10},
		{"no window, a step begins", rising, 2, 0, "mean", 15},
		{"a window below 0", rising, 1.5, -5, "max", 10},
		{"steps after now do not count", rising, 0.5, 10, "max", 5},
		{"now before all steps", rising, -5, 10, "mean", 5},
		{"now at the first step", levels(0, 7), 0, 30, "mean", 7},
		{"what else is asked for is a mean", rising, 1.5, 1, "median", 7.5},
		{"mean of spans", spans, 20, 20, "mean", (20 + 40 + 5*0.001) / 20.001},
		{"max of a span that the window begins within", spans, 25, 16, "max", 9},
		{"max of the spans within", spans, 25, 15, "max", 6},
		{"min of spans", spans, 25, 15, "min", 3},
		{"no window, of spans", spans, 15, 0, "max", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			window := time.Duration(test.window * float64(time.Second))
			got := test.series.Over(moment(test.now), window, test.aggregation)
			if math.Abs(got-test.want) > 1e-9 {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestSince(t *testing.T) {
	s := levels(3, 1)
	if got := s.Since(moment(10)); got != 7*time.Second {
		t.Errorf("got %v, want 7s", got)
	}
	if got := s.Since(moment(0)); got != 0 {
		t.Errorf("before the first step it is %v, want 0", got)
	}
}

// TestWholeLoadsStayWhole holds that a constant load comes out as it is: a
// rounding error upwards would be one replica too many.
func TestWholeLoadsStayWhole(t *testing.T) {
	third := autoscale.NewSeries(autoscale.Level(moment(0), 2.0/3), autoscale.Level(moment(1.7), 2.0/3))
	sum := autoscale.Merge(third, third, third)
	for now := 0.0; now < 40; now += 0.1 {
		if got := sum.Over(moment(now), 30*time.Second, "mean"); got != 2 {
			t.Fatalf("at %v it is %v, want 2", now, got)
		}
	}
}

func TestSeriesTakesAnyNumber(t *testing.T) {
	s := autoscale.NewSeries(
		autoscale.Level(moment(0), math.NaN()),
		autoscale.Level(moment(1), math.Inf(1)),
		autoscale.Level(moment(2), 1e300),
		autoscale.Level(moment(3), -4),
		autoscale.Level(time.Unix(1<<40, 0), 3),
		autoscale.Level(time.Time{}, math.MaxFloat64),
	)
	for _, now := range []time.Time{{}, moment(0), moment(2.5), moment(3.5), time.Unix(1<<50, 0)} {
		for _, window := range []time.Duration{math.MinInt64, 0, 1, time.Hour, math.MaxInt64} {
			for _, aggregation := range []string{"mean", "max", "min"} {
				finite(t, s.Over(now, window, aggregation))
				finite(t, autoscale.Merge(s, s).Over(now, window, aggregation))
			}
		}
	}
	if got := s.Over(moment(3.5), 0, "mean"); got != 0 {
		t.Errorf("a load below 0 is %v, want 0", got)
	}
}

func finite(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, values ...float64,
) {
	t.Helper()
	for _, value := range values {
		if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
			t.Fatalf("%v came out", value)
		}
	}
}

func TestOverAllocatesNothing(t *testing.T) {
	s := autoscale.Merge(levels(0, 1, 1, 2, 2, 3), levels(0.5, 2, 1.5, 1), levels(1, 9))
	for _, aggregation := range []string{"mean", "max", "min"} {
		if n := testing.AllocsPerRun(100, func() { s.Over(moment(3), 2*time.Second, aggregation) }); n != 0 {
			t.Errorf("%s: %v allocations", aggregation, n)
		}
	}
}

// TestOverLaws compares Over with a sum of milliseconds.
func TestOverLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 10).Draw(t, "series")
		var all []*autoscale.Series
		var tables [][]float64
		const length = 60 // ms
		for range count {
			series, table := drawSteps(t, length)
			all, tables = append(all, series), append(tables, table)
		}
		now := rapid.IntRange(0, length-2).Draw(t, "now")
		window := rapid.IntRange(1, length).Draw(t, "window")
		s := autoscale.Merge(all...)
		first := int(s.First().Sub(moment(0)).Milliseconds())
		now = max(now, first)
		from, to := max(now-window, first), now
		mean, most, least := aggregate(tables, from, max(to, latestStep(tables, now)+1))
		at := moment(float64(now) / 1000)
		span := time.Duration(window) * time.Millisecond
		near(t, "mean", s.Over(at, span, "mean"), mean)
		near(t, "max", s.Over(at, span, "max"), most)
		near(t, "min", s.Over(at, span, "min"), least)
	})
}

// drawSteps draws a series of at least one step, and its value at each ms; NaN
// before the first.
func drawSteps(t *rapid.T, length int) (*autoscale.Series, []float64) {
	var steps []autoscale.Step
	table := make([]float64, length)
	for i := range table {
		table[i] = math.NaN()
	}
	at := rapid.IntRange(0, length/2).Draw(t, "first")
	for at < length {
		value := float64(rapid.IntRange(0, 5).Draw(t, "value"))
		steps = append(steps, autoscale.Level(moment(0).Add(time.Duration(at)*time.Millisecond), value))
		for i := at; i < length; i++ {
			table[i] = value
		}
		at += rapid.IntRange(1, length).Draw(t, "lasts")
	}
	return autoscale.NewSeries(steps...), table
}

// latestStep is the ms at which the step that holds at now began.
func latestStep(tables [][]float64, now int) int {
	for at := now; at > 0; at-- {
		for _, table := range tables {
			if a, b := table[at-1], table[at]; a != b && !math.IsNaN(b) {
				return at
			}
		}
	}
	return 0
}

func aggregate(tables [][]float64, from, to int) (mean, most, least float64) {
	least = math.Inf(1)
	for at := from; at < to; at++ {
		sum := 0.0
		for _, table := range tables {
			if !math.IsNaN(table[at]) {
				sum += table[at]
			}
		}
		mean += sum / float64(to-from)
		most, least = max(most, sum), min(least, sum)
	}
	return mean, most, least
}

func near(t *rapid.T, what string, got, want float64) {
	if math.Abs(got-want) > 1e-6 {
		t.Fatalf("%s is %v, want %v", what, got, want)
	}
}
