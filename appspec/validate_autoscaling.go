package appspec

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of an autoscaling block. KPA's are Knative's own, but for a last
// replica that may be kept for longer.
const (
	maxSchedules       = 50
	minScheduled       = time.Minute
	maxScheduled       = 31 * 24 * time.Hour
	maxLookBack        = time.Hour
	minMetricsInterval = 100 * time.Millisecond
	maxMetricsInterval = time.Minute

	minStableWindow   = 6 * time.Second
	maxStableWindow   = time.Hour
	minPanicThreshold = 110
	maxPanicThreshold = 1000
	maxScaleRate      = 1e6
	maxScaleDownDelay = time.Hour

	minForecastWindow = 30 * time.Second
	maxHorizon        = time.Hour

	maxQuery         = 4096
	maxField         = 256
	maxMetricTarget  = 1e18
	minInterval      = time.Second
	maxInterval      = 10 * time.Minute
	minMetricTimeout = 100 * time.Millisecond
)

// replicas holds the rules of how many replicas there are.
func (v *validator) replicas(path string, d *Deployment) {
	a := d.Autoscaling
	if a == nil {
		v.within(path+".num_replicas", d.NumReplicas, 0, maxReplicas)
		return
	}
	before := len(v.faults)
	v.bounds(path+".autoscaling", a)
	// 0 is what JSON that leaves it out reads as.
	if n := d.NumReplicas; len(v.faults) == before && n != 0 && (n < a.MinReplicas || n > a.MaxReplicas) {
		v.addf(path+".num_replicas", "num_replicas is %d, outside of the autoscaling block's bounds, %d to %d. Leave it out; initial_replicas in the block sets how many there are at first.",
			n, a.MinReplicas, a.MaxReplicas)
	}
	v.autoscaling(path+".autoscaling", a)
}

func (v *validator) bounds(path string, a *Autoscaling) {
	v.within(path+".min_replicas", a.MinReplicas, 0, maxReplicas)
	v.within(path+".max_replicas", a.MaxReplicas, 1, maxReplicas)
	if a.MaxReplicas >= 1 && a.MinReplicas > a.MaxReplicas {
		v.addf(path+".min_replicas", "min_replicas is %d, above max_replicas, which is %d.", a.MinReplicas, a.MaxReplicas)
	} else if n := a.InitialReplicas; n != nil && (*n < a.MinReplicas || *n > a.MaxReplicas) {
		v.addf(path+".initial_replicas", "A number from min_replicas (%d) to max_replicas (%d) is needed; this is %d.", a.MinReplicas, a.MaxReplicas, *n)
	}
}

// autoscaling holds the rules of the block, but for its bounds.
func (v *validator) autoscaling(path string, a *Autoscaling) {
	policy := a.EffectivePolicy()
	v.oneOf(path+".policy", policy, PolicyRay, PolicyKPA, PolicyExternal)
	v.rayFields(path, a)
	switch {
	case policy == PolicyKPA:
		v.kpa(path+".kpa", a)
	case a.KPA != nil && policy == PolicyRay:
		v.addf(path+".kpa", "The kpa block is not used by policy \"ray\". Set policy = \"kpa\", or leave the block out.")
	case a.KPA != nil && policy == PolicyExternal:
		v.addf(path+".kpa", "The kpa block is not used by policy \"external\". Leave it out; the number of replicas is set from outside, within the bounds.")
	}
	v.schedules(path, a)
	switch {
	case a.Forecast == nil:
	case policy == PolicyExternal:
		v.addf(path+".forecast", "A forecast is not used by policy \"external\". Leave it out; the number of replicas is set from outside, within the bounds.")
	default:
		v.durationWithin(path+".forecast.window", a.Forecast.Window, minForecastWindow, maxTimeout)
		v.durationWithin(path+".forecast.horizon", a.Forecast.Horizon, 0, maxHorizon)
	}
	switch {
	case a.Metric == nil:
	case policy == PolicyKPA || policy == PolicyExternal:
		v.addf(path+".metric", "A metric is not used by policy %s. Set policy = \"ray\", or leave the block out.", quote(policy))
	default:
		v.metric(path+".metric", a.Metric)
	}
}

