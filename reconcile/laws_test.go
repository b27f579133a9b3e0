package reconcile_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// The laws hold for every sequence of commands, with the world lagging behind
// as it likes: after each command some steps are simulated, not all.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := looked()
		for range rapid.IntRange(1, 12).Draw(t, "commands") {
			c.command(t, drawCommand(t))
			for range rapid.IntRange(0, 4).Draw(t, "passes") {
				c.pass(t)
			}
		}
		c.settle(t)
		if plan := c.diff(); len(plan.Steps) > 0 {
			t.Fatalf("the plan never comes to an end:\n%s", plan)
		}
		c.settled(t)
	})
}

// settle passes, and lets time pass, until nothing is left to do: the last to go
// is a generation that has drained.
func (c *cluster) settle(t interface {
	Helper()
	Fatalf(format string, args ...any)
},
) {
	t.Helper()
	for idle := 0; idle < 40; {
		idle++
		if len(c.pass(t).Steps) > 0 {
			idle = 0
		}
		c.now = c.now.Add(10 * time.Second)
	}
}

// settled checks that the world is what the state asks for, no more, no less.
func (c *cluster) settled(t *rapid.T) {
	needed := map[string]int{}
	for name, app := range c.state.Applications {
		if app.Deleting {
			t.Fatalf("application %s is still being deleted", name)
		}
		if app.Rollout.Status == raftstate.RolloutRunning {
			s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), name)
			t.Fatalf("application %s is still rolling out version %d: %s, %s: %+v", name, app.Wanted.Number, s.Stage, s.Waits, app.Rollout)
		}
		route := c.world.Routes[name]
		if route.RoutePrefix != app.Serving.Spec.RoutePrefix {
			t.Fatalf("application %s has no route", name)
		}
		if len(route.Others) > 0 || route.Watched || len(app.Leaving) > 0 {
			t.Fatalf("application %s: something of an earlier version is left: %+v, %+v", name, route, app.Leaving)
		}
		if len(route.Deployments) != len(app.Serving.Spec.Deployments) {
			t.Fatalf("application %s: the route names %v", name, route.Deployments)
		}
		for _, d := range app.Serving.Spec.Deployments {
			entry := route.Deployments[d.Name]
			if entry.Version != app.Serving.DeploymentVersion(d.Name) || len(entry.Also) > 0 {
				t.Fatalf("application %s: the route sends %s to version %q", name, d.Name, entry.Version)
			}
			if reported := entry.MetricsInterval > 0; reported != raftstate.ScalesByItself(app.Deployment(d.Name)) || entry.HealthPath != d.HealthCheck.Path {
				t.Fatalf("application %s: the route of %s is %+v", name, d.Name, entry)
			}
			id := jobspec.JobID(name, d.Name, app.Serving.DeploymentVersion(d.Name))
			needed[id] = app.Serving.Replicas[d.Name]
			if needed[id] > 0 {
				needed[id] += c.state.SurgeOf(id)
			}
		}
	}
	for id, job := range c.world.Jobs {
		if job.Application == "" {
			continue // TestPrefetch
		}
		if count, ok := needed[id]; ok != !job.Stopped || ok && count != job.Count {
			t.Fatalf("job %s: needed %v, wanted count %d, is %+v", id, ok, count, job)
		}
		delete(needed, id)
	}
	if len(needed) > 0 {
		t.Fatalf("jobs are missing: %v", needed)
	}
	for name := range c.world.Routes {
		if c.state.Applications[name] == nil {
			t.Fatalf("the route of application %s is left over", name)
		}
	}
}

// Nothing is taken away on missing information.
func TestUnknownWorldLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := looked()
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			c.command(t, drawCommand(t))
			for range rapid.IntRange(0, 4).Draw(t, "passes") {
				c.pass(t)
			}
		}
		blind := *c.world
		blind.NomadKnown = rapid.Bool().Draw(t, "nomad known")
		blind.ConsulKnown = !blind.NomadKnown && rapid.Bool().Draw(t, "consul known")
		if rapid.Bool().Draw(t, "forgotten") {
			blind = reconcile.World{NomadKnown: blind.NomadKnown, ConsulKnown: blind.ConsulKnown}
		}
		for _, s := range reconcile.Diff(c.state, &blind, c.now, settings()).Steps {
			if s.Stop != nil || s.DropRoute != nil || s.Propose != nil {
				t.Fatalf("with Nomad known %v and Consul known %v: %s", blind.NomadKnown, blind.ConsulKnown, s)
			}
		}
	})
}

// cluster is a simulated cluster: a pure State and World, no agents.
type cluster struct {
	state *raftstate.State
	world *reconcile.World
	now   time.Time
	index uint64
	calls map[string][]string // job id -> deployments that its replicas call
}

const clusterID = "11111111-2222-3333-4444-555555555555"

