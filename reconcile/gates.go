package reconcile

import (
	"fmt"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// gates holds app's new version to what is asked of it: its queries, and how it
// serves beside the old one.
func (d *differ) gates(app *raftstate.Application) analysis.Finding {
	for _, q := range d.world.Queries[app.Name] {
		if q.Reason != "" {
			return analysis.Finding{Worse: true, Reason: fmt.Sprintf("query %q: %s", q.Name, q.Reason)}
		}
	}
	return d.compare(app)
}

// queriesWait says which query keeps app's rollout where it is; "": none.
func (d *differ) queriesWait(app *raftstate.Application) string {
	r := app.Wanted.Spec.Rollout
	if app.Rollout.Promoted || r == nil || r.Gates == nil {
		return ""
	}
	stage := app.Stage()
	asked := stage.Weight > 0 || !app.Rollout.Strategy.Generations() && app.Rollout.Stage > 0
	if asked && len(d.world.Queries[app.Name]) < len(r.Gates.Queries) {
		return "its queries have not been asked yet"
	}
	for _, q := range d.world.Queries[app.Name] {
		if waits := q.Waits(); waits != "" {
			return waits
		}
	}
	return ""
}

// compare finds whether the new version serves worse than the old one.
func (d *differ) compare(app *raftstate.Application) analysis.Finding {
	if d.world.Served == nil {
		return analysis.Finding{}
	}
	var limits analysis.Limits
	limits.ErrorIncrease, limits.LatencyRatio, _ = app.Wanted.Spec.Rollout.Limits()
	stage := app.Stage()
	var said analysis.Finding
	for _, dep := range app.Wanted.Spec.Deployments {
		is := d.served(app, app.Wanted, dep.Name)
		var found analysis.Finding
		switch {
		case app.Wanted.DeploymentVersion(dep.Name) == app.Serving.DeploymentVersion(dep.Name):
			continue
		case stage.Shadow > 0:
			found = analysis.CompareShadow(is.Shadow, limits)
		case app.Serving.Spec.Deployment(dep.Name) == nil:
			continue
		default:
			found = analysis.Compare(d.served(app, app.Serving, dep.Name), is, limits)
		}
		if found.Reason != "" {
			found.Reason = dep.Name + ": " + found.Reason
		}
		if found.Worse {
			return found
		}
		if said.Reason == "" || found.Doubts && !said.Doubts {
			said = found
		}
	}
	return said
}

func (d *differ) served(app *raftstate.Application, v *raftstate.Version, deployment string) analysis.Standing {
	return d.world.Served[jobspec.JobID(app.Name, deployment, v.DeploymentVersion(deployment))]
}
