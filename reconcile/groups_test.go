package reconcile_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func group(name string) *appspec.WorkerGroup {
	return &appspec.WorkerGroup{
		Name: name, NodePool: name + "-pool", MaxNodes: 4, Node: appspec.NodeShape{CPU: 4, MemoryMB: 4096},
		LaunchTimeout: appspec.Duration(5 * time.Minute), Target: appspec.NodeTarget{Kind: appspec.TargetNone},
	}
}

// grouped is the application "shop", whose deployment "a" runs in a group.
func grouped(group string, replicas int) *appspec.Application {
	app := application("shop", "a")
	app.Deployments[0].WorkerGroup, app.Deployments[0].NumReplicas = group, replicas
	return app
}

// with adds worker groups to a deploy.
func with(c raftstate.Command, groups ...*appspec.WorkerGroup) raftstate.Command {
	if c.Deploy == nil {
		c.Deploy = &raftstate.Deploy{}
	}
	for _, g := range groups {
		c.Deploy.WorkerGroups = append(c.Deploy.WorkerGroups, raftstate.DeployWorkerGroup{Spec: g})
	}
	return c
}

func nodeChange(id string, from, to raftstate.NodePhase) raftstate.NodeChange {
	return raftstate.NodeChange{ID: id, Group: strings.Split(id, "-")[0], From: from, To: to, Reason: "so"}
}

func changeNodes(changes ...raftstate.NodeChange) raftstate.Command {
	return raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: changes}}
}

// node is a ready node of group "g" that was ordered under its name.
func node(name string, since time.Time) *placement.Node {
	return &placement.Node{
		ID: "id of " + name, Name: name, Pool: "g-pool", Room: placement.Resources{CPU: 8000},
		Attributes: map[string]string{"cpu.numcores": "2", "cpu.frequency": "2600"},
		Said:       placement.Said{Status: api.NodeStatusReady, Eligible: true, Launch: name, Since: since},
	}
}

// looked is a cluster whose nodes and pools are known.
func looked() *cluster {
	c := newCluster()
	c.world.NodesKnown, c.world.Pools = true, map[string]bool{"default": true, "all": true}
	return c
}

// bringUp runs passes until nothing is left to do.
func (c *cluster) bringUp(t *testing.T) {
	t.Helper()
	for range 10 {
		if len(c.pass(t).Steps) == 0 {
			return
		}
	}
	t.Fatalf("not settled:\n%s", c.diff())
}

func TestADeploymentInAGroupWithoutANode(t *testing.T) {
	g := group("g")
	g.Node.Class = "big"
	c := looked()
	c.world.CoreMHz = nil
	c.command(t, with(deploy(grouped("g", 2)), g))
	plan := c.pass(t)
	if got := kinds(plan); got != "make register route" {
		t.Fatalf("got %q", got)
	}
	want := &reconcile.WritePool{
		Name: "g-pool", Description: "Made by serve-nomad for the nodes of worker group g.",
		Meta: map[string]string{"serve_cluster_id": clusterID, "serve_worker_group": "g"},
	}
	if diff := cmp.Diff(want, plan.Steps[0].WritePool); diff != "" {
		t.Error(diff)
	}
	job := plan.Steps[1].Register.Job
	if *job.NodePool != "g-pool" || len(job.TaskGroups[0].Constraints) != 1 || job.Meta[jobspec.CoreMHzMeta] != "1000" {
		t.Errorf("pool %s, constraints %v, meta %v", *job.NodePool, job.TaskGroups[0].Constraints, job.Meta)
	}
	c.world.Nodes = []*placement.Node{node("g-00000001", c.now)} // of the pool, and faster
	c.bringUp(t)
	if got := kinds(c.diff()); got != "" {
		t.Errorf("when a node is there: %q", got)
	}
}

