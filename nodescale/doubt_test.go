package nodescale_test

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// launching puts a node into the scene that was ordered and has not joined.
func (s *scene) launching(id string) *raftstate.Node {
	s.t.Helper()
	r := &raftstate.Node{ID: id, Group: "cpu", Phase: raftstate.NodeLaunching, At: s.Now, PhaseAt: s.Now}
	s.Records[id] = r
	s.Calls[id] = nodescale.Call{What: "launch", At: s.Now}
	return r
}

// stranger puts a node into the scene that says nothing of an order.
func (s *scene) stranger(pool string) *placement.Node {
	s.t.Helper()
	n := &placement.Node{
		ID: "nomad-stranger", Name: "stranger", Pool: pool, Datacenter: "dc1", Attributes: map[string]string{"unique.hostname": "host"},
		Room: placement.Resources{CPU: 4000, MemoryMB: 4096},
		Said: placement.Said{Status: "ready", Eligible: true, Since: s.Now.Add(time.Second)},
	}
	s.Nodes = append(s.Nodes, n)
	return n
}

// A node that nobody ordered is never taken for one that was because its host
// has the name of a machine.
func TestWhichNodeAMachineBecame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(s *scene, n *placement.Node)
		want   string
	}{
		"the right one":              {func(*scene, *placement.Node) {}, "cpu ready 1"},
		"one of another pool":        {func(_ *scene, n *placement.Node) { n.Pool = "default" }, ""},
		"one that was there before":  {func(s *scene, n *placement.Node) { n.Said.Since = s.Now.Add(-time.Hour) }, ""},
		"one that says another id":   {func(_ *scene, n *placement.Node) { n.Said.Launch = "cpu-other" }, ""},
		"one of two of that name":    {func(s *scene, _ *placement.Node) { s.launching("cpu-2").Instance = "host" }, ""},
		"by its id, whatever it has": {func(_ *scene, n *placement.Node) { n.Said.Launch, n.Attributes = "cpu-1", nil }, "cpu ready 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cpuGroup())
			s.launching("cpu-1").Instance = "host"
			c.change(s, s.stranger("cpu"))
			wantChanges(t, s.decide(), c.want)
		})
	}
}

func TestNodeThatJoinsWhereItsGroupHasNone(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.launching("cpu-1")
	s.stranger("default").Said.Launch = "cpu-1"
	d := s.decide()
	wantChanges(t, d, "cpu terminating 1")
	wantReason(t, d, `in node pool "default"`)
	if !d.Changes[0].Failed {
		t.Error("it is not counted as a failure, and the next would go the same way")
	}
}

// A machine that lost its disk is another node to Nomad, and the same machine.
func TestMachineThatComesBackAsAnotherNode(t *testing.T) {
	t.Parallel()
	for name, old := range map[string]string{"down": "down", "forgotten": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cpuGroup())
			s.job("a", "cpu", 1, 0)
			n := s.node("cpu")
			again := *n
			again.ID, again.Allocs = "nomad-again", []placement.Alloc{{ID: "x", Job: "a", Ours: true, Movable: true}}
			n.Said.Status, n.Closed = old, old
			s.Nodes = append(s.Nodes, &again)
			if old == "" {
				s.Nodes = s.Nodes[1:]
			}
			d := s.after(time.Hour)
			wantChanges(t, d, "")
			wantReason(t, d, "it holds 1 replica")
		})
	}
}

// What Nomad has lost touch with for a moment may serve still.
func TestDrainingNodeThatIsDown(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 2, 0)
	n := s.node("cpu", "a")
	s.Records[n.Name].Phase, s.Records[n.Name].PhaseAt = raftstate.NodeDraining, s.Now
	s.Records[n.Name].Surge = map[string]int{"a": 1}
	n.Said.Status, n.Said.Eligible, n.Closed = "down", false, "down"
	wantChanges(t, s.after(4*time.Minute), "")
	wantChanges(t, s.after(time.Minute), "cpu terminating 1")
}

