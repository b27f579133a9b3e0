package autoscale

import "math"

// span is the load from a moment on, which is in ns since a base that whoever
// has the span knows.
type span struct {
	at             int64
	mean, max, min float64
}

// forever is later than all moments, and its negative before them: far enough
// from the ends of int64 that a sum of two is still right.
const forever = math.MaxInt64 / 4

// track is the load of one source over time, as spans that each hold until the
// next begins. Before the first there was none. A copy of a track stays as it
// is while the track goes on: points are only ever added to, beyond the copy's
// end.
type track struct {
	points []span
	last   span  // ends where tail begins; it may be empty
	tail   span  // the latest, which holds until something else is known
	until  int64 // at the latest until here; afterwards nothing is counted
}

// segment returns one of the spans in order of time, and where it ends: -1 is
// what was before the first, len(points)+2 what is after until.
func (t *track) segment(i int) (s span, to int64) {
	n := len(t.points)
	switch {
	case i < 0:
		return span{at: -forever}, t.begin()
	case i < n-1:
		return t.points[i], t.points[i+1].at
	case i == n-1:
		return t.points[i], t.last.at
	case i == n:
		return t.last, t.tail.at
	case i == n+1:
		return t.tail, t.until
	default:
		return span{at: t.until}, math.MaxInt64
	}
}

// begin returns where the first span begins.
func (t *track) begin() int64 {
	if len(t.points) > 0 {
		return t.points[0].at
	}
	return t.last.at
}

// find returns the index of the span that holds at a moment, for segment.
func (t *track) find(at int64) int {
	n := len(t.points)
	switch {
	case at >= t.until:
		return n + 2
	case at >= t.tail.at:
		return n + 1
	case at >= t.last.at:
		return n
	}
	return t.before(at+1) - 1
}

// before returns how many of the points begin before a moment.
func (t *track) before(at int64) int {
	low, high := 0, len(t.points)
	for low < high {
		if middle := (low + high) / 2; t.points[middle].at < at {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// area returns the integral of the mean, in requests times ns. It looks at no
// more spans than there are between the two moments.
func (t *track) area(from, to int64) float64 {
	sum := t.tail.mean * overlap(t.tail.at, t.until, from, to)
	sum += t.last.mean * overlap(t.last.at, t.tail.at, from, to)
	end, i := t.last.at, len(t.points)
	if end > to {
		if i = t.before(to); i < len(t.points) {
			end = t.points[i].at
		}
	}
	for i--; i >= 0 && end > from; i-- {
		p := &t.points[i]
		sum += p.mean * overlap(p.at, end, from, to)
		end = p.at
	}
	return sum
}

// overlap returns how many ns [a, b) and [c, d) have in common. Spans of whole
// requests thus have areas without a rounding error.
func overlap(a, b, c, d int64) float64 {
	return float64(max(0, min(b, d)-max(a, c)))
}

// cursor goes along a track.
type cursor struct {
	track *track
	index int
	value span
	to    int64 // where value ends
}

// seek returns the cursor of a track at a moment.
func (t *track) seek(at int64) cursor {
	c := cursor{track: t, index: t.find(at)}
	c.value, c.to = t.segment(c.index)
	return c
}

// advance goes on to the span that holds at a moment.
func (c *cursor) advance(at int64) {
	for c.to <= at {
		c.index++
		c.value, c.to = c.track.segment(c.index)
	}
}

// nearby is how many tracks can be walked along without an allocation.
const nearby = 8

// walk visits the sum of tracks between two moments, in pieces within which
// none of them changes. The largest of a sum is taken to be the sum of the
// largest: when within its span each track had it is not known.
func walk(tracks []track, from, to int64, visit func(from, to int64, sum span)) {
	var room [nearby]cursor
	cursors := room[:0]
	for i := range tracks {
		cursors = append(cursors, tracks[i].seek(from))
	}
	for from < to {
		next, sum := to, span{at: from}
		for i := range cursors {
			c := &cursors[i]
			c.advance(from)
			sum.mean += c.value.mean
			sum.max += c.value.max
			sum.min += c.value.min
			next = min(next, c.to)
		}
		visit(from, next, sum)
		from = next
	}
}