func TestNothingIsRegisteredInAPoolThatMayNotBeThere(t *testing.T) {
	pooled := application("shop", "a")
	pooled.Deployments[0].NodePool = "theirs"
	for name, test := range map[string]struct {
		command raftstate.Command
		known   bool
		reason  string
	}{
		"before the nodes are looked at": {with(deploy(grouped("g", 1)), group("g")), false, "Nomad's nodes and node pools have not been looked at yet"},
		"in a pool that nobody makes":    {deploy(pooled), true, `there is no node pool "theirs" in Nomad, and no worker group makes it`},
	} {
		t.Run(name, func(t *testing.T) {
			c := looked()
			c.world.NodesKnown = test.known
			c.command(t, test.command)
			if got := kinds(c.pass(t)); got != "route" {
				t.Errorf("got %q", got)
			}
			if got := c.summary().Deployments[0].Reason; got != test.reason {
				t.Errorf("status says %q", got)
			}
		})
	}
}

func TestANodePoolWithoutAGroup(t *testing.T) {
	for name, test := range map[string]struct {
		pool  string
		known map[string]int
		want  string // MHz of a core
	}{
		"of a group":              {"g-pool", map[string]int{"all": 300, "g-pool": 100}, "2000"},
		"any":                     {"all", map[string]int{"all": 3000}, "3000"},
		"any, and there is none":  {"all", nil, "2000"},
		"the default":             {"", map[string]int{"default": 2500}, "2500"},
		"somebody else's":         {"theirs", map[string]int{"theirs": 2400}, "2400"},
		"somebody else's, closed": {"theirs", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := looked()
			c.world.Pools["theirs"] = true
			c.world.CoreMHz = test.known
			c.world.Nodes = []*placement.Node{node("g-00000001", c.now)}
			app := application("shop", "a")
			app.Deployments[0].NodePool = test.pool
			c.command(t, with(deploy(app), group("g")))
			got := ""
			for _, s := range c.diff().Steps {
				if s.Register != nil {
					got = s.Register.Job.Meta[jobspec.CoreMHzMeta]
				}
			}
			if got != test.want {
				t.Errorf("a core counts for %q MHz, want %q", got, test.want)
			}
		})
	}
}

