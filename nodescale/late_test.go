package nodescale_test

import (
	"testing"
	"time"

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
