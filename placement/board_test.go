package placement_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/placement"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 11)) }

// fleet is nodes with replicas of jobs on them.
func fleet(nodes, replicas, jobs int, r *rand.Rand) ([]*placement.Node, map[string]*placement.Ask) {
	asks := map[string]*placement.Ask{}
	var names []string
	for j := range jobs {
		name := fmt.Sprint("job", j)
		a := &placement.Ask{
			Key: name, Job: name, Count: 1, DynamicPorts: 1, DistinctHosts: j%10 == 9,
			Uses: placement.Resources{CPU: 200 + r.IntN(5)*200, MemoryMB: 128 << r.IntN(4)},
		}
		if j%4 == 3 {
			a.Devices = []placement.DeviceAsk{{Name: "gpu", Count: 1}}
		}
		asks[name] = a
		names = append(names, name)
	}
	var list []*placement.Node
	for i := range nodes {
		n := &placement.Node{ID: fmt.Sprint("n", i), Pool: "default", Room: placement.Resources{CPU: 8000, MemoryMB: 16384}}
		if i%3 == 0 {
			n.Devices = []placement.Device{gpu(4)}
		}
		list = append(list, n)
	}
	for i := range replicas {
		a := asks[names[r.IntN(len(names))]]
		n := list[r.IntN(nodes)]
		// One node at a time, so that replicas are where dice put them.
		for _, spot := range placement.NewBoard([]*placement.Node{n}).Place(a, 1) {
			alloc := placement.Alloc{ID: fmt.Sprint("a", i), Job: a.Job, Uses: a.Uses, Movable: true, Ports: []int{20000 + len(n.Allocs)}}
			if len(a.Devices) > 0 {
				used := map[string]bool{}
				for _, o := range n.Allocs {
					for _, id := range o.Devices["nvidia/gpu/H100"] {
						used[id] = true
					}
				}
				for _, id := range n.Devices[0].Instances {
					if !used[id] {
						alloc.Devices = map[string][]string{"nvidia/gpu/H100": {id}}
						break
					}
				}
			}
			if spot.Count == 1 {
				n.Allocs = append(n.Allocs, alloc)
			}
		}
	}
	return list, asks
}

// free asks a board how much room it has, in many ways.
func free(b *placement.Board, asks map[string]*placement.Ask) string {
	out := ""
	for j := range len(asks) {
		a := asks[fmt.Sprint("job", j)]
		mark := b.Mark()
		spots := b.Place(a, 1<<20)
		out += fmt.Sprintln(j, spots)
		b.Undo(mark)
	}
	return out
}

func TestUndoTakesEverythingBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, asks := fleet(rapid.IntRange(1, 150).Draw(t, "nodes"), 100, 12, newRand(rapid.Uint64().Draw(t, "seed")))
		b := placement.NewBoard(nodes)
		want := free(b, asks)
		if got := free(b, asks); got != want {
			t.Fatalf("asking changed the answer:\n%s\n%s", got, want)
		}
		for range 20 {
			switch i := rapid.IntRange(0, len(nodes)-1).Draw(t, "node"); rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				b.Place(asks[fmt.Sprint("job", i%len(asks))], i)
			case 1:
				b.Evict(i, asks)
			case 2:
				b.Close(i)
			}
		}
		b.Undo(0)
		if got := free(b, asks); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// TestEvictedReplicasFitInTruth empties nodes one after the other and holds the
// outcome against a board that is laid out anew: of like replicas it is certain
// how many fit.
func TestEvictedReplicasFitInTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, asks := fleet(rapid.IntRange(2, 12).Draw(t, "nodes"), rapid.IntRange(1, 120).Draw(t, "replicas"), 1, newRand(rapid.Uint64().Draw(t, "seed")))
		asks["job0"].DistinctHosts = rapid.Bool().Draw(t, "apart")
		b := placement.NewBoard(nodes)
		var kept []*placement.Node
		moved := 0
		for i, n := range nodes {
			if b.Evict(i, asks) == "" {
				moved += len(n.Allocs)
			} else {
				kept = append(kept, n)
			}
		}
		fits := 0
		for _, spot := range placement.NewBoard(kept).Place(asks["job0"], 1<<20) {
			fits += spot.Count
		}
		if moved > fits {
			t.Fatalf("%d replicas of emptied nodes, and room for %d on the %d that are left", moved, fits, len(kept))
		}
	})
}

