package nodescale

import (
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
)

// join makes a node of Nomad's; machine is nil for one that was put there by
// hand.
func (s *simulation) join(g *simGroup, m *simMachine, id string) {
	shape := g.shape
	if m != nil {
		shape = m.shape
	}
	shape.ID, shape.Name = id, id
	shape.Said = placement.Said{Status: "ready", Eligible: true, Since: s.clock()}
	if m != nil {
		shape.Said.Launch = m.id
	}
	n := &simNode{Node: &shape, group: g, machine: m, of: map[*simJob]int{}, free: shape.Room, born: s.now, empty: s.now}
	if len(shape.Devices) > 0 {
		n.gpus = slices.Clone(shape.Devices[0].Instances)
	}
	if m != nil {
		m.node = n
	}
	g.nodes = append(g.nodes, n)
	s.nodes = append(s.nodes, n.Node)
	s.nodeByID[id] = n
	s.watch.joined(n, 1)
	s.tell("node %s joined", id)
	s.freed++
	s.schedule()
	s.touch()
}

// forget takes a node out of Nomad.
func (s *simulation) forget(n *simNode) {
	n.group.nodes = slices.DeleteFunc(n.group.nodes, func(o *simNode) bool { return o == n })
	s.nodes = slices.DeleteFunc(s.nodes, func(o *placement.Node) bool { return o == n.Node })
	delete(s.nodeByID, n.ID)
	s.touch()
}

// die ends the machine of a node. Nomad finds out by its silence.
func (s *simulation) die(n *simNode) {
	s.watch.joined(n, -1)
	for _, a := range n.allocs {
		s.watch.hold(n, n.Allocs[a.place], -1)
		if a.job != nil && a.serving {
			a.serving = false
			a.job.serving--
			s.needed(a.job, false)
		}
	}
	n.dead = true
	s.after(simHeartbeat, func() { s.down(n) })
}

// down is when Nomad gives a node up, with all that was on it.
func (s *simulation) down(n *simNode) {
	for _, a := range n.allocs {
		if !a.stopping {
			s.unserve(a)
		}
	}
	n.allocs, n.Allocs, n.of = nil, nil, nil
	n.Said.Status, n.Said.Draining, n.Said.Since = "down", false, s.clock()
	n.close()
	s.after(simReconcile, s.recount)
	s.tell("node %s is down", n.ID)
	s.schedule()
	s.touch()
}

// close keeps Closed as Nomad's scheduler sees the node.
func (n *simNode) close() {
	switch {
	case n.Said.Status != "ready":
		n.Closed = n.Said.Status
	case n.Said.Draining:
		n.Closed = "draining"
	case !n.Said.Eligible:
		n.Closed = "not eligible"
	default:
		n.Closed = ""
	}
}

// eligible opens or closes a node. Opening ends its drain.
func (s *simulation) eligible(n *simNode, open bool) {
	if n.dead {
		return
	}
	n.Said.Eligible = open
	if open {
		n.Said.Draining = false
		s.freed++
		s.schedule()
	}
	n.close()
	s.touch()
	s.after(simReconcile, s.recount)
}

// drain begins to move what is on a node elsewhere, and stops what is left at
// the deadline.
func (s *simulation) drain(n *simNode, deadline time.Duration) {
	if n.dead {
		return
	}
	n.Said.Draining, n.Said.Eligible, n.deadline = true, false, s.now+deadline
	n.close()
	s.watch.draining = append(s.watch.draining, n)
	s.after(deadline, func() { s.expire(n) })
	s.after(0, s.drains)
	s.after(simHealthy, s.drains)
	s.drained(n)
	s.touch()
}

// drained ends a drain when nothing is left.
func (s *simulation) drained(n *simNode) {
	if n.Said.Draining && len(n.allocs) == 0 {
		n.Said.Draining = false
		n.close()
		s.touch()
	}
}

// drains goes on with the drains that are under way: of each job, so many
// replicas may be on their way that at most one of its count is missing.
func (s *simulation) drains() {
	s.watch.draining = slices.DeleteFunc(s.watch.draining, func(n *simNode) bool { return n.dead || !n.Said.Draining })
	for _, n := range s.watch.draining {
		for _, a := range slices.Clone(n.allocs) {
			switch {
			case a.stopping:
			case a.job == nil:
				s.stop(a)
			case s.healthy(a.job) > a.job.count-1:
				s.migrate(a)
			}
		}
	}
}

// migrate stops a replica because its node drains; Nomad starts another.
func (s *simulation) migrate(a *simAlloc) {
	was := a.serving
	s.tell("replica %s[%d] moves off %s", a.job.id, a.index, a.node.ID)
	s.stop(a)
	s.watch.moved++
	if was {
		s.spare(a.job)
	}
}

// healthy counts the replicas of a job that have served for long enough for a
// drain to go on.
func (s *simulation) healthy(j *simJob) int {
	count := 0
	for _, a := range j.slots {
		if a != nil && a.serving && s.now-a.since >= simHealthy {
			count++
		}
	}
	return count
}

// expire is the deadline of a drain: what is left stops at once.
func (s *simulation) expire(n *simNode) {
	if n.dead || !n.Said.Draining || s.now < n.deadline {
		return
	}
	for _, a := range slices.Clone(n.allocs) {
		if !a.stopping {
			s.stop(a)
			s.watch.moved++
			s.watch.forced++
		}
	}
}
