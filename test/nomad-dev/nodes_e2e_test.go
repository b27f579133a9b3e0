//go:build e2e

package nomaddev_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// deployNodes deploys the application whose replicas bring nodes.
func (s *shop) deployNodes(vars ...string) {
	s.t.Helper()
	s.deployFile("nodes", 0, vars...)
}

// nodeList returns the nodes as the node autoscaler reports them, by phase.
func (s *shop) nodeList(server int) (map[raftstate.NodePhase][]nodescale.NodeReport, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	list, err := s.client(server).Nodes(ctx)
	if err != nil {
		return nil, err
	}
	by := map[raftstate.NodePhase][]nodescale.NodeReport{}
	for _, n := range list.Nodes {
		by[n.Phase] = append(by[n.Phase], n)
	}
	return by, nil
}

// worker returns the status of the deployment whose replicas bring nodes.
func (s *shop) worker(server int) (reconcile.DeploymentStatus, error) {
	return s.only(server, "nodes")
}

// hasNodes waits until there are so many nodes, all ready, and so many replicas
// that serve.
func (s *shop) hasNodes(server, nodes, replicas int) {
	s.t.Helper()
	eventually(s.t, 90*time.Second, fmt.Sprintf("%d nodes and %d replicas", nodes, replicas), func() error {
		by, err := s.nodeList(server)
		if err != nil {
			return err
		}
		d, err := s.worker(server)
		if err != nil {
			return err
		}
		all := 0
		for _, list := range by {
			all += len(list)
		}
		if all != nodes || len(by[raftstate.NodeReady]) != nodes || d.Healthy != replicas || d.Target != replicas {
			return fmt.Errorf("nodes %+v; %d replicas of %d", by, d.Healthy, d.Target)
		}
		return nil
	})
}

// TestNodes lets load bring replicas, replicas without a place bring nodes, and
// all of it go again; no request is lost.
func TestNodes(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 2)
	s.deployNodes()
	s.hasNodes(0, 0, 0)
	c := s.startCrowd("/nodes?sleep=300ms")

	t.Run("one request brings a replica, and that a node", func(t *testing.T) {
		c.size(1)
		s.hasNodes(0, 1, 1)
		c.answered(t, 3)
	})
	t.Run("a crowd brings as many nodes as its replicas fill, and no more", func(t *testing.T) {
		c.size(12)
		s.hasNodes(0, 3, 6)
		c.answered(t, 50)
		if launched := s.launched(t); launched != 3 {
			t.Errorf("%d nodes were ordered for 6 replicas, of which 2 fill a node", launched)
		}
	})
	t.Run("people see why", func(t *testing.T) {
		out, code := s.cli(0, "node-groups")
		if code != 0 || !strings.Contains(out, "cpu") {
			t.Errorf("exit code %d\n%s", code, out)
		}
		out, code = s.cli(0, "nodes")
		if code != 0 || strings.Count(out, "cpu-") < 3 || !strings.Contains(out, "holds 2 replicas") {
			t.Errorf("exit code %d\n%s", code, out)
		}
		out, code = s.cli(0, "events")
		if code != 0 || !strings.Contains(out, "no place for") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
	t.Run("fewer ask, replicas move together, and nodes go", func(t *testing.T) {
		c.size(3)
		s.hasNodes(0, 1, 2)
	})
	t.Run("nobody asks, and nothing is left", func(t *testing.T) {
		c.size(0)
		s.hasNodes(0, 0, 0)
		eventually(t, 10*time.Second, "Nomad knows only its own node", func() error {
			var nodes []struct{ Name, Status string }
			decode(t, get(t, s.Nomad.URL()+"/v1/nodes"), &nodes)
			if len(nodes) != 1 {
				return fmt.Errorf("%+v", nodes)
			}
			return nil
		})
		if left, err := os.ReadDir(s.machines()); err == nil && len(left) > 0 {
			t.Errorf("folders of machines are left: %v", left)
		}
	})
	c.wantNoneLost(t)
}

// launched is how many nodes the group has ordered so far.
func (s *shop) launched(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	g, _, err := s.client(0).WorkerGroup(ctx, "cpu", api.Query{})
	if err != nil {
		t.Fatal(err)
	}
	return g.Usage.Launched
}

// TestNodesConsolidate moves the replicas of two half-empty nodes onto one
// while requests run.
func TestNodesConsolidate(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 2)
	s.deployNodes("min_replicas=4", "max_replicas=4")
	s.hasNodes(0, 2, 4)
	l := s.startLoadOf(50, func(int) string { return "/nodes?sleep=20ms" })
	s.deployNodes("min_replicas=2", "max_replicas=2")
	fewest := s.watchHealthy()
	s.hasNodes(0, 1, 2)
	if n := fewest(); n < 2 {
		t.Errorf("at times only %d of 2 replicas served", n)
	}
	l.wantNoneLost(t)
}

// watchHealthy watches how many replicas serve. What it returns ends that, and
// says how few they were at times.
func (s *shop) watchHealthy() (fewest func() int) {
	ctx, cancel := context.WithCancel(s.t.Context())
	client, least := s.client(0), 1<<30
	var watching sync.WaitGroup
	watching.Go(func() {
		var index uint64
		for ctx.Err() == nil {
			app, next, err := client.Application(ctx, "nodes", api.Query{Index: index, Wait: time.Second})
			if err == nil && len(app.Deployments) == 1 {
				index, least = next, min(least, app.Deployments[0].Healthy)
			}
		}
	})
	return func() int {
		cancel()
		watching.Wait()
		return least
	}
}

