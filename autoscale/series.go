package autoscale

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Series is the load of one deployment over time, of all proxies together, as
// steps: each holds until the next begins, the last one until now. It is never
// changed once it is handed out. No number that comes out of it is infinite or
// not a number.
type Series struct {
	base   time.Time // what the other times count from, in ns
	first  int64     // before it the load is not known
	seen   int64     // what is asked of a moment before is answered for this one: the clock was set back
	tracks []track   // the load is their sum
}

// Step is the load from a moment on. Of a load that is only known by intervals
// the mean, the largest and the smallest are of the interval; else all three
// are the same.
type Step struct {
	At             time.Time
	Mean, Max, Min float64
}

// What Over does with the load within a window; anything else is a mean.
const (
	aggregateMax = "max"
	aggregateMin = "min"
)

const (
	// leastHold is how long at least the last step counts, as in Ray: one that
	// begins now would have no weight otherwise.
	leastHold = int64(time.Millisecond)
	// mostLoad is what a step is cut to, so that sums and areas stay finite.
	mostLoad = 1e18
)

// NewSeries returns the series of steps, which are in order of time; nothing is
// known before the first. A step that is not a number is left out, and one
// below 0 is 0.
func NewSeries(steps ...Step) *Series {
	s := &Series{seen: -forever}
	if len(steps) == 0 {
		return s
	}
	s.base = steps[0].At
	spans := make([]span, 0, len(steps))
	for i := range steps {
		step := &steps[i]
		if sum := step.Mean + step.Max + step.Min; math.IsNaN(sum) || math.IsInf(sum, 0) {
			continue
		}
		spans = append(spans, span{s.offset(step.At), clipLoad(step.Mean), clipLoad(step.Max), clipLoad(step.Min)})
	}
	if len(spans) == 0 {
		return s
	}
	earlier := func(a, b span) int { return cmp.Compare(a.at, b.at) }
	if !slices.IsSortedFunc(spans, earlier) {
		slices.SortStableFunc(spans, earlier)
	}
	spans = slices.CompactFunc(spans, func(a, b span) bool {
		return a.mean == b.mean && a.max == b.max && a.min == b.min
	})
	tail := spans[len(spans)-1]
	return seriesOf(s.base, spans[:len(spans)-1], tail)
}

// seriesOf returns the series of spans that nobody changes any more; tail is the
// last of them.
func seriesOf(base time.Time, points []span, tail span) *Series {
	first := tail.at
	if len(points) > 0 {
		first = points[0].at
	}
	return &Series{
		base: base, first: first, seen: -forever,
		tracks: []track{{points: points, last: span{at: tail.at}, tail: tail, until: forever}},
	}
}

// Level is a step whose load is known exactly.
func Level(at time.Time, value float64) Step {
	return Step{At: at, Mean: value, Max: value, Min: value}
}

// Merge returns the sum of series. Before its first step a series counts
// nothing. Ray goes on to leave out what was before the latest of the first
// steps; here that is for the Ledger to say, which can tell a load that is not
// known from one that was not there. Nor are times rounded to 10 ms as in Ray:
// a mean would not be the mean of the parts any more.
func Merge(series ...*Series) *Series {
	if len(series) == 0 {
		return NewSeries()
	}
	sum := &Series{base: series[0].base, first: forever, seen: -forever}
	for _, s := range series {
		if len(s.tracks) == 0 {
			continue
		}
		shift := sum.offset(s.base)
		sum.first = min(sum.first, s.first+shift)
		sum.seen = max(sum.seen, s.seen+shift)
		for _, t := range s.tracks {
			t.points = slices.Clone(t.points)
			for i := range t.points {
				t.points[i].at += shift
			}
			t.last.at += shift
			t.tail.at += shift
			t.until = min(t.until+shift, forever)
			sum.tracks = append(sum.tracks, t)
		}
	}
	if len(sum.tracks) == 0 {
		return NewSeries()
	}
	return sum
}

// First returns the moment from which on the load is known. What was before
// counts in no window.
func (s *Series) First() time.Time { return s.base.Add(time.Duration(s.first)) }

