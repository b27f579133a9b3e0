package nodescale_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// scene is an Input that tests put together, and the memory of one decision to
// the next.
type scene struct {
	t *testing.T
	nodescale.Input
	memory nodescale.Memory
}

func newScene(t *testing.T, groups ...*appspec.WorkerGroup) *scene {
	t.Helper()
	s := &scene{t: t, Input: nodescale.Input{
		Now: noon, Groups: map[string]*raftstate.WorkerGroup{}, Records: map[string]*raftstate.Node{},
		CoreMHz: map[string]int{}, Jobs: map[string]nodescale.Job{},
		Lists: map[string]nodescale.Listed{}, Calls: map[string]nodescale.Call{},
	}}
	for _, g := range groups {
		s.Groups[g.Name] = &raftstate.WorkerGroup{Name: g.Name, Spec: g, At: noon.Add(-time.Hour)}
		s.CoreMHz[g.Name] = 1000
	}
	return s
}

// cpuGroup has nodes of 4 cores and 4 GiB.
func cpuGroup(change ...func(*appspec.WorkerGroup)) *appspec.WorkerGroup {
	g := &appspec.WorkerGroup{
		Name: "cpu", NodePool: "cpu", MaxNodes: 5, IdleTimeout: appspec.Duration(time.Minute),
		LaunchTimeout: appspec.Duration(10 * time.Minute), DrainTimeout: appspec.Duration(10 * time.Minute),
		Node:      appspec.NodeShape{CPU: 4, MemoryMB: 4096, Datacenter: "dc1"},
		Target:    appspec.NodeTarget{Kind: appspec.TargetProcess},
		ScaleDown: &appspec.ScaleDown{Consolidate: true, ConsolidateAfter: appspec.Duration(5 * time.Minute), Budget: "100%"},
	}
	for _, c := range change {
		c(g)
	}
	return g
}

// ask is for n replicas of one core and 1 GiB each.
func ask(job, pool string, n int) placement.Ask {
	return placement.Ask{
		Key: job, Job: job, TaskGroup: "main", Count: n, Pool: pool,
		Uses: placement.Resources{CPU: 1000, MemoryMB: 1024}, Priority: 50,
	}
}

// job makes a job of n replicas that all serve, and of which waiting have no
// place.
func (s *scene) job(name, pool string, n, waiting int) {
	a := ask(name, pool, 0)
	s.Jobs[name] = nodescale.Job{Application: "app", Deployment: name, Target: n, Passing: n - waiting, Ask: a}
	s.Asks = slices.DeleteFunc(s.Asks, func(a placement.Ask) bool { return a.Key == name })
	if waiting > 0 {
		s.Asks = append(s.Asks, ask(name, pool, waiting))
	}
}

// node puts a node that was ordered and has joined into the scene, with a
// replica of each job that is named.
func (s *scene) node(group string, jobs ...string) *placement.Node {
	spec := s.Groups[group].Spec
	id := fmt.Sprintf("%s-%08d", group, len(s.Records))
	n := &placement.Node{
		ID: "nomad-" + id, Name: id, Pool: spec.NodePool, Datacenter: "dc1", Class: spec.Node.Class,
		Attributes: map[string]string{"kernel.name": "linux"}, Meta: map[string]string{},
		Room: placement.Resources{CPU: int(spec.Node.CPU) * 1000, MemoryMB: spec.Node.MemoryMB},
		Said: placement.Said{Status: "ready", Eligible: true, Launch: id, Since: s.Now.Add(-time.Hour)},
	}
	for i, job := range jobs {
		n.Allocs = append(n.Allocs, placement.Alloc{
			ID: fmt.Sprintf("%s-%s-%d", id, job, i), Job: job, Group: "main", Ours: true, Movable: true,
			Uses: placement.Resources{CPU: 1000, MemoryMB: 1024},
		})
	}
	s.Nodes = append(s.Nodes, n)
	s.Records[id] = &raftstate.Node{
		ID: id, Group: group, Phase: raftstate.NodeReady, Reason: "joined", NomadID: n.ID,
		At: s.Now.Add(-time.Hour), PhaseAt: s.Now.Add(-time.Hour), JoinedAt: s.Now.Add(-time.Hour),
	}
	return n
}

