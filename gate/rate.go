package gate

import (
	"math"
	"time"
)

// What Retry-After may say. Where nothing has been finished lately there is no
// rate to reckon with, and the client is told to come back a little later.
const (
	minRetryAfter     = time.Second
	maxRetryAfter     = time.Minute
	unknownRetryAfter = 5 * time.Second
)

const rateSeconds = 10

// drainRate counts how many requests a deployment finished in each of the last
// seconds. It holds what Retry-After is computed from.
type drainRate struct {
	finished [rateSeconds]int
	latest   int64 // the second that was counted last
	since    int64 // the second of the first count
}

func (d *drainRate) add(now time.Time) {
	d.advance(now.Unix())
	d.finished[d.latest%rateSeconds]++
}

func (d *drainRate) advance(second int64) {
	if d.since == 0 {
		d.since, d.latest = second, second
	}
	if second-d.latest >= rateSeconds {
		d.finished = [rateSeconds]int{}
		d.latest = second
	}
	for d.latest < second {
		d.latest++
		d.finished[d.latest%rateSeconds] = 0
	}
}

// retryAfter says when a queue of that length will be empty at the present
// rate, in whole seconds, and up to half as long again: luck, from 0 to 1, says
// by how much, so that those who were refused together do not come back
// together.
func (d *drainRate) retryAfter(now time.Time, length int, luck float64) time.Duration {
	second := now.Unix()
	d.advance(second)
	total := 0
	for _, n := range d.finished {
		total += n
	}
	if total == 0 {
		return whole(unknownRetryAfter.Seconds() * (1 + luck/2))
	}
	window := min(second-d.since+1, rateSeconds)
	return whole(float64(length) * float64(window) / float64(total) * (1 + luck/2))
}

// whole is so many seconds, rounded up, within the bounds.
func whole(seconds float64) time.Duration {
	seconds = min(max(math.Ceil(seconds), minRetryAfter.Seconds()), maxRetryAfter.Seconds())
	return time.Duration(seconds) * time.Second
}