func TestEvict(t *testing.T) {
	room := placement.Resources{CPU: 1000, MemoryMB: 1000}
	node := func(allocs ...placement.Alloc) *placement.Node {
		return &placement.Node{Pool: "default", Room: room, Allocs: allocs}
	}
	small := placement.Alloc{ID: "s", Job: "small", Movable: true, Uses: placement.Resources{CPU: 400, MemoryMB: 400}}
	asks := map[string]*placement.Ask{
		"small": {Key: "small", Job: "small", Uses: small.Uses},
		"apart": {Key: "apart", Job: "apart", Uses: small.Uses, DistinctHosts: true},
	}
	apart, fixed, system, stranger := small, small, small, small
	apart.Job, stranger.Job = "apart", "stranger"
	fixed.Movable, system.Movable, system.System = false, false, true
	closed := node()
	closed.Closed = "draining"
	for _, c := range []struct {
		name  string
		nodes []*placement.Node
		want  string
	}{
		{"an empty node", []*placement.Node{node()}, ""},
		{"room elsewhere", []*placement.Node{node(small, small), node(), closed}, ""},
		{"room for some", []*placement.Node{node(small, small), node(small)}, "1 of 2 replicas of job small fit on other nodes"},
		{"a closed node has none", []*placement.Node{node(small), closed}, "0 of 1 replicas of job small fit on other nodes"},
		{"what does not move", []*placement.Node{node(fixed), node()}, "allocation s of job small does not move"},
		{"a system job", []*placement.Node{node(system), node()}, ""},
		{"a job that is not known", []*placement.Node{node(stranger), node()}, "what job stranger asks for is not known"},
		{"hosts apart", []*placement.Node{node(apart), node(apart)}, "0 of 1 replicas of job apart fit on other nodes"},
		{"hosts apart with one to spare", []*placement.Node{node(apart), node(apart), node()}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := placement.NewBoard(c.nodes)
			if got := b.Evict(0, asks); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("one after the other", func(t *testing.T) {
		b := placement.NewBoard([]*placement.Node{node(small), node(small), node(small)})
		if got := b.Evict(0, asks); got != "" {
			t.Error(got)
		}
		if got := b.Evict(1, asks); got == "" {
			t.Error("the third node took three of which two fill it")
		}
	})
}

// BenchmarkEvict asks of each of 5,000 nodes with 20,000 replicas whether it
// could be emptied.
func BenchmarkEvict(b *testing.B) {
	nodes, asks := fleet(5000, 20000, 200, newRand(3))
	b.Run("board", func(b *testing.B) {
		began := cpuTime(b)
		for b.Loop() {
			placement.NewBoard(nodes)
		}
		b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	})
	b.Run("evict each of 5000", func(b *testing.B) {
		board := placement.NewBoard(nodes)
		began, could := cpuTime(b), 0
		for b.Loop() {
			could = 0
			for i := range nodes {
				mark := board.Mark()
				if board.Evict(i, asks) == "" {
					could++
				}
				board.Undo(mark)
			}
		}
		b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		b.ReportMetric(float64(could), "could")
	})
}

// BenchmarkPackOntoNodes places replicas on nodes that are nearly full.
func BenchmarkPackOntoNodes(b *testing.B) {
	nodes, _ := fleet(5000, 40000, 200, newRand(3))
	in := placement.Input{Nodes: nodes, Shapes: shapes400(true), Asks: asksUnlike(20000, newRand(4))}
	began := cpuTime(b)
	var r placement.Result
	for b.Loop() {
		r = placement.Pack(in)
	}
	b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(len(r.Placed)), "placed")
	b.ReportMetric(float64(len(r.New)), "nodes")
}
