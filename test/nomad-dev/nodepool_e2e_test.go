//go:build e2e

package nomaddev_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodepool"
	"github.com/serve-nomad/serve-nomad/nodescale"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// processTargets are targets that make nodes for a cluster, below its run folder.
func processTargets(t *testing.T, c cluster) *nodepool.Targets {
	t.Helper()
	found := agents(t)
	level := hclog.Warn
	if testing.Verbose() {
		level = hclog.Debug
	}
	targets, err := nodepool.New(nodepool.Config{Process: &nodepool.ProcessConfig{
		Dir: filepath.Join(c.Dir, "nodes"), NomadPath: found.Nomad.Path, ConsulPath: found.Consul.Path,
		NomadAddr: c.Nomad.URL(), ConsulAddr: c.Consul.URL(),
	}}, hclog.New(&hclog.LoggerOptions{Level: level, Output: t.Output()}))
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

func processBlueprint() nodescale.Blueprint {
	return nodescale.Blueprint{
		ClusterID: "cluster", Group: "gpu", NodePool: "gpu", Datacenter: "dc1", Class: "big",
		Labels: map[string]string{"zone": `a "quoted" ${one} <&>`}, Env: map[string]string{"FROM_GROUP": "yes"},
		CPU: 2, CPUMHz: 4000, MemoryMB: 2048, Kind: "process",
	}
}

// aNode is what Nomad says of a node.
type aNode struct {
	ID, Name, Status, NodePool, NodeClass, Datacenter string
	Attributes, Meta                                  map[string]string
	NodeResources                                     struct {
		CPU    struct{ CPUShares int }
		Memory struct{ MemoryMB int }
	}
}

// nodeNamed asks Nomad for a node by its name.
func nodeNamed(t *testing.T, c cluster, name string) (aNode, error) {
	t.Helper()
	var stubs []struct{ ID, Name string }
	body, err := tryGet(t.Context(), c.Nomad.URL()+"/v1/nodes")
	if err == nil {
		err = json.Unmarshal(body, &stubs)
	}
	if err != nil {
		return aNode{}, err
	}
	for _, s := range stubs {
		if s.Name != name {
			continue
		}
		var n aNode
		if body, err = tryGet(t.Context(), c.Nomad.URL()+"/v1/node/"+s.ID); err == nil {
			err = json.Unmarshal(body, &n)
		}
		return n, err
	}
	return aNode{}, fmt.Errorf("there is no node %s", name)
}

func waitNode(t *testing.T, c cluster, name, status string) aNode {
	t.Helper()
	var n aNode
	eventually(t, 60*time.Second, name+" is "+status, func() (err error) {
		if n, err = nodeNamed(t, c, name); err == nil && n.Status != status {
			err = fmt.Errorf("it is %q", n.Status)
		}
		return err
	})
	return n
}

// launchAll launches machines at once and waits until Nomad has them as ready.
func launchAll(t *testing.T, c cluster, targets *nodepool.Targets, b nodescale.Blueprint, ids ...string) map[string]aNode {
	t.Helper()
	began := time.Now()
	var launching sync.WaitGroup
	for _, id := range ids {
		launching.Go(func() {
			if _, err := targets.Launch(t.Context(), b, nodescale.Machine{ID: id}); err != nil {
				t.Error(err)
			}
			t.Logf("%s: Launch returned after %s", id, time.Since(began))
		})
	}
	nodes := map[string]aNode{}
	for _, id := range ids {
		nodes[id] = waitNode(t, c, id, "ready")
		t.Logf("%s: ready in Nomad after %s", id, time.Since(began))
	}
	launching.Wait()
	return nodes
}

// hidden are the processes of registerService's tasks that left their session
// and have no environment: only their cgroup says whose they are.
func hidden(t *testing.T) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range all {
		if text, rerr := os.ReadFile(path); rerr == nil && string(text) == "sleep\x0087654\x00" {
			n++
		}
	}
	return n
}

// registerService runs a raw_exec service in the pool, with so many replicas,
// one on each node.
func registerService(t *testing.T, c cluster, pool string, count int) {
	t.Helper()
	put(t, c.Nomad.URL()+"/v1/jobs", []byte(fmt.Sprintf(`{"Job": {
		"ID": "web", "Name": "web", "Type": "service", "Datacenters": ["*"], "NodePool": %q,
		"Constraints": [{"Operand": "distinct_hosts", "RTarget": "true"}],
		"TaskGroups": [{"Name": "main", "Count": %d,
			"Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
			"Services": [{"Name": "web", "PortLabel": "http", "Provider": "consul", "Checks": [
				{"Type": "http", "Path": "/", "Interval": 1000000000, "Timeout": 1000000000}]}],
			"Tasks": [{"Name": "main", "Driver": "raw_exec",
				"Config": {"command": "sh", "args": ["-c", "env -i setsid sleep 87654 & exec python3 -m http.server --bind 127.0.0.1 $NOMAD_PORT_http"]},
				"Resources": {"CPU": 500, "MemoryMB": 128}}]}]}}`, pool, count)))
}

func waitPassing(t *testing.T, c cluster, count int) {
	t.Helper()
	eventually(t, 60*time.Second, fmt.Sprintf("%d replicas pass in Consul", count), func() error {
		body, err := tryGet(t.Context(), c.Consul.URL()+"/v1/health/service/web?passing")
		if err != nil {
			return err
		}
		var all []json.RawMessage
		if err = json.Unmarshal(body, &all); err == nil && len(all) != count {
			err = fmt.Errorf("%d pass", len(all))
		}
		return err
	})
}

