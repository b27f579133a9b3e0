package autoscale

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Decide says how many replicas there should be, and what to remember until it
// is asked again. The order of the rules is Ray Serve's: what the load wants,
// the factor, the delay, and the bounds last.
func (p *Policy) Decide(in Input, st State) (Decision, State) {
	in.Target, in.Running = max(0, in.Target), max(0, in.Running)
	out, next := p.decide(in, st, in.Explain)
	if out.Target != in.Target && !in.Explain {
		// Most decisions change nothing and nobody reads why: the words are
		// found only for those that do.
		out, next = p.decide(in, st, true)
		out.Rules = nil
	}
	return out, next
}

func (p *Policy) decide(in Input, st State, tell bool) (Decision, State) {
	d := &decider{policy: p, in: in, state: st, tell: tell, limits: p.limits(in.Now)}
	d.out = Decision{At: in.Now, Min: d.limits.least, Max: d.limits.most, Desired: float64(in.Target)}
	n := in.Target
	switch p.kind {
	case appspec.PolicyRay:
		n = d.ray()
	case appspec.PolicyKPA:
		n = d.byKPA()
	case appspec.PolicyExternal:
		d.because("policy", n, func() string { return "it is set from outside" })
	}
	d.out.Target = d.bound(n)
	d.out.Desired = min(d.out.Desired, mostLoad) // a tiny target makes it infinite, which JSON cannot say
	if d.out.Pending != nil {
		d.out.Pending.Target = min(max(d.out.Pending.Target, d.out.Min), d.out.Max)
		if d.out.Pending.Target == d.out.Target {
			d.out.Pending = nil
		}
	}
	return d.out, d.state
}

// decider is one decision on its way.
type decider struct {
	policy *Policy
	in     Input
	state  State // becomes the next one
	limits limits
	tell   bool // somebody reads the words
	out    Decision
}

// rule notes what a rule said.
func (d *decider) rule(name string, wants int, detail func() string) {
	if d.tell {
		d.out.Rules = append(d.out.Rules, Rule{Name: name, Wants: wants, Detail: detail()})
	}
}

// because notes what a rule said as the reason of the target, in place of what
// was the reason so far.
func (d *decider) because(name string, wants int, detail func() string) {
	if d.tell {
		text := detail()
		d.out.Rules = append(d.out.Rules, Rule{Name: name, Wants: wants, Detail: text})
		d.out.Reason = text
	}
}

// and adds to the reason.
func (d *decider) and(name string, wants int, detail func() string) {
	if d.tell {
		text := detail()
		d.out.Rules = append(d.out.Rules, Rule{Name: name, Wants: wants, Detail: text})
		if d.out.Reason != "" {
			text = d.out.Reason + "; " + text
		}
		d.out.Reason = text
	}
}

// undecided leaves the target as it is. What waited for its delay to take
// something away starts anew: the evidence for it is broken.
func (d *decider) undecided(why string) int {
	if d.state.Direction < 0 {
		d.state.Direction, d.state.Since = 0, time.Time{}
	}
	d.because("load", d.in.Target, func() string { return "no decision: " + why })
	return d.in.Target
}

// bound brings n within the bounds in force, raised by the forecast's floor.
func (d *decider) bound(n int) int {
	least, most := d.limits.least, d.limits.most
	floor, why := d.forecast()
	floor = min(floor, most)
	if floor > 0 {
		d.rule("forecast", floor, why)
	}
	switch {
	case n > most:
		d.and("bounds", most, func() string { return d.limits.ceiling() })
		return most
	case n < least && floor <= least:
		d.and("bounds", least, func() string { return d.limits.floor() })
		return least
	case n < floor:
		d.because("bounds", floor, why)
		d.out.Min = floor
		return floor
	default:
		d.rule("bounds", n, func() string { return fmt.Sprintf("%d is within %d..%d", n, least, most) })
		return n
	}
}

func (l limits) ceiling() string {
	if l.mostBy != "" {
		return fmt.Sprintf("schedule %s allows %d at most", l.mostBy, l.most)
	}
	return fmt.Sprintf("max_replicas is %d", l.most)
}

func (l limits) floor() string {
	if l.leastBy != "" {
		return fmt.Sprintf("schedule %s keeps at least %d", l.leastBy, l.least)
	}
	return fmt.Sprintf("min_replicas is %d", l.least)
}

// roundUp is the ceiling of x, but for what floating point adds to it: a load
// of 6.000000000000001 for 1 each needs 6 replicas. It stays far within int.
func roundUp(x float64) int {
	const slack = 1e-9
	if math.IsNaN(x) || x <= 0 {
		return 0
	}
	return int(math.Ceil(min(x, 1e9) - slack*max(1, min(x, 1e9))))
}

// number writes a load for people.
func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func requestsText(x float64) string {
	if text := number(x); text != "1" {
		return text + " requests"
	}
	return "1 request"
}
