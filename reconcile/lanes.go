package reconcile

import (
	"slices"

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
func lanes(app *raftstate.Application) []lane {
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
	next := 0 // of the wanted version's generation
	if rolling && !inside {
		next = stage.Weight
		l := lane{generation: app.Wanted.Generation, weight: stage.Weight, shadow: stage.Shadow}
		l.layers = []layer{{app.Wanted, roleServes}}
		list[0].weight -= stage.Weight
		list = append(list, l)
	}
	for _, l := range slices.Backward(app.Leaving) {
		if slices.ContainsFunc(list, func(other lane) bool { return other.generation == l.Version.Generation }) {
			continue
		}
		other := lane{generation: l.Version.Generation, layers: []layer{{l.Version, roleLeaves}}}
		if rolling && l.Cause == raftstate.LeavingSuperseded {
			// What it had goes to the version that superseded it first.
			other.weight = min(max(0, l.Weight-next), list[0].weight)
			list[0].weight -= other.weight
			next = max(0, next-l.Weight)
		}
		other.drains = other.weight == 0
		list = append(list, other)
	}
	return list
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