func TestCoreMHz(t *testing.T) {
	now := time.Now()
	said := group("g")
	said.Node.CoreMHz = 3100
	classed := group("g")
	classed.Node.Class = "big"
	changed := func(change func(*placement.Node)) *placement.Node {
		n := node("g-00000001", now)
		change(n)
		return n
	}
	byHand := changed(func(n *placement.Node) { n.Said.Launch = "" })
	nothing := group("g")
	nothing.Node.CPU = 0
	next := group("g")
	next.Node.CPU = 1e-300
	for name, test := range map[string]struct {
		group *appspec.WorkerGroup
		nodes []*placement.Node
		want  int
	}{
		"what the spec says":                    {said, []*placement.Node{node("g-00000001", now)}, 3100},
		"what a node has for each of its cores": {group("g"), []*placement.Node{node("g-00000001", now)}, 2000},
		"the slowest counts": {group("g"), []*placement.Node{node("g-00000001", now), changed(func(n *placement.Node) {
			n.Room.CPU = 6000
		})}, 1500},
		"of those that are ready": {group("g"), []*placement.Node{node("g-00000001", now), changed(func(n *placement.Node) {
			n.Room.CPU, n.Said.Status = 6000, "down"
		})}, 2000},
		"and of the class": {classed, []*placement.Node{node("g-00000001", now), changed(func(n *placement.Node) {
			n.Class, n.Room.CPU = "big", 10000
		})}, 2500},
		"one by hand has the cores that it has": {group("g"), []*placement.Node{byHand}, 4000},
		"without one, the slowest by hand":      {group("h"), []*placement.Node{node("g-00000001", now), byHand}, 4000},
		"or the slowest clock of those ordered": {group("h"), []*placement.Node{node("g-00000001", now)}, 2600},
		"or what is known of Nomad":             {group("h"), []*placement.Node{changed(func(n *placement.Node) { n.Attributes = nil })}, 2300},
		"an empty shape says nothing":           {nothing, []*placement.Node{node("g-00000001", now)}, 4000},
		"nor one next to it":                    {next, []*placement.Node{node("g-00000001", now)}, 1_000_000},
		"an empty node says nothing":            {group("g"), []*placement.Node{changed(func(n *placement.Node) { n.Room.CPU = 0 })}, 2300},
	} {
		t.Run(name, func(t *testing.T) {
			world := &reconcile.World{Nodes: test.nodes, CoreMHz: map[string]int{"all": 2300}}
			if got := reconcile.CoreMHz(&raftstate.State{}, world, test.group); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
	if got := reconcile.CoreMHz(&raftstate.State{}, &reconcile.World{}, group("g")); got != jobspec.DefaultCoreMHz {
		t.Errorf("where nothing is known: %d", got)
	}
}

// draining is a cluster in which a node with one replica of the shop's three is
// about to drain, and the command that drains it.
func draining(t *testing.T, replicas int) (*cluster, raftstate.Command, string) {
	t.Helper()
	shop := grouped("g", replicas)
	c := looked()
	c.command(t, with(deploy(shop), group("g")))
	c.command(t, changeNodes(nodeChange("g-00000001", "", raftstate.NodeLaunching), nodeChange("g-00000001", raftstate.NodeLaunching, raftstate.NodeReady)))
	c.bringUp(t)
	drain := nodeChange("g-00000001", raftstate.NodeReady, raftstate.NodeDraining)
	drain.Surge = map[string]int{jobOf(shop): 1, "serve-gone-a-1": 2}
	return c, changeNodes(drain), jobOf(shop)
}

func TestMoreReplicasWhileANodeDrains(t *testing.T) {
	c, drain, job := draining(t, 3)
	before := c.state
	c.command(t, drain)
	up := "scale job " + job + ", count 3 -> 4: 1 more while node g-00000001 drains"
	if got := (reconcile.Plan{Steps: reconcile.Counts(before, c.state, c.world, settings())}).String(); got != up+"\n" {
		t.Errorf("at once: %q, want %q", got, up)
	}
	if got := c.pass(t).String(); got != up+"\n" {
		t.Errorf("got %q, want %q", got, up)
	}
	s := c.summary()
	if d := s.Deployments[0]; s.Status != reconcile.Healthy || d.Target != 3 || d.Healthy != 4 || d.Surge != 1 || d.SurgeReason != "1 more while node g-00000001 drains" {
		t.Errorf("%s: %+v", s.Status, d)
	}
	if got := reconcile.JobTargets(c.state, c.world); !maps.Equal(got, map[string]int{job: 3}) {
		t.Errorf("the targets are %v", got)
	}

	t.Run("a target that changes meanwhile", func(t *testing.T) {
		d := *c
		d.command(t, raftstate.Command{By: "ada", Scale: &raftstate.Scale{Application: "shop", Deployment: "a", Replicas: 5}})
		want := "scale job " + job + ", count 4 -> 6: scaled by ada; 1 more while node g-00000001 drains\n"
		if got := d.diff().String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		d.command(t, raftstate.Command{By: "ada", Scale: &raftstate.Scale{Application: "shop", Deployment: "a", Replicas: 0}})
		if got := d.diff().Steps; len(got) != 1 || got[0].Scale.Count != 0 {
			t.Errorf("scaled to zero: %v", got)
		}
	})

	t.Run("limits that change meanwhile", func(t *testing.T) {
		d := *c
		shop := grouped("g", 3)
		shop.Deployments[0].MaxOngoingRequests = 9
		d.command(t, deploy(shop))
		if got := d.diff().Steps; len(got) == 0 || got[0].Update == nil || got[0].Update.Count != 4 {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a job that comes back meanwhile", func(t *testing.T) {
		d := *c
		d.world = &reconcile.World{}
		*d.world = *c.world
		d.world.Jobs = maps.Clone(c.world.Jobs)
		delete(d.world.Jobs, job)
		if got := d.diff().String(); !strings.HasPrefix(got, "register job "+job+", count 4") {
			t.Errorf("got %q", got)
		}
	})

	c.command(t, changeNodes(nodeChange("g-00000001", raftstate.NodeDraining, raftstate.NodeTerminating)))
	down := "scale job " + job + ", count 4 -> 3: a of application shop is to have 3 replicas\n"
	if got := c.pass(t).String(); got != down {
		t.Errorf("when it goes: %q, want %q", got, down)
	}
}

func TestTheEndOfASurgeIsNoScaling(t *testing.T) {
	c, drain, job := draining(t, 1)
	c.command(t, raftstate.Command{By: "ada", Scale: &raftstate.Scale{Application: "shop", Deployment: "a", Replicas: 2}})
	c.command(t, drain)
	c.pass(t)
	c.command(t, changeNodes(nodeChange("g-00000001", raftstate.NodeDraining, raftstate.NodeTerminating)))
	want := "scale job " + job + ", count 3 -> 2: a of application shop is to have 2 replicas\n"
	if got := c.pass(t).String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSeveralNodesDrain(t *testing.T) {
	c, _, job := draining(t, 3)
	var changes []raftstate.NodeChange
	for i := range 3 {
		id := fmt.Sprintf("g-1000000%d", i)
		drain := nodeChange(id, raftstate.NodeReady, raftstate.NodeDraining)
		drain.Surge = map[string]int{job: 2}
		changes = append(changes, nodeChange(id, "", raftstate.NodeLaunching), nodeChange(id, raftstate.NodeLaunching, raftstate.NodeReady), drain)
	}
	c.command(t, changeNodes(changes[:6]...))
	if got := c.diff().Steps[0].Reason; got != "4 more while node g-10000000 and 1 other drain" {
		t.Errorf("two: %q", got)
	}
	c.command(t, changeNodes(changes[6:]...))
	if got := c.diff().Steps[0].Reason; got != "6 more while node g-10000000 and 2 others drain" {
		t.Errorf("three: %q", got)
	}
}

func prefetching() *appspec.WorkerGroup {
	g := group("g")
	g.Prefetch = []*appspec.Prefetch{{Name: "image", Task: &api.Task{Driver: "docker", Config: map[string]any{"image": "x"}}}}
	return g
}

func TestPrefetch(t *testing.T) {
	const prefetch = "register job serve-prefetch-g-image-"
	ordered := func(t *testing.T) *cluster {
		t.Helper()
		c := looked()
		c.world.Pools["g-pool"] = true
		c.command(t, with(raftstate.Command{}, prefetching()))
		return c
	}
	running := func(t *testing.T) *cluster {
		t.Helper()
		c := ordered(t)
		c.world.Nodes = []*placement.Node{node("g-00000001", c.now)}
		c.bringUp(t)
		return c
	}

	t.Run("waits for a node", func(t *testing.T) {
		c := ordered(t)
		if got := c.diff().String(); got != "" {
			t.Errorf("without one: %q", got)
		}
		c.world.Nodes = []*placement.Node{node("g-00000001", c.now)}
		if got := c.pass(t).String(); !strings.HasPrefix(got, prefetch) || !strings.HasSuffix(got, ": it has not run on node g-00000001\n") {
			t.Errorf("with one: %q", got)
		}
		if got := c.diff().String(); got != "" {
			t.Errorf("then %q", got)
		}
	})

	t.Run("runs on nodes that come later", func(t *testing.T) {
		c := running(t)
		c.now = c.now.Add(time.Hour)
		for i := 2; i < 4; i++ {
			c.world.Nodes = append(c.world.Nodes, node(fmt.Sprintf("g-0000000%d", i), c.now))
		}
		plan := c.pass(t)
		if len(plan.Steps) != 1 || plan.Steps[0].Register.ModifyIndex != 1 || !strings.HasSuffix(plan.String(), "on node g-00000002, and on 1 more\n") {
			t.Errorf("got %q", plan)
		}
	})

	t.Run("runs on nodes that were there long before it", func(t *testing.T) {
		c := ordered(t)
		c.world.Nodes = []*placement.Node{node("g-00000001", c.now.Add(-time.Hour))}
		if got := c.pass(t).String(); !strings.HasPrefix(got, prefetch) {
			t.Errorf("got %q", got)
		}
	})

	t.Run("stays as it was made when a core counts for something else", func(t *testing.T) {
		c := running(t)
		slower := node("g-00000002", c.now)
		slower.Room.CPU = 100
		c.world.Nodes = append(c.world.Nodes, slower)
		if got := c.diff().Steps[0].Register.Job.Meta[jobspec.CoreMHzMeta]; got != "2000" {
			t.Errorf("a core counts for %s MHz", got)
		}
	})

	t.Run("is not made anew because Nomad has forgotten it", func(t *testing.T) {
		c := running(t)
		c.now = c.now.Add(time.Hour)
		c.world.Jobs, c.world.Replicas = nil, nil
		if got := c.diff().String(); got != "" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("leaves nodes alone that are not the group's, or take nothing", func(t *testing.T) {
		c := ordered(t)
		closed, away, down := node("g-00000001", c.now), node("g-00000002", c.now), node("g-00000003", c.now)
		closed.Closed, away.Pool, down.Said.Status = "draining", "default", "down"
		c.world.Nodes = []*placement.Node{closed, away, down}
		if got := c.diff().String(); got != "" {
			t.Errorf("got %q", got)
		}
	})

	for name, command := range map[string]raftstate.Command{
		"another block": with(raftstate.Command{}, func() *appspec.WorkerGroup {
			g := prefetching()
			g.Prefetch[0].Task.Config["image"] = "y"
			return g
		}()),
		"no block": with(raftstate.Command{}, group("g")),
		"no group": {DeleteWorkerGroup: &raftstate.DeleteWorkerGroup{WorkerGroup: "g"}},
	} {
		t.Run("stops when there is "+name, func(t *testing.T) {
			c := running(t)
			old := slices.Collect(maps.Keys(c.world.Jobs))[0]
			c.command(t, command)
			if strings.HasPrefix(name, "no g") {
				c.command(t, raftstate.Command{ForgetWorkerGroup: &raftstate.ForgetWorkerGroup{WorkerGroup: "g"}})
				c.world.NodesKnown = false
			}
			c.bringUp(t)
			if !c.world.Jobs[old].Stopped {
				t.Errorf("%s goes on", old)
			}
			if want := map[bool]int{true: 2, false: 1}[name == "another block"]; len(c.world.Jobs) != want {
				t.Errorf("the jobs are %v", c.world.Jobs)
			}
		})
	}

	t.Run("comes back when it was stopped and a node comes", func(t *testing.T) {
		c := running(t)
		c.command(t, with(raftstate.Command{}, group("g")))
		c.bringUp(t)
		c.command(t, with(raftstate.Command{}, prefetching()))
		if got := c.diff().String(); !strings.HasPrefix(got, "start job serve-prefetch-g-image-") {
			t.Errorf("got %q", got)
		}
	})

	t.Run("of another cluster is left alone", func(t *testing.T) {
		c := running(t)
		for id, job := range c.world.Jobs {
			job.ClusterID = "another"
			c.world.Jobs[id] = job
		}
		c.world.Nodes = append(c.world.Nodes, node("g-00000002", c.now))
		c.command(t, with(raftstate.Command{}, prefetching()))
		if got := c.diff().String(); got != "" {
			t.Errorf("got %q", got)
		}
		c.command(t, with(raftstate.Command{}, group("g")))
		if got := c.diff().String(); got != "" {
			t.Errorf("without the block: %q", got)
		}
	})
}

func TestPreviewOfAFirstGroup(t *testing.T) {
	c := newCluster()
	steps, err := reconcile.Preview(c.state, c.world, c.now, settings(), with(deploy(grouped("g", 1)), group("g")))
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(reconcile.Plan{Steps: steps}); got != "make register route record" {
		t.Errorf("got %q", got)
	}
	if c.world.NodesKnown || c.world.Pools != nil {
		t.Error("a preview changed the world")
	}
	group := with(raftstate.Command{}, group("g"))
	group.Deploy.WorkerGroups[0].Spec.NodePool = "default"
	if steps, err := reconcile.Preview(c.state, c.world, c.now, settings(), group); err != nil || len(steps) > 0 {
		t.Errorf("a group on a pool that is there: %v, %v", steps, err)
	}
}

// The wait for a node is no fault of the version that waits.
func TestARolloutThatWaitsForANode(t *testing.T) {
	const deadline = reconcile.DefaultProgressDeadline
	launching := changeNodes(nodeChange("g-00000001", "", raftstate.NodeLaunching))
	failed := nodeChange("g-00000001", raftstate.NodeLaunching, raftstate.NodeTerminating)
	failed.Failed = true
	for name, test := range map[string]struct {
		app      *appspec.Application
		commands []raftstate.Command
		deadline time.Duration
	}{
		"no node was ordered":       {grouped("g", 1), nil, deadline},
		"one is on its way":         {grouped("g", 1), []raftstate.Command{launching}, deadline + 5*time.Minute},
		"one has come":              {grouped("g", 1), []raftstate.Command{launching, changeNodes(nodeChange("g-00000001", raftstate.NodeLaunching, raftstate.NodeReady))}, deadline + 5*time.Minute},
		"one did not come":          {grouped("g", 1), []raftstate.Command{launching, changeNodes(failed), changeNodes(nodeChange("g-00000001", raftstate.NodeTerminating, ""))}, deadline + 5*time.Minute},
		"one of another group's":    {grouped("h", 1), []raftstate.Command{launching}, deadline},
		"it may run on such a node": {inPool("g-pool"), []raftstate.Command{launching}, deadline + 5*time.Minute},
		"or on any":                 {inPool("all"), []raftstate.Command{launching}, deadline + 5*time.Minute},
		"or on no such node":        {inPool("default"), []raftstate.Command{launching}, deadline},
	} {
		t.Run(name, func(t *testing.T) {
			c := looked()
			c.command(t, with(deploy(test.app), group("g"), group("h")))
			began := c.now
			for _, command := range test.commands {
				c.command(t, command)
			}
			c.pass(t)
			c.passing(jobOf(test.app), 0)
			c.now = began.Add(test.deadline - time.Second)
			if got := kinds(c.pass(t)); got != "" {
				t.Errorf("before the deadline: %q", got)
			}
			c.now = began.Add(test.deadline)
			c.pass(t)
			if r := c.rollout(); r.Status != raftstate.RolloutFailed || !strings.Contains(r.Reason, test.deadline.String()) {
				t.Errorf("at the deadline: %s: %s", r.Status, r.Reason)
			}
		})
	}

	t.Run("that was there long before", func(t *testing.T) {
		c, _, _ := draining(t, 1)
		c.now = c.now.Add(time.Hour)
		newer := grouped("g", 1)
		newer.Deployments[0].Task.Config["command"] = "v2"
		c.command(t, deploy(newer))
		c.pass(t)
		c.passing(jobOf(newer), 0)
		c.now = c.now.Add(deadline)
		c.pass(t)
		if r := c.rollout(); r.Status != raftstate.RolloutFailed {
			t.Errorf("%s: %s", r.Status, r.Reason)
		}
	})
}

func inPool(pool string) *appspec.Application {
	app := application("shop", "a")
	app.Deployments[0].NodePool = pool
	return app
}

func TestObserveNodes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	down, byHand := node("g-00000001", now), node("bare-metal", now)
	down.Said.Status, byHand.Said.Launch = "down", ""
	world := func(nodes ...*placement.Node) *reconcile.World {
		return &reconcile.World{NomadKnown: true, ConsulKnown: true, NodesKnown: true, Nodes: nodes}
	}
	up := node("g-00000001", now)
	for name, test := range map[string]struct {
		before, after *reconcile.World
		want          string
	}{
		"one joins":               {world(), world(up), "node-up g g-00000001: node g-00000001 is ready in Nomad"},
		"one comes back":          {world(down), world(up), "node-up g g-00000001: node g-00000001 is ready in Nomad"},
		"one goes down":           {world(up), world(down), "node-down g g-00000001: node g-00000001 is down in Nomad"},
		"one is forgotten":        {world(up), world(), "node-down g g-00000001: Nomad does not know node g-00000001 any more"},
		"one that was down":       {world(down), world(), ""},
		"one stays":               {world(up), world(up), ""},
		"one by hand":             {world(), world(byHand), ""},
		"nothing was known of it": {&reconcile.World{NomadKnown: true, ConsulKnown: true}, world(up), ""},
		"nothing is known of it":  {world(up), &reconcile.World{NomadKnown: true, ConsulKnown: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range reconcile.Observe(test.before, test.after, now) {
				got = append(got, fmt.Sprintf("%s %s %s: %s", e.Type, e.WorkerGroup, e.Node, e.Message))
			}
			if strings.Join(got, "\n") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A prefetch ends by itself, which no replica should.
func TestObserveLeavesPrefetchesOut(t *testing.T) {
	before := &reconcile.World{NomadKnown: true, ConsulKnown: true}
	after := &reconcile.World{
		NomadKnown: true, ConsulKnown: true, Jobs: map[string]reconcile.Job{"serve-prefetch-g-image-1": {ID: "serve-prefetch-g-image-1"}},
		Replicas: []reconcile.Replica{{ID: "x", JobID: "serve-prefetch-g-image-1", Status: reconcile.ReplicaFailed}},
	}
	if got := reconcile.Observe(before, after, time.Now()); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

// TestStandInsWaitForTheNodeToBeClosed: Nomad might place them on it.
func TestStandInsWaitForTheNodeToBeClosed(t *testing.T) {
	shop := grouped("g", 3)
	c := looked()
	c.command(t, with(deploy(shop), group("g")))
	ready := nodeChange("g-00000001", raftstate.NodeLaunching, raftstate.NodeReady)
	ready.NomadID = "n1"
	c.command(t, changeNodes(nodeChange("g-00000001", "", raftstate.NodeLaunching), ready))
	node := &placement.Node{ID: "n1", Name: "g-00000001", Pool: "g", Room: placement.Resources{CPU: 4000}, Said: placement.Said{Status: "ready", Eligible: true}}
	c.world.Nodes = append(c.world.Nodes, node)
	c.bringUp(t)
	drain := nodeChange("g-00000001", raftstate.NodeReady, raftstate.NodeDraining)
	drain.Surge = map[string]int{jobOf(shop): 1}
	before := c.state
	c.command(t, changeNodes(drain))
	if steps := reconcile.Counts(before, c.state, c.world, settings()); len(steps) != 0 {
		t.Errorf("while the node is open: %v", steps)
	}
	if got := c.diff().String(); got != "" {
		t.Errorf("while the node is open: %q", got)
	}
	node.Said.Eligible = false
	if want := "scale job " + jobOf(shop) + ", count 3 -> 4: 1 more while node g-00000001 drains\n"; c.diff().String() != want {
		t.Errorf("got %q, want %q", c.diff(), want)
	}
}
