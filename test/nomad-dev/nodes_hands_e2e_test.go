//go:build e2e

package nomaddev_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// nomadNodes returns the names of the nodes that Nomad knows, but its own.
func (s *shop) nomadNodes(t *testing.T) map[string]string {
	t.Helper()
	var nodes []struct{ Name, Status string }
	decode(t, get(t, s.Nomad.URL()+"/v1/nodes"), &nodes)
	status := map[string]string{}
	for _, n := range nodes {
		if n.Name != "nomad" {
			status[n.Name] = n.Status
		}
	}
	return status
}

// saysOf waits until what is said of a node has a part.
func (s *shop) saysOf(group, part string) nodescale.NodeReport {
	s.t.Helper()
	var found nodescale.NodeReport
	eventually(s.t, 30*time.Second, fmt.Sprintf("a node of %s says %q", group, part), func() error {
		g, err := s.group(group)
		if err != nil {
			return err
		}
		for _, n := range g.Nodes {
			if strings.Contains(n.Reason, part) {
				found = n
				return nil
			}
		}
		return fmt.Errorf("%+v", g.Nodes)
	})
	return found
}

// TestNodesByHand does by hand what is the node autoscaler's to do, and puts
// things of its own in its way.
func TestNodesByHand(t *testing.T) {
	s := startShop(t, 1, 1)
	targets := processTargets(t, s.cluster)
	t.Setenv("SERVE_NOMAD_RUN_DIR", s.Dir) // as a server of the run has it
	s.deployText(t, 0, workerGroup("cpu", "max_nodes = 4", "", byProcess)+workerGroup("spare", "", "", byProcess))

	t.Run("a node that is added is used, and never removed", func(t *testing.T) {
		mine := nodescale.Blueprint{ClusterID: "mine", Group: "mine", NodePool: "cpu", Datacenter: "dc1", CPU: 1, CPUMHz: 1000, MemoryMB: 512, Kind: "process"}
		if _, err := targets.Launch(t.Context(), mine, nodescale.Machine{ID: "mine-1"}); err != nil {
			t.Fatal(err)
		}
		s.saysOf("cpu", "never removed")
		s.deployText(t, 0, s.workers("app", 4, `worker_group = "cpu"`))
		s.groupHas("cpu", 1)
		s.serves("app")
		s.mustCLI("delete", "app")
		s.groupHas("cpu", 0)
		if got := s.nomadNodes(t); len(got) != 1 || got["mine-1"] != "ready" {
			t.Errorf("nodes: %v", got)
		}
		node, err := nodeNamed(t, s.cluster, "mine-1")
		if err == nil {
			err = targets.Remove(t.Context(), mine, nodescale.Machine{ID: "mine-1"})
		}
		if err != nil {
			t.Fatal(err)
		}
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.ID+"/purge", "")
	})
	t.Run("one that is drained is left alone until it is opened", func(t *testing.T) {
		s.deployText(t, 0, s.workers("app", 1, `worker_group = "cpu"`))
		s.serves("app")
		node := s.groupHas("cpu", 1)[0]
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.NomadID+"/drain", `{"DrainSpec": {"Deadline": 60000000000}}`)
		s.groupHas("cpu", 2)
		eventually(t, 60*time.Second, "its replicas have moved", func() error {
			for _, r := range s.serves("app").Replicas {
				if r.Node == node.Name {
					return errors.New(r.Node)
				}
			}
			return nil
		})
		if n := s.saysOf("cpu", "somebody has closed it"); n.ID != node.ID {
			t.Errorf("%+v", n)
		}
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.NomadID+"/eligibility", `{"Eligibility": "eligible"}`)
		if left := s.groupHas("cpu", 1)[0]; left.ID == node.ID {
			t.Errorf("%+v", left)
		}
		s.serves("app")
	})
	t.Run("one that is purged comes back, or another takes its place", func(t *testing.T) {
		node := s.groupHas("cpu", 1)[0]
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.NomadID+"/purge", "")
		waitNode(t, s.cluster, node.Name, "ready")
		s.serves("app")
		n := s.groupHas("cpu", 1)[0]
		if got := s.nomadNodes(t); len(got) != 1 || got[n.Name] != "ready" {
			t.Errorf("nodes: %v", got)
		}
	})
	t.Run("what somebody else runs on one keeps it", func(t *testing.T) {
		s.groupHas("cpu", 1)
		put(t, s.Nomad.URL()+"/v1/jobs", []byte(`{"Job": {
			"ID": "other", "Name": "other", "Type": "service", "Datacenters": ["*"], "NodePool": "cpu",
			"TaskGroups": [{"Name": "main", "Count": 1, "Tasks": [{"Name": "main", "Driver": "raw_exec",
				"Config": {"command": "sleep", "args": ["3600"]}, "Resources": {"CPU": 100, "MemoryMB": 64}}]}]}}`))
		eventually(t, 30*time.Second, "it runs", func() error {
			if g, err := s.group("cpu"); err != nil || len(g.Nodes) != 1 || g.Nodes[0].Others != 1 {
				return fmt.Errorf("%w: %+v", err, g.Nodes)
			}
			return nil
		})
		s.mustCLI("delete", "app")
		s.mustCLI("node-groups", "delete", "-detach", "cpu")
		s.saysOf("cpu", "1 allocation of other jobs")
		s.groupHas("cpu", 1)
		var allocs []struct{ ClientStatus, DesiredStatus string }
		decode(t, get(t, s.Nomad.URL()+"/v1/job/other/allocations"), &allocs)
		if len(allocs) != 1 || allocs[0].ClientStatus != "running" || allocs[0].DesiredStatus != "run" {
			t.Errorf("%+v", allocs)
		}
		s.nomadDo(t, http.MethodDelete, "/v1/job/other?purge=true", "")
		eventually(t, 30*time.Second, "the group is gone", func() error {
			if _, err := s.group("cpu"); !api.CodeNotFound.Is(err) {
				return fmt.Errorf("%w", err)
			}
			return nil
		})
	})
	t.Run("a node pool that is deleted is made again", func(t *testing.T) {
		var before, after struct{ CreateIndex uint64 }
		decode(t, get(t, s.Nomad.URL()+"/v1/node/pool/spare"), &before)
		s.nomadDo(t, http.MethodDelete, "/v1/node/pool/spare", "")
		eventually(t, 30*time.Second, "it is there", func() error {
			body, err := tryGet(t.Context(), s.Nomad.URL()+"/v1/node/pool/spare")
			if err == nil {
				decode(t, body, &after)
			}
			return err
		})
		if after.CreateIndex == before.CreateIndex {
			t.Error("it was not deleted")
		}
	})
}