func TestProcessTarget(t *testing.T) {
	c := startCluster(t, agentsOnly())
	targets, b := processTargets(t, c), processBlueprint()
	ids := []string{"gpu-00000001", "gpu-00000002", "gpu-00000003"}
	put(t, c.Nomad.URL()+"/v1/node/pools", []byte(`{"Name": "gpu"}`))
	registerService(t, c, "gpu", len(ids))
	began := time.Now()
	nodes := launchAll(t, c, targets, b, ids...)
	waitPassing(t, c, len(ids))
	t.Logf("%d pending replicas passed in Consul %s after the first Launch", len(ids), time.Since(began))

	consuls := map[string]bool{}
	for id, n := range nodes {
		if n.NodePool != "gpu" || n.NodeClass != "big" || n.Datacenter != "dc1" ||
			n.Meta["serve_node"] != id || n.Meta["serve_worker_group"] != "gpu" || n.Meta["zone"] != b.Labels["zone"] ||
			n.NodeResources.CPU.CPUShares != 4000 || n.NodeResources.Memory.MemoryMB != 2048 {
			t.Errorf("%s is another node than was ordered: %+v", id, n)
		}
		consuls[n.Attributes["unique.consul.name"]] = true
	}
	if len(consuls) != len(ids) || consuls[""] {
		t.Errorf("the nodes have the Consul agents %v, want one of its own each", consuls)
	}

	t.Run("a second launch finds the machine", func(t *testing.T) {
		before := marked(c.Dir)
		if _, err := targets.Launch(t.Context(), b, nodescale.Machine{ID: ids[0]}); err != nil {
			t.Fatal(err)
		}
		if after := marked(c.Dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("processes %v after the second launch, want %v", after, before)
		}
		wantStates(t, targets, b, map[string]string{ids[0]: "running", ids[1]: "running", ids[2]: "running"})
	})
	t.Run("an agent that is killed is told of, and started again", func(t *testing.T) {
		killAgent(t, c, ids[1], "nomad")
		wantStates(t, targets, b, map[string]string{ids[0]: "running", ids[1]: "ended", ids[2]: "running"})
		if _, err := targets.Launch(t.Context(), b, nodescale.Machine{ID: ids[1]}); err != nil {
			t.Fatal(err)
		}
		if n := waitNode(t, c, ids[1], "ready"); n.ID != nodes[ids[1]].ID {
			t.Errorf("it came back as node %s, want %s", n.ID, nodes[ids[1]].ID)
		}
		waitPassing(t, c, len(ids))
	})
	t.Run("a machine whose agents are killed takes its tasks with it", func(t *testing.T) {
		killAgent(t, c, ids[2], "nomad")
		killAgent(t, c, ids[2], "consul")
		before := hidden(t)
		remove(t, c, targets, b, ids[2])
		if after := hidden(t); after != before-1 {
			t.Errorf("%d processes hide after the removal, %d did before", after, before)
		}
	})
	t.Run("removal leaves nothing", func(t *testing.T) {
		var removing sync.WaitGroup
		for _, id := range ids {
			removing.Go(func() { remove(t, c, targets, b, id) })
		}
		removing.Wait()
		wantStates(t, targets, b, map[string]string{})
		if pids := taskPids(t, c); len(pids) > 0 {
			t.Errorf("tasks %v are left", pids)
		}
		wantNoProcess(t, filepath.Join(c.Dir, "nodes"))
		waitPassing(t, c, 0)
	})
}

// TestProcessTargetIsCleanedUp kills everything that knows of a machine: the
// mark of the run folder is what is left.
func TestProcessTargetIsCleanedUp(t *testing.T) {
	c := startCluster(t, agentsOnly())
	targets, b := processTargets(t, c), processBlueprint()
	t.Setenv("SERVE_NOMAD_RUN_DIR", c.Dir) // as a server of the run has it
	put(t, c.Nomad.URL()+"/v1/node/pools", []byte(`{"Name": "gpu"}`))
	registerService(t, c, "gpu", 1)
	launchAll(t, c, targets, b, "gpu-00000001")
	waitPassing(t, c, 1)
	c.Nomad.Kill()
	c.Consul.Kill()
	began := time.Now()
	if _, err := nomaddev.Cleanup(t.Context(), c.Dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("cleaned up in %s", time.Since(began))
	wantNoProcess(t, c.Dir)
	if err := nomaddev.RemoveData(c.Dir); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, c cluster, targets *nodepool.Targets, b nodescale.Blueprint, id string) {
	t.Helper()
	began := time.Now()
	if err := targets.Remove(t.Context(), b, nodescale.Machine{ID: id}); err != nil {
		t.Error(err)
	}
	t.Logf("%s: Remove took %s", id, time.Since(began))
	if _, err := os.Stat(filepath.Join(c.Dir, "nodes", id)); !os.IsNotExist(err) {
		t.Errorf("the folder of %s is there still: %v", id, err)
	}
	if pids := marked(filepath.Join(c.Dir, "nodes", id)); len(pids) > 0 {
		t.Errorf("processes %v of %s are left", pids, id)
	}
}

func wantStates(t *testing.T, targets *nodepool.Targets, b nodescale.Blueprint, want map[string]string) {
	t.Helper()
	listing, err := targets.List(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range listing.Instances {
		got[i.ID] = i.State
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the target lists %v, want %v", listing.Instances, want)
	}
}

// killAgent ends an agent of a machine as kill -9 does.
func killAgent(t *testing.T, c cluster, id, name string) {
	t.Helper()
	config := filepath.Join(c.Dir, "nodes", id, name+".json")
	for _, pid := range marked(config) {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(cmdline), "\x00agent\x00") {
			continue
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err = p.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "it has ended", func() error {
			if nomaddev.Identity(pid) != "" {
				return fmt.Errorf("pid %d is there", pid)
			}
			return nil
		})
		return
	}
	t.Fatalf("no agent runs with %s", config)
}
