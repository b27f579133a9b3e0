package raftstate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func nodeID(group string, n int) string { return fmt.Sprintf("%s-%08x", group, n) }

func launch(group string, n int) NodeChange { return phase(group, n, "", NodeLaunching) }

func phase(group string, n int, from, to NodePhase) NodeChange {
	return NodeChange{ID: nodeID(group, n), Group: group, From: from, To: to, Reason: "it is so"}
}

func nodeChanges(changes ...NodeChange) Command {
	return Command{By: "controller", ChangeNodes: &ChangeNodes{Changes: changes}}
}

// life is the changes of a node of group "g" from one phase to the next.
func life(phases ...NodePhase) []NodeChange {
	var list []NodeChange
	from := NodePhase("")
	for _, to := range phases {
		list = append(list, phase("g", 1, from, to))
		from = to
	}
	return list
}

// gone is a log after which group "g" had a node for two seconds, which never
// joined.
func gone(name string, n int) []Command {
	return []Command{
		deployGroups(group(name)), nodeChanges(launch(name, n)),
		nodeChanges(phase(name, n, NodeLaunching, NodeTerminating)), nodeChanges(phase(name, n, NodeTerminating, "")),
	}
}

// phases says the nodes of a State with their phases.
func phases(s *State) string {
	var list []string
	for id, node := range s.Nodes {
		list = append(list, id+" "+string(node.Phase))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func TestNodesChange(t *testing.T) {
	const id = "g-00000001"
	day := group("g", most(1))
	day.Schedules = []*appspec.NodeSchedule{{Name: "day", MaxNodes: new(2)}, {Name: "night", MaxNodes: new(0)}, {Name: "more", MinNodes: new(1)}}
	two := []NodeChange{launch("g", 1), launch("g", 2), launch("g", 3)}
	longName := launch("g", 1)
	longName.ID = strings.Repeat("x", 1000)
	for name, test := range map[string]struct {
		group   *appspec.WorkerGroup
		changes []NodeChange
		want    string
	}{
		"a node is ordered":                   {group("g"), life(NodeLaunching), id + " launching"},
		"it joins":                            {group("g"), life(NodeLaunching, NodeReady), id + " ready"},
		"it drains":                           {group("g"), life(NodeLaunching, NodeReady, NodeDraining), id + " draining"},
		"it is needed after all":              {group("g"), life(NodeLaunching, NodeReady, NodeDraining, NodeReturning), id + " returning"},
		"it is open again":                    {group("g"), life(NodeLaunching, NodeReady, NodeDraining, NodeReturning, NodeReady), id + " ready"},
		"it goes":                             {group("g"), life(NodeLaunching, NodeReady, NodeDraining, NodeTerminating), id + " terminating"},
		"it goes without having joined":       {group("g"), life(NodeLaunching, NodeTerminating), id + " terminating"},
		"it goes at once":                     {group("g"), life(NodeLaunching, NodeReady, NodeTerminating), id + " terminating"},
		"it goes on its way back":             {group("g"), life(NodeLaunching, NodeReady, NodeDraining, NodeReturning, NodeTerminating), id + " terminating"},
		"it is gone":                          {group("g"), life(NodeLaunching, NodeTerminating, ""), ""},
		"its id is free then":                 {group("g"), append(life(NodeLaunching, NodeTerminating, ""), launch("g", 1)), id + " launching"},
		"not when it is there":                {group("g"), append(life(NodeLaunching, NodeReady), launch("g", 1)), id + " ready"},
		"not from another phase":              {group("g"), append(life(NodeLaunching), phase("g", 1, NodeReady, NodeDraining)), id + " launching"},
		"not by a phase left out":             {group("g"), append(life(NodeLaunching), phase("g", 1, NodeLaunching, NodeDraining)), id + " launching"},
		"not gone before it is removed":       {group("g"), append(life(NodeLaunching), phase("g", 1, NodeLaunching, "")), id + " launching"},
		"not back once it is being removed":   {group("g"), append(life(NodeLaunching, NodeTerminating), phase("g", 1, NodeTerminating, NodeReady)), id + " terminating"},
		"not to a phase that nobody knows":    {group("g"), append(life(NodeLaunching), phase("g", 1, NodeLaunching, "odd")), id + " launching"},
		"not to where it is":                  {group("g"), append(life(NodeLaunching), phase("g", 1, NodeLaunching, NodeLaunching)), id + " launching"},
		"not of no group":                     {group("g"), []NodeChange{launch("h", 1)}, ""},
		"not under another group's name":      {group("g"), append(life(NodeLaunching), NodeChange{ID: id, Group: "h", From: NodeLaunching, To: NodeReady}), id + " launching"},
		"not without an id":                   {group("g"), []NodeChange{{Group: "g", To: NodeLaunching}}, ""},
		"not under a name beyond all bounds":  {group("g"), []NodeChange{longName}, ""},
		"no more than max_nodes":              {group("g", most(2)), two, "g-00000001 launching, g-00000002 launching"},
		"or than a schedule lets there be":    {day, two, "g-00000001 launching, g-00000002 launching"},
		"one that is removed leaves its seat": {group("g", most(1)), append(life(NodeLaunching, NodeTerminating), launch("g", 2)), "g-00000001 terminating, g-00000002 launching"},
		"one that drains does not":            {group("g", most(1)), append(life(NodeLaunching, NodeReady, NodeDraining), launch("g", 2)), id + " draining"},
		"nor one that returns":                {group("g", most(1)), append(life(NodeLaunching, NodeReady, NodeDraining, NodeReturning), launch("g", 2)), id + " returning"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, []Command{deployGroups(test.group), nodeChanges(test.changes...)})
			if r.Err() != nil {
				t.Fatalf("refused: %v", r.Err())
			}
			if got := phases(s); got != test.want {
				t.Errorf("in one command: got %s, want %s", got, test.want)
			}
			log := []Command{deployGroups(test.group)}
			for _, change := range test.changes {
				log = append(log, nodeChanges(change))
			}
			if s, _ := run(t, log); phases(s) != test.want {
				t.Errorf("one by one: got %s, want %s", phases(s), test.want)
			}
		})
	}
}

