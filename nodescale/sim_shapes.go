package nodescale

import (
	"fmt"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// simSettled is how long after whatever stood in its way no replica is placed on
// a node of an earlier shape any more: the same call of Nomad, and a look, must
// have been possible twice.
const simSettled = 10 * time.Second

// command has somebody's command done, and what follows from it for jobs.
func (s *simulation) command(c raftstate.Command) {
	was := s.state.WorkerGroups
	if result := s.propose(c); result.Error != "" {
		s.tell("refused: %s", result.Error)
	}
	for _, g := range s.groups {
		name := g.Spec.Name
		before, now := was[name], s.state.WorkerGroups[name]
		if before == nil || now == nil || before.Spec == now.Spec {
			continue
		}
		g.shape = newSimGroup(SimGroup{Spec: now.Spec, CoreMHz: g.CoreMHz}).shape
		for _, j := range s.jobs {
			s.holders(j)
		}
		if before.Shape != now.Shape {
			s.tell("worker group %s has shape %d", name, now.Shape)
			s.reshaped(g, now)
		}
	}
	s.touch()
}

// reshaped brings new versions of the jobs that name a group, or has earlier ones
// go on that were for the shape that it has again.
func (s *simulation) reshaped(g *simGroup, now *raftstate.WorkerGroup) {
	for _, n := range g.nodes {
		n.outdated = s.now
	}
	for _, id := range sortedKeys(s.jobByID) {
		j := s.jobByID[id]
		if j.Group != g.Spec.Name || j.shape == now.Shape {
			continue
		}
		next := s.version(j, now.Shape)
		s.jobByID[id] = next
		next.want, next.changed = j.want, s.now
		s.needed(next, true)
	}
	s.takeOver()
	s.after(simReconcile, s.recount)
}

// version returns the version of a job for a shape.
func (s *simulation) version(j *simJob, shape int) *simJob {
	for _, other := range s.jobs {
		if other.root == j.root && other.shape == shape {
			return other
		}
	}
	next := &simJob{SimJob: j.SimJob, root: j.root, id: fmt.Sprintf("%s-shape%d", j.root, shape), shape: shape, groups: slices.Clone(j.groups), blocked: -1}
	next.Ask.Key, next.Ask.Job = next.id, next.id
	s.holders(next)
	s.jobs = append(s.jobs, next)
	return next
}

// takeOver ends the versions whose successor serves in full.
func (s *simulation) takeOver() {
	for _, j := range s.jobs {
		next := s.jobByID[j.root]
		if j == next || j.want == 0 || next.serving < next.want {
			continue
		}
		s.tell("%s takes over from %s", next.id, j.id)
		j.want, j.changed = 0, s.now
		s.needed(j, true)
		s.touch()
		s.after(simReconcile, s.recount)
	}
}

// waits says whether a version is not to start yet: nodes of an earlier shape
// would take its replicas.
func (s *simulation) waits(j *simJob) bool {
	return j.Group != "" && j.count == 0 && slices.ContainsFunc(s.groupOf(j.Group).nodes, func(n *simNode) bool {
		return n.Closed == "" && s.isOutdated(n)
	})
}

// isOutdated says whether a node is of an earlier shape of its group.
func (s *simulation) isOutdated(n *simNode) bool {
	if n.machine == nil {
		return false
	}
	r := s.state.Nodes[n.machine.id]
	return r != nil && s.ofEarlier(r)
}

func (s *simulation) ofEarlier(r *raftstate.Node) bool {
	group := s.state.WorkerGroups[r.Group]
	return group != nil && !group.Deleting && group.Outdated(r)
}

// kept sees that no replica comes to a node of an earlier shape that could have
// been closed by now.
func (s *simulation) kept(j *simJob, n *simNode) {
	since := max(n.outdated, n.born, s.watch.trouble)
	if s.holds+s.blinds == 0 && !n.dead && s.isOutdated(n) && s.now-since > simSettled {
		s.violate("a replica of job %s was placed on %s, which has had another shape than its group for %s", j.id, n.ID, s.now-n.outdated)
	}
}

// bare sees that a node of an earlier shape goes when no replica is left on it.
func (s *simulation) bare(c raftstate.NodeChange) {
	n := s.nodeOf(c.ID)
	if n == nil || n.dead {
		return
	}
	for _, a := range n.allocs {
		if a.job != nil {
			s.violate("%s is given up with a replica of job %s on it", c.ID, a.job.id)
		}
	}
}
