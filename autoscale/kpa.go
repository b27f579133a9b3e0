package autoscale

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// byKPA is Knative's pod autoscaler: a mean over a stable window decides, and
// one over a much shorter window takes over when the load runs away from what
// runs. After Knative Serving's pkg/autoscaler/scaling.
func (d *decider) byKPA() int {
	if d.in.Load == nil {
		return d.undecided("no proxy has said how many requests there are")
	}
	d.seeLoad()
	stable := d.in.Load.Over(d.in.Now, d.since(d.policy.kpa.StableWindow.Std()), "mean")
	panicked := d.in.Load.Over(d.in.Now, d.since(d.policy.panic), "mean")
	n := d.kpaWant(stable, panicked)
	if n == 0 && d.in.Load.Present() > 0 {
		n = 1 // it has come this moment, and has no share of any mean yet
	}
	n = d.lastReplica(d.smoothed(n))
	if n < d.in.Target && d.in.Hold != "" {
		return d.held(n)
	}
	return n
}

// seeLoad notes since when there is load. After a whole stable window without
// any, the means begin anew with the next request: what was idle for an hour
// does not make a burst look small.
func (d *decider) seeLoad() {
	busy := d.in.Load.Present() > 0 || d.in.Load.Over(d.in.Now, d.policy.kpa.StableWindow.Std(), aggregateMax) > 0
	switch {
	case !busy:
		d.state.LoadSince = time.Time{}
	case d.state.LoadSince.IsZero() || d.in.Now.Before(d.state.LoadSince):
		d.state.LoadSince = d.in.Now
		if !d.state.Started { // it was there before this autoscaler was
			d.state.LoadSince = d.in.Now.Add(-d.policy.kpa.StableWindow.Std())
		}
	}
}

// since returns as much of window as there has been load.
func (d *decider) since(window time.Duration) time.Duration {
	if d.state.LoadSince.IsZero() {
		return window
	}
	return min(window, d.in.Now.Sub(d.state.LoadSince))
}

// kpaWant is Knative's formula: stable and panicked are the means of the
// requests over the two windows.
func (d *decider) kpaWant(stable, panicked float64) int {
	k, running := &d.policy.kpa, max(1, d.in.Running)
	each := max(0.01, d.policy.block.TargetOngoingRequests*k.TargetUtilization)
	up := roundUp(k.MaxScaleUpRate * float64(running))
	down := int(math.Floor(float64(running) / k.MaxScaleDownRate))
	byStable, byPanic := roundUp(d.snapped(stable/each)), roundUp(d.snapped(panicked/each))
	over := float64(byPanic)/float64(running) >= k.PanicThresholdPercentage/100
	rated := func(n int) int {
		limited := min(max(n, down), up)
		if n > 0 {
			limited = max(limited, k.ActivationScale)
		}
		return limited
	}
	byStable, byPanic = rated(byStable), rated(byPanic)
	d.out.Desired = stable / each

	d.panics(over)
	n := byStable
	if !d.state.PanicSince.IsZero() {
		n = max(byStable, byPanic, d.state.PanicMax)
		d.state.PanicMax = n
	}
	d.because("policy", n, func() string {
		text := fmt.Sprintf("%s over %s at %s each want %d", requestsText(stable), k.StableWindow.Std(), number(each), byStable)
		if !d.state.PanicSince.IsZero() {
			text = fmt.Sprintf("panic: %s over %s at %s each want %d, the stable window %d, and it only grows for now",
				requestsText(panicked), d.policy.panic, number(each), byPanic, byStable)
		}
		return text
	})
	return n
}

// panics enters panic, keeps it up, or leaves it a stable window after the load
// was last over the threshold.
func (d *decider) panics(over bool) {
	now := d.in.Now
	if !d.state.Started {
		d.state.Started = true
		if d.in.Running > 1 {
			// What was seen before is lost: nothing goes until a window has
			// been seen.
			d.state.PanicSince, d.state.PanicMax = now, d.in.Running
		}
	}
	switch {
	case over:
		d.state.PanicSince = now
	case !d.state.PanicSince.IsZero() && now.After(d.state.PanicSince.Add(d.policy.kpa.StableWindow.Std())):
		d.state.PanicSince, d.state.PanicMax = time.Time{}, 0
	}
}

// smoothed is the most that was wanted during scale_down_delay. What it keeps is
// falling in number and rising in time, so there is never more of it than
// replicas.
func (d *decider) smoothed(n int) int {
	delay := d.policy.kpa.ScaleDownDelay.Std()
	if delay <= 0 {
		d.state.Recent = nil
		return n
	}
	recent := make([]Want, 0, len(d.state.Recent)+1)
	for _, w := range d.state.Recent {
		if w.Replicas > n && w.At.Add(delay).After(d.in.Now) {
			recent = append(recent, w)
		}
	}
	d.state.Recent = append(recent, Want{At: d.in.Now, Replicas: n})
	most := slices.MaxFunc(d.state.Recent, func(a, b Want) int { return a.Replicas - b.Replicas }).Replicas
	if most > n {
		d.and("delay", most, func() string { return fmt.Sprintf("%d was wanted within the scale_down_delay of %s", most, delay) })
	}
	return most
}

// lastReplica keeps one for scale_to_zero_retention after the last is no longer
// wanted.
func (d *decider) lastReplica(n int) int {
	if n > 0 || d.in.Target == 0 {
		d.state.ZeroSince = time.Time{}
		return n
	}
	if d.state.ZeroSince.IsZero() || d.in.Now.Before(d.state.ZeroSince) {
		d.state.ZeroSince = d.in.Now
	}
	retention := d.policy.kpa.ScaleToZeroRetention.Std()
	due := d.state.ZeroSince.Add(retention)
	if !d.in.Now.Before(due) {
		return 0
	}
	d.out.Pending = &Pending{Target: 0, At: due}
	d.and("delay", 1, func() string {
		return fmt.Sprintf("the last replica is kept for scale_to_zero_retention, %s", retention)
	})
	return 1
}
