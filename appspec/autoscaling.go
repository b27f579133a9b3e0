package appspec

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// The values of Autoscaling.Policy.
const (
	PolicyRay      = "ray"      // Ray Serve's rules
	PolicyKPA      = "kpa"      // those of Knative's pod autoscaler
	PolicyExternal = "external" // somebody else's: the count is set by `scale` and the API
)

// The values of Metric.Source and Metric.Combine.
const (
	SourcePrometheus = "prometheus"
	SourceReplica    = "replica"
	CombineReplace   = "replace"
	CombineMax       = "max"
)

// unreadable stands for a word that is no text, which has been said then. No
// rule speaks of it.
const unreadable = "?"

// EffectivePolicy is the policy, which is Ray Serve's when none is named.
func (a *Autoscaling) EffectivePolicy() string {
	if a.Policy == "" {
		return PolicyRay
	}
	return a.Policy
}

// EffectiveKPA is the settings that policy "kpa" goes by: the block's, or the
// defaults when it has none.
func (a *Autoscaling) EffectiveKPA() KPA {
	if a.KPA != nil {
		return *a.KPA
	}
	return defaultKPA()
}

// firstReplicas is how many replicas there are at first.
func (a *Autoscaling) firstReplicas() int {
	if a.InitialReplicas != nil {
		return *a.InitialReplicas
	}
	return a.MinReplicas
}

// FirstReplicas is how many replicas the deployment has before anybody scales
// it: its num_replicas, or with an autoscaling block that block's
// initial_replicas, else num_replicas where JSON gave it, else min_replicas.
func (d *Deployment) FirstReplicas() int {
	a := d.Autoscaling
	if a == nil || (a.InitialReplicas == nil && d.NumReplicas != 0) {
		return d.NumReplicas
	}
	return a.firstReplicas()
}

// Complete sets what JSON may leave out of a deployment that is autoscaled and
// HCL always sets, so that both are the same spec: the policy, num_replicas and
// the settings of policy "kpa". It takes any application, also one with faults.
func (a *Application) Complete() {
	for _, d := range a.Deployments {
		if d == nil || d.Autoscaling == nil {
			continue
		}
		d.NumReplicas = d.FirstReplicas()
		d.Autoscaling = d.Autoscaling.complete()
	}
}

func (a *Autoscaling) complete() *Autoscaling {
	out := *a
	out.Policy = a.EffectivePolicy()
	if out.Policy == PolicyKPA {
		out.KPA = new(a.EffectiveKPA())
	}
	return &out
}

// FieldPath is Field with its indices between dots, as gjson reads it:
// "models.0.queue" for "models[0].queue".
func (m *Metric) FieldPath() string {
	return strings.TrimPrefix(strings.NewReplacer("[", ".", "]", "").Replace(m.Field), ".")
}

// defaultAutoscaling is Ray Serve's, but for the shorter metrics_interval.
func defaultAutoscaling() *Autoscaling {
	return &Autoscaling{
		Policy: PolicyRay, MinReplicas: 1, MaxReplicas: 1, TargetOngoingRequests: 2,
		UpscaleDelay: Duration(30 * time.Second), DownscaleDelay: Duration(600 * time.Second),
		UpscalingFactor: 1, DownscalingFactor: 1,
		LookBackPeriod: Duration(30 * time.Second), MetricsInterval: Duration(time.Second),
		Aggregation: "mean",
	}
}

// defaultKPA is Knative's, but that replicas are filled up to the target.
func defaultKPA() KPA {
	return KPA{
		StableWindow: Duration(60 * time.Second), PanicWindowPercentage: 10, PanicThresholdPercentage: 200,
		TargetUtilization: 1, MaxScaleUpRate: 1000, MaxScaleDownRate: 2, ActivationScale: 1,
	}
}

func (p *parser) autoscaling(sc *scope, path string, block *hcl.Block) *Autoscaling {
	d := p.decode(sc, path, block, fieldNames{
		attributes: []string{
			"policy", "min_replicas", "max_replicas", "initial_replicas", "target_ongoing_requests",
			"upscale_delay", "downscale_delay", "downscale_to_zero_delay", "upscaling_factor",
			"downscaling_factor", "look_back_period", "metrics_interval", "aggregation",
		},
		blocks:   []string{"kpa", "forecast", "metric"},
		labelled: []string{"schedule"},
	})
	a := defaultAutoscaling()
	d.text("policy", &a.Policy)
	if p.bad[d.path+".policy"] {
		a.Policy = unreadable
	}
	d.whole("min_replicas", &a.MinReplicas)
	d.whole("max_replicas", &a.MaxReplicas)
	a.InitialReplicas = d.optionalWhole("initial_replicas", a.MinReplicas)
	d.decimal("target_ongoing_requests", &a.TargetOngoingRequests)
	d.duration("upscale_delay", &a.UpscaleDelay)
	d.duration("downscale_delay", &a.DownscaleDelay)
	a.DownscaleToZeroDelay = a.DownscaleDelay
	d.duration("downscale_to_zero_delay", &a.DownscaleToZeroDelay)
	d.decimal("upscaling_factor", &a.UpscalingFactor)
	d.decimal("downscaling_factor", &a.DownscalingFactor)
	d.duration("look_back_period", &a.LookBackPeriod)
	d.duration("metrics_interval", &a.MetricsInterval)
	d.text("aggregation", &a.Aggregation)
	d.refuseUnused(a.Policy)
	d.autoscalingBlocks(a)
	return a
}

