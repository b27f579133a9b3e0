package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// tenOf is the shop with ten replicas of each deployment that run a command.
func tenOf(command string, block *appspec.Rollout, deployments ...string) *appspec.Application {
	spec := application("shop", deployments...)
	for _, d := range spec.Deployments {
		d.NumReplicas, d.Task.Config["command"] = 10, command
	}
	spec.Rollout = block
	return spec
}

// takingOver is the shop whose version 2 has just been deployed over its version 1.
func takingOver(t *testing.T, block *appspec.Rollout, deployments ...string) *cluster {
	t.Helper()
	if deployments == nil {
		deployments = []string{"a"}
	}
	c := settled(t, deploy(tenOf("v1", nil, deployments...)))
	c.must(t, deploy(tenOf("v2", block, deployments...)))
	return c
}

// canary is a block with steps of a minute each.
func canary() *appspec.Rollout {
	return &appspec.Rollout{Strategy: "canary", Steps: []int{10, 50}, Interval: appspec.Duration(time.Minute), ProgressDeadline: appspec.Duration(3 * time.Minute)}
}

func blueGreen() *appspec.Rollout { return &appspec.Rollout{Strategy: "blue_green"} }

func (c *cluster) must(t *testing.T, command raftstate.Command) {
	t.Helper()
	if err := c.command(t, command).Err(); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) steer(t *testing.T, action raftstate.RolloutAction) {
	t.Helper()
	c.must(t, raftstate.Command{SteerRollout: &raftstate.SteerRollout{Application: "shop", Action: action}})
}

// waits passes each second for a while. Replicas that are new pass at once.
func (c *cluster) waits(t *testing.T, d time.Duration) {
	t.Helper()
	for range d / time.Second {
		c.pass(t)
		c.now = c.now.Add(time.Second)
	}
}

// reach waits until the rollout is in a stage and its route stands.
func (c *cluster) reach(t *testing.T, stage string) {
	t.Helper()
	for range 600 {
		c.waits(t, time.Second)
		if app := c.app(); app.RollingOut() && app.Stage().Name == stage && kinds(c.diff()) == "" {
			return
		}
	}
	t.Fatalf("it never gets to %q: %+v", stage, c.rollout())
}

func (c *cluster) app() *raftstate.Application { return c.state.Applications["shop"] }

// job returns the id of the job of a version of the shop.
func job(v *raftstate.Version, deployment string) string {
	return jobspec.JobID("shop", deployment, v.DeploymentVersion(deployment))
}

// serves sets how the jobs of a deployment of both versions have served.
func (c *cluster) serves(deployment string, old, fresh analysis.Standing) {
	if c.world.Served == nil {
		c.world.Served = map[string]analysis.Standing{}
	}
	c.world.Served[job(c.app().Serving, deployment)] = old
	c.world.Served[job(c.app().Wanted, deployment)] = fresh
}

// answers is how a version stands that was asked a thousand times.
func answers(errors uint64, took time.Duration) analysis.Standing {
	s := analysis.Sample{Requests: 1000, Errors: errors, Latency: map[int]uint64{loads.LatencyBucket(took): 1000 - errors}}
	return analysis.Standing{Recent: s, Last: s}
}

// fail has one replica of the wanted version not pass.
func (c *cluster) fail() {
	c.world.Endpoints = slices.Clone(c.world.Endpoints)
	for i := range c.world.Endpoints {
		if e := &c.world.Endpoints[i]; e.Version == c.app().Wanted.DeploymentVersion("a") {
			e.Passing = false
			return
		}
	}
}

func (c *cluster) wantRollout(t *testing.T, status raftstate.RolloutStatus, reason string) {
	t.Helper()
	if r := c.rollout(); r.Status != status || !strings.Contains(r.Reason, reason) {
		t.Errorf("the rollout is %s: %q, stage %d; want %s: %q", r.Status, r.Reason, r.Stage, status, reason)
	}
}

func (c *cluster) wantStage(t *testing.T, name, waits string) {
	t.Helper()
	if s := c.summary(); s.Stage != name || !strings.Contains(s.Waits, waits) {
		t.Errorf("the stage is %q and waits for %q; want %q and %q; %+v", s.Stage, s.Waits, name, waits, c.rollout())
	}
}

