package nodescale

import (
	"cmp"
	"fmt"
	"slices"
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

// strays returns of which jobs there are replicas on a node that retires, if it
// can be cleared of them; else why not. Replicas of a version that is to run on
// nodes of its shape are not moved: another version takes over from them.
func (d *decider) strays(r *record) (jobs []string, why string) {
	for _, a := range left(r.node) {
		switch job, known := d.in.Jobs[a.Job]; {
		case !a.Ours:
			return nil, fmt.Sprintf("an allocation of job %s is on it, which serve-nomad does not move", a.Job)
		case !known:
			return nil, fmt.Sprintf("those of job %s finish", a.Job)
		case job.Group == r.Group && job.Shape == r.Shape:
			return nil, fmt.Sprintf("%s goes on there until its next version serves elsewhere", job.name())
		case !a.Movable:
			return nil, fmt.Sprintf("Nomad does not move those of job %s", a.Job)
		case job.Passing < job.Target:
			return nil, fmt.Sprintf("only %d of %d replicas of %s serve", job.Passing, job.Target, job.name())
		case !slices.Contains(jobs, a.Job):
			jobs = append(jobs, a.Job)
		}
	}
	slices.Sort(jobs)
	return jobs, ""
}

// clears says whether a node that retires is to be cleared of replicas that
// nothing takes elsewhere by itself.
func (d *decider) clears(r *record) bool {
	return r.Phase == raftstate.NodeRetiring && r.to == "" && r.outdated() && !r.group.dry && d.in.Hold == "" &&
		r.node != nil && r.node.Closed != "" && r.node.Said.Status == "ready" && len(left(r.node)) > 0
}

// strayAsks asks for room to which the replicas of one node that retires can
// move, with the one of each job that is to serve before one of them stops.
func (d *decider) strayAsks() []placement.Ask {
	for _, r := range d.records {
		if !d.clears(r) || d.in.Now.Sub(d.mem.Kept[r.ID]) < keptFor {
			continue
		}
		jobs, _ := d.strays(r)
		var asks []placement.Ask
		for _, job := range jobs {
			ask := d.in.Jobs[job].Ask
			ask.Key, ask.Priority, ask.Count = "what is to move off "+r.ID+", "+job, priorityAhead, 1
			for _, a := range left(r.node) {
				if a.Job == job {
					ask.Count++
				}
			}
			asks = append(asks, ask)
		}
		if len(asks) > 0 {
			return asks
		}
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
		jobs, why := s.strays(r)
		surge := map[string]int(nil)
		if why == "" {
			why = cmp.Or(s.keptLately(r), s.unrest())
		}
		if why == "" && len(jobs) > 0 {
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

// somehow is elsewhere for a node that has to go: what has no room in one order
// may have it in another. Nomad may choose the order that does not work; then a
// replica waits, and a node is ordered for it.
func (s *shrinker) somehow(r *record) (surge map[string]int, why string) {
	asks, surge := s.moving(r)
	if why = s.lacking(r, asks); why == "" {
		return surge, ""
	}
	for i := range asks {
		order := slices.Concat(asks[i:i+1], asks[:i], asks[i+1:])
		// Those that share no node with one of their own first: they have the
		// least choice.
		slices.SortStableFunc(order, func(a, b placement.Ask) int {
			switch {
			case a.DistinctHosts == b.DistinctHosts:
				return 0
			case a.DistinctHosts:
				return -1
			default:
				return 1
			}
		})
		if s.lacking(r, order) == "" {
			return surge, ""
		}
	}
	return nil, why
}
