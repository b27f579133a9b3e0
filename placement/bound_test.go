package placement_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/serve-nomad/serve-nomad/placement"
)

// bound is what no packing of asks into new nodes can cost less than: nodes, or
// their price. Each resource has a worth such that no node is worth more than
// it costs; then what is asked for is worth no more than the nodes that hold
// it. Of a node's GPUs as many count as asks of the sizes that there are can
// take.
func bound(t *testing.T, in placement.Input, priced bool) float64 {
	t.Helper()
	best := 0.0
	for _, weigh := range gpuWeights(in) {
		vector := func(r placement.Resources, gpus float64) []float64 {
			return []float64{float64(r.CPU) / 1e5, float64(r.MemoryMB) / 1e5, gpus}
		}
		demand := make([]float64, 3)
		for _, a := range in.Asks {
			gpus := 0.0
			for _, d := range a.Devices {
				gpus += weigh(float64(d.Count))
			}
			for i, v := range vector(a.Uses, gpus) {
				demand[i] += v * float64(a.Count)
			}
		}
		var capacity [][]float64
		var cost []float64
		for _, s := range in.Shapes {
			gpus := 0.0
			for _, d := range s.Devices {
				gpus += weigh(float64(len(d.Instances)))
			}
			capacity = append(capacity, vector(s.Room, gpus))
			if priced {
				cost = append(cost, s.Price)
			} else {
				cost = append(cost, 1)
			}
		}
		worth := placement.Prices(demand, capacity, cost)
		total := 0.0
		for i, w := range worth {
			total += w * demand[i]
		}
		for i := range capacity {
			sum := 0.0
			for d, w := range worth {
				sum += w * capacity[i][d]
			}
			if sum > cost[i]*(1+1e-6) {
				t.Fatalf("a node of shape %d is worth %v and costs %v: the bound is none", i, sum, cost[i])
			}
		}
		best = max(best, total)
	}
	if !priced {
		return math.Ceil(best - 1e-6)
	}
	return best
}

// gpuWeights are ways to weigh GPUs such that what fits a node together weighs
// no more than the node. All nodes with GPUs are to have the same number; then
// rounding is one such way: of asks for 3 of 8 only two fit a node, so each is
// half of it.
func gpuWeights(in placement.Input) []func(float64) float64 {
	ways := []func(float64) float64{func(n float64) float64 { return n }}
	size := 0
	for _, s := range in.Shapes {
		for _, d := range s.Devices {
			if n := len(d.Instances); size != 0 && n != size {
				return ways
			}
			size = len(d.Instances)
		}
	}
	for k := 1; k < 2*size; k++ {
		ways = append(ways, func(n float64) float64 {
			x := n / float64(size) * float64(k+1)
			if x == math.Trunc(x) {
				return x / float64(k+1)
			}
			return math.Floor(x) / float64(k)
		})
	}
	return ways
}

func costOf(in placement.Input, r placement.Result, priced bool) float64 {
	if !priced {
		return float64(len(r.New))
	}
	sum := 0.0
	for _, n := range r.New {
		sum += in.Shapes[n.Shape].Price
	}
	return sum
}

func TestPackIsNearTheLowerBound(t *testing.T) {
	type instance struct {
		name   string
		priced bool
		make   func(r *rand.Rand) placement.Input
	}
	var all []instance
	for _, priced := range []bool{false, true} {
		all = append(all,
			instance{"unlike replicas, 400 shapes", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: noGPUs(shapes400(priced)), Asks: cpuOnly(asksUnlike(5000, r))}
			}},
			instance{"unlike replicas, one shape", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: []placement.Shape{shape("a", 64, 192, 0, 3)}, Asks: cpuOnly(asksUnlike(5000, r))}
			}},
			instance{"20 classes, 400 shapes", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: noGPUs(shapes400(priced)), Asks: cpuOnly(asksAlike(20, 20000, r))}
			}},
			instance{"20 classes, three shapes", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: []placement.Shape{shape("c", 32, 64, 0, 1), shape("m", 32, 256, 0, 1.6), shape("s", 8, 32, 0, 0.3)}, Asks: cpuOnly(asksAlike(20, 4000, r))}
			}},
			instance{"GPU replicas of 1 to 8 on nodes of 8", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: []placement.Shape{shape("g", 96, 1024, 8, 20), shape("c", 32, 128, 0, 1)}, Asks: gpuAsks(2000, r, 1, 2, 4, 8)}
			}},
			instance{"GPU replicas of odd sizes on nodes of 8", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: []placement.Shape{shape("g", 96, 1024, 8, 20), shape("c", 32, 128, 0, 1)}, Asks: gpuAsks(2000, r, 1, 2, 3, 5, 6)}
			}},
			instance{"GPU replicas of 3 only", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{Shapes: []placement.Shape{shape("g", 96, 1024, 8, 20)}, Asks: gpuAsks(500, r, 3)}
			}},
			instance{"GPU and CPU replicas together", priced, func(r *rand.Rand) placement.Input {
				return placement.Input{
					Shapes: []placement.Shape{shape("g", 96, 1024, 8, 20), shape("c", 64, 256, 0, 2)},
					Asks:   append(gpuAsks(1000, r, 1, 2, 4), cpuOnly(asksAlike(30, 6000, r))...),
				}
			}},
		)
	}
	for _, i := range all {
		t.Run(fmt.Sprintf("%s, priced %v", i.name, i.priced), func(t *testing.T) {
			worst := 0.0
			for seed := range uint64(2) {
				in := i.make(rand.New(rand.NewPCG(seed, 7)))
				for k := range in.Shapes {
					if !i.priced {
						in.Shapes[k].Price = 0
					}
				}
				r := placement.Pack(in)
				if len(r.Short) > 0 {
					t.Fatalf("short: %+v", r.Short[0])
				}
				got, least := costOf(in, r, i.priced), bound(t, in, i.priced)
				worst = max(worst, got/least)
			}
			t.Logf("%.2f %% above the lower bound at worst", 100*(worst-1))
			if worst > 1.05 {
				t.Errorf("%.2f times the lower bound", worst)
			}
		})
	}
}

