package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// kinds names the steps of a plan by what they do.
func kinds(p reconcile.Plan) string {
	var list []string
	for _, s := range p.Steps {
		list = append(list, strings.Fields(s.String())[0])
	}
	return strings.Join(list, " ")
}

func TestDiff(t *testing.T) {
	shop := application("shop", "a")
	newer := application("shop", "a")
	newer.Deployments[0].Task.Config["command"] = "v2"
	limits := application("shop", "a")
	limits.Deployments[0].MaxOngoingRequests = 9

	t.Run("a first deploy makes a job and a route, then ends its rollout", func(t *testing.T) {
		c := newCluster()
		c.command(t, deploy(shop))
		if got := kinds(c.pass(t)); got != "register route" {
			t.Errorf("first pass: %s", got)
		}
		if got := kinds(c.pass(t)); got != "record" {
			t.Errorf("second pass: %s", got)
		}
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("third pass: %s", got)
		}
	})

	t.Run("a new version starts, takes the traffic, and only then the old one stops", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(newer))
		for i, want := range []string{"register route", "record", "", "record", "scale record", "route", "stop", ""} {
			if got := kinds(c.pass(t)); got != want {
				t.Errorf("pass %d: got %q, want %q", i+1, got, want)
			}
			c.now = c.now.Add(6 * time.Second) // the first replicas are watched for 10 s
		}
	})

	t.Run("an application's own bound on bodies reaches the route, and no replica", func(t *testing.T) {
		bounded := application("shop", "a")
		bounded.MaxBodyBytes = 1 << 20
		c := settled(t, deploy(shop))
		c.command(t, deploy(bounded))
		if got := kinds(c.pass(t)); got != "route record" || c.world.Routes["shop"].MaxBodyBytes != 1<<20 {
			t.Errorf("got %q, and the route %+v", got, c.world.Routes["shop"])
		}
	})

	t.Run("limits change without a new job", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(limits))
		if got := kinds(c.pass(t)); got != "update route record" {
			t.Errorf("got %q", got)
		}
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("then %q", got)
		}
	})

	t.Run("limits change in the job as it is, however it would be made now", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(limits))
		for _, s := range c.diff().Steps {
			if s.Register != nil {
				t.Errorf("a whole job is registered, which replaces all its replicas where the servers' settings changed: %s", s)
			}
		}
	})

	t.Run("what is not needed stays while Nomad does not answer", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(newer))
		for range 3 {
			c.pass(t)
		}
		c.world.NomadKnown = false
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("a core's MHz stays as the job was made", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.world.CoreMHz["default"] = 3000
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("a job of another cluster is left alone and named", func(t *testing.T) {
		c := settled(t, deploy(shop))
		id := jobspec.JobID("shop", "a", appspec.VersionOf(shop, shop.Deployments[0]))
		job := c.world.Jobs[id]
		job.ClusterID = "another"
		c.world.Jobs[id] = job
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("got %q", got)
		}
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if !strings.Contains(s.Deployments[0].Reason+s.Reason, "another serve-nomad cluster") && s.Status != reconcile.Healthy {
			t.Errorf("status says %+v", s)
		}
	})

	t.Run("a route prefix that another cluster has is left to it, and named", func(t *testing.T) {
		c := newCluster()
		c.world.Routes["stall"] = routes.Route{ClusterID: "another", Application: "stall", RoutePrefix: "/shop"}
		c.command(t, deploy(shop))
		if got := kinds(c.pass(t)); got != "register" {
			t.Errorf("got %q", got)
		}
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if s.Status != reconcile.Unhealthy || !strings.Contains(s.Reason, `application "stall" of another serve-nomad cluster (another)`) {
			t.Errorf("status: %s, %s", s.Status, s.Reason)
		}
	})

	t.Run("a job stopped by hand comes back", func(t *testing.T) {
		c := settled(t, deploy(shop))
		for id, job := range c.world.Jobs {
			job.Stopped, job.Count = true, 0
			c.world.Jobs[id] = job
		}
		if got := kinds(c.pass(t)); got != "start" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("without a node nothing is registered, and status says why", func(t *testing.T) {
		c := newCluster()
		c.world.CoreMHz = nil
		c.command(t, deploy(shop))
		if got := kinds(c.pass(t)); got != "route" {
			t.Errorf("got %q", got)
		}
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if !strings.Contains(s.Reason, `no node of pool "default" is ready`) {
			t.Errorf("reason: %q", s.Reason)
		}
	})

	t.Run("a deletion closes the route first, then stops the jobs, then drops route and memory", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, raftstate.Command{Delete: &raftstate.Delete{Application: "shop"}})
		for i, want := range []string{"close", "stop", "drop", "record", ""} {
			if got := kinds(c.pass(t)); got != want {
				t.Errorf("pass %d: got %q, want %q", i+1, got, want)
			}
		}
		if len(c.state.Applications) != 0 {
			t.Error("the application is still there")
		}
	})
}

