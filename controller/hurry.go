package controller

import (
	"context"
	"maps"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// A target that changes is worth more the sooner Nomad has it: requests wait.
// A count can be set on the strength of the last look, for it is set to what it
// is to be, whatever it was. So the loop does that at once when the State
// changes, also while it rests, looks, or carries out a plan; all else waits for
// the next pass, which finds what was done here.

// counts is what the loop knows of the counts that it has set.
type counts struct {
	planned *raftstate.State    // whose changes of counts have been seen to; nil: no pass has planned yet
	set     map[string]countSet // by job: since the look began that the World is of
}

type countSet struct {
	count int
	at    time.Time
}

// looked forgets what a look that began then has seen.
func (k *counts) looked(began time.Time) {
	for id, set := range k.set {
		if set.at.Before(began) {
			delete(k.set, id)
		}
	}
}

// over returns world with the counts that were set since the look at it began.
func (k *counts) over(world *reconcile.World) *reconcile.World {
	if len(k.set) == 0 {
		return world
	}
	known := *world
	known.Jobs = maps.Clone(world.Jobs)
	for id, set := range k.set {
		if job, exists := known.Jobs[id]; exists {
			job.Count = set.count
			known.Jobs[id] = job
		}
	}
	return &known
}

// hurry sets the counts of jobs that the newest State has changed.
func (c *Controller) hurry(ctx context.Context) {
	before, state := c.counts.planned, c.cfg.Raft.State()
	world := c.view.current().World
	if state == before || before == nil || world == nil {
		return
	}
	if age := c.cfg.Now().UTC().Round(0).Sub(c.looked); age < 0 || age > 2*c.cfg.FullPass {
		return // it slept, or something hangs: it looks first
	}
	c.counts.planned = state
	for _, step := range reconcile.Counts(before, state, c.counts.over(world), c.cfg.Settings) {
		if ctx.Err() != nil {
			return
		}
		_ = c.execute(ctx, step) // what fails is logged, and planned again by the next pass
	}
}

// scale sets the count of a job.
func (c *Controller) scale(ctx context.Context, step reconcile.Step) error {
	s, began := step.Scale, time.Now()
	if err := c.cfg.Jobs.Scale(ctx, s.JobID, s.Group, s.Count, step.Reason); err != nil {
		delete(c.counts.set, s.JobID) // it may have been done
		return err
	}
	c.counts.set[s.JobID] = countSet{s.Count, began}
	return nil
}

// overtaken says whether step sets a count by a State that has changed since.
func (c *Controller) overtaken(step reconcile.Step, state *raftstate.State, world *reconcile.World) bool {
	var job string
	switch {
	case step.Scale != nil:
		job = step.Scale.JobID
	case step.Update != nil:
		job = step.Update.JobID
	default:
		return false
	}
	app, now := world.Jobs[job].Application, c.cfg.Raft.State()
	return now.Applications[app] != state.Applications[app] || now.SurgeOf(job) != state.SurgeOf(job)
}

// observe looks at Nomad.
func (c *Controller) observe(ctx context.Context) (reconcile.Observation, error) {
	type answer struct {
		seen reconcile.Observation
		err  error
	}
	c.acted = false
	answered := make(chan answer, 1)
	limited, cancel := context.WithTimeout(ctx, c.cfg.ObserveLimit)
	defer cancel()
	state := c.cfg.Raft.State()
	nodes := len(state.WorkerGroups) > 0 || len(state.Nodes) > 0
	go func() {
		seen, err := c.cfg.Jobs.Observe(limited, nodes)
		answered <- answer{seen, err}
	}()
	for {
		changed := c.cfg.Raft.Changed()
		c.hurry(ctx)
		select {
		case a := <-answered:
			return a.seen, a.err
		case <-changed:
		}
	}
}

// rest waits, and says whether ctx is still alive.
func (c *Controller) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		changed := c.cfg.Raft.Changed()
		c.hurry(ctx)
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-changed:
		}
	}
}
