package appspec

import (
	"slices"
	"time"

	"github.com/hashicorp/nomad/api"
)

// Rollout says how a new version takes over from the old one. Its methods take
// nil for a block that is not there, and give what holds.
type Rollout struct {
	Strategy         string    `json:"strategy,omitempty"`          // rolling | blue_green | canary; "": by what changed, see ChooseStrategy
	MaxSurge         *int      `json:"max_surge,omitempty"`         // percent of the replicas that may run beside them; nil: see Surge
	MaxUnavailable   int       `json:"max_unavailable,omitempty"`   // percent of the replicas that may be missing while a rolling change goes on
	Steps            []int     `json:"steps,omitempty"`             // of canary: percent of the requests that the new version gets, one step after the other
	Interval         Duration  `json:"interval,omitempty"`          // of canary: how long each step lasts at least; 0: the default
	BakeTime         *Duration `json:"bake_time,omitempty"`         // for which the new version is watched while the old one still runs; nil: the default
	Sticky           bool      `json:"sticky,omitempty"`            // a client stays with the version that it got
	ProgressDeadline Duration  `json:"progress_deadline,omitempty"` // within which each step must be ready; 0: the servers'
	DrainTimeout     Duration  `json:"drain_timeout,omitempty"`     // for which a generation that takes no more requests may finish those that it has; 0: the default
	AutoRollback     *bool     `json:"auto_rollback,omitempty"`     // nil: true. false: a failing gate pauses
	Shadow           int       `json:"shadow,omitempty"`            // percent of the requests that are copied to the new version before it takes any
	ShadowTime       Duration  `json:"shadow_time,omitempty"`       // for how long; 0: the default
	Gates            *Gates    `json:"gates,omitempty"`             // nil: the defaults
}

// Gates is what a new version is held to while it rolls out. A limit that is nil
// is the default, one below 0 is none.
type Gates struct {
	MaxErrorIncrease *float64 `json:"max_error_increase,omitempty"` // share of the requests that may fail beyond those of the old version: 0.01
	MaxLatencyRatio  *float64 `json:"max_latency_ratio,omitempty"`  // p99 until the answer begins, to that of the old version
	MaxRestarts      *int     `json:"max_restarts,omitempty"`       // of replicas of one deployment, during the rollout
	Queries          []*Query `json:"query,omitempty"`
	Checks           []*Check `json:"check,omitempty"`
}

// Query is a number from Prometheus that must stay within bounds.
type Query struct {
	Name     string   `json:"name"`
	Query    string   `json:"query"`
	Min      *float64 `json:"min,omitempty"`
	Max      *float64 `json:"max,omitempty"`
	Interval Duration `json:"interval,omitempty"` // 0: the default, see Every
}

// Check is a task that is run once beside the new version, and must end well: a
// smoke test, say. SERVE_CHECK_URL in its environment is where the new version's
// ingress is to be reached.
type Check struct {
	Name      string    `json:"name"`
	Task      *api.Task `json:"task"`
	Resources Resources `json:"resources"`
	Timeout   Duration  `json:"timeout,omitempty"` // 0: the default, see Within
}

// Reconfigure says how a running replica is told that its user_config is
// another: exactly one of Signal and Path is set.
type Reconfigure struct {
	Signal  string   `json:"signal,omitempty"`  // sent once the file has been written: "SIGHUP"
	Path    string   `json:"path,omitempty"`    // gets the config by POST; 2xx confirms it
	Timeout Duration `json:"timeout,omitempty"` // for a replica to confirm; 0: the default
}

// Strategy is the way from one version to the next.
type Strategy string

// The strategies.
const (
	StrategyLive      Strategy = "live"       // applied at once, no replica restarted
	StrategyRolling   Strategy = "rolling"    // deployment by deployment, new replicas beside the old ones, which go as those pass
	StrategyBlueGreen Strategy = "blue_green" // a whole generation beside the old one, and then all requests at once
	StrategyCanary    Strategy = "canary"     // a whole generation beside the old one, and the requests step by step
)

