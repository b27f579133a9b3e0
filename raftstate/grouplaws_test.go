package raftstate

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// anyGroupCommand draws a command about worker groups and nodes, of which there
// are few, so that they meet each other.
func anyGroupCommand(t *rapid.T, i int) Command {
	name := rapid.SampledFrom([]string{"g", "h", "i"}).Draw(t, "group")
	switch rapid.IntRange(0, 9).Draw(t, "group command") {
	case 0, 1:
		c := deployGroups(anyGroup(t, name))
		if rapid.Bool().Draw(t, "checked") {
			c.Deploy.WorkerGroups[0].CheckIndex = new(rapid.Uint64Range(0, uint64(i)).Draw(t, "check index"))
		}
		if rapid.Bool().Draw(t, "with an application") {
			c = with(c, deploy(in("a", name), "1"))
		}
		return c
	case 2:
		return removeGroup(name)
	case 3:
		return forgetGroup(name)
	default:
		return nodeChanges(rapid.SliceOfN(rapid.Custom(anyNodeChange), 0, 6).Draw(t, "node changes")...)
	}
}

func anyGroup(t *rapid.T, name string) *appspec.WorkerGroup {
	g := group(name, most(rapid.IntRange(0, 3).Draw(t, "max nodes")))
	g.NodePool = rapid.SampledFrom([]string{name, "shared"}).Draw(t, "pool")
	g.Node.Class = rapid.SampledFrom([]string{"", name, "one"}).Draw(t, "class")
	if rapid.Bool().Draw(t, "schedule") {
		g.Schedules = []*appspec.NodeSchedule{{Name: "day", MaxNodes: new(rapid.IntRange(0, 4).Draw(t, "scheduled max"))}}
	}
	if rapid.Bool().Draw(t, "empty, not nil") {
		g.Labels, g.Prefetch = map[string]string{}, []*appspec.Prefetch{}
	}
	return g
}

func anyNodeChange(t *rapid.T) NodeChange {
	phases := []NodePhase{"", NodeLaunching, NodeReady, NodeRetiring, NodeDraining, NodeReturning, NodeTerminating, "odd"}
	c := phase(rapid.SampledFrom([]string{"g", "g", "h", "i"}).Draw(t, "group"), rapid.IntRange(1, 6).Draw(t, "node"),
		rapid.SampledFrom(phases).Draw(t, "from"), rapid.SampledFrom(phases).Draw(t, "to"))
	c.Failed = rapid.Bool().Draw(t, "failed")
	if rapid.Bool().Draw(t, "surge") {
		c.Surge = map[string]int{"job": rapid.IntRange(-1, 3).Draw(t, "replicas")}
	}
	if rapid.IntRange(0, 3).Draw(t, "of another group") == 0 {
		c.Group = "h"
	}
	return c
}

// checkNodesChanged checks that a command about nodes is never refused and
// leaves what people decide alone.
func checkNodesChanged(t *rapid.T, old, next *State, r Result) {
	if r.Err() != nil {
		t.Fatalf("a command about nodes was refused: %v", r.Err())
	}
	without := func(s *State) string { return encodedIn(t, &State{Applications: s.Applications}) }
	if without(old) != without(next) || len(old.WorkerGroups) != len(next.WorkerGroups) {
		t.Fatal("a command about nodes changed applications or groups")
	}
	held := map[string]int{}
	for _, node := range next.Nodes {
		if node.Phase.held() && !next.WorkerGroups[node.Group].Outdated(node) {
			held[node.Group]++
		}
	}
	for name, group := range next.WorkerGroups {
		was, is := *old.WorkerGroups[name], *group
		was.Failures, was.Usage, is.Failures, is.Usage = Failures{}, Usage{}, Failures{}, Usage{}
		was.Former, is.Former = nil, nil // those of which there is no node any more are forgotten
		if groupIn(t, &was) != groupIn(t, &is) {
			t.Fatalf("a command about nodes changed more of group %s than what it keeps count of", name)
		}
	}
	for id, node := range next.Nodes {
		if old.Nodes[id] != nil {
			continue
		}
		if group := next.WorkerGroups[node.Group]; group.Deleting || held[node.Group] > mostNodes(group.Spec) {
			t.Fatalf("node %s was ordered as number %d of group %s, which may have %d", id, held[node.Group], node.Group, mostNodes(group.Spec))
		}
	}
}

func groupIn(t *rapid.T, g *WorkerGroup) string {
	return encodedIn(t, &State{WorkerGroups: map[string]*WorkerGroup{g.Name: g}})
}

func checkGroups(t *rapid.T, s *State) {
	type kind struct{ pool, class string }
	pools, kinds := map[string]int{}, map[kind]int{}
	for name, group := range s.WorkerGroups {
		k := kind{group.Spec.NodePool, group.Spec.Node.Class}
		pools[k.pool]++
		kinds[k]++
		if kinds[k] > 1 || pools[k.pool] > 1 && kinds[kind{k.pool, ""}] > 0 {
			t.Fatalf("the nodes of group %s cannot be told from another's", name)
		}
		if users := s.usersOf(name); group.Deleting && len(users) > 0 {
			t.Fatalf("group %s is being deleted and in use by %v", name, users)
		}
		u := group.Usage
		if u.Removed+s.nodesOf(name) > u.Launched || u.Failed > u.Launched || u.Seconds < 0 || len(u.Starts) > maxStarts {
			t.Fatalf("group %s has %d nodes and used %+v", name, s.nodesOf(name), u)
		}
	}
	for id, node := range s.Nodes {
		switch {
		case node.ID != id || s.WorkerGroups[node.Group] == nil:
			t.Fatalf("node %s is %+v", id, node)
		case !node.Phase.held() && node.Phase != NodeTerminating:
			t.Fatalf("node %s is in phase %q", id, node.Phase)
		case node.Surge != nil && node.Phase != NodeDraining:
			t.Fatalf("node %s is %s and has a surge", id, node.Phase)
		}
	}
	for _, app := range s.Applications {
		if app.Deleting {
			continue
		}
		for _, v := range app.versions() {
			for _, d := range v.Spec.Deployments {
				if d.WorkerGroup != "" && s.WorkerGroups[d.WorkerGroup] == nil {
					t.Fatalf("%s of %s names group %s, which there is not", d.Name, app.Name, d.WorkerGroup)
				}
			}
		}
	}
}

// Whatever order changes come in, one command of many leaves the State that as
// many commands of one leave.
func TestChangesOfNodesAreMadeInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := &State{}
		start, _ = start.Apply(1, at(0, deployGroups(group("g", most(2)), group("h", most(1)))))
		changes := rapid.SliceOfN(rapid.Custom(anyNodeChange), 1, 40).Draw(t, "changes")
		atOnce, _ := start.Apply(2, at(1, nodeChanges(changes...)))
		singly := start
		for _, change := range changes {
			singly, _ = singly.Apply(2, at(1, nodeChanges(change)))
		}
		if a, b := encodedIn(t, atOnce), encodedIn(t, singly); a != b {
			t.Fatalf("at once\n%s\nsingly\n%s", a, b)
		}
	})
}
