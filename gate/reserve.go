package gate

import (
	"time"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/routes"
)

// A replica with a line has its slots handed out by a gatekeeper, see package
// gatekeeper: a slot must be taken there before a request counts here. Where
// that is another proxy, a slot is asked for, and the request waits in the queue
// meanwhile; so whoever is first in the queue gets the first slot that comes.
// While there are more who wait than were asked for, the gatekeepers know how
// many, and offer slots that become free.

// heard is a gate as gatekeepers tell it of its lines.
type heard struct{ g *Gate }

// enroll opens a line for the replica where it has a gatekeeper, or moves it
// to the one that it has now.
func (g *Gate) enroll(r *Replica, e routes.Endpoint) {
	if g.slots == nil {
		return
	}
	keeper := routes.GatekeeperOf(e, g.keepers)
	if r.line != nil && (keeper == "" || r.line.Replica().Address != e.Address) {
		r.line.Close()
		g.forgetAsked(r)
		r.line, r.spare, r.leastSpare = nil, 0, 0
		g.set.Elsewhere(r.member, 0)
	}
	var granted []*gatekeeper.Line
	switch {
	case keeper == "":
		return
	case r.line == nil:
		r.line, granted = g.slots.Open(gatekeeper.Replica{
			ID: r.ID, Application: g.group, Deployment: g.Deployment, Address: e.Address, Limit: g.limit,
			Multiplexed: r.HTTP2, Own: r.Pool.Own,
		}, keeper, r.member.InFlight(), heard{g})
	default:
		granted = r.line.SetLimit(g.limit)
		more, moved := r.line.Move(keeper)
		if granted = append(granted, more...); moved {
			g.forgetAsked(r)
		}
	}
	g.reckon(r)
	g.give(granted, time.Now())
}

// forgetAsked has no answer be waited for.
func (g *Gate) forgetAsked(r *Replica) {
	g.asked -= r.asked
	r.asked = 0
}

// reckon brings up to date how many of the replica's slots are not to be had. It
// says how they are had, and whether that is another number than before.
func (g *Gate) reckon(r *Replica) (way gatekeeper.Way, changed bool) {
	n := r.line.ReckonWith() + r.asked
	if way, _ = r.line.Way(); way == gatekeeper.Never {
		n = g.limit
	}
	if n == r.member.Elsewhere() {
		return way, false
	}
	g.set.Elsewhere(r.member, n)
	return way, true
}

// others is how many slots of the replica other proxies have, as last heard.
func (r *Replica) others() int {
	if r.line == nil {
		return 0
	}
	return r.line.Others()
}

// seize picks the replica that suits best. It has a slot for the request when
// taken is true; else one must be asked for.
func (g *Gate) seize(now time.Time, key uint64, avoid string) (r *Replica, taken bool) {
	for {
		r = g.pick(now, key, avoid)
		if r == nil || r.line == nil {
			return r, r != nil
		}
		way, changed := g.reckon(r)
		if changed {
			continue // it may not be the best any more
		}
		if r.spare > 0 {
			r.spare--
			r.leastSpare = min(r.leastSpare, r.spare)
			return r, true
		}
		if way == gatekeeper.Away {
			return r, false
		}
		if r.line.Take() {
			return r, true
		}
		g.countFull(r) // others were faster, which the line does not say yet
	}
}

// lookAgainAfter is how long a replica counts as full that had no slot although
// it should have had one.
const lookAgainAfter = 100 * time.Millisecond

// countFull has no slot of the replica be tried to get, until something is heard of
// it or a while has passed: its gatekeeper may know of a lower limit.
func (g *Gate) countFull(r *Replica) {
	g.set.Elsewhere(r.member, max(g.limit-r.member.InFlight(), r.member.Elsewhere(), 1))
	if r.full {
		return
	}
	r.full = true
	time.AfterFunc(lookAgainAfter, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		r.full = false
		if r.line == nil {
			return
		}
		if _, changed := g.reckon(r); changed {
			g.dispatch(time.Now())
		}
	})
}

