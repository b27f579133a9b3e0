package controller

import (
	"testing"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

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
