package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Plan is what is to be done now, in order. The next Diff sees what came of
// it, so a step that fails is simply planned again.
type Plan struct {
	Steps []Step
}

// Step is one idempotent act. Exactly one of the pointers is set.
type Step struct {
	Reason string // why, for people and logs

	Register    *Register
	Update      *Update
	Scale       *Scale
	Stop        *Stop
	WriteRoute  *WriteRoute
	DropRoute   *DropRoute
	WritePool   *WritePool
	WriteConfig *WriteConfig
	DropConfig  *DropConfig
	Propose     *raftstate.Command // without ID, At and By, which the executor fills in
}

// Register makes a Nomad job, or starts a stopped one again.
type Register struct {
	Job         *api.Job
	ModifyIndex uint64 // of the job that it replaces; 0: there must be none
}

// Update changes in a living job what needs no new replica, and leaves all else
// as it is there: what would be rendered now may differ from it, by another
// configuration of the servers or another release of them, and Nomad would
// replace every replica at once.
type Update struct {
	JobID       string
	Group       string
	Count       int
	Meta        map[string]string // of the group's service, see jobspec.LiveMeta
	ModifyIndex uint64
}

// Scale sets a job's count.
type Scale struct {
	JobID string
	Group string
	From  int
	Count int
}

// Stop stops a job; its replicas drain.
type Stop struct {
	JobID       string
	ModifyIndex uint64 // as seen when this was decided
}

// WriteRoute puts an application's route into the table.
type WriteRoute struct {
	Route       routes.Route
	ModifyIndex uint64 // of the entry that it replaces; 0: there must be none
}

// DropRoute takes an application's route out of the table.
type DropRoute struct {
	Application string
	ModifyIndex uint64
}

// WritePool makes a node pool, or describes one that is there. The sysbatch jobs
// of a group's prefetch blocks are jobs like any: Register and Stop.
type WritePool struct {
	Name        string
	Description string
	Meta        map[string]string
}

// String says the step in one line, with its reason.
func (s Step) String() string {
	var what string
	switch {
	case s.Register != nil:
		verb := "register"
		if s.Register.ModifyIndex != 0 {
			verb = "start"
		}
		what = fmt.Sprintf("%s job %s%s", verb, *s.Register.Job.ID, count(s.Register.Job))
	case s.Update != nil:
		what = fmt.Sprintf("update job %s, count %d", s.Update.JobID, s.Update.Count)
	case s.Scale != nil:
		what = fmt.Sprintf("scale job %s, count %d -> %d", s.Scale.JobID, s.Scale.From, s.Scale.Count)
	case s.Stop != nil:
		what = "stop job " + s.Stop.JobID
	case s.WriteRoute != nil:
		verb := "route"
		if s.WriteRoute.Route.Closed {
			verb = "close"
		}
		what = fmt.Sprintf(verb+" %s -> application %s%s", s.WriteRoute.Route.RoutePrefix, s.WriteRoute.Route.Application, parts(s.WriteRoute.Route))
	case s.WritePool != nil:
		what = "make node pool " + s.WritePool.Name
	case s.WriteConfig != nil:
		what = fmt.Sprintf("write the user_config of job %s (%s)", s.WriteConfig.JobID, s.WriteConfig.Hash)
	case s.DropConfig != nil:
		what = "drop the user_config of job " + s.DropConfig.JobID
	case s.DropRoute != nil:
		what = "drop the route of application " + s.DropRoute.Application
	case s.Propose != nil:
		what = "record " + proposal(s.Propose)
	}
	return what + ": " + s.Reason
}

// String says the plan, a step a line.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(s.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// parts says which generation takes which part of the requests, where there are
// several, and which versions share them within one.
func parts(r routes.Route) string {
	var list []string
	for _, g := range r.Generations() {
		var mixed []string
		for _, name := range slices.Sorted(maps.Keys(g.Deployments)) {
			if d := g.Deployments[name]; len(d.Also) > 0 {
				mixed = append(mixed, name+" "+strings.Join(d.Versions(), " and "))
			}
		}
		text := fmt.Sprintf("generation %d %d %%", g.Number, g.Weight)
		if g.Shadow > 0 {
			text += fmt.Sprintf(" and copies of %d %%", g.Shadow)
		}
		if len(mixed) > 0 {
			text += " (" + strings.Join(mixed, ", ") + ")"
		}
		if len(r.Others) > 0 || len(mixed) > 0 {
			list = append(list, text)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ", " + strings.Join(list, ", ")
}

// count says how many replicas a job has; one that runs once on each node has
// none.
func count(job *api.Job) string {
	if len(job.TaskGroups) == 0 || job.TaskGroups[0].Count == nil || job.Type != nil && *job.Type == api.JobTypeSysbatch {
		return ""
	}
	return fmt.Sprintf(", count %d", *job.TaskGroups[0].Count)
}

func proposal(c *raftstate.Command) string {
	switch {
	case c.EndRollout != nil:
		return fmt.Sprintf("version %d of application %s as %s", c.EndRollout.Version, c.EndRollout.Application, c.EndRollout.Status)
	case c.AdvanceRollout != nil:
		return fmt.Sprintf("version %d of application %s as ready for stage %d", c.AdvanceRollout.Version, c.AdvanceRollout.Application, c.AdvanceRollout.To+1)
	case c.SteerRollout != nil:
		return fmt.Sprintf("version %d of application %s as paused", c.SteerRollout.Version, c.SteerRollout.Application)
	case c.RefuseConfig != nil:
		return fmt.Sprintf("version %d of application %s as one for new replicas", c.RefuseConfig.Version, c.RefuseConfig.Application)
	case c.ForgetVersion != nil:
		return fmt.Sprintf("version %d of application %s as gone", c.ForgetVersion.Version, c.ForgetVersion.Application)
	case c.Forget != nil:
		return fmt.Sprintf("application %s as deleted", c.Forget.Application)
	default:
		return "a command"
	}
}