// While Nomad is not known, and until it was looked at again, a machine stays:
// what came to its node is not known.
func TestNoMachineGoesUnseen(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	n := s.node("cpu")
	n.Said.Eligible, n.Closed = false, "not eligible"
	r := s.Records[n.Name]
	r.Phase, r.PhaseAt = raftstate.NodeTerminating, s.Now
	s.Blind, s.Hold, s.Seen = "Nomad is not known: timeout", "Nomad is not known: timeout", s.Now
	if d := s.after(time.Minute); len(d.Acts) > 0 {
		t.Errorf("acts while Nomad is not known: %+v", d.Acts)
	}
	s.Blind, s.Hold = "", ""
	r.PhaseAt = s.Now.Add(time.Second)
	if d := s.decide(); len(d.Acts) > 0 {
		t.Errorf("acts before another look: %+v", d.Acts)
	}
	s.Now = s.Now.Add(2 * time.Second)
	if d := s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != r.ID {
		t.Errorf("acts after it: %+v", d.Acts)
	}
}

func TestNothingOnItsWayIsGivenUpUnseen(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = 1 }))
	s.launching("cpu-1")
	s.launching("cpu-2")
	s.Blind, s.Hold = "Nomad is not known: timeout", "Nomad is not known: timeout"
	wantChanges(t, s.decide(), "")
	s.Blind, s.Hold = "", ""
	wantChanges(t, s.decide(), "cpu terminating 1")
}

// Nomad may have been away for all of launch_timeout: nodes that could not join
// meanwhile are no failures.
func TestNodesMayJoinWhenNomadIsBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.launching("cpu-1")
	s.Blind, s.Hold = "Nomad is not known: timeout", "Nomad is not known: timeout"
	s.after(time.Hour)
	s.Blind, s.Hold = "", ""
	wantChanges(t, s.after(59*time.Second), "")
	wantChanges(t, s.after(time.Second), "cpu terminating 1")
}

// Machines that their target could not remove may be there, and cost.
func TestMachinesThatStayCountTowardsMaxNodes(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = 2 }))
	s.job("a", "cpu", 8, 8)
	s.launching("cpu-1").Phase = raftstate.NodeTerminating
	s.Calls["cpu-1"] = nodescale.Call{What: "remove", At: s.Now, Error: "the cloud is away"}
	wantChanges(t, s.after(time.Second), "cpu launching 1")
	s.launching("cpu-2").Phase = raftstate.NodeTerminating
	d := s.after(time.Second)
	wantChanges(t, d, "")
	wantReason(t, d, "on their way out")
}

// A node that never joined and cannot be removed keeps no other from going.
func TestFailedLaunchTakesNoBudget(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.ScaleDown.Budget = "1" }))
	s.node("cpu")
	s.launching("cpu-1").Phase = raftstate.NodeTerminating
	s.Calls["cpu-1"] = nodescale.Call{What: "remove", At: s.Now, Error: "the cloud is away"}
	wantChanges(t, s.after(time.Minute), "cpu draining 1")
}

func TestFailureThatIsToCome(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 1, 1)
	s.Groups["cpu"].Failures = raftstate.Failures{Count: 1, LastAt: s.Now.Add(time.Hour), Reason: "by a clock that was ahead"}
	wantChanges(t, s.after(time.Second), "cpu launching 1")
}

// Launches that wait for others have not used up their time, and are given up
// when those fail.
func TestLaunchesThatWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.launching("cpu-1")
	s.Calls["cpu-1"] = nodescale.Call{What: "launch", Running: true, Waits: true, At: s.Now}
	wantChanges(t, s.after(time.Hour), "")
	s.Calls["cpu-1"] = nodescale.Call{What: "launch", Running: true, At: s.Now}
	wantChanges(t, s.after(9*time.Minute), "")
	d := s.after(time.Minute)
	wantChanges(t, d, "cpu terminating 1")
	wantReason(t, d, "its target did not answer in time")

	s.Calls["cpu-1"] = nodescale.Call{What: "launch", Running: true, Waits: true, At: s.Now}
	s.Groups["cpu"].Failures = raftstate.Failures{Count: 1, LastAt: s.Now, Reason: "no quota"}
	d = s.decide()
	wantChanges(t, d, "cpu terminating 1")
	if d.Changes[0].Failed {
		t.Error("what was never tried is counted as a failure")
	}
}