func settings() reconcile.Settings {
	return reconcile.Settings{Placement: jobspec.Placement{NodePool: "default"}, HandleAddress: "127.0.0.1:8001"}
}

func newCluster() *cluster {
	return &cluster{
		state: &raftstate.State{ClusterID: clusterID},
		world: &reconcile.World{
			NomadKnown: true, ConsulKnown: true, CoreMHz: map[string]int{"default": 2000},
			Jobs: map[string]reconcile.Job{}, Routes: routes.Table{}, RouteIndex: map[string]uint64{},
		},
		now:   time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		index: 1,
		calls: map[string][]string{},
	}
}

func (c *cluster) diff() reconcile.Plan {
	return reconcile.Diff(c.state, c.world, c.now, settings())
}

func (c *cluster) command(t interface{ Helper() }, command raftstate.Command) raftstate.Result {
	t.Helper()
	c.index++
	c.now = c.now.Add(time.Second)
	command.At = c.now
	next, result := c.state.Apply(c.index, command)
	c.state = next
	if command.Deploy != nil {
		for _, in := range command.Deploy.Applications {
			for _, d := range in.Spec.Deployments {
				c.calls[jobspec.JobID(in.Spec.Name, d.Name, in.Hashes[d.Name])] = d.Handles
			}
		}
	}
	return result
}

// pass plans and executes once, and checks every stop against the table.
func (c *cluster) pass(t interface {
	Helper()
	Fatalf(format string, args ...any)
},
) reconcile.Plan {
	t.Helper()
	plan := c.diff()
	for _, s := range plan.Steps {
		if s.Stop != nil {
			job := c.world.Jobs[s.Stop.JobID]
			route, routed := c.world.Routes[job.Application]
			switch {
			case routed && route.Closed:
				c.wantUncalled(t, job)
			case routed && takes(route, job):
				t.Fatalf("a job is stopped that takes traffic: %s", s)
			}
		}
		if s.WriteRoute != nil {
			c.wantHandlesLead(t, s.WriteRoute.Route)
		}
		if s.Register != nil {
			if pool := *s.Register.Job.NodePool; pool != "default" && !c.world.Pools[pool] {
				t.Fatalf("a job is registered for a pool that is not there: %s", s)
			}
		}
		if len(s.Reason) > 512 {
			t.Fatalf("a reason of %d bytes: %s", len(s.Reason), s)
		}
		c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, s)
		c.index = max(c.index, c.state.Index)
	}
	return plan
}

// wantUncalled checks that no job that runs calls the deployment of a job of its
// generation which is about to stop.
func (c *cluster) wantUncalled(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, job reconcile.Job,
) {
	t.Helper()
	for id, other := range c.world.Jobs {
		if !other.Stopped && other.Application == job.Application && generationOf(other) == generationOf(job) &&
			slices.Contains(c.calls[withoutGeneration(id)], job.Deployment) {
			t.Fatalf("%s is stopped, and %s calls it", job.ID, id)
		}
	}
}

// takes says whether a route sends requests to a job.
func takes(route routes.Route, job reconcile.Job) bool {
	for _, g := range route.Generations() {
		if slices.Contains(g.Deployments[job.Deployment].Versions(), job.Version) {
			return true
		}
	}
	return false
}

// wantHandlesLead checks that what the replicas of an application's jobs call is
// in its new route, as far as it is in the present one.
func (c *cluster) wantHandlesLead(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, route routes.Route,
) {
	t.Helper()
	for id, job := range c.world.Jobs {
		if job.Stopped || job.Application != route.Application {
			continue
		}
		generation := generationOf(job)
		for _, name := range c.calls[withoutGeneration(id)] {
			was, is := leads(c.world.Routes[route.Application], generation, name), leads(route, generation, name)
			if was && !is {
				t.Fatalf("%s still runs and calls %s, which the route no longer has", id, name)
			}
		}
	}
}

// leads says whether handles of a generation lead to a deployment of that
// generation.
func leads(r routes.Route, generation int, deployment string) bool {
	for _, g := range r.Generations() {
		if _, there := g.Deployments[deployment]; there && g.Number == generation {
			return true
		}
	}
	return false
}

func generationOf(job reconcile.Job) int {
	_, text, later := strings.Cut(job.Version, "-g")
	if !later {
		return 0
	}
	number, _ := strconv.Atoi(text)
	return number
}

func withoutGeneration(jobID string) string {
	return regexp.MustCompile(`-g[0-9]+$`).ReplaceAllString(jobID, "")
}

