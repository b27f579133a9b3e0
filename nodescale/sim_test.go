package nodescale_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// simStart is a Monday midnight.
func simStart() time.Time { return time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) }

func chance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// simSpec is a worker group with nodes of 4 cores, so many at most.
func simSpec(name string, most int, change ...func(*appspec.WorkerGroup)) *appspec.WorkerGroup {
	g := &appspec.WorkerGroup{
		Name: name, NodePool: name, MaxNodes: most,
		Node:   appspec.NodeShape{CPU: 4, MemoryMB: 8192, CoreMHz: 1000},
		Target: appspec.NodeTarget{Kind: appspec.TargetExec, Command: []string{"/bin/nodes"}},
	}
	for _, c := range change {
		c(g)
	}
	g.Complete()
	return g
}

// simGroup is a worker group whose nodes take 30 s.
func simGroup(spec *appspec.WorkerGroup) nodescale.SimGroup {
	return nodescale.SimGroup{
		Spec: spec, CoreMHz: 1000, Answer: nodescale.SimDelay{Mean: time.Second},
		Launch: nodescale.SimDelay{Mean: 30 * time.Second}, Remove: 5 * time.Second,
	}
}

// simJob is a job whose replicas take a core each, and 2 s to start.
func simJob(id, pool string) nodescale.SimJob {
	return nodescale.SimJob{
		Application: "app", Deployment: id,
		Ask: placement.Ask{
			Key: id, Job: id, Namespace: "default", TaskGroup: "replicas", Pool: pool,
			Uses:    placement.Resources{CPU: 1000, MemoryMB: 1024},
			Spreads: []placement.Spread{{Attribute: "${node.unique.id}", Weight: 100}},
		},
		Start: nodescale.SimDelay{Mean: 2 * time.Second}, Stop: time.Second,
	}
}

// step is demand that changes at these moments, in seconds.
func step(job string, list ...int) []nodescale.SimDemand {
	var load []nodescale.SimDemand
	for i := 0; i+1 < len(list); i += 2 {
		load = append(load, nodescale.SimDemand{At: time.Duration(list[i]) * time.Second, Job: job, Replicas: list[i+1]})
	}
	return load
}

func simulate(t *testing.T, in nodescale.SimInput) nodescale.SimResult {
	t.Helper()
	var log []string
	if in.Start.IsZero() {
		in.Start = simStart()
	}
	if in.Chance == nil {
		in.Chance = chance(1)
	}
	in.Tell = func(at time.Duration, what string) {
		if len(log) < 400 {
			log = append(log, fmt.Sprintf("%10s %s", at, what))
		}
	}
	result, err := nodescale.Simulate(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Broken) > 0 {
		t.Errorf("promises broken: %q", result.Broken)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range log {
				t.Log(line)
			}
			t.Logf("%+v", result)
		}
	})
	return result
}

// A node that joined while Nomad did not answer is there when it does: that its
// launch_timeout ran out meanwhile says nothing.
func TestSimulatedNodeJoinsUnseen(t *testing.T) {
	group := simGroup(simSpec("cpu", 4, func(g *appspec.WorkerGroup) { g.LaunchTimeout = appspec.Duration(time.Minute) }))
	result := simulate(t, nodescale.SimInput{
		Until: 30 * time.Minute, Groups: []nodescale.SimGroup{group}, Jobs: []nodescale.SimJob{simJob("a", "cpu")},
		Demand: step("a", 0, 4),
		Faults: []nodescale.SimFault{{At: 5 * time.Second, Kind: nodescale.SimBlind, For: 5 * time.Minute}},
	})
	if result.Launches != 1 || result.Failures != 0 || result.EndNodes != 1 {
		t.Errorf("%+v", result)
	}
}

