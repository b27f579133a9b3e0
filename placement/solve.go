package placement

import (
	"cmp"
	"math"
)

// solver packs classes into new nodes: it opens the node that gives the most
// for its cost, fills it, and goes on until nothing is left or nothing fits.
type solver struct {
	shapes  []*shape
	most    []int    // by shape, how many more may be made
	list    []*class // in the order in which nodes are filled
	left    []int    // by class
	least   []amount // by 64 classes: each of them needs as much
	largest amount   // of the shapes, of each kind
	priced  bool     // every shape has a price
	tally   func(a *Ask) *tally
	bins    []*bin
}

// bin is a new node, or several that hold the same.
type bin struct {
	shape *shape
	slot  slot
	holds []hold
	times int
}

type hold struct{ class, count int }

// score is how good a filled node is.
type score struct {
	drives  bool    // it holds some of what nodes are opened for
	value   float64 // of that, for its cost
	devices int     // instances, where there are no prices
	kinds   int     // of resources in use
	least   float64 // by Ray's measure of fullness
	mean    float64
	likes   int
	order   int // of the worker groups
	index   int
}

// compare is positive if a is the better one.
func (a *score) compare(b *score) int {
	return cmp.Or(
		compareBool(a.drives, b.drives),
		cmp.Compare(a.value, b.value),
		cmp.Compare(b.devices, a.devices),
		cmp.Compare(a.kinds, b.kinds),
		cmp.Compare(a.least, b.least),
		cmp.Compare(a.mean, b.mean),
		cmp.Compare(a.likes, b.likes),
		cmp.Compare(a.order, b.order),
		cmp.Compare(b.index, a.index),
	)
}

// stage is what nodes are opened for, and which may be.
type stage struct {
	drives func(c *class) bool
	allows func(s *shape) bool
	worth  []float64 // by class
}

// run packs all that there is. Nodes are opened for what has the highest
// priority first; the rest fills them up. Nodes with devices are opened for
// work that needs devices, and for other work only if nothing else is left.
func (s *solver) run() {
	s.index()
	for at := 0; at < len(s.list); {
		level := s.list[at].priority()
		for at < len(s.list) && s.list[at].priority() == level {
			at++
		}
		with := func(c *class) bool { return c.priority() == level && len(c.devices) > 0 }
		without := func(c *class) bool { return c.priority() == level && len(c.devices) == 0 }
		s.stage(&stage{drives: with, allows: func(*shape) bool { return true }})
		s.stage(&stage{drives: without, allows: func(h *shape) bool { return h.devices == 0 }})
		s.stage(&stage{drives: without, allows: func(*shape) bool { return true }})
	}
}

// index finds what each block of classes needs at least, so that a fill can
// pass by what does not fit any more.
func (s *solver) index() {
	s.least = make([]amount, (len(s.list)+63)/64)
	for block := range s.least {
		s.measure(block)
	}
}

func (s *solver) measure(block int) {
	least := amount{plenty, plenty, plenty, plenty, plenty}
	for k := block * 64; k < min(len(s.list), block*64+64); k++ {
		if s.left[k] > 0 {
			for d, u := range s.list[k].uses {
				least[d] = min(least[d], u)
			}
		}
	}
	s.least[block] = least
}

// stage opens nodes until nothing that drives is left or fits. The shapes'
// scores only fall while replicas are placed, so a score that is out of date
// is an upper bound: only the best is looked at again.
func (s *solver) stage(g *stage) {
	var shapes []*shape
	for s.weigh(g, &shapes) {
		scores := make([]score, len(shapes))
		bins := make([]*bin, len(shapes))
		for i, h := range shapes {
			bins[i] = s.fill(h)
			scores[i] = s.rate(g, bins[i])
			s.release(bins[i])
		}
		for {
			best, ok := s.best(g, shapes, scores, bins)
			if !ok {
				return
			}
			h := shapes[best]
			s.open(bins[best])
			clear(bins)
			if s.most[h.index] <= 0 {
				break // what is worth what has changed
			}
		}
	}
}

