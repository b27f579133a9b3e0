package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// scaling is the application "shop", whose deployment "a" scales by itself, in
// the version that command names.
func scaling(command string, least, most int) *appspec.Application {
	app := application("shop", "a")
	app.Deployments[0].Task.Config["command"] = command
	scales(app.Deployments[0], least, most)
	return app
}

func jobOf(app *appspec.Application) string {
	return jobspec.JobID(app.Name, "a", appspec.VersionOf(app, app.Deployments[0]))
}

// passing lets so many replicas of a job pass their checks, and no more.
func (c *cluster) passing(job string, replicas int) {
	c.world.Endpoints = slices.Clone(c.world.Endpoints)
	for i, e := range c.world.Endpoints {
		if jobspec.JobID(e.Application, e.Deployment, e.Version) == job {
			c.world.Endpoints[i].Passing = replicas > 0
			replicas--
		}
	}
}

func (c *cluster) rollout() raftstate.Rollout { return c.state.Applications["shop"].Rollout }

func (c *cluster) summary() reconcile.ApplicationStatus {
	s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
	return s
}

func TestScaleToZeroAndBack(t *testing.T) {
	shop := scaling("v1", 0, 4)
	c := newCluster()
	c.command(t, deploy(shop))
	for i, want := range []string{"register route", "record", ""} {
		if got := kinds(c.pass(t)); got != want {
			t.Errorf("pass %d: got %q, want %q", i+1, got, want)
		}
	}
	if r := c.rollout(); r.Status != raftstate.RolloutSuccessful || r.Reason != "there was no replica to wait for" {
		t.Errorf("the rollout is %s: %s", r.Status, r.Reason)
	}
	for _, step := range []struct {
		from, to int
		want     string
	}{
		{0, 1, "scale job " + jobOf(shop) + ", count 0 -> 1: autoscaler: 3 requests wait"},
		{1, 4, "scale job " + jobOf(shop) + ", count 1 -> 4: autoscaler: 3 requests wait"},
		{4, 0, "scale job " + jobOf(shop) + ", count 4 -> 0: autoscaler: 3 requests wait"},
	} {
		c.command(t, autoscale("shop", "a", step.from, step.to, "3 requests wait"))
		if got := strings.TrimSpace(c.pass(t).String()); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
		if job := c.world.Jobs[jobOf(shop)]; job.Stopped || job.Count != step.to {
			t.Errorf("the job is %+v", job)
		}
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("then %q", got)
		}
	}
}

// A job that Nomad does not take has no replica either.
func TestAFirstDeployWithoutAReplicaWaitsForItsJob(t *testing.T) {
	c := newCluster()
	c.world.CoreMHz = nil // so that nothing can be registered
	c.command(t, deploy(scaling("v1", 0, 4)))
	c.pass(t)
	if got := kinds(c.pass(t)); got != "" || c.rollout().Status != raftstate.RolloutRunning {
		t.Errorf("without a job: %q, %+v", got, c.rollout())
	}
	c.now = c.now.Add(reconcile.DefaultProgressDeadline)
	c.pass(t)
	if r := c.rollout(); r.Status != raftstate.RolloutFailed || !strings.Contains(r.Reason, "a: its job is not in Nomad yet") {
		t.Errorf("at the deadline: %s: %s", r.Status, r.Reason)
	}
}

