package reconcile

import (
	"slices"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// lane is one generation of an application and what it is to do now. Versions of
// one generation take requests side by side; those of two never do.
type lane struct {
	generation int
	weight     int // percent of the requests to the application
	shadow     int // percent of the requests that it gets copies of
	layers     []layer
	drains     bool // it takes no requests any more and finishes those that it has
}

// layer is one version of a lane. Those before it in the lane come first: it is
// to have what they do not have yet.
type layer struct {
	version *raftstate.Version
	role    role
}

// role is what a version is to its lane.
type role int

const (
	roleNew    role = iota // takes over within the lane, by and by
	roleHolds              // was superseded before it served: it goes on with what it has
	roleServes             // is what the lane is to be, or has been
	roleLeaves             // is on its way out: it only fills in
	roleFailed             // the same, and it was not good
)

// lanes returns the generations of app that are to have replicas: the serving
// one first, then that which takes over, then those on their way out.
func (w sight) lanes(app *raftstate.Application) []lane {
	serving := lane{generation: app.Serving.Generation, weight: 100}
	rolling := app.RollingOut()
	stage := app.Stage()
	inside := rolling && app.Wanted.Generation == app.Serving.Generation
	if inside {
		serving.layers = append(serving.layers, layer{app.Wanted, roleNew})
	}
	serving.layers = append(serving.layers, held(app, serving.generation)...)
	serving.layers = append(serving.layers, layer{app.Serving, roleServes})
	serving.layers = append(serving.layers, gone(app, serving.generation)...)
	list := []lane{serving}
	lack := 0
	if len(app.Leaving) > 0 || app.Rollout.Weight > 0 {
		lack = 100 - w.holds(app, app.Serving, serving.layers)
	}
	add := func(l lane, least, had int) {
		// A generation that was good enough until now keeps what the serving
		// one has too few replicas for.
		if had = min(had, lack); had > least {
			had = min(had, w.holds(app, l.layers[0].version, l.layers))
		}
		l.weight = min(max(least, had), list[0].weight)
		lack = max(0, lack-l.weight)
		list[0].weight -= l.weight
		list = append(list, l)
	}
	if rolling && !inside {
		add(lane{
			generation: app.Wanted.Generation, shadow: stage.Shadow, layers: []layer{{app.Wanted, roleServes}},
		}, stage.Weight, app.Rollout.Weight)
	}
	for _, l := range slices.Backward(app.Leaving) {
		if slices.ContainsFunc(list, func(other lane) bool { return other.generation == l.Version.Generation }) {
			continue
		}
		had := l.Weight
		if l.Cause == raftstate.LeavingFailed {
			had = 0
		}
		add(lane{generation: l.Version.Generation, layers: []layer{{l.Version, roleLeaves}}}, 0, had)
		own := &list[len(list)-1]
		own.drains = own.weight == 0
	}
	// What serves may have no share left before the next one is told to have taken
	// over. Its replicas still have requests then, for which they call each other.
	list[0].drains = list[0].weight == 0
	return list
}

// holds is the percent of the requests that the versions of a lane have the
// replicas for, by what the first of them is to have: 100 at most.
func (w sight) holds(app *raftstate.Application, of *raftstate.Version, layers []layer) int {
	least := 100
	for _, d := range of.Spec.Deployments {
		target := of.Replicas[d.Name]
		if target <= 0 {
			continue
		}
		healthy, counted := 0, map[string]bool{}
		for _, l := range layers {
			id := jobspec.JobID(app.Name, d.Name, l.version.DeploymentVersion(d.Name))
			if !counted[id] && l.role != roleFailed {
				counted[id] = true
				healthy += w.healthy(id)
			}
		}
		least = min(least, 100*healthy/target)
	}
	return least
}

// held returns the versions of a generation that were superseded by the rollout
// that runs, newest first.
func held(app *raftstate.Application, generation int) []layer {
	return leaving(app, generation, true)
}

// gone returns the versions of a generation that are on their way out for good,
// newest first.
func gone(app *raftstate.Application, generation int) []layer {
	return leaving(app, generation, false)
}

func leaving(app *raftstate.Application, generation int, holds bool) []layer {
	var list []layer
	for _, l := range slices.Backward(app.Leaving) {
		as := roleLeaves
		switch {
		case app.RollingOut() && l.Cause == raftstate.LeavingSuperseded:
			as = roleHolds
		case l.Cause == raftstate.LeavingFailed:
			as = roleFailed
		}
		if l.Version.Generation == generation && holds == (as == roleHolds) {
			list = append(list, layer{l.Version, as})
		}
	}
	return list
}

// changing says whether more than one version of app may have replicas, so that
// how many each is to have depends on how the others are.
func changing(app *raftstate.Application) bool {
	return app.RollingOut() || len(app.Leaving) > 0
}