func (s *scene) decide() nodescale.Decision {
	s.t.Helper()
	if s.Blind == "" {
		s.Seen = s.Now
	}
	d, memory := nodescale.Decide(s.Input, s.memory)
	s.memory = memory
	return d
}

// after decides now and once more after a time.
func (s *scene) after(wait time.Duration) nodescale.Decision {
	s.t.Helper()
	s.decide()
	s.Now = s.Now.Add(wait)
	return s.decide()
}

// apply records what was proposed, as the State would.
func (s *scene) apply(d nodescale.Decision) {
	for _, c := range d.Changes {
		switch {
		case c.To == "":
			delete(s.Records, c.ID)
		case c.From == "":
			s.Records[c.ID] = &raftstate.Node{ID: c.ID, Group: c.Group, Phase: c.To, Reason: c.Reason, At: s.Now, PhaseAt: s.Now}
		default:
			next := *s.Records[c.ID]
			next.Phase, next.Reason, next.PhaseAt, next.Surge = c.To, c.Reason, s.Now, c.Surge
			if c.NomadID != "" {
				next.NomadID = c.NomadID
			}
			s.Records[c.ID] = &next
		}
	}
}

// changes says a decision in few words: "cpu launching 2".
func changes(d nodescale.Decision) string {
	count := map[string]int{}
	for _, c := range d.Changes {
		to := string(c.To)
		if to == "" {
			to = "gone"
		}
		count[c.Group+" "+to]++
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(count)) {
		list = append(list, fmt.Sprintf("%s %d", key, count[key]))
	}
	return strings.Join(list, ", ")
}

func wantChanges(t *testing.T, d nodescale.Decision, want string) {
	t.Helper()
	if got := changes(d); got != want {
		t.Errorf("changes are %q, want %q: %+v\n%s", got, want, d.Changes, reasons(d))
	}
}

func reasons(d nodescale.Decision) string {
	var b strings.Builder
	for _, g := range d.Report.Groups {
		fmt.Fprintf(&b, "group %s: %s %v\n", g.Name, g.Reason, g.Notes)
	}
	for _, n := range d.Report.Nodes {
		fmt.Fprintf(&b, "node %s: %s: %s\n", n.ID, n.Verdict, n.Reason)
	}
	for _, p := range d.Report.Pending {
		fmt.Fprintf(&b, "pending %s: %d: %s %v\n", p.Job, p.Count, p.Reason, p.Groups)
	}
	return b.String()
}

func wantReason(t *testing.T, d nodescale.Decision, part string) {
	t.Helper()
	if !strings.Contains(reasons(d), part) {
		t.Errorf("nothing says %q:\n%s", part, reasons(d))
	}
}

func TestReplicasWithoutPlaceBringNodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waiting int
		ready   [][]string // nodes that are there, with what is on them
		coming  int        // nodes that are on their way
		want    string
	}{
		"one replica":                      {1, nil, 0, "cpu launching 1"},
		"as many as fit on a node":         {4, nil, 0, "cpu launching 1"},
		"one more than that":               {5, nil, 0, "cpu launching 2"},
		"more than the group may have":     {100, nil, 0, "cpu launching 5"},
		"room on a node that is there":     {2, [][]string{{"a", "a"}}, 0, ""},
		"less room than replicas":          {3, [][]string{{"a", "a"}}, 0, "cpu launching 1"},
		"a node is on its way for them":    {4, nil, 1, ""},
		"one on its way, and too few":      {5, nil, 1, "cpu launching 1"},
		"two on their way, for fewer":      {4, nil, 2, ""},
		"max_nodes counts those under way": {100, [][]string{{"a"}}, 2, "cpu launching 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cpuGroup())
			s.job("a", "cpu", c.waiting, c.waiting)
			for _, jobs := range c.ready {
				s.node("cpu", jobs...)
			}
			for i := range c.coming {
				id := fmt.Sprintf("cpu-c%07d", i)
				s.Records[id] = &raftstate.Node{ID: id, Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
			}
			wantChanges(t, s.after(time.Second), c.want)
		})
	}
}

