package appspec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The limits of a rollout block.
const (
	maxSteps         = 100
	maxErrorIncrease = 1
	maxLatencyRatio  = 1000
	maxGateRestarts  = 10_000
	noLimit          = -1
	maxQueries       = 20
	maxChecks        = 10
	maxBound         = 1e18 // of a query's number
	minRolloutSpan   = time.Second
	maxRolloutSpan   = 31 * 24 * time.Hour // of what is only waited for
)

// strategies that a spec may ask for.
func strategies() []string {
	return []string{string(StrategyRolling), string(StrategyBlueGreen), string(StrategyCanary)}
}

func (v *validator) rollout(path string, r *Rollout) {
	if r.Strategy != "" {
		v.oneOf(path+".strategy", r.Strategy, strategies()...)
	}
	if r.Strategy == "" || slices.Contains(strategies(), r.Strategy) {
		v.unusedByStrategy(path, r)
	}
	before := len(v.faults)
	if r.MaxSurge != nil {
		v.within(path+".max_surge", *r.MaxSurge, 0, 100)
	}
	v.within(path+".max_unavailable", r.MaxUnavailable, 0, 100)
	v.within(path+".shadow", r.Shadow, 0, 100)
	v.steps(path+".steps", r.Steps)
	if len(v.faults) == before {
		v.surge(path, r)
	}
	if r.Shadow == 0 && r.ShadowTime != 0 {
		v.addf(path+".shadow_time", "How many requests are copied? Set shadow = 10, for example, or leave shadow_time out.")
	}
	v.span(path+".interval", r.Interval, maxRolloutSpan)
	v.span(path+".shadow_time", r.ShadowTime, maxRolloutSpan)
	v.span(path+".progress_deadline", r.ProgressDeadline, maxTimeout)
	v.span(path+".drain_timeout", r.DrainTimeout, maxTimeout)
	if r.BakeTime != nil {
		v.durationWithin(path+".bake_time", *r.BakeTime, 0, maxRolloutSpan)
	}
	if r.Gates != nil {
		v.gates(path+".gates", r.Gates)
	}
}

// span holds a duration of which 0 is the default.
func (v *validator) span(path string, d Duration, most time.Duration) {
	if d != 0 {
		v.durationWithin(path, d, minRolloutSpan, most)
	}
}

// unusedByStrategy refuses what is set and what the strategy does not look at:
// who wrote it expects it to count. Without a strategy what changed decides
// between rolling and blue_green, so that what counts in one of these may be
// there, but for what makes a change slower or safer to look at: that must not
// be left out in silence.
func (v *validator) unusedByStrategy(path string, r *Rollout) {
	const old = " Leave it out; the old generation keeps all of its replicas."
	for _, f := range []struct {
		name    string
		set     bool
		by      []Strategy
		chosen  bool // it may be set without a strategy
		instead string
	}{
		{"steps", len(r.Steps) > 0, []Strategy{StrategyCanary}, false, ""},
		{"interval", r.Interval != 0, []Strategy{StrategyCanary}, false, ""},
		{"sticky", r.Sticky, []Strategy{StrategyBlueGreen, StrategyCanary}, false, ""},
		{"shadow", r.Shadow != 0, []Strategy{StrategyBlueGreen, StrategyCanary}, false, ""},
		{"gates.check", r.Gates != nil && len(r.Gates.Checks) > 0, []Strategy{StrategyBlueGreen, StrategyCanary}, false, ""},
		{"max_unavailable", r.MaxUnavailable != 0, []Strategy{StrategyRolling}, true, old},
		{"bake_time", r.BakeTime != nil, []Strategy{StrategyRolling, StrategyBlueGreen}, true, " Leave it out; interval says for how long each step is watched."},
		{"drain_timeout", r.DrainTimeout != 0, []Strategy{StrategyBlueGreen, StrategyCanary}, true, " Leave it out; the graceful_shutdown_timeout of a deployment says how long its replicas may take."},
	} {
		strategy := Strategy(r.Strategy)
		if !f.set || slices.Contains(f.by, strategy) || (strategy == "" && f.chosen) {
			continue
		}
		by := fmt.Sprintf("strategy %q", f.by[0])
		if len(f.by) > 1 {
			by = fmt.Sprintf("the strategies %q and %q", f.by[0], f.by[1])
		}
		instead := f.instead
		if instead == "" {
			instead = fmt.Sprintf(" Set strategy = %q, or leave it out.", f.by[len(f.by)-1])
		}
		v.addf(path+"."+f.name, "%s is only used by %s.%s", f.name, by, instead)
	}
}

// steps holds percents to growing ones.
func (v *validator) steps(path string, steps []int) {
	if len(steps) > maxSteps {
		v.addf(path, "At most %d steps are allowed; these are %d.", maxSteps, len(steps))
		return
	}
	last := 0
	for i, step := range steps {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case last == 100:
			v.addf(at, "Steps end with 100, which is all requests; leave out what comes after it.")
			return
		case step <= last || step > 100:
			v.addf(at, "Steps are percents of the requests, each above the one before it: a whole number from %d to 100 is needed here; this is %d.", last+1, step)
			return
		}
		last = step
	}
}

// surge holds max_surge, and what goes with it, to what lets a rollout get to
// its end.
func (v *validator) surge(path string, r *Rollout) {
	if r.MaxSurge == nil {
		return
	}
	surge := *r.MaxSurge
	path += ".max_surge"
	switch Strategy(r.Strategy) {
	case StrategyRolling:
		if surge == 0 && r.MaxUnavailable == 0 {
			v.addf(path, "With max_surge = 0 no new replica starts beside the old ones, so that old ones must go first: set max_unavailable, to 25 for example, or a larger max_surge.")
		}
	case StrategyBlueGreen:
		if surge < 100 {
			v.addf(path, "Strategy \"blue_green\" moves all requests at once, so that all replicas of the new version must be there beside the old ones: leave max_surge out, or take strategy = \"canary\".")
		}
	case StrategyCanary:
		v.surgeOfSteps(path, surge, r)
	case "":
		if surge == 0 {
			v.addf(path, "Without a strategy some changes bring up a whole new generation, for which max_surge = 0 leaves no room: set strategy = \"rolling\" and max_unavailable with it, or a larger max_surge.")
		}
	default: // it has been said that there is no such strategy
	}
}

