package nodescale_test

import (
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// reshape gives group cpu nodes of 8 cores.
func (s *scene) reshape() {
	g := *s.Groups["cpu"]
	spec := *g.Spec
	spec.Node.CPU = 8
	g.Former = []raftstate.Shape{{Number: g.Shape, Spec: g.Spec}}
	g.Spec, g.Shape, g.LastShape = &spec, 1, 1
	s.Groups["cpu"] = &g
}

// named has a job's deployment name group cpu, for nodes of a shape.
func (s *scene) named(job string, shape int) {
	j := s.Jobs[job]
	j.Group, j.Shape = "cpu", shape
	s.Jobs[job] = j
}

// closed closes a node as Nomad does.
func closed(n *placement.Node) {
	n.Said.Eligible, n.Closed = false, "not eligible"
}

// record is the record of a node that has joined.
func (s *scene) record(n *placement.Node) *raftstate.Node { return s.Records[n.Said.Launch] }

func TestNodesOfAnEarlierShapeAreClosedAndGoWhenTheyAreBare(t *testing.T) {
	s := newScene(t, cpuGroup())
	used, bare := s.node("cpu", "a", "a"), s.node("cpu")
	s.job("a", "cpu", 2, 0)
	s.named("a", 0)
	s.reshape()

	d := s.decide()
	wantChanges(t, d, "cpu retiring 2")
	wantReason(t, d, "its group's nodes have another shape now: node.cpu changed")
	s.apply(d)
	d = s.decide()
	if len(d.Acts) != 2 || d.Acts[0].Cordon == "" || d.Acts[1].Cordon == "" {
		t.Fatalf("they are not closed: %+v", d.Acts)
	}
	closed(used)
	closed(bare)
	d = s.decide()
	wantChanges(t, d, "cpu terminating 1")
	wantReason(t, d, "node "+used.Name+": remove: its group's nodes have another shape now: node.cpu changed; it holds 2 replicas; app/a goes on there until its next version serves elsewhere")
	s.apply(d)
	wantChanges(t, s.after(time.Hour), "") // its replicas are not moved, however long that takes

	used.Allocs = nil
	delete(s.Jobs, "a")
	wantChanges(t, s.decide(), "cpu terminating 1")
}

// What they have room for counts for nothing: new nodes come, at most max_nodes
// of them.
func TestNodesOfAnEarlierShapeCountForNothing(t *testing.T) {
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes, g.MinNodes = 2, 1 }))
	s.node("cpu", "a")
	s.node("cpu")
	s.job("a", "cpu", 1, 0)
	s.named("a", 0)
	s.reshape()
	s.job("b", "cpu", 17, 17)
	d := s.after(time.Second)
	wantChanges(t, d, "cpu launching 2, cpu retiring 2")
	if g := d.Report.Groups[0]; g.Outdated != 2 || g.Ready != 0 || g.Wants != 2 {
		t.Errorf("%+v", g)
	}
	outlook := nodescale.Foresee(s.Input, []placement.Ask{ask("c", "cpu", 8)})
	if len(outlook.Groups) != 0 || len(outlook.Short) != 1 || outlook.Short[0].Count != 8 {
		t.Errorf("beside 17 replicas that two nodes of 8 cores do not hold: %+v", outlook)
	}
	s.job("b", "cpu", 0, 0)
	outlook = nodescale.Foresee(s.Input, []placement.Ask{ask("c", "cpu", 16)})
	if len(outlook.Groups) != 1 || outlook.Groups[0].More != 2 || outlook.Groups[0].Have != 0 || outlook.Groups[0].Outdated != 2 {
		t.Errorf("%+v", outlook)
	}
}

