package placement_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/placement"
)

// tiny is a case that is small enough to try every way.
type tiny struct {
	nodes  []box
	shapes []kind
	asks   []thing
}

// box is what a node has left.
type box struct {
	cpu, memory, gpus int
	made              int // shape + 1; 0: it was there
	gpuWork           bool
	holds             [4]int // replicas by ask
}

type kind struct {
	box
	most  int
	price float64
}

type thing struct {
	cpu, memory, gpus, count, priority int
	apart                              bool
}

func (c tiny) input() placement.Input {
	var in placement.Input
	node := func(b box, name string) placement.Node {
		n := placement.Node{ID: name, Name: name, Pool: "p", Group: name, Datacenter: "dc1", Room: placement.Resources{CPU: b.cpu, MemoryMB: b.memory}}
		if b.gpus > 0 {
			n.Devices = []placement.Device{gpu(b.gpus)}
		}
		return n
	}
	for i, b := range c.nodes {
		n := node(b, fmt.Sprint("node", i))
		in.Nodes = append(in.Nodes, &n)
	}
	for i, k := range c.shapes {
		n := node(k.box, fmt.Sprint("group", i))
		n.Imagined = true
		in.Shapes = append(in.Shapes, placement.Shape{Node: n, Most: k.most, Price: k.price})
	}
	for i, t := range c.asks {
		a := placement.Ask{
			Key: fmt.Sprint("job", i), Job: fmt.Sprint("job", i), Pool: "p", Count: t.count, Priority: t.priority, DistinctHosts: t.apart,
			Uses: placement.Resources{CPU: t.cpu, MemoryMB: t.memory},
		}
		if t.gpus > 0 {
			a.Devices = []placement.DeviceAsk{{Name: "gpu", Count: t.gpus}}
		}
		in.Asks = append(in.Asks, a)
	}
	return in
}

// grade is what Pack promises to make least, in this order.
type grade []float64

func (c tiny) grade(boxes []box, short map[int]int) grade {
	var g grade
	for _, p := range c.levels() {
		g = append(g, float64(short[p]))
	}
	priced := !slices.ContainsFunc(c.shapes, func(k kind) bool { return k.price == 0 && k.most > 0 })
	idle, price, special, gpus, nodes := 0.0, 0.0, 0.0, 0.0, 0.0
	for _, b := range boxes {
		if b.made == 0 {
			continue
		}
		k := c.shapes[b.made-1]
		nodes++
		price += k.price
		if k.gpus > 0 {
			special++
			gpus += float64(k.gpus)
			if !b.gpuWork {
				idle++
			}
		}
	}
	if priced {
		return append(g, idle, price, nodes)
	}
	return append(g, special, idle, gpus, nodes)
}

func (c tiny) levels() (levels []int) {
	for _, t := range c.asks {
		levels = append(levels, t.priority)
	}
	slices.Sort(levels)
	levels = slices.Compact(levels)
	slices.Reverse(levels)
	return levels
}

// brute tries every way to place the replicas and returns the best grade.
func (c tiny) brute() grade {
	var best grade
	made := make([]int, len(c.shapes))
	var place func(ask, done int, boxes []box, short map[int]int)
	place = func(ask, done int, boxes []box, short map[int]int) {
		if best != nil && slices.Compare(c.hope(boxes, short), best) >= 0 {
			return
		}
		if ask == len(c.asks) {
			if g := c.grade(boxes, short); best == nil || slices.Compare(g, best) < 0 {
				best = g
			}
			return
		}
		t := c.asks[ask]
		if done == t.count {
			place(ask+1, 0, boxes, short)
			return
		}
		seen := map[box]bool{}
		for i, b := range boxes {
			if !seen[b] && b.takes(t, ask) {
				seen[b] = true
				old := boxes[i]
				boxes[i] = b.with(t, ask)
				place(ask, done+1, boxes, short)
				boxes[i] = old
			}
		}
		for s, k := range c.shapes {
			b := k.box
			b.made = s + 1
			if made[s] < k.most && b.takes(t, ask) {
				made[s]++
				place(ask, done+1, append(slices.Clone(boxes), b.with(t, ask)), short)
				made[s]--
			}
		}
		short[t.priority] += t.count - done
		place(ask+1, 0, boxes, short)
		short[t.priority] -= t.count - done
	}
	place(0, 0, slices.Clone(c.nodes), map[int]int{})
	return best
}

