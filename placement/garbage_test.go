package placement_test

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/placement"
)

// TestEveryReplicaIsAccountedFor packs what makes no sense, and holds that each
// replica is on a node, on a new one, or short with a reason; and that the same
// input gives the same answer.
func TestEveryReplicaIsAccountedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.SampledFrom([]int{0, 1, -1, 2, 3, 100, 4000, math.MaxInt, math.MinInt, 1 << 52})
		word := rapid.SampledFrom([]string{"", "a", "default", "all", "*", "${meta.a}", "${attr.a}", "${node.unique.id}", "gpu", "a/gpu", "a/gpu/b", "${device.ids}", "${device.attr.a}", "(", "> 1", "1 GiB", "NaN"})
		operand := rapid.SampledFrom([]string{"=", "!=", "<", ">=", "regexp", "version", "semver", "set_contains", "is_set", "is_not_set", "none"})
		constraints := func() (list []placement.Constraint) {
			for range rapid.IntRange(0, 2).Draw(t, "constraints") {
				list = append(list, placement.Constraint{Left: word.Draw(t, "left"), Operand: operand.Draw(t, "operand"), Right: word.Draw(t, "right")})
			}
			return list
		}
		resources := func() placement.Resources {
			return placement.Resources{CPU: number.Draw(t, "cpu"), MemoryMB: number.Draw(t, "memory"), DiskMB: number.Draw(t, "disk"), Cores: number.Draw(t, "cores")}
		}
		node := func() placement.Node {
			n := placement.Node{
				Group: word.Draw(t, "group"), Pool: rapid.SampledFrom([]string{"", "default", "a"}).Draw(t, "pool"), Room: resources(),
				DiskKnown: rapid.Bool().Draw(t, "disk known"), Imagined: rapid.Bool().Draw(t, "imagined"),
				Meta:  map[string]string{"a": word.Draw(t, "meta")},
				Ports: placement.Ports{Low: number.Draw(t, "low"), High: number.Draw(t, "high"), Reserved: map[int]bool{number.Draw(t, "reserved"): true}},
			}
			for range rapid.IntRange(0, 2).Draw(t, "devices") {
				d := placement.Device{Vendor: "a", Type: "gpu", Name: word.Draw(t, "model"), Attributes: map[string]string{"a": word.Draw(t, "value")}}
				for i := range rapid.IntRange(0, 3).Draw(t, "instances") {
					d.Instances = append(d.Instances, fmt.Sprint("i", i/2))
				}
				n.Devices = append(n.Devices, d)
			}
			if rapid.Bool().Draw(t, "busy") {
				n.Allocs = []placement.Alloc{{Job: "j0", Uses: resources(), Ports: []int{number.Draw(t, "port")}, Movable: true, Devices: map[string][]string{"a/gpu/": {"i0", "i0", "none"}}}}
			}
			return n
		}
		var in placement.Input
		for range rapid.IntRange(0, 3).Draw(t, "nodes") {
			n := node()
			in.Nodes = append(in.Nodes, &n)
		}
		for range rapid.IntRange(0, 3).Draw(t, "shapes") {
			in.Shapes = append(in.Shapes, placement.Shape{
				Node: node(), Most: rapid.SampledFrom([]int{-1, 0, 1, 50}).Draw(t, "most"),
				Price: rapid.SampledFrom([]float64{0, 1, 2, -1, math.NaN(), math.Inf(1), math.SmallestNonzeroFloat64, math.MaxFloat64}).Draw(t, "price"),
			})
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "asks") {
			a := placement.Ask{
				Key: fmt.Sprint("k", i), Job: rapid.SampledFrom([]string{"", "j0", "j1"}).Draw(t, "job"), Count: rapid.SampledFrom([]int{-1, 0, 1, 2, 5, 60, 100000}).Draw(t, "count"),
				Pool: word.Draw(t, "pool"), Uses: resources(), DynamicPorts: number.Draw(t, "ports"), Constraints: constraints(),
				DistinctHosts: rapid.Bool().Draw(t, "apart"), Priority: number.Draw(t, "priority"),
			}
			if rapid.Bool().Draw(t, "static") {
				a.StaticPorts = []int{number.Draw(t, "port")}
			}
			for range rapid.IntRange(0, 2).Draw(t, "requests") {
				a.Devices = append(a.Devices, placement.DeviceAsk{
					Name: word.Draw(t, "name"), Count: number.Draw(t, "instances"), Constraints: constraints(),
					Affinities: []placement.Affinity{{Constraint: placement.Constraint{Left: word.Draw(t, "left"), Operand: "=", Right: "a"}, Weight: number.Draw(t, "weight")}},
				})
			}
			if rapid.Bool().Draw(t, "property") {
				a.Distinct = []placement.DistinctProperty{{Property: word.Draw(t, "property"), Limit: number.Draw(t, "limit")}}
			}
			in.Asks = append(in.Asks, a)
		}
		r := placement.Pack(in)
		left := map[string]int{}
		for _, a := range in.Asks {
			left[a.Key] = max(0, a.Count)
		}
		for _, p := range r.Placed {
			left[in.Asks[p.Ask].Key] -= p.Count
		}
		made := map[int]int{}
		for _, n := range r.New {
			if made[n.Shape]++; made[n.Shape] > in.Shapes[n.Shape].Most {
				t.Fatalf("%d nodes of shape %d", made[n.Shape], n.Shape)
			}
			for key, count := range n.Holds {
				left[key] -= count
			}
		}
		for _, s := range r.Short {
			left[in.Asks[s.Ask].Key] -= s.Count
			if s.Headline == "" || s.Count <= 0 {
				t.Fatalf("no reason: %+v", s)
			}
		}
		for key, n := range left {
			if n != 0 {
				t.Fatalf("%d replicas of %s are nowhere", n, key)
			}
		}
		if again := placement.Pack(in); fmt.Sprint(again) != fmt.Sprint(r) {
			t.Fatalf("another answer to the same question:\n%v\n%v", r, again)
		}
		for _, n := range in.Nodes {
			for i := range in.Asks {
				_ = placement.Fits(n, &in.Asks[i]).String()
			}
		}
	})
}
