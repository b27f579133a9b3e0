package autoscale

import "time"

// given is the traffic of a trace that says how many requests there are.
type given struct {
	base  time.Time
	spans []span
	now   time.Duration
	next  int // span that has not begun yet
}

func newGiven(trace *Trace, start time.Time) *given {
	g := &given{base: start, next: 1}
	if trace.lines[0].At > 0 {
		g.spans = append(g.spans, level(0, 0)) // no load before the first line
	}
	for i := range trace.lines {
		g.spans = append(g.spans, level(trace.lines[i].At, trace.lines[i].Requests))
	}
	return g
}

// level is a span whose load is known exactly.
func level(at time.Duration, load float64) span {
	return span{at: int64(at), mean: load, max: load, min: load}
}

func (g *given) present() float64 { return g.spans[g.next-1].mean }

func (g *given) series() *Series { return seriesOf(g.base, g.spans[:g.next-1], g.spans[g.next-1]) }

func (g *given) pass(to time.Duration, _ int, stretch func(time.Duration, float64)) {
	for g.now < to {
		end := to
		if g.next < len(g.spans) {
			end = min(end, time.Duration(g.spans[g.next].at))
		}
		stretch(end-g.now, g.present())
		g.now = end
		if g.next < len(g.spans) && time.Duration(g.spans[g.next].at) == end {
			g.next++
		}
	}
}

// reports is a simulated load as the leader would hear of it: the mean of each
// metrics_interval when that is over, and at once when more requests wait than
// the last report said.
type reports struct {
	base     time.Time
	interval time.Duration
	window   time.Duration
	points   []span // of each interval
	tail     span   // the load as last reported
	queued   int    // as last reported

	// Since the last report.
	now         time.Duration
	integral    float64
	least, most float64
}

func newReports(base time.Time, interval, window time.Duration) reports {
	const shortest = 100 * time.Millisecond // as appspec has it
	return reports{base: base, interval: max(interval, shortest), window: window}
}

// pass adds a stretch of constant load.
func (r *reports) pass(to time.Duration, load float64, queued int) {
	for r.now < to {
		due := time.Duration(r.tail.at) + r.interval
		next := min(to, due)
		if int64(r.now) == r.tail.at {
			r.least, r.most = load, load
		}
		r.least, r.most = min(r.least, load), max(r.most, load)
		r.integral += load * (next - r.now).Seconds()
		r.now = next
		if next == due {
			r.report(load, queued)
		}
	}
}

// report turns what was since the last report into a span.
func (r *reports) report(load float64, queued int) {
	if since := r.now - time.Duration(r.tail.at); since > 0 {
		mean := r.integral / since.Seconds()
		r.points = append(r.points, span{at: r.tail.at, mean: mean, max: r.most, min: r.least})
	}
	r.tail, r.integral, r.queued = level(r.now, load), 0, queued
	for len(r.points) > 1 && r.points[1].at <= int64(r.now-r.window) {
		r.points = r.points[1:]
	}
}

func (r *reports) series(load float64, queued int) *Series {
	if queued > r.queued {
		r.report(load, queued)
	}
	return seriesOf(r.base, r.points, r.tail)
}
