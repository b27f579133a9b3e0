package nodescale_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// seconds draws a time.
func seconds(t *rapid.T, name string, low, high int) time.Duration {
	return time.Duration(rapid.IntRange(low*1000, high*1000).Draw(t, name)) * time.Millisecond
}

// anyGroups draws a few worker groups, their targets sound or not.
func anyGroups(t *rapid.T, sound bool) []nodescale.SimGroup {
	var groups []nodescale.SimGroup
	for i := range rapid.IntRange(1, 3).Draw(t, "groups") {
		spec := simSpec(fmt.Sprintf("g%d", i), rapid.IntRange(1, 8).Draw(t, "most"))
		spec.MinNodes = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "least")
		spec.MinNodes = min(spec.MinNodes, spec.MaxNodes)
		spec.Node.CPU = float64(rapid.IntRange(2, 8).Draw(t, "cores"))
		spec.Priority = rapid.IntRange(0, 1).Draw(t, "priority")
		spec.Price = rapid.SampledFrom([]float64{0, 1, 3}).Draw(t, "price")
		spec.IdleTimeout = appspec.Duration(seconds(t, "idle", 1, 120))
		spec.LaunchTimeout = appspec.Duration(seconds(t, "launch timeout", 60, 120))
		spec.DrainTimeout = appspec.Duration(seconds(t, "drain timeout", 60, 120))
		spec.ScaleDown = &appspec.ScaleDown{
			Consolidate: rapid.Bool().Draw(t, "consolidate"), ConsolidateAfter: appspec.Duration(seconds(t, "after", 1, 60)),
			Budget: rapid.SampledFrom([]string{"1", "10%", "100%", "0"}).Draw(t, "budget"),
		}
		switch rapid.IntRange(0, 4).Draw(t, "buffer") {
		case 0:
			spec.Buffer = &appspec.Buffer{Nodes: rapid.IntRange(1, 2).Draw(t, "buffer nodes")}
		case 1:
			spec.Buffer = &appspec.Buffer{Replicas: rapid.IntRange(1, 3).Draw(t, "buffer replicas"), Resources: &appspec.Resources{CPU: 1, MemoryMB: 1024}}
		}
		g := simGroup(spec)
		g.Answer = nodescale.SimDelay{Mean: seconds(t, "answer", 0, 3)}
		g.Launch = nodescale.SimDelay{Mean: seconds(t, "launch", 1, 40), Spread: seconds(t, "spread", 0, 10)}
		g.Remove = seconds(t, "remove", 0, 20)
		g.ByHand = rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "by hand")
		if !sound {
			g.Fails = rapid.SampledFrom([]float64{0, 0.3, 1}).Draw(t, "fails")
			g.Strays = rapid.SampledFrom([]float64{0, 0.3}).Draw(t, "strays")
			g.Hangs = rapid.SampledFrom([]float64{0, 0.2}).Draw(t, "hangs")
			if rapid.Bool().Draw(t, "spot") {
				g.Life = seconds(t, "life", 60, 1200)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

func anyJobs(t *rapid.T, groups []nodescale.SimGroup) []nodescale.SimJob {
	var jobs []nodescale.SimJob
	for i := range rapid.IntRange(1, 4).Draw(t, "jobs") {
		pool, named := "all", ""
		if rapid.Bool().Draw(t, "one pool") {
			pool = rapid.SampledFrom(groups).Draw(t, "group").Spec.NodePool
			if rapid.Bool().Draw(t, "by the group's name") {
				named = pool // of which each group has its own
			}
		}
		j := simJob(fmt.Sprintf("j%d", i), pool)
		j.Group = named
		j.Ask.Uses.CPU = rapid.IntRange(1, 6).Draw(t, "cpu") * 500
		j.Ask.Uses.MemoryMB = rapid.IntRange(1, 8).Draw(t, "memory") * 512
		j.Ask.DistinctHosts = rapid.IntRange(0, 5).Draw(t, "distinct") == 0
		if rapid.IntRange(0, 2).Draw(t, "spread out") == 0 {
			j.Ask.Spreads = nil
		}
		j.Start = nodescale.SimDelay{Mean: seconds(t, "start", 0, 20), Spread: seconds(t, "start spread", 0, 5)}
		j.Stop = seconds(t, "stop", 0, 10)
		jobs = append(jobs, j)
	}
	return jobs
}

// anyDemand draws demand for so many seconds.
func anyDemand(t *rapid.T, jobs []nodescale.SimJob, until int) []nodescale.SimDemand {
	var loads [][]nodescale.SimDemand
	for _, j := range jobs {
		var load []nodescale.SimDemand
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			load = append(load, nodescale.SimDemand{At: seconds(t, "at", 0, until), Job: j.Ask.Job, Replicas: rapid.IntRange(0, 12).Draw(t, "replicas")})
		}
		loads = append(loads, load)
	}
	return nodescale.SimTogether(loads...)
}

func anyFaults(t *rapid.T, until int, clock bool) []nodescale.SimFault {
	kinds := []nodescale.SimFaultKind{nodescale.SimLeader, nodescale.SimHold, nodescale.SimBlind}
	if clock {
		kinds = append(kinds, nodescale.SimClock)
	}
	var faults []nodescale.SimFault
	for range rapid.IntRange(0, 6).Draw(t, "faults") {
		faults = append(faults, nodescale.SimFault{
			At: seconds(t, "fault at", 0, until), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			For: seconds(t, "fault for", 0, 300), Jump: seconds(t, "jump", -3600, 3600),
		})
	}
	return faults
}

func anyOthers(t *rapid.T, groups []nodescale.SimGroup, until int) []nodescale.SimOther {
	var others []nodescale.SimOther
	for range rapid.IntRange(0, 10).Draw(t, "others") {
		others = append(others, nodescale.SimOther{
			At: seconds(t, "other at", 0, until), For: seconds(t, "other for", 1, 300),
			Group: rapid.SampledFrom(groups).Draw(t, "other group").Spec.Name, CPU: 500, MemoryMB: 512,
		})
	}
	return others
}

// anyShapes draws changes of what the groups' nodes are like.
func anyShapes(t *rapid.T, groups []nodescale.SimGroup, until int) []nodescale.SimCommand {
	var commands []nodescale.SimCommand
	for range rapid.SampledFrom([]int{0, 1, 2, 5}).Draw(t, "shapes") {
		spec := *rapid.SampledFrom(groups).Draw(t, "reshaped group").Spec
		spec.Node.CPU = float64(rapid.IntRange(2, 8).Draw(t, "other cores"))
		commands = append(commands, nodescale.SimCommand{
			At: seconds(t, "reshaped at", 0, until),
			Command: raftstate.Command{Deploy: &raftstate.Deploy{
				WorkerGroups: []raftstate.DeployWorkerGroup{{Spec: &spec}}, Rollouts: raftstate.RolloutsOfNodes,
			}},
		})
	}
	return commands
}

// run simulates, and says what happened when a promise was broken.
func run(t *rapid.T, in nodescale.SimInput) nodescale.SimResult {
	var log []string
	in.Start, in.Chance = simStart(), chance(uint64(rapid.IntRange(0, 1000).Draw(t, "seed")))
	in.Tell = func(at time.Duration, what string) {
		if len(log) < 2000 {
			log = append(log, fmt.Sprintf("%12s %s", at, what))
		}
	}
	result, err := nodescale.Simulate(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Broken) > 0 {
		t.Fatalf("promises broken:\n%s\nwhat happened:\n%s", strings.Join(result.Broken, "\n"), strings.Join(log, "\n"))
	}
	return result
}

// Whatever the load, the targets and the faults: bounds hold, nothing is taken
// away in use, nothing early, nothing without knowledge.
func TestSimulatedLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const until = 1200
		groups := anyGroups(t, false)
		jobs := anyJobs(t, groups)
		run(t, nodescale.SimInput{
			Until: until * time.Second, Groups: groups, Jobs: jobs, Demand: anyDemand(t, jobs, until),
			Faults: anyFaults(t, until, true), Others: anyOthers(t, groups, until), People: anyShapes(t, groups, until),
		})
	})
}

