package reconcile

import (
	"cmp"
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Counts returns those steps of Diff that do nothing but set the count of a job
// that lives, for the applications that differ between before, which may be nil,
// and state, or of which jobs have another surge. They need no fresh look at the
// world: a count is set to what it is to be, whatever it was.
func Counts(before, state *raftstate.State, world *World, settings Settings) []Step {
	if state.ClusterID == "" || !world.NomadKnown {
		return nil
	}
	surges := surges(state, world)
	surged := surgedSince(before, surges, world)
	var changed []*raftstate.Application
	for name, app := range state.Applications {
		// How many replicas each of several versions has goes by how they are.
		if !app.Deleting && !changing(app) && (before == nil || before.Applications[name] != app || surged[name]) {
			changed = append(changed, app)
		}
	}
	slices.SortFunc(changed, func(a, b *raftstate.Application) int { return cmp.Compare(a.Name, b.Name) })
	d := differ{state: state, world: sight{World: world, surges: surges}, settings: settings}
	for _, app := range changed {
		for _, n := range settledNeeds(app) {
			if _, exists := world.Jobs[n.jobID()]; exists {
				d.job(n)
			}
		}
	}
	return slices.DeleteFunc(d.steps, func(s Step) bool { return s.Scale == nil })
}

// surgedSince returns the applications whose jobs had another surge before.
func surgedSince(before *raftstate.State, now map[string]surge, world *World) map[string]bool {
	if before == nil {
		return nil // every one of them is looked at
	}
	was, changed := surges(before, world), map[string]bool{}
	for _, list := range []map[string]surge{was, now} {
		for id := range list {
			if was[id].replicas != now[id].replicas {
				changed[world.Jobs[id].Application] = true
			}
		}
	}
	return changed
}
