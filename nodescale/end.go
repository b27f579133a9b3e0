package nodescale

import (
	"fmt"
	"slices"
	"time"
)

// terminating has the target remove the machine, and then Nomad forget it.
func (d *decider) terminating(r *record) {
	r.verdict = "remove"
	call := d.in.Calls[r.ID]
	switch {
	case r.group != nil && r.group.dry:
		r.why = "dry run: its target would remove it: " + r.Reason
	case d.in.Blind != "":
		r.why = r.Reason + "; waiting, because " + d.in.Blind
	case d.in.Seen.Before(r.PhaseAt) && r.PhaseAt.Before(d.in.Seen.Add(clockSlack)):
		// What came to it meanwhile is not known. A look is never older than that
		// by so much; then a clock went back.
	case d.occupied(r):
	case call.Running:
	case r.node == nil && call.What == "launch" && call.NoEffect && d.ordered(r):
		d.move(r, "", r.Reason) // there is no machine, and nothing to be asked for
	case call.What != "remove":
		d.callRemove(r)
	case call.Error != "":
		r.why = fmt.Sprintf("%s; it could not be removed: %s", r.Reason, call.Error)
		d.callLater(r, call, callAgain)
	case r.node == nil && d.unasked(r, call):
		r.why = r.Reason + "; its target has removed it, and is asked whether it names it still"
		d.again(d.in.Now.Add(callAgain))
	case r.node == nil && d.still(r, call):
		r.why = r.Reason + "; its target says that it has removed it, and names it still"
		d.callLater(r, call, removeAgain)
	case r.node == nil:
		d.move(r, "", r.Reason)
	case d.gone(r, call):
		d.act(Act{Purge: r.node.ID, Reason: r.Reason})
	case r.node.Said.Status == "ready" || r.node.Said.Status == "initializing":
		r.why = r.Reason + "; its target has removed it and it still answers Nomad"
		d.callLater(r, call, removeAgain)
	default:
		d.act(Act{Purge: r.node.ID, Reason: r.Reason})
	}
}

// ordered says that this leader ordered the node, so that nobody else called the
// target for it before.
func (d *decider) ordered(r *record) bool {
	return !d.mem.Known.IsZero() && r.At.After(d.mem.Known)
}

// occupied has what was placed on a node that joined, or came back, after it was
// given up move elsewhere before its machine goes. It says whether the node
// still holds something, or may come to.
func (d *decider) occupied(r *record) bool {
	if r.node == nil || r.node.Said.Status != "ready" {
		return false
	}
	switch holds := len(left(r.node)) > 0; {
	case holds && !r.node.Said.Draining:
		d.act(Act{Drain: r.node.ID, Deadline: d.drainTimeout(r), Reason: r.Reason})
		fallthrough
	case holds:
		r.why = r.Reason + "; it came after that, and what was placed on it moves first"
		return true
	case r.node.Said.Eligible:
		d.act(Act{Cordon: r.node.ID, Reason: r.Reason})
		return true
	}
	return false
}

// gone says that the target, which names what there is, does not name a machine
// since it was removed: Nomad need not be waited for, which takes a node to be
// there until its heartbeats have been missed for long enough.
func (d *decider) gone(r *record, call Call) bool {
	names, known := d.names(r, call)
	return known && !names && !slices.ContainsFunc(d.in.Lists[r.Group].Listing.Instances, func(i Instance) bool {
		return i.State != "ended" && i.ID == ""
	})
}

// still says that the target names a machine since it says that it removed it:
// what it forgets to remove costs.
func (d *decider) still(r *record, call Call) bool {
	names, known := d.names(r, call)
	return known && names
}

// unasked says that the target says what there is, and has not since a call.
func (d *decider) unasked(r *record, call Call) bool {
	listed, asked := d.in.Lists[r.Group]
	return asked && listed.Error == "" && !listed.Listing.Counted && !listed.At.After(call.At)
}

// names says whether the target names a machine since a call; known is false
// when it has not said since, or cannot.
func (d *decider) names(r *record, call Call) (names, known bool) {
	listed, asked := d.in.Lists[r.Group]
	if !asked || listed.Error != "" || listed.Listing.Counted || !listed.At.After(call.At) || listed.At.After(d.in.Now) {
		return false, false
	}
	return slices.ContainsFunc(listed.Listing.Instances, func(i Instance) bool {
		return i.State != "ended" && (i.ID == r.ID || i.ID == "" && i.Name != "" && i.Name == r.Instance)
	}), true
}

// callLater asks the target once more a while after the last call. A call that is
// to come is one of a clock that went back, and is not waited for.
func (d *decider) callLater(r *record, call Call, pause time.Duration) {
	if at := call.At.Add(pause); d.in.Now.Before(at) && !call.At.After(d.in.Now.Add(clockSlack)) {
		d.again(at)
		return
	}
	d.callRemove(r)
}
