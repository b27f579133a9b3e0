package placement_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/serve-nomad/serve-nomad/placement"
)

// room is what a node of Ray has, or a request wants.
type room struct{ CPU, GiB, GPU int }

func (r room) resources() placement.Resources {
	return placement.Resources{CPU: r.CPU * 1000, MemoryMB: r.GiB * 1024}
}

// rayCase is replicas that wait, and the nodes that Ray's own autoscaler
// launches for them; see testdata/ray_oracle.py.
type rayCase struct {
	Types []struct {
		room
		Max int // nodes, those that are there among them
	}
	Nodes []struct {
		room // free
		Type int
	}
	Asks []struct {
		room
		Count int
	}
	Launched   []int // by type
	Infeasible int
	MS         float64 // CPU time of Ray's scheduler
}

// readCases reads what a peer's program wrote: its version, then one case a
// line.
func readCases[T any](tb testing.TB, path string, least int) (cases []T) {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	lines.Scan()
	for lines.Scan() {
		var c T
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			tb.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil || len(cases) < least {
		tb.Fatalf("%s has %d cases: %v", path, len(cases), err)
	}
	return cases
}

func rayCases(tb testing.TB) []rayCase {
	tb.Helper()
	return readCases[rayCase](tb, "testdata/ray_nodes.jsonl", 200)
}

func (c *rayCase) input() placement.Input {
	var in placement.Input
	for i, kind := range c.Types {
		s := placement.Shape{Most: kind.Max, Node: placement.Node{Group: fmt.Sprint(i), Imagined: true, Room: kind.resources()}}
		if kind.GPU > 0 {
			s.Devices = []placement.Device{gpu(kind.GPU)}
		}
		in.Shapes = append(in.Shapes, s)
	}
	for i, n := range c.Nodes {
		node := &placement.Node{ID: fmt.Sprint(i), Room: n.resources()}
		if n.GPU > 0 {
			node.Devices = []placement.Device{gpu(n.GPU)}
		}
		in.Nodes = append(in.Nodes, node)
		in.Shapes[n.Type].Most--
	}
	for i, a := range c.Asks {
		ask := placement.Ask{Key: fmt.Sprint(i), Job: fmt.Sprint(i), Count: a.Count, Uses: a.resources()}
		if a.GPU > 0 {
			ask.Devices = []placement.DeviceAsk{{Name: "nvidia/gpu", Count: a.GPU}}
		}
		in.Asks = append(in.Asks, ask)
	}
	return in
}

// launches is what an autoscaler does for a case.
type launches struct{ short, gpuNodes, nodes int }

func (c *rayCase) rays() launches {
	l := launches{short: c.Infeasible}
	for i, n := range c.Launched {
		l.nodes += n
		if c.Types[i].GPU > 0 {
			l.gpuNodes += n
		}
	}
	return l
}

func (c *rayCase) ours(r placement.Result) launches {
	l := launches{nodes: len(r.New)}
	for _, n := range r.New {
		if c.Types[n.Shape].GPU > 0 {
			l.gpuNodes++
		}
	}
	for _, s := range r.Short {
		l.short += s.Count
	}
	return l
}

// TestNoMoreNodesThanRay holds that Pack places what Ray's own autoscaler
// does, with no more nodes of any kind, and no more with GPUs. Where it places
// more, it may take more.
func TestNoMoreNodesThanRay(t *testing.T) {
	var launching, alike, fewer, fewerGPU, placesMore, rayNodes, ourNodes int
	ratios := 0.0
	for i, c := range rayCases(t) {
		ray, ours := c.rays(), c.ours(placement.Pack(c.input()))
		if ours.short > ray.short || ours.short == ray.short && (ours.gpuNodes > ray.gpuNodes || ours.nodes > ray.nodes) {
			t.Errorf("case %d: ours %+v, Ray %+v", i+1, ours, ray)
		}
		if ray.nodes > 0 {
			launching++
		}
		if ours.short < ray.short {
			placesMore++
			continue
		}
		if ray.nodes > 0 {
			alike++
			ratios += float64(ours.nodes) / float64(ray.nodes)
		}
		rayNodes += ray.nodes
		ourNodes += ours.nodes
		if ours.nodes < ray.nodes {
			fewer++
		}
		if ours.gpuNodes < ray.gpuNodes {
			fewerGPU++
		}
	}
	t.Logf("Ray launches in %d; fewer nodes in %d, fewer with GPUs in %d, more placed in %d; where as much is placed, %d nodes for Ray's %d, on the mean %.3f",
		launching, fewer, fewerGPU, placesMore, ourNodes, rayNodes, ratios/float64(alike))
}

// karpenterCase is replicas that wait, and the nodes that Karpenter's own
// scheduler makes for them; see testdata/karpenter_oracle.go.txt.
type karpenterCase struct {
	Types []struct {
		CPU, MiB int
		Price    float64
	}
	Asks  []struct{ CPU, MiB, Count int }
	Nodes int
	Price float64
	MS    float64 // CPU time of Karpenter's scheduler
}

func karpenterCases(tb testing.TB) []karpenterCase {
	tb.Helper()
	return readCases[karpenterCase](tb, "testdata/karpenter.jsonl", 60)
}

func (c *karpenterCase) input(priced bool) placement.Input {
	var in placement.Input
	for i, kind := range c.Types {
		s := placement.Shape{Most: 1 << 20, Node: placement.Node{Group: fmt.Sprint(i), Imagined: true, Room: placement.Resources{CPU: kind.CPU, MemoryMB: kind.MiB}}}
		if priced {
			s.Price = kind.Price
		}
		in.Shapes = append(in.Shapes, s)
	}
	for i, a := range c.Asks {
		in.Asks = append(in.Asks, placement.Ask{Key: fmt.Sprint(i), Job: fmt.Sprint(i), Count: a.Count, Uses: placement.Resources{CPU: a.CPU, MemoryMB: a.MiB}})
	}
	return in
}

// TestNoDearerThanKarpenter holds that Pack's nodes cost no more than
// Karpenter's, and that without prices it makes no more of them.
func TestNoDearerThanKarpenter(t *testing.T) {
	var price, ourPrice float64
	var nodes, ourNodes, cheaper, fewer int
	for i, c := range karpenterCases(t) {
		priced := c.input(true)
		dear, many := placement.Pack(priced), placement.Pack(c.input(false))
		cost := costOf(priced, dear, true)
		if len(dear.Short)+len(many.Short) > 0 || cost > c.Price*(1+1e-6) || len(many.New) > c.Nodes {
			t.Errorf("case %d: ours cost %.4f, or are %d; Karpenter's are %d and cost %.4f", i+1, cost, len(many.New), c.Nodes, c.Price)
		}
		price, ourPrice = price+c.Price, ourPrice+cost
		nodes, ourNodes = nodes+c.Nodes, ourNodes+len(many.New)
		if cost < c.Price*(1-1e-6) {
			cheaper++
		}
		if len(many.New) < c.Nodes {
			fewer++
		}
	}
	t.Logf("cheaper in %d, in all %.0f for Karpenter's %.0f; fewer nodes in %d, in all %d for %d", cheaper, ourPrice, price, fewer, ourNodes, nodes)
}

// BenchmarkPeers packs what peers were asked. Their own CPU time is what their
// programs wrote down.
func BenchmarkPeers(b *testing.B) {
	var inputs []placement.Input
	theirs := 0.0
	for _, c := range rayCases(b) {
		inputs = append(inputs, c.input())
		theirs += c.MS
	}
	b.Run("Ray", func(b *testing.B) { benchmarkPeer(b, inputs, theirs) })
	for _, c := range karpenterCases(b)[:3] {
		b.Run(fmt.Sprintf("Karpenter/%d types, %d sizes, about %d replicas", len(c.Types), len(c.Asks), len(c.Asks)*c.Asks[0].Count), func(b *testing.B) {
			benchmarkPeer(b, []placement.Input{c.input(true)}, c.MS)
		})
	}
}

func benchmarkPeer(b *testing.B, inputs []placement.Input, theirs float64) {
	b.Helper()
	began := cpuTime(b)
	for b.Loop() {
		for _, in := range inputs {
			placement.Pack(in)
		}
	}
	ours := float64((cpuTime(b) - began).Microseconds()) / 1000 / float64(b.N)
	b.ReportMetric(ours, "cpu-ms/op")
	b.ReportMetric(theirs, "their-cpu-ms/op")
	b.ReportMetric(theirs/ours, "times")
}
