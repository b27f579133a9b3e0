package placement

import "strings"

// stage is what nodes are opened for, which nodes may be, and what is worth how
// much meanwhile.
type stage struct {
	from, to int      // the classes that drive: the solver's list from one to before the other
	allowed  []*shape // that may be opened at all
	shapes   []*shape // those of which more may be made now

	kinds    []int     // resources that are priced
	width    int       // their number, and that of device types after them
	uses     []float64 // by class and resource
	demand   []float64 // of what is left, by resource
	capacity []float64 // by shape and resource
	cost     []float64 // by shape
	left     int       // replicas that drive

	worth []float64     // by class; nothing of what does not drive
	total float64       // of all that is left and drives
	gain  [dims]float64 // worth by resource
}

// drives reports whether nodes are opened for a class.
func (g *stage) drives(class int) bool { return g.from <= class && class < g.to }

// newStage returns nil if there is nothing to do.
func (s *solver) newStage(from, to int, special bool) *stage {
	g := &stage{from: from, to: to}
	want := newBitset(len(s.shapes))
	for k := from; k < to; k++ {
		if s.left[k] > 0 {
			g.left += s.left[k]
			for i, word := range s.list[k].places {
				want[i] |= word
			}
		}
	}
	for i, h := range s.shapes {
		if want.has(i) && s.most[i] > 0 && (special || h.devices == 0) {
			g.allowed = append(g.allowed, h)
		}
	}
	if g.left == 0 || len(g.allowed) == 0 {
		return nil
	}
	for _, d := range []int{cpu, memory, disk, cores} {
		if s.largest[d] > 0 && s.largest[d] < plenty {
			g.kinds = append(g.kinds, d)
		}
	}
	types := s.deviceTypes(g)
	g.width = len(g.kinds) + len(types)
	s.measureUses(g, types)
	g.worth = make([]float64, len(s.list))
	s.choices(g, types)
	return g
}

func (s *solver) measureUses(g *stage, types map[string]int) {
	g.uses = make([]float64, (g.to-g.from)*g.width)
	g.demand = make([]float64, g.width)
	for k := g.from; k < g.to; k++ {
		row := g.usesOf(k)
		for i, d := range g.kinds {
			row[i] = float64(s.list[k].uses[d]) / float64(s.largest[d])
		}
		for i := range s.list[k].ask.Devices {
			a := &s.list[k].ask.Devices[i]
			row[len(g.kinds)+types[deviceType(a.Name)]] += float64(a.Count)
		}
		for i, u := range row {
			g.demand[i] += u * float64(s.left[k])
		}
	}
}

func (g *stage) usesOf(class int) []float64 {
	at := (class - g.from) * g.width
	return g.uses[at : at+g.width]
}

// choices finds the shapes of which more may be made, and what they have.
func (s *solver) choices(g *stage, types map[string]int) {
	g.shapes, g.capacity, g.cost = nil, nil, nil
	for _, h := range g.allowed {
		if s.most[h.index] <= 0 {
			continue
		}
		g.shapes = append(g.shapes, h)
		row := make([]float64, g.width)
		for i, d := range g.kinds {
			row[i] = max(0, float64(h.room[d])) / float64(s.largest[d])
		}
		for i := range h.node.Devices {
			if at, asked := types[h.node.Devices[i].Type]; asked {
				row[len(g.kinds)+at] += float64(len(h.node.Devices[i].Instances))
			}
		}
		g.capacity = append(g.capacity, row...)
		if s.priced {
			g.cost = append(g.cost, h.price)
		} else {
			g.cost = append(g.cost, 1)
		}
	}
}

// weigh finds what a replica of each class is worth: its part of the cost of
// the cheapest nodes that would hold all that is left.
func (s *solver) weigh(g *stage) {
	per := prices(g.demand, g.capacity, g.cost)
	for i := range per {
		per[i] += 1e-4 // what is not short is worth a little, so that a fuller node is better
	}
	g.total = 0
	for k := g.from; k < g.to; k++ {
		g.worth[k] = 0
		for i, u := range g.usesOf(k) {
			g.worth[k] += u * per[i]
		}
		g.total += g.worth[k] * float64(s.left[k])
	}
	g.gain = [dims]float64{}
	for i, d := range g.kinds {
		g.gain[d] = per[i] / float64(s.largest[d])
	}
}

