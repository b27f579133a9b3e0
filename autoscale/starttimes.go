package autoscale

import (
	"slices"
	"time"
)

// recentStarts is how many starts count.
const recentStarts = 16

// maxStart bounds what counts as a start: a replica that passes its check only
// after so long had other troubles.
const maxStart = time.Hour

// StartTimes is how long a deployment's replicas took to start of late. The zero
// value knows of none.
type StartTimes struct {
	recent []time.Duration // oldest first
}

// Add notes that a replica served so long after it was ordered. What cannot be
// is passed over: clocks of two machines differ.
func (s *StartTimes) Add(took time.Duration) {
	if took <= 0 || took > maxStart {
		return
	}
	if len(s.recent) == recentStarts {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
	s.recent = append(s.recent, took)
}

// Typical returns the median of the last 16, or 0 when there was none.
func (s *StartTimes) Typical() time.Duration {
	n := len(s.recent)
	if n == 0 {
		return 0
	}
	sorted := slices.Clone(s.recent)
	slices.Sort(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
