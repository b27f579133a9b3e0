package nodescale

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// live decides what one node that was ordered is to do next in its life. What
// it does not decide, shrink does: that a node which is ready is not needed.
func (d *decider) live(r *record) {
	r.verdict, r.why = "keep", r.Reason
	switch r.Phase {
	case raftstate.NodeLaunching:
		d.launching(r)
	case raftstate.NodeReady:
		d.ready(r)
	case raftstate.NodeRetiring:
		d.retiring(r)
	case raftstate.NodeDraining:
		d.draining(r)
	case raftstate.NodeReturning:
		d.returning(r)
	case raftstate.NodeTerminating:
		d.terminating(r)
	}
}

// move proposes the next phase of a node.
func (d *decider) move(r *record, to raftstate.NodePhase, reason string) {
	change := raftstate.NodeChange{ID: r.ID, Group: r.Group, From: r.Phase, To: to, Reason: reason, Instance: d.instance(r)}
	if r.node != nil {
		change.NomadID = r.node.ID
	}
	d.out.Changes = append(d.out.Changes, change)
	r.to, r.why = to, reason
	if to == raftstate.NodeTerminating || to == raftstate.NodeDraining {
		r.verdict = "remove"
	}
}

func (d *decider) act(a Act) { d.out.Acts = append(d.out.Acts, a) }

// launching waits for a node to join Nomad, and gives it up when its target
// fails or takes too long.
func (d *decider) launching(r *record) {
	r.verdict = "wait"
	call, deadline := d.in.Calls[r.ID], d.joinsBy(r)
	switch {
	case d.in.Blind != "":
		r.why = "on its way, and not known to have joined: " + d.in.Blind
	case r.node != nil && r.group != nil && misplaced(r.node, r.group):
		d.fail(r, fmt.Sprintf("it joined Nomad in node pool %q with class %q, where its group has no nodes: its target makes others than it is asked for", r.node.Pool, r.node.Class))
	case r.node != nil && r.node.Said.Status == "ready":
		d.move(r, raftstate.NodeReady, fmt.Sprintf("joined Nomad %s after it was ordered", d.in.Now.Sub(r.At).Round(100*time.Millisecond)))
	case r.group == nil || r.group.Deleting:
		d.move(r, raftstate.NodeTerminating, "the group is being deleted")
	case r.outdated() && r.group.Spec.Target.Kind != appspec.TargetPlugin: // which knows only machines that joined
		d.move(r, raftstate.NodeTerminating, "its group's nodes have another shape now")
	case call.What == "launch" && !call.Running && call.Error != "":
		d.fail(r, "it could not be made: "+call.Error)
	case d.ended(r) != "":
		d.fail(r, "its machine ended before it joined Nomad: "+d.ended(r))
	case call.Waits && call.Running && r.group.Failures.Count > 0:
		d.move(r, raftstate.NodeTerminating, "launches of its group fail, and its target was not called for it yet")
	case call.Waits && call.Running:
		r.why = "its target has others to make first: " + r.Reason
	case !d.in.Now.Before(deadline) && call.Running:
		d.fail(r, fmt.Sprintf("its target did not answer in time, %s", r.group.Spec.LaunchTimeout.Std()))
	case !d.in.Now.Before(deadline):
		d.fail(r, fmt.Sprintf("it did not join Nomad within launch_timeout, %s; its target said that it made it: look at that machine's Nomad agent", r.group.Spec.LaunchTimeout.Std()))
	default:
		r.why = "on its way: " + r.Reason
		switch {
		case r.group.dry:
			r.why = "dry run: it would be launched: " + r.Reason
		case call.What != "launch":
			d.act(Act{Launch: r.ID, Wanted: 1 + d.machines(r.group, r, 0), Reason: r.Reason})
		}
		d.again(deadline)
	}
}

// joinsBy is until when a node that was ordered may take to join Nomad: from the
// call of its target on, and when Nomad was away, for a while after that.
func (d *decider) joinsBy(r *record) time.Time {
	timeout := defaultLaunchTimeout
	if r.group != nil {
		timeout = r.group.Spec.LaunchTimeout.Std()
	}
	deadline := r.At.Add(timeout)
	if call := d.in.Calls[r.ID]; call.What == "launch" && call.At.After(r.At) {
		deadline = call.At.Add(timeout)
	}
	if back := d.next.Known.Add(min(timeout, joinAgain)); back.After(deadline) {
		return back
	}
	return deadline
}

// machines is how many the group's target is to have beside one of them, for
// targets that only count: what was ordered and is not removed, and of the nodes
// that nobody here ordered those that the target says it has beside these. made
// is 1 if that one is among what the target says, else 0.
func (d *decider) machines(g *group, beside *record, made int) int {
	n := 0
	for _, r := range g.records {
		call := d.in.Calls[r.ID]
		removed := r.Phase == raftstate.NodeTerminating && call.What == "remove" && !call.Running && call.Error == ""
		if r != beside && !removed {
			n++
		}
	}
	listed, known := d.in.Lists[g.Name]
	if known && listed.Error == "" && listed.Listing.Counted {
		return n + min(g.hand, max(0, listed.Listing.Count-n-made))
	}
	return n + g.hand
}

