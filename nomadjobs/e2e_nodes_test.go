//go:build e2e

package nomadjobs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// TestE2ENodeLife follows a node from its pool to its purge.
func TestE2ENodeLife(t *testing.T) {
	c := e2eClient(t)
	const pool, name = "e2e-gpu", "e2e-gpu-00000001"
	w := reconcile.WritePool{Name: pool, Description: "of worker group e2e-gpu", Meta: map[string]string{"serve_cluster_id": "e2e-nodes"}}
	var written uint64
	for range 2 {
		if err := c.WritePool(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		p, _, err := c.nomad.NodePools().Info(pool, nil)
		if err != nil || p.Description != w.Description || p.Meta["serve_cluster_id"] != "e2e-nodes" || written != 0 && p.ModifyIndex != written {
			t.Fatalf("pool %+v, %v, first written at %d", p, err, written)
		}
		written = p.ModifyIndex
	}
	process := e2eNode(t, name, pool)
	seen := awaitNodes(t, c, "the node is ready", func(o reconcile.Observation) bool {
		n := nodeNamed(o, name)
		return o.Pools[pool] && n != nil && n.Closed == "" && n.Drivers["raw_exec"] && n.Attributes["consul.version"] != ""
	})
	node := nodeNamed(seen, name)
	if node.Said.Launch != name || node.Pool != pool || node.Room.CPU != 1800 || node.Room.MemoryMB != 900 ||
		node.Room.Cores == 0 || node.Room.DiskMB <= 0 || !node.Ports.Reserved[8000] || !node.Ports.Reserved[8001] || node.Said.Since.IsZero() {
		t.Errorf("got %+v", node)
	}

	checkRoom(t, c, node)
	job := e2eJob(t, c, "nodes", replicaScript, func(in *jobspec.Input) {
		in.Placement.NodePool, in.Count, in.Deployment.Resources.MemoryMB = pool, 3, 400
	})
	job.Constraints = []*api.Constraint{{LTarget: "${attr.kernel.name}", Operand: "=", RTarget: "linux"}}
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	full := func(o reconcile.Observation) bool {
		return o.Jobs[*job.ID].Unplaced == 1 && len(nodeNamed(o, name).Allocs) == 2
	}
	seen = awaitNodes(t, c, "two of three replicas fit", full)
	checkFullNode(t, seen, job, nodeNamed(seen, name))
	closeDrainAndOpen(t, c, name, node.ID, full)

	if err := c.Drain(t.Context(), node.ID, -1, "the test asks for it"); err != nil {
		t.Fatal(err)
	}
	awaitNodes(t, c, "the drain ends", func(o reconcile.Observation) bool {
		n := nodeNamed(o, name)
		return !n.Said.Draining && n.Closed == "not eligible" && len(n.Allocs) == 0 && o.Jobs[*job.ID].Unplaced == 3
	})
	raw, _, err := c.nomad.Nodes().Info(node.ID, nil)
	if err != nil || raw.LastDrain == nil || raw.LastDrain.Meta["message"] != "serve-nomad: the test asks for it" {
		t.Errorf("drain %+v, %v", raw.LastDrain, err)
	}
	process.Kill()
	for range 2 {
		if err := c.Purge(t.Context(), node.ID); err != nil {
			t.Fatal(err)
		}
	}
	awaitNodes(t, c, "the node is gone", func(o reconcile.Observation) bool { return nodeNamed(o, name) == nil })
	if err := c.SetEligible(t.Context(), node.ID, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("opened a node that is gone: %v", err)
	}
}

// checkRoom asks Nomad's own scheduler for as much as the node is said to have,
// and for one more.
func checkRoom(t *testing.T, c *Client, node *placement.Node) {
	t.Helper()
	for _, tc := range []struct {
		uses placement.Resources
		want string // what is lacking; "": it fits
	}{
		{placement.Resources{CPU: node.Room.CPU, MemoryMB: node.Room.MemoryMB, DiskMB: node.Room.DiskMB}, ""},
		{placement.Resources{CPU: node.Room.CPU + 1, MemoryMB: 10, DiskMB: 300}, "CPU"},
		{placement.Resources{CPU: 10, MemoryMB: node.Room.MemoryMB + 1, DiskMB: 300}, "memory"},
		{placement.Resources{CPU: 10, MemoryMB: 10, DiskMB: node.Room.DiskMB + 1}, "disk"},
	} {
		job := e2eJob(t, c, "room", replicaScript, func(in *jobspec.Input) { in.Placement.NodePool = node.Pool })
		group := job.TaskGroups[0]
		group.Tasks[0].Resources = &api.Resources{CPU: new(tc.uses.CPU), MemoryMB: new(tc.uses.MemoryMB)}
		group.EphemeralDisk = &api.EphemeralDisk{SizeMB: new(tc.uses.DiskMB)}
		problem, err := c.Plan(t.Context(), job)
		if err != nil || (problem == "") != (tc.want == "") || !strings.Contains(problem, tc.want) {
			t.Errorf("%+v: %q, %v", tc.uses, problem, err)
		}
	}
}

// checkFullNode looks at what two replicas hold, and what a third asks for.
func checkFullNode(t *testing.T, seen reconcile.Observation, job *api.Job, node *placement.Node) {
	t.Helper()
	ask := seen.Jobs[*job.ID].Ask
	if ask == nil || ask.Pool != "e2e-gpu" || ask.Uses.MemoryMB != 400 || ask.DynamicPorts != 1 || ask.Namespace != "default" || ask.Priority != 50 {
		t.Fatalf("got %+v", ask)
	}
	for _, want := range []placement.Constraint{
		{Left: "${attr.kernel.name}", Operand: "=", Right: "linux"},
		{Left: "${attr.consul.version}", Operand: "semver", Right: ">= 1.8.0"},
		{Left: "${attr.os.signals}", Operand: "set_contains", Right: "SIGTERM"},
	} {
		found := false
		for _, c := range ask.Constraints {
			found = found || c == want
		}
		if !found {
			t.Errorf("%+v is not among %+v", want, ask.Constraints)
		}
	}
	indexes := map[int]bool{}
	for _, a := range node.Allocs {
		indexes[a.Index] = true
		if !a.Ours || !a.Movable || a.System || a.Job != *job.ID || a.Uses != ask.Uses || len(a.Ports) != 1 || a.Ports[0] < node.Ports.Low || a.Ports[0] > node.Ports.High {
			t.Errorf("holds %+v, asked for %+v", a, ask.Uses)
		}
	}
	if len(indexes) != 2 {
		t.Errorf("indexes %v", indexes)
	}
	if blocked := seen.Jobs[*job.ID].Blocked; !strings.Contains(blocked, "not enough memory") {
		t.Errorf("blocked: %q", blocked)
	}
}

func closeDrainAndOpen(t *testing.T, c *Client, name, id string, full func(reconcile.Observation) bool) {
	t.Helper()
	for _, step := range []struct {
		act    func() error
		closed string
	}{
		{func() error { return c.SetEligible(t.Context(), id, false) }, "not eligible"},
		{func() error { return c.SetEligible(t.Context(), id, true) }, ""},
		{func() error { return c.Drain(t.Context(), id, time.Hour, "the test asks for it") }, "draining"},
		{func() error { return c.SetEligible(t.Context(), id, true) }, ""},
	} {
		for range 2 { // each of them may be asked for again
			if err := step.act(); err != nil {
				t.Fatal(err)
			}
		}
		awaitNodes(t, c, "the node is "+step.closed, func(o reconcile.Observation) bool { return nodeNamed(o, name).Closed == step.closed })
	}
	awaitNodes(t, c, "two replicas run again", full)
}

// TestE2EScaleWhileANodeJoins looks again and again while counts go up and down
// and a second node takes what waits.
func TestE2EScaleWhileANodeJoins(t *testing.T) {
	c := e2eClient(t)
	const pool = "e2e-cpu"
	e2eNode(t, pool+"-00000001", pool)
	awaitNodes(t, c, "the node is ready", func(o reconcile.Observation) bool {
		n := nodeNamed(o, pool+"-00000001")
		return n != nil && n.Closed == "" && n.Attributes["consul.version"] != ""
	})
	job := e2eJob(t, c, "race", replicaScript, func(in *jobspec.Input) {
		in.Placement.NodePool, in.Deployment.Resources.MemoryMB = pool, 200
	})
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, count := range []int{3, 6, 5, 8, 4, 7, 8, 6, 8} {
			if err := c.Scale(t.Context(), *job.ID, "web", count, "the test asks for it"); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond) // so that Nomad is in the midst of it
		}
	}()
	looks := 0
	look := func() {
		seen, err := c.Observe(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		checkCounts(t, c, seen)
		looks++
	}
	for range 20 {
		look()
	}
	e2eNode(t, pool+"-00000002", pool)
	for done := false; !done; {
		look()
		select {
		case <-ended:
			done = true
		default:
		}
	}
	seen := awaitNodes(t, c, "all eight run on two nodes", func(o reconcile.Observation) bool {
		n := 0
		for _, r := range o.Replicas {
			if r.JobID == *job.ID && r.Status == reconcile.ReplicaRunning {
				n++
			}
		}
		return n == 8 && o.Jobs[*job.ID].Unplaced == 0
	})
	t.Logf("%d looks", looks)
	one, two := nodeNamed(seen, pool+"-00000001"), nodeNamed(seen, pool+"-00000002")
	if len(one.Allocs)+len(two.Allocs) < 8 || len(two.Allocs) == 0 {
		t.Errorf("%d and %d", len(one.Allocs), len(two.Allocs))
	}
}

