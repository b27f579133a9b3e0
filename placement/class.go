package placement

import (
	"cmp"
	"encoding/binary"
	"math"
)

// class is replicas that are alike, whichever asks they are of.
type class struct {
	*need
	members []member
	count   int
	level   int // priority of the replicas' jobs
	apart   bool
	places  bitset  // shapes whose nodes it may run on by its rules
	size    float64 // its largest share of the largest node
	narrow  int     // how few kinds of nodes it may run on: the more the fewer
	likes   []Affinity
}

type member struct{ ask, count int }

// classes gathers asks that are alike. Those whose replicas must keep apart
// are alike only within one job.
func classes(book *book, asks []Ask) []*class {
	byKey := map[string]*class{}
	var list []*class
	var key []byte
	for i := range asks {
		a := &asks[i]
		if a.Count <= 0 {
			continue
		}
		n := book.read(a)
		key = n.key(key[:0])
		if a.apart() || n.garbage != "" {
			key = binary.AppendVarint(append(key, 'x'), int64(i))
		}
		c := byKey[string(key)]
		if c == nil {
			c = &class{need: n, level: a.Priority, apart: a.apart(), likes: a.Affinities}
			byKey[string(key)] = c
			list = append(list, c)
		}
		c.members = append(c.members, member{ask: i, count: a.Count})
		c.count += min(a.Count, math.MaxInt32-c.count)
	}
	return list
}

// key is the same for needs that are alike.
func (n *need) key(key []byte) []byte {
	for _, list := range [][]int{n.rules, n.devices, n.static} {
		key = binary.AppendVarint(key, int64(len(list)))
		for _, v := range list {
			key = binary.AppendVarint(key, int64(v))
		}
	}
	for _, v := range n.uses {
		key = binary.AppendVarint(key, v)
	}
	key = binary.AppendVarint(key, int64(n.ask.Priority))
	for _, f := range n.ask.Affinities {
		key = binary.AppendVarint(appendConstraint(key, f.Constraint), int64(f.Weight))
	}
	return key
}

// measureClasses finds how large each class is beside the largest nodes.
func measureClasses(list []*class, largest amount) {
	for _, c := range list {
		for d, u := range c.uses {
			if largest[d] > 0 && d != ports {
				c.size = max(c.size, float64(u)/float64(largest[d]))
			}
		}
	}
}

// An order is which class is placed first.
type order func(a, b *class) int

// orders are the ones that are tried.
func orders() []order {
	return []order{
		first(bySize),
		first(func(a, b *class) int { return cmp.Or(cmp.Compare(b.narrow, a.narrow), bySize(a, b)) }),
		first(byUse(memory)),
		first(byUse(cpu)),
		mixed(byUse(memory)),
		mixed(byUse(cpu)),
	}
}

// first begins with the priority, then what needs the most devices.
func first(then order) order {
	return func(a, b *class) int {
		return cmp.Or(cmp.Compare(b.level, a.level), cmp.Compare(b.units, a.units), then(a, b))
	}
}

// mixed begins with the priority, then what needs devices, however many: what
// takes few devices and much else would find no room beside what takes many.
func mixed(then order) order {
	return func(a, b *class) int {
		return cmp.Or(cmp.Compare(b.level, a.level), cmp.Compare(min(1, b.units), min(1, a.units)), then(a, b))
	}
}

func bySize(a, b *class) int { return cmp.Compare(b.size, a.size) }

func byUse(d int) order {
	return func(a, b *class) int { return cmp.Or(cmp.Compare(b.uses[d], a.uses[d]), bySize(a, b)) }
}

// rulesKey is the same for needs with the same rules.
func (n *need) rulesKey(key []byte) []byte {
	for _, r := range n.rules {
		key = binary.AppendVarint(key, int64(r))
	}
	return key
}