func TestAShapeThatComesBackFindsItsNodes(t *testing.T) {
	for name, closedBy := range map[string]bool{"before it was closed": false, "once it is": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, cpuGroup())
			n := s.node("cpu", "a")
			s.job("a", "cpu", 1, 0)
			s.reshape()
			s.apply(s.decide())
			if closedBy {
				closed(n)
			}
			s.Groups["cpu"].Shape = 0
			d := s.decide()
			wantChanges(t, d, "cpu returning 1")
			s.apply(d)
			if !closedBy {
				wantChanges(t, s.decide(), "cpu ready 1")
				return
			}
			if acts := s.decide().Acts; len(acts) != 1 || acts[0].Uncordon != n.ID {
				t.Fatalf("it is not opened: %+v", acts)
			}
			s.Groups["cpu"].Shape = 1 // and there again
			d = s.decide()
			wantChanges(t, d, "cpu retiring 1")
			if len(d.Acts) > 0 {
				t.Errorf("it is opened: %+v", d.Acts)
			}
		})
	}
}

func TestNodesOfAnEarlierShapeOnTheirWay(t *testing.T) {
	for kind, want := range map[string]string{appspec.TargetProcess: "cpu terminating 1", appspec.TargetExec: "cpu terminating 1", appspec.TargetPlugin: ""} {
		t.Run(kind, func(t *testing.T) {
			s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.Target.Kind = kind }))
			s.Records["cpu-1"] = &raftstate.Node{ID: "cpu-1", Group: "cpu", Phase: raftstate.NodeLaunching, At: s.Now}
			s.reshape()
			wantChanges(t, s.decide(), want)
		})
	}
}

// What holds nothing back, and what nothing may be done on.
func TestNodesOfAnEarlierShapeAreLeftAlone(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*scene, *placement.Node)
		want   string
	}{
		"Nomad is not known":          {func(s *scene, _ *placement.Node) { s.Blind, s.Hold = "Nomad is not known", "Nomad is not known" }, ""},
		"Consul is not known":         {func(s *scene, _ *placement.Node) { s.Hold = "Consul is not known" }, "cpu retiring 1"},
		"a dry run":                   {func(s *scene, _ *placement.Node) { s.DryRun = true }, ""},
		"somebody has closed it":      {func(_ *scene, n *placement.Node) { closed(n) }, ""},
		"and nothing is on it":        {func(_ *scene, n *placement.Node) { closed(n); n.Allocs = nil }, "cpu terminating 1"},
		"budget 0":                    {func(s *scene, _ *placement.Node) { s.Groups["cpu"].Spec.ScaleDown.Budget = "0" }, "cpu retiring 1"},
		"min_nodes":                   {func(s *scene, _ *placement.Node) { s.Groups["cpu"].Spec.MinNodes = 1 }, "cpu launching 1, cpu retiring 1"},
		"the group is to be deleted":  {func(s *scene, _ *placement.Node) { s.Groups["cpu"].Deleting = true }, ""},
		"it is on its way out anyway": {func(s *scene, n *placement.Node) { s.record(n).Phase = raftstate.NodeTerminating }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, cpuGroup())
			n := s.node("cpu", "a")
			s.job("a", "cpu", 1, 0)
			s.reshape()
			test.change(s, n)
			wantChanges(t, s.decide(), test.want)
		})
	}
}

// Replicas that leave the choice of a node to placement, or came to the node
// while its shape was in force, are moved once there is room for them.
func TestStraysAreMoved(t *testing.T) {
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.IdleTimeout = appspec.Duration(time.Hour) }))
	n := s.node("cpu", "a", "b")
	s.job("a", "cpu", 1, 0)
	s.job("b", "cpu", 1, 0)
	s.named("b", 1) // of the shape that is in force now
	s.reshape()
	s.apply(s.decide())
	closed(n)
	d := s.after(time.Second)
	wantChanges(t, d, "cpu launching 1")
	wantReason(t, d, "what is to move off "+n.Name)

	fresh := s.node("cpu")
	s.record(fresh).Shape, fresh.Room.CPU = 1, 8000
	d = s.decide()
	wantChanges(t, d, "cpu draining 1")
	if surge := d.Changes[0].Surge; d.Changes[0].ID != n.Name || len(surge) != 2 || surge["a"] != 1 || surge["b"] != 1 {
		t.Errorf("%+v", d.Changes)
	}
	s.apply(d)
	d = s.after(21 * time.Minute)
	wantChanges(t, d, "cpu returning 1") // replacements did not serve
	s.apply(d)
	s.apply(s.decide())
	wantChanges(t, s.after(time.Minute), "") // not again for a while
	wantChanges(t, s.after(5*time.Minute), "cpu draining 1")

	n.Allocs = append(n.Allocs, placement.Alloc{Job: "other", Movable: true})
	d = s.decide()
	wantChanges(t, d, "")
	wantReason(t, d, "an allocation of job other is on it, which serve-nomad does not move")
}

