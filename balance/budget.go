package balance

import "time"

// What a Budget allows over its window: a share of the requests, and a few each
// second in any case, so that a deployment with little traffic may send again
// too. The values are Finagle's and Linkerd's.
const (
	retryShare     = 0.2
	retriesASecond = 5
	budgetSeconds  = 10
)

// Budget bounds how many requests are sent again, so that replicas that fail
// under load do not get more of it. The zero Budget is full.
type Budget struct {
	seconds [budgetSeconds]spending
	latest  int64 // Unix time of the second that is counted now
	total   spending
}

type spending struct{ requests, retries int }

// Request counts one request that comes for the first time.
func (b *Budget) Request(now time.Time) {
	b.advance(now.Unix())
	b.seconds[b.latest%budgetSeconds].requests++
	b.total.requests++
}

// Retry says whether a request may be sent again, and counts it if so.
func (b *Budget) Retry(now time.Time) bool {
	b.advance(now.Unix())
	if float64(b.total.retries) >= retryShare*float64(b.total.requests)+retriesASecond*budgetSeconds {
		return false
	}
	b.seconds[b.latest%budgetSeconds].retries++
	b.total.retries++
	return true
}

// advance forgets what is older than the window. A clock that goes back counts
// into the second that was the latest.
func (b *Budget) advance(second int64) {
	if second-b.latest >= budgetSeconds {
		*b = Budget{latest: second}
	}
	for b.latest < second {
		b.latest++
		old := &b.seconds[b.latest%budgetSeconds]
		b.total.requests -= old.requests
		b.total.retries -= old.retries
		*old = spending{}
	}
}