// TestDemandSettles: replicas of two deployments that are scaled together come
// one after the other, and are ordered for together.
func TestDemandSettles(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 2, 2)
	first := s.decide()
	wantChanges(t, first, "")
	if wait := first.Again.Sub(s.Now); wait <= 0 || wait > 500*time.Millisecond {
		t.Errorf("it decides again after %s", wait)
	}
	s.Now = s.Now.Add(50 * time.Millisecond)
	s.job("b", "cpu", 2, 2)
	wantChanges(t, s.decide(), "")
	s.Now = s.Now.Add(101 * time.Millisecond)
	d := s.decide()
	wantChanges(t, d, "cpu launching 1")
	if reason := d.Changes[0].Reason; !strings.Contains(reason, "2 replicas of app/a, 2 replicas of app/b") {
		t.Errorf("the reason is %q", reason)
	}

	// Demand that never stands still is not waited for without end.
	s = newScene(t, cpuGroup())
	for i := range 20 {
		s.job("a", "cpu", i+1, i+1)
		d = s.decide()
		if len(d.Changes) > 0 {
			if i > 10 {
				t.Errorf("nodes were ordered only after %d ms", i*50)
			}
			return
		}
		s.Now = s.Now.Add(50 * time.Millisecond)
	}
	t.Error("nothing was ordered while demand grew")
}

func TestWhatFitsNoGroupBuysNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	big := ask("big", "cpu", 2)
	big.Uses.MemoryMB = 8192
	s.Asks = append(s.Asks, big)
	s.Jobs["big"] = nodescale.Job{Application: "app", Deployment: "big", Target: 2, Ask: big}
	d := s.after(time.Second)
	wantChanges(t, d, "")
	if len(d.Report.Pending) != 1 || d.Report.Pending[0].Never != 2 {
		t.Fatalf("pending is %+v", d.Report.Pending)
	}
	wantReason(t, d, "memory")
}

func TestLaunchIsCalledOnceAndTakenUp(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 1, 1)
	d := s.after(time.Second)
	s.apply(d)
	id := d.Changes[0].ID
	d = s.decide()
	if len(d.Acts) != 1 || d.Acts[0].Launch != id || d.Acts[0].Wanted != 1 {
		t.Fatalf("acts are %+v", d.Acts)
	}
	s.Calls[id] = nodescale.Call{What: "launch", Running: true, At: s.Now}
	if d = s.decide(); len(d.Acts) != 0 {
		t.Fatalf("it is called while it is being called: %+v", d.Acts)
	}
	s.Calls[id] = nodescale.Call{What: "launch", At: s.Now}
	if d = s.decide(); len(d.Acts) != 0 {
		t.Fatalf("it is called again after it went well: %+v", d.Acts)
	}
	s.Nodes = append(s.Nodes, &placement.Node{
		ID: "n1", Name: id, Pool: "cpu", Datacenter: "dc1", Room: placement.Resources{CPU: 4000, MemoryMB: 4096},
		Said: placement.Said{Status: "ready", Eligible: true},
	})
	d = s.decide()
	wantChanges(t, d, "cpu ready 1")
	if d.Changes[0].NomadID != "n1" {
		t.Errorf("the node is %q", d.Changes[0].NomadID)
	}
}

// TestNodeThatRegisters: between its registration and its being ready a node
// still is on its way.
func TestNodeThatRegisters(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 4, 4)
	s.Records["cpu-1"] = &raftstate.Node{ID: "cpu-1", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
	s.Nodes = append(s.Nodes, &placement.Node{
		ID: "n1", Name: "cpu-1", Pool: "cpu", Datacenter: "dc1", Closed: "initializing",
		Said: placement.Said{Status: "initializing", Eligible: true},
	})
	wantChanges(t, s.after(time.Second), "")
}

