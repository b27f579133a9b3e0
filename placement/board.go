package placement

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// Board is nodes and what is left of them, on which replicas can be placed and
// taken back: for many questions about one picture. What it is given must not
// change while it is in use.
type Board struct {
	book  *book
	index []int       // position -> index of the node as it was given
	at    []int       // index -> position
	slots []slot      // by position: the order in which nodes are filled
	open  bitset      // positions that take replicas
	gone  map[int]int // positions whose movable allocations are moved away
	peak  []amount    // by 64 positions: no node of them has more free of any kind
	units []int       // the same, of instances of one device

	terrain *terrain // by position
	needs   map[*Ask]*need
	tallies map[jobKey]*tally
	journal []change
}

type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) clear(i int)    { b[i/64] &^= 1 << (i % 64) }
func (b bitset) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

func (b bitset) count() (n int) {
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

// change is one thing that was done to a board, as it was before.
type change struct {
	at     int
	before slot
	tally  *tally
	count  int
	closed bool // the position was closed; nothing else was done
	was    bool // it was open before
}

// Spot is replicas on one node.
type Spot struct {
	Node  int // index in the list that the board was made of
	Count int
}

// NewBoard lays out nodes with what runs on them. Those that are closed take
// nothing.
func NewBoard(nodes []*Node) *Board { return newBoard(newBook(), nodes) }

func newBoard(book *book, nodes []*Node) *Board {
	b := &Board{book: book, needs: map[*Ask]*need{}, tallies: map[jobKey]*tally{}, gone: map[int]int{}}
	slots := make([]slot, len(nodes))
	for i, n := range nodes {
		slots[i] = newSite(book, n).filled()
	}
	b.index = preference(slots)
	b.at = make([]int, len(nodes))
	b.slots = make([]slot, len(nodes))
	b.terrain = &terrain{book: book, nodes: make([]*Node, len(nodes))}
	b.open = newBitset(len(nodes))
	b.peak, b.units = make([]amount, len(b.open)), make([]int, len(b.open))
	for p, i := range b.index {
		b.at[i] = p
		b.slots[p] = slots[i]
		b.terrain.nodes[p] = nodes[i]
		if nodes[i].Closed == "" {
			b.open.set(p)
		}
	}
	for block := range b.open {
		b.measure(block)
	}
	return b
}

// preference is the order in which nodes are filled: those without devices
// first, which leaves the others to work that needs them; those that are there
// before those on their way; the fullest first.
func preference(slots []slot) []int {
	order := make([]int, len(slots))
	left := make([]float64, len(slots))
	for i := range slots {
		order[i], left[i] = i, slots[i].left()
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := &slots[i], &slots[j]
		return cmp.Or(
			compareBool(len(a.spare) > 0, len(b.spare) > 0),
			compareBool(a.node.Imagined, b.node.Imagined),
			cmp.Compare(left[i], left[j]),
		)
	})
	return order
}

func compareBool(a, b bool) int {
	if a == b {
		return 0
	}
	return sign(a)
}

// left is the share of a node that is free: of its devices, if it has any,
// then of CPU and memory.
func (s *slot) left() float64 {
	spare, all := 0, 0
	for i, n := range s.spare {
		spare += n
		all += len(s.used[i])
	}
	share := 0.0
	for _, d := range []int{cpu, memory} {
		if s.room[d] > 0 {
			share += float64(s.free[d]) / float64(s.room[d])
		}
	}
	if all > 0 {
		return share + 100*float64(spare)/float64(all)
	}
	return share
}

// measure finds the most that a node of a block has free.
func (b *Board) measure(block int) {
	first := true
	for p := block * 64; p < min(len(b.slots), block*64+64); p++ {
		s := &b.slots[p]
		if first {
			b.peak[block], b.units[block] = s.free, s.units()
		}
		first = false
		for d := range b.peak[block] {
			b.peak[block][d] = max(b.peak[block][d], s.free[d])
		}
		b.units[block] = max(b.units[block], s.units())
	}
}

// need makes an ask ready, once.
func (b *Board) need(a *Ask) *need {
	n, known := b.needs[a]
	if !known {
		n = b.book.read(a)
		b.needs[a] = n
	}
	return n
}

// Place puts up to count replicas on nodes and says where. What it does not
// place has no room.
func (b *Board) Place(a *Ask, count int) []Spot { return b.place(b.need(a), count) }

func (b *Board) place(n *need, count int) []Spot {
	if n.garbage != "" || len(b.open) == 0 {
		return nil
	}
	rules := make([]bitset, len(n.rules))
	for i, r := range n.rules {
		rules[i] = b.terrain.where(r)
	}
	var spots []Spot
	for block := range b.open {
		if count <= 0 {
			break
		}
		if !b.peak[block].covers(&n.uses) || b.units[block] < n.units {
			continue
		}
		word := b.open[block]
		for _, r := range rules {
			word &= r[block]
		}
		placed := len(spots)
		for ; word != 0 && count > 0; word &= word - 1 {
			p := block*64 + bits.TrailingZeros64(word)
			if k := b.put(n, p, count); k > 0 {
				spots = append(spots, Spot{Node: b.index[p], Count: k})
				count -= k
			}
		}
		if len(spots) > placed {
			b.measure(block)
		}
	}
	return spots
}

