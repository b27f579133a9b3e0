package placement

import (
	"cmp"
	"slices"
)

// Pack finds room for what asks want: on the nodes that there are first, then
// on as few and as cheap new ones as it can. What it places where is one way
// in which all of it fits; Nomad's own choice will be another.
//
// Of two ways it takes, in this order: the one that leaves fewer replicas
// short, those of a higher priority first; if all shapes have a price, that
// makes fewer nodes with devices which only hold work that needs none, and
// costs less, and makes fewer nodes; else that makes fewer nodes with devices,
// fewer of them which only hold work that needs none, fewer devices, and fewer
// nodes; that makes smaller ones. Spread and affinity never make anything not
// fit.
func Pack(in Input) Result {
	p := newPacker(in)
	p.solve()
	return p.result()
}

// packer is one call of Pack.
type packer struct {
	in      Input
	book    *book
	board   *Board
	terrain *terrain
	shapes  []*shape
	priced  bool
	largest amount
	classes []*class
	levels  []int // priorities, the highest first
	best    *plan
}

// plan is one way to place all classes.
type plan struct {
	spots [][]Spot // by class, on the nodes that there are
	bins  []planned
	left  []int // by class
	cost  cost
}

// planned is new nodes that hold the same: holds are by class of the packer.
type planned struct {
	shape *shape
	holds []hold
	times int
}

func newPacker(in Input) *packer {
	book := newBook()
	p := &packer{in: in, book: book, board: newBoard(book, in.Nodes), priced: true}
	p.terrain = &terrain{book: book}
	for i := range in.Shapes {
		h := newShape(book, &in.Shapes[i], i)
		p.shapes = append(p.shapes, h)
		p.terrain.nodes = append(p.terrain.nodes, h.node)
		p.priced = p.priced && (h.price > 0 || h.most == 0)
		p.grow(&h.room)
	}
	if len(in.Shapes) == 0 {
		for i := range p.board.slots {
			p.grow(&p.board.slots[i].room)
		}
	}
	p.classes = classes(book, in.Asks)
	places := map[string]bitset{}
	var key []byte
	for _, c := range p.classes {
		key = c.rulesKey(key[:0])
		c.places = places[string(key)]
		if c.places == nil {
			c.places = p.terrain.places(c.need)
			places[string(key)] = c.places
		}
		c.narrow = -c.places.count()
	}
	for _, c := range p.classes {
		p.levels = append(p.levels, c.level)
	}
	slices.SortFunc(p.levels, func(a, b int) int { return cmp.Compare(b, a) })
	p.levels = slices.Compact(p.levels)
	measureClasses(p.classes, p.largest)
	return p
}

func (p *packer) grow(room *amount) {
	for d := range p.largest {
		p.largest[d] = max(p.largest[d], room[d])
	}
}

// patience is how many classes are few enough to try several orders.
const patience = 500

func (p *packer) solve() {
	tries := []attempt{{by: orders()[0], manner: byDirection}}
	if len(p.classes) <= patience {
		for _, bulk := range []float64{0.1, 0.3} {
			tries = append(tries, attempt{by: orders()[0], manner: byWorth, bulk: bulk})
		}
		for _, by := range orders() {
			tries = append(tries, attempt{by: by})
		}
		if !p.priced {
			tries = append(tries, attempt{by: mixed(byUse(memory)), fullest: true})
		}
	}
	for _, a := range tries {
		plan := p.try(a)
		if p.best == nil || plan.cost.compare(&p.best.cost) < 0 {
			p.best = plan
		}
		if len(plan.bins) == 0 && !slices.ContainsFunc(plan.left, func(n int) bool { return n > 0 }) {
			return // nothing could be better
		}
	}
	if p.best != nil {
		p.refine()
	}
}

// attempt is one way to go about it.
type attempt struct {
	by      order
	manner  manner
	bulk    float64
	fullest bool
}

