package controller

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestPoolsThatGrow(t *testing.T) {
	c := &Controller{cfg: Config{Now: time.Now}}
	pool := "gpu"
	for name, test := range map[string]struct {
		change func(*raftstate.WorkerGroup)
		want   bool
	}{
		"it may have more nodes": {func(*raftstate.WorkerGroup) {}, true},
		"it has all it may have": {func(g *raftstate.WorkerGroup) { g.Spec.MaxNodes = 1 }, false},
		"it is being deleted":    {func(g *raftstate.WorkerGroup) { g.Deleting = true }, false},
		"it only tells":          {func(g *raftstate.WorkerGroup) { g.Spec.DryRun = true }, false},
		"it makes nothing":       {func(g *raftstate.WorkerGroup) { g.Spec.Target.Kind = appspec.TargetNone }, false},
		"of another pool":        {func(g *raftstate.WorkerGroup) { g.Spec.NodePool = "cpu" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := &raftstate.WorkerGroup{Name: "g", Spec: &appspec.WorkerGroup{
				Name: "g", NodePool: pool, MaxNodes: 2, Target: appspec.NodeTarget{Kind: appspec.TargetProcess},
			}}
			test.change(g)
			state := &raftstate.State{
				WorkerGroups: map[string]*raftstate.WorkerGroup{"g": g},
				Nodes:        map[string]*raftstate.Node{"g-1": {ID: "g-1", Group: "g"}},
			}
			if got := c.grows(state, &pool); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
	if c.grows(&raftstate.State{}, nil) {
		t.Error("a job without a pool")
	}
}

func TestPoolsThatNomadHas(t *testing.T) {
	world := &reconcile.World{NodesKnown: true, Pools: map[string]bool{"default": true, "gpu": true}}
	for pool, want := range map[string]bool{"gpu": true, "all": true, "default": true, "new": false} {
		if got := hasPool(world, &pool); got != want {
			t.Errorf("%s: %v", pool, got)
		}
	}
	pool := "gpu"
	if !hasPool(&reconcile.World{}, &pool) || !hasPool(world, nil) {
		t.Error("what is not known, and a job without a pool, are for Nomad to judge")
	}
}
