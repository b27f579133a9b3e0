package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// larger is group "g" with nodes that are made, of so many cores.
func larger(cores float64) *appspec.WorkerGroup {
	g := group("g")
	g.Target.Kind, g.Node.CPU = appspec.TargetProcess, cores
	return g
}

func reshaped(c raftstate.Command) raftstate.Command {
	c.Deploy.Rollouts = raftstate.RolloutsOfNodes
	return c
}

// served is a cluster whose shop serves on one node of group "g", of 4 cores.
func served(t *testing.T) *cluster {
	t.Helper()
	c := looked()
	c.command(t, reshaped(with(deploy(grouped("g", 2)), larger(4))))
	c.command(t, changeNodes(nodeChange("g-00000001", "", raftstate.NodeLaunching)))
	c.world.Nodes = []*placement.Node{node("g-00000001", c.now)}
	c.bringUp(t)
	return c
}

// Replicas that are to run on nodes of another shape wait until none of the
// earlier shape would take them, and status says so; those that run go on.
func TestNewReplicasWaitUntilEarlierNodesAreClosed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*placement.Node)
		waits  bool
	}{
		"it is open":                      {func(*placement.Node) {}, true},
		"it does not say what it was for": {func(n *placement.Node) { n.Said.Launch = "" }, false},
		"it is closed":                    {func(n *placement.Node) { n.Said.Eligible = false }, false},
		"it drains":                       {func(n *placement.Node) { n.Said.Draining = true }, false},
		"it is down":                      {func(n *placement.Node) { n.Said.Status = api.NodeStatusDown }, false},
		"it is of the new shape":          {func(n *placement.Node) { n.Said.Launch = "g-00000002" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := served(t)
			c.command(t, reshaped(with(raftstate.Command{}, larger(8))))
			c.command(t, changeNodes(nodeChange("g-00000002", "", raftstate.NodeLaunching)))
			n := *c.world.Nodes[0]
			test.change(&n)
			c.world.Nodes = []*placement.Node{&n}
			registered := 0
			for _, s := range c.diff().Steps {
				if s.Register != nil {
					registered++
				}
				if s.Stop != nil || s.Scale != nil {
					t.Errorf("what runs is touched: %s", s)
				}
			}
			if waits := registered == 0; waits != test.waits {
				t.Errorf("%d jobs are made:\n%s", registered, c.diff())
			}
			said := false
			for _, d := range c.summary().Deployments {
				said = said || strings.Contains(d.Reason, "worker group g has another shape now, and 1 of its earlier nodes take replicas still")
			}
			if said != test.waits {
				t.Errorf("status says %+v", c.summary().Deployments)
			}
		})
	}
}

// A plan takes it that the earlier nodes are closed first.
func TestPreviewOfAnotherShape(t *testing.T) {
	c := served(t)
	before := *c.world.Nodes[0]
	steps, err := reconcile.Preview(c.state, c.world, c.now, reconcile.Settings{}, reshaped(with(raftstate.Command{}, larger(8))))
	if err != nil {
		t.Fatal(err)
	}
	counts := reconcile.JobCounts(c.world, steps)
	if len(counts) != 2 || counts[0].Then != 2 || !strings.HasSuffix(counts[0].Job, "-g2") || counts[1].Now != 2 || counts[1].Peak != 2 || counts[1].Then != 0 {
		t.Errorf("%+v\n%v", counts, steps)
	}
	if c.world.Nodes[0].Said != before.Said {
		t.Error("the world is changed")
	}
}

// A node counts with the cores of the shape that it was made with.
func TestCoreMHzOfAnotherShape(t *testing.T) {
	c := served(t) // 8000 MHz of 4 cores
	spec := larger(8)
	c.command(t, reshaped(with(raftstate.Command{}, spec)))
	if got := reconcile.CoreMHz(c.state, c.world, spec); got != 2000 {
		t.Errorf("a core counts for %d MHz by a node of 4 cores, want 2000", got)
	}
	c.command(t, changeNodes(nodeChange("g-00000002", "", raftstate.NodeLaunching)))
	c.world.Nodes = append(c.world.Nodes, node("g-00000002", c.now.Add(time.Minute)))
	if got := reconcile.CoreMHz(c.state, c.world, spec); got != 1000 {
		t.Errorf("a core counts for %d MHz by a node of 8 cores, want 1000", got)
	}
}