// try places all classes in one way.
func (p *packer) try(a attempt) *plan {
	mark := p.board.Mark()
	defer p.board.Undo(mark)
	t := &plan{spots: make([][]Spot, len(p.classes)), left: make([]int, len(p.classes))}
	at := make([]int, len(p.classes))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(i, j int) int { return a.by(p.classes[i], p.classes[j]) })
	for _, i := range at {
		c := p.classes[i]
		t.left[i] = c.count
		t.spots[i] = p.board.place(c.need, c.count)
		for _, spot := range t.spots[i] {
			t.left[i] -= spot.Count
		}
	}
	p.build(t, at, a)
	t.cost = p.cost(t)
	return t
}

// build makes new nodes for what is left, island by island.
func (p *packer) build(t *plan, at []int, a attempt) {
	var list []*class
	number := map[*class]int{}
	for _, i := range at {
		if t.left[i] > 0 && p.classes[i].garbage == "" {
			list = append(list, p.classes[i])
			number[p.classes[i]] = i
		}
	}
	most := make([]int, len(p.shapes))
	for i, h := range p.shapes {
		most[i] = h.most
	}
	for _, island := range islands(list, len(p.shapes)) {
		s := &solver{shapes: p.shapes, most: most, list: island, largest: p.largest, priced: p.priced, tally: p.board.tally, manner: a.manner, bulk: a.bulk, fullest: a.fullest}
		for _, c := range island {
			s.left = append(s.left, t.left[number[c]])
		}
		s.run()
		for k, c := range island {
			t.left[number[c]] = s.left[k]
		}
		for _, b := range s.bins {
			defer s.release(b) // for the next try
			made := planned{shape: b.shape, times: b.times}
			for _, h := range b.holds {
				made.holds = append(made.holds, hold{class: number[island[h.class]], count: h.count})
			}
			t.bins = append(t.bins, made)
		}
	}
	p.shrink(t, most)
}

// cost is what plans are compared by.
type cost struct {
	short   []int // replicas without a place, by priority, the highest first
	idle    int   // nodes with devices that hold nothing that needs them
	price   float64
	special int // nodes with devices
	devices int
	nodes   int
	size    float64
	order   int
	priced  bool
}

func (p *packer) cost(t *plan) cost {
	c := cost{priced: p.priced, short: p.short(t.left)}
	for _, b := range t.bins {
		p.charge(&c, b.shape, b.times, p.used(b.holds))
	}
	return c
}

// charge adds new nodes; used says whether their devices are.
func (p *packer) charge(c *cost, h *shape, times int, used bool) {
	c.nodes += times
	c.price += h.price * float64(times)
	c.order += h.order * times
	if h.devices > 0 {
		c.special += times
		c.devices += h.devices * times
		if !used {
			c.idle += times
		}
	}
	for _, d := range []int{cpu, memory} {
		if p.largest[d] > 0 {
			c.size += float64(h.room[d]) / float64(p.largest[d]) * float64(times)
		}
	}
}

// short counts what is left by priority, the highest first.
func (p *packer) short(left []int) []int {
	short := make([]int, len(p.levels))
	for i, c := range p.classes {
		if left[i] > 0 {
			short[p.levelAt(c)] += left[i]
		}
	}
	return short
}

// levelAt is the place of a class's priority among all.
func (p *packer) levelAt(c *class) int {
	at, _ := slices.BinarySearchFunc(p.levels, c.level, func(level, want int) int { return cmp.Compare(want, level) })
	return at
}

// compare is negative if a is the better one.
func (a *cost) compare(b *cost) int {
	if a.priced {
		return cmp.Or(
			slices.Compare(a.short, b.short), cmp.Compare(a.idle, b.idle), roughly(a.price, b.price), cmp.Compare(a.nodes, b.nodes),
			roughly(a.size, b.size), cmp.Compare(b.order, a.order),
		)
	}
	return cmp.Or(
		slices.Compare(a.short, b.short), cmp.Compare(a.special, b.special), cmp.Compare(a.idle, b.idle), cmp.Compare(a.devices, b.devices),
		cmp.Compare(a.nodes, b.nodes), roughly(a.size, b.size), cmp.Compare(b.order, a.order),
	)
}

// roughly compares sums that were added up in different orders.
func roughly(a, b float64) int {
	if d := a - b; d < 1e-9*max(1, a, b) && d > -1e-9*max(1, a, b) {
		return 0
	}
	return cmp.Compare(a, b)
}