// Demand that stays as it is: after a while nothing changes any more, and
// nothing waits that could be served.
func TestSimulatedDemandSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const until = 900
		groups := anyGroups(t, true)
		jobs := anyJobs(t, groups)
		result := run(t, nodescale.SimInput{
			Until: 2 * time.Hour, Groups: groups, Jobs: jobs, Demand: anyDemand(t, jobs, until),
			Faults: anyFaults(t, until, false), People: anyShapes(t, groups, until),
		})
		if result.LastChange > 6300 {
			t.Fatalf("a node changed at %.0f s, and demand not since %d s: %+v", result.LastChange, until, result)
		}
	})
}

// Where groups may have as many nodes as they need, and replicas find room on
// them, none of an earlier shape is left.
func TestSimulatedShapesEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const until = 900
		groups := anyGroups(t, true)
		for i := range groups {
			groups[i].Spec.MaxNodes, groups[i].Spec.Buffer = 100, nil
		}
		jobs := anyJobs(t, groups)
		for i := range jobs { // what is of several sizes may fit in one order and not in another
			jobs[i].Ask.Uses = jobs[0].Ask.Uses
		}
		shapes := anyShapes(t, groups, until)
		for _, c := range shapes {
			c.Command.Deploy.WorkerGroups[0].Spec.Node.CPU += 2 // so that each can hold any replica
		}
		result := run(t, nodescale.SimInput{
			Until: 2 * time.Hour, Groups: groups, Jobs: jobs, Demand: anyDemand(t, jobs, until),
			Faults: anyFaults(t, until, false), People: shapes,
		})
		if result.EndWaiting == 0 && result.EndOutdated > 0 {
			t.Fatalf("nodes of an earlier shape are left, though all replicas serve: %+v", result)
		}
	})
}