func shape(name string, cores, gib, gpus int, price float64) placement.Shape {
	s := placement.Shape{Most: 1 << 20, Price: price, Node: placement.Node{
		Group: name, Pool: "default", Datacenter: "dc1", Imagined: true,
		Room: placement.Resources{CPU: cores * 3000, MemoryMB: gib * 1024},
	}}
	if gpus > 0 {
		s.Devices = []placement.Device{gpu(gpus)}
	}
	return s
}

func noGPUs(shapes []placement.Shape) (list []placement.Shape) {
	for _, s := range shapes {
		if len(s.Devices) == 0 {
			list = append(list, s)
		}
	}
	return list
}

func cpuOnly(asks []placement.Ask) []placement.Ask {
	for i := range asks {
		asks[i].Devices = nil
		asks[i].Key += " cpu"
	}
	return asks
}

func gpuAsks(n int, r *rand.Rand, sizes ...int) (asks []placement.Ask) {
	for i := range n {
		size := sizes[r.IntN(len(sizes))]
		asks = append(asks, placement.Ask{
			Key: fmt.Sprint("gpu", i), Job: fmt.Sprint("gpu", i), Count: 1,
			Uses:    placement.Resources{CPU: size * (1000 + r.IntN(15000)), MemoryMB: size * (1000 + r.IntN(60000))},
			Devices: []placement.DeviceAsk{{Name: "nvidia/gpu", Count: size}},
		})
	}
	return asks
}

// TestPackUsesFragmentedGPUs packs onto nodes that have a few GPUs left each.
// Sizes are powers of two, so of what a node has left, asks of size g and more
// can take no more than the largest multiple of g.
func TestPackUsesFragmentedGPUs(t *testing.T) {
	sizes := []int{1, 2, 4, 8}
	for seed := range uint64(20) {
		r := newRand(seed)
		in := placement.Input{Shapes: []placement.Shape{shape("g", 96, 1024, 8, 0)}, Asks: gpuAsks(400+r.IntN(400), r, sizes...)}
		wanted, room := map[int]int{}, map[int]int{}
		for i := range in.Asks {
			in.Asks[i].Uses = placement.Resources{CPU: 100, MemoryMB: 100}
			for _, g := range sizes {
				if n := in.Asks[i].Devices[0].Count; n >= g {
					wanted[g] += n
				}
			}
		}
		for i := range 150 {
			n := shape("g", 96, 1024, 8, 0).Node
			n.ID, n.Imagined = fmt.Sprint(i), false
			used := r.Perm(8)[:r.IntN(9)]
			var ids []string
			for _, k := range used {
				ids = append(ids, n.Devices[0].Instances[k])
			}
			n.Allocs = []placement.Alloc{{Job: "there", Devices: map[string][]string{"nvidia/gpu/H100": ids}}}
			in.Nodes = append(in.Nodes, &n)
			for _, g := range sizes {
				room[g] += (8 - len(used)) / g * g
			}
		}
		least := 0
		for _, g := range sizes {
			least = max(least, (wanted[g]-room[g]+7)/8)
		}
		res := placement.Pack(in)
		if len(res.Short) > 0 || float64(len(res.New)) > 1.05*float64(least) {
			t.Errorf("seed %d: %d new nodes, and %d would do at least; short: %v", seed, len(res.New), least, res.Short)
		}
	}
}
