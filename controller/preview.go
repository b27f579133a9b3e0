package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// ErrWorldUnknown says that Nomad or Consul has not been seen, so that what a
// deploy would do cannot be told.
var ErrWorldUnknown = errors.New("nomad and consul have not been seen yet")

// Preview returns the steps that a deploy would lead to, and what Nomad has no
// room for at the moment and no worker group makes nodes for.
func (c *Controller) Preview(ctx context.Context, deploy raftstate.Command) (steps []reconcile.Step, warnings []string, err error) {
	view := c.view.current()
	if view.World == nil {
		return nil, nil, ErrWorldUnknown
	}
	if !view.World.NomadKnown || !view.World.ConsulKnown {
		return nil, nil, fmt.Errorf("%w: %s%s", ErrWorldUnknown, view.World.NomadError, view.World.ConsulError)
	}
	steps, err = reconcile.Preview(view.State, view.World, c.cfg.Now(), c.cfg.Settings, deploy)
	if err != nil {
		return nil, nil, err
	}
	made := map[string]bool{} // node pools that are about to be made: Nomad refuses to plan for these
	for _, s := range steps {
		if s.WritePool != nil {
			made[s.WritePool.Name] = true
		}
		if s.Register == nil {
			continue
		}
		if pool := s.Register.Job.NodePool; !hasPool(view.World, pool) || pool != nil && made[*pool] {
			continue
		}
		problem, err := c.cfg.Jobs.Plan(ctx, s.Register.Job)
		if err != nil {
			return nil, nil, fmt.Errorf("plan job %s: %w", *s.Register.Job.ID, err)
		}
		if problem != "" && !c.grows(view.State, s.Register.Job.NodePool) {
			warnings = append(warnings, fmt.Sprintf("no room now for all of job %s: %s", *s.Register.Job.ID, problem))
		}
	}
	return steps, warnings, nil
}

// hasPool says whether Nomad has a node pool, as far as is known.
func hasPool(world *reconcile.World, pool *string) bool {
	return pool == nil || !world.NodesKnown || *pool == "all" || world.Pools[*pool]
}

// grows says whether a worker group may order more nodes of a node pool.
func (c *Controller) grows(state *raftstate.State, pool *string) bool {
	for _, g := range state.WorkerGroups {
		if pool == nil || g.Spec.NodePool != *pool || g.Deleting || c.cfg.NodesDryRun || g.Spec.DryRun || g.Spec.Target.Kind == appspec.TargetNone {
			continue
		}
		nodes := 0
		for _, n := range state.Nodes {
			if n.Group == g.Name {
				nodes++
			}
		}
		if _, most, _ := g.Spec.NodeBounds(c.cfg.Now()); nodes < most {
			return true
		}
	}
	return false
}
