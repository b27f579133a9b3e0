package reconcile

import (
	"cmp"
	"fmt"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// checksOf returns the checks that app's new version is to pass before it gets
// any request: of a generation, whose address leads to nothing else.
func checksOf(app *raftstate.Application) []*appspec.Check {
	r := app.Wanted.Spec.Rollout
	if !app.RollingOut() || app.Rollout.Promoted || !app.Rollout.Strategy.Generations() || r == nil || r.Gates == nil {
		return nil
	}
	return r.Gates.Checks
}

// runChecks starts the checks of app's new version once its first replicas pass.
// They stay, with what they found, until the rollout is over.
func (d *differ) runChecks(app *raftstate.Application) {
	list := checksOf(app)
	for _, check := range list {
		d.needed[jobspec.CheckID(app.Name, check.Name, app.Wanted.Number)] = true
	}
	if len(list) == 0 || app.Rollout.Stage > 0 || app.Rollout.Paused != nil {
		return
	}
	if _, waiting := d.missing(app); waiting != "" {
		return
	}
	for _, check := range list {
		id := jobspec.CheckID(app.Name, check.Name, app.Wanted.Number)
		if state, _ := d.world.Checked(id); state != CheckMissing || d.world.Jobs[id].ClusterID != "" && d.world.Jobs[id].ClusterID != d.state.ClusterID {
			continue
		}
		in := jobspec.Input{
			ClusterID: d.state.ClusterID, Application: app.Wanted.Spec, Generation: app.Wanted.Generation,
			CoreMHz:   d.world.CoreMHz[cmp.Or(d.settings.Placement.NodePool, api.NodePoolDefault)],
			Placement: d.settings.Placement, HandleAddress: d.settings.HandleAddress,
		}
		d.add(Step{
			Register: &Register{Job: jobspec.RenderCheck(in, app.Wanted.Number, check), ModifyIndex: d.world.Jobs[id].ModifyIndex},
			Reason:   fmt.Sprintf("version %d is to pass check %s before it gets any request", app.Wanted.Number, check.Name),
		})
	}
}

// checks says which check of app's new version is waited for, and which has
// failed and why.
func (d *differ) checks(app *raftstate.Application) (waiting, fault string) {
	if app.Rollout.Stage > 0 {
		return "", ""
	}
	for _, check := range checksOf(app) {
		id := jobspec.CheckID(app.Name, check.Name, app.Wanted.Number)
		switch state, reason := d.world.Checked(id); state {
		case CheckPassed:
			continue
		case CheckFailed:
			return "", fmt.Sprintf("check %q failed: %s (nomad alloc logs -job %s shows what it wrote)", check.Name, reason, id)
		case CheckMissing:
			waiting = cmp.Or(waiting, fmt.Sprintf("check %q: it has not begun", check.Name))
		case CheckRunning:
			if last := d.world.newest(id); last != nil && !last.CreatedAt.IsZero() && d.now.Sub(last.CreatedAt) > check.Within() {
				return "", fmt.Sprintf("check %q has not ended within %s (nomad alloc logs -job %s shows what it wrote)", check.Name, check.Within(), id)
			}
			text := fmt.Sprintf("check %q: it runs", check.Name)
			if reason != "" {
				text += ": " + reason
			}
			waiting = cmp.Or(waiting, text)
		}
	}
	return waiting, ""
}
