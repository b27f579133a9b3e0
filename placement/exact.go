package placement

import (
	"math"
	"slices"
)

// What is small enough to look for the best way among all, and how long.
const (
	fewReplicas = 12
	fewNodes    = 10 // that there are and have room
	fewShapes   = 8
	steps       = 30_000
)

// search looks for the best plan among all, by branch and bound. It knows one
// from the start, so it can stop at any time.
type search struct {
	*packer
	want   []int // by class, in order of list
	list   []int // classes
	shapes []*shape
	most   []int // by shape
	bins   []*trial
	left   []int    // by class, decided to be without a place
	kept   [][]Spot // by class, what stays where it was placed before
	now    cost
	best   *plan
	found  bool
	steps  int
	rest   []amount // by place in list, what it and all that follow need
	fewest amount   // the largest room of a shape, of each kind
	cheap  float64
}

// trial is a node while a way is tried.
type trial struct {
	slot  slot
	tally *slot  // what tallies know the node by
	shape *shape // nil: it was there before
	node  int    // its index then
	holds []int  // by place in list
	used  bool   // it holds work that needs devices
}

// refine looks for a better plan than the best known, if there is little to
// look through: for all replicas, or else for those that get new nodes.
func (p *packer) refine() {
	all := make([]int, len(p.classes))
	rest := slices.Clone(p.best.left)
	for i, c := range p.classes {
		all[i] = c.count
	}
	for _, b := range p.best.bins {
		for _, h := range b.holds {
			rest[h.class] += h.count * b.times
		}
	}
	if s := p.newSearch(all, true); s != nil {
		s.run()
		return
	}
	mark := p.board.Mark()
	defer p.board.Undo(mark)
	p.replay()
	if s := p.newSearch(rest, false); s != nil {
		s.kept = p.best.spots
		s.run()
	}
}

// newSearch returns nil if there is too much to look through, or nothing.
func (p *packer) newSearch(want []int, existing bool) *search {
	s := &search{packer: p, best: p.best, left: slices.Clone(want), cheap: math.Inf(1), most: make([]int, len(p.shapes))}
	total := 0
	var bins, shapes bitset
	bins, shapes = newBitset(len(p.board.slots)), newBitset(len(p.shapes))
	for i, c := range p.classes {
		if want[i] == 0 || !s.candidates(c, existing, bins, shapes) {
			continue
		}
		if total += want[i]; total > fewReplicas {
			return nil
		}
		s.list = append(s.list, i)
	}
	if len(s.list) == 0 || bins.count() > fewNodes || shapes.count() > fewShapes {
		return nil
	}
	by := orders()[0]
	slices.SortStableFunc(s.list, func(i, j int) int { return by(p.classes[i], p.classes[j]) })
	for _, i := range s.list {
		s.want = append(s.want, want[i])
		s.left[i] = 0
	}
	for pos := range p.board.slots {
		if bins.has(pos) {
			at := &p.board.slots[pos]
			s.bins = append(s.bins, &trial{slot: at.clone(), tally: at, node: p.board.index[pos], holds: make([]int, len(s.list))})
		}
	}
	for i, h := range p.shapes {
		if shapes.has(i) {
			s.shapes, s.most[i] = append(s.shapes, h), h.most
			s.cheap = min(s.cheap, h.price)
			for d := range s.fewest {
				s.fewest[d] = max(s.fewest[d], h.room[d])
			}
		}
	}
	s.sum()
	return s
}

// candidates adds the nodes and shapes that can hold a replica of a class, and
// reports whether there is one.
func (s *search) candidates(c *class, existing bool, bins, shapes bitset) (some bool) {
	if existing {
		at := s.board.terrain.places(c.need)
		for pos := range s.board.slots {
			if at.has(pos) && s.board.open.has(pos) && s.board.slots[pos].fits(c.need, 1) > 0 {
				bins.set(pos)
				some = true
			}
		}
	}
	for i, h := range s.packer.shapes {
		if h.most > 0 && c.places.has(i) && h.room.covers(&c.uses) {
			if empty := h.empty(); empty.fits(c.need, 1) > 0 {
				shapes.set(i)
				some = true
			}
		}
	}
	return some
}

// sum adds up what is still to be placed, from each place in the list on.
func (s *search) sum() {
	s.rest = make([]amount, len(s.list)+1)
	for k := len(s.list) - 1; k >= 0; k-- {
		s.rest[k] = s.rest[k+1]
		s.rest[k].add(&s.classes[s.list[k]].uses, int64(s.want[k]))
	}
}

func (s *search) run() {
	s.now = cost{priced: s.priced, short: s.short(s.left)}
	s.place(0, 0, 0)
	if s.found {
		s.packer.best = s.best
	}
}