// refuseUnused refuses what is set and what the policy does not look at: who
// wrote it expects it to count.
func (d *decoder) refuseUnused(policy string) {
	instead := unusedBy(policy)
	for _, name := range slices.Sorted(maps.Keys(instead)) {
		attr, there := d.content.Attributes[name]
		if !there || d.bad[d.path+"."+name] {
			continue
		}
		if _, set := d.value(name); !set { // null
			continue
		}
		d.spoil(d.path + "." + name)
		d.add(errorAt(attr.NameRange, "Invalid "+name, "%s is not used by policy %s. %s", name, quote(policy), instead[name]))
	}
}

// unusedBy names the fields that a policy does not look at, each with what to
// do instead.
func unusedBy(policy string) map[string]string {
	switch policy {
	case PolicyKPA:
		return map[string]string{
			"upscale_delay":           "Leave it out; it adds replicas at once, by at most max_scale_up_rate of the kpa block.",
			"downscale_delay":         "Set scale_down_delay in the kpa block, or leave it out.",
			"downscale_to_zero_delay": "Set scale_to_zero_retention in the kpa block, or leave it out.",
			"upscaling_factor":        "Set max_scale_up_rate in the kpa block, or leave it out.",
			"downscaling_factor":      "Set max_scale_down_rate in the kpa block, or leave it out.",
			"look_back_period":        "Set stable_window in the kpa block, or leave it out.",
			"aggregation":             "Leave it out; it takes the mean of its windows.",
		}
	case PolicyExternal:
		const advice = "Leave it out; the number of replicas is set from outside, within the bounds."
		return map[string]string{
			"target_ongoing_requests": advice, "upscale_delay": advice, "downscale_delay": advice,
			"downscale_to_zero_delay": advice, "upscaling_factor": advice, "downscaling_factor": advice,
			"look_back_period": advice, "metrics_interval": advice, "aggregation": advice,
		}
	default:
		return nil
	}
}

// autoscalingBlocks reads the blocks inside an autoscaling block.
func (d *decoder) autoscalingBlocks(a *Autoscaling) {
	if inner := d.block("kpa"); inner != nil {
		a.KPA = d.kpa(d.scope, d.path+".kpa", inner)
	} else if a.Policy == PolicyKPA {
		a.KPA = new(defaultKPA())
	}
	for _, inner := range d.content.Blocks.OfType("schedule") {
		path, first := d.unique(d.path+".schedule."+clip(inner.Labels[0]), "schedule", inner)
		if schedule := d.schedule(d.scope, path, inner, a); first {
			a.Schedules = append(a.Schedules, schedule)
		}
	}
	if inner := d.block("forecast"); inner != nil {
		a.Forecast = d.forecast(d.scope, d.path+".forecast", inner)
	}
	if inner := d.block("metric"); inner != nil {
		a.Metric = d.metric(d.scope, d.path+".metric", inner)
	}
}

func (p *parser) kpa(sc *scope, path string, block *hcl.Block) *KPA {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{
		"stable_window", "panic_window_percentage", "panic_threshold_percentage", "target_utilization",
		"max_scale_up_rate", "max_scale_down_rate", "scale_down_delay", "activation_scale", "scale_to_zero_retention",
	}})
	k := defaultKPA()
	d.duration("stable_window", &k.StableWindow)
	d.decimal("panic_window_percentage", &k.PanicWindowPercentage)
	d.decimal("panic_threshold_percentage", &k.PanicThresholdPercentage)
	d.decimal("target_utilization", &k.TargetUtilization)
	d.decimal("max_scale_up_rate", &k.MaxScaleUpRate)
	d.decimal("max_scale_down_rate", &k.MaxScaleDownRate)
	d.duration("scale_down_delay", &k.ScaleDownDelay)
	d.whole("activation_scale", &k.ActivationScale)
	d.duration("scale_to_zero_retention", &k.ScaleToZeroRetention)
	return &k
}

func (p *parser) schedule(sc *scope, path string, block *hcl.Block, in *Autoscaling) *Schedule {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{
		"cron", "duration", "timezone", "min_replicas", "max_replicas",
	}})
	p.put(d.path, block.LabelRanges[0])
	s := &Schedule{Name: block.Labels[0], Timezone: "UTC"}
	d.text("cron", &s.Cron)
	d.duration("duration", &s.Duration)
	d.text("timezone", &s.Timezone)
	s.MinReplicas = d.optionalWhole("min_replicas", in.MinReplicas)
	s.MaxReplicas = d.optionalWhole("max_replicas", in.MaxReplicas)
	return s
}

func (p *parser) forecast(sc *scope, path string, block *hcl.Block) *Forecast {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{"window", "horizon"}})
	f := &Forecast{Window: Duration(5 * time.Minute)}
	d.duration("window", &f.Window)
	d.duration("horizon", &f.Horizon)
	return f
}

func (p *parser) metric(sc *scope, path string, block *hcl.Block) *Metric {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{
		"source", "query", "path", "field", "target", "combine", "interval", "timeout",
	}})
	m := &Metric{Combine: CombineReplace, Interval: Duration(5 * time.Second)}
	d.text("source", &m.Source)
	d.text("query", &m.Query)
	d.text("path", &m.Path)
	d.text("field", &m.Field)
	d.decimal("target", &m.Target)
	d.text("combine", &m.Combine)
	d.duration("interval", &m.Interval)
	m.Timeout = min(Duration(2*time.Second), m.Interval)
	d.duration("timeout", &m.Timeout)
	return m
}