// hope is a grade that nothing that follows can be better than: GPU nodes may
// still get work.
func (c tiny) hope(boxes []box, short map[int]int) grade {
	boxes = slices.Clone(boxes)
	for i := range boxes {
		boxes[i].gpuWork = true
	}
	return c.grade(boxes, short)
}

func (b box) takes(t thing, ask int) bool {
	return b.cpu >= t.cpu && b.memory >= t.memory && b.gpus >= t.gpus && (!t.apart || b.holds[ask] == 0)
}

func (b box) with(t thing, ask int) box {
	b.cpu -= t.cpu
	b.memory -= t.memory
	b.gpus -= t.gpus
	b.gpuWork = b.gpuWork || t.gpus > 0
	b.holds[ask]++
	return b
}

// check holds that a result is possible, and returns its grade.
func (c tiny) check(t interface{ Fatalf(string, ...any) }, r placement.Result) grade {
	boxes := slices.Clone(c.nodes)
	left := make([]int, len(c.asks))
	for i, a := range c.asks {
		left[i] = a.count
	}
	put := func(b *box, ask, count int, where string) {
		for range count {
			if !b.takes(c.asks[ask], ask) {
				t.Fatalf("ask %d does not fit %s: %+v\n%+v", ask, where, *b, c)
			}
			*b = b.with(c.asks[ask], ask)
			left[ask]--
		}
	}
	for _, p := range r.Placed {
		put(&boxes[p.Node], p.Ask, p.Count, fmt.Sprint("node ", p.Node))
	}
	made := make([]int, len(c.shapes))
	for _, n := range r.New {
		b := c.shapes[n.Shape].box
		b.made = n.Shape + 1
		if made[n.Shape]++; made[n.Shape] > c.shapes[n.Shape].most {
			t.Fatalf("more nodes of shape %d than there may be", n.Shape)
		}
		if len(n.Holds) == 0 {
			t.Fatalf("a new node holds nothing")
		}
		for ask := range c.asks {
			put(&b, ask, n.Holds[fmt.Sprint("job", ask)], fmt.Sprint("a new node of shape ", n.Shape))
		}
		boxes = append(boxes, b)
	}
	short := map[int]int{}
	for _, s := range r.Short {
		left[s.Ask] -= s.Count
		short[c.asks[s.Ask].priority] += s.Count
		if s.Count <= 0 || s.Headline == "" {
			t.Fatalf("a shortage without count or reason: %+v", s)
		}
	}
	for i, n := range left {
		if n != 0 {
			t.Fatalf("%d replicas of ask %d are neither placed nor short\n%+v", n, i, r)
		}
	}
	return c.grade(boxes, short)
}

func drawTiny(t *rapid.T, shapes, gpus int) tiny {
	var c tiny
	draw := func(low, high int, name string) int { return rapid.IntRange(low, high).Draw(t, name) }
	drawBox := func(name string) box {
		return box{cpu: draw(1, 10, name+" cpu"), memory: draw(1, 10, name+" memory"), gpus: draw(0, gpus, name+" gpus")}
	}
	for range draw(0, 2, "nodes") {
		c.nodes = append(c.nodes, drawBox("node"))
	}
	priced := rapid.Bool().Draw(t, "priced")
	for range draw(1, shapes, "shapes") {
		k := kind{box: drawBox("shape"), most: draw(0, 7, "most")}
		if priced {
			k.price = float64(draw(1, 6, "price"))
		}
		c.shapes = append(c.shapes, k)
	}
	left := 7
	for range draw(1, 3, "asks") {
		if left == 0 {
			break
		}
		a := thing{
			cpu: draw(0, 8, "cpu"), memory: draw(0, 8, "memory"), gpus: draw(0, gpus, "gpus"), count: draw(1, left, "count"),
			priority: 50 + draw(0, 1, "priority"), apart: draw(0, 4, "apart") == 0,
		}
		left -= a.count
		c.asks = append(c.asks, a)
	}
	return c
}

func TestPackEqualsBruteForce(t *testing.T) {
	for _, c := range []struct {
		name         string
		shapes, gpus int
	}{{"one shape", 1, 0}, {"one shape with GPUs", 1, 3}, {"two shapes", 2, 0}, {"three shapes with GPUs", 3, 3}} {
		t.Run(c.name, rapid.MakeCheck(func(t *rapid.T) {
			k := drawTiny(t, c.shapes, c.gpus)
			got, want := k.check(t, placement.Pack(k.input())), k.brute()
			if slices.Compare(got, want) != 0 {
				t.Fatalf("Pack's grade is %v, brute force's %v\n%+v", got, want, k)
			}
		}))
	}
}
