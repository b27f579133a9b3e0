package nodescale

import (
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// judge sees that a change that was made breaks no promise.
func (s *simulation) judge(in Input, c raftstate.NodeChange) {
	joined := c.From == raftstate.NodeReady || c.From == raftstate.NodeDraining || c.From == raftstate.NodeReturning
	taken := c.To == raftstate.NodeDraining || c.To == raftstate.NodeTerminating
	if in.Hold != "" && joined && taken {
		s.violate("%s is taken away while %s", c.ID, in.Hold)
	}
	if in.Blind != "" && (c.From == "" || c.To == raftstate.NodeTerminating) && c.From != raftstate.NodeTerminating {
		if n := s.nodeOf(c.ID); c.From == "" || n != nil {
			s.violate("%s goes from %q to %q while %s", c.ID, c.From, c.To, in.Blind)
		}
	}
	if c.To == raftstate.NodeDraining {
		s.early(c)
	}
	if n, group := s.nodeOf(c.ID), s.state.WorkerGroups[c.Group]; c.From == raftstate.NodeDraining && c.To == raftstate.NodeTerminating &&
		n != nil && group != nil && s.now-n.empty >= 2*group.Spec.DrainTimeout.Std() {
		s.watch.overdue = s.now
	}
	if c.From == raftstate.NodeRetiring && c.To == raftstate.NodeTerminating {
		s.bare(c)
	}
}

func (s *simulation) nodeOf(record string) *simNode {
	if m := s.machines[record]; m != nil {
		return m.node
	}
	return nil
}

// early sees that an empty node is not taken away before idle_timeout. A clock
// that is wrong may be believed.
func (s *simulation) early(c raftstate.NodeChange) {
	n, group := s.nodeOf(c.ID), s.state.WorkerGroups[c.Group]
	if n == nil || group == nil || group.Deleting || s.skew != 0 || len(c.Surge) > 0 {
		return
	}
	spec := group.Spec
	if s.staying(c.Group)+1 > spec.MaxNodes || len(spec.Schedules) > 0 {
		return
	}
	if empty := s.now - n.empty; len(n.allocs) == 0 && empty < spec.IdleTimeout.Std() {
		s.violate("%s is taken away after it was empty for %s", c.ID, empty)
	}
}

// staying is how many nodes a group has or is about to have.
func (s *simulation) staying(group string) int {
	count := s.groupOf(group).ByHand
	for _, r := range s.state.Nodes {
		if r.Group == group && !s.ofEarlier(r) && (r.Phase == raftstate.NodeLaunching || r.Phase == raftstate.NodeReady || r.Phase == raftstate.NodeReturning) {
			count++
		}
	}
	return count
}

// bounds sees that each group keeps within its own. Schedules have others.
func (s *simulation) bounds(was *raftstate.State) {
	for _, g := range s.groups {
		name := g.Spec.Name
		group := s.state.WorkerGroups[name]
		if group == nil || group.Deleting || len(group.Spec.Schedules) > 0 {
			continue
		}
		before, after, drained := g.ByHand, g.ByHand, 0
		for id, r := range was.Nodes {
			if r.Group == name && r.Phase != raftstate.NodeTerminating && !s.ofEarlier(r) {
				before++
				if now := s.state.Nodes[id]; now != nil && r.Phase == raftstate.NodeReady && now.Phase == raftstate.NodeDraining {
					drained++
				}
			}
		}
		for _, r := range s.state.Nodes {
			if r.Group == name && r.Phase != raftstate.NodeTerminating && !s.ofEarlier(r) {
				after++
			}
		}
		if after > before && after > group.Spec.MaxNodes {
			s.violate("worker group %s has %d nodes, and max_nodes is %d", name, after, group.Spec.MaxNodes)
		}
		if staying := s.staying(name); drained > 0 && staying < group.Spec.MinNodes {
			s.violate("worker group %s keeps %d nodes, and min_nodes is %d", name, staying, group.Spec.MinNodes)
		}
	}
}

// limits sees that no target is made to make more than it may, beside what it
// is to be rid of.
func (s *simulation) limits(g *simGroup) {
	going := 0
	for id, m := range s.machines {
		if r := s.state.Nodes[id]; m.group == g && !m.ended && (r == nil || r.Phase == raftstate.NodeTerminating || s.ofEarlier(r)) {
			going++
		}
	}
	if most := s.specOf(g).MaxNodes; len(s.specOf(g).Schedules) == 0 && g.up-going > most {
		s.violate("worker group %s has %d machines beside those that go, and max_nodes is %d", g.Spec.Name, g.up-going, most)
	}
}

// spare sees that a drain leaves as many replicas serving as are wanted.
func (s *simulation) spare(j *simJob) {
	beyond := j.serving - j.want
	s.watch.leastSpare = min(s.watch.leastSpare, beyond)
	if beyond < 0 && j.count > j.want {
		s.violate("a drain leaves %d of %d replicas of job %s", j.serving, j.want, j.id)
	}
}
