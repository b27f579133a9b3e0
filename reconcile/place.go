package reconcile

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// place is where in Nomad the replicas of a deployment are to run.
type place struct {
	group   *appspec.WorkerGroup // that it names; nil: none
	coreMHz int                  // what a core counts for there
	problem string               // why no job can be made for it now; "": one can
}

// place finds out where a deployment's replicas are to run. made is what a core
// counted for when its job was made, and counts on, whatever node has come or
// gone since; 0: there is no job. A worker group need not have a node yet: its
// job is what brings one.
func (w sight) place(state *raftstate.State, settings Settings, d *appspec.Deployment, made int) place {
	if d.WorkerGroup != "" {
		group := state.WorkerGroups[d.WorkerGroup]
		switch {
		case group == nil:
			return place{problem: fmt.Sprintf("there is no worker group %q", d.WorkerGroup)}
		case !w.NodesKnown:
			return place{problem: "Nomad's nodes and node pools have not been looked at yet"}
		}
		if open := w.openOutdated(state, group); len(open) > 0 {
			return place{problem: fmt.Sprintf("worker group %s has another shape now, and %d of its earlier nodes take replicas still: they are closed first", group.Name, len(open))}
		}
		return place{group: group.Spec, coreMHz: cmp.Or(made, CoreMHz(state, w.World, group.Spec))}
	}
	pool := cmp.Or(jobspec.NodePool(d, nil, settings.Placement), api.NodePoolDefault)
	slowest, grouped := w.slowestGroup(state, pool)
	if !grouped || pool == api.NodePoolAll {
		slowest = cmp.Or(w.CoreMHz[pool], slowest)
	}
	mhz := cmp.Or(made, slowest)
	switch {
	case w.NodesKnown && !grouped && !w.hasPool(pool):
		return place{problem: fmt.Sprintf("there is no node pool %q in Nomad, and no worker group makes it", pool)}
	case mhz == 0:
		return place{problem: fmt.Sprintf("no node of pool %q is ready, so a core's MHz is not known", pool)}
	default:
		return place{coreMHz: mhz}
	}
}

// hasPool says whether a node pool was seen. Nomad's own are always there.
func (w sight) hasPool(pool string) bool {
	return pool == api.NodePoolAll || pool == api.NodePoolDefault || w.Pools[pool]
}

// slowestGroup returns what a core counts for in the slowest worker group of a
// pool, and whether there is one.
func (w sight) slowestGroup(state *raftstate.State, pool string) (mhz int, found bool) {
	for _, group := range state.WorkerGroups {
		if group.Deleting || pool != api.NodePoolAll && pool != group.Spec.NodePool {
			continue
		}
		if own := CoreMHz(state, w.World, group.Spec); !found || own < mhz {
			mhz, found = own, true
		}
	}
	return mhz, found
}

// CoreMHz returns what a core of a worker group's nodes counts for: what its
// spec says, or what the slowest of its nodes that are ready has for each core,
// or, when it has none, the slowest core that there is. It is never 0.
func CoreMHz(state *raftstate.State, world *World, group *appspec.WorkerGroup) int {
	if group.Node.CoreMHz > 0 {
		return group.Node.CoreMHz
	}
	var own, others, clocks slowest
	made := outdated(state, group.Name)
	for _, n := range world.Nodes {
		shape, former := made[n.Said.Launch]
		switch {
		case n.Said.Status != api.NodeStatusReady:
		case former:
			others.see(coreOf(n, shape.Node.CPU))
		case inGroup(n, group):
			own.see(coreOf(n, group.Node.CPU))
		case n.Said.Launch == "":
			others.see(coreOf(n, 0))
		default:
			// Of a node that another group ordered only the clock counts: it may
			// be a process, which claims so many cores of so many MHz as its
			// group has, and says that it has those of its machine.
			clocks.see(attribute(n, "cpu.frequency"))
		}
	}
	return cmp.Or(own.mhz, others.mhz, clocks.mhz, world.CoreMHz[api.NodePoolAll], jobspec.DefaultCoreMHz)
}

// outdated returns what the nodes of a worker group were made by that have
// another shape than it has now, by their ids.
func outdated(state *raftstate.State, name string) map[string]*appspec.WorkerGroup {
	group := state.WorkerGroups[name]
	if group == nil || len(group.Former) == 0 {
		return nil
	}
	made := map[string]*appspec.WorkerGroup{}
	for id, n := range state.Nodes {
		if n.Group == name && group.Outdated(n) {
			made[id] = group.SpecOf(n)
		}
	}
	return made
}

// openOutdated returns the nodes of a worker group's earlier shapes on which Nomad
// would still place replicas. What is made for its present shape waits until there
// are none.
func (w *World) openOutdated(state *raftstate.State, group *raftstate.WorkerGroup) []*placement.Node {
	made := outdated(state, group.Name)
	if len(made) == 0 {
		return nil
	}
	joined := map[string]bool{} // by Nomad's id: targets that only count do not tell a node its own
	for id := range made {
		joined[state.Nodes[id].NomadID] = true
	}
	var list []*placement.Node
	for _, n := range w.Nodes {
		if _, former := made[n.Said.Launch]; (former || joined[n.ID]) && n.Said.Status == api.NodeStatusReady && n.Said.Eligible && !n.Said.Draining {
			list = append(list, n)
		}
	}
	return list
}

// coreOf returns the MHz of one core of a node. That of one which was ordered
// has the cores of its group's shape, whatever its machine has.
func coreOf(n *placement.Node, shape float64) int {
	cores := float64(attribute(n, "cpu.numcores"))
	if n.Said.Launch != "" && shape > 0 {
		cores = shape
	}
	if cores <= 0 || n.Room.CPU <= 0 {
		return 0
	}
	const highest = 1_000_000 // of a shape that says next to nothing
	return int(max(1, min(float64(n.Room.CPU)/cores, highest)))
}

// attribute returns a number that a node has as an attribute; 0: it has none.
func attribute(n *placement.Node, name string) int {
	number, err := strconv.Atoi(n.Attributes[name])
	if err != nil {
		return 0
	}
	return max(0, number)
}

// slowest is the least of the MHz that were seen; 0: none was.
type slowest struct{ mhz int }

func (s *slowest) see(mhz int) {
	if mhz > 0 && (s.mhz == 0 || mhz < s.mhz) {
		s.mhz = mhz
	}
}

// inGroup says whether a node is of the kind that a worker group's nodes are.
func inGroup(n *placement.Node, group *appspec.WorkerGroup) bool {
	return n.Pool == group.NodePool && (group.Node.Class == "" || n.Class == group.Node.Class)
}
