package analysis

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// Quantile returns the latency that a share q of the answers took at most, as
// its bucket tells, and whether there was any answer.
func (s Sample) Quantile(q float64) (time.Duration, bool) { return quantile(s.Latency, q) }

func quantile(latency map[int]uint64, q float64) (time.Duration, bool) {
	answers := total(latency)
	if answers == 0 {
		return 0, false
	}
	rank := uint64(max(1, math.Ceil(q*float64(answers))))
	var below uint64
	var last int
	for _, bucket := range slices.Sorted(maps.Keys(latency)) {
		below += latency[bucket]
		last = bucket
		if below >= rank {
			break
		}
	}
	return loads.BucketEnd(last), true
}

func total(latency map[int]uint64) (n uint64) {
	for _, count := range latency {
		n += count
	}
	return n
}