func TestTheReasonOfAScaling(t *testing.T) {
	byHand := func(app, by, message string) raftstate.Command {
		return raftstate.Command{By: by, Scale: &raftstate.Scale{Application: app, Deployment: "a", Replicas: 3, Message: message}}
	}
	plain, moved := application("shop", "a"), application("shop", "a")
	moved.Deployments[0].NumReplicas = 5
	for name, test := range map[string]struct {
		app     *appspec.Application
		command raftstate.Command
		want    string
	}{
		"the autoscaler's":          {scaling("v1", 1, 4), autoscale("shop", "a", 1, 3, "9 requests at 3 each"), "autoscaler: 9 requests at 3 each"},
		"somebody's":                {plain, byHand("shop", "ada", "sale"), "scaled by ada: sale"},
		"somebody's without one":    {plain, byHand("shop", "ada", ""), "scaled by ada"},
		"nobody's":                  {plain, byHand("shop", "", ""), "scaled"},
		"a deploy's, where it sets": {plain, deploy(moved), "a of application shop is to have 5 replicas"},
	} {
		t.Run(name, func(t *testing.T) {
			c := settled(t, deploy(test.app))
			c.command(t, test.command)
			if steps := c.diff().Steps; len(steps) == 0 || steps[0].Scale == nil || steps[0].Reason != test.want {
				t.Errorf("got %v, want %q", steps, test.want)
			}
		})
	}

	t.Run("is not that of a version that goes less far", func(t *testing.T) {
		c := settled(t, deploy(scaling("v1", 1, 4)))
		c.command(t, deploy(scaling("v2", 1, 9)))
		c.command(t, autoscale("shop", "a", 1, 8, "load"))
		scale := slices.IndexFunc(c.diff().Steps, func(s reconcile.Step) bool { return s.Scale != nil })
		if steps := c.diff().Steps; scale < 0 || steps[scale].Scale.Count != 4 || steps[scale].Reason != "a of application shop is to have 4 replicas" {
			t.Errorf("got %v", steps)
		}
	})

	t.Run("of the autoscaler is not a deploy's", func(t *testing.T) {
		c := settled(t, deploy(scaling("v1", 1, 4)))
		c.command(t, autoscale("shop", "a", 1, 3, "load"))
		c.pass(t)
		c.command(t, deploy(scaling("v1", 4, 4)))
		if steps := c.diff().Steps; len(steps) == 0 || steps[0].Reason != "a of application shop is to have 4 replicas" {
			t.Errorf("got %v", steps)
		}
	})
}

func TestRoutesSayHowToScale(t *testing.T) {
	shop := scaling("v1", 1, 4)
	entry := func(c *cluster) routes.Deployment { return c.world.Routes["shop"].Deployments["a"] }

	t.Run("and a change of it rewrites the route alone", func(t *testing.T) {
		c := settled(t, deploy(shop))
		if e := entry(c); e.MetricsInterval != time.Second || e.HealthPath != "/healthz" || e.HealthPeriod != time.Second {
			t.Errorf("the route is %+v", e)
		}
		slower := scaling("v1", 1, 4)
		slower.Deployments[0].Autoscaling.MetricsInterval = appspec.Duration(5 * time.Second)
		c.command(t, deploy(slower))
		for i, want := range []string{"route record", ""} {
			if got := kinds(c.pass(t)); got != want {
				t.Errorf("pass %d: got %q, want %q", i+1, got, want)
			}
		}
		if e := entry(c); e.MetricsInterval != 5*time.Second {
			t.Errorf("the route is %+v", e)
		}
	})

	t.Run("which takes headers about the queue where the spec does", func(t *testing.T) {
		c := settled(t, deploy(shop))
		if entry(c).PriorityHeaders {
			t.Error("it does although nothing is said")
		}
		with := scaling("v1", 1, 4)
		with.Deployments[0].PriorityHeaders = true
		c.command(t, deploy(with))
		if got := kinds(c.pass(t)); got != "route record" || !entry(c).PriorityHeaders {
			t.Errorf("got %q, and the route is %+v", got, entry(c))
		}
	})

	t.Run("which one from before this was said gets once", func(t *testing.T) {
		c := settled(t, deploy(shop))
		route := c.world.Routes["shop"]
		old := routes.Deployment{
			Service: entry(c).Service, Version: entry(c).Version,
			MaxOngoingRequests: entry(c).MaxOngoingRequests, MaxQueuedRequests: entry(c).MaxQueuedRequests,
		}
		route.Deployments = map[string]routes.Deployment{"a": old}
		c.world.Routes["shop"] = route
		for i, want := range []string{"route", ""} {
			if got := kinds(c.pass(t)); got != want {
				t.Errorf("pass %d: got %q, want %q", i+1, got, want)
			}
		}
	})

	t.Run("but not where it scales from outside", func(t *testing.T) {
		outside := scaling("v1", 1, 4)
		outside.Deployments[0].Autoscaling.Policy = appspec.PolicyExternal
		if e := entry(settled(t, deploy(outside))); e.MetricsInterval != 0 {
			t.Errorf("the route is %+v", e)
		}
	})

	t.Run("and what replicas speak, of the version that takes traffic, until the next one does", func(t *testing.T) {
		c := settled(t, deploy(shop))
		if e := entry(c); e.Protocol != "" || e.SpeaksHTTP2() {
			t.Errorf("the route is %+v", e)
		}
		newer := scaling("v2", 1, 4)
		newer.Deployments[0].Protocol = appspec.ProtocolGRPC
		newer.Deployments[0].HealthCheck = appspec.HealthCheck{Service: "a.B", Period: appspec.Duration(time.Second), Timeout: appspec.Duration(time.Second)}
		c.command(t, deploy(newer))
		c.pass(t)
		if e := entry(c); e.Protocol != "" || e.HealthService != "" {
			t.Errorf("during the rollout: %+v", e)
		}
		c.settle(t)
		if e := entry(c); e.Protocol != routes.ProtocolGRPC || e.HealthService != "a.B" || e.HealthPath != "" || !e.SpeaksHTTP2() {
			t.Errorf("after it: %+v", e)
		}
	})

	t.Run("of the version that takes traffic, until the next one does", func(t *testing.T) {
		c := settled(t, deploy(shop))
		newer := scaling("v2", 1, 4)
		newer.Deployments[0].HealthCheck = appspec.HealthCheck{Path: "/ready", Period: appspec.Duration(3 * time.Second)}
		c.command(t, deploy(newer))
		c.pass(t)
		if e := entry(c); e.HealthPath != "/healthz" || e.HealthPeriod != time.Second {
			t.Errorf("during the rollout: %+v", e)
		}
		c.settle(t)
		if e := entry(c); e.HealthPath != "/ready" || e.HealthPeriod != 3*time.Second {
			t.Errorf("after it: %+v", e)
		}
	})
}