func TestAGroupThatIsDeletedGetsNoNode(t *testing.T) {
	s, _ := run(t, []Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), removeGroup("g"), nodeChanges(
		launch("g", 2), phase("g", 1, NodeLaunching, NodeReady),
	)})
	if got := phases(s); got != "g-00000001 ready" {
		t.Errorf("got %s", got)
	}
}

func TestWhatANodeIsRememberedBy(t *testing.T) {
	second := func(i int) time.Time { return time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC) }
	joins := phase("g", 1, NodeLaunching, NodeReady)
	joins.NomadID, joins.Instance = "11111111-2222", "i-0abc"
	drains := phase("g", 1, NodeReady, NodeDraining)
	drains.Surge = map[string]int{"serve-a-web-1": 2}
	s, _ := run(t, []Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), nodeChanges(joins), nodeChanges(drains)})
	want := &Node{
		ID: "g-00000001", Group: "g", Phase: NodeDraining, Reason: "it is so", At: second(1), PhaseAt: second(3), JoinedAt: second(2),
		NomadID: "11111111-2222", Instance: "i-0abc", Surge: map[string]int{"serve-a-web-1": 2},
	}
	if diff := cmp.Diff(want, s.Nodes["g-00000001"]); diff != "" {
		t.Error(diff)
	}
	if got := s.SurgeOf("serve-a-web-1"); got != 2 {
		t.Errorf("%d replicas run beside the target", got)
	}
	for _, to := range []NodePhase{NodeReturning, NodeTerminating} {
		next, _ := s.Apply(9, at(9, nodeChanges(phase("g", 1, NodeDraining, to))))
		if node := next.Nodes["g-00000001"]; node.Surge != nil || next.SurgeOf("serve-a-web-1") != 0 || node.NomadID == "" || node.Instance == "" {
			t.Errorf("on to %s it is %+v", to, node)
		}
	}
}