func TestSummarise(t *testing.T) {
	shop := application("shop", "a")
	health := func(c *cluster) reconcile.Health {
		s, ok := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if !ok {
			return ""
		}
		return s.Status
	}

	t.Run("a version is on its way until its route is written", func(t *testing.T) {
		c := settled(t, deploy(shop))
		newer := application("shop", "a")
		newer.Deployments[0].Task.Config["command"] = "v2"
		c.command(t, deploy(newer))
		for i := range 7 {
			want := reconcile.Deploying
			if i == 6 {
				want = reconcile.Healthy
			}
			if got := health(c); got != want {
				t.Errorf("after %d passes: %s, want %s", i, got, want)
			}
			c.pass(t)
			c.now = c.now.Add(6 * time.Second)
		}
	})

	t.Run("a deletion shows the replicas that are left", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, raftstate.Command{Delete: &raftstate.Delete{Application: "shop"}})
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if s.Status != reconcile.Deleting || len(s.Deployments) != 1 || len(s.Deployments[0].Replicas) != 1 {
			t.Errorf("status: %+v", s)
		}
	})

	t.Run("a server that does not lead does not know", func(t *testing.T) {
		c := settled(t, deploy(shop))
		s, _ := reconcile.Summarise(c.state, nil, c.now, settings(), "shop")
		if s.Status != reconcile.Unknown || s.Reason == "" {
			t.Errorf("status: %s, %q", s.Status, s.Reason)
		}
	})
}

