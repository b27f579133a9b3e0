package placement

import (
	"encoding/binary"
	"math"
	"slices"
)

// fewClasses is how many classes of one tier are looked at one by one; of more,
// those of like size and direction are looked at together.
const fewClasses = 256

// tier is classes of one priority that ask for as many devices: those of a
// tier are placed before those of the next.
type tier struct{ buckets []bucket }

// bucket is classes that are much alike.
type bucket struct {
	classes []int  // of the solver's list, the largest first
	least   amount // each of them needs as much
	units   int
	large   float64 // a little more than 1 for what is large, which is harder to place later
}

// layer divides the list into tiers and buckets.
func (s *solver) layer() {
	s.bucket = make([][2]int, len(s.list))
	for at := 0; at < len(s.list); {
		head := s.list[at]
		end := at
		for end < len(s.list) && s.list[end].level == head.level && s.list[end].units == head.units {
			end++
		}
		s.tiers = append(s.tiers, s.bucketsOf(at, end))
		at = end
	}
}

func (s *solver) bucketsOf(at, end int) tier {
	var t tier
	byKey := map[string]int{}
	var key []byte
	for k := at; k < end; k++ {
		c := s.list[k]
		key = key[:0]
		if end-at <= fewClasses {
			key = binary.AppendVarint(key, int64(k))
		} else {
			key = s.alike(key, c)
		}
		i, known := byKey[string(key)]
		if !known {
			i = len(t.buckets)
			byKey[string(key)] = i
			t.buckets = append(t.buckets, bucket{least: c.uses, units: c.units, large: math.Pow(c.size+tiny, s.bulk)})
		}
		b := &t.buckets[i]
		b.classes = append(b.classes, k)
		s.bucket[k] = [2]int{len(s.tiers), i}
		for d := range b.least {
			b.least[d] = min(b.least[d], c.uses[d])
		}
	}
	return t
}

// alike is the same for classes whose largest share and whose direction are
// nearly the same.
func (s *solver) alike(key []byte, c *class) []byte {
	key = binary.AppendVarint(key, int64(math.Log2(c.size+1e-9)*4))
	for _, d := range []int{cpu, memory, disk, cores} {
		if s.largest[d] > 0 && s.largest[d] < plenty && c.size > 0 {
			key = binary.AppendVarint(key, int64(6*float64(c.uses[d])/float64(s.largest[d])/c.size))
		}
	}
	for _, request := range c.devices {
		key = binary.AppendVarint(key, int64(request))
	}
	return key
}

// manner is how a node is filled.
type manner int

const (
	inOrder     manner = iota // each class as it comes
	byDirection               // what points most to what the node has left
	byWorth                   // what is worth most for the share that it takes of what the node has left
)

// aim fills a node, tier by tier.
func (s *solver) aim(b *bin, g *stage) {
	for i := range s.tiers {
		s.aimTier(b, &s.tiers[i], g)
	}
}

func (s *solver) aimTier(b *bin, t *tier, g *stage) {
	open := s.scratch[:0]
	units := b.slot.units()
	for i := range t.buckets {
		if k := &t.buckets[i]; k.units <= units && len(k.classes) > 0 {
			open = append(open, i)
		}
	}
	s.scratch = open
	for len(open) > 0 {
		pull := s.pull(b)
		best, at := -1.0, 0
		for i := 0; i < len(open); i++ {
			k := &t.buckets[open[i]]
			if !b.slot.free.covers(&k.least) {
				open[i] = open[len(open)-1]
				open = open[:len(open)-1]
				i--
				continue
			}
			drawn := dot(&pull, &k.least)
			if s.manner == byWorth {
				drawn = dot(&g.gain, &k.least) / (drawn + tiny) * k.large
			}
			if drawn > best {
				best, at = drawn, i
			}
		}
		if len(open) > 0 && !s.pourFrom(b, &t.buckets[open[at]]) {
			open[at] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
}

// pull weighs what replicas use of a node: by what is left, or by what share
// of that it is.
func (s *solver) pull(b *bin) (pull [dims]float64) {
	for d, room := range b.shape.room {
		switch {
		case room <= 0 || b.slot.free[d] <= 0 || d == ports:
		case s.manner == byWorth:
			pull[d] = 1 / float64(b.slot.free[d])
		default:
			pull[d] = float64(b.slot.free[d]) / float64(room) / float64(room)
		}
	}
	return pull
}

func dot(weight *[dims]float64, a *amount) float64 {
	return weight[cpu]*float64(a[cpu]) + weight[memory]*float64(a[memory]) + weight[disk]*float64(a[disk]) + weight[cores]*float64(a[cores])
}

// forget takes a class of which nothing is left out of its bucket.
func (s *solver) forget(class int) {
	at := s.bucket[class]
	k := &s.tiers[at[0]].buckets[at[1]]
	if i := slices.Index(k.classes, class); i >= 0 {
		k.classes = slices.Delete(k.classes, i, i+1)
	}
}

// pourFrom puts some of a bucket into a node and reports whether it did.
func (s *solver) pourFrom(b *bin, k *bucket) bool {
	for _, i := range k.classes {
		left := s.left[i] - s.poured[i]
		if left <= 0 || !s.list[i].places.has(b.shape.index) {
			continue
		}
		if n := b.slot.fits(s.list[i].need, left); n > 0 && s.pour(b, i, max(1, n/32)) > 0 {
			return true
		}
	}
	return false
}