// A version takes requests when it has the replicas that it is to begin with and
// no fewer than serve now, as far as they are wanted at all, and at least one.
// What the load asks for beyond that, and there may be no room for, neither holds
// a rollout up nor makes it fail.
func TestRolloutOfWhatScales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(0, 3).Draw(t, "min_replicas")
		c := newCluster()
		c.command(t, deploy(scaling("v1", least, 8)))
		for range 4 {
			c.pass(t)
		}
		before := rapid.IntRange(least, 8).Draw(t, "target before")
		c.command(t, autoscale("shop", "a", least, before, "load"))
		c.pass(t)
		next := scaling("v2", least, 8)
		next.Rollout = &appspec.Rollout{Strategy: string(appspec.StrategyBlueGreen)}
		c.command(t, deploy(next))
		target := rapid.IntRange(least, 8).Draw(t, "target during")
		c.command(t, autoscale("shop", "a", before, target, "load"))
		for _, s := range c.diff().Steps { // all but what the rollout records
			if s.Propose == nil {
				c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, s)
			}
		}
		serve := rapid.IntRange(0, target).Draw(t, "old replicas that pass")
		pass := rapid.IntRange(0, max(1, target)).Draw(t, "new replicas that pass")
		c.passing(jobOf(scaling("v1", least, 8)), serve)
		c.passing(jobOf(next)+"-g2", pass)
		late := rapid.Bool().Draw(t, "late")
		if late {
			c.now = c.now.Add(reconcile.DefaultProgressDeadline)
		}
		c.pass(t)

		want, stage := raftstate.RolloutRunning, 0
		switch {
		case pass >= min(max(target, 1), max(least, 1, serve)):
			stage = 1
		case late:
			want = raftstate.RolloutFailed
		}
		if r := c.rollout(); r.Status != want || r.Stage != stage {
			t.Fatalf("with %d of %d new and %d old replicas passing, at least %d: %s at stage %d (%s), want %s at %d", pass, target, serve, least, r.Status, r.Stage, r.Reason, want, stage)
		}
	})
}

func TestRolloutAndTheDead(t *testing.T) {
	die := func(c *cluster, job string) {
		c.passing(job, 0)
		for i, r := range c.world.Replicas {
			if r.JobID == job {
				c.world.Replicas[i].Status, c.world.Replicas[i].Restarts = reconcile.ReplicaFailed, 2
				c.world.Replicas[i].Reason = "exit code 3"
			}
		}
	}
	for name, test := range map[string]struct {
		to   int
		want raftstate.RolloutStatus
	}{
		"a version that dies fails however many are wanted":   {3, raftstate.RolloutFailed},
		"one that nobody wants a replica of now is tried too": {0, raftstate.RolloutFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c := settled(t, deploy(scaling("v1", 0, 4)))
			c.command(t, autoscale("shop", "a", 0, 2, "load"))
			c.pass(t)
			next := scaling("v2", 0, 4)
			c.command(t, deploy(next))
			c.pass(t)
			c.command(t, autoscale("shop", "a", 2, test.to, "load"))
			die(c, jobOf(next))
			c.pass(t)
			if r := c.rollout(); r.Status != test.want {
				t.Errorf("%s: %s", r.Status, r.Reason)
			}
		})
	}
}