// Without demand there are in the end as many nodes as min_nodes and buffers
// say.
func TestSimulatedNodesGoWithoutDemand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const until = 900
		groups := anyGroups(t, true)
		jobs := anyJobs(t, groups)
		demand := anyDemand(t, jobs, until)
		for _, j := range jobs {
			demand = append(demand, nodescale.SimDemand{At: until * time.Second, Job: j.Ask.Job})
		}
		want := 0
		for _, g := range groups {
			least := max(0, g.Spec.MinNodes-g.ByHand)
			if b := g.Spec.Buffer; b != nil {
				least = max(least, b.Nodes)
			}
			if b := g.Spec.Buffer; b != nil && b.Replicas > 0 {
				return // how many nodes these need is placement's to say
			}
			if g.Spec.ScaleDown.Budget == "0" {
				return
			}
			want += min(least, g.Spec.MaxNodes-g.ByHand)
		}
		result := run(t, nodescale.SimInput{
			Until: 4 * time.Hour, Groups: groups, Jobs: jobs, Demand: demand,
			Faults: anyFaults(t, until, false), Others: anyOthers(t, groups, until), People: anyShapes(t, groups, until),
		})
		if result.EndNodes != want {
			t.Fatalf("%d nodes are left, not %d: %+v", result.EndNodes, want, result)
		}
	})
}

// Whoever decides more often than it says is due comes to no other end.
func TestSimulatedAgainIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const until = 600
		groups := anyGroups(t, true)
		jobs := anyJobs(t, groups)
		demand := anyDemand(t, jobs, until)
		in := nodescale.SimInput{Until: 20 * time.Minute, Groups: groups, Jobs: slices.Clone(jobs), Demand: demand, Start: simStart(), Chance: chance(1)}
		lazy, err := nodescale.Simulate(in)
		if err != nil {
			t.Fatal(err)
		}
		in.Anyway, in.Chance = 5*time.Second, chance(1)
		eager, err := nodescale.Simulate(in)
		if err != nil {
			t.Fatal(err)
		}
		if late := lazy.WaitingSeconds - eager.WaitingSeconds; late > 30 && lazy.WaitingSeconds > 1.3*eager.WaitingSeconds {
			t.Fatalf("replicas waited longer with decisions only when they are due:\n%+v\n%+v", lazy, eager)
		}
	})
}
