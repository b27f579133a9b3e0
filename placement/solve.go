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
	manner  manner
	fullest bool    // nodes are opened for all that is left at once, first those that take the most of it
	bulk    float64 // how much byWorth prefers what is large: 0 is not at all
	tiers   []tier
	bucket  [][2]int // by class: its tier, and its bucket there
	poured  []int    // by class, into the node that is being filled
	scratch []int
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
	beside  float64 // what it holds that nodes are not opened for, by size
	kinds   int     // of resources in use
	least   float64 // by Ray's measure of fullness
	mean    float64
	likes   int
	order   int // of the worker groups
	index   int
}

// compare is positive if a is the better one.
func (a *score) compare(b *score) int {
	if a.drives != b.drives {
		return sign(a.drives)
	}
	if a.value != b.value { // mostly
		return sign(a.value > b.value)
	}
	return cmp.Or(
		cmp.Compare(b.devices, a.devices),
		cmp.Compare(a.beside, b.beside),
		cmp.Compare(a.kinds, b.kinds),
		cmp.Compare(a.least, b.least),
		cmp.Compare(a.mean, b.mean),
		cmp.Compare(a.likes, b.likes),
		cmp.Compare(a.order, b.order),
		cmp.Compare(b.index, a.index),
	)
}

// run packs all that there is. Nodes are opened for what has the highest
// priority first; the rest fills them up. Nodes with devices are opened for
// work that needs devices, and for other work only if nothing else is left.
func (s *solver) run() {
	s.poured = make([]int, len(s.list))
	if s.manner == inOrder {
		s.index()
	} else {
		s.layer()
	}
	for at := 0; at < len(s.list); {
		from, level := at, s.list[at].level
		for at < len(s.list) && s.list[at].level == level && len(s.list[at].devices) > 0 {
			at++
		}
		with := at
		for at < len(s.list) && s.list[at].level == level {
			at++
		}
		if s.fullest {
			s.stage(from, at, true)
			continue
		}
		s.stage(from, with, true)
		s.stage(with, at, false)
		s.stage(with, at, true)
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

func (s *solver) fillOne(h *shape, g *stage) *bin {
	b := &bin{shape: h, slot: h.empty(), times: 1}
	if s.manner != inOrder {
		s.aim(b, g)
	} else {
		s.fill(b)
	}
	for i := range b.holds {
		k := &b.holds[i]
		k.count, s.poured[k.class] = s.poured[k.class], 0
	}
	return b
}

// fill fills a node with what is left, in order.
func (s *solver) fill(b *bin) {
	for block := range s.least {
		if !b.slot.free.covers(&s.least[block]) {
			continue
		}
		for k := block * 64; k < min(len(s.list), block*64+64); k++ {
			c := s.list[k]
			if s.left[k] > 0 && b.slot.free.covers(&c.uses) && c.places.has(b.shape.index) {
				s.pour(b, k, s.left[k])
			}
		}
	}
}

// pour puts up to count replicas of a class into a node.
func (s *solver) pour(b *bin, k, count int) int {
	c := s.list[k]
	n := b.slot.fits(c.need, count)
	if n > 0 && c.apart {
		t := s.tally(c.ask)
		n = t.room(c.ask, &b.slot, n)
		t.count(&b.slot, n)
	}
	if n > 0 {
		b.slot.take(c.need, n)
		if s.poured[k] == 0 {
			b.holds = append(b.holds, hold{class: k})
		}
		s.poured[k] += n
	}
	return n
}

// release takes what a node holds out of the tallies again: it was only tried.
func (s *solver) release(b *bin) { s.counted(b, -1) }

func (s *solver) counted(b *bin, by int) {
	for _, h := range b.holds {
		if c := s.list[h.class]; c.apart {
			s.tally(c.ask).count(&b.slot, h.count*by)
		}
	}
}

// open makes a node real, and up to most of the same while there is more than
// enough for them.
func (s *solver) open(b *bin, most int) {
	b.times = min(s.most[b.shape.index], max(1, most))
	for _, h := range b.holds {
		b.times = min(b.times, s.left[h.class]/h.count)
		if s.list[h.class].apart {
			b.times = 1
		}
	}
	s.counted(b, 1)
	s.most[b.shape.index] -= b.times
	for _, h := range b.holds {
		s.left[h.class] -= h.count * b.times
		switch {
		case s.left[h.class] > 0:
		case s.manner == inOrder:
			s.measure(h.class / 64)
		default:
			s.forget(h.class)
		}
	}
	s.bins = append(s.bins, b)
}

// rate scores a filled node.
func (s *solver) rate(g *stage, b *bin) score {
	r := score{order: b.shape.order, index: b.shape.index}
	used := b.shape.devices == 0
	drawn := 0.0
	for _, h := range b.holds {
		c := s.list[h.class]
		used = used || len(c.devices) > 0
		size := c.size * float64(h.count)
		if g.drives(h.class) {
			r.drives = true
			drawn += size
		} else {
			r.beside += size
		}
		for _, f := range c.likes {
			if b.shape.book.judge.refuses(f.Constraint, b.shape.node) == "" {
				r.likes += f.Weight * h.count
			}
		}
	}
	switch {
	case s.fullest && used:
		r.value = drawn
	case s.fullest:
		r.value = drawn / 1000 // devices that nothing needs are the last choice
	case s.priced:
		r.value = b.value(g) / b.shape.price
	default:
		r.value = b.value(g)
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
