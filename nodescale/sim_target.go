package nodescale

import (
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// simMachine is what a target has made, or is about to make.
type simMachine struct {
	id    string
	group *simGroup
	shape placement.Node
	node  *simNode // nil: it has not joined
	going bool     // its target has agreed to remove it
	ended bool
}

// simCall is a call of a target.
type simCall struct {
	Call
	term   int
	record string
	group  *simGroup
	from   time.Duration
	turn   bool // it has its turn
}

// call begins a call of a group's target for a record, unless one is under way.
func (s *simulation) call(what, id, reason string) {
	record := s.state.Nodes[id]
	if record == nil || s.state.WorkerGroups[record.Group] == nil {
		return
	}
	before := s.leader.calls[id]
	if before != nil && before.Running {
		return
	}
	g := s.groupOf(record.Group)
	c := &simCall{Call: Call{What: what, Running: true, At: s.clock()}, term: s.leader.term, record: id, group: g, from: s.now}
	if before != nil {
		c.Instance = before.Instance
	}
	s.leader.calls[id] = c
	limit := simRemoveWait
	if what == "launch" {
		limit = s.specOf(g).LaunchTimeout.Std()
	}
	s.tell("%s %s: %s", what, id, reason)
	s.after(limit, func() { s.answer(c, "it did not answer in time") })
	g.turns = append(g.turns, func() { s.begun(c) })
	s.turn(g)
}

// turn lets calls that wait for their turn have it.
func (s *simulation) turn(g *simGroup) {
	for g.calling < simCalls && len(g.turns) > 0 {
		next := g.turns[0]
		g.turns = g.turns[1:]
		next()
	}
}

// begun is when a target hears of a call.
func (s *simulation) begun(c *simCall) {
	if !c.Running {
		return // it waited too long for its turn
	}
	c.turn = true
	c.group.calling++
	if s.in.Chance.Float64() < c.group.Hangs {
		return
	}
	wait := s.some(c.group.Answer)
	if c.What == "remove" {
		s.after(wait, func() {
			s.remove(c)
			s.answer(c, "")
		})
		return
	}
	fails := s.in.Chance.Float64() < c.group.Fails && s.machines[c.record] == nil
	if !fails {
		s.launch(c)
	}
	s.after(wait, func() {
		if fails {
			s.answer(c, "no capacity")
		} else {
			s.answer(c, "")
		}
	})
}

// answer ends a call. What the call of an earlier leader came to nobody hears.
func (s *simulation) answer(c *simCall, fault string) {
	if !c.Running {
		return
	}
	c.Running, c.Error = false, fault
	if c.term != s.leader.term {
		return
	}
	if c.turn {
		c.group.calling--
	}
	s.turn(c.group)
	s.touch()
}

// launch makes a machine, once for each id.
func (s *simulation) launch(c *simCall) {
	if s.machines[c.record] != nil {
		return
	}
	g := c.group
	m := &simMachine{id: c.record, group: g, shape: g.shape}
	if r := s.state.Nodes[m.id]; r != nil {
		spec := s.state.WorkerGroups[r.Group].SpecOf(r)
		m.shape = newSimGroup(SimGroup{Spec: spec, CoreMHz: g.CoreMHz}).shape
	}
	s.machines[m.id] = m
	s.watch.machine(g, 1)
	s.limits(g)
	if g.Life > 0 {
		life := -math.Log(1-s.in.Chance.Float64()) * float64(g.Life)
		s.after(time.Duration(min(life, float64(s.in.Until))), func() {
			if !m.ended {
				s.tell("machine %s is taken away", m.id)
				s.watch.lost++
				s.end(m)
			}
		})
	}
	if s.in.Chance.Float64() < g.Strays {
		return
	}
	s.after(s.some(g.Launch), func() {
		if !m.ended {
			s.join(g, m, "nomad-"+m.id)
		}
	})
}

// remove ends a machine because it was asked for.
func (s *simulation) remove(c *simCall) {
	m := s.machines[c.record]
	if m == nil {
		// A launch that has not come through yet is not to come through any more.
		s.machines[c.record] = &simMachine{id: c.record, group: c.group, ended: true}
		return
	}
	// What joins while it is being removed nobody could have seen.
	if n := m.node; n != nil && !m.ended && n.born < c.from-2*s.in.Look {
		for _, a := range n.allocs {
			if !n.dead && !n.Allocs[a.place].System {
				s.violate("machine %s was removed with %s on it", m.id, n.Allocs[a.place].ID)
			}
		}
	}
	m.going = true
	s.after(c.group.Remove, func() { s.end(m) })
}

// end is the end of a machine.
func (s *simulation) end(m *simMachine) {
	if m.ended {
		return
	}
	m.ended = true
	s.watch.machine(m.group, -1)
	if m.node != nil && !m.node.dead {
		s.die(m.node)
	}
	s.touch()
	s.after(simListEvery, s.touch)
}

// endCalls ends launches of nodes that are not to be launched any more, and
// forgets the calls of those that are gone, as the controller does.
func (s *simulation) endCalls() {
	for id, c := range s.leader.calls {
		record := s.state.Nodes[id]
		if c.Running && (record == nil || c.What == "launch" && record.Phase != raftstate.NodeLaunching) {
			s.answer(c, "canceled")
		}
		if record == nil && !c.Running {
			delete(s.leader.calls, id)
		}
	}
}

// listed is what the targets say there is, each asked now and then.
func (s *simulation) listed() map[string]Listed {
	for _, g := range s.groups {
		name := g.Spec.Name
		at, known := s.leader.listAt[name]
		if known && s.now-at < simListEvery || s.state.WorkerGroups[name] == nil {
			continue
		}
		list := Listed{At: s.clock()}
		for _, id := range sortedKeys(s.machines) {
			if m := s.machines[id]; m.group == g {
				state := "running"
				if m.ended {
					state = "ended"
				}
				list.Listing.Instances = append(list.Listing.Instances, Instance{ID: m.id, State: state})
			}
		}
		s.leader.lists[name], s.leader.listAt[name] = list, s.now
	}
	return s.leader.lists
}
