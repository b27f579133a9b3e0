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

func rayCases(tb testing.TB) (cases []rayCase) {
	tb.Helper()
	file, err := os.Open("testdata/ray_nodes.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // Ray's version
	for lines.Scan() {
		var c rayCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			tb.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil || len(cases) < 200 {
		tb.Fatalf("%d cases: %v", len(cases), err)
	}
	return cases
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
	var launching, fewer, fewerGPU, placesMore, rayNodes, ourNodes int
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
		rayNodes += ray.nodes
		ourNodes += ours.nodes
		if ours.nodes < ray.nodes {
			fewer++
		}
		if ours.gpuNodes < ray.gpuNodes {
			fewerGPU++
		}
	}
	t.Logf("Ray launches in %d; fewer nodes in %d, fewer with GPUs in %d, more placed in %d; where as much is placed, %d nodes for Ray's %d",
		launching, fewer, fewerGPU, placesMore, ourNodes, rayNodes)
}