func TestRolloutFailure(t *testing.T) {
	shop := application("shop", "a")
	broken := application("shop", "a")
	broken.Deployments[0].Task.Config["command"] = "broken"
	id := jobspec.JobID("shop", "a", appspec.VersionOf(broken, broken.Deployments[0]))

	die := func(c *cluster, restarts int) {
		c.world.Endpoints = slices.Clone(c.world.Endpoints)
		for i := range c.world.Endpoints {
			if c.world.Endpoints[i].Version == appspec.VersionOf(broken, broken.Deployments[0]) {
				c.world.Endpoints[i].Passing = false
			}
		}
		for i, r := range c.world.Replicas {
			if r.JobID == id {
				c.world.Replicas[i].Restarts = restarts
				c.world.Replicas[i].Status = reconcile.ReplicaFailed
				c.world.Replicas[i].Reason = "exit code 3"
			}
		}
	}

	t.Run("a version whose replicas die is undone and the old one serves on", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(broken))
		c.pass(t)
		die(c, 2)
		if got := kinds(c.pass(t)); got != "record" {
			t.Fatalf("got %q", got)
		}
		app := c.state.Applications["shop"]
		if app.Rollout.Status != raftstate.RolloutFailed || !strings.Contains(app.Rollout.Reason, "exit code 3") {
			t.Errorf("rollout: %+v", app.Rollout)
		}
		if app.Serving.Number != 1 {
			t.Errorf("version %d serves", app.Serving.Number)
		}
		for i, want := range []string{"route", "record stop", ""} {
			if got := kinds(c.pass(t)); got != want {
				t.Errorf("pass %d after that: %q, want %q", i+1, got, want)
			}
		}
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		if s.Status != reconcile.Failed || !strings.Contains(s.Reason, "version 1 serves") {
			t.Errorf("status: %s, %s", s.Status, s.Reason)
		}
	})

	t.Run("a deployment that does not change may be short and holds nothing up", func(t *testing.T) {
		two := application("shop", "a", "b")
		two.Deployments[1].NumReplicas = 3
		c := settled(t, deploy(two))
		changed := application("shop", "a", "b")
		changed.Deployments[1].NumReplicas = 3
		changed.Deployments[0].Task.Config["command"] = "v2"
		c.command(t, deploy(changed))
		c.pass(t)
		c.world.Endpoints = slices.DeleteFunc(slices.Clone(c.world.Endpoints), func(e routes.Endpoint) bool {
			return e.Deployment == "b"
		})
		for range 5 {
			c.pass(t)
			c.now = c.now.Add(6 * time.Second)
		}
		if r := c.state.Applications["shop"].Rollout; r.Status != raftstate.RolloutSuccessful {
			t.Errorf("got %+v", r)
		}
	})

	t.Run("the dead of an earlier rollout are not shown in the next", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(broken))
		c.pass(t)
		die(c, 5)
		c.pass(t)
		c.command(t, deploy(broken))
		s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop")
		for _, d := range s.Deployments {
			if d.Failed > 0 {
				t.Errorf("%s: %d failed, %s", d.Name, d.Failed, d.Reason)
			}
		}
	})

	t.Run("one death is not the end", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(broken))
		c.pass(t)
		die(c, 0)
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("deaths before this rollout do not count", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(broken))
		c.pass(t)
		die(c, 5)
		for i := range c.world.Replicas {
			c.world.Replicas[i].CreatedAt = c.now.Add(-time.Hour)
		}
		if got := kinds(c.pass(t)); got != "" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("a rollout that gets nowhere fails at the deadline", func(t *testing.T) {
		c := settled(t, deploy(shop))
		c.command(t, deploy(broken))
		c.pass(t)
		die(c, 0)
		c.now = c.now.Add(reconcile.DefaultProgressDeadline)
		if got := kinds(c.pass(t)); got != "record" {
			t.Errorf("got %q", got)
		}
		if r := c.state.Applications["shop"].Rollout; r.Status != raftstate.RolloutFailed || !strings.Contains(r.Reason, "10m") {
			t.Errorf("rollout: %+v", r)
		}
	})
}

// What could not be seen, or not be done, has no delay.
func TestProgressDeadlineCountsOnlyKnownTime(t *testing.T) {
	for _, away := range []string{"nomad", "consul", "the leader"} {
		c := newCluster()
		c.command(t, deploy(application("shop", "a")))
		c.world.NomadKnown, c.world.ConsulKnown = away != "nomad", away != "consul"
		c.now = c.now.Add(time.Hour)
		if away != "the leader" {
			c.pass(t)
		}
		c.world.NomadKnown, c.world.ConsulKnown, c.world.Since = true, true, c.now
		for range 3 {
			c.pass(t)
		}
		if r := c.state.Applications["shop"].Rollout; r.Status != raftstate.RolloutSuccessful {
			t.Errorf("%s was away for an hour: the rollout is %s: %s", away, r.Status, r.Reason)
		}
	}
}

