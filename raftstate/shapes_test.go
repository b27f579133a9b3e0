package raftstate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// gpus is a group whose nodes are made, with so many GPUs each.
func gpus(n int, change ...func(*appspec.WorkerGroup)) *appspec.WorkerGroup {
	g := group("g", change...)
	g.Target.Kind, g.Node.GPU = appspec.TargetProcess, n
	return g
}

// rolls has a deploy's changes rolled out as they are by now.
func rolls(c Command) Command {
	c.Deploy.Rollouts = RolloutsOfNodes
	return c
}

// served is a log after which group g, whose nodes have a GPU, has a node, and
// each application serves there.
func served(apps ...string) []Command {
	log := []Command{rolls(deployGroups(gpus(1)))}
	for _, app := range apps {
		log = append(log, rolls(deploy(in(app, "g"), "1")), end(app, 1, RolloutSuccessful))
	}
	return append(log, nodeChanges(launch("g", 1)), nodeChanges(phase("g", 1, NodeLaunching, NodeReady)))
}

func reshaped(n int) Command { return rolls(deployGroups(gpus(n))) }

// place says where an application stands: its versions with their generations and
// the shapes that they are for, and what its group has.
func place(s *State, name string) string {
	version := func(v *Version) string {
		return fmt.Sprintf("%d (g%d, shape %d)", v.Number, v.Generation, v.Shapes["g"])
	}
	a, g := s.Applications[name], s.WorkerGroups["g"]
	line := "serves " + version(a.Serving)
	if a.Wanted.Number != a.Serving.Number {
		line += ", wanted " + version(a.Wanted)
	}
	line += fmt.Sprintf(", %s %s; group of %d GPUs, shape %d", a.Rollout.Status, a.Rollout.Strategy, g.Spec.Node.GPU, g.Shape)
	for _, f := range g.Former {
		line += fmt.Sprintf(", before %d", f.Number)
	}
	return line
}