// callRemove has the target remove a machine.
func (d *decider) callRemove(r *record) {
	a := Act{Remove: r.ID, Reason: r.Reason}
	if r.group != nil {
		a.Wanted = d.machines(r.group, r, 1)
	}
	d.act(a)
}

// fail gives up a node that never joined. Its target is asked to remove it,
// since what could not be seen may be there.
func (d *decider) fail(r *record, reason string) {
	d.move(r, raftstate.NodeTerminating, reason)
	d.out.Changes[len(d.out.Changes)-1].Failed = true
}

// ended says why a machine is no more, as its target lists it; "": it is there,
// or that is not known.
func (d *decider) ended(r *record) string {
	listed := d.in.Lists[r.Group]
	if listed.Error != "" || listed.Listing.Counted || !listed.At.After(r.PhaseAt) {
		return ""
	}
	for _, i := range listed.Listing.Instances {
		if i.State == "ended" && (i.ID == r.ID || i.Name != "" && i.Name == r.Instance) {
			if i.Message == "" {
				return "its target does not say why"
			}
			return i.Message
		}
	}
	return ""
}

// ready watches for nodes that are lost, and for those of an earlier shape.
func (d *decider) ready(r *record) {
	if lost := d.lost(r); lost != "" {
		d.move(r, raftstate.NodeTerminating, lost)
		return
	}
	if r.outdated() {
		d.retire(r)
	}
}

// lost says why a node that joined is not there any more, once that has been so
// for long enough: its agent may have lost touch for a moment, and what runs on
// it still serve. Until then r waits.
func (d *decider) lost(r *record) string {
	lost, after := "", lostAfter
	switch {
	case r.node == nil:
		lost, after = "Nomad does not know it any more", purgedAfter
	case r.node.Said.Status == "down" || r.node.Said.Status == "disconnected":
		lost = "Nomad says that it is " + r.node.Said.Status
		if ended := d.ended(r); ended != "" {
			lost, after = lost+" and its target that its machine ended: "+ended, 0
		}
	}
	if lost == "" || d.in.Hold != "" {
		return ""
	}
	since := d.since(d.mem.Missing, d.next.Missing, r.ID)
	r.verdict, r.why, r.due = "wait", lost, since.Add(after)
	if d.in.Now.Before(r.due) {
		d.again(r.due)
		return ""
	}
	return lost
}

// draining takes a node out of use without harm: no new replicas; a look that
// is newer than that; replacements that serve; only then its own replicas go.
func (d *decider) draining(r *record) {
	r.verdict, r.why = "remove", r.Reason
	deadline := r.PhaseAt.Add(d.drainTimeout(r))
	if d.placed(r) { // of those that would be let go again Nomad might choose one that serves
		deadline = deadline.Add(d.drainTimeout(r))
	}
	switch {
	case d.in.Hold != "":
		r.why += "; waiting, because " + d.in.Hold
	case r.group != nil && r.group.dry && r.node != nil:
		d.giveUp(r, "dry run: nothing is removed")
	case r.node == nil || r.node.Said.Status == "down":
		if lost := d.lost(r); lost != "" {
			d.move(r, raftstate.NodeTerminating, r.Reason+"; "+lost)
		}
	case r.node.Said.Eligible && !r.node.Said.Draining:
		d.act(Act{Cordon: r.node.ID, Reason: r.Reason})
	case d.uncovered(r) != "":
		d.giveUp(r, d.uncovered(r))
	case len(left(r.node)) == 0 && d.starting(r):
		r.why = r.Reason + "; its replicas have moved, and are still starting: " + d.lacking(r)
	case len(left(r.node)) == 0:
		d.move(r, raftstate.NodeTerminating, r.Reason)
	case r.node.Said.Draining:
		r.why = r.Reason + "; its replicas finish"
	case d.lacking(r) == "":
		d.act(Act{Drain: r.node.ID, Deadline: d.drainTimeout(r), Reason: r.Reason})
	case !d.in.Now.Before(deadline):
		d.giveUp(r, fmt.Sprintf("replacements did not pass within %s: %s", deadline.Sub(r.PhaseAt), d.lacking(r)))
	default:
		r.why = r.Reason + "; waiting for replacements: " + d.lacking(r)
		d.again(deadline)
	}
}

func (d *decider) drainTimeout(r *record) time.Duration {
	if r.group == nil {
		return defaultDrainTimeout
	}
	return r.group.Spec.DrainTimeout.Std()
}

// Timeouts of a node whose group is gone, which only a hand in the State's
// files could bring about.
const (
	defaultLaunchTimeout = 10 * time.Minute
	defaultDrainTimeout  = 10 * time.Minute
)

