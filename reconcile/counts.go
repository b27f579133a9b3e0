package reconcile

import (
	"cmp"
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Counts returns those steps of Diff that do nothing but set the count of a job
// that lives, for the applications that differ between before, which may be nil,
// and state. They need no fresh look at the world: a count is set to what it is
// to be, whatever it was.
func Counts(before, state *raftstate.State, world *World, settings Settings) []Step {
	if state.ClusterID == "" || !world.NomadKnown {
		return nil
	}
	var changed []*raftstate.Application
	for name, app := range state.Applications {
		if !app.Deleting && (before == nil || before.Applications[name] != app) {
			changed = append(changed, app)
		}
	}
	slices.SortFunc(changed, func(a, b *raftstate.Application) int { return cmp.Compare(a.Name, b.Name) })
	d := differ{state: state, world: sight{World: world}, settings: settings}
	for _, app := range changed {
		for _, n := range needs(app) {
			if _, exists := world.Jobs[n.jobID()]; exists {
				d.job(n)
			}
		}
	}
	return slices.DeleteFunc(d.steps, func(s Step) bool { return s.Scale == nil })
}
