package reconcile_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// slowStart is a cluster whose replicas pass their checks when they are let.
type slowStart struct {
	*cluster
	passed map[string]bool // replicas
}

// step does one step of a plan. Replicas that are new do not pass.
func (c *slowStart) step(s reconcile.Step) {
	c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, s)
	c.index = max(c.index, c.state.Index)
	there := map[string]bool{}
	for i := range c.world.Endpoints {
		e := &c.world.Endpoints[i]
		e.Passing = c.passed[e.Replica]
		there[e.Replica] = true
	}
	for id := range c.passed {
		if !there[id] {
			delete(c.passed, id) // it has ended: one that takes its name begins anew
		}
	}
}

// pass lets some of the replicas pass that do not yet.
func (c *slowStart) start(t *rapid.T) {
	for i := range c.world.Endpoints {
		e := &c.world.Endpoints[i]
		if !e.Passing && rapid.IntRange(0, 2).Draw(t, "passes") > 0 {
			e.Passing, c.passed[e.Replica] = true, true
		}
	}
}

// capacity counts the replicas that pass and that a generation's requests go to.
func (c *slowStart) capacity(g routes.Generation) int {
	count := 0
	for _, e := range c.world.Endpoints {
		for _, version := range g.Deployments[e.Deployment].Versions() {
			if e.Passing && e.Version == version {
				count++
			}
		}
	}
	return count
}

// At each step of whatever rollouts and changes of mind, every generation that
// takes requests has the replicas for its part of them: none is taken away before
// another one can take its place, and the old version never stops serving.
func TestCapacityNeverDrops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &slowStart{newCluster(), map[string]bool{}}
		replicas := rapid.IntRange(1, 9).Draw(t, "num_replicas")
		c.command(t, deploy(versioned(t, replicas, 1)))
		for range 6 {
			for _, s := range c.diff().Steps {
				c.step(s)
			}
			for i := range c.world.Endpoints {
				e := &c.world.Endpoints[i]
				e.Passing, c.passed[e.Replica] = true, true
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "passes") {
			if rapid.IntRange(0, 7).Draw(t, "acts") == 0 {
				c.command(t, drawChange(t, replicas))
			}
			for _, s := range c.diff().Steps {
				c.undisturbed(t, s)
				c.step(s)
				c.check(t, s, replicas)
			}
			c.start(t)
			c.now = c.now.Add(time.Duration(rapid.IntRange(1, 6).Draw(t, "seconds")) * time.Second)
		}
	})
}

// undisturbed checks that s takes no replica away from a generation that takes no
// more requests: those that it has still go from one of its deployments to the
// next.
func (c *slowStart) undisturbed(t *rapid.T, s reconcile.Step) {
	app := c.state.Applications["shop"]
	if s.Scale == nil || s.Scale.Count >= s.Scale.From || app == nil || app.Deleting {
		return
	}
	for _, g := range c.world.Routes["shop"].Generations() {
		starts := g.Number == app.Wanted.Generation && app.RollingOut()
		for name, d := range g.Deployments {
			if g.Weight == 0 && !starts && jobspec.JobID("shop", name, d.Version) == s.Scale.JobID {
				t.Fatalf("%s, while its generation finishes what it has; %+v", s, app.Rollout)
			}
		}
	}
}

func (c *slowStart) check(t *rapid.T, s reconcile.Step, replicas int) {
	app := c.state.Applications["shop"]
	for _, g := range c.world.Routes["shop"].Generations() {
		want := (replicas*g.Weight + 99 - 10) / 100 // weights are whole percents
		for _, l := range app.Leaving {
			switch {
			case l.Cause != raftstate.LeavingFailed:
			case l.Version.Generation == g.Number:
				want /= 2
			case l.Weight > 0:
				return // it was bad: the others take over as they are
			}
		}
		if have := c.capacity(g); have < want {
			t.Fatalf("%s: generation %d takes %d percent with %d of %d replicas, at least %d are needed; %+v", s, g.Number, g.Weight, have, replicas, want, app.Rollout)
		}
	}
}

// versioned is the shop in one of a few versions, with any of the strategies.
func versioned(t *rapid.T, replicas, version int) *appspec.Application {
	spec := application("shop", "a")
	spec.Deployments[0].NumReplicas = replicas
	spec.Deployments[0].Task.Config["command"] = fmt.Sprintf("v%d", version)
	surge := rapid.SampledFrom([]int{10, 25, 50, 100}).Draw(t, "max_surge")
	spec.Rollout = &appspec.Rollout{
		Strategy: rapid.SampledFrom([]string{"rolling", "blue_green", "canary"}).Draw(t, "strategy"), MaxSurge: &surge,
		Interval: appspec.Duration(5 * time.Second), DrainTimeout: appspec.Duration(20 * time.Second),
	}
	if spec.Rollout.Strategy == "canary" {
		spec.Rollout.Steps = []int{1, 25, 60}
	}
	return spec
}

func drawChange(t *rapid.T, replicas int) raftstate.Command {
	steer := func(a raftstate.RolloutAction) raftstate.Command {
		return raftstate.Command{SteerRollout: &raftstate.SteerRollout{Application: "shop", Action: a}}
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return steer(raftstate.ActionAbort)
	case 1:
		return steer(raftstate.ActionPause)
	case 2:
		return steer(raftstate.ActionResume)
	case 3:
		return steer(raftstate.ActionPromote)
	case 4:
		return raftstate.Command{Rollback: &raftstate.Rollback{Application: "shop"}}
	default:
		return deploy(versioned(t, replicas, rapid.IntRange(1, 3).Draw(t, "version")))
	}
}