// Since returns how much of the past is known: from First to now.
func (s *Series) Since(now time.Time) time.Duration {
	return time.Duration(s.moment(now) - s.first)
}

// Present returns the value of the last step.
func (s *Series) Present() float64 {
	sum := 0.0
	for i := range s.tracks {
		if t := &s.tracks[i]; s.seen < t.until {
			sum += t.tail.mean
		}
	}
	return tidy(sum)
}

// Over returns the load within the window that ends now: its mean weighted by
// time, or its "max" or "min". The window begins at First if that is later, so
// it may be covered in part only; the step that holds now counts until now and
// for 1 ms at least; steps after now do not count. With no window it is the
// load now.
//
// Of steps with a mean, a largest and a smallest, each aggregation takes its
// own; of one that the window begins within, the largest counts whole.
func (s *Series) Over(now time.Time, window time.Duration, aggregation string) float64 {
	at := s.moment(now)
	if window <= 0 {
		return s.mean(at, at)
	}
	from := max(at-clip(window), s.first)
	to := max(at, s.begun(at)+leastHold, from+1)
	if aggregation != aggregateMax && aggregation != aggregateMin {
		return s.mean(from, to)
	}
	most, least := 0.0, math.Inf(1)
	walk(s.tracks, from, to, func(_, _ int64, sum span) {
		most, least = max(most, sum.max), min(least, sum.min)
	})
	if aggregation == aggregateMax {
		return tidy(most)
	}
	return tidy(least)
}

// Mean returns the mean between two moments, weighted by time, of what is at
// First or after it. It is the load at the first of the two if nothing is.
func (s *Series) Mean(from, to time.Time) float64 {
	return s.mean(max(s.offset(from), s.first), s.offset(to))
}

// Each visits the load between two moments, from First on, as the fewest steps:
// each is cut to what is between the two, and the next is another load.
func (s *Series) Each(from, to time.Time, visit func(step Step, lasts time.Duration)) {
	start, end := max(s.offset(from), s.first), s.offset(to)
	pending := Step{At: s.base.Add(time.Duration(start))}
	begun := start
	walk(s.tracks, start, end, func(at, _ int64, sum span) {
		next := Step{pending.At, tidy(sum.mean), tidy(sum.max), tidy(sum.min)}
		if next == pending {
			return
		}
		if begun < at {
			visit(pending, time.Duration(at-begun))
		}
		next.At = s.base.Add(time.Duration(at))
		pending, begun = next, at
	})
	if begun < end {
		visit(pending, time.Duration(end-begun))
	}
}

// mean is the mean over [from, to), or the load at from if that is empty.
func (s *Series) mean(from, to int64) float64 {
	to = max(to, from+1)
	sum := 0.0
	for i := range s.tracks {
		sum += s.tracks[i].area(from, to)
	}
	return tidy(sum / float64(to-from))
}

// begun returns when the step that holds at a moment began.
func (s *Series) begun(at int64) int64 {
	latest := int64(-forever)
	for i := range s.tracks {
		t := &s.tracks[i]
		holds, _ := t.segment(t.find(at))
		latest = max(latest, holds.at)
	}
	return latest
}

// moment is a time as the series counts it, but none of which nothing is known.
func (s *Series) moment(at time.Time) int64 {
	return max(s.offset(at), s.first, s.seen)
}

// offset is a time as the series counts it.
func (s *Series) offset(at time.Time) int64 { return clip(at.Sub(s.base)) }

// clip cuts a duration to what can be added up.
func clip(d time.Duration) int64 { return max(-forever, min(int64(d), forever)) }

func clipLoad(value float64) float64 { return max(0, min(value, mostLoad)) }

// tidy takes away what sums of fractions leave behind: 2.0000000000000004
// requests would be one replica more than 2. A value is kept to a billionth of
// a request; large ones have no such digits.
func tidy(value float64) float64 {
	const digits, large = 1e9, 1e6
	if value >= large {
		return value
	}
	return math.Round(value*digits) / digits
}
