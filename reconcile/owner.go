package reconcile

import (
	"cmp"

	"github.com/serve-nomad/serve-nomad/jobspec"
)

// Owner is what a step is of: an application, or a worker group, or the node pool
// of several groups, or nothing that the step would name.
type Owner struct {
	Application string
	WorkerGroup string
	Pool        string
}

// OwnersOf returns what each of a list of steps is of. A job that is not there yet
// says it itself, in the step that registers it.
func OwnersOf(world *World, steps []Step) []Owner {
	fresh := map[string]Owner{}
	for _, s := range steps {
		if s.Register != nil {
			meta, _, _ := jobspec.Read(s.Register.Job)
			fresh[*s.Register.Job.ID] = Owner{Application: meta.Application, WorkerGroup: meta.WorkerGroup}
		}
	}
	list := make([]Owner, len(steps))
	for i, s := range steps {
		id := s.jobID()
		owner, known := fresh[id]
		switch {
		case known:
		case id != "":
			owner = Owner{Application: world.Jobs[id].Application}
		default:
			owner = s.owner()
		}
		list[i] = owner
	}
	return list
}

// jobID returns the id of the job that a step is on; "": it is on none.
func (s Step) jobID() string {
	switch {
	case s.Register != nil:
		return *s.Register.Job.ID
	case s.Update != nil:
		return s.Update.JobID
	case s.Scale != nil:
		return s.Scale.JobID
	case s.Stop != nil:
		return s.Stop.JobID
	case s.WriteConfig != nil:
		return s.WriteConfig.JobID
	case s.DropConfig != nil:
		return s.DropConfig.JobID
	default:
		return ""
	}
}

// owner is what a step is of that is on no job.
func (s Step) owner() Owner {
	switch {
	case s.WriteRoute != nil:
		return Owner{Application: s.WriteRoute.Route.Application}
	case s.DropRoute != nil:
		return Owner{Application: s.DropRoute.Application}
	case s.WritePool != nil:
		return Owner{Pool: s.WritePool.Name}
	case s.Propose == nil:
		return Owner{}
	}
	c, names := s.Propose, make([]string, 0, 6)
	if c.EndRollout != nil {
		names = append(names, c.EndRollout.Application)
	}
	if c.AdvanceRollout != nil {
		names = append(names, c.AdvanceRollout.Application)
	}
	if c.SteerRollout != nil {
		names = append(names, c.SteerRollout.Application)
	}
	if c.ForgetVersion != nil {
		names = append(names, c.ForgetVersion.Application)
	}
	if c.RefuseConfig != nil {
		names = append(names, c.RefuseConfig.Application)
	}
	if c.Forget != nil {
		names = append(names, c.Forget.Application)
	}
	return Owner{Application: cmp.Or(names...)}
}
