package loads

import (
	"math"
	"time"
)

// A latency bucket is an eighth of a doubling wide, so a quantile read from
// buckets is off by at most 9 percent. The first holds all up to 100 µs.
const (
	bucketsPerDoubling = 8
	firstBucket        = 100 * time.Microsecond
	// LastBucket holds all above some 14 minutes.
	LastBucket = 23 * bucketsPerDoubling
)

// LatencyBucket returns the bucket that a latency falls into, 0 to LastBucket.
func LatencyBucket(d time.Duration) int {
	if d <= firstBucket {
		return 0
	}
	n := math.Ceil(bucketsPerDoubling * math.Log2(float64(d)/float64(firstBucket)))
	return int(min(n, LastBucket))
}

// BucketEnd returns the longest latency that falls into a bucket; of the last
// one, where it begins to hold all.
func BucketEnd(bucket int) time.Duration {
	return time.Duration(float64(firstBucket) * math.Exp2(float64(bucket)/bucketsPerDoubling))
}