// giveUp lets a node stay after all.
func (d *decider) giveUp(r *record, why string) {
	d.move(r, raftstate.NodeReturning, why)
	r.verdict = "keep"
	d.next.Kept[r.ID] = d.in.Now
}

// uncovered says what has come to run on a draining node that the decision to
// remove it did not know of. Once Nomad drains it nothing comes any more.
func (d *decider) uncovered(r *record) string {
	if r.node.Said.Draining {
		return ""
	}
	for _, a := range left(r.node) {
		switch {
		case !a.Ours:
			return fmt.Sprintf("an allocation of job %s, which is not serve-nomad's, was placed on it meanwhile", a.Job)
		case r.Surge[a.Job] == 0:
			return fmt.Sprintf("a replica of job %s was placed on it meanwhile", a.Job)
		}
	}
	return ""
}

// lacking says which replacements do not serve yet.
func (d *decider) lacking(r *record) string {
	for _, id := range slices.Sorted(maps.Keys(r.Surge)) {
		if want := d.behind(id); want > 0 {
			return fmt.Sprintf("%d of %d replicas of %s serve", d.in.Jobs[id].Passing, want, d.in.Jobs[id].name())
		}
	}
	return ""
}

// placed says whether replacements that do not serve yet have a place, and start
// there.
func (d *decider) placed(r *record) bool {
	for id := range r.Surge {
		if d.behind(id) > 0 && !d.waits(id) {
			return true
		}
	}
	return false
}

// behind returns how many replicas of a job are to serve while nodes drain, if
// they do not; 0: they do. Nobody misses those of a job that was stopped
// meanwhile, or is to have none.
func (d *decider) behind(id string) int {
	job := d.in.Jobs[id]
	if want := job.Target + raftstate.SurgeOf(d.in.Records, id); job.Target > 0 && job.Passing < want {
		return want
	}
	return 0
}

// starting says whether replicas that left a node do not serve elsewhere yet.
// Until they do, the one that runs beside them must not end: as soon as they have
// a place, Nomad would stop one that serves. They have drain_timeout to find one,
// and as long again to start.
func (d *decider) starting(r *record) bool {
	timeout := d.drainTimeout(r)
	until := d.since(d.mem.Empty, d.next.Empty, r.ID).Add(timeout)
	last := !d.in.Now.Before(until)
	if last {
		until = until.Add(timeout)
	}
	if !d.in.Now.Before(until) {
		return false
	}
	d.again(until)
	for id := range r.Surge {
		if d.in.Jobs[id].Target == 0 || last && d.waits(id) && !d.arriving() {
			continue
		}
		if d.behind(id) > 0 || d.leaves(id, r) {
			return true
		}
	}
	return false
}

// arriving says whether there are nodes on their way, or lately come, on which
// replicas that wait may have a place at any moment.
func (d *decider) arriving() bool {
	const lately = 10 * time.Second
	return slices.ContainsFunc(d.records, func(r *record) bool {
		return r.Phase == raftstate.NodeLaunching || d.in.Now.Sub(r.JoinedAt) < lately
	})
}

// waits says whether replicas of a job have no place.
func (d *decider) waits(job string) bool {
	return slices.ContainsFunc(d.in.Asks, func(a placement.Ask) bool { return a.Key == job && a.Count > 0 })
}

// leaves says whether Nomad moves replicas of a job off another node, of which
// one may have ended by now.
func (d *decider) leaves(job string, but *record) bool {
	return slices.ContainsFunc(d.records, func(r *record) bool {
		goes := r.Phase == raftstate.NodeTerminating // what came to it late is moved, too
		return r != but && r.node != nil && (r.node.Said.Draining || goes) && slices.ContainsFunc(left(r.node), func(a placement.Alloc) bool { return a.Job == job })
	})
}

func (j Job) name() string {
	if j.Application == "" {
		return "job " + j.Ask.Job
	}
	return j.Application + "/" + j.Deployment
}

// returning opens a node again.
func (d *decider) returning(r *record) {
	d.since(d.mem.Kept, d.next.Kept, r.ID)
	switch {
	case d.in.Blind != "":
	case r.outdated() && r.node != nil:
		d.retire(r)
	case r.node == nil:
		d.move(r, raftstate.NodeTerminating, "Nomad does not know it any more")
	case !r.node.Said.Eligible || r.node.Said.Draining:
		d.act(Act{Uncordon: r.node.ID, Reason: r.Reason})
	default:
		d.move(r, raftstate.NodeReady, r.Reason)
	}
}

// left is what runs on a node and would keep it: all but what runs wherever
// nodes are.
func left(n *placement.Node) []placement.Alloc {
	system := 0
	for i := range n.Allocs {
		if n.Allocs[i].System {
			system++
		}
	}
	if system == 0 {
		return n.Allocs // which is asked for again and again: not copied without need
	}
	list := make([]placement.Alloc, 0, len(n.Allocs)-system)
	for i := range n.Allocs {
		if !n.Allocs[i].System {
			list = append(list, n.Allocs[i])
		}
	}
	return list
}