// TestNodesWithoutTheLeader kills the leader while nodes are ordered: the next
// one takes them up, and orders none twice.
func TestNodesWithoutTheLeader(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 3, 1)
	s.deployNodes("min_replicas=6")
	eventually(t, 30*time.Second, "nodes are ordered", func() error {
		by, err := s.nodeList(0)
		if err == nil && len(by) == 0 {
			err = fmt.Errorf("none yet")
		}
		return err
	})
	leader := s.leader(t)
	s.Servers[leader].Kill()
	other := (leader + 1) % 3
	s.hasNodes(other, 3, 6)
	var nodes []struct{ Name, Status string }
	decode(t, get(t, s.Nomad.URL()+"/v1/nodes"), &nodes)
	if len(nodes) != 4 {
		t.Errorf("Nomad's nodes, its own among them: %+v", nodes)
	}
}

// TestNodesKilled kills a node's agents: its replicas start elsewhere, and it is
// replaced.
func TestNodesThatDie(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	s.deployNodes("min_replicas=4", "max_replicas=4")
	s.hasNodes(0, 2, 4)
	by, err := s.nodeList(0)
	if err != nil {
		t.Fatal(err)
	}
	dead := by[raftstate.NodeReady][0]
	s.killMachine(t, dead.ID)
	eventually(t, 3*time.Minute, "another node has taken its place", func() error {
		d, err := s.worker(0)
		if err != nil {
			return err
		}
		now, err := s.nodeList(0)
		if err != nil {
			return err
		}
		var alive int
		for _, n := range now[raftstate.NodeReady] {
			if n.ID != dead.ID && n.Status == "ready" {
				alive++
			}
		}
		if alive != 2 || d.Healthy != 4 {
			return fmt.Errorf("%d alive, %d replicas of %d: %+v", alive, d.Healthy, d.Target, now)
		}
		return nil
	})
}

// TestNodesAtRandom scales up and down at random under load for a while, and
// loses nothing. SERVE_NOMAD_MINUTES=10 makes it long.
func TestNodesAtRandom(t *testing.T) {
	s := startShop(t, 1, 2)
	s.deployNodes("min_replicas=1")
	s.hasNodes(0, 1, 1)
	c := s.startCrowd("/nodes?sleep=100ms")
	random := rand.New(rand.NewPCG(1, 2))
	end := time.After(minutes(t))
	for {
		c.size(1 + random.IntN(16))
		select {
		case <-end:
			c.size(0)
			s.hasNodes(0, 1, 1)
			c.wantNoneLost(t)
			return
		case <-time.After(time.Duration(2+random.IntN(10)) * time.Second):
		}
	}
}

// minutes is how long what goes on at random does.
func minutes(t *testing.T) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SERVE_NOMAD_MINUTES"))
	if err != nil {
		return 30 * time.Second
	}
	return time.Duration(n) * time.Minute
}

// machines is the folder of the machines that servers make on this machine.
func (s *shop) machines() string { return filepath.Join(s.Dir, "nodes") }

// killMachine kills both agents of a machine, as if it lost power; what ran on
// it is killed too.
func (s *shop) killMachine(t *testing.T, id string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pgrep", "-f", filepath.Join(s.machines(), id)+"/").Output()
	if err != nil || len(out) == 0 {
		t.Fatalf("no process of machine %s: %v", id, err)
	}
	for line := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
}

// TestNodesFigures measures what lies between a replica that has no place and
// its serving on a new node. SERVE_NOMAD_ROUNDS=10 gives figures for
// BENCHMARKS.md.
func TestNodesFigures(t *testing.T) {
	s := startShop(t, 1, 1)
	s.deployNodes()
	for range rounds(t) {
		s.hasNodes(0, 0, 0)
		asked := time.Now()
		a, _, err := s.ask("/nodes")
		answered := time.Now()
		if err != nil {
			t.Fatal(err)
		}
		blocked := s.blockedAt(t)
		by, err := s.nodeList(0)
		if err != nil || len(by[raftstate.NodeReady]) != 1 {
			t.Fatalf("%+v, %v", by, err)
		}
		id := by[raftstate.NodeReady][0].ID
		node, err := s.client(0).Node(s.t.Context(), id)
		if err != nil || node.Record == nil {
			t.Fatalf("%+v, %v", node, err)
		}
		started := time.Unix(0, a.Started)
		t.Logf("no place -> target called %s; -> node ready %s; -> replica started %s; -> first answer %s (asked %s before it had no place)",
			ms(s.calledAt(t, id).Sub(blocked)), ms(node.Record.JoinedAt.Sub(blocked)), ms(started.Sub(blocked)), ms(answered.Sub(blocked)), ms(blocked.Sub(asked)))
	}
}

// blockedAt is when Nomad last found no place for a replica.
func (s *shop) blockedAt(t *testing.T) time.Time {
	t.Helper()
	var evals []struct {
		JobID, Status, TriggeredBy string
		CreateTime                 int64
	}
	decode(t, get(t, s.Nomad.URL()+"/v1/evaluations"), &evals)
	var last int64
	for _, e := range evals {
		if strings.HasPrefix(e.JobID, "serve-nodes-") && e.TriggeredBy == "queued-allocs" {
			last = max(last, e.CreateTime)
		}
	}
	if last == 0 {
		t.Fatalf("no evaluation was blocked: %+v", evals)
	}
	return time.Unix(0, last)
}

// calledAt is when the server called the target to launch a node, by its log.
func (s *shop) calledAt(t *testing.T, id string) time.Time {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "logs", "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "target called: what=launch node="+id) {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", strings.Fields(line)[0])
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	t.Fatalf("the log says nothing of a call for %s", id)
	return time.Time{}
}