// A generation gets its part of the requests step by step, each for its time, and
// no more replicas than the next one needs.
func TestStepsOfACanary(t *testing.T) {
	c := takingOver(t, canary())
	type step struct{ weight, replicas int }
	var steps []step
	var began []time.Time
	for range 300 {
		c.waits(t, time.Second)
		others := c.world.Routes["shop"].Others
		if !c.app().RollingOut() {
			break
		}
		at := step{0, 0}
		for _, g := range others {
			at = step{g.Weight, c.world.Jobs[job(c.app().Wanted, "a")].Count}
		}
		if len(steps) == 0 || steps[len(steps)-1].weight != at.weight {
			steps, began = append(steps, at), append(began, c.now)
		}
	}
	if want := []step{{0, 1}, {10, 5}, {50, 10}, {100, 10}}; !slices.Equal(steps, want) {
		t.Fatalf("percent and replicas: %v, want %v", steps, want)
	}
	for i, at := range began[2:] {
		if lasted := at.Sub(began[i+1]); lasted < time.Minute || lasted > 70*time.Second {
			t.Errorf("step %v lasted %s", steps[i+1], lasted)
		}
	}
	c.wantRollout(t, raftstate.RolloutSuccessful, "pass")
}

func TestGoingOn(t *testing.T) {
	t.Run("a rolling change is watched first", func(t *testing.T) {
		c := takingOver(t, nil)
		c.reach(t, "first replicas")
		c.waits(t, 8*time.Second)
		c.wantStage(t, "first replicas", "lasts until")
		c.waits(t, 20*time.Second)
		c.wantRollout(t, raftstate.RolloutSuccessful, "all 10 replicas")
	})
	t.Run("a pause holds also in the last stage", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "100 percent")
		c.steer(t, raftstate.ActionPause)
		c.waits(t, 10*time.Minute)
		c.wantStage(t, "100 percent", "paused")
		c.steer(t, raftstate.ActionResume)
		c.waits(t, 2*time.Minute)
		c.wantRollout(t, raftstate.RolloutSuccessful, "pass")
	})
	t.Run("one that is promoted waits for its replicas and for nothing else", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "10 percent")
		c.serves("a", answers(0, time.Millisecond), answers(900, time.Millisecond))
		c.steer(t, raftstate.ActionPromote)
		c.waits(t, 10*time.Second)
		c.wantRollout(t, raftstate.RolloutSuccessful, "all 10 replicas")
	})
	t.Run("a stage has not begun before Consul has its route", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "10 percent")
		for range 600 {
			for _, s := range c.diff().Steps {
				if s.WriteRoute == nil {
					c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, s)
				}
			}
			c.now = c.now.Add(time.Second)
		}
		if app := c.app(); !app.RollingOut() || app.Stage().Name != "50 percent" {
			t.Errorf("without a route it got to %q: %+v", app.Stage().Name, app.Rollout)
		}
	})
}

func TestProgressDeadline(t *testing.T) {
	t.Run("is from the time that the stage lasts", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "50 percent")
		c.fail()
		c.waits(t, 3*time.Minute+30*time.Second)
		c.wantStage(t, "50 percent", "9 of 10 replicas pass")
		c.waits(t, time.Minute)
		c.wantRollout(t, raftstate.RolloutFailed, "not healthy within 3m0s: a: 9 of 10 replicas pass")
	})
	t.Run("is each stage's", func(t *testing.T) {
		block := canary()
		block.Steps = []int{10, 20, 30, 40, 50, 60}
		c := takingOver(t, block)
		c.reach(t, "60 percent")
		c.fail()
		c.waits(t, time.Minute)
		c.wantStage(t, "60 percent", "replicas pass")
	})
}