// surgeOfSteps refuses a step for which the replicas cannot be there: they grow
// by max_surge, and then as many of the old ones go.
func (v *validator) surgeOfSteps(path string, surge int, r *Rollout) {
	if surge == 0 {
		v.addf(path, "With max_surge = 0 no replica of the new version could ever start beside the old ones: set it to 10, for example, with steps of at most 10 percent.")
		return
	}
	last := 0
	for i, weight := range r.Weights(StrategyCanary) {
		if weight-last > surge {
			at, which := path, "steps"
			if len(r.Steps) > 0 {
				at = strings.TrimSuffix(path, "max_surge") + fmt.Sprintf("steps[%d]", min(i, len(r.Steps)-1))
			} else {
				which = "the default steps"
			}
			v.addf(at, "From %d to %d percent, %s take %d percent of the requests at once, and max_surge = %d allows replicas for no more than %d percent beside the old ones: set max_surge to %d at least, or steps = %s.",
				last, weight, which, weight-last, surge, surge, largestStep(r), filledSteps(r, surge))
			return
		}
		last = weight
	}
	if r.Shadow > surge {
		v.addf(strings.TrimSuffix(path, "max_surge")+"shadow", "shadow = %d takes replicas for %d percent of the requests, and max_surge = %d allows for no more than %d percent beside the old ones: copy fewer, or set max_surge to %d at least.",
			r.Shadow, r.Shadow, surge, surge, r.Shadow)
	}
}

func largestStep(r *Rollout) int {
	last, most := 0, 0
	for _, weight := range r.Weights(StrategyCanary) {
		most, last = max(most, weight-last), weight
	}
	return most
}

// filledSteps writes the steps with others between them, so that none is larger
// than surge.
func filledSteps(r *Rollout, surge int) string {
	var steps []string
	last := 0
	for _, weight := range r.Weights(StrategyCanary) {
		for ; weight-last > surge; last += surge {
			steps = append(steps, strconv.Itoa(last+surge))
		}
		if last = weight; weight < 100 {
			steps = append(steps, strconv.Itoa(weight))
		}
	}
	if shown := 20; len(steps) > shown {
		steps = append(steps[:shown], "...")
	}
	return "[" + strings.Join(steps, ", ") + "]"
}

func (v *validator) gates(path string, g *Gates) {
	if x := g.MaxErrorIncrease; x != nil {
		v.limit(path+".max_error_increase", *x, 0, maxErrorIncrease)
	}
	if x := g.MaxLatencyRatio; x != nil {
		v.limit(path+".max_latency_ratio", *x, 1, maxLatencyRatio)
	}
	if n := g.MaxRestarts; n != nil && *n != noLimit && (*n < 0 || *n > maxGateRestarts) {
		v.addf(path+".max_restarts", "A whole number from 0 to %d is needed, or -1 for no limit; this is %d.", maxGateRestarts, *n)
	}
	v.queries(path+".query", g.Queries)
	v.checks(path+".check", g.Checks)
}

// limit holds a number to its bounds, or to -1 for no limit.
func (v *validator) limit(path string, x, least, most float64) {
	if math.IsNaN(x) || (x != noLimit && (x < least || x > most)) {
		v.addf(path, "A number from %s to %s is needed, or -1 for no limit; this is %g.", numberText(least), numberText(most), x)
	}
}

func (v *validator) queries(path string, queries []*Query) {
	if len(queries) > maxQueries {
		v.addf(path, "A gates block has at most %d queries; this one has %d.", maxQueries, len(queries))
		return
	}
	names := map[string]bool{}
	for _, q := range queries {
		if q == nil {
			v.addf(path, "There is no query.")
			continue
		}
		at := path + "." + clip(q.Name)
		v.ownName(at, "query", q.Name, names)
		v.query(at+".query", q.Query)
		before := len(v.faults)
		if q.Min != nil {
			v.numberWithin(at+".min", *q.Min, -maxBound, maxBound)
		}
		if q.Max != nil {
			v.numberWithin(at+".max", *q.Max, -maxBound, maxBound)
		}
		switch {
		case len(v.faults) > before:
		case q.Min == nil && q.Max == nil:
			v.addf(at, "Which answers are good? A query sets min, max or both; this one sets neither.")
		case q.Min != nil && q.Max != nil && *q.Min > *q.Max:
			v.addf(at+".min", "min is %g, above max, which is %g.", *q.Min, *q.Max)
		}
		if q.Interval != 0 {
			v.durationWithin(at+".interval", q.Interval, minInterval, maxInterval)
		}
	}
}

func (v *validator) checks(path string, checks []*Check) {
	if len(checks) > maxChecks {
		v.addf(path, "A gates block has at most %d checks; this one has %d.", maxChecks, len(checks))
		return
	}
	names := map[string]bool{}
	for _, c := range checks {
		if c == nil {
			v.addf(path, "There is no check.")
			continue
		}
		at := path + "." + clip(c.Name)
		v.ownName(at, "check", c.Name, names)
		v.resources(at+".resources", c.Resources)
		v.task(at+".task", checkTask, c.Task, c.Name, c.Resources.GPU)
		v.span(at+".timeout", c.Timeout, maxTimeout)
	}
}
