package placement

import "math"

// shape is a kind of node that may be made.
type shape struct {
	*site
	index   int
	most    int
	price   float64 // 0: not known
	devices int     // instances
	order   int     // of shapes that are equally good the highest is taken
}

func newShape(b *book, in *Shape, index int) *shape {
	s := &shape{site: newSite(b, &in.Node), index: index, most: max(0, in.Most), order: in.Priority}
	if in.Price > 0 && !math.IsInf(in.Price, 1) {
		s.price = in.Price
	}
	for i := range in.Devices {
		s.devices += len(in.Devices[i].Instances)
	}
	return s
}

// terrain says which of several nodes each rule holds for, each looked at once.
type terrain struct {
	book  *book
	nodes []*Node
	holds []bitset // by rule; nil: not looked at yet
}

func (t *terrain) where(rule int) bitset {
	for len(t.holds) <= rule {
		t.holds = append(t.holds, nil)
	}
	if t.holds[rule] == nil {
		t.holds[rule] = newBitset(len(t.nodes))
		for i, n := range t.nodes {
			if t.book.rules[rule].check(n) == "" {
				t.holds[rule].set(i)
			}
		}
	}
	return t.holds[rule]
}

// places says which nodes all the rules of a need hold for.
func (t *terrain) places(n *need) bitset {
	all := newBitset(len(t.nodes))
	for i := range t.nodes {
		all.set(i)
	}
	for _, r := range n.rules {
		for i, word := range t.where(r) {
			all[i] &= word
		}
	}
	return all
}

// islands divides classes into groups that share no shape, so that each can be
// packed by itself.
func islands(list []*class, shapes int) [][]*class {
	parent := make([]int, shapes)
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	firsts := make([]int, len(list))
	known := map[*uint64]int{} // classes with the same rules share their places
	for k, c := range list {
		firsts[k] = -1
		if len(c.places) == 0 {
			continue
		}
		if same, ok := known[&c.places[0]]; ok {
			firsts[k] = firsts[same]
			continue
		}
		known[&c.places[0]] = k
		for i := range shapes {
			switch {
			case !c.places.has(i):
			case firsts[k] < 0:
				firsts[k] = root(i)
			default:
				parent[root(i)] = root(firsts[k])
			}
		}
	}
	at := map[int]int{}
	var groups [][]*class
	for k, c := range list {
		if firsts[k] < 0 {
			continue // no shape at all
		}
		r := root(firsts[k])
		if _, known := at[r]; !known {
			at[r] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[r]] = append(groups[at[r]], c)
	}
	return groups
}
