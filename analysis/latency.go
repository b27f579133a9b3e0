package analysis

import (
	"fmt"
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

const (
	// leastAnswers is how many answers of the new version it takes.
	leastAnswers = 20
	// leastSlower is by how much it must be slower at least, whatever the ratio:
	// a few milliseconds come and go with what else runs on a node.
	leastSlower = 5 * time.Millisecond
	// settles is how old a version's first request must be. What it does first is
	// often slower: caches are cold, code is not compiled yet.
	settles = 5 * time.Second
	// leastSeconds is in how many different seconds it must have been slow. A test
	// that counts answers takes each for a draw of its own, and they are not: what
	// hinders a node, or one replica, makes all slow that are under way.
	leastSeconds = 7
	// chanceOfLately is how improbable it must be that a version looks slow of
	// late, too, when it has only been slow to begin with.
	chanceOfLately = 0.05
)

// quantile is one that latency is compared at.
type quantile struct {
	q     float64
	name  string
	least uint64 // answers of either version that it takes, so that some lie above it; a third of them tells how it is of late
}

// quantiles returns them, the highest first.
func quantiles() []quantile {
	return []quantile{{0.99, "p99", 300}, {0.95, "p95", 60}, {0.90, "p90", 30}}
}

// supported returns the highest quantile that both versions have the answers
// for. The last one is tested with fewer of the new version.
func (p *pair) supported() (q quantile, ok bool) {
	for _, q = range quantiles() {
		if p.old.answers >= q.least && p.new.answers >= q.least {
			return q, true
		}
	}
	return q, p.old.answers >= q.least && p.new.answers >= leastAnswers
}

// judgeLatency finds whether the new version is slower than it may be. One in a
// hundred of the old version's answers takes longer than its quantile at 0.99;
// as few of the new one's may take longer than the allowed ratio times that. It
// is worse when more do than would hardly come by chance. That is an exceedance
// test (Epstein, 1954), which is exact however latencies are distributed, as it
// counts, and knows how little a few answers tell of a quantile.
func (p *pair) judgeLatency(ratio float64) (worse bool, reason string) {
	q, ok := p.supported()
	if !ok {
		return false, fmt.Sprintf("latency is not compared yet, at %d answers against %d: at least %d and %d are needed",
			p.new.answers, p.old.answers, leastAnswers, q.least)
	}
	was, is := p.old.at(q.q), p.new.at(q.q)
	base := was
	if p.beside.answers >= q.least { // slow for both at once is no fault of one
		base = max(base, p.beside.at(q.q))
	}
	limit := max(base+leastSlower, scale(base, ratio))
	beyond := p.old.answers - p.old.rank(q.q)
	exceeds := func(t *tally) float64 {
		return hypergeometricTail(t.above(limit), t.answers, beyond, p.old.answers)
	}
	worse = p.settled && exceeds(&p.new) < chance
	if worse {
		lately := p.lately(q.least / 3)
		worse = exceeds(&lately) < chanceOfLately && p.slowSeconds(limit, q.q) >= leastSeconds
	}
	reason = fmt.Sprintf("%s is %s over %d answers, of the old version %s over %d; at most %g times that is allowed",
		q.name, shown(is), p.new.answers, shown(was), p.old.answers, ratio)
	return worse, reason
}

// slowSeconds counts the seconds in which more of the new version's answers took
// longer than limit than should by quantile q. Where it is not known what was
// when, that is enough of them.
func (p *pair) slowSeconds(limit time.Duration, q float64) (n int) {
	if p.parts == nil {
		return leastSeconds
	}
	for i := range p.parts {
		var t tally
		t.add(&p.parts[i])
		if float64(t.above(limit)) > (1-q)*float64(t.answers) {
			n++
		}
	}
	return n
}

// at returns the latency at a quantile.
func (t *tally) at(q float64) time.Duration { return loads.BucketEnd(t.bucketOf(t.rank(q))) }

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
