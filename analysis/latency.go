package analysis

import (
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

const (
	// leastAnswers is how many answers of the new version it takes, and
	// leastLately how many of its last.
	leastAnswers = 20
	leastLately  = 10
	// leastSlower is by how much it must be slower at least, whatever the ratio:
	// a few milliseconds come and go with what else runs on a node.
	leastSlower = 5 * time.Millisecond
	// doubtOfOld is how often the old version's quantile may lie above what is
	// taken for its upper bound.
	doubtOfOld = 0.05
	// settles is for how long a version must have been slow. What it does first
	// is often slower: caches are cold, code is not compiled yet.
	settles = 5 * time.Second
	// chanceOfLately is how improbable it must be that a version looks slow of
	// late when it has only been slow to begin with.
	chanceOfLately = 0.05
)

// quantile is one that latency is compared at.
type quantile struct {
	q     float64
	name  string
	least uint64 // answers of either version that it takes: of fewer, the slowest is no upper bound at doubtOfOld
}

// quantiles returns them, the highest first.
func quantiles() []quantile {
	return []quantile{{0.99, "p99", 299}, {0.95, "p95", 59}, {0.90, "p90", 29}}
}

// supported returns the highest quantile that both versions have the answers
// for. The last one is tested with fewer of the new version: the test is exact.
func (p *pair) supported() (q quantile, ok bool) {
	for _, q = range quantiles() {
		if p.old.answers >= q.least && p.new.answers >= q.least {
			return q, true
		}
	}
	return q, p.old.answers >= q.least && p.new.answers >= leastAnswers
}

// judgeLatency finds whether the new version is slower than it may be. At a
// quantile of 0.99 one answer in a hundred takes longer than a limit that the
// version keeps: it is worse when so many take longer than the allowed ratio
// times the old version's quantile, or rather the upper bound of that, as would
// hardly come if it kept it (an exact binomial test of a quantile, as in Conover,
// Practical Nonparametric Statistics). Nothing is assumed of how latencies are
// distributed.
func (p *pair) judgeLatency(ratio float64) (worse bool, reason string) {
	q, ok := p.supported()
	if !ok {
		return false, fmt.Sprintf("latency is not compared yet, at %d answers against %d: at least %d and %d are needed",
			p.new.answers, p.old.answers, leastAnswers, q.least)
	}
	base := p.old.upper(q.q)
	if p.beside.answers >= q.least { // slow for both at once is no fault of one
		base = max(base, p.beside.upper(q.q))
	}
	limit := max(base+leastSlower, scale(base, ratio))
	n := &p.new
	worse = p.settled &&
		binomialTail(n.above(limit), n.answers, 1-q.q) < chance &&
		binomialTail(p.lately.above(limit), p.lately.answers, 1-q.q) < chanceOfLately
	was, is := p.old.at(q.q), n.at(q.q)
	reason = fmt.Sprintf("%s is %s over %d answers, of the old version %s over %d; at most %g times that is allowed",
		q.name, shown(is), n.answers, shown(was), p.old.answers, ratio)
	return worse, reason
}

// at returns the latency at a quantile.
func (t *tally) at(q float64) time.Duration { return loads.BucketEnd(t.bucketOf(t.rank(q))) }

// upper returns what the latency at a quantile hardly lies above, by what was
// seen of it: the first of the sorted answers that has so many before it as
// would hardly come were the quantile higher.
func (t *tally) upper(q float64) time.Duration {
	from := t.rank(q)
	further := sort.Search(int(t.answers-from), func(i int) bool {
		return binomialTail(from+uint64(i), t.answers, q) <= doubtOfOld
	})
	return loads.BucketEnd(t.bucketOf(from + uint64(further)))
}

func scale(d time.Duration, by float64) time.Duration {
	return time.Duration(min(float64(d)*by, math.MaxInt64/2))
}

// shown is a duration for people: buckets tell no more than two digits.
func shown(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 100*unit {
			return d.Round(unit).String()
		}
	}
}
