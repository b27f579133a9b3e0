package nodescale

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// retire takes a node of an earlier shape out of use. One that somebody has
// closed is so already, and is as he left it if the shape comes back.
func (d *decider) retire(r *record) {
	reason := d.whyOutdated(r)
	switch {
	case d.in.Blind != "" || r.verdict == "wait" || r.node == nil || r.node.Said.Status != "ready":
	case r.group.dry:
		r.verdict, r.why = "remove", "dry run: it would be closed to new replicas: "+reason
	case r.Phase == raftstate.NodeReady && r.node.Closed != "" && len(left(r.node)) == 0 && d.in.Hold == "":
		d.move(r, raftstate.NodeTerminating, reason)
	case r.Phase == raftstate.NodeReady && r.node.Closed != "":
		r.verdict, r.why = "wait", fmt.Sprintf("%s; %s, and it goes when nothing is on it", reason, whyClosed(r.node))
	default:
		d.move(r, raftstate.NodeRetiring, reason)
		r.verdict = "remove"
	}
}

// whyOutdated says what new nodes of r's group have otherwise.
func (d *decider) whyOutdated(r *record) string {
	const most = 3
	reason := "its group's nodes have another shape now"
	fields := r.group.SpecOf(r.Node).Reshaped(r.group.Spec)
	if len(fields) == 0 {
		return reason
	}
	reason += ": " + strings.Join(fields[:min(len(fields), most)], ", ")
	if more := len(fields) - most; more > 0 {
		reason += fmt.Sprintf(" and %d more", more)
	}
	return reason + " changed"
}

// retiring keeps a node of an earlier shape closed until none of our replicas is
// left on it, and opens it when its group has its shape again.
func (d *decider) retiring(r *record) {
	r.verdict, r.why = "remove", r.Reason
	switch {
	case d.in.Blind != "":
		r.why += "; waiting, because " + d.in.Blind
	case r.node == nil || r.node.Said.Status == "down":
		if lost := d.lost(r); lost != "" {
			d.move(r, raftstate.NodeTerminating, r.Reason+"; "+lost)
		}
	case r.group == nil || r.group.Deleting: // it goes as the others of its group do
		r.verdict = "keep"
	case !r.outdated():
		d.move(r, raftstate.NodeReturning, "its group's nodes have its shape again")
	case r.group.dry:
		r.why = "dry run: it would go when nothing is left on it: " + r.Reason
	case r.node.Said.Eligible && !r.node.Said.Draining:
		d.act(Act{Cordon: r.node.ID, Reason: r.Reason})
	case d.in.Hold != "":
		r.why += "; waiting, because " + d.in.Hold
	case len(left(r.node)) == 0:
		d.move(r, raftstate.NodeTerminating, r.Reason)
	default:
		r.why += "; " + holding(left(r.node))
	}
}

// stuck says why a node that retires cannot be cleared of its replicas; "": it
// can. Those of a version that is to run on nodes of its shape are not moved:
// another version takes over from them.
func (d *decider) stuck(r *record) string {
	for _, a := range left(r.node) {
		switch job, known := d.in.Jobs[a.Job]; {
		case !a.Ours:
			return fmt.Sprintf("an allocation of job %s is on it, which serve-nomad does not move", a.Job)
		case !known:
			return fmt.Sprintf("those of job %s finish", a.Job)
		case job.Group == r.Group && job.Shape == r.Shape:
			return fmt.Sprintf("%s goes on there until its next version serves elsewhere", job.name())
		case !a.Movable:
			return fmt.Sprintf("Nomad does not move those of job %s", a.Job)
		case job.Passing < job.Target:
			return fmt.Sprintf("only %d of %d replicas of %s serve", job.Passing, job.Target, job.name())
		}
	}
	return ""
}

// clears says whether a node that retires is to be cleared of replicas that
// nothing takes elsewhere by itself.
func (d *decider) clears(r *record) bool {
	return r.Phase == raftstate.NodeRetiring && r.to == "" && r.outdated() && !r.group.dry && d.in.Hold == "" &&
		r.node != nil && r.node.Closed != "" && r.node.Said.Status == "ready" && len(left(r.node)) > 0
}

// strayAsks asks for room to which the replicas of one node that retires can
// move.
func (d *decider) strayAsks() []placement.Ask {
	for _, r := range d.records {
		if !d.clears(r) || d.in.Now.Sub(d.mem.Kept[r.ID]) < keptFor || d.stuck(r) != "" {
			continue
		}
		d.cleared = r
		asks, _ := d.moving(r)
		for i := range asks {
			asks[i].Key, asks[i].Priority = "what is to move off "+r.ID+", "+asks[i].Key, priorityAhead
		}
		return asks
	}
	return nil
}

// moveStrays has the replicas on a node that retires moved, if nothing takes
// them elsewhere by itself, as soon as there is room: those whose deployment
// leaves the choice of a node to placement, or which came there while another
// shape was in force.
func (s *shrinker) moveStrays() {
	for _, r := range s.group.records {
		if !s.clears(r) {
			continue
		}
		surge, why := map[string]int(nil), cmp.Or(s.stuck(r), s.keptLately(r), s.unrest())
		if why == "" {
			surge, why = s.somehow(r)
		}
		if why != "" {
			r.why += "; " + why
			continue
		}
		s.move(r, raftstate.NodeDraining, fmt.Sprintf("%s; its %s fit on other nodes", r.Reason, replicas(len(left(r.node)))))
		s.out.Changes[len(s.out.Changes)-1].Surge = surge
	}
}

// somehow is elsewhere for a node that has to go. If room was asked for, it is
// there as soon as it has been found, in whatever order: else nothing would be
// ordered, and nothing moved. Nomad may choose an order that does not work; then
// a replica waits, and a node is ordered for it.
func (s *shrinker) somehow(r *record) (surge map[string]int, why string) {
	surge, why = s.elsewhere(r)
	if why == "" || s.cleared != r {
		return surge, why
	}
	lacking := 0
	for _, a := range s.packed.Asks[s.own:] {
		lacking += a.Count
	}
	for _, p := range s.result.Placed {
		if p.Ask >= s.own && !s.packed.Nodes[p.Node].Imagined {
			lacking -= p.Count
		}
	}
	if lacking > 0 {
		return nil, why
	}
	_, surge = s.moving(r)
	return surge, ""
}