func TestASurgeBeyondAllBounds(t *testing.T) {
	many := map[string]int{}
	for i := range maxSurgeJobs + 1 {
		many[fmt.Sprint(i)] = 1
	}
	for name, surge := range map[string]map[string]int{
		"of nobody": {"": 1}, "below one": {"a": 0}, "of too many": {"a": maxSurge + 1}, "of too many jobs": many,
	} {
		drains := phase("g", 1, NodeReady, NodeDraining)
		drains.Surge = surge
		s, _ := run(t, []Command{deployGroups(group("g")), nodeChanges(life(NodeLaunching, NodeReady)...), nodeChanges(drains)})
		if got := phases(s); got != "g-00000001 ready" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestWhatAGroupKeepsCountOf(t *testing.T) {
	second := func(i int) time.Time { return time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC) }
	fails := func(n int) NodeChange {
		c := phase("g", n, NodeLaunching, NodeTerminating)
		c.Failed, c.Reason = true, "no quota"
		return c
	}
	lied := phase("g", 1, NodeReady, NodeTerminating)
	lied.Failed = true
	failed := []Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), nodeChanges(fails(1), launch("g", 2)), nodeChanges(fails(2))}
	backwards := nodeChanges(phase("g", 1, NodeTerminating, ""))
	backwards.At = second(0).Add(-time.Hour)
	for name, test := range map[string]struct {
		log      []Command
		failures Failures
		usage    Usage
	}{
		"launches that fail": {
			failed, Failures{2, second(3), "no quota"}, Usage{Launched: 2, Failed: 2},
		},
		"the end of what failed": {
			append(failed[:4:4], nodeChanges(phase("g", 1, NodeTerminating, ""), phase("g", 2, NodeTerminating, ""))),
			Failures{2, second(3), "no quota"},
			Usage{Launched: 2, Failed: 2, Seconds: 3 + 2},
		},
		"a try of two": {
			[]Command{deployGroups(group("g")), nodeChanges(launch("g", 1), launch("g", 2)), nodeChanges(fails(1)), nodeChanges(fails(2))},
			Failures{1, second(3), "no quota"},
			Usage{Launched: 2, Failed: 2},
		},
		"one that joins": {
			append(failed[:4:4], nodeChanges(launch("g", 3)), nodeChanges(phase("g", 3, NodeLaunching, NodeReady))),
			Failures{},
			Usage{Launched: 3, Failed: 2, Starts: []int{1000}},
		},
		"another spec": {
			append(failed[:4:4], deployGroups(group("g", most(9)))), Failures{}, Usage{Launched: 2, Failed: 2},
		},
		"the same spec": {
			append(failed[:4:4], deployGroups(group("g"))), Failures{2, second(3), "no quota"}, Usage{Launched: 2, Failed: 2},
		},
		"a node that joined fails nothing": {
			[]Command{deployGroups(group("g")), nodeChanges(life(NodeLaunching, NodeReady)...), nodeChanges(lied)},
			Failures{},
			Usage{Launched: 1, Starts: []int{0}},
		},
		"one that has come and gone": {
			[]Command{
				deployGroups(group("g")), nodeChanges(launch("g", 1)), nodeChanges(phase("g", 1, NodeLaunching, NodeReady)),
				nodeChanges(phase("g", 1, NodeReady, NodeTerminating)), nodeChanges(phase("g", 1, NodeTerminating, "")),
			},
			Failures{},
			Usage{Launched: 1, Removed: 1, Seconds: 3, Starts: []int{1000}},
		},
		"one that was not needed before it joined": {gone("g", 1), Failures{}, Usage{Launched: 1, Seconds: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := run(t, test.log)
			if diff := cmp.Diff(test.failures, s.WorkerGroups["g"].Failures); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.usage, s.WorkerGroups["g"].Usage); diff != "" {
				t.Error(diff)
			}
		})
	}

	t.Run("a clock that went back", func(t *testing.T) {
		s, _ := run(t, gone("g", 1)[:3])
		s, _ = s.Apply(9, backwards)
		if used := s.WorkerGroups["g"].Usage.Seconds; used != 0 || len(s.Nodes) > 0 {
			t.Errorf("%g seconds, nodes: %s", used, phases(s))
		}
	})
}

func TestTheLastStartsAreKept(t *testing.T) {
	log := []Command{deployGroups(group("g", most(100)))}
	for i := range 2 * maxStarts {
		log = append(log, nodeChanges(launch("g", i)), nodeChanges(phase("g", i, NodeLaunching, NodeReady)))
	}
	s, _ := run(t, log)
	if n := len(s.WorkerGroups["g"].Usage.Starts); n != maxStarts {
		t.Errorf("%d", n)
	}
}

func TestEventsOfNodes(t *testing.T) {
	failed := phase("g", 2, NodeLaunching, NodeTerminating)
	failed.Failed, failed.Reason = true, strings.Repeat("x", 1000)
	changes := append(life(NodeLaunching, NodeReady, NodeDraining, NodeReturning, NodeReady, NodeTerminating, ""), launch("g", 2), failed, launch("g", 2))
	s, _ := run(t, []Command{deployGroups(group("g")), nodeChanges(changes...)})
	var got []string
	for _, e := range s.Events[1:] {
		if e.By != ByNodeAutoscaler || e.WorkerGroup != "g" || e.Node == "" || len(e.Message) > maxNodeReason {
			t.Errorf("%+v", e)
		}
		got = append(got, e.Type)
	}
	want := []string{
		"node-launching", "node-ready", "node-draining", "node-kept", "node-ready", "node-terminating", "node-gone",
		"node-launching", "launch-failed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A night of nodes that come and go leaves what people did in the list.
func TestEventsOfNodesCrowdOutNobody(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deployGroups(group("g"))))
	index := uint64(1)
	for range maxEvents {
		for _, change := range life(NodeLaunching, NodeReady, NodeTerminating, "") {
			index++
			applyEntry(t, f, index, at(1, nodeChanges(change)))
		}
	}
	s := f.State()
	if len(s.Events) != maxUnasked+1 || s.Events[0].Type != "group-deployed" {
		t.Errorf("%d events, the first is %s", len(s.Events), s.Events[0].Type)
	}
	if len(s.Recent) != 1 {
		t.Errorf("%d receipts", len(s.Recent))
	}
}

func TestAChangeThatCannotBeMadeChangesNothing(t *testing.T) {
	s, _ := run(t, []Command{deployGroups(group("g")), nodeChanges(launch("g", 1))})
	next, r := s.Apply(9, at(9, nodeChanges(launch("g", 1), phase("g", 2, NodeLaunching, NodeReady))))
	if r.Err() != nil || next.Nodes["g-00000001"] != s.Nodes["g-00000001"] || next.WorkerGroups["g"] != s.WorkerGroups["g"] || len(next.Events) != len(s.Events) {
		t.Errorf("%v: %+v", r.Err(), next)
	}
}
