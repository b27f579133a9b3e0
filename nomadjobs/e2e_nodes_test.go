//go:build e2e

package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/reconcile"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// clientConfig is a Nomad client of its own, with a Consul agent of its own:
// two clients that share one take each other's services out.
const clientConfig = `
name      = %q
data_dir  = %q
bind_addr = "127.0.0.1"
ports {
  http = %d
  rpc  = %d
  serf = %d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
client {
  enabled           = true
  servers           = ["127.0.0.1:%d"]
  node_pool         = %q
  network_interface = "lo"
  alloc_mounts_dir  = %q
  cpu_total_compute = 2000
  memory_total_mb   = 1000
  reserved {
    cpu    = 200
    memory = 100
    reserved_ports = "8000-8001"
  }
  meta {
    serve_node = %q
  }
  options {
    "driver.allowlist"     = "raw_exec"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
consul {
  address = %q
}
`

// e2eNode starts a Nomad client of 1,800 MHz and 900 MiB in pool.
func e2eNode(t *testing.T, name, pool string) *nomaddev.Process {
	t.Helper()
	dir := filepath.Join(agents.cluster.Dir, name)
	found, err := nomaddev.Find(t.Context(), nomaddev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	consul, err := nomaddev.StartConsul(ctx, nomaddev.ConsulOptions{RunDir: dir, Name: name + "-consul", Path: found.Consul.Path, Dev: true})
	if consul != nil {
		t.Cleanup(consul.Kill)
	}
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(clientConfig, name, filepath.Join(dir, "data"), freePort(t), freePort(t), freePort(t),
		agents.cluster.Nomad.Ports.RPC, pool, filepath.Join(dir, "mounts"), name, consul.Address())
	return e2eAgent(t, found.Nomad.Path, dir, name, text)
}

// e2eAgent starts a Nomad agent with a configuration of the test's own.
func e2eAgent(t *testing.T, path, dir, name, text string) *nomaddev.Process {
	t.Helper()
	config := filepath.Join(dir, name+".hcl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := nomaddev.StartProcess(nomaddev.Command{Name: name, RunDir: dir, Path: path, Args: []string{"agent", "-config=" + config}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(nomaddev.LastLines(p.LogPath, 20))
		}
		if _, err := nomaddev.Cleanup(context.WithoutCancel(t.Context()), dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := nomaddev.FreePort(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// awaitNodes looks at everything, woken by Wake, until done says so.
func awaitNodes(t *testing.T, c *Client, what string, done func(reconcile.Observation) bool) reconcile.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen reconcile.Observation
	for range c.Wake(ctx) {
		var err error
		if seen, err = c.Observe(ctx, true); err != nil {
			t.Fatal(err)
		}
		checkCounts(t, c, seen)
		if done(seen) {
			return seen
		}
	}
	t.Fatalf("%s: not within a minute; last seen %+v", what, seen.Jobs)
	return reconcile.Observation{}
}

// checkCounts holds a look to the law that no replica is both on a node and
// waiting for one. A replica that is alive afterwards was so when it was seen.
func checkCounts(t *testing.T, c *Client, seen reconcile.Observation) {
	t.Helper()
	later, err := c.listAllocs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]bool{}
	for _, a := range later {
		running[a.ID] = alive(a.DesiredStatus, a.ClientStatus)
	}
	placed := map[string]int{}
	for _, n := range seen.Nodes {
		for _, a := range n.Allocs {
			if a.Ours && running[a.ID] {
				placed[a.Job]++
			}
		}
	}
	for id, job := range seen.Jobs {
		if job.Unplaced > 0 && job.Unplaced+placed[id] > job.Count {
			t.Errorf("%s: %d unplaced and %d placed, of %d", id, job.Unplaced, placed[id], job.Count)
		}
	}
}

func nodeNamed(seen reconcile.Observation, name string) *placement.Node {
	for _, n := range seen.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

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

// TestE2ESysbatch runs a job once on every node, as prefetch does.
func TestE2ESysbatch(t *testing.T) {
	c := e2eClient(t)
	job := &api.Job{
		ID: new("serve-prefetch-e2e"), Name: new("prefetch"), Type: new("sysbatch"), Datacenters: []string{"*"},
		Meta: map[string]string{
			jobspec.ClusterIDMeta: "e2e", jobspec.ApplicationMeta: "prefetch", jobspec.DeploymentMeta: "once", jobspec.VersionMeta: "1",
		},
		TaskGroups: []*api.TaskGroup{{Name: new("once"), Tasks: []*api.Task{{
			Name: "once", Driver: "raw_exec", Config: map[string]any{"command": "sleep", "args": []string{"5"}},
			Resources: &api.Resources{CPU: new(50), MemoryMB: new(16)},
		}}}},
	}
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	system := func(o reconcile.Observation) int {
		n := 0
		for _, node := range o.Nodes {
			for _, a := range node.Allocs {
				if a.Job == *job.ID && a.System && a.Ours && !a.Movable {
					n++
				}
			}
		}
		return n
	}
	seen := awaitNodes(t, c, "it runs", func(o reconcile.Observation) bool { return system(o) > 0 })
	if j := seen.Jobs[*job.ID]; j.Unplaced != 0 || j.Stopped || j.Ask == nil {
		t.Errorf("got %+v", j)
	}
	if err := c.Stop(t.Context(), *job.ID, seen.Jobs[*job.ID].ModifyIndex); err != nil {
		t.Fatal(err)
	}
	awaitNodes(t, c, "it is gone", func(o reconcile.Observation) bool { return system(o) == 0 && o.Jobs[*job.ID].Stopped })
}