// ask asks for a slot of the replica.
func (g *Gate) ask(r *Replica) {
	if !r.line.Ask() {
		g.set.Elsewhere(r.member, g.limit) // until it is found again
		return
	}
	r.asked++
	g.asked++
	g.reckon(r)
}

// want tells the gatekeepers how many slots this gate waits for beyond those
// that it has asked for.
func (g *Gate) want(now time.Time) {
	if g.slots == nil {
		return
	}
	n := max(g.queue.Len()-g.asked, 0)
	if n == g.wanted {
		return
	}
	g.wanted = n
	since := now
	if it := g.queue.First(); it != nil {
		since = it.Value.since
	}
	g.give(g.slots.Want(g.group, g.Deployment, n, since), now)
}

// wantedUnknown says that one gatekeeper has given what all were told is wanted:
// each has to be told anew.
const wantedUnknown = -1

// give passes on slots that were offered to those who wait. What nobody needs,
// or can use, goes back. The caller dispatches later.
func (g *Gate) give(lines []*gatekeeper.Line, now time.Time) {
	for len(lines) > 0 {
		l := lines[0]
		lines = lines[1:]
		g.wanted = wantedUnknown
		r := g.replicaOf(l)
		if r == nil {
			lines = append(lines, l.Release()...)
			continue
		}
		if !g.hand(r, now) {
			lines = append(lines, g.refuseSlot(r)...)
		}
	}
}

// hand gives a slot that this gate has to the first who waits, if the replica
// can be used; where nobody does, to a copy.
func (g *Gate) hand(r *Replica, now time.Time) bool {
	switch {
	case !g.set.Usable(r.member):
		return false
	case g.queue.Len() > 0:
		g.queue.Pop().Value.ready <- grant{slot: g.take(r, now)}
	case len(g.copies) > 0:
		g.copies[0].ready <- grant{slot: g.takeCopy(r, now)}
		g.copies = g.copies[1:]
	default:
		return false
	}
	g.reckon(r)
	return true
}

// refuseSlot gives back a slot that is of no use, so that it is not offered
// again at once.
func (g *Gate) refuseSlot(r *Replica) []*gatekeeper.Line {
	var more []*gatekeeper.Line
	if g.queue.Len() == 0 {
		g.wanted = 0
		more = g.slots.Want(g.group, g.Deployment, 0, time.Time{})
	}
	more = append(more, g.mute(r)...)
	more = append(more, r.line.Release()...)
	g.reckon(r)
	return more
}

// giveBack returns the slot of a request that has ended. While others of this
// gate wait, and nobody elsewhere does, it is used again without asking.
func (g *Gate) giveBack(r *Replica, now time.Time) {
	if r.line == nil {
		return
	}
	way, contested := r.line.Way()
	if way == gatekeeper.Away && !contested && ((g.queue.Len() > g.asked && g.hand(r, now)) || g.keepSpare(r)) {
		return
	}
	g.give(r.line.Release(), now)
}

// spareFor is how long a slot of another gatekeeper is kept without a request.
const spareFor = 10 * time.Millisecond

// keepSpare keeps a slot for the next request, which then need not ask for it, where
// the replica has one more for others. It is given back when they wait, or when
// it has not been needed for a while.
func (g *Gate) keepSpare(r *Replica) bool {
	if g.queue.Len() > 0 || r.member.InFlight()+r.member.Elsewhere()+r.spare+1 >= g.limit || !g.set.Usable(r.member) {
		return false
	}
	r.spare++
	if !g.sparing {
		g.sparing = true
		time.AfterFunc(spareFor, g.returnSpares)
	}
	return true
}

