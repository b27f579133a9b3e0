package api

import (
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// poolSteps returns the steps that are of a node pool.
func poolSteps(steps []reconcile.Step, pool string) []reconcile.Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s reconcile.Step) bool { return s.WritePool == nil || s.WritePool.Name != pool })
}

// partsOf returns steps by the application that they are of; "": those of none.
func partsOf(world *reconcile.World, steps []reconcile.Step) map[string][]reconcile.Step {
	owner := map[string]string{} // of jobs
	for _, c := range reconcile.JobCounts(world, steps) {
		owner[c.Job] = c.Application
	}
	parts := map[string][]reconcile.Step{}
	for _, s := range steps {
		name := stepOf(s, owner)
		parts[name] = append(parts[name], s)
	}
	return parts
}

// stepOf returns the application that a step is of; "": none.
func stepOf(s reconcile.Step, owner map[string]string) string {
	switch {
	case s.Register != nil:
		return owner[*s.Register.Job.ID]
	case s.Update != nil:
		return owner[s.Update.JobID]
	case s.Scale != nil:
		return owner[s.Scale.JobID]
	case s.Stop != nil:
		return owner[s.Stop.JobID]
	case s.WriteConfig != nil:
		return owner[s.WriteConfig.JobID]
	case s.DropConfig != nil:
		return owner[s.DropConfig.JobID]
	case s.WriteRoute != nil:
		return s.WriteRoute.Route.Application
	case s.DropRoute != nil:
		return s.DropRoute.Application
	case s.Propose != nil:
		return proposalOf(s.Propose)
	default:
		return ""
	}
}

// proposalOf returns the application that a finding of the leader is of.
func proposalOf(c *raftstate.Command) string {
	switch {
	case c.EndRollout != nil:
		return c.EndRollout.Application
	case c.AdvanceRollout != nil:
		return c.AdvanceRollout.Application
	case c.SteerRollout != nil:
		return c.SteerRollout.Application
	case c.ForgetVersion != nil:
		return c.ForgetVersion.Application
	case c.RefuseConfig != nil:
		return c.RefuseConfig.Application
	case c.Forget != nil:
		return c.Forget.Application
	default:
		return ""
	}
}
