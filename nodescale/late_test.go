package nodescale_test

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// A node that joins after it was given up may get replicas before its machine
// is gone: they move first.
func TestWhatComesToANodeThatWasGivenUpMovesFirst(t *testing.T) {
	for _, call := range []nodescale.Call{{}, {What: "remove", Error: "no answer", At: noon.Add(-time.Hour)}} {
		s := newScene(t, cpuGroup())
		n := s.node("cpu", "a")
		s.job("a", "cpu", 1, 0)
		id := n.Said.Launch
		s.Records[id].Phase = raftstate.NodeTerminating
		s.Calls[id] = call

		acts := s.decide().Acts
		if len(acts) != 1 || acts[0].Drain != n.ID {
			t.Fatalf("its replica does not move: %+v", acts)
		}
		n.Said.Draining, n.Said.Eligible, n.Closed = true, false, "draining"
		if acts := s.decide().Acts; len(acts) != 0 {
			t.Fatalf("while its replica moves: %+v", acts)
		}
		n.Allocs = nil
		if acts := s.decide().Acts; len(acts) != 1 || acts[0].Remove != id {
			t.Fatalf("its replica has moved, and it stays: %+v", acts)
		}
	}
}

// A node that is lost in the very decision that looks for others to remove is
// not one of those that stay.
func TestALostNodeIsNotCountedAmongThoseThatStay(t *testing.T) {
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MinNodes, g.MaxNodes = 2, 5 }))
	down := s.node("cpu")
	s.node("cpu")
	s.node("cpu")
	down.Said.Status, down.Closed = "down", "down"
	s.decide()
	s.Now = s.Now.Add(time.Hour)
	wantChanges(t, s.decide(), "cpu terminating 1")
}

// Nodes on their way that are given up because max_nodes was lowered make up
// for it: none that has joined goes as well.
func TestNodesOnTheirWayGoBeforeThoseThatJoined(t *testing.T) {
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = 2 }))
	s.node("cpu")
	s.node("cpu")
	for _, id := range []string{"cpu-x", "cpu-y"} {
		s.Records[id] = &raftstate.Node{ID: id, Group: "cpu", Phase: raftstate.NodeLaunching, At: s.Now, PhaseAt: s.Now}
	}
	wantChanges(t, s.decide(), "cpu terminating 2")
}

// What is ordered by a decision is on its way for that decision, too.
func TestNothingIsMovedBesideAnOrder(t *testing.T) {
	s := newScene(t, cpuGroup(), cpuGroup(func(g *appspec.WorkerGroup) { g.Name, g.NodePool, g.MinNodes = "more", "more", 0 }))
	s.node("cpu", "a")
	s.node("cpu", "a")
	s.job("a", "cpu", 2, 0)
	s.decide()
	s.Now = s.Now.Add(6 * time.Minute)
	s.Groups["more"].Spec.MinNodes = 1
	wantChanges(t, s.decide(), "more launching 1")
}