// returnSpares gives back the slots that were kept and not needed since the last
// time.
func (g *Gate) returnSpares() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	left := 0
	for _, r := range g.replicas {
		g.unspare(r, r.leastSpare, now)
		r.leastSpare = r.spare
		left += r.spare
	}
	if g.sparing = left > 0; g.sparing {
		time.AfterFunc(spareFor, g.returnSpares)
	}
	g.dispatch(now)
}

// unspare gives back n of the slots of r that are kept.
func (g *Gate) unspare(r *Replica, n int, now time.Time) {
	for ; n > 0 && r.spare > 0; n-- {
		r.spare--
		g.give(r.line.Release(), now)
	}
	r.leastSpare = min(r.leastSpare, r.spare)
}

// mute tells the gatekeeper whether the replica can be used.
func (g *Gate) mute(r *Replica) []*gatekeeper.Line {
	if r.line == nil {
		return nil
	}
	usable := g.set.Usable(r.member)
	more := r.line.Mute(!usable)
	for ; !usable && r.spare > 0; r.spare-- {
		more = append(more, r.line.Release()...)
	}
	r.leastSpare = min(r.leastSpare, r.spare)
	return more
}

// muteAll tells the gatekeepers which replicas can be used.
func (g *Gate) muteAll(now time.Time) {
	if g.slots == nil {
		return
	}
	for _, r := range g.replicas {
		g.give(g.mute(r), now)
	}
}

// replicaOf returns the replica of a line; nil: it has another, or none any more.
func (g *Gate) replicaOf(l *gatekeeper.Line) *Replica {
	if r := g.replicas[l.Replica().ID]; r != nil && r.line == l {
		return r
	}
	return nil
}

// with calls do for the replica of a line, if it still is one.
func (h heard) with(l *gatekeeper.Line, do func(r *Replica, now time.Time)) {
	g := h.g
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	r := g.replicaOf(l)
	if r == nil {
		return
	}
	do(r, now)
	g.dispatch(now)
}

// answered counts one question less.
func (g *Gate) answered(r *Replica) {
	if r.asked > 0 {
		r.asked--
		g.asked--
	}
	g.reckon(r)
}

// Granted implements gatekeeper.Hearer.
func (h heard) Granted(l *gatekeeper.Line) {
	h.got(l, func(r *Replica) { h.g.answered(r) })
}

// Offered implements gatekeeper.Hearer.
func (h heard) Offered(l *gatekeeper.Line) {
	h.got(l, func(*Replica) { h.g.wanted = wantedUnknown })
}

// got takes a slot in, which goes back if its replica is gone.
func (h heard) got(l *gatekeeper.Line, note func(*Replica)) {
	g := h.g
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	r := g.replicaOf(l)
	if r == nil {
		g.give(l.Release(), now)
		return
	}
	note(r)
	if !g.hand(r, now) {
		g.give(g.refuseSlot(r), now)
	}
	g.dispatch(now)
}

// Refused implements gatekeeper.Hearer.
func (h heard) Refused(l *gatekeeper.Line) {
	h.with(l, func(r *Replica, _ time.Time) {
		h.g.answered(r)
		h.g.countFull(r)
	})
}

// Lost implements gatekeeper.Hearer.
func (h heard) Lost(l *gatekeeper.Line) {
	h.with(l, func(r *Replica, now time.Time) {
		h.g.forgetAsked(r)
		h.g.unspare(r, r.spare, now)
		h.g.reckon(r)
	})
}

// Found implements gatekeeper.Hearer.
func (h heard) Found(l *gatekeeper.Line) {
	h.with(l, func(r *Replica, _ time.Time) { h.g.reckon(r) })
}

// Contested implements gatekeeper.Hearer.
func (h heard) Contested(l *gatekeeper.Line) {
	h.with(l, func(r *Replica, now time.Time) { h.g.unspare(r, r.spare, now) })
}

// Changed implements gatekeeper.Hearer.
func (h heard) Changed(l *gatekeeper.Line) {
	h.with(l, func(r *Replica, _ time.Time) { h.g.reckon(r) })
}