// TestNodesWhileNomadIsAway has Consul end and Nomad's server hang for 40 s: nodes
// that would be due stay, requests are answered, and then it goes on.
func TestNodesWhileNomadIsAway(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	s.deployText(t, 0, workerGroup("idle", "min_nodes = 1", "", byProcess)+workerGroup("busy", "max_nodes = 3", "", byProcess)+
		s.workers("app", 2, `worker_group = "busy"`))
	idle, busy := s.groupHas("idle", 1)[0], s.groupHas("busy", 1)[0]
	s.serves("app")
	l := s.startLoadOf(20, func(int) string { return "/app?sleep=20ms" })
	l.answered(t, 20)

	s.Consul.Kill()
	s.saysOf("idle", "nothing is taken away now: Consul is not known")
	s.deployDetached(t, workerGroup("idle", "", "", byProcess)) // from now on its node is due
	s.saysOf("idle", "nothing is taken away now: Consul is not known")
	if err := syscall.Kill(s.Nomad.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	outage := time.After(40 * time.Second)
	t.Cleanup(func() { syscall.Kill(s.Nomad.Pid(), syscall.SIGCONT) }) //nolint:errcheck // it may have ended
	s.saysOf("idle", "nothing is taken away now: Nomad is not known")
	if err := s.Consul.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-outage
	for name, was := range map[string]nodescale.NodeReport{"idle": idle, "busy": busy} {
		if n := s.groupHas(name, 1)[0]; n.ID != was.ID {
			t.Errorf("%+v became %+v", was, n)
		}
	}
	if err := syscall.Kill(s.Nomad.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.groupHas("idle", 0)
	s.serves("app")
	if n := s.groupHas("busy", 1)[0]; n.ID != busy.ID {
		t.Errorf("%+v became %+v", busy, n)
	}
	if g, err := s.group("busy"); err != nil || g.Usage.Launched != 1 {
		t.Errorf("%v: %d nodes were ordered for it", err, g.Usage.Launched)
	}
	l.wantNoneLost(t)
}

// TestNodesWhenLeadersDie kills the leader of three at each stage of nodes' lives
// while requests run: the next goes on where it was.
func TestNodesWhenLeadersDie(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 3, 2)
	s.deployNodes()
	s.hasNodes(0, 0, 0)
	c := s.startCrowd("/nodes?sleep=100ms")
	kill := func(t *testing.T, when string, seen func(server int) error) (other int) {
		t.Helper()
		leader := s.leader(t)
		other = (leader + 1) % 3
		eventually(t, 60*time.Second, when, func() error { return seen(other) })
		s.Servers[leader].Kill()
		t.Cleanup(func() {
			if err := s.Servers[leader].Start(s.t.Context()); err != nil {
				s.t.Error(err)
			}
		})
		return other
	}
	phase := func(p raftstate.NodePhase) func(int) error {
		return func(server int) error {
			by, err := s.nodeList(server)
			if err == nil && len(by[p]) == 0 {
				err = fmt.Errorf("%+v", by)
			}
			return err
		}
	}

	t.Run("while a machine is made", func(t *testing.T) {
		c.size(1)
		other := kill(t, "a machine is made", func(int) error {
			made, err := filepath.Glob(filepath.Join(s.machines(), "*", "machine.json"))
			if err == nil && len(made) == 0 {
				err = errors.New("none yet")
			}
			return err
		})
		s.hasNodes(other, 1, 1)
	})
	t.Run("while a node drains", func(t *testing.T) {
		// Two of four on each of two nodes become one on each, and those fit on one.
		large := func(least int) string {
			return strings.Replace(workerGroup("large", fmt.Sprintf("max_nodes = 2\nmin_nodes = %d", least), "", byProcess), "cpu      = 1\n", "cpu      = 2\n", 1)
		}
		s.deployText(t, 0, large(2))
		s.groupHas("large", 2)
		s.deployText(t, 0, s.workers("app", 4, `worker_group = "large"`))
		l := s.startLoadOf(50, func(int) string { return "/app?sleep=20ms" })
		s.deployText(t, 0, s.workers("app", 2, `worker_group = "large"`))
		s.serves("app")
		s.deployText(t, 0, large(0))
		other := kill(t, "replicas run beside others for a node that drains", func(server int) error {
			app, _, err := s.client(server).Application(t.Context(), "app", api.Query{})
			if err == nil && app.Deployments[0].Surge == 0 {
				err = fmt.Errorf("%+v", app)
			}
			return err
		})
		eventually(t, 90*time.Second, "both are on one node", func() error {
			g, _, err := s.client(other).WorkerGroup(t.Context(), "large", api.Query{})
			if err == nil && (len(g.Nodes) != 1 || g.Nodes[0].Replicas != 2 || g.Usage.Launched-g.Usage.Failed != 2) { // a machine may die at its start
				err = fmt.Errorf("%+v", g)
			}
			return err
		})
		l.wantNoneLost(t)
		for _, args := range [][]string{{"delete", "app"}, {"node-groups", "delete", "large"}} {
			if out, code := s.cli(other, args...); code != 0 {
				t.Errorf("%v: exit code %d\n%s", args, code, out)
			}
		}
	})
	t.Run("while a machine is removed", func(t *testing.T) {
		c.size(0)
		other := kill(t, "a machine is removed", phase(raftstate.NodeTerminating))
		s.hasNodes(other, 0, 0)
	})
	if got := s.nomadNodes(t); len(got) > 0 {
		t.Errorf("nodes are left: %v", got)
	}
	left, err := filepath.Glob(filepath.Join(s.machines(), "cpu-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("machines are left: %v, %v", left, err)
	}
	g, err := s.group("cpu")
	if err != nil || g.Usage.Failed > 0 || g.Usage.Launched != 1 {
		t.Errorf("%v: %+v", err, g.Usage)
	}
	c.wantNoneLost(t)
}