// place decides on the replicas of the k-th class from the done-th on; like
// replicas go to nodes in order, so none before from.
func (s *search) place(k, done, from int) {
	if s.steps++; s.steps > steps || s.hopeless(k, done) {
		return
	}
	if k == len(s.list) {
		s.finish()
		return
	}
	if done == s.want[k] {
		s.place(k+1, 0, 0)
		return
	}
	for i := from; i < len(s.bins); i++ {
		if !s.repeats(i) {
			s.put(k, done, i)
		}
	}
	for _, h := range s.shapes {
		if s.most[h.index] > 0 {
			s.openFor(k, done, h)
		}
	}
	s.leave(k, done)
}

// put tries the k-th class on one node.
func (s *search) put(k, done, i int) {
	b := s.bins[i]
	c := s.classes[s.list[k]]
	if !s.rulesHold(c, b) || b.slot.fits(c.need, 1) == 0 {
		return
	}
	var t *tally
	if c.apart {
		t = s.board.tally(c.ask)
		if t.room(c.ask, b.tally, 1) == 0 {
			return
		}
		t.count(b.tally, 1)
	}
	before, used := b.slot, b.used
	if !c.plain {
		b.slot = b.slot.clone() // its lists are in use by those before
	}
	b.slot.take(c.need, 1)
	b.used = used || len(c.devices) > 0
	b.holds[k]++
	s.place(k, done+1, i)
	b.holds[k]--
	b.slot, b.used = before, used
	if t != nil {
		t.count(b.tally, -1)
	}
}

func (s *search) rulesHold(c *class, b *trial) bool {
	if b.shape != nil {
		return c.places.has(b.shape.index)
	}
	for _, r := range c.rules {
		if !s.board.terrain.where(r).has(s.board.at[b.node]) {
			return false
		}
	}
	return true
}

// openFor tries the k-th class on one more node of a shape.
func (s *search) openFor(k, done int, h *shape) {
	if !s.classes[s.list[k]].places.has(h.index) {
		return
	}
	before := s.now
	b := &trial{slot: h.empty(), shape: h, holds: make([]int, len(s.list))}
	b.tally = &b.slot
	s.bins = append(s.bins, b)
	s.most[h.index]--
	s.charge(&s.now, h, 1, true)
	s.put(k, done, len(s.bins)-1)
	s.now = before
	s.most[h.index]++
	s.bins = s.bins[:len(s.bins)-1]
}

// leave tries to give the rest of the k-th class no place.
func (s *search) leave(k, done int) {
	short := s.now.short
	n := s.want[k] - done
	s.left[s.list[k]] += n
	s.now.short = slices.Clone(short)
	s.now.short[s.levelAt(s.classes[s.list[k]])] += n
	s.place(k+1, 0, 0)
	s.now.short = short
	s.left[s.list[k]] -= n
}

// repeats reports whether a new node is like an earlier one: to try both would
// be to try the same twice.
func (s *search) repeats(i int) bool {
	b := s.bins[i]
	return b.shape != nil && slices.ContainsFunc(s.bins[:i], func(o *trial) bool {
		return o.shape == b.shape && slices.Equal(o.holds, b.holds)
	})
}

// hopeless reports whether nothing that follows can be better than the best
// that is known: with the fewest nodes more that what is left can do with.
func (s *search) hopeless(k, done int) bool {
	bound := s.now
	rest := s.rest[k]
	if k < len(s.list) {
		rest.add(&s.classes[s.list[k]].uses, -int64(done))
	}
	for _, b := range s.bins {
		for d := range rest {
			rest[d] -= max(0, b.slot.free[d])
		}
	}
	more := 0
	for d, lacking := range rest {
		if lacking > 0 && s.fewest[d] > 0 {
			more = max(more, int((lacking+s.fewest[d]-1)/s.fewest[d]))
		}
	}
	bound.order = math.MaxInt
	if slices.Equal(bound.short, s.best.cost.short) {
		bound.nodes += more
		bound.price += float64(more) * s.cheap
	}
	return bound.compare(&s.best.cost) >= 0
}

// finish keeps what was found, which is better than all before.
func (s *search) finish() {
	found := &plan{spots: make([][]Spot, len(s.classes)), left: slices.Clone(s.left)}
	copy(found.spots, s.kept)
	for _, b := range s.bins {
		var holds []hold
		for k, n := range b.holds {
			switch {
			case n == 0:
			case b.shape != nil:
				holds = append(holds, hold{class: s.list[k], count: n})
			default:
				found.spots[s.list[k]] = append(found.spots[s.list[k]], Spot{Node: b.node, Count: n})
			}
		}
		if len(holds) > 0 {
			found.bins = append(found.bins, planned{shape: b.shape, holds: holds, times: 1})
		}
	}
	found.cost = s.cost(found)
	if found.cost.compare(&s.best.cost) < 0 {
		s.best, s.found = found, true
	}
}