func TestLaunchesThatFail(t *testing.T) {
	t.Parallel()
	launching := func(t *testing.T) *scene {
		t.Helper()
		s := newScene(t, cpuGroup())
		s.job("a", "cpu", 1, 1)
		s.Records["cpu-1"] = &raftstate.Node{ID: "cpu-1", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
		return s
	}
	t.Run("the target says so", func(t *testing.T) {
		t.Parallel()
		s := launching(t)
		s.Calls["cpu-1"] = nodescale.Call{What: "launch", At: noon, Error: "no quota"}
		d := s.decide()
		wantChanges(t, d, "cpu terminating 1")
		if !d.Changes[0].Failed || !strings.Contains(d.Changes[0].Reason, "no quota") {
			t.Errorf("the change is %+v", d.Changes[0])
		}
	})
	t.Run("the target cannot do it, so that there is nothing to remove", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup())
		s.job("a", "cpu", 1, 1)
		d := s.after(time.Second)
		s.apply(d)
		s.Calls[d.Changes[0].ID] = nodescale.Call{What: "launch", At: s.Now, Error: "it is off", NoEffect: true}
		d = s.after(time.Second)
		wantChanges(t, d, "cpu terminating 1")
		s.apply(d)
		s.Asks = nil
		if d = s.after(time.Second); len(d.Acts) > 0 {
			t.Errorf("acts are %+v", d.Acts)
		}
		wantChanges(t, d, "cpu gone 1")
	})
	t.Run("and it cannot, but a leader before may have asked another target", func(t *testing.T) {
		t.Parallel()
		s := launching(t)
		s.Calls["cpu-1"] = nodescale.Call{What: "launch", At: noon, Error: "it is off", NoEffect: true}
		s.apply(s.decide())
		s.Asks = nil
		d := s.after(time.Second)
		wantChanges(t, d, "")
		if len(d.Acts) != 1 || d.Acts[0].Remove != "cpu-1" {
			t.Errorf("acts are %+v", d.Acts)
		}
	})
	t.Run("it never joins", func(t *testing.T) {
		t.Parallel()
		s := launching(t)
		s.Calls["cpu-1"] = nodescale.Call{What: "launch", At: noon}
		d := s.after(10*time.Minute - time.Second)
		wantChanges(t, d, "")
		s.Now = s.Now.Add(2 * time.Second)
		d = s.decide()
		wantChanges(t, d, "cpu terminating 1")
		if !d.Changes[0].Failed {
			t.Error("it is not counted as a failure")
		}
	})
	t.Run("its machine ended", func(t *testing.T) {
		t.Parallel()
		s := launching(t)
		s.Calls["cpu-1"] = nodescale.Call{What: "launch", At: noon}
		s.Lists["cpu"] = nodescale.Listed{At: noon.Add(time.Second), Listing: nodescale.Listing{Instances: []nodescale.Instance{{ID: "cpu-1", State: "ended", Message: "exit status 1"}}}}
		d := s.decide()
		wantChanges(t, d, "cpu terminating 1")
		wantReason(t, d, "exit status 1")
	})
	t.Run("then there is a pause, and one is tried", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup())
		s.job("a", "cpu", 100, 100)
		s.Groups["cpu"].Failures = raftstate.Failures{Count: 3, LastAt: noon, Reason: "no quota"}
		d := s.after(30 * time.Second)
		wantChanges(t, d, "")
		wantReason(t, d, "no quota")
		s.Now = noon.Add(41 * time.Second)
		wantChanges(t, s.after(time.Second), "cpu launching 1")
	})
	t.Run("and another group takes over", func(t *testing.T) {
		t.Parallel()
		spot := cpuGroup(func(g *appspec.WorkerGroup) { g.Name, g.Node.Class, g.Priority = "spot", "spot", 10 })
		steady := cpuGroup(func(g *appspec.WorkerGroup) { g.Node.Class = "steady" })
		s := newScene(t, spot, steady)
		s.job("a", "cpu", 1, 1)
		wantChanges(t, s.after(time.Second), "spot launching 1")
		s.Groups["spot"].Failures = raftstate.Failures{Count: 1, LastAt: s.Now, Reason: "no capacity"}
		wantChanges(t, s.after(time.Second), "cpu launching 1")
	})
}

func TestEmptyNodesGo(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.node("cpu")
	s.job("a", "cpu", 1, 0)
	s.node("cpu", "a")
	wantChanges(t, s.after(59*time.Second), "")
	s.Now = s.Now.Add(time.Second)
	wantChanges(t, s.decide(), "cpu draining 1")
}