func TestStatusOfWhatScales(t *testing.T) {
	t.Run("zero replicas are as many as wanted", func(t *testing.T) {
		c := settled(t, deploy(scaling("v1", 0, 4)))
		s := c.summary()
		d := s.Deployments[0]
		if s.Status != reconcile.Healthy || s.Reason != "" || d.Status != reconcile.Healthy || d.Reason != "scaled to zero: a replica starts when a request comes" {
			t.Errorf("%s (%s), %s (%s)", s.Status, s.Reason, d.Status, d.Reason)
		}
		if a := d.Autoscaling; a == nil || a.Policy != "ray" || a.Min != 0 || a.Max != 4 || a.Last != nil {
			t.Errorf("%+v", a)
		}
	})

	t.Run("by hand, requests wait", func(t *testing.T) {
		none := application("shop", "a")
		none.Deployments[0].NumReplicas = 0
		d := settled(t, deploy(none)).summary().Deployments[0]
		if d.Status != reconcile.Healthy || !strings.Contains(d.Reason, "until it is scaled up") || d.Autoscaling != nil {
			t.Errorf("%+v", d)
		}
	})

	t.Run("a rollout's reason is not that another deployment is at zero", func(t *testing.T) {
		two := application("shop", "a", "b")
		scales(two.Deployments[0], 0, 4)
		c := newCluster()
		c.command(t, deploy(two))
		c.world.Jobs = map[string]reconcile.Job{}
		if s := c.summary(); s.Status != reconcile.Deploying || s.Reason != "" {
			t.Errorf("%s (%s)", s.Status, s.Reason)
		}
	})

	t.Run("what nobody asked more of is not on its way", func(t *testing.T) {
		c := settled(t, deploy(scaling("v1", 2, 8)))
		c.passing(jobOf(scaling("v1", 2, 8)), 1)
		if s := c.summary(); s.Status != reconcile.Degraded {
			t.Errorf("%s (%s)", s.Status, s.Reason)
		}
	})

	up := func(t *testing.T) *cluster {
		t.Helper()
		c := settled(t, deploy(scaling("v1", 1, 8)))
		first := c.world.Replicas[0]
		c.command(t, autoscale("shop", "a", 1, 4, "9 requests"))
		c.pass(t)
		c.world.Replicas[0] = first
		c.passing(jobOf(scaling("v1", 1, 8)), 1)
		return c
	}
	for name, test := range map[string]struct {
		change func(*cluster)
		want   reconcile.Health
	}{
		"more replicas on their way": {func(*cluster) {}, reconcile.Scaling},
		"all of them there":          {func(c *cluster) { c.passing(jobOf(scaling("v1", 1, 8)), 4) }, reconcile.Healthy},
		"fewer than there were":      {func(c *cluster) { c.passing(jobOf(scaling("v1", 1, 8)), 0) }, reconcile.Unhealthy},
		"one of the first gone, which another replaces": {func(c *cluster) {
			c.passing(jobOf(scaling("v1", 1, 8)), 3)
			c.world.Replicas[0].Status = reconcile.ReplicaLost
		}, reconcile.Degraded},
		"no room for them": {func(c *cluster) {
			job := c.world.Jobs[jobOf(scaling("v1", 1, 8))]
			job.Unplaced, job.Blocked = 2, "1 of 1 nodes: out of memory"
			c.world.Jobs[job.ID] = job
		}, reconcile.Degraded},
		"a new one that dies": {func(c *cluster) { c.world.Replicas[3].Restarts = 1 }, reconcile.Degraded},
		"one that died before": {func(c *cluster) {
			c.world.Replicas = append(c.world.Replicas, reconcile.Replica{
				ID: "old", JobID: jobOf(scaling("v1", 1, 8)), Status: reconcile.ReplicaFailed, CreatedAt: c.now.Add(-time.Second),
			})
		}, reconcile.Scaling},
	} {
		t.Run(name, func(t *testing.T) {
			c := up(t)
			test.change(c)
			s := c.summary()
			if s.Status != test.want || s.Deployments[0].Status != test.want {
				t.Errorf("%s (%s), want %s", s.Status, s.Reason, test.want)
			}
			if last := s.Deployments[0].Autoscaling.Last; last == nil || last.To != 4 || last.Reason != "9 requests" {
				t.Errorf("last: %+v", last)
			}
		})
	}
	if s := up(t).summary(); s.Reason != "a: autoscaler: 9 requests" {
		t.Errorf("the reason is %q", s.Reason)
	}
	c := up(t)
	c.passing(jobOf(scaling("v1", 1, 8)), 0)
	if s := c.summary(); s.Reason != "a: 0 of 4 replicas pass their health checks" {
		t.Errorf("the reason is %q", s.Reason)
	}
}
