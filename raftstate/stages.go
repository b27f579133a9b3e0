package raftstate

import (
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Stage is a part of a rollout. It begins when the replicas that it needs pass
// and the one before it has lasted; after the last one the rollout is over.
type Stage struct {
	Name   string        // "starting", "shadow", "first replicas", "10 percent"
	Weight int           // percent of the requests that the new generation takes
	Shadow int           // percent of the requests of which it gets copies
	All    bool          // every replica of the new version is to be there, not only the first ones; of a rolling change
	Lasts  time.Duration // at least
}

// Stages returns the stages of a's rollout. The first one needs nothing: the
// new version's first replicas start. A rollout that has nothing to take over
// from has that one alone.
func (a *Application) Stages() []Stage {
	r, strategy := a.Wanted.Spec.Rollout, a.Rollout.Strategy
	stages := []Stage{{Name: "starting"}}
	switch {
	case !a.differs() || strategy == appspec.StrategyLive:
		return stages
	case !strategy.Generations():
		return append(stages,
			Stage{Name: "first replicas", Lasts: r.Bake()},
			Stage{Name: "all replicas", All: true})
	}
	if percent, lasts := r.Shadows(); percent > 0 {
		stages = append(stages, Stage{Name: "shadow", Shadow: percent, Lasts: lasts})
	}
	weights := r.Weights(strategy)
	for _, weight := range weights {
		stages = append(stages, Stage{Name: percent(weight), Weight: weight, Lasts: r.StepTime()})
	}
	if strategy == appspec.StrategyBlueGreen {
		stages[len(stages)-1].Lasts = r.Bake()
	}
	return stages
}

// Stage returns the one that a's rollout is in.
func (a *Application) Stage() Stage {
	stages := a.Stages()
	return stages[max(0, min(a.Rollout.Stage, len(stages)-1))]
}

// differs says whether another version than the newest serves.
func (a *Application) differs() bool { return a.Wanted.Number != a.Serving.Number }

func percent(weight int) string { return strconv.Itoa(weight) + " percent" }

// GenerationOf returns the generation that a deployment version names, see
// DeploymentVersion.
func GenerationOf(version string) int {
	_, text, _ := strings.Cut(version, "-g")
	number, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return number
}
