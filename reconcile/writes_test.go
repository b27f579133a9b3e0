package reconcile_test

import (
	"maps"
	"testing"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Jobs and routes are written only as they were last seen: what was changed
// meanwhile is looked at first.
func TestWritesAreOfWhatWasSeen(t *testing.T) {
	c := settled(t, deploy(tenOf("v1", nil, "a")))
	id := job(c.app().Serving, "a")
	seen := func(change func(*reconcile.Job)) {
		c.world.Jobs = maps.Clone(c.world.Jobs)
		is := c.world.Jobs[id]
		is.ModifyIndex = 41
		change(&is)
		c.world.Jobs[id] = is
		c.world.RouteIndex = map[string]uint64{"shop": 42}
	}
	steps := func() (found reconcile.Step) {
		for _, s := range c.diff().Steps {
			switch {
			case s.Register != nil && *s.Register.Job.ID == id:
				found.Register = s.Register
			case s.Update != nil:
				found.Update = s.Update
			case s.Stop != nil:
				found.Stop = s.Stop
			case s.WriteRoute != nil:
				found.WriteRoute = s.WriteRoute
			case s.DropRoute != nil:
				found.DropRoute = s.DropRoute
			}
		}
		return found
	}
	seen(func(j *reconcile.Job) { j.Stopped = true })
	if s := steps().Register; s == nil || s.ModifyIndex != 41 {
		t.Errorf("a job that was stopped: %+v", s)
	}
	seen(func(j *reconcile.Job) { j.Stopped, j.LiveHash = false, "other" })
	if s := steps().Update; s == nil || s.ModifyIndex != 41 {
		t.Errorf("other limits: %+v", s)
	}
	c.must(t, deploy(tenOf("v2", nil, "a")))
	if s := steps().WriteRoute; s == nil || s.ModifyIndex != 42 {
		t.Errorf("another route: %+v", s)
	}
	c.must(t, raftstate.Command{Delete: &raftstate.Delete{Application: "shop"}})
	if s := steps().WriteRoute; s == nil || s.ModifyIndex != 42 || !s.Route.Closed {
		t.Errorf("the route of what is deleted: %+v", s)
	}
	c.pass(t)
	seen(func(*reconcile.Job) {})
	if s := steps().Stop; s == nil || s.ModifyIndex != 41 {
		t.Errorf("a job that is to stop: %+v", s)
	}
	seen(func(j *reconcile.Job) { j.Stopped = true })
	if s := steps(); s.DropRoute != nil {
		t.Error("the route goes while replicas still finish what they have")
	}
	c.world.Replicas = nil
	if s := steps().DropRoute; s == nil || s.ModifyIndex != 42 {
		t.Errorf("the route, at last: %+v", s)
	}
}

// Two clusters that overwrite each other's jobs would never end.
func TestAJobOfAnotherClusterIsLeftAlone(t *testing.T) {
	c := settled(t, deploy(tenOf("v1", nil, "a")))
	id := job(c.app().Serving, "a")
	for _, change := range []func(*reconcile.Job){
		func(j *reconcile.Job) { j.Stopped = true },
		func(j *reconcile.Job) { j.Count = 3 },
		func(j *reconcile.Job) { j.LiveHash = "other" },
	} {
		is := c.world.Jobs[id]
		is.ClusterID = "another"
		change(&is)
		world := *c.world
		world.Jobs = map[string]reconcile.Job{id: is}
		if plan := reconcile.Diff(c.state, &world, c.now, settings()); len(plan.Steps) > 0 {
			t.Errorf("of %+v: %s", is, plan)
		}
	}
}

// What is on its way out and was stopped by hand is not started again.
func TestWhatLeavesIsNotStartedAgain(t *testing.T) {
	c := undone(t)
	left := job(c.app().Wanted, "a")
	c.steer(t, raftstate.ActionAbort)
	c.pass(t)
	c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, reconcile.Step{Stop: &reconcile.Stop{JobID: left}})
	for range 20 {
		for _, s := range c.pass(t).Steps {
			if s.Register != nil && *s.Register.Job.ID == left {
				t.Fatalf("it is started again: %s", s)
			}
		}
	}
}
