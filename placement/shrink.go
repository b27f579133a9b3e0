package placement

import "slices"

// shrink moves what each new node holds to the best kind of node that it fits.
// Nodes are opened for what they could hold, and the last of each kind are not
// full. Most is how many more nodes of each shape may be made.
func (p *packer) shrink(t *plan, most []int) {
	cheapest := p.cheapestFirst()
	for i := range t.bins {
		b := &t.bins[i]
		if slices.ContainsFunc(b.holds, func(h hold) bool { return p.classes[h.class].apart }) {
			continue // where the others are was counted by this node
		}
		used := p.used(b.holds)
		var all amount
		for _, h := range b.holds {
			all.add(&p.classes[h.class].uses, int64(h.count))
		}
		for _, h := range cheapest {
			if h == b.shape {
				break
			}
			idle := !used && h.devices > 0 && b.shape.devices == 0
			if h.room.covers(&all) && !idle && most[h.index] >= b.times && p.fit(h, b.holds) {
				most[b.shape.index] += b.times
				most[h.index] -= b.times
				b.shape = h
				break
			}
		}
	}
}

// cheapestFirst is the shapes in the order of what a node of each adds to the
// cost of a plan.
func (p *packer) cheapestFirst() []*shape {
	one := func(h *shape) cost {
		c := cost{priced: p.priced}
		p.charge(&c, h, 1, true)
		return c
	}
	list := slices.Clone(p.shapes)
	slices.SortStableFunc(list, func(a, b *shape) int {
		x, y := one(a), one(b)
		return x.compare(&y)
	})
	return list
}

// fit reports whether one node of a shape can hold it all.
func (p *packer) fit(h *shape, holds []hold) bool {
	at := h.empty()
	for _, k := range holds {
		c := p.classes[k.class]
		if !c.places.has(h.index) || at.fits(c.need, k.count) < k.count {
			return false
		}
		at.take(c.need, k.count)
	}
	return true
}

// used reports whether something of it needs devices.
func (p *packer) used(holds []hold) bool {
	return slices.ContainsFunc(holds, func(h hold) bool { return len(p.classes[h.class].devices) > 0 })
}
