package controller

import (
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// A step that was done and is due again at the very next look has not lasted.
// After sureRepeats times it waits, longer each time: each write wakes the loop
// by itself, which would go round as fast as it can.
const (
	sureRepeats  = 3
	maxRepeatGap = time.Minute
)

// repeats remembers the steps that were done and are still planned.
type repeats map[string]repeat

type repeat struct {
	times int
	until time.Time // not again before
}

// keep forgets what is no longer planned.
func (r repeats) keep(plan reconcile.Plan) {
	planned := make(map[string]bool, len(plan.Steps))
	for _, s := range plan.Steps {
		planned[s.String()] = true
	}
	for step := range r {
		if !planned[step] {
			delete(r, step)
		}
	}
}

// wait says whether step is to wait.
func (r repeats) wait(step string, now time.Time) bool { return now.Before(r[step].until) }

// done notes that step was done, and returns how long it then has to wait
// should it be planned again.
func (r repeats) done(step string, now time.Time) time.Duration {
	times := r[step].times + 1
	if times < sureRepeats {
		r[step] = repeat{times: times}
		return 0
	}
	gap := maxRepeatGap
	if shift := times - sureRepeats; shift < 6 {
		gap = min(time.Second<<shift, maxRepeatGap)
	}
	r[step] = repeat{times: times, until: now.Add(gap)}
	return gap
}