func TestHandlesLeadSomewhere(t *testing.T) {
	old := application("shop", "till", "stock")
	old.Deployments[0].Handles = []string{"stock"}
	newer := application("shop", "till", "cellar")
	newer.Deployments[0].Handles = []string{"cellar"}
	newer.Rollout = &appspec.Rollout{Strategy: string(appspec.StrategyRolling)}
	jobID := func(app *appspec.Application, i int) string {
		return jobspec.JobID("shop", app.Deployments[i].Name, appspec.VersionOf(app, app.Deployments[i]))
	}
	c := settled(t, deploy(old))
	c.command(t, deploy(newer))
	c.pass(t)

	// A new replica may call what it needs before it passes its own check.
	added := c.world.Routes["shop"].Deployments["cellar"]
	if want := appspec.VersionOf(newer, newer.Deployments[1]); added.Version != want {
		t.Errorf("the route sends calls of cellar to version %q, want %q", added.Version, want)
	}
	for range 5 { // the rollout, and the route
		c.pass(t)
		c.now = c.now.Add(6 * time.Second)
	}
	if s, _ := reconcile.Summarise(c.state, c.world, c.now, settings(), "shop"); s.Status != reconcile.Healthy {
		t.Errorf("with an old version on its way out the shop is %s: %s", s.Status, s.Reason)
	}
	if got, want := strings.TrimSpace(c.diff().String()), "stop job "+jobID(old, 0); !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
		t.Fatalf("got %q, want %q alone", got, want)
	}
	c.pass(t)

	// The old till finishes what it began, and may call the stock for it.
	draining := reconcile.Replica{ID: "draining", JobID: jobID(old, 0), Status: reconcile.ReplicaStopping}
	c.world.Replicas = append(c.world.Replicas, draining)
	if got := kinds(c.pass(t)); got != "" {
		t.Fatalf("while a replica drains: %q", got)
	}
	if _, there := c.world.Routes["shop"].Deployments["stock"]; !there {
		t.Error("the stock has left the route too early")
	}
	c.world.Replicas = slices.DeleteFunc(c.world.Replicas, func(r reconcile.Replica) bool { return r.ID == draining.ID })
	for i, want := range []string{"route", "stop", ""} {
		if got := kinds(c.pass(t)); got != want {
			t.Errorf("pass %d after that: got %q, want %q", i+1, got, want)
		}
	}
}

// What a rollout waits for and what its gates say are told beside each other.
func TestDoubtsAreSaidOnce(t *testing.T) {
	newer := application("shop", "a")
	newer.Deployments[0].Task.Config["command"] = "v2"
	c := settled(t, deploy(application("shop", "a")))
	if err := c.command(t, deploy(newer)).Err(); err != nil {
		t.Fatal(err)
	}
	c.pass(t)
	sample := func(requests, errors uint64) analysis.Standing {
		s := analysis.Sample{Requests: requests, Errors: errors}
		return analysis.Standing{Recent: s, Last: s}
	}
	app := c.state.Applications["shop"]
	c.world.Served = map[string]analysis.Standing{
		jobspec.JobID("shop", "a", app.Serving.DeploymentVersion("a")): sample(240, 0),
		jobspec.JobID("shop", "a", app.Wanted.DeploymentVersion("a")):  sample(23, 4),
	}
	s := c.summary()
	if want := "a: 4 of 23 requests failed"; s.Waits != "more requests, to tell whether it is worse" || !strings.HasPrefix(s.Gates, want) {
		t.Errorf("it waits for %q, and the gates say %q", s.Waits, s.Gates)
	}
}

func TestPreview(t *testing.T) {
	shop := application("shop", "a")
	newer := application("shop", "a")
	newer.Deployments[0].Task.Config["command"] = "v2"
	c := settled(t, deploy(shop))

	steps, err := reconcile.Preview(c.state, c.world, c.now, settings(), deploy(newer))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(reconcile.Plan{Steps: steps}); got != "register route record record scale record route stop" {
		t.Errorf("got %q", got)
	}
	if text := (reconcile.Plan{Steps: steps}).String(); strings.Contains(text, "stage 1:") || !strings.Contains(text, "as ready for stage 3:") {
		t.Errorf("there are three stages, counted from 1, and it begins in the first:\n%s", text)
	}
	same, err := reconcile.Preview(c.state, c.world, c.now, settings(), deploy(shop))
	if err != nil || len(same) != 0 {
		t.Errorf("deploying the same again: %v, %v", same, err)
	}
	if len(c.world.Jobs) != 1 {
		t.Error("a preview changed the world")
	}
}

// settled returns a cluster after command, with nothing left to do.
func settled(t *testing.T, command raftstate.Command) *cluster {
	t.Helper()
	c := newCluster()
	if err := c.command(t, command).Err(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if len(c.pass(t).Steps) == 0 {
			return c
		}
	}
	t.Fatalf("not settled:\n%s", c.diff())
	return nil
}