// put places up to count replicas on one node.
func (b *Board) put(n *need, p, count int) int {
	s := &b.slots[p]
	k := s.fits(n, count)
	if k == 0 {
		return 0
	}
	done := change{at: p, before: *s}
	if n.ask.apart() {
		done.tally = b.tally(n.ask)
		if k = done.tally.room(n.ask, s, k); k == 0 {
			return 0
		}
		done.tally.count(s, k)
	}
	if !n.plain {
		*s = s.clone() // its lists are what Undo goes back to
	}
	done.count = k
	s.take(n, k)
	s.guests = append(s.guests, guest{n, k}) // what is done last is undone first, so nobody else appends here
	b.journal = append(b.journal, done)
	return k
}

func (b *Board) tally(a *Ask) *tally {
	t, known := b.tallies[a.key()]
	if !known {
		t = newTally(a.key(), b.slots, func(p int) bool { return b.gone[p] > 0 })
		b.tallies[a.key()] = t
	}
	return t
}

// Mark is where a board stands, for Undo.
func (b *Board) Mark() int { return len(b.journal) }

// Undo takes back all that was done since a mark.
func (b *Board) Undo(mark int) {
	for len(b.journal) > mark {
		last := &b.journal[len(b.journal)-1]
		if last.closed {
			b.reopen(last)
		} else {
			b.takeBack(last)
		}
		b.journal = b.journal[:len(b.journal)-1]
	}
}

func (b *Board) takeBack(c *change) {
	s := &b.slots[c.at]
	if c.tally != nil {
		c.tally.count(s, -c.count)
	}
	*s = c.before
	for d := range s.free {
		b.peak[c.at/64][d] = max(b.peak[c.at/64][d], s.free[d])
	}
	b.units[c.at/64] = max(b.units[c.at/64], s.units())
}

func (b *Board) reopen(c *change) {
	if c.was {
		b.open.set(c.at)
	}
	b.gone[c.at]--
	if b.gone[c.at] == 0 {
		b.moved(&b.slots[c.at], 1)
	}
}

// moved takes what moves off a node out of the tallies, or puts it back.
func (b *Board) moved(s *slot, by int) {
	for _, alloc := range s.node.Allocs {
		key := jobKey{namespaceOf(alloc.Namespace), alloc.Job}
		if t := b.tallies[key]; t != nil && alloc.Movable {
			t.count(s, by)
		}
	}
}

// Close takes a node out: what can move off it is no longer counted to be
// there, and it takes nothing more.
func (b *Board) Close(node int) {
	p := b.at[node]
	b.journal = append(b.journal, change{at: p, closed: true, was: b.open.has(p)})
	b.open.clear(p)
	b.gone[p]++
	if b.gone[p] == 1 {
		b.moved(&b.slots[p], -1)
	}
}

// Evict closes a node and places all that is there on the others, by the asks
// of its jobs; also what was placed there before by Place or Evict. If there is
// no room for all of it, or some of it cannot be moved, the board is left as it
// was, and the answer says why; "": it is done. Allocations of system jobs are
// no reason to keep a node.
func (b *Board) Evict(node int, asks map[string]*Ask) string {
	p := b.at[node]
	if b.gone[p] > 0 {
		return "it is taken out already"
	}
	guests, why := b.leaving(&b.slots[p], asks)
	if why != "" {
		return why
	}
	mark := b.Mark()
	b.Close(node)
	b.clear(p)
	for _, g := range guests {
		left := g.count
		for _, spot := range b.place(g.need, left) {
			left -= spot.Count
		}
		if left > 0 {
			b.Undo(mark)
			return fmt.Sprintf("%d of %d replicas of %s fit on other nodes", g.count-left, g.count, g.need.ask.name())
		}
	}
	return ""
}

// name is what people know the ask by.
func (a *Ask) name() string {
	if a.Job == "" {
		return a.Key
	}
	return "job " + a.Job
}

// leaving lists what moves when a node is emptied, the largest first, or says
// what does not.
func (b *Board) leaving(s *slot, asks map[string]*Ask) (guests []guest, why string) {
	guests = slices.Clone(s.guests)
	for _, alloc := range s.node.Allocs {
		if alloc.System {
			continue
		}
		ask := asks[alloc.Job]
		switch {
		case !alloc.Movable:
			return nil, fmt.Sprintf("allocation %s of job %s does not move", alloc.ID, alloc.Job)
		case ask == nil || namespaceOf(ask.Namespace) != namespaceOf(alloc.Namespace):
			return nil, fmt.Sprintf("what job %s asks for is not known", alloc.Job)
		}
		n := b.need(ask)
		if i := slices.IndexFunc(guests, func(g guest) bool { return g.need == n }); i >= 0 {
			guests[i].count++
		} else {
			guests = append(guests, guest{n, 1})
		}
	}
	slices.SortStableFunc(guests, func(x, y guest) int {
		return cmp.Or(
			cmp.Compare(y.need.units, x.need.units),
			cmp.Compare(y.need.uses[memory], x.need.uses[memory]),
			cmp.Compare(y.need.uses[cpu], x.need.uses[cpu]),
		)
	})
	return guests, ""
}

// clear takes away what was placed on a closed node, which is about to be
// placed elsewhere.
func (b *Board) clear(p int) {
	s := &b.slots[p]
	for _, g := range s.guests {
		done := change{at: p, before: *s, count: -g.count, tally: b.tallyOf(g.need.ask)}
		if done.tally != nil {
			done.tally.count(s, -g.count)
		}
		b.journal = append(b.journal, done)
	}
	s.guests = nil
}

// tallyOf is the tally of an ask that has rules of keeping apart; nil of
// others.
func (b *Board) tallyOf(a *Ask) *tally {
	if !a.apart() {
		return nil
	}
	return b.tally(a)
}