func TestEmptyNodesStay(t *testing.T) {
	t.Parallel()
	system := placement.Alloc{ID: "s", Job: "proxy", System: true}
	for name, c := range map[string]struct {
		change func(*scene)
		want   string
		reason string
	}{
		"nothing speaks against it": {func(*scene) {}, "cpu draining 1", "empty for 2m0s"},
		"a system job does not":     {func(s *scene) { s.Nodes[0].Allocs = []placement.Alloc{system} }, "cpu draining 1", ""},
		"min_nodes":                 {func(s *scene) { s.Groups["cpu"].Spec.MinNodes = 1 }, "", "at least 1 node"},
		"min_nodes, for as long as it is idle": {func(s *scene) {
			s.Groups["cpu"].Spec.MinNodes, s.Groups["cpu"].Spec.IdleTimeout = 1, appspec.Duration(time.Hour)
		}, "", "keep: empty for 2m0s; the group is to have at least 1 node"},
		"a buffer of a node":         {func(s *scene) { s.Groups["cpu"].Spec.Buffer = &appspec.Buffer{Nodes: 1} }, "", "kept as buffer"},
		"Nomad is not known":         {func(s *scene) { s.Hold = "Nomad is not known: timeout" }, "", "Nomad is not known"},
		"others run something on it": {func(s *scene) { s.Nodes[0].Allocs = []placement.Alloc{{ID: "x", Job: "other"}} }, "", "other jobs"},
		"somebody has closed it":     {func(s *scene) { s.Nodes[0].Closed = "not eligible"; s.Nodes[0].Said.Eligible = false }, "", "left alone"},
		"replicas wait for it":       {func(s *scene) { s.job("a", "cpu", 1, 1) }, "", "to be placed on it"},
		"a dry run":                  {func(s *scene) { s.Groups["cpu"].Spec.DryRun = true }, "", "it would go"},
		"a budget of none":           {func(s *scene) { s.Groups["cpu"].Spec.ScaleDown.Budget = "0" }, "", "wait: empty for 2m0s; budget 0"},
		"a buffer of replicas": {func(s *scene) {
			s.Groups["cpu"].Spec.Buffer = &appspec.Buffer{Replicas: 1, Resources: &appspec.Resources{CPU: 1, MemoryMB: 128}}
		}, "", "keep: empty; room is kept on it: buffer of worker group cpu"},
		"replicas are about to come": {func(s *scene) { s.Ahead = []placement.Ask{ask("soon", "cpu", 1)} }, "", "keep: empty; room is kept on it: soon"},
		"it is nobody's here":        {func(s *scene) { clear(s.Records) }, "", "never removed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cpuGroup())
			s.node("cpu")
			c.change(s)
			d := s.after(2 * time.Minute)
			wantChanges(t, d, c.want)
			wantReason(t, d, c.reason)
		})
	}
}

func TestNewLeaderBeginsAnew(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.node("cpu")
	s.after(59 * time.Second)
	s.memory = nodescale.Memory{}
	wantChanges(t, s.after(59*time.Second), "")
	wantChanges(t, s.after(time.Second), "cpu draining 1")
}

func TestClockThatGoesBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.node("cpu")
	s.after(30 * time.Second)
	s.Now = s.Now.Add(-time.Hour)
	wantChanges(t, s.after(59*time.Second), "")
	wantChanges(t, s.after(time.Second), "cpu draining 1")
}