// otherGroup is a group whose nodes are a pool of their own.
func otherGroup(name string) *appspec.WorkerGroup {
	return cpuGroup(func(g *appspec.WorkerGroup) {
		g.Name, g.NodePool, g.IdleTimeout = name, name, appspec.Duration(time.Hour)
	})
}

// Room for strays is room in whatever order they find it: nothing more is ordered
// for those that fit.
func TestStraysThatFitInOneOrder(t *testing.T) {
	s := newScene(t, cpuGroup(), otherGroup("more"))
	n := s.node("cpu", "a", "b")
	s.job("a", "all", 1, 0)
	s.job("b", "cpu", 1, 0)
	apart := s.Jobs["a"]
	apart.Ask.DistinctHosts = true
	s.Jobs["a"] = apart
	s.reshape()
	s.apply(s.decide())
	closed(n)
	fresh := s.node("cpu")
	s.record(fresh).Shape, fresh.Room.CPU = 1, 2000 // where both of b are to go, and not one of a
	s.node("more")
	s.node("more")
	d := s.decide()
	wantChanges(t, d, "cpu draining 1")
	if surge := d.Changes[0].Surge; len(surge) != 2 {
		t.Errorf("%+v", d.Changes)
	}
}

// What other groups' replicas would be moved to, to have fewer nodes, is left to
// those that have to move.
func TestStraysBeforeConsolidation(t *testing.T) {
	s := newScene(t, otherGroup("before"), cpuGroup(), otherGroup("beside"))
	n := s.node("cpu", "a")
	full := s.node("before", "b")
	room := s.node("beside", "c")
	full.Room.CPU, room.Room.CPU = 1000, 3000
	for _, job := range []string{"a", "b"} {
		s.job(job, "all", 1, 0)
	}
	s.job("c", "beside", 1, 0)
	wantChanges(t, s.decide(), "")
	s.Now = s.Now.Add(time.Hour)
	s.reshape()
	s.record(n).Phase = raftstate.NodeRetiring
	closed(n)
	d := s.decide()
	wantChanges(t, d, "cpu draining 1")
	if !strings.Contains(reasons(d), "another node goes first") {
		t.Errorf("the other could not go:\n%s", reasons(d))
	}
}

// A change of shape under load, and back: what named the group is replaced, the
// rest moves, and nothing is ordered twice.
func TestSimulatedShape(t *testing.T) {
	shaped := func(cores float64) raftstate.Command {
		spec := simSpec("cpu", 8)
		spec.Node.CPU = cores
		return raftstate.Command{Deploy: &raftstate.Deploy{
			WorkerGroups: []raftstate.DeployWorkerGroup{{Spec: spec}}, Rollouts: raftstate.RolloutsOfNodes,
		}}
	}
	named, placed := simJob("named", "cpu"), simJob("placed", "all")
	named.Group = "cpu"
	in := nodescale.SimInput{
		Until: time.Hour, Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 8))}, Jobs: []nodescale.SimJob{named, placed},
		Demand: nodescale.SimTogether(step("named", 0, 8), step("placed", 0, 4)),
		People: []nodescale.SimCommand{{At: 10 * time.Minute, Command: shaped(8)}},
	}
	if result := simulate(t, in); result.EndWaiting > 0 || result.EndOutdated > 0 || result.EndNodes > 3 || result.Launches > 3+3 || result.LeastSpare < 0 {
		t.Errorf("%+v", result)
	}
	in.People = append(in.People, nodescale.SimCommand{At: 10*time.Minute + 10*time.Second, Command: shaped(4)})
	if result := simulate(t, in); result.EndWaiting > 0 || result.EndOutdated > 0 || result.EndNodes != 3 || result.Launches > 3+2 || result.Moved > 0 {
		t.Errorf("and back before a node of the other shape came: %+v", result)
	}
}
