package analysis

import (
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// Quantile returns the latency that a share q of the answers took at most, as
// its bucket tells, and whether there was any answer.
func (s Sample) Quantile(q float64) (time.Duration, bool) {
	t := tallyOf(s)
	if t.answers == 0 {
		return 0, false
	}
	return loads.BucketEnd(t.bucketOf(t.rank(q))), true
}

// rank is the place, counted from 1, of the answer at quantile q.
func (t *tally) rank(q float64) uint64 {
	q = max(0, min(q, 1))
	return max(1, min(t.answers, uint64(math.Ceil(q*float64(t.answers)))))
}

// bucketOf returns the bucket of the answer at a place, counted from 1, from the
// fastest on.
func (t *tally) bucketOf(rank uint64) int {
	var upTo uint64
	for bucket, count := range t.latency {
		upTo += count
		if upTo >= rank {
			return bucket
		}
	}
	return loads.LastBucket
}

// above counts the answers that certainly took longer.
func (t *tally) above(limit time.Duration) (n uint64) {
	for bucket := loads.LastBucket; bucket > 0 && loads.BucketEnd(bucket-1) >= limit; bucket-- {
		n += t.latency[bucket]
	}
	return n
}