// Demand that stays as it is leaves the nodes as they are, whatever is kept free
// beside it.
func TestSimulatedConstantDemandMovesNothing(t *testing.T) {
	free := func(b appspec.Buffer) func(*appspec.WorkerGroup) {
		return func(g *appspec.WorkerGroup) {
			g.Buffer = &b
			g.ScaleDown = &appspec.ScaleDown{Consolidate: true, ConsolidateAfter: appspec.Duration(time.Minute), Budget: "10%"}
		}
	}
	one := &appspec.Resources{CPU: 1, MemoryMB: 1024}
	for name, spec := range map[string]*appspec.WorkerGroup{
		"no buffer":            simSpec("cpu", 8, free(appspec.Buffer{})),
		"a node":               simSpec("cpu", 8, free(appspec.Buffer{Nodes: 1})),
		"two nodes":            simSpec("cpu", 8, free(appspec.Buffer{Nodes: 2})),
		"room for a replica":   simSpec("cpu", 8, free(appspec.Buffer{Replicas: 1, Resources: one})),
		"room for 4 replicas":  simSpec("cpu", 8, free(appspec.Buffer{Replicas: 4, Resources: one})),
		"room and at max":      simSpec("cpu", 3, free(appspec.Buffer{Replicas: 4, Resources: one})),
		"min_nodes and a node": simSpec("cpu", 8, free(appspec.Buffer{Nodes: 1}), func(g *appspec.WorkerGroup) { g.MinNodes = 3 }),
	} {
		for _, replicas := range []int{1, 2, 4, 5, 7} {
			t.Run(fmt.Sprintf("%s, %d replicas", name, replicas), func(t *testing.T) {
				result := simulate(t, nodescale.SimInput{
					Until: 3 * time.Hour, Groups: []nodescale.SimGroup{simGroup(spec)}, Jobs: []nodescale.SimJob{simJob("a", "cpu")},
					Demand: step("a", 0, replicas),
				})
				if result.LastChange > 3600 {
					t.Errorf("nodes still change after %.0f s", result.LastChange)
				}
			})
		}
	}
}

// Replicas that no group can hold, or for which no node may be had, do not keep
// others from being moved together.
func TestSimulatedHopelessReplicasKeepNothing(t *testing.T) {
	for name, hopeless := range map[string]func(*nodescale.SimJob){
		"too large for any":      func(j *nodescale.SimJob) { j.Ask.Uses.CPU = 50_000 },
		"no group of its pool":   func(j *nodescale.SimJob) { j.Ask.Pool = "elsewhere" },
		"its group is at most 1": func(j *nodescale.SimJob) { j.Ask.Pool = "full" },
	} {
		t.Run(name, func(t *testing.T) {
			other := simJob("b", "cpu")
			hopeless(&other)
			result := simulate(t, nodescale.SimInput{
				Until:  time.Hour,
				Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 8)), simGroup(simSpec("full", 1))},
				Jobs:   []nodescale.SimJob{simJob("a", "cpu"), other},
				Demand: nodescale.SimTogether(step("a", 0, 16, 60, 4), step("b", 0, 20)),
			})
			want := 2 // 4 replicas, and the one beside them for which there must be room when they move
			if name == "its group is at most 1" {
				want++
			}
			if result.EndNodes != want {
				t.Errorf("%d nodes at the end, want %d", result.EndNodes, want)
			}
		})
	}
}

// A group whose launches all fail is tried less and less often, and another that
// fits serves meanwhile.
func TestSimulatedAnotherGroupTakesOver(t *testing.T) {
	for name, spoil := range map[string]func(*nodescale.SimGroup){
		"it refuses":         func(g *nodescale.SimGroup) { g.Fails = 1 },
		"it hangs":           func(g *nodescale.SimGroup) { g.Hangs = 1 },
		"its nodes are lost": func(g *nodescale.SimGroup) { g.Strays = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := simGroup(simSpec("bad", 10, func(g *appspec.WorkerGroup) {
				g.Price, g.Priority, g.LaunchTimeout = 1, 10, appspec.Duration(2*time.Minute)
			}))
			spoil(&bad)
			good := simGroup(simSpec("good", 10, func(g *appspec.WorkerGroup) { g.Price = 2 }))
			result := simulate(t, nodescale.SimInput{
				Until: 2 * time.Hour, Groups: []nodescale.SimGroup{bad, good}, Jobs: []nodescale.SimJob{simJob("a", "all")},
				Demand: step("a", 0, 8, 1800, 16),
			})
			if result.EndWaiting > 0 || result.Wait.Max > 400 {
				t.Errorf("replicas wait: %+v", result)
			}
			if result.Failures == 0 || result.Failures > 6 {
				t.Errorf("the group that fails was tried %d times", result.Failures)
			}
		})
	}
}

