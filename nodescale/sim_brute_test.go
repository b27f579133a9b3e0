package nodescale_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// fewest is the least number of nodes that hold all of these, by trying every
// way to put them.
func fewest(sizes [][2]int, room [2]int) int {
	slices.SortFunc(sizes, func(a, b [2]int) int { return b[0] + b[1] - a[0] - a[1] })
	best := len(sizes)
	var bins [][2]int
	var try func(i int)
	try = func(i int) {
		if len(bins) >= best {
			return
		}
		if i == len(sizes) {
			best = len(bins)
			return
		}
		seen := map[[2]int]bool{}
		for b := range bins {
			if was := bins[b]; !seen[was] && was[0] >= sizes[i][0] && was[1] >= sizes[i][1] {
				seen[was] = true
				bins[b] = [2]int{was[0] - sizes[i][0], was[1] - sizes[i][1]}
				try(i + 1)
				bins[b] = was
			}
		}
		bins = append(bins, [2]int{room[0] - sizes[i][0], room[1] - sizes[i][1]})
		try(i + 1)
		bins = bins[:len(bins)-1]
	}
	try(0)
	return best
}

// After a burst of replicas as many nodes are ordered at once as there must be.
// Also when the leader changes, not more than one is ordered while these are on
// their way: placement fills what is on its way less cleverly than what is to be
// ordered, so that something may seem to have no place.
func TestSimulatedBurstOrdersTheFewestNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := [2]int{4000, 8192}
		group := simGroup(simSpec("cpu", 20))
		var jobs []nodescale.SimJob
		var demand []nodescale.SimDemand
		var sizes [][2]int
		for i := range rapid.IntRange(1, 4).Draw(t, "jobs") {
			j := simJob(fmt.Sprintf("j%d", i), "cpu")
			j.Ask.Uses.CPU = rapid.IntRange(1, 8).Draw(t, "cpu") * 500
			j.Ask.Uses.MemoryMB = rapid.IntRange(1, 8).Draw(t, "memory") * 1024
			count := rapid.IntRange(1, 3).Draw(t, "replicas")
			for range count {
				sizes = append(sizes, [2]int{j.Ask.Uses.CPU, j.Ask.Uses.MemoryMB})
			}
			jobs = append(jobs, j)
			demand = append(demand, nodescale.SimDemand{At: time.Second, Job: j.Ask.Job, Replicas: count})
		}
		in := nodescale.SimInput{Until: 25 * time.Second, Groups: []nodescale.SimGroup{group}, Jobs: jobs, Demand: demand}
		for range rapid.IntRange(0, 3).Draw(t, "leaders") {
			in.Faults = append(in.Faults, nodescale.SimFault{At: seconds(t, "leader at", 0, 25), Kind: nodescale.SimLeader})
		}
		first := 0
		in.Judge = func(_ nodescale.Input, _ nodescale.Memory, d nodescale.Decision) {
			if first == 0 {
				first = len(d.Changes)
			}
		}
		all, want := run(t, in).Launches, fewest(sizes, room)
		if first != want || all > want+1 {
			t.Fatalf("%d nodes are ordered at once and %d in all, and %d are enough for %v", first, all, want, sizes)
		}
	})
}
