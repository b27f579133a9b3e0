package nodescale

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// touch says that something changed: a decision is due, once the one under way
// has taken effect.
func (s *simulation) touch() {
	s.leader.dirty = true
	if s.leader.busy {
		return
	}
	s.leader.busy = true
	term := s.leader.term
	s.after(simLeast, func() { s.decide(term) })
}

// decide makes a decision from what there is now. It takes effect a moment
// later, when all of it may have changed.
func (s *simulation) decide(term int) {
	if term != s.leader.term {
		return
	}
	s.leader.dirty = false
	s.leader.decisions++
	in := s.input()
	began := time.Duration(0)
	if s.in.Stopwatch != nil {
		began = s.in.Stopwatch()
	}
	before := s.leader.memory
	decision, memory := Decide(in, before)
	if s.in.Stopwatch != nil {
		s.watch.decided(s.in.Stopwatch() - began)
	}
	s.watch.decisions++
	if s.in.Judge != nil {
		s.in.Judge(in, before, decision)
	}
	s.leader.memory = memory
	s.after(s.in.Look, func() {
		if term == s.leader.term {
			s.follow(in, decision)
		}
	})
}

// input is what a decision is made from.
func (s *simulation) input() Input {
	in := Input{
		Now: s.clock(), Seen: s.clock(), Groups: s.state.WorkerGroups, Records: s.state.Nodes,
		CoreMHz: map[string]int{}, Jobs: make(map[string]Job, len(s.jobs)), Lists: maps.Clone(s.listed()), Calls: map[string]Call{},
	}
	for _, g := range s.groups {
		in.CoreMHz[g.Spec.Name] = g.CoreMHz
	}
	for id, c := range s.leader.calls {
		in.Calls[id] = c.Call
	}
	if s.holds > 0 {
		in.Hold = "Consul is not known: simulated"
	}
	if s.blinds > 0 {
		in.Hold, in.Blind = "Nomad is not known: simulated", "Nomad is not known: simulated"
		return in
	}
	in.Nodes = s.nodes
	for _, j := range s.jobs {
		if j.want == 0 && j.count == 0 && j.live == 0 {
			continue
		}
		job := Job{Application: j.Application, Deployment: j.Deployment, Target: j.want, Passing: j.serving, Group: j.Group, Shape: j.shape, Ask: j.Ask}
		unplaced := j.count - j.live
		if unplaced > 0 {
			job.Blocked = "no node has room"
		}
		in.Jobs[j.id] = job
		if lacking := unplaced - max(0, j.count-j.want); lacking > 0 {
			ask := j.Ask
			ask.Count = lacking
			in.Asks = append(in.Asks, ask)
		}
	}
	slices.SortFunc(in.Asks, func(a, b placement.Ask) int { return cmp.Compare(a.Key, b.Key) })
	return in
}

// follow records what was decided and does it, as the controller would.
func (s *simulation) follow(in Input, d Decision) {
	if len(d.Changes) > 0 {
		s.change(in, d.Changes)
	}
	for _, group := range d.Forget {
		s.propose(raftstate.Command{ForgetWorkerGroup: &raftstate.ForgetWorkerGroup{WorkerGroup: group}})
		s.leader.dirty = true
	}
	s.endCalls()
	for _, a := range d.Acts {
		s.act(a)
	}
	s.leader.busy = false
	switch {
	case s.leader.dirty:
		s.touch()
		return
	case !d.Again.IsZero():
		s.decideAt(d.Again.Sub(s.clock()))
	}
	if s.in.Anyway > 0 {
		s.decideAt(s.in.Anyway)
	}
}

// decideAt has a decision made after a while, unless another is made before.
func (s *simulation) decideAt(wait time.Duration) {
	term, decisions := s.leader.term, s.leader.decisions
	s.after(wait, func() {
		if term == s.leader.term && decisions == s.leader.decisions {
			s.touch()
		}
	})
}

// change records changes, and sees that none breaks a promise.
func (s *simulation) change(in Input, changes []raftstate.NodeChange) {
	was := s.state
	s.propose(raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: changes}})
	for _, c := range changes {
		before, after := was.Nodes[c.ID], s.state.Nodes[c.ID]
		if before == after {
			continue // it was left out
		}
		s.tell("%s: %q -> %q: %s", c.ID, c.From, c.To, c.Reason)
		s.watch.changed(s.now, c)
		s.judge(in, c)
		if c.To == "" {
			if m := s.machines[c.ID]; m != nil && !m.ended && !m.going {
				s.violate("%s is forgotten, and its machine is there", c.ID)
			}
			if m := s.machines[c.ID]; m != nil && m.ended {
				delete(s.machines, c.ID)
			}
		}
	}
	s.bounds(was)
	s.leader.dirty = true
	s.after(simReconcile, s.recount)
}

// act does one thing in Nomad or has a target do it.
func (s *simulation) act(a Act) {
	switch {
	case a.Launch != "":
		s.call("launch", a.Launch, a.Reason)
	case a.Remove != "":
		s.call("remove", a.Remove, a.Reason)
	case a.Cordon != "":
		s.actInNomad("cordon", a.Cordon, func(n *simNode) { s.eligible(n, false) })
	case a.Uncordon != "":
		s.actInNomad("uncordon", a.Uncordon, func(n *simNode) { s.eligible(n, true) })
	case a.Drain != "":
		s.actInNomad("drain", a.Drain, func(n *simNode) { s.drain(n, a.Deadline) })
	case a.Purge != "":
		s.actInNomad("purge", a.Purge, func(n *simNode) {
			if n.dead { // its target may know before Nomad does
				s.forget(n)
			} else {
				s.violate("node %s was purged while it is %s", n.ID, n.Said.Status)
			}
		})
	}
}

func (s *simulation) actInNomad(what, id string, do func(*simNode)) {
	key := what + " " + id
	if at, lately := s.leader.acts[key]; lately && s.now-at < simActAgain {
		return
	}
	s.leader.acts[key] = s.now
	s.after(simActAgain, func() { s.touch() })
	s.after(simAct, func() {
		if n := s.nodeByID[id]; n != nil {
			s.tell("%s %s", what, id)
			do(n)
			return
		}
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