// TestE2EPrefetch runs a job once on every node of a group, also on one that
// joins later.
func TestE2EPrefetch(t *testing.T) {
	c := e2eClient(t)
	const pool = "e2e-prefetch"
	fetch := &appspec.Prefetch{
		Name: "weights", Resources: appspec.Resources{CPU: 0.01, MemoryMB: 16},
		Task: &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "sleep", "args": []string{"2"}}},
	}
	job := jobspec.RenderPrefetch("e2e-prefetch", &appspec.WorkerGroup{Name: pool, NodePool: pool}, fetch, 1000, jobspec.Placement{})
	ran := func(o reconcile.Observation, name string) (held, ended bool) {
		for _, a := range nodeNamed(o, name).Allocs {
			if a.Job == *job.ID && (!a.System || !a.Ours || a.Movable) {
				t.Errorf("got %+v", a)
			}
			held = held || a.Job == *job.ID
		}
		for _, r := range o.Replicas {
			ended = ended || r.JobID == *job.ID && r.Node == name && !held
		}
		return held, ended
	}
	if err := c.WritePool(t.Context(), reconcile.WritePool{Name: pool}); err != nil {
		t.Fatal(err)
	}
	var known uint64
	for _, name := range []string{pool + "-00000001", pool + "-00000002"} {
		e2eNode(t, name, pool)
		awaitNodes(t, c, "the node is ready", func(o reconcile.Observation) bool {
			n := nodeNamed(o, name)
			return n != nil && n.Closed == "" && n.Drivers["raw_exec"]
		})
		if err := c.Register(t.Context(), job, known); err != nil {
			t.Fatal(err)
		}
		awaitNodes(t, c, "it runs", func(o reconcile.Observation) bool { held, _ := ran(o, name); return held })
		seen := awaitNodes(t, c, "it has run", func(o reconcile.Observation) bool { _, ended := ran(o, name); return ended })
		if j := seen.Jobs[*job.ID]; j.Unplaced != 0 || j.Stopped || j.Ask == nil || j.Ask.Pool != pool || known != 0 && j.ModifyIndex != known {
			t.Errorf("got %+v", j)
		}
		known = seen.Jobs[*job.ID].ModifyIndex
	}
	if err := c.Stop(t.Context(), *job.ID, known); err != nil {
		t.Fatal(err)
	}
	awaitNodes(t, c, "it is stopped", func(o reconcile.Observation) bool { return o.Jobs[*job.ID].Stopped })
}
