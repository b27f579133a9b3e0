package autoscale

import (
	"fmt"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// defaultHorizon is how far a forecast looks ahead when the block does not say
// and no replica has been seen to start yet.
const defaultHorizon = 30 * time.Second

// Policy is an autoscaling block, ready to decide by. It is never changed.
type Policy struct {
	block     appspec.Autoscaling
	kind      string
	kpa       appspec.KPA
	panic     time.Duration // KPA's shorter window
	schedules []schedule
}

// schedule is a Schedule with its times read.
type schedule struct {
	appspec.Schedule
	times appspec.Recurrence
}

// Compile returns the Policy of a block. An error is a schedule that cannot be
// read, or a policy that there is not; appspec.Validate finds both, with their
// place.
func Compile(block *appspec.Autoscaling) (*Policy, error) {
	p := &Policy{block: *block, kind: block.EffectivePolicy()}
	switch p.kind {
	case appspec.PolicyRay, appspec.PolicyExternal:
	case appspec.PolicyKPA:
		p.kpa = block.EffectiveKPA()
		p.panic = panicWindow(p.kpa)
	default:
		return nil, fmt.Errorf("there is no policy %q", block.Policy)
	}
	for _, s := range block.Schedules {
		times, err := appspec.NewRecurrence(s.Cron, s.Duration, s.Timezone)
		if err != nil {
			return nil, fmt.Errorf("schedule %q: %w", s.Name, err)
		}
		p.schedules = append(p.schedules, schedule{*s, times})
	}
	return p, nil
}

// panicWindow is a share of the stable window, in whole seconds as Knative has
// it, and at least one.
func panicWindow(k appspec.KPA) time.Duration {
	share := time.Duration(k.StableWindow.Std().Seconds() * k.PanicWindowPercentage / 100 * float64(time.Second))
	return max(time.Second, share.Round(time.Second))
}

// Window returns how much of the load's past Decide looks at.
func (p *Policy) Window() time.Duration {
	w := p.HoldWindow()
	if f := p.block.Forecast; f != nil && p.kind != appspec.PolicyExternal {
		w = max(w, f.Window.Std())
	}
	return w
}

// HoldWindow returns how much of the load's past must be known before replicas
// are taken away. A forecast's window is not part of it: it only ever adds.
func (p *Policy) HoldWindow() time.Duration {
	switch p.kind {
	case appspec.PolicyRay:
		return p.block.LookBackPeriod.Std()
	case appspec.PolicyKPA:
		return p.kpa.StableWindow.Std()
	default:
		return 0
	}
}

// limits is the bounds in force, and which schedules made them so.
type limits struct {
	least, most       int
	leastBy, mostBy   string // name of the schedule; "": the block's own
	ceilingOfSchedule bool
}

// Bounds returns the bounds in force at a time. A schedule in force raises the
// floor, or replaces the ceiling; of several the largest floor and the largest
// ceiling count. The ceiling wins over the floor.
func (p *Policy) Bounds(now time.Time) (least, most int) {
	l := p.limits(now)
	return l.least, l.most
}

func (p *Policy) limits(now time.Time) limits {
	l := limits{least: p.block.MinReplicas, most: p.block.MaxReplicas}
	for i := range p.schedules {
		s := &p.schedules[i]
		if !s.times.InForce(now) {
			continue
		}
		if n := s.MinReplicas; n != nil && *n > l.least {
			l.least, l.leastBy = *n, s.Name
		}
		if n := s.MaxReplicas; n != nil && (!l.ceilingOfSchedule || *n > l.most) {
			l.most, l.mostBy, l.ceilingOfSchedule = *n, s.Name, true
		}
	}
	l.least = max(0, min(l.least, l.most))
	return l
}