// Who deletes a group wants its nodes gone, also one that he has drained first.
func TestDeletedGroupHasNoClosedNodesLeft(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.Groups["cpu"].Deleting = true
	n := s.node("cpu")
	n.Said.Eligible, n.Closed = false, "not eligible"
	d := s.decide()
	wantChanges(t, d, "cpu draining 1")
	s.apply(d)
	wantChanges(t, s.decide(), "cpu terminating 1")
}

// A target that says that it removed a machine, and names it still, is asked
// again: what it forgets to remove costs.
func TestTargetThatNamesWhatItRemoved(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.launching("cpu-1").Phase = raftstate.NodeTerminating
	s.Calls["cpu-1"] = nodescale.Call{What: "remove", At: s.Now}
	list := func(ids ...string) {
		l := nodescale.Listed{At: s.Now}
		for _, id := range ids {
			l.Listing.Instances = append(l.Listing.Instances, nodescale.Instance{ID: id, State: "running"})
		}
		s.Lists["cpu"] = l
	}
	list("cpu-1")
	wantReason(t, s.decide(), "is asked whether it names it still")
	s.Now = s.Now.Add(time.Second)
	list("cpu-1")
	wantChanges(t, s.decide(), "")
	s.Now = s.Now.Add(5 * time.Minute)
	list("cpu-1")
	if d := s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != "cpu-1" {
		t.Errorf("acts are %+v", d.Acts)
	}
	list()
	wantChanges(t, s.decide(), "cpu gone 1")
	s.Lists["cpu"] = nodescale.Listed{At: s.Now, Error: "it cannot say"}
	wantChanges(t, s.decide(), "cpu gone 1")
}

// A node that joined after it was given up is closed before its machine goes.
func TestNodeThatWasGivenUpIsClosedFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	n := s.node("cpu")
	s.Records[n.Name].Phase = raftstate.NodeTerminating
	if d := s.decide(); len(d.Acts) != 1 || d.Acts[0].Cordon != n.ID {
		t.Errorf("acts are %+v", d.Acts)
	}
	n.Said.Eligible, n.Closed = false, "not eligible"
	if d := s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != n.Name {
		t.Errorf("acts are %+v", d.Acts)
	}
}

// A clock that went back by an hour puts nothing off by as much.
func TestRemovalByAClockThatWentBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	r := s.launching("cpu-1")
	r.Phase, r.PhaseAt = raftstate.NodeTerminating, s.Now.Add(time.Hour)
	s.Calls["cpu-1"] = nodescale.Call{What: "remove", At: s.Now.Add(time.Hour), Error: "the cloud is away"}
	if d := s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != "cpu-1" {
		t.Errorf("acts are %+v", d.Acts)
	}
}

// A node that min_nodes brings is as empty as one that the buffer brings.
func TestBufferBesideMinNodes(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MinNodes, g.Buffer = 1, &appspec.Buffer{Nodes: 1} }))
	wantChanges(t, s.decide(), "cpu launching 1")
	s.job("a", "cpu", 1, 1)
	s.decide()
	s.Now = s.Now.Add(time.Second)
	wantChanges(t, s.decide(), "cpu launching 2")
}

// When Nomad's servers have hung, all nodes are down until their next heartbeat:
// none is bought in their stead meanwhile, as it is for one that dies otherwise.
func TestNodesThatAreDownSinceNomadIsBack(t *testing.T) {
	t.Parallel()
	dies := func(s *scene) nodescale.Decision {
		n := s.Nodes[0]
		n.Said.Status, n.Said.Since, n.Closed, n.Allocs = "down", s.Now, "down", nil
		s.job("a", "cpu", 1, 1)
		s.decide()
		s.Now = s.Now.Add(time.Second)
		return s.decide()
	}
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 1, 0)
	s.node("cpu", "a")
	s.after(time.Hour)
	wantChanges(t, dies(s), "cpu launching 1")

	s.Blind, s.Hold = "Nomad is not known: timeout", "Nomad is not known: timeout"
	s.after(time.Minute)
	s.Blind, s.Hold = "", ""
	d := dies(s)
	wantChanges(t, d, "")
	wantReason(t, d, "on their way")
	wantChanges(t, s.after(20*time.Second), "")
	s.Now = s.Now.Add(time.Second)
	wantChanges(t, s.decide(), "cpu launching 1")
}