// TestRemovalOfAnEmptyNode follows one to its end.
func TestRemovalOfAnEmptyNode(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	n := s.node("cpu")
	id := n.Name
	s.apply(s.after(time.Minute))
	d := s.decide()
	if len(d.Acts) != 1 || d.Acts[0].Cordon != n.ID {
		t.Fatalf("acts are %+v", d.Acts)
	}
	n.Said.Eligible, n.Closed = false, "not eligible"
	d = s.decide()
	wantChanges(t, d, "cpu terminating 1")
	s.apply(d)
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != id {
		t.Fatalf("acts are %+v", d.Acts)
	}
	s.Calls[id] = nodescale.Call{What: "remove", At: s.Now, Error: "the cloud is away"}
	d = s.decide()
	if len(d.Acts) != 0 {
		t.Fatalf("a failed call is repeated at once: %+v", d.Acts)
	}
	wantReason(t, d, "the cloud is away")
	s.Now = s.Now.Add(time.Minute)
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Remove != id {
		t.Fatalf("a failed call is not repeated: %+v", d.Acts)
	}
	s.Calls[id] = nodescale.Call{What: "remove", At: s.Now}
	n.Said.Status = "down"
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Purge != n.ID {
		t.Fatalf("acts are %+v", d.Acts)
	}
	s.Nodes = nil
	wantChanges(t, s.decide(), "cpu gone 1")
}

// TestBusyAfterAll: what came to a node between the decision and its closing
// keeps it.
func TestBusyAfterAll(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	n := s.node("cpu")
	s.apply(s.after(time.Minute))
	n.Said.Eligible, n.Closed = false, "not eligible"
	n.Allocs = []placement.Alloc{{ID: "late", Job: "a", Ours: true, Movable: true}}
	s.job("a", "cpu", 1, 0)
	d := s.decide()
	wantChanges(t, d, "cpu returning 1")
	s.apply(d)
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Uncordon != n.ID {
		t.Fatalf("acts are %+v", d.Acts)
	}
	n.Said.Eligible, n.Closed = true, ""
	d = s.decide()
	wantChanges(t, d, "cpu ready 1")
	s.apply(d)
	n.Allocs = nil
	wantChanges(t, s.after(2*time.Minute), "")
	wantChanges(t, s.after(4*time.Minute), "cpu draining 1")
}

// TestConsolidation: replicas that fit elsewhere are started there before the
// node is drained.
func TestConsolidation(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 2, 0)
	s.node("cpu", "a")
	s.node("cpu", "a")
	wantChanges(t, s.after(5*time.Minute-time.Second), "")
	s.Now = s.Now.Add(time.Second)
	d := s.decide()
	wantChanges(t, d, "cpu draining 1")
	if d.Changes[0].Surge["a"] != 1 {
		t.Fatalf("the change is %+v", d.Changes[0])
	}
	s.apply(d)
	going := s.Nodes[0]
	if s.Records[going.Name].Phase != raftstate.NodeDraining {
		going = s.Nodes[1]
	}
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Cordon != going.ID {
		t.Fatalf("acts are %+v", d.Acts)
	}
	going.Said.Eligible, going.Closed = false, "not eligible"
	if d = s.decide(); len(d.Acts) != 0 || len(d.Changes) != 0 {
		t.Fatalf("it goes on before the replacement serves: %+v %+v", d.Acts, d.Changes)
	}
	wantReason(t, d, "2 of 3 replicas of app/a serve")
	job := s.Jobs["a"]
	job.Passing = 3
	s.Jobs["a"] = job
	if d = s.decide(); len(d.Acts) != 1 || d.Acts[0].Drain != going.ID || d.Acts[0].Deadline != 10*time.Minute {
		t.Fatalf("acts are %+v", d.Acts)
	}
	going.Said.Draining = true
	if d = s.decide(); len(d.Acts) != 0 || len(d.Changes) != 0 {
		t.Fatalf("it goes on before the node is drained: %+v %+v", d.Acts, d.Changes)
	}
	going.Said.Draining, going.Allocs = false, nil
	wantChanges(t, s.decide(), "cpu terminating 1")
}

func TestConsolidationStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*scene)
		want   string
		reason string
	}{
		"nothing speaks against it":     {func(*scene) {}, "cpu draining 1", "fit on other nodes"},
		"it is off":                     {func(s *scene) { s.Groups["cpu"].Spec.ScaleDown.Consolidate = false }, "", "it holds 1 replica"},
		"no room for the replacement":   {func(s *scene) { s.Nodes[0].Room.CPU, s.Nodes[1].Room.CPU = 2000, 2000 }, "", "there is room for"},
		"a replica that does not serve": {func(s *scene) { j := s.Jobs["a"]; j.Passing = 1; s.Jobs["a"] = j }, "", "1 of 2 replicas"},
		"min_nodes":                     {func(s *scene) { s.Groups["cpu"].Spec.MinNodes = 2 }, "", "at least 2 nodes"},
		"somebody else's allocation beside it": {func(s *scene) {
			for _, n := range s.Nodes {
				n.Allocs = append(n.Allocs, placement.Alloc{ID: "x", Job: "other"})
			}
		}, "", "serve-nomad does not move"},
		"replicas wait":       {func(s *scene) { b := ask("b", "cpu", 1); s.Asks = append(s.Asks, b) }, "", "replicas wait"},
		"Consul is not known": {func(s *scene) { s.Hold = "Consul is not known: timeout" }, "", "Consul is not known"},
		"a node is on its way": {func(s *scene) {
			s.Records["cpu-x"] = &raftstate.Node{ID: "cpu-x", Group: "cpu", Phase: raftstate.NodeLaunching, At: s.Now, PhaseAt: s.Now}
		}, "", "on their way"},
		"an empty node, which they would move to": {func(s *scene) {
			s.Groups["cpu"].Spec.IdleTimeout = appspec.Duration(10 * time.Minute)
			s.node("cpu")
		}, "", "stands empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cpuGroup())
			s.job("a", "cpu", 2, 0)
			s.node("cpu", "a")
			s.node("cpu", "a")
			c.change(s)
			d := s.after(6 * time.Minute)
			wantChanges(t, d, c.want)
			wantReason(t, d, c.reason)
		})
	}
}

func TestReplacementsThatDoNotCome(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("a", "cpu", 2, 0)
	s.node("cpu", "a")
	s.node("cpu", "a")
	s.apply(s.after(5 * time.Minute))
	for _, n := range s.Nodes {
		if s.Records[n.Name].Phase == raftstate.NodeDraining {
			n.Said.Eligible, n.Closed = false, "not eligible"
		}
	}
	s.Asks = append(s.Asks, ask("a", "cpu", 1)) // it finds no place
	d := s.after(10 * time.Minute)
	wantChanges(t, d, "cpu returning 1")
	wantReason(t, d, "2 of 3 replicas")
	s.Asks = nil // it has one, and starts: one that serves might have to go for it
	wantChanges(t, s.decide(), "")
	d = s.after(10 * time.Minute)
	wantChanges(t, d, "cpu returning 1")
	wantReason(t, d, "within 20m0s: 2 of 3 replicas")
}

func TestBounds(t *testing.T) {
	t.Parallel()
	t.Run("min_nodes are ordered", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MinNodes = 2 }))
		wantChanges(t, s.decide(), "cpu launching 2")
	})
	t.Run("a buffer is ordered", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.Buffer = &appspec.Buffer{Nodes: 1} }))
		s.job("a", "cpu", 1, 0)
		s.node("cpu", "a")
		wantChanges(t, s.decide(), "cpu launching 1")
	})
	t.Run("nothing is ordered while Nomad is not known", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MinNodes = 2 }))
		s.job("a", "cpu", 1, 1)
		s.Blind = "Nomad is not known: timeout"
		s.Hold = s.Blind
		wantChanges(t, s.after(time.Second), "")
	})
	t.Run("above max_nodes empty ones go at once", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = 1 }))
		s.job("a", "cpu", 1, 0)
		s.node("cpu", "a")
		s.node("cpu")
		s.node("cpu")
		wantChanges(t, s.decide(), "cpu draining 2")
	})
	t.Run("and those that are on their way", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MaxNodes = 1 }))
		s.job("a", "cpu", 1, 0)
		s.node("cpu", "a")
		s.Records["cpu-x"] = &raftstate.Node{ID: "cpu-x", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
		wantChanges(t, s.decide(), "cpu terminating 1")
	})
	t.Run("a group that is deleted", func(t *testing.T) {
		t.Parallel()
		s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) { g.MinNodes = 1 }))
		s.Groups["cpu"].Deleting = true
		s.node("cpu")
		wantChanges(t, s.decide(), "cpu draining 1")
		clear(s.Records)
		s.Nodes = nil
		if d := s.decide(); !slices.Equal(d.Forget, []string{"cpu"}) {
			t.Errorf("it is not forgotten: %+v", d)
		}
	})
}