// rayFields holds the rules of Ray Serve's fields. One that the policy does not
// look at may be zero, as JSON that leaves it out reads.
func (v *validator) rayFields(path string, a *Autoscaling) {
	unused := unusedBy(a.EffectivePolicy())
	idle := func(field string, zero bool) bool {
		_, found := unused[field]
		return found && zero
	}
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"target_ongoing_requests", a.TargetOngoingRequests},
		{"upscaling_factor", a.UpscalingFactor},
		{"downscaling_factor", a.DownscalingFactor},
	} {
		if !idle(f.name, f.value == 0) {
			v.numberAbove(path+"."+f.name, f.value, 0, maxRequests)
		}
	}
	for _, f := range []struct {
		name        string
		value       Duration
		least, most time.Duration
	}{
		{"upscale_delay", a.UpscaleDelay, 0, maxTimeout},
		{"downscale_delay", a.DownscaleDelay, 0, maxTimeout},
		{"downscale_to_zero_delay", a.DownscaleToZeroDelay, 0, maxTimeout},
		{"look_back_period", a.LookBackPeriod, 0, maxLookBack},
		{"metrics_interval", a.MetricsInterval, minMetricsInterval, maxMetricsInterval},
	} {
		follows := f.name == "downscale_to_zero_delay" && f.value == a.DownscaleDelay // whose fault it is
		if !follows && !idle(f.name, f.value == 0) {
			v.durationWithin(path+"."+f.name, f.value, f.least, f.most)
		}
	}
	if !idle("aggregation", a.Aggregation == "") {
		v.oneOf(path+".aggregation", a.Aggregation, "mean", "max", "min")
	}
}

func (v *validator) kpa(path string, a *Autoscaling) {
	k := a.EffectiveKPA()
	v.durationWithin(path+".stable_window", k.StableWindow, minStableWindow, maxStableWindow)
	v.numberWithin(path+".panic_window_percentage", k.PanicWindowPercentage, 1, 100)
	v.numberWithin(path+".panic_threshold_percentage", k.PanicThresholdPercentage, minPanicThreshold, maxPanicThreshold)
	v.numberAbove(path+".target_utilization", k.TargetUtilization, 0, 1)
	v.numberAbove(path+".max_scale_up_rate", k.MaxScaleUpRate, 1, maxScaleRate)
	v.numberAbove(path+".max_scale_down_rate", k.MaxScaleDownRate, 1, maxScaleRate)
	v.durationWithin(path+".scale_down_delay", k.ScaleDownDelay, 0, maxScaleDownDelay)
	v.duration(path+".scale_to_zero_retention", k.ScaleToZeroRetention, 0)
	if most := min(max(1, a.MaxReplicas), maxReplicas); k.ActivationScale < 1 || k.ActivationScale > most {
		v.addf(path+".activation_scale", "A whole number from 1 to max_replicas (%d) is needed; this is %d.", most, k.ActivationScale)
	}
}

func (v *validator) schedules(path string, a *Autoscaling) {
	if len(a.Schedules) > maxSchedules {
		v.addf(path+".schedule", "An autoscaling block has at most %d schedules; this one has %d.", maxSchedules, len(a.Schedules))
		return
	}
	names := map[string]bool{}
	for _, s := range a.Schedules {
		if len(v.faults) >= maxFaults {
			return
		}
		if s == nil {
			v.addf(path+".schedule", "There is no schedule.")
			continue
		}
		at := path + ".schedule." + clip(s.Name)
		v.ownName(at, "schedule", s.Name, names)
		v.schedule(at, a, s)
	}
}

func (v *validator) schedule(path string, a *Autoscaling, s *Schedule) {
	v.recurrence(path, s.Cron, s.Duration, s.Timezone)
	if s.MinReplicas == nil && s.MaxReplicas == nil {
		v.addf(path, "A schedule sets min_replicas, max_replicas or both; this one sets neither.")
		return
	}
	v.scheduledBounds(path, "replicas", bound{a.MinReplicas, s.MinReplicas}, bound{a.MaxReplicas, s.MaxReplicas}, 1, maxReplicas)
}

// recurrence holds the times of a schedule.
func (v *validator) recurrence(path, cron string, lasts Duration, timezone string) {
	if problem := cronProblem(cron); problem != "" {
		v.addf(path+".cron", "%s", problem)
	}
	if problem := timezoneProblem(timezone); problem != "" {
		v.addf(path+".timezone", "%s", problem)
	}
	if lasts == 0 {
		v.addf(path+".duration", "For how long is it in force? Set duration = \"10h\", for example.")
	} else {
		v.durationWithin(path+".duration", lasts, minScheduled, maxScheduled)
	}
}

// bound is a floor or a ceiling: the block's own, and a schedule's if it sets
// one.
type bound struct {
	block    int
	schedule *int
}

