package placement_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/serve-nomad/serve-nomad/placement"
)

// shapes400 is 400 kinds of node like a cloud's: families of CPU to memory,
// sizes, some with GPUs.
func shapes400(priced bool) []placement.Shape {
	var shapes []placement.Shape
	for family := range 40 {
		for size := range 10 {
			cores := 2 << min(size, 5) * (1 + size/6)
			s := placement.Shape{Node: placement.Node{
				Group: fmt.Sprintf("f%d-%d", family, size), Pool: "default", Datacenter: "dc1", Imagined: true,
				Room: placement.Resources{CPU: cores * 3000, MemoryMB: cores * 1024 * (2 << (family % 4))},
			}, Most: 100000}
			price := float64(cores) * (0.02 + 0.005*float64(int(2)<<(family%4))) * (1 + 0.01*float64(family%7))
			if family%8 == 7 {
				gpus := min(8, 1<<(size/3))
				s.Devices = []placement.Device{gpu(gpus)}
				price += float64(gpus) * 1.5
			}
			if priced {
				s.Price = price
			}
			shapes = append(shapes, s)
		}
	}
	return shapes
}

func gpu(n int) placement.Device {
	d := placement.Device{Vendor: "nvidia", Type: "gpu", Name: "H100"}
	for i := range n {
		d.Instances = append(d.Instances, fmt.Sprintf("GPU-%d", i))
	}
	return d
}

func asksAlike(classes, replicas int, r *rand.Rand) []placement.Ask {
	var asks []placement.Ask
	for i := range classes {
		a := placement.Ask{
			Key: fmt.Sprintf("job%d", i), Job: fmt.Sprintf("job%d", i), Count: replicas / classes, DynamicPorts: 1,
			Uses: placement.Resources{CPU: 250 + r.IntN(8)*500, MemoryMB: 256 << r.IntN(6)},
		}
		if i%5 == 0 {
			a.Devices = []placement.DeviceAsk{{Name: "nvidia/gpu", Count: 1 << r.IntN(3)}}
		}
		asks = append(asks, a)
	}
	return asks
}

func asksUnlike(replicas int, r *rand.Rand) []placement.Ask {
	var asks []placement.Ask
	for i := range replicas {
		a := placement.Ask{
			Key: fmt.Sprintf("job%d", i), Job: fmt.Sprintf("job%d", i), Count: 1, DynamicPorts: 1,
			Uses: placement.Resources{CPU: 100 + r.IntN(6000), MemoryMB: 128 + r.IntN(16000)},
		}
		if i%50 == 0 {
			a.Devices = []placement.DeviceAsk{{Name: "nvidia/gpu", Count: 1 << r.IntN(3)}}
		}
		asks = append(asks, a)
	}
	return asks
}

func BenchmarkPack(b *testing.B) {
	for _, priced := range []bool{false, true} {
		for _, c := range []struct {
			name string
			asks []placement.Ask
		}{
			{"20000 replicas in 20 classes", asksAlike(20, 20000, rand.New(rand.NewPCG(1, 2)))},
			{"20000 replicas in 500 classes", asksAlike(500, 20000, rand.New(rand.NewPCG(1, 2)))},
			{"20000 replicas all unlike", asksUnlike(20000, rand.New(rand.NewPCG(1, 2)))},
		} {
			b.Run(fmt.Sprintf("%s/400 shapes/priced=%v", c.name, priced), func(b *testing.B) {
				in := placement.Input{Shapes: shapes400(priced), Asks: c.asks}
				b.ReportAllocs()
				var r placement.Result
				began := cpuTime(b)
				for b.Loop() {
					r = placement.Pack(in)
				}
				b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
				cost := 0.0
				for _, n := range r.New {
					cost += in.Shapes[n.Shape].Price
				}
				b.ReportMetric(float64(len(r.New)), "nodes")
				b.ReportMetric(cost, "price")
				b.ReportMetric(float64(len(r.Short)), "short")
			})
		}
	}
}

// BenchmarkPackFew is the usual case: a few replicas wait, and the best way is
// looked for among all.
func BenchmarkPackFew(b *testing.B) {
	in := placement.Input{Asks: asksUnlike(12, rand.New(rand.NewPCG(5, 6))), Shapes: []placement.Shape{shape("a", 4, 16, 0, 1), shape("b", 6, 64, 0, 2.1), shape("c", 8, 24, 8, 9)}}
	began := cpuTime(b)
	for b.Loop() {
		placement.Pack(in)
	}
	b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// BenchmarkPackNearlyAll leaves a few of many unlike replicas for new nodes.
func BenchmarkPackNearlyAll(b *testing.B) {
	asks := asksUnlike(20000, rand.New(rand.NewPCG(5, 6)))
	huge := &placement.Node{ID: "n", Pool: "default", Room: placement.Resources{CPU: 59_500_000, MemoryMB: 1 << 30}, Devices: []placement.Device{gpu(2000)}, Ports: placement.Ports{Low: 1, High: 65535}}
	in := placement.Input{Nodes: []*placement.Node{huge}, Asks: asks, Shapes: shapes400(true)[:8]}
	began := cpuTime(b)
	var r placement.Result
	for b.Loop() {
		r = placement.Pack(in)
	}
	b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(len(r.New)), "nodes")
}