// Whoever leads goes on where the last one stopped: the same nodes are ordered,
// once, and those that are empty stay until the new leader has seen them so.
func TestSimulatedLeadersChange(t *testing.T) {
	in := func(every time.Duration) nodescale.SimInput {
		in := nodescale.SimInput{
			Until: time.Hour, Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 20))}, Jobs: []nodescale.SimJob{simJob("a", "cpu")},
			Demand: step("a", 0, 20, 600, 40, 1200, 8, 1800, 0),
		}
		for at := every; every > 0 && at < in.Until; at += every {
			in.Faults = append(in.Faults, nodescale.SimFault{At: at, Kind: nodescale.SimLeader})
		}
		return in
	}
	calm := simulate(t, in(0))
	often := simulate(t, in(7*time.Second))
	if often.Launches != calm.Launches || often.WaitingSeconds > 1.2*calm.WaitingSeconds {
		t.Errorf("with another leader every 7 s %+v, with one %+v", often, calm)
	}
	if often.Removals > 0 {
		t.Errorf("%d nodes went, and no leader has seen one empty for idle_timeout, 1m", often.Removals)
	}
	if seldom := simulate(t, in(3*time.Minute)); seldom.EndNodes != 0 || seldom.Launches != calm.Launches {
		t.Errorf("with another leader every 3 minutes %+v", seldom)
	}
}

// Bounds that people change hold from then on, and a group that they delete
// goes, its replicas to where there is room first.
func TestSimulatedPeople(t *testing.T) {
	deploy := &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{
		{Spec: simSpec("cpu", 3)},
		{Spec: simSpec("more", 8, func(g *appspec.WorkerGroup) { g.MinNodes = 7 })},
	}}
	in := nodescale.SimInput{
		Until: 30 * time.Minute, Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 8)), simGroup(simSpec("more", 8))},
		Jobs: []nodescale.SimJob{simJob("a", "all")}, Demand: step("a", 0, 24),
		People: []nodescale.SimCommand{
			{At: 10 * time.Minute, Command: raftstate.Command{Deploy: deploy}},
			{At: 40 * time.Minute, Command: raftstate.Command{DeleteWorkerGroup: &raftstate.DeleteWorkerGroup{WorkerGroup: "cpu"}}},
		},
	}
	in.Groups[0].Spec.ScaleDown = &appspec.ScaleDown{Budget: "10%"}
	deploy.WorkerGroups[0].Spec.ScaleDown = in.Groups[0].Spec.ScaleDown
	if result := simulate(t, in); result.EndWaiting > 0 || result.EndNodes != 3+7 || result.LeastSpare < 0 {
		t.Errorf("max_nodes is 3 and min_nodes 7: %+v", result)
	}
	in.Until = 2 * time.Hour
	if result := simulate(t, in); result.EndWaiting > 0 || result.EndNodes != 7 || result.LeastSpare < 0 {
		t.Errorf("one group is deleted: %+v", result)
	}
}

// Nodes that could all be done without go one after the other, without a wait
// between them: replicas that move are no reason to begin anew.
func TestSimulatedConsolidationGoesOn(t *testing.T) {
	deploy := &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{
		{Spec: simSpec("more", 8, func(g *appspec.WorkerGroup) { g.MinNodes = 7 })},
	}}
	result := simulate(t, nodescale.SimInput{
		Until: 25 * time.Minute, Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 8)), simGroup(simSpec("more", 8))},
		Jobs: []nodescale.SimJob{simJob("a", "all")}, Demand: step("a", 0, 24),
		People: []nodescale.SimCommand{{At: 10 * time.Minute, Command: raftstate.Command{Deploy: deploy}}},
	})
	if result.EndNodes != 7 {
		t.Errorf("%d nodes are left, and 7 hold everything since 15 minutes: %+v", result.EndNodes, result)
	}
}

// Replicas that come and go all the time do not put a consolidation off for ever.
func TestSimulatedConsolidationAmongReplicasThatComeAndGo(t *testing.T) {
	large := func(least int) *appspec.WorkerGroup {
		return simSpec("more", 1, func(g *appspec.WorkerGroup) { g.MinNodes, g.Price, g.Node.CPU, g.Node.MemoryMB = least, 9, 16, 65536 })
	}
	flicker := step("b")
	for at := 600; at < 1800; at += 20 {
		flicker = append(flicker, step("b", at, 1, at+10, 0)...)
	}
	result := simulate(t, nodescale.SimInput{
		Until:  30 * time.Minute,
		Groups: []nodescale.SimGroup{simGroup(simSpec("cpu", 1, func(g *appspec.WorkerGroup) { g.Price = 1 })), simGroup(large(0))},
		Jobs:   []nodescale.SimJob{simJob("a", "all"), simJob("b", "all")},
		Demand: nodescale.SimTogether(step("a", 0, 2), flicker),
		People: []nodescale.SimCommand{{
			At:      5 * time.Minute,
			Command: raftstate.Command{Deploy: &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{{Spec: large(1)}}}},
		}},
	})
	if result.EndNodes != 1 {
		t.Errorf("%d nodes are left, and everything has fitted on one for 24 minutes: %+v", result.EndNodes, result)
	}
}