// What holds where a rollout block says nothing.
const (
	defaultSurge         = 25  // percent, of a rolling change
	defaultWholeSurge    = 100 // percent, of a generation beside another
	defaultBakeTime      = 10 * time.Second
	defaultInterval      = time.Minute
	defaultDrain         = 5 * time.Minute
	defaultShadowTime    = 30 * time.Second
	defaultReconfigure   = 10 * time.Second
	defaultQueryInterval = 5 * time.Second
	defaultGateCheck     = 5 * time.Minute
	defaultErrorIncrease = 0.01
	defaultLatencyRatio  = 3.0
	defaultRestarts      = 2
)

// Generations says whether the strategy brings up a whole new generation of the
// application, whose deployments call only each other.
func (s Strategy) Generations() bool { return s == StrategyBlueGreen || s == StrategyCanary }

// Weights returns the percents of the requests that a new generation gets, step
// by step; the last is 100.
func (r *Rollout) Weights(s Strategy) []int {
	if s != StrategyCanary {
		return []int{100}
	}
	steps := []int{1, 10, 50}
	if r != nil && len(r.Steps) > 0 {
		steps = r.Steps
	}
	if steps[len(steps)-1] == 100 {
		return steps
	}
	return append(slices.Clone(steps), 100)
}

// Surge returns how many percent of the replicas may run beside them. All
// requests go to a blue_green generation at once, so it is always whole.
func (r *Rollout) Surge(s Strategy) int {
	switch {
	case r != nil && r.MaxSurge != nil && s != StrategyBlueGreen:
		return *r.MaxSurge
	case s.Generations():
		return defaultWholeSurge
	default:
		return defaultSurge
	}
}

// Unavailable returns how many percent of the replicas may be missing.
func (r *Rollout) Unavailable() int {
	if r == nil {
		return 0
	}
	return r.MaxUnavailable
}

// Bake returns for how long a new version is watched while the old one runs.
func (r *Rollout) Bake() time.Duration {
	if r == nil || r.BakeTime == nil {
		return defaultBakeTime
	}
	return r.BakeTime.Std()
}

// StepTime returns how long each step of a canary lasts at least.
func (r *Rollout) StepTime() time.Duration {
	if r == nil || r.Interval == 0 {
		return defaultInterval
	}
	return r.Interval.Std()
}

// Drain returns for how long a generation may finish the requests that it has.
func (r *Rollout) Drain() time.Duration {
	if r == nil || r.DrainTimeout == 0 {
		return defaultDrain
	}
	return r.DrainTimeout.Std()
}

// RollsBack says whether a failing gate ends the rollout; else it pauses it.
func (r *Rollout) RollsBack() bool { return r == nil || r.AutoRollback == nil || *r.AutoRollback }

// Shadows returns which percent of the requests is copied, and for how long.
func (r *Rollout) Shadows() (percent int, time time.Duration) {
	switch {
	case r == nil || r.Shadow == 0:
		return 0, 0
	case r.ShadowTime == 0:
		return r.Shadow, defaultShadowTime
	default:
		return r.Shadow, r.ShadowTime.Std()
	}
}

// Limits returns the limits of the gates, the defaults filled in; below 0: none.
func (r *Rollout) Limits() (errorIncrease, latencyRatio float64, restarts int) {
	var g Gates
	if r != nil && r.Gates != nil {
		g = *r.Gates
	}
	return valueOr(g.MaxErrorIncrease, defaultErrorIncrease), valueOr(g.MaxLatencyRatio, defaultLatencyRatio), valueOr(g.MaxRestarts, defaultRestarts)
}

func valueOr[T any](p *T, standard T) T {
	if p == nil {
		return standard
	}
	return *p
}

// Every returns how often Prometheus is asked.
func (q *Query) Every() time.Duration {
	if q.Interval == 0 {
		return defaultQueryInterval
	}
	return q.Interval.Std()
}

// Within returns how long the check's task may take.
func (c *Check) Within() time.Duration {
	if c.Timeout == 0 {
		return defaultGateCheck
	}
	return c.Timeout.Std()
}

// Within returns how long a replica may take to confirm another user_config.
func (r *Reconfigure) Within() time.Duration {
	if r.Timeout == 0 {
		return defaultReconfigure
	}
	return r.Timeout.Std()
}