func drawCommand(t *rapid.T) raftstate.Command {
	app := rapid.SampledFrom([]string{"shop", "search"}).Draw(t, "application")
	switch rapid.IntRange(0, 13).Draw(t, "kind") {
	case 0:
		return raftstate.Command{Delete: &raftstate.Delete{Application: app}}
	case 1, 2, 3, 4:
		return autoscale(app, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "deployment"),
			rapid.IntRange(0, 3).Draw(t, "from"), rapid.IntRange(0, 4).Draw(t, "to"), strings.Repeat("load ", 1000))
	case 5:
		return raftstate.Command{Scale: &raftstate.Scale{Application: app, Deployment: "a", Replicas: rapid.IntRange(0, 3).Draw(t, "replicas")}}
	case 10:
		return with(raftstate.Command{}, group(rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")))
	case 11, 12:
		return changeNodes(rapid.SliceOfN(rapid.Custom(drawNodeChange), 1, 4).Draw(t, "node changes")...)
	default:
		spec := application(app, rapid.SampledFrom([][]string{{"a"}, {"a", "b"}, {"b", "a", "c"}}).Draw(t, "deployments")...)
		for _, d := range spec.Deployments {
			d.NumReplicas = rapid.IntRange(0, 3).Draw(t, "num_replicas")
			d.MaxOngoingRequests = rapid.IntRange(1, 2).Draw(t, "max_ongoing_requests")
			d.WorkerGroup = rapid.SampledFrom([]string{"", "", "g"}).Draw(t, "worker_group")
			if policy := rapid.SampledFrom([]string{"", appspec.PolicyRay, appspec.PolicyExternal}).Draw(t, "policy"); policy != "" {
				scales(d, rapid.IntRange(0, 2).Draw(t, "min_replicas"), 4).Policy = policy
			}
			d.Task.Config["command"] = fmt.Sprintf("v%d", rapid.IntRange(1, 3).Draw(t, "command"))
		}
		for i, d := range spec.Deployments[1:] {
			caller := spec.Deployments[rapid.IntRange(0, i).Draw(t, "caller")]
			caller.Handles = append(caller.Handles, d.Name)
		}
		return deploy(spec)
	}
}

// drawNodeChange draws a step in the life of one of few nodes, with a surge of
// jobs that there may be.
func drawNodeChange(t *rapid.T) raftstate.NodeChange {
	step := rapid.SampledFrom([][2]raftstate.NodePhase{
		{"", raftstate.NodeLaunching},
		{raftstate.NodeLaunching, raftstate.NodeReady},
		{raftstate.NodeReady, raftstate.NodeDraining},
		{raftstate.NodeDraining, raftstate.NodeReturning},
		{raftstate.NodeReturning, raftstate.NodeReady},
		{raftstate.NodeDraining, raftstate.NodeTerminating},
		{raftstate.NodeTerminating, ""},
	}).Draw(t, "step")
	c := nodeChange(rapid.SampledFrom([]string{"g-00000001", "g-00000002"}).Draw(t, "node"), step[0], step[1])
	spec := application(rapid.SampledFrom([]string{"shop", "search"}).Draw(t, "application"), "a")
	spec.Deployments[0].Task.Config["command"] = fmt.Sprintf("v%d", rapid.IntRange(1, 3).Draw(t, "command"))
	c.Surge = map[string]int{jobOf(spec): rapid.IntRange(1, 2).Draw(t, "surge")}
	return c
}

// scales gives d an autoscaling block, and returns it.
func scales(d *appspec.Deployment, least, most int) *appspec.Autoscaling {
	d.Autoscaling = &appspec.Autoscaling{
		Policy: appspec.PolicyRay, MinReplicas: least, MaxReplicas: most, MetricsInterval: appspec.Duration(time.Second),
	}
	d.NumReplicas = least
	return d.Autoscaling
}

func autoscale(app, deployment string, from, to int, reason string) raftstate.Command {
	return raftstate.Command{Autoscale: &raftstate.Autoscale{Changes: []raftstate.AutoscaleChange{
		{Application: app, Deployment: deployment, From: from, To: to, Reason: reason},
	}}}
}

func application(name string, deployments ...string) *appspec.Application {
	app := &appspec.Application{Name: name, RoutePrefix: "/" + name, Ingress: deployments[0]}
	for _, d := range deployments {
		app.Deployments = append(app.Deployments, &appspec.Deployment{
			Name: d, NumReplicas: 1, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Resources:   appspec.Resources{CPU: 0.5, MemoryMB: 64},
			Task:        &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "v1"}},
			HealthCheck: appspec.HealthCheck{Path: "/healthz", Period: appspec.Duration(time.Second), Timeout: appspec.Duration(time.Second)},
		})
	}
	return app
}

func deploy(specs ...*appspec.Application) raftstate.Command {
	command := raftstate.Command{Deploy: &raftstate.Deploy{Rollouts: 1}}
	for _, spec := range specs {
		in := raftstate.DeployApplication{Spec: spec, Hashes: map[string]string{}}
		for _, d := range spec.Deployments {
			in.Hashes[d.Name] = appspec.VersionOf(spec, d)
		}
		command.Deploy.Applications = append(command.Deploy.Applications, in)
	}
	return command
}
