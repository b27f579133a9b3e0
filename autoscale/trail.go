package autoscale

import "slices"

const (
	// segmentsPerWindow bounds how finely a load is remembered: spans that
	// together are no longer than two parts of so many become one, with the
	// mean of both. A window that begins within it is off by no more than that.
	segmentsPerWindow = 240
	// leastSegments is how much room a trail starts with.
	leastSegments = 8
)

// followed is a deployment whose loads are kept.
type followed struct {
	window int64    // ns of history
	from   int64    // before it nothing is known of this deployment
	trails []*trail // one for each proxy that had requests of it of late
	series *Series  // of trails as they are; nil: they have changed
	fresh  int64    // until when series is right as it is
}

// trail is the load of a followed deployment at one proxy. A proxy that had no
// request within the window needs none. Between reports it ends in a level, the
// requests when the last report was made.
type trail struct {
	track
	of    *followed
	count *count // that leads here
}

// interval is what a report covers, in the ledger's time.
type interval struct {
	reported int64 // by the proxy's own measure it begins here, which may be before what is new in it
	ends     int64 // until then what the report before said still held
	from, to int64 // what is new in it
	until    int64 // when the proxy will be silent, if nothing else comes
}

// begin starts the trail of a proxy that had no request before a moment.
func (f *followed) begin(at int64, c *count) *trail {
	t := &trail{of: f, count: c}
	t.last.at, t.tail.at, t.until = at, at, forever
	f.trails = append(f.trails, t)
	c.trail = t
	return t
}

// enter adds what a report says: the load over its interval, and from its end on.
func (t *trail) enter(iv *interval, load span, present float64) {
	t.extend(iv.ends, t.tail)
	t.extend(iv.from, span{})
	load.mean = t.correct(iv, load)
	t.extend(iv.to, load)
	t.tail = span{iv.to, present, present, present}
	t.until = iv.until
	if present == 0 {
		t.until = forever // no request and nothing known are the same sum
	}
	t.of.series = nil
}

// correct returns the mean of what is new in an interval, if a part of it is
// known from the report before: that came late, or its answer was lost. The
// areas then add up as if they had come in time.
func (t *trail) correct(iv *interval, load span) float64 {
	known := max(iv.reported, t.of.from, iv.to-t.of.window)
	if known >= iv.from || iv.from >= iv.to {
		return load.mean
	}
	area := load.mean*float64(iv.to-known) - t.area(known, iv.from)
	return max(load.min, min(area/float64(iv.to-iv.from), load.max))
}

// extend lets a load hold from the end of what is known until a moment.
func (t *trail) extend(to int64, load span) {
	length, held := to-t.tail.at, t.tail.at-t.last.at
	switch {
	case length <= 0:
		return
	case held == 0:
		t.last = span{t.tail.at, load.mean, load.max, load.min}
	case load.mean == t.last.mean && load.max == t.last.max && load.min == t.last.min:
		// It goes on.
	case held+length <= 2*t.of.window/segmentsPerWindow:
		t.last.mean = (t.last.mean*float64(held) + load.mean*float64(length)) / float64(held+length)
		t.last.max = max(t.last.max, load.max)
		t.last.min = min(t.last.min, load.min)
	default:
		t.push()
		t.last = span{t.tail.at, load.mean, load.max, load.min}
	}
	t.tail.at = to
}

// push makes last a point. What ended before the window is let go of when there
// is no room, in a new array: someone may still read the old one.
func (t *trail) push() {
	if len(t.points) == cap(t.points) {
		old := t.before(t.tail.at - t.of.window)
		kept := t.points[max(0, old-1):] // the window may begin within the last of the old
		t.points = append(make([]span, 0, max(leastSegments, len(kept)+len(kept)/2)), kept...)
	}
	t.points = append(t.points, t.last)
}

// idle says whether nothing of a trail is within the window any more.
func (t *trail) idle(at int64) bool {
	end := t.tail.at
	if t.tail.mean > 0 {
		end = t.until
	}
	return end <= at-t.of.window
}

// leave ends all trails: nobody follows the deployment any more.
func (f *followed) leave() {
	for _, t := range f.trails {
		t.count.trail = nil
	}
}

// sweep lets go of trails that no window reaches.
func (f *followed) sweep(at int64) {
	before := len(f.trails)
	f.trails = slices.DeleteFunc(f.trails, func(t *trail) bool {
		idle := t.idle(at)
		if idle {
			t.count.trail = nil
		}
		return idle
	})
	if len(f.trails) != before {
		f.series = nil
	}
}

// sum returns the load at all proxies. known is from when on the ledger knows
// them all.
func (f *followed) sum(l *Ledger) *Series {
	if f.series != nil && l.latest < f.fresh {
		return f.series
	}
	s := &Series{
		base: l.since, seen: l.latest,
		first:  max(l.begin(), f.from, l.latest-f.window),
		tracks: make([]track, len(f.trails)),
	}
	f.fresh = forever
	for i, t := range f.trails {
		s.tracks[i] = t.track
		if t.until > l.latest {
			f.fresh = min(f.fresh, t.until)
		}
	}
	f.series = s
	return s
}
