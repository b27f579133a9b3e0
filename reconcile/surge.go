package reconcile

import (
	"fmt"
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// surge is the replicas that run beside a job's target while nodes drain.
type surge struct {
	replicas int
	nodes    []string // that drain, by id
}

// surges returns the surge of each job that has one. A node that is to drain
// counts once it is seen to be closed: before that Nomad might place the
// replicas that are to stand in on the very node that goes.
func surges(state *raftstate.State, world *World) map[string]surge {
	all := map[string]surge{}
	var open map[string]bool // by Nomad's id
	for _, node := range state.Nodes {
		if node.Phase != raftstate.NodeDraining {
			continue
		}
		if open == nil {
			open = world.open()
		}
		if open[node.NomadID] {
			continue
		}
		for job, replicas := range node.Surge {
			all[job] = surge{all[job].replicas + replicas, append(all[job].nodes, node.ID)}
		}
	}
	for _, s := range all {
		slices.Sort(s.nodes)
	}
	return all
}

// open says on which nodes Nomad places replicas, by its id.
func (w *World) open() map[string]bool {
	open := map[string]bool{}
	for _, n := range w.Nodes {
		if n.Said.Status == "ready" && n.Said.Eligible && !n.Said.Draining {
			open[n.ID] = true
		}
	}
	return open
}

// count is how many replicas n's job is to have. One that is to have none gets
// none because of a node that drains either: there is nothing to keep going.
func (s surge) count(n need) int {
	if n.count == 0 {
		return 0
	}
	return n.count + s.replicas
}

// why says for what there are more replicas than the target.
func (s surge) why() string {
	which := "node " + s.nodes[0]
	switch more := len(s.nodes) - 1; {
	case more == 1:
		which += " and 1 other drain"
	case more > 1:
		which += fmt.Sprintf(" and %d others drain", more)
	default:
		which += " drains"
	}
	return fmt.Sprintf("%d more while %s", s.replicas, which)
}

// whyCount says why n's job is to have its count, which it now has another one
// of.
func (s surge) whyCount(n need, have int) string {
	switch {
	case s.count(n) == n.count:
		return n.whyCount(have)
	case have == n.count:
		return s.why()
	default:
		return n.whyCount(have) + "; " + s.why()
	}
}

// JobTargets returns how many replicas the jobs of live applications are to
// have as the world is, by job id, without those that run beside them while a
// node drains.
func JobTargets(state *raftstate.State, world *World) map[string]int {
	targets, seen := map[string]int{}, see(state, world)
	for _, app := range state.Applications {
		for _, n := range seen.needs(app) {
			targets[n.jobID()] = n.count
		}
	}
	return targets
}