func TestWhatANewVersionIsHeldTo(t *testing.T) {
	const ms = time.Millisecond
	limits := func(g appspec.Gates) *appspec.Rollout {
		block := canary()
		block.Gates = &g
		return block
	}
	t.Run("errors of any of its deployments", func(t *testing.T) {
		c := takingOver(t, canary(), "a", "b")
		c.reach(t, "10 percent")
		c.serves("a", answers(0, ms), answers(0, ms))
		c.serves("b", answers(0, ms), answers(100, ms))
		c.waits(t, time.Second)
		c.wantRollout(t, raftstate.RolloutFailed, "b: 100 of 1000 requests failed")
	})
	t.Run("doubts of any of its deployments, for as long as there are some", func(t *testing.T) {
		c := takingOver(t, canary(), "a", "b")
		c.reach(t, "10 percent")
		few := analysis.Sample{Requests: 23, Errors: 4}
		c.serves("a", answers(0, ms), answers(0, ms))
		c.serves("b", answers(0, ms), analysis.Standing{Recent: few, Last: few})
		c.waits(t, 2*time.Minute)
		c.wantStage(t, "10 percent", "more requests, to tell whether it is worse")
		if said := c.summary().Gates; !strings.HasPrefix(said, "b: 4 of 23 requests failed") {
			t.Errorf("the gates say %q", said)
		}
		c.serves("b", answers(0, ms), answers(0, ms))
		c.waits(t, 10*time.Second)
		c.wantStage(t, "50 percent", "")
	})
	t.Run("latency, unless no limit is asked for", func(t *testing.T) {
		for _, limit := range []float64{3, -1} {
			c := takingOver(t, limits(appspec.Gates{MaxLatencyRatio: &limit}))
			c.reach(t, "10 percent")
			c.serves("a", answers(0, 20*ms), answers(0, 200*ms))
			c.waits(t, time.Second)
			if failed := c.rollout().Status == raftstate.RolloutFailed; failed != (limit > 0) {
				t.Errorf("with a limit of %v: %+v", limit, c.rollout())
			}
		}
	})
	t.Run("restarts, though replicas pass", func(t *testing.T) {
		for _, most := range []int{0, 2, 3, -1} {
			c := takingOver(t, limits(appspec.Gates{MaxRestarts: &most}))
			c.reach(t, "10 percent")
			c.restart(3)
			c.waits(t, time.Second)
			if failed := c.rollout().Status == raftstate.RolloutFailed; failed != (most == 0 || most == 2) {
				t.Errorf("three, with at most %d: %+v", most, c.rollout())
			}
		}
		c := takingOver(t, nil)
		c.reach(t, "first replicas")
		c.steer(t, raftstate.ActionPromote)
		c.restart(3)
		c.waits(t, time.Second)
		c.wantRollout(t, raftstate.RolloutRunning, "")
	})
	t.Run("its queries, once requests reach it", func(t *testing.T) {
		c := takingOver(t, limits(appspec.Gates{Queries: []*appspec.Query{{Name: "depth"}}}))
		c.reach(t, "10 percent")
		c.waits(t, 2*time.Minute)
		c.wantStage(t, "10 percent", "its queries have not been asked yet")
		c.world.Queries = map[string][]reconcile.QueryResult{"shop": {{Name: "depth", Known: true, Reason: "9 is above its max"}}}
		c.waits(t, time.Second)
		c.wantRollout(t, raftstate.RolloutFailed, `query "depth": 9 is above its max`)
	})
	t.Run("copies of requests, before it gets any", func(t *testing.T) {
		block := blueGreen()
		block.Shadow = 20
		c := takingOver(t, block)
		c.reach(t, "shadow")
		if g := c.world.Routes["shop"].Others; len(g) != 1 || g[0].Shadow != 20 || g[0].Weight != 0 {
			t.Errorf("the route is %+v", g)
		}
		c.serves("a", answers(0, ms), analysis.Standing{Shadow: loads.Shadowed{Requests: 100, Differing: 20, Errors: 20}})
		c.waits(t, time.Second)
		c.wantRollout(t, raftstate.RolloutFailed, "20 of 100 copies failed whose request did not")
	})
	t.Run("at once, also while its route is on its way", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "10 percent")
		c.serves("a", answers(0, ms), answers(100, ms))
		c.world.Routes = routes.Table{}
		if got := kinds(c.diff()); got != "route record" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("and while it is paused", func(t *testing.T) {
		c := takingOver(t, canary())
		c.reach(t, "10 percent")
		c.steer(t, raftstate.ActionPause)
		c.serves("a", answers(0, ms), answers(100, ms))
		c.waits(t, time.Second)
		c.wantRollout(t, raftstate.RolloutFailed, "100 of 1000 requests failed")
	})
}

// restart has a replica of the wanted version have died some times.
func (c *cluster) restart(times int) {
	c.world.Replicas = slices.Clone(c.world.Replicas)
	for i := range c.world.Replicas {
		if r := &c.world.Replicas[i]; r.JobID == job(c.app().Wanted, "a") {
			r.Restarts = times
			return
		}
	}
}

func TestARolloutThatMayNotRollBack(t *testing.T) {
	block := canary()
	block.AutoRollback = new(bool)
	c := takingOver(t, block)
	c.reach(t, "10 percent")
	c.serves("a", answers(0, time.Millisecond), answers(100, time.Millisecond))
	c.waits(t, 5*time.Minute)
	c.wantStage(t, "10 percent", "paused")
	if r := c.rollout(); r.Paused == nil || !strings.Contains(r.Paused.Reason, "100 of 1000 requests failed") {
		t.Errorf("it is %+v", r)
	}
	c.steer(t, raftstate.ActionAbort)
	c.wantRollout(t, raftstate.RolloutFailed, "aborted")
}
