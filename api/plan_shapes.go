package api

import (
	"maps"
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// reshapes says whether the command gives a worker group's nodes another shape:
// applications move then that it does not name, and the steps of each cannot be
// told without those of the others.
func (p *planning) reshapes() bool {
	return slices.ContainsFunc(p.deploy.WorkerGroups, func(in raftstate.DeployWorkerGroup) bool {
		old := p.view.State.WorkerGroups[in.Spec.Name]
		return old != nil && old.Shape != p.next.WorkerGroups[in.Spec.Name].Shape
	})
}

// moved plans for the applications that move to nodes of another shape, though
// the command does not deploy them.
func (p *planning) moved() error {
	for _, name := range slices.Sorted(maps.Keys(p.next.Applications)) {
		deployed := slices.ContainsFunc(p.deploy.Applications, func(in raftstate.DeployApplication) bool { return in.Spec.Name == name })
		if back := p.command.Rollback; back != nil {
			deployed = back.Application == name
		}
		if deployed || p.next.Applications[name] == p.view.State.Applications[name] {
			continue
		}
		if err := p.applicationOf(name); err != nil {
			return err
		}
		p.answer.Applications[len(p.answer.Applications)-1].Moved = true
	}
	return nil
}

// applicationOf plans for an application that the command changes without naming
// its spec.
func (p *planning) applicationOf(name string) error {
	plan := applicationPlan(p.view.State, p.next, name)
	if plan.Action != ActionNone {
		p.warn(misfits(p.next, p.next.Applications[name].Wanted.Spec)...)
		steps, err := p.partOf(name)
		if err != nil {
			return err
		}
		plan.Steps, p.changes = p.untold(steps), true
		plan.Jobs = append(plan.Jobs, reconcile.JobCounts(p.view.World, steps)...)
	}
	p.answer.Applications = append(p.answer.Applications, plan)
	return nil
}

// partOf returns the steps of the whole command that are of one application; "":
// those of none.
func (p *planning) partOf(name string) ([]reconcile.Step, error) {
	steps, err := p.steps(p.command)
	if err != nil || !p.known {
		return nil, err
	}
	owner := map[string]string{} // of jobs
	for _, c := range reconcile.JobCounts(p.view.World, steps) {
		owner[c.Job] = c.Application
	}
	return slices.DeleteFunc(steps, func(s reconcile.Step) bool { return stepOf(s, owner) != name }), nil
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
