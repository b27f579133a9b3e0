package loads_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/loads"
)

func TestLatencyBucket(t *testing.T) {
	t.Parallel()
	for latency, want := range map[time.Duration]int{
		math.MinInt64:            0,
		-time.Second:             0,
		0:                        0,
		100 * time.Microsecond:   0,
		100_001:                  1,
		200 * time.Microsecond:   8,
		200_001:                  9,
		3200 * time.Microsecond:  40,
		100 * time.Millisecond:   80, // 79.7
		time.Second:              107,
		time.Minute:              154,
		838_860_800_000:          loads.LastBucket, // 13m58.8608s
		14 * time.Minute:         loads.LastBucket,
		time.Duration(1<<63 - 1): loads.LastBucket,
	} {
		if got := loads.LatencyBucket(latency); got != want {
			t.Errorf("%s is in bucket %d, want %d", latency, got, want)
		}
	}
}

// TestBucketsFollowEachOther holds that a latency lies between the ends of its
// bucket and of the one before, so that a quantile which is read from buckets is
// off by a bucket's width at most.
func TestBucketsFollowEachOther(t *testing.T) {
	t.Parallel()
	for bucket := range loads.LastBucket {
		end, next := loads.BucketEnd(bucket), loads.BucketEnd(bucket+1)
		if ratio := float64(next) / float64(end); ratio < 1.0904 || ratio > 1.0907 {
			t.Errorf("bucket %d ends at %s and the next one at %s", bucket, end, next)
		}
		if got := loads.LatencyBucket(end); got != bucket {
			t.Errorf("the end of bucket %d, %s, is in bucket %d", bucket, end, got)
		}
		if got := loads.LatencyBucket(end + 1); got != bucket+1 {
			t.Errorf("what follows the end of bucket %d, %s, is in bucket %d", bucket, end+1, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "a"))
		b := time.Duration(rapid.Int64Range(int64(a), int64(20*time.Minute)).Draw(t, "b"))
		bucket := loads.LatencyBucket(a)
		if other := loads.LatencyBucket(b); other < bucket {
			t.Errorf("%s is in bucket %d, and %s in %d", a, bucket, b, other)
		}
		if bucket < loads.LastBucket && a > loads.BucketEnd(bucket) {
			t.Errorf("%s is in bucket %d, which ends at %s", a, bucket, loads.BucketEnd(bucket))
		}
		if bucket > 0 && a <= loads.BucketEnd(bucket-1) {
			t.Errorf("%s is in bucket %d, and the one before ends at %s", a, bucket, loads.BucketEnd(bucket-1))
		}
	})
}
