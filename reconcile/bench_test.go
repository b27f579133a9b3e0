package reconcile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// BenchmarkDiff is one pass over 1,000 applications of two deployments with
// five replicas each, all as they should be.
func BenchmarkDiff(b *testing.B) {
	c := large(b, 1000, 5)
	b.ReportAllocs()
	for b.Loop() {
		if plan := c.diff(); len(plan.Steps) > 0 {
			b.Fatalf("not settled: %s", plan)
		}
	}
}

// BenchmarkSummariseAll is the status of the same 1,000 applications.
func BenchmarkSummariseAll(b *testing.B) {
	c := large(b, 1000, 5)
	b.ReportAllocs()
	for b.Loop() {
		reconcile.SummariseAll(c.state, c.world, c.now, settings())
	}
}

func large(tb testing.TB, applications, replicas int) *cluster {
	tb.Helper()
	c := newCluster()
	for i := range applications {
		spec := application(fmt.Sprintf("app-%d", i), "a", "b")
		for _, d := range spec.Deployments {
			d.NumReplicas = replicas
		}
		c.command(tb, deploy(spec))
	}
	for _, app := range c.state.Applications {
		app.Rollout = raftstate.Rollout{Status: raftstate.RolloutSuccessful, StartedAt: c.now, EndedAt: c.now.Add(time.Second)}
	}
	c.world = simulateAll(c, c.diff().Steps)
	return c
}

// simulateAll is Simulate for many steps at once, without a copy for each.
func simulateAll(c *cluster, steps []reconcile.Step) *reconcile.World {
	world := c.world
	for _, s := range steps {
		_, world = reconcile.Simulate(c.state, world, c.now, s)
	}
	return world
}