// scheduledBounds holds the bounds of a schedule to sense, those of the block
// counting where it sets none. Of "replicas" they are min_replicas and
// max_replicas.
func (v *validator) scheduledBounds(path, of string, floor, ceiling bound, leastCeiling, most int) {
	low, high := "min_"+of, "max_"+of
	least, top := floor.block, ceiling.block
	before := len(v.faults)
	if floor.schedule != nil {
		least = *floor.schedule
		v.within(path+"."+low, least, 0, most)
	}
	if ceiling.schedule != nil {
		top = *ceiling.schedule
		v.within(path+"."+high, top, leastCeiling, most)
	}
	switch {
	case len(v.faults) > before || least <= top:
	case floor.schedule == nil:
		v.addf(path+"."+high, "%s is %d, below the block's %s, which is %d. Set %s in the schedule too.", high, top, low, least, low)
	case ceiling.schedule == nil:
		v.addf(path+"."+low, "%s is %d, above the block's %s, which is %d. Set %s in the schedule too.", low, least, high, top, high)
	default:
		v.addf(path+"."+low, "%s is %d, above %s, which is %d.", low, least, high, top)
	}
}

func (v *validator) metric(path string, m *Metric) {
	switch m.Source {
	case SourcePrometheus:
		v.query(path+".query", m.Query)
		v.notForSource(path+".path", m.Path, m.Source)
		v.notForSource(path+".field", m.Field, m.Source)
	case SourceReplica:
		v.notForSource(path+".query", m.Query, m.Source)
		if problem := metricPathProblem(m.Path); problem != "" {
			v.addf(path+".path", "%s", problem)
		}
		if problem := fieldProblem(m.Field); problem != "" {
			v.addf(path+".field", "%s", problem)
		}
	case "":
		v.addf(path+".source", "Where does the number come from? Set source = \"prometheus\" or source = \"replica\".")
	default:
		v.oneOf(path+".source", m.Source, SourcePrometheus, SourceReplica)
	}
	v.numberAbove(path+".target", m.Target, 0, maxMetricTarget)
	v.oneOf(path+".combine", m.Combine, CombineReplace, CombineMax)
	v.durationWithin(path+".interval", m.Interval, minInterval, maxInterval)
	longest := min(max(m.Interval.Std(), minInterval), maxInterval)
	if t := m.Timeout.Std(); t < minMetricTimeout || t > longest {
		v.addf(path+".timeout", "A duration from %s to the interval, %s, is needed; this is %s.",
			durationText(minMetricTimeout), durationText(longest), durationText(t))
	}
}

func metricPathProblem(path string) string {
	switch {
	case path == "":
		return "What is asked for at each replica? Set path = \"/stats\", for example."
	case strings.HasPrefix(path, "//"): // which could name another host
		return "A path starts with one slash, such as \"/stats\"."
	default:
		return urlPathProblem(path, requestRunes)
	}
}

func (v *validator) notForSource(path, value, source string) {
	if value != "" {
		v.addf(path, "%s is not used by source %s; leave it out.", path[strings.LastIndexByte(path, '.')+1:], quote(source))
	}
}

func (v *validator) query(path, query string) {
	unfit := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	switch {
	case strings.TrimSpace(query) == "":
		v.addf(path, "What is Prometheus asked? Set query = \"sum(queue_depth)\", for example.")
	case len(query) > maxQuery:
		v.addf(path, "A query has at most %d bytes; this has %d.", maxQuery, len(query))
	case !utf8.ValidString(query) || strings.ContainsFunc(query, unfit):
		v.addf(path, "There are control characters in this query.")
	}
}

// fieldProblem holds a metric's field to names and indices, such as
// "models[0].queue-depth": whatever reads the answer by it, there is nothing in
// it that could mean more.
func fieldProblem(field string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	const rule = "names of letters, digits, '_' and '-' with dots between them, and indices such as [0]"
	switch {
	case field == "":
		return "Where in the JSON answer is the number? Set field = \"queue.depth\", for example."
	case len(field) > maxField:
		return fmt.Sprintf("A field has at most %d characters.", maxField)
	}
	problem := fmt.Sprintf("%s is no field: write %s.", quote(field), rule)
	for rest := field; rest != ""; {
		var part string
		if after, index := strings.CutPrefix(rest, "["); index {
			rest = strings.TrimLeft(after, "0123456789")
			part = after[:len(after)-len(rest)]
			var closed bool
			if rest, closed = strings.CutPrefix(rest, "]"); !closed || len(part) > 9 {
				return problem
			}
		} else {
			if len(rest) < len(field) {
				var dotted bool
				if rest, dotted = strings.CutPrefix(rest, "."); !dotted {
					return problem
				}
			}
			after := strings.TrimLeft(rest, letters)
			part, rest = rest[:len(rest)-len(after)], after
		}
		if part == "" {
			return problem
		}
	}
	return ""
}