// best finds the shape with the best score, filling anew what is out of date.
func (s *solver) best(g *stage, shapes []*shape, scores []score, bins []*bin) (int, bool) {
	for {
		best := 0
		for i := range scores {
			if scores[i].compare(&scores[best]) > 0 {
				best = i
			}
		}
		if !scores[best].drives {
			return 0, false
		}
		if bins[best] != nil {
			return best, true
		}
		bins[best] = s.fill(shapes[best])
		scores[best] = s.rate(g, bins[best])
		s.release(bins[best])
	}
}

// fill fills one node of a shape with what is left, in order.
func (s *solver) fill(h *shape) *bin {
	b := &bin{shape: h, slot: h.empty(), times: 1}
	for block := range s.least {
		if !b.slot.free.covers(&s.least[block]) {
			continue
		}
		for k := block * 64; k < min(len(s.list), block*64+64); k++ {
			c := s.list[k]
			if s.left[k] > 0 && b.slot.free.covers(&c.uses) && c.places.has(h.index) {
				s.pour(b, k, s.left[k])
			}
		}
	}
	return b
}

// pour puts up to count replicas of a class into a node.
func (s *solver) pour(b *bin, k, count int) int {
	c := s.list[k]
	n := b.slot.fits(c.need, count)
	if n > 0 && c.ask.apart() {
		t := s.tally(c.ask)
		n = t.room(c.ask, &b.slot, n)
		t.count(&b.slot, n)
	}
	if n > 0 {
		b.slot.take(c.need, n)
		b.holds = append(b.holds, hold{class: k, count: n})
	}
	return n
}

// release takes what a node holds out of the tallies again: it was only tried.
func (s *solver) release(b *bin) { s.counted(b, -1) }

func (s *solver) counted(b *bin, by int) {
	for _, h := range b.holds {
		if c := s.list[h.class]; c.ask.apart() {
			s.tally(c.ask).count(&b.slot, h.count*by)
		}
	}
}

// open makes a node real, and as many more of the same as there is more than
// enough for.
func (s *solver) open(b *bin) {
	b.times = s.most[b.shape.index]
	for _, h := range b.holds {
		b.times = min(b.times, s.left[h.class]/h.count)
		if s.list[h.class].ask.apart() {
			b.times = 1
		}
	}
	s.counted(b, 1)
	s.most[b.shape.index] -= b.times
	for _, h := range b.holds {
		s.left[h.class] -= h.count * b.times
		if s.left[h.class] == 0 {
			s.measure(h.class / 64)
		}
	}
	s.bins = append(s.bins, b)
}

// rate scores a filled node.
func (s *solver) rate(g *stage, b *bin) score {
	r := score{order: b.shape.order, index: b.shape.index}
	for _, h := range b.holds {
		c := s.list[h.class]
		if g.drives(c) {
			r.drives = true
			r.value += g.worth[h.class] * float64(h.count)
		}
		for _, f := range c.likes {
			if b.shape.book.judge.refuses(f.Constraint, b.shape.node) == "" {
				r.likes += f.Weight * h.count
			}
		}
	}
	if s.priced {
		r.value /= b.shape.price
	} else {
		r.devices = b.shape.devices
	}
	r.value = math.Round(r.value*1e6) / 1e6
	s.fullness(&r, b)
	return r
}

// fullness is Ray's measure: how many kinds of resources are in use, and of
// v·u³ the least and the mean, with v how much there is and u the share in use.
func (s *solver) fullness(r *score, b *bin) {
	add := func(v, u float64) {
		if u > 0 {
			r.kinds++
		}
		x := v * u * u * u
		r.mean += x
		if r.least < 0 || x < r.least {
			r.least = x
		}
	}
	r.least = -1
	n := 0.0
	for _, d := range []int{cpu, memory} {
		if room := b.slot.room[d]; room > 0 {
			add(float64(room)/float64(s.largest[d]), 1-float64(b.slot.free[d])/float64(room))
			n++
		}
	}
	if b.shape.devices > 0 {
		spare := 0
		for _, k := range b.slot.spare {
			spare += k
		}
		add(float64(b.shape.devices), 1-float64(spare)/float64(b.shape.devices))
		n++
	}
	r.mean /= max(n, 1)
}
