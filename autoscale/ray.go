package autoscale

import (
	"fmt"
	"time"
)

// tolerance is what Ray Serve grants a delay, for the clock's rounding.
const tolerance = time.Microsecond

// ray is Ray Serve's replica autoscaler, rule for rule: the default policy of
// ray.serve.autoscaling_policy behind the delays and factors that its
// autoscaling state applies to any policy.
func (d *decider) ray() int {
	if n, cold := d.coldStart(); cold {
		return n
	}
	want := d.claim()
	if !want.known {
		return d.undecided(want.why)
	}
	d.out.Desired = want.replicas
	if d.in.Running == 0 {
		// Nothing runs and nothing is asked for: what has been ordered stays
		// ordered, and delays go on. Dividing by what runs would run away.
		d.out.Desired = float64(d.in.Target)
		d.because("policy", d.in.Target, func() string { return "no replica runs and no request waits" })
		if d.in.Target > 0 {
			return d.in.Target
		}
		return d.delay(0)
	}
	n := d.factor(want)
	if want.raiseOnly && n < d.in.Target {
		return d.undecided(want.why)
	}
	return d.delay(n)
}

// coldStart is the way from nothing: there is something to do and nobody to do
// it. It does not wait, and leaves the delays alone.
func (d *decider) coldStart() (n int, cold bool) {
	if d.in.Running > 0 {
		return 0, false
	}
	work := d.work()
	if work.replicas <= 0 {
		return 0, false
	}
	n = max(roundUp(d.policy.block.UpscalingFactor), d.in.Target)
	d.out.Desired = work.replicas
	d.because("cold-start", n, func() string {
		text := d.loadText(work.total)
		if work.byMetric {
			text = d.text(work)
		}
		return text + ", and no replica runs"
	})
	return n, true
}

// work returns what there is to do. Requests count even where a metric is
// scaled on: somebody waits for them.
func (d *decider) work() claim {
	if requests := d.requests(); requests.replicas > 0 {
		return requests
	}
	if m := d.policy.block.Metric; m != nil {
		return d.metric(m)
	}
	return claim{}
}

// factor is how much of the way to want is gone at once.
func (d *decider) factor(want claim) int {
	running := float64(d.in.Running)
	way, name := want.replicas-running, "upscaling_factor"
	factor := d.policy.block.UpscalingFactor
	if way <= 0 {
		factor, name = d.policy.block.DownscalingFactor, "downscaling_factor"
	}
	n := roundUp(running + factor*way)
	stuck := roundUp(want.replicas) < d.in.Running && n == d.in.Running
	if stuck {
		n--
	}
	d.because("policy", roundUp(want.replicas), func() string { return d.text(want) })
	if factor != 1 || stuck {
		d.and("factor", n, func() string { return fmt.Sprintf("%s %s from %d running: %d", name, number(factor), d.in.Running, n) })
	}
	return n
}

// delay holds a change back until it has been wanted for as long as the block
// says. Its value is that of the tick on which it is made.
func (d *decider) delay(n int) int {
	target, block := d.in.Target, &d.policy.block
	direction, wait, name := 0, time.Duration(0), ""
	switch {
	case n > target:
		direction, wait, name = +1, block.UpscaleDelay.Std(), "upscale_delay"
	case n < target && target == 1:
		direction, wait, name = -1, block.DownscaleToZeroDelay.Std(), "downscale_to_zero_delay"
	case n < target:
		// To nothing it goes over one, which has a delay of its own.
		direction, wait, name, n = -1, block.DownscaleDelay.Std(), "downscale_delay", max(1, n)
	}
	if direction == 0 {
		d.state.Direction, d.state.Since = 0, time.Time{}
		d.rule("delay", n, func() string { return "nothing to change" })
		return target
	}
	if d.state.Direction != direction || d.in.Now.Before(d.state.Since) {
		d.state.Direction, d.state.Since = direction, d.in.Now
	}
	waited := d.in.Now.Sub(d.state.Since)
	if waited+tolerance < wait {
		due := d.state.Since.Add(wait)
		d.out.Pending = &Pending{Target: n, At: due}
		d.and("delay", target, func() string {
			return fmt.Sprintf("%d is wanted for %s of the %s of %s", n, waited.Round(100*time.Millisecond), wait, name)
		})
		return target
	}
	if direction < 0 && d.in.Hold != "" {
		return d.held(n)
	}
	d.state.Direction, d.state.Since = 0, time.Time{}
	if wait > 0 {
		d.and("delay", n, func() string { return "for " + waited.Round(100*time.Millisecond).String() })
	}
	return n
}

// held refuses to take replicas away.
func (d *decider) held(n int) int {
	d.and("hold", d.in.Target, func() string {
		return fmt.Sprintf("%d would do, but %s", n, d.in.Hold)
	})
	return d.in.Target
}
