package slots

import "time"

// Open makes the holder one that may be given slots of the replica, which gets a
// page if it has none. It has held slots more than the book knows. Who has opened
// the replica already says the limit of now.
//
// Not all hear of another limit in the same moment, so the lowest counts that any
// of them says: one that is lowered is kept from the first on, and one that is
// raised counts once all know of it.
func (b *Book) Open(h *Holder, id string, name Group, limit, held int) (*Replica, []Grant) {
	r := b.replicas[id]
	if r == nil {
		r = &Replica{ID: id, group: b.group(name), share: map[*Holder]*share{}}
		b.replicas[id] = r
		r.group.replicas[r] = true
	}
	s := r.line(h)
	s.open, s.limit = true, max(limit, 1)
	r.agree()
	s.held += held
	r.busy += held
	return r, b.fill(r.group)
}

// Close ends Open for the holder. What it holds stays its own until it is
// released.
func (b *Book) Close(h *Holder, r *Replica) []Grant {
	s := r.share[h]
	if s == nil || !s.open {
		return nil
	}
	s.open, s.muted = false, false
	more := r.agree()
	b.tidy(h, r)
	if !more {
		return nil
	}
	return b.fill(r.group)
}

// agree finds the lowest limit of those that are said, and tells whether it is
// higher than before. Where nobody says one, the last stays.
func (r *Replica) agree() (higher bool) {
	before, lowest := r.limit, 0
	for _, s := range r.share {
		if s.open && (lowest == 0 || s.limit < lowest) {
			lowest = s.limit
		}
	}
	if lowest > 0 {
		r.limit = lowest
	}
	return r.limit > before
}

// Mute says whether the holder can use no slot of the replica for now, because
// it cannot reach it, say: it is then given none that it did not take itself.
func (b *Book) Mute(h *Holder, r *Replica, mute bool) []Grant {
	s := r.share[h]
	if s == nil || !s.open {
		return nil
	}
	s.muted = mute
	if mute {
		return nil
	}
	return b.fill(r.group)
}

// Take gives the holder a slot of the replica, if one is free.
func (b *Book) Take(h *Holder, r *Replica) bool {
	if r.busy >= r.limit {
		return false
	}
	r.line(h).held++
	r.busy++
	return true
}

// Release takes one slot back. It goes to whoever has waited longest.
func (b *Book) Release(h *Holder, r *Replica) []Grant {
	s := r.share[h]
	if s == nil || s.held == 0 {
		return nil // it was taken back from a holder that had vanished
	}
	s.held--
	r.busy--
	b.tidy(h, r)
	return b.fill(r.group)
}

// Want says that the holder waits for as many slots of the group, of any replica
// that is open to it, and since when the first of its requests waits. 0 slots
// end that.
func (b *Book) Want(h *Holder, name Group, slots int, since time.Time) []Grant {
	if slots <= 0 {
		if g := b.groups[name]; g != nil {
			b.unwant(h, g)
		}
		return nil
	}
	g := b.group(name)
	waited := g.waiting[h]
	h.wants[g] = want{slots: slots, since: since}
	g.waiting[h] = true
	if waited {
		return nil // else it would have been given what is free before
	}
	return b.fill(g)
}

// Declare says how many slots of the replica the holder has, whatever the book
// said before: it is what the holder itself counts, or what was observed.
func (b *Book) Declare(h *Holder, r *Replica, held int) []Grant {
	s := r.line(h)
	less := held < s.held
	r.busy += held - s.held
	s.held = max(held, 0)
	b.tidy(h, r)
	if !less {
		return nil
	}
	return b.fill(r.group)
}

// Silence ends whatever the holder waits for, and keeps what it holds: it has
// vanished, and its requests may not have.
func (b *Book) Silence(h *Holder) []Grant {
	for g := range h.wants {
		b.unwant(h, g)
	}
	var grants []Grant
	for r := range h.shown {
		grants = append(grants, b.Close(h, r)...)
	}
	return grants
}

// Leave takes back all that the holder has.
func (b *Book) Leave(h *Holder) []Grant {
	grants := b.Silence(h)
	for r := range h.shown {
		grants = append(grants, b.Declare(h, r, 0)...)
	}
	return grants
}

// group returns the group of that name, made if it is new.
func (b *Book) group(name Group) *group {
	g := b.groups[name]
	if g == nil {
		g = &group{name: name, replicas: map[*Replica]bool{}, waiting: map[*Holder]bool{}}
		b.groups[name] = g
	}
	return g
}

func (b *Book) unwant(h *Holder, g *group) {
	delete(h.wants, g)
	delete(g.waiting, h)
	b.drop(g)
}

// drop forgets a group in which nothing is left.
func (b *Book) drop(g *group) {
	if len(g.replicas) == 0 && len(g.waiting) == 0 {
		delete(b.groups, g.name)
	}
}

// line returns the holder's line on the replica's page.
func (r *Replica) line(h *Holder) *share {
	s := r.share[h]
	if s == nil {
		s = &share{}
		r.share[h] = s
		h.shown[r] = true
	}
	return s
}

// tidy forgets a line that says nothing, and a page without lines.
func (b *Book) tidy(h *Holder, r *Replica) {
	if s := r.share[h]; s == nil || s.held > 0 || s.open {
		return
	}
	delete(r.share, h)
	delete(h.shown, r)
	if len(r.share) == 0 {
		delete(b.replicas, r.ID)
		delete(r.group.replicas, r)
		b.drop(r.group)
	}
}

// fill gives the group's free slots to those who wait, the longest first.
func (b *Book) fill(g *group) []Grant {
	var grants []Grant
	for len(g.waiting) > 0 {
		h, r := g.next()
		if h == nil {
			break
		}
		r.share[h].held++
		r.busy++
		w := h.wants[g]
		if w.slots--; w.slots == 0 {
			b.unwant(h, g)
		} else {
			h.wants[g] = w
		}
		grants = append(grants, Grant{Holder: h, Replica: r})
	}
	return grants
}

// next finds the holder that has waited longest of those for whom there is a
// free slot, and the least busy replica that has one for it.
func (g *group) next() (*Holder, *Replica) {
	var first *Holder
	var best *Replica
	for h := range g.waiting {
		if first != nil && !earlier(h, first, g) {
			continue
		}
		if r := g.roomFor(h); r != nil {
			first, best = h, r
		}
	}
	return first, best
}

// earlier orders those who wait; the name decides between equals, so that the
// same book gives the same grants.
func earlier(a, b *Holder, g *group) bool {
	wa, wb := a.wants[g], b.wants[g]
	if !wa.since.Equal(wb.since) {
		return wa.since.Before(wb.since)
	}
	return a.Name < b.Name
}

// roomFor returns the least busy replica of which the holder may be given a
// slot.
func (g *group) roomFor(h *Holder) *Replica {
	var best *Replica
	for r := range g.replicas {
		if r.busy >= r.limit {
			continue
		}
		if s := r.share[h]; s == nil || !s.open || s.muted {
			continue
		}
		if best == nil || r.busy < best.busy || (r.busy == best.busy && r.ID < best.ID) {
			best = r
		}
	}
	return best
}