func TestShapesOfNodes(t *testing.T) {
	canary := in("a", "g")
	canary.Rollout = &appspec.Rollout{Strategy: string(appspec.StrategyCanary)}
	rolling := in("a", "g")
	rolling.Rollout = &appspec.Rollout{Strategy: string(appspec.StrategyRolling)}
	scaled := in("a", "g")
	scaled.Deployments[0].NumReplicas = 3
	bad := end("a", 2, RolloutFailed)
	goes := func(n int) Command {
		return nodeChanges(phase("g", n, NodeReady, NodeTerminating), phase("g", n, NodeTerminating, ""))
	}
	for name, test := range map[string]struct {
		log  []Command
		want string
	}{
		"another one moves what is there":        {append(served("a"), reshaped(2)), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"it serves there":                        {append(served("a"), reshaped(2), end("a", 2, RolloutSuccessful)), "serves 2 (g2, shape 1), successful blue_green; group of 2 GPUs, shape 1, before 0"},
		"what is gone is forgotten":              {append(served("a"), reshaped(2), end("a", 2, RolloutSuccessful), goes(1)), "serves 2 (g2, shape 1), successful blue_green; group of 2 GPUs, shape 1"},
		"but not while it may be gone back to":   {append(served("a"), reshaped(2), goes(1)), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"and back":                               {append(served("a"), reshaped(2), nodeChanges(launch("g", 2)), reshaped(1)), "serves 3 (g0, shape 0), running live; group of 1 GPUs, shape 0, before 1"},
		"a third one from where things stand":    {append(served("a"), reshaped(2), reshaped(3)), "serves 1 (g0, shape 0), wanted 3 (g3, shape 2), running blue_green; group of 3 GPUs, shape 2, before 0"},
		"there and back and there":               {append(served("a"), reshaped(2), nodeChanges(launch("g", 2)), reshaped(1), reshaped(2)), "serves 3 (g0, shape 0), wanted 4 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"with a spec of its own, one version":    {append(served("a"), with(reshaped(2), deploy(in("a", "g"), "2"))), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"that asks for steps":                    {append(served("a"), with(reshaped(2), deploy(canary, "1"))), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running canary; group of 2 GPUs, shape 1, before 0"},
		"that would mix old and new":             {append(served("a"), with(reshaped(2), deploy(rolling, "2"))), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"that changes live":                      {append(served("a"), with(reshaped(2), deploy(scaled, "1"))), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
		"bounds alone move nothing":              {append(served("a"), rolls(deployGroups(gpus(1, most(9))))), "serves 1 (g0, shape 0), successful ; group of 1 GPUs, shape 0"},
		"without nodes there is nothing to move": {append(served("a"), goes(1), reshaped(2)), "serves 1 (g0, shape 0), successful ; group of 2 GPUs, shape 0"},
		"a failure takes the shape back":         {append(served("a"), reshaped(2), nodeChanges(launch("g", 2)), bad), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 1 GPUs, shape 0, before 1"},
		"an end by hand too":                     {append(served("a"), reshaped(2), steerBy("a", ActionAbort)), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 1 GPUs, shape 0"},
		"and a rollback on the way":              {append(served("a"), reshaped(2), Command{Rollback: &Rollback{Application: "a"}}), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 1 GPUs, shape 0"},
		"then it may be tried again":             {append(served("a"), reshaped(2), bad, reshaped(2)), "serves 1 (g0, shape 0), wanted 3 (g3, shape 2), running blue_green; group of 2 GPUs, shape 2, before 0"},
		"bounds that came with it stay":          {append(served("a"), rolls(deployGroups(gpus(2, most(9)))), bad), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 1 GPUs, shape 0"},
		"one that waits for another":             {append(served("a", "b"), reshaped(2), bad), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 2 GPUs, shape 1, before 0"},
		"and that serves: the shape stays":       {append(served("a", "b"), reshaped(2), end("b", 2, RolloutSuccessful), bad), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 2 GPUs, shape 1, before 0"},
		"and that fails too: it does not":        {append(served("a", "b"), reshaped(2), end("b", 2, RolloutFailed), bad), "serves 1 (g0, shape 0), wanted 2 (g2, shape 1), failed blue_green; group of 1 GPUs, shape 0"},
		"what stayed behind moves when deployed": {append(served("a", "b"), reshaped(2), end("b", 2, RolloutSuccessful), bad, rolls(deploy(in("a", "g"), "1"))), "serves 1 (g0, shape 0), wanted 3 (g3, shape 1), running blue_green; group of 2 GPUs, shape 1, before 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Err() != nil {
				t.Fatalf("refused: %v", r.Err())
			}
			if got := place(s, "a"); got != test.want {
				t.Errorf("got\n%s, want\n%s\n%s", got, test.want, s.Applications["a"].Rollout.Why)
			}
		})
	}
}

func steerBy(app string, action RolloutAction) Command {
	return Command{By: "ada", SteerRollout: &SteerRollout{Application: app, Action: action}}
}

func TestShapesAreSaid(t *testing.T) {
	change := gpus(2)
	change.Env = map[string]string{"HF_HOME": "/models"}
	c := rolls(deployGroups(change))
	c.Deploy.Message = "larger ones"
	s, _ := run(t, append(served("a"), c, end("a", 2, RolloutFailed)))
	a := s.Applications["a"]
	if want := "worker group g: env.HF_HOME, node.gpu changed: its replicas move to nodes of the new shape"; a.Rollout.Why != want {
		t.Errorf("why: %q, want %q", a.Rollout.Why, want)
	}
	if want := "deployed with worker group g: larger ones"; a.Wanted.Message != want || a.Wanted.By != "ada" {
		t.Errorf("message %q by %q, want %q", a.Wanted.Message, a.Wanted.By, want)
	}
	last := s.Events[len(s.Events)-1]
	if want := "env.HF_HOME, node.gpu as before version 2 of application a, which failed on nodes of the new shape"; last.Type != "group-rolled-back" || last.Message != want || last.WorkerGroup != "g" {
		t.Errorf("%+v, want %q", last, want)
	}
}

// What was scaled by hand stays so when replicas move.
func TestMovesKeepTheTarget(t *testing.T) {
	s, _ := run(t, append(served("a"), scale("a", "web", 7), reshaped(2)))
	if a := s.Applications["a"]; a.Wanted.Replicas["web"] != 7 || a.Scalings["web"].To != 7 {
		t.Errorf("%+v, scaled %+v", a.Wanted.Replicas, a.Scalings)
	}
}

func TestShapesThatAreRefused(t *testing.T) {
	none, dry, moved, plugin := gpus(2), gpus(2), gpus(1), gpus(1)
	none.Target.Kind = appspec.TargetNone
	dry.DryRun, moved.NodePool, plugin.Target.Kind = true, "elsewhere", appspec.TargetPlugin
	old := deployGroups(gpus(2))
	old.Deploy.Rollouts = 1
	many := served()
	for i := range maxFormer {
		many = append(many, reshaped(i+2), nodeChanges(launch("g", i+2)))
	}
	for name, test := range map[string]struct {
		log  []Command
		says string
	}{
		"nobody would make the new ones":  {append(served(), rolls(deployGroups(none))), "target.kind cannot change while it has 1 node"},
		"nor in a dry run":                {append(served(), rolls(deployGroups(dry))), "node.gpu cannot change while it has 1 node and dry_run is set"},
		"another pool":                    {append(served(), rolls(deployGroups(moved))), "node_pool cannot change while it has 1 node"},
		"another maker":                   {append(served(), rolls(deployGroups(plugin))), "target.kind cannot change while it has 1 node"},
		"a writer that knows nothing yet": {append(served(), old), "node.gpu cannot change while it has 1 node"},
		"too many shapes":                 {append(many, reshaped(99)), "still has nodes of 8 earlier shapes"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Code != CodeConflict || !strings.Contains(r.Error, test.says) {
				t.Errorf("%+v, want %q", r, test.says)
			}
			if s.WorkerGroups["g"].Spec.MaxNodes != 4 {
				t.Errorf("%+v", s.WorkerGroups["g"])
			}
		})
	}
}

// Of each shape there may be max_nodes, and only nodes of an earlier one retire.
func TestNodesOfSeveralShapes(t *testing.T) {
	two := func(n int) Command { return rolls(deployGroups(gpus(n, most(2)))) }
	s, _ := run(t, []Command{
		two(1), nodeChanges(launch("g", 1), launch("g", 2), launch("g", 3)),
		nodeChanges(phase("g", 1, NodeLaunching, NodeReady), phase("g", 1, NodeReady, NodeRetiring)),
		two(2), nodeChanges(phase("g", 1, NodeReady, NodeRetiring), launch("g", 4), launch("g", 5), launch("g", 6)),
		two(1), nodeChanges(phase("g", 1, NodeRetiring, NodeReturning), launch("g", 7), phase("g", 5, NodeLaunching, NodeTerminating), phase("g", 5, NodeTerminating, "")),
	})
	if got, want := phases(s), "g-00000001 returning, g-00000002 launching, g-00000004 launching"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if g := s.WorkerGroups["g"]; g.Shape != 0 || len(g.Former) != 1 || g.SpecOf(s.Nodes["g-00000004"]).Node.GPU != 2 || g.SpecOf(s.Nodes["g-00000002"]).Node.GPU != 1 {
		t.Errorf("%+v", g)
	}
}

// checkShapes checks that every node's shape is known, and that nothing else is
// remembered of groups; and that versions of one generation run on nodes of one
// shape, in whatever group they share.
func checkShapes(t *rapid.T, s *State) {
	for name, g := range s.WorkerGroups {
		numbers := []int{g.Shape}
		for _, f := range g.Former {
			if slices.Contains(numbers, f.Number) || f.Number > g.LastShape || len(f.Spec.Reshaped(g.Spec)) == 0 {
				t.Fatalf("group %s has shape %d, and before %+v", name, g.Shape, g.Former)
			}
			numbers = append(numbers, f.Number)
		}
		for id, n := range s.Nodes {
			if n.Group == name && !slices.Contains(numbers, n.Shape) {
				t.Fatalf("node %s has shape %d, and group %s %v", id, n.Shape, name, numbers)
			}
		}
	}
	for _, app := range s.Applications {
		versions := []*Version{app.Serving, app.Wanted}
		for _, l := range app.Leaving {
			versions = append(versions, l.Version)
		}
		for _, v := range versions {
			for _, w := range versions {
				if moved := movedGroups(v, w); v.Generation == w.Generation && len(moved) > 0 && app.Rollout.Strategy != "" {
					t.Fatalf("versions %d and %d of %s are of generation %d, and on nodes of different shapes in %v", v.Number, w.Number, app.Name, v.Generation, moved)
				}
			}
		}
	}
}

// TestLawsOfShapes changes shapes, deploys, ends rollouts and nodes at random.
func TestLawsOfShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &State{}
		for i := range rapid.IntRange(1, 40).Draw(t, "length") {
			before := encodedIn(t, s)
			next, r := s.Apply(uint64(i+1), at(i, anyShapeCommand(t, s)))
			if encodedIn(t, s) != before {
				t.Fatal("a published State has changed")
			}
			if r.Err() != nil && r.Code == CodeInvalid {
				t.Fatal(r.Err())
			}
			s = next
			checkGroups(t, s)
			checkShapes(t, s)
		}
	})
}

func anyShapeCommand(t *rapid.T, s *State) Command {
	app := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "application")
	var wanted int
	if a := s.Applications[app]; a != nil {
		wanted = a.Wanted.Number
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0, 1:
		return rolls(deployGroups(gpus(rapid.IntRange(1, 3).Draw(t, "gpus"))))
	case 2:
		c := with(rolls(deployGroups(gpus(rapid.IntRange(1, 3).Draw(t, "gpus")))), deploy(in(app, "g"), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "hash")))
		c.Deploy.Applications[0].Spec.Rollout = &appspec.Rollout{Strategy: rapid.SampledFrom([]string{"", "rolling", "canary", "blue_green"}).Draw(t, "strategy")}
		return c
	case 3:
		return end(app, wanted, rapid.SampledFrom([]RolloutStatus{RolloutSuccessful, RolloutFailed}).Draw(t, "status"))
	case 4:
		return steerBy(app, rapid.SampledFrom([]RolloutAction{ActionAbort, ActionPause, ActionPromote}).Draw(t, "action"))
	case 5:
		return Command{Rollback: &Rollback{Application: app, Version: rapid.IntRange(0, 4).Draw(t, "version")}}
	default:
		id := rapid.SampledFrom(append(slices.Sorted(maps.Keys(s.Nodes)), "g-new")).Draw(t, "node")
		from := NodePhase("")
		if n := s.Nodes[id]; n != nil {
			from = n.Phase
		} else {
			id = fmt.Sprintf("g-%d", s.Index)
		}
		to := rapid.SampledFrom([]NodePhase{"", NodeLaunching, NodeReady, NodeRetiring, NodeDraining, NodeReturning, NodeTerminating}).Draw(t, "to")
		return nodeChanges(NodeChange{ID: id, Group: "g", From: from, To: to, Reason: "it is so"})
	}
}