// opened takes what was placed out of the demand.
func (g *stage) opened(b *bin) {
	for _, h := range b.holds {
		if !g.drives(h.class) {
			continue
		}
		n := h.count * b.times
		g.left -= n
		for i, u := range g.usesOf(h.class) {
			g.demand[i] = max(0, g.demand[i]-u*float64(n))
		}
	}
}

// value is what a node holds of what drives is worth.
func (b *bin) value(g *stage) (sum float64) {
	for _, h := range b.holds {
		sum += g.worth[h.class] * float64(h.count)
	}
	return sum
}

// deviceTypes numbers the types of device that the classes of a stage ask for.
func (s *solver) deviceTypes(g *stage) map[string]int {
	types := map[string]int{}
	for _, c := range s.list[g.from:g.to] {
		for i := range c.ask.Devices {
			name := deviceType(c.ask.Devices[i].Name)
			if _, known := types[name]; !known {
				types[name] = len(types)
			}
		}
	}
	return types
}

// deviceType is the type in "type", "vendor/type" or "vendor/type/name".
func deviceType(name string) string {
	vendor, rest, more := strings.Cut(name, "/")
	if !more {
		return vendor
	}
	kind, _, _ := strings.Cut(rest, "/")
	return kind
}

// portion is how much of what is left is placed before its worth is found anew:
// what the cheapest nodes cost depends on what there is to place.
const portion = 0.04

// stage opens nodes until nothing that drives is left or fits.
func (s *solver) stage(from, to int, special bool) {
	g := s.newStage(from, to, special)
	if g == nil {
		return
	}
	types := s.deviceTypes(g)
	var c candidates
	for g.left > 0 && len(g.shapes) > 0 {
		s.weigh(g)
		c.renew(s, g)
		for placed := 0.0; placed <= portion*g.total; {
			best, ok := c.best(s, g)
			if !ok {
				return
			}
			b := c.bins[best]
			value := b.value(g)
			s.open(b, int(portion*g.total/max(value, tiny)))
			g.opened(b)
			placed += value * float64(b.times)
			clear(c.fresh)
			if s.most[b.shape.index] <= 0 {
				s.choices(g, types)
				break
			}
		}
	}
}

// candidates is the shapes that may be opened in a stage, each with a node of
// it that was filled on trial, and its score. The scores only fall while
// replicas are placed, so a score that is out of date is an upper bound: only
// the best is looked at again.
type candidates struct {
	shapes []*shape
	bins   []*bin
	scores []score
	fresh  []bool
}

// renew takes over the shapes of a stage and their worth. What was filled
// before gives the bounds to begin with.
func (c *candidates) renew(s *solver, g *stage) {
	if len(c.shapes) != len(g.shapes) {
		known := make(map[*shape]*bin, len(c.shapes))
		for i, h := range c.shapes {
			known[h] = c.bins[i]
		}
		n := len(g.shapes)
		*c = candidates{shapes: g.shapes, bins: make([]*bin, n), scores: make([]score, n), fresh: make([]bool, n)}
		for i, h := range c.shapes {
			c.bins[i] = known[h]
		}
	}
	for i := range c.shapes {
		if c.bins[i] == nil {
			c.try(s, g, i)
		} else {
			c.scores[i] = s.rate(g, c.bins[i])
		}
	}
}

func (c *candidates) try(s *solver, g *stage, i int) {
	c.bins[i] = s.fillOne(c.shapes[i], g)
	c.scores[i] = s.rate(g, c.bins[i])
	c.fresh[i] = true
	s.release(c.bins[i])
}

// best finds the shape with the best score, filling anew what is out of date.
func (c *candidates) best(s *solver, g *stage) (int, bool) {
	for {
		best := 0
		for i := range c.scores {
			if c.scores[i].compare(&c.scores[best]) > 0 {
				best = i
			}
		}
		switch {
		case !c.scores[best].drives:
			return 0, false
		case c.fresh[best]:
			return best, true
		}
		c.try(s, g, best)
	}
}
