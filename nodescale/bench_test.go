package nodescale_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// bigScene is 2,000 nodes in 8 worker groups with 20,000 replicas of 100 jobs,
// of nodes that hold up to perNode each.
func bigScene(perNode int) nodescale.Input {
	const nodes, groups, jobs, replicas = 2000, 8, 100, 20_000
	in := nodescale.Input{
		Now: noon, Groups: map[string]*raftstate.WorkerGroup{}, Records: map[string]*raftstate.Node{},
		CoreMHz: map[string]int{}, Jobs: map[string]nodescale.Job{},
	}
	for g := range groups {
		name := fmt.Sprintf("group-%d", g)
		spec := simSpec(name, nodes)
		spec.Node.CPU, spec.Node.MemoryMB = 16, 65536
		in.Groups[name] = &raftstate.WorkerGroup{Name: name, Spec: spec, At: noon.Add(-time.Hour)}
		in.CoreMHz[name] = 1000
	}
	for j := range jobs {
		job := simJob(fmt.Sprintf("job-%d", j), fmt.Sprintf("group-%d", j%groups))
		job.Ask.Uses = placement.Resources{CPU: 500 * (1 + j%3), MemoryMB: 1024 * (1 + j%4)}
		in.Jobs[job.Ask.Job] = nodescale.Job{
			Application: "app", Deployment: job.Ask.Job, Target: replicas / jobs, Passing: replicas / jobs, Ask: job.Ask,
		}
	}
	left := replicas
	for i := range nodes {
		id := fmt.Sprintf("group-%d-%05d", i%groups, i)
		n := &placement.Node{
			ID: "nomad-" + id, Name: id, Pool: fmt.Sprintf("group-%d", i%groups), Datacenter: "dc1",
			Attributes: map[string]string{"kernel.name": "linux", "cpu.arch": "amd64", "unique.hostname": id}, Meta: map[string]string{},
			Drivers: map[string]bool{"docker": true}, Room: placement.Resources{CPU: 16000, MemoryMB: 65536},
			Said: placement.Said{Status: "ready", Eligible: true, Launch: id, Since: noon.Add(-time.Hour)},
		}
		for k := 0; k < perNode && left > 0; k++ {
			j := (i%groups + groups*((i/groups+k*5)%(jobs/groups))) % jobs
			job := in.Jobs[fmt.Sprintf("job-%d", j)]
			n.Allocs = append(n.Allocs, placement.Alloc{
				ID: fmt.Sprintf("%s-%d", id, k), Job: job.Ask.Job, Namespace: "default", Group: "replicas", Uses: job.Ask.Uses,
				Ours: true, Movable: true, Ports: []int{20000 + k},
			})
			left--
		}
		in.Nodes = append(in.Nodes, n)
		in.Records[id] = &raftstate.Node{
			ID: id, Group: n.Pool, Phase: raftstate.NodeReady, NomadID: n.ID,
			At: noon.Add(-time.Hour), PhaseAt: noon.Add(-time.Hour), JoinedAt: noon.Add(-time.Hour),
		}
	}
	return in
}

// waiting adds replicas without a place.
func waiting(in *nodescale.Input, count int) {
	for id, job := range in.Jobs {
		a := job.Ask
		a.Count = count / len(in.Jobs)
		job.Target += a.Count
		in.Jobs[id] = job
		in.Asks = append(in.Asks, a)
	}
}

func BenchmarkDecide(b *testing.B) {
	still := bigScene(10)
	for _, g := range still.Groups {
		scale := g.Spec.EffectiveScaleDown()
		scale.Consolidate = false
		g.Spec.ScaleDown = &scale
	}
	burst := bigScene(10)
	waiting(&burst, 5000)
	full := bigScene(10)
	for _, n := range full.Nodes {
		n.Room = placement.Resources{CPU: 1000, MemoryMB: 1024} // nothing more fits
	}
	waiting(&full, 5000)
	for _, c := range []struct {
		name string
		in   nodescale.Input
	}{
		{"nothing to do, no consolidation", still},
		{"candidates everywhere", bigScene(10)},
		{"5000 pending, room for them", burst},
		{"5000 pending, no room", full},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, memory := nodescale.Decide(c.in, nodescale.Memory{})
			in := c.in
			in.Now = in.Now.Add(time.Second)
			b.ReportAllocs()
			for b.Loop() {
				nodescale.Decide(in, memory)
			}
		})
	}
}
