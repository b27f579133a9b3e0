package nodescale_test

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

func TestWhyAGroupHasAsManyNodes(t *testing.T) {
	for name, c := range map[string]struct {
		scene func(s *scene)
		most  int
		want  string
	}{
		"nothing to do": {func(*scene) {}, 3, "nothing asks for a node"},
		"in use and empty": {func(s *scene) {
			s.job("a", "cpu", 4, 0)
			s.node("cpu", "a", "a", "a", "a")
			s.node("cpu")
		}, 3, "1 in use, 1 empty"},
		"on the way": {func(s *scene) {
			s.job("a", "cpu", 2, 1)
			s.node("cpu", "a").Closed = "closed"
			s.Records["cpu-new"] = &raftstate.Node{ID: "cpu-new", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
		}, 3, "1 in use, 1 on the way"},
		"more than it may have": {func(s *scene) {
			s.job("a", "cpu", 8, 0)
			s.node("cpu", "a", "a", "a", "a")
			s.node("cpu", "a", "a", "a", "a")
		}, 1, "2 in use, 1 above max_nodes"},
		"as many as it may have": {func(s *scene) {
			s.job("a", "cpu", 7, 3)
			s.node("cpu", "a", "a", "a", "a")
		}, 1, "no node for 3 replicas without a place: it has 1 node, and max_nodes is 1"},
		"launches fail": {func(s *scene) {
			s.job("a", "cpu", 1, 1)
			s.Groups["cpu"].Failures = raftstate.Failures{Count: 1, LastAt: noon, Reason: "no quota"}
		}, 3, "no node for 1 replica without a place: launches fail (1 in a row, the last: no quota); the next try is in 9s"},
		"not what is in the way": {func(s *scene) {
			s.job("a", "gpu", 1, 1)
			s.node("cpu")
		}, 1, "1 empty"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = c.most }))
			c.scene(s)
			if got := s.after(time.Second).Report.Groups[0].Reason; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAGroupThatOnlyTellsTakesNothingFromOthers(t *testing.T) {
	dry := cpuGroup(func(g *appspec.WorkerGroup) { g.Name, g.Node.Class, g.DryRun, g.Priority = "dry", "dry", true, 9 })
	made := cpuGroup(func(g *appspec.WorkerGroup) { g.Node.Class, g.MaxNodes = "real", 1 })
	s := newScene(t, made, dry)
	s.job("a", "cpu", 6, 6)
	d := s.after(time.Second)
	wantChanges(t, d, "cpu launching 1")
	wantReason(t, d, "group dry: dry run: it would order 1 node: no place for 2 replicas of app/a")
	p := d.Report.Pending[0]
	if p.Coming != 4 || p.Never != 0 || p.Groups["dry"] != "would take 2 replicas on new nodes; dry run: no node is made" || p.Groups["cpu"] != "takes 4 replicas on nodes that are on their way" {
		t.Errorf("got %+v", p)
	}
	wantReason(t, d, "4 wait for nodes of worker group cpu on their way; 2 have no place: cpu: it may have 1 node more, which others fill; dry: dry run: no node is made")
}

func TestADryRunTellsOfEveryGroup(t *testing.T) {
	s := newScene(t, cpuGroup())
	s.DryRun = true
	s.job("a", "cpu", 6, 6)
	d := s.after(time.Second)
	wantChanges(t, d, "")
	wantReason(t, d, "group cpu: dry run: it would order 2 nodes")
	if p := d.Report.Pending[0]; p.Coming != 0 || p.Never != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestATargetThatCannotListIsNoDoubt(t *testing.T) {
	s := newScene(t, cpuGroup())
	s.Lists["cpu"] = nodescale.Listed{At: noon, Error: "no answer"}
	if notes := s.decide().Report.Groups[0].Notes; len(notes) != 1 {
		t.Errorf("got %q", notes)
	}
	s.Lists["cpu"] = nodescale.Listed{At: noon, Error: "it cannot", Never: true}
	if notes := s.decide().Report.Groups[0].Notes; len(notes) != 0 {
		t.Errorf("got %q", notes)
	}
}