func TestNodesThatAreLost(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(), cpuGroup(func(g *appspec.WorkerGroup) { g.Name, g.NodePool = "other", "other" }))
	s.job("a", "cpu", 1, 0)
	n := s.node("cpu", "a")
	n.Said.Status, n.Closed = "down", "down"
	wantChanges(t, s.after(5*time.Minute-time.Second), "")
	s.Hold = "Nomad is not known: timeout"
	wantChanges(t, s.after(time.Minute), "")
	s.Hold = ""
	wantChanges(t, s.after(5*time.Minute-time.Second), "")
	wantChanges(t, s.after(time.Second), "cpu terminating 1")

	s = newScene(t, cpuGroup())
	s.node("cpu")
	s.Nodes = nil // purged by hand
	wantChanges(t, s.after(59*time.Second), "")
	wantChanges(t, s.after(time.Second), "cpu terminating 1")
}

// TestRoomThatNomadDoesNotUse: for a while Nomad is waited for; then a node is
// ordered, and if that is not used either, none.
func TestRoomThatNomadDoesNotUse(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup())
	s.job("b", "cpu", 1, 0)
	s.node("cpu", "b")
	s.job("a", "cpu", 1, 1)
	d := s.after(9 * time.Second)
	wantChanges(t, d, "")
	wantReason(t, d, "about to place")
	s.Now = s.Now.Add(2 * time.Second)
	s.decide()
	s.Now = s.Now.Add(200 * time.Millisecond)
	d = s.decide()
	wantChanges(t, d, "cpu launching 1")
	s.node("cpu")
	d = s.after(time.Minute)
	wantChanges(t, d, "")
	wantReason(t, d, "Nomad has not placed")
}

func TestGroupsThatCannotBeToldApart(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(), cpuGroup(func(g *appspec.WorkerGroup) { g.Name = "twin" }))
	s.job("a", "cpu", 1, 1)
	d := s.after(time.Second)
	wantChanges(t, d, "")
	wantReason(t, d, "class")
}

// TestWanted is what targets that only count are told.
func TestWanted(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpuGroup(func(g *appspec.WorkerGroup) {
		g.Target = appspec.NodeTarget{Kind: appspec.TargetPlugin, Plugin: "aws-asg"}
	}))
	s.job("a", "cpu", 8, 0)
	s.node("cpu", "a", "a", "a", "a")
	hand := s.node("cpu", "a", "a", "a", "a")
	delete(s.Records, hand.Name)
	hand.Said.Since = noon.Add(-2 * time.Hour)
	s.Records["cpu-new"] = &raftstate.Node{ID: "cpu-new", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
	launch := func(count int) int {
		s.Lists["cpu"] = nodescale.Listed{At: noon, Listing: nodescale.Listing{Count: count, Counted: true}}
		for _, a := range s.decide().Acts {
			if a.Launch == "cpu-new" {
				return a.Wanted
			}
		}
		return 0
	}
	if got := launch(1); got != 2 {
		t.Errorf("the node that was added by hand is not the target's, and %d are wanted of it", got)
	}
	if got := launch(2); got != 3 {
		t.Errorf("the node that was added by hand is the target's, and %d are wanted of it", got)
	}
	s.Records["cpu-new"].Phase = raftstate.NodeTerminating
	for _, a := range s.decide().Acts {
		if a.Remove == "cpu-new" && a.Wanted != 1 {
			t.Errorf("%d are to be left", a.Wanted)
		}
	}
	s.Calls["cpu-new"] = nodescale.Call{What: "remove", At: noon}
	s.Records["cpu-more"] = &raftstate.Node{ID: "cpu-more", Group: "cpu", Phase: raftstate.NodeLaunching, At: noon, PhaseAt: noon}
	for _, a := range s.decide().Acts {
		if a.Launch == "cpu-more" && a.Wanted != 3 {
			t.Errorf("%d are wanted while one that was removed is not forgotten yet", a.Wanted)
		}
	}
}
