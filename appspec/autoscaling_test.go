package appspec

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

// soundAutoscaling uses all that policy "ray" can have.
func soundAutoscaling() *Autoscaling {
	a := defaultAutoscaling()
	a.DownscaleToZeroDelay = a.DownscaleDelay
	a.MinReplicas, a.MaxReplicas, a.InitialReplicas = 1, 4, new(2)
	a.Schedules = []*Schedule{
		{Name: "office", Cron: "0 8 * * mon-fri", Duration: Duration(10 * time.Hour), Timezone: "Europe/Berlin", MinReplicas: new(3)},
		{Name: "night", Cron: "@daily", Duration: Duration(6 * time.Hour), Timezone: "UTC", MinReplicas: new(0), MaxReplicas: new(1)},
	}
	a.Forecast = &Forecast{Window: Duration(5 * time.Minute)}
	a.Metric = &Metric{
		Source: SourceReplica, Path: "/stats", Field: "depth", Target: 2, Combine: CombineMax,
		Interval: Duration(5 * time.Second), Timeout: Duration(2 * time.Second),
	}
	return a
}

// soundKPA is what the same is with policy "kpa".
func soundKPA() *Autoscaling {
	a := soundAutoscaling()
	a.Policy, a.Metric, a.KPA = PolicyKPA, nil, new(defaultKPA())
	return a
}

func autoscaled(a *Autoscaling) *Application {
	app := sound()
	app.Deployments[1].Autoscaling = a
	app.Deployments[1].NumReplicas = 0
	return app
}

func TestValidateAutoscaling(t *testing.T) {
	for name, a := range map[string]*Autoscaling{
		"ray":      soundAutoscaling(),
		"kpa":      soundKPA(),
		"external": {Policy: PolicyExternal, MinReplicas: 1, MaxReplicas: 5},
		"kpa as JSON may be": {
			Policy: PolicyKPA, MaxReplicas: 5, TargetOngoingRequests: 1, MetricsInterval: Duration(time.Second),
		},
		"ray as JSON may be": {
			MaxReplicas: 5, TargetOngoingRequests: 1, UpscalingFactor: 1, DownscalingFactor: 1,
			MetricsInterval: Duration(time.Second), Aggregation: "min",
		},
	} {
		if faults := Validate(autoscaled(a)); len(faults) > 0 {
			t.Errorf("%s: a sound block has no fault: %v", name, faults)
		}
	}
	seconds := func(n float64) Duration { return Duration(n * float64(time.Second)) }
	for name, c := range map[string]struct {
		change func(a *Autoscaling)
		path   string
		says   string
	}{
		"an unknown policy":           {func(a *Autoscaling) { a.Policy = "Ray" }, "policy", `"ray", "kpa" and "external"`},
		"min below 0":                 {func(a *Autoscaling) { a.MinReplicas = -1 }, "min_replicas", "from 0"},
		"max of 0":                    {func(a *Autoscaling) { a.MinReplicas, a.MaxReplicas = 0, 0 }, "max_replicas", "from 1"},
		"a huge max":                  {func(a *Autoscaling) { a.MaxReplicas = math.MaxInt }, "max_replicas", "to 100000"},
		"min above max":               {func(a *Autoscaling) { a.MinReplicas = 5 }, "min_replicas", "above max_replicas"},
		"initial above max":           {func(a *Autoscaling) { a.InitialReplicas = new(5) }, "initial_replicas", "from min_replicas (1) to max_replicas (4)"},
		"initial below min":           {func(a *Autoscaling) { a.InitialReplicas = new(0) }, "initial_replicas", "this is 0"},
		"target 0":                    {func(a *Autoscaling) { a.TargetOngoingRequests = 0 }, "target_ongoing_requests", "above 0"},
		"target NaN":                  {func(a *Autoscaling) { a.TargetOngoingRequests = math.NaN() }, "target_ongoing_requests", "NaN"},
		"target Inf":                  {func(a *Autoscaling) { a.TargetOngoingRequests = math.Inf(1) }, "target_ongoing_requests", "+Inf"},
		"upscaling_factor 0":          {func(a *Autoscaling) { a.UpscalingFactor = 0 }, "upscaling_factor", "above 0"},
		"downscaling_factor below 0":  {func(a *Autoscaling) { a.DownscalingFactor = -0.5 }, "downscaling_factor", "above 0"},
		"downscaling_factor NaN":      {func(a *Autoscaling) { a.DownscalingFactor = math.NaN() }, "downscaling_factor", "NaN"},
		"a negative upscale_delay":    {func(a *Autoscaling) { a.UpscaleDelay = -1 }, "upscale_delay", "from 0s"},
		"a negative downscale_delay":  {func(a *Autoscaling) { a.DownscaleDelay = -1 }, "downscale_delay", "from 0s"},
		"a long way to zero":          {func(a *Autoscaling) { a.DownscaleToZeroDelay = math.MaxInt64 }, "downscale_to_zero_delay", "to 24h"},
		"a long memory":               {func(a *Autoscaling) { a.LookBackPeriod = seconds(3601) }, "look_back_period", "to 1h"},
		"a negative memory":           {func(a *Autoscaling) { a.LookBackPeriod = -1 }, "look_back_period", "from 0s"},
		"reports without end":         {func(a *Autoscaling) { a.MetricsInterval = 0 }, "metrics_interval", "from 100ms"},
		"seldom reports":              {func(a *Autoscaling) { a.MetricsInterval = seconds(61) }, "metrics_interval", "to 1m"},
		"no aggregation":              {func(a *Autoscaling) { a.Aggregation = "" }, "aggregation", `"mean", "max" and "min"`},
		"kpa with ray":                {func(a *Autoscaling) { a.KPA = new(defaultKPA()) }, "kpa", `Set policy = "kpa"`},
		"kpa with no policy":          {func(a *Autoscaling) { a.Policy, a.KPA = "", new(defaultKPA()) }, "kpa", `Set policy = "kpa"`},
		"kpa with external":           {func(a *Autoscaling) { *a = *soundKPA(); a.Policy = PolicyExternal }, "kpa", "from outside"},
		"a forecast with external":    {func(a *Autoscaling) { *a = *soundKPA(); a.Policy = PolicyExternal }, "forecast", "from outside"},
		"a metric with external":      {func(a *Autoscaling) { a.Policy = PolicyExternal }, "metric", `Set policy = "ray"`},
		"a metric with kpa":           {func(a *Autoscaling) { a.Policy = PolicyKPA }, "metric", `Set policy = "ray"`},
		"garbage in unused fields":    {func(a *Autoscaling) { *a = *soundKPA(); a.UpscaleDelay = -1 }, "upscale_delay", "from 0s"},
		"NaN in unused fields":        {func(a *Autoscaling) { *a = *soundKPA(); a.UpscalingFactor = math.NaN() }, "upscaling_factor", "NaN"},
		"a short stable window":       {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.StableWindow = seconds(5.9) }, "kpa.stable_window", "6s to 1h"},
		"no panic window":             {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.PanicWindowPercentage = 0 }, "kpa.panic_window_percentage", "1 to 100"},
		"a panic window NaN":          {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.PanicWindowPercentage = math.NaN() }, "kpa.panic_window_percentage", "NaN"},
		"a low panic threshold":       {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.PanicThresholdPercentage = 109 }, "kpa.panic_threshold_percentage", "110 to 1000"},
		"no utilization":              {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.TargetUtilization = 0 }, "kpa.target_utilization", "above 0, up to 1"},
		"a rate of 1":                 {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.MaxScaleDownRate = 1 }, "kpa.max_scale_down_rate", "above 1"},
		"an endless rate":             {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.MaxScaleUpRate = math.Inf(1) }, "kpa.max_scale_up_rate", "up to 1000000"},
		"a long scale_down_delay":     {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.ScaleDownDelay = seconds(3601) }, "kpa.scale_down_delay", "to 1h"},
		"activation above max":        {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.ActivationScale = 5 }, "kpa.activation_scale", "max_replicas (4)"},
		"no activation":               {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.ActivationScale = 0 }, "kpa.activation_scale", "from 1"},
		"a negative retention":        {func(a *Autoscaling) { *a = *soundKPA(); a.KPA.ScaleToZeroRetention = -1 }, "kpa.scale_to_zero_retention", "from 0s"},
		"nil schedules":               {func(a *Autoscaling) { a.Schedules[1] = nil }, "schedule", "no schedule"},
		"too many schedules":          {func(a *Autoscaling) { a.Schedules = make([]*Schedule, 51) }, "schedule", "at most 50"},
		"a schedule's name":           {func(a *Autoscaling) { a.Schedules[0].Name = "" }, "schedule.", "starting with a letter"},
		"a schedule's name twice":     {func(a *Autoscaling) { a.Schedules[1].Name = "office" }, "schedule.office", "already"},
		"a schedule without an end":   {func(a *Autoscaling) { a.Schedules[0].Duration = 0 }, "schedule.office.duration", "For how long"},
		"a schedule of 32 days":       {func(a *Autoscaling) { a.Schedules[0].Duration = seconds(32 * 86400) }, "schedule.office.duration", "to 744h"},
		"a schedule of seconds":       {func(a *Autoscaling) { a.Schedules[0].Duration = seconds(59) }, "schedule.office.duration", "from 1m"},
		"a schedule without bounds":   {func(a *Autoscaling) { a.Schedules[0].MinReplicas = nil }, "schedule.office", "sets neither"},
		"a schedule's min above max":  {func(a *Autoscaling) { a.Schedules[0].MinReplicas = new(5) }, "schedule.office.min_replicas", "above the block's max_replicas, which is 4"},
		"a schedule's max below min":  {func(a *Autoscaling) { a.MinReplicas = 2; a.Schedules[1].MinReplicas = nil }, "schedule.night.max_replicas", "below the block's min_replicas, which is 2"},
		"a schedule's bounds crossed": {func(a *Autoscaling) { a.Schedules[1].MinReplicas = new(2) }, "schedule.night.min_replicas", "above max_replicas, which is 1"},
		"a schedule's negative min":   {func(a *Autoscaling) { a.Schedules[0].MinReplicas = new(-1) }, "schedule.office.min_replicas", "from 0"},
		"a schedule's max of 0":       {func(a *Autoscaling) { a.Schedules[1].MaxReplicas = new(0) }, "schedule.night.max_replicas", "from 1"},
		"a short trend":               {func(a *Autoscaling) { a.Forecast.Window = seconds(29) }, "forecast.window", "30s to 24h"},
		"a far horizon":               {func(a *Autoscaling) { a.Forecast.Horizon = seconds(3601) }, "forecast.horizon", "to 1h"},
		"a horizon in the past":       {func(a *Autoscaling) { a.Forecast.Horizon = -1 }, "forecast.horizon", "from 0s"},
		"an unknown source":           {func(a *Autoscaling) { a.Metric.Source = "redis" }, "metric.source", `"prometheus" and "replica"`},
		"no source":                   {func(a *Autoscaling) { a.Metric.Source = "" }, "metric.source", "come from"},
		"a query of a replica":        {func(a *Autoscaling) { a.Metric.Query = "up" }, "metric.query", "leave it out"},
		"no path":                     {func(a *Autoscaling) { a.Metric.Path = "" }, "metric.path", `path = "/stats"`},
		"a path of another host":      {func(a *Autoscaling) { a.Metric.Path = "//x:1@y" }, "metric.path", "one slash"},
		"a path with a line end":      {func(a *Autoscaling) { a.Metric.Path = "/\r\nHost: x" }, "metric.path", "no place"},
		"no field":                    {func(a *Autoscaling) { a.Metric.Field = "" }, "metric.field", `field = "queue.depth"`},
		"a query in the field":        {func(a *Autoscaling) { a.Metric.Field = "a.#(b>1).c" }, "metric.field", "is no field"},
		"a metric's target 0":         {func(a *Autoscaling) { a.Metric.Target = 0 }, "metric.target", "above 0"},
		"a metric's target Inf":       {func(a *Autoscaling) { a.Metric.Target = math.Inf(1) }, "metric.target", "+Inf"},
		"a metric's target NaN":       {func(a *Autoscaling) { a.Metric.Target = math.NaN() }, "metric.target", "NaN"},
		"an unknown combination":      {func(a *Autoscaling) { a.Metric.Combine = "sum" }, "metric.combine", `"replace" and "max"`},
		"a busy metric":               {func(a *Autoscaling) { a.Metric.Interval = seconds(0.9) }, "metric.interval", "1s to 10m"},
		"an impatient metric":         {func(a *Autoscaling) { a.Metric.Timeout = 0 }, "metric.timeout", "100ms to the interval, 5s"},
		"a patient metric":            {func(a *Autoscaling) { a.Metric.Timeout = seconds(6) }, "metric.timeout", "100ms to the interval, 5s"},
		"no query": {func(a *Autoscaling) {
			a.Metric.Source, a.Metric.Query = SourcePrometheus, " \n"
		}, "metric.query", "What is Prometheus asked"},
		"a long query": {func(a *Autoscaling) {
			a.Metric.Source, a.Metric.Query = SourcePrometheus, strings.Repeat("a", 4097)
		}, "metric.query", "at most 4096"},
		"a query with an escape": {func(a *Autoscaling) {
			a.Metric.Source, a.Metric.Query = SourcePrometheus, "up\x1b[2J"
		}, "metric.query", "control characters"},
		"a path for Prometheus":  {func(a *Autoscaling) { a.Metric.Source = SourcePrometheus }, "metric.path", "leave it out"},
		"a field for Prometheus": {func(a *Autoscaling) { a.Metric.Source = SourcePrometheus }, "metric.field", "leave it out"},
	} {
		t.Run(name, func(t *testing.T) {
			a := soundAutoscaling()
			c.change(a)
			path := "application.shop.deployment.b.autoscaling." + c.path
			faults := Validate(autoscaled(a))
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == path && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", path, c.says, faults)
			}
		})
	}
}

func TestNumReplicasBesideAutoscaling(t *testing.T) {
	for _, c := range []struct {
		given   int
		initial *int
		first   int // -1: a fault
	}{
		{0, nil, 1},
		{0, new(3), 3},
		{1, nil, 1},
		{4, nil, 4},
		{4, new(3), 3},
		{5, nil, -1},
		{-1, nil, -1},
	} {
		app := autoscaled(soundAutoscaling())
		d := app.Deployments[1]
		d.NumReplicas, d.Autoscaling.InitialReplicas = c.given, c.initial
		faults := Validate(app)
		if c.first < 0 {
			if len(faults) != 1 || faults[0].Path != "application.shop.deployment.b.num_replicas" || !strings.Contains(faults[0].Message, "1 to 4") {
				t.Errorf("%d: one fault is wanted, not %v", c.given, faults)
			}
			continue
		}
		app.Complete()
		if len(faults) > 0 || d.NumReplicas != c.first || d.FirstReplicas() != c.first {
			t.Errorf("%d: %d, want %d; %v", c.given, d.NumReplicas, c.first, faults)
		}
	}
	if d := sound().Deployments[0]; d.FirstReplicas() != 1 {
		t.Error("without autoscaling it is num_replicas")
	}
}

func TestCronLines(t *testing.T) {
	for line, says := range map[string]string{
		"0 8 * * mon-fri":          "",
		"*/15 0-6,22 1 JAN-mar ?":  "",
		"0 0 29 2 *":               "",
		"@daily":                   "",
		"@hourly":                  "",
		" 0\u00a08 * * * ":         "",
		"":                         "When does it begin",
		"\t":                       "When does it begin",
		"0 8 * *":                  "found 4",
		"0 0 8 * * *":              "found 6",
		"60 8 * * *":               "above maximum (59)",
		"0 8 0 * *":                "below minimum (1)",
		"0 8 * * 7":                "above maximum (6)",
		"5-1 8 * * *":              "beyond end of range",
		"0 8 * * mon-":             "failed to parse int from . Write",
		"*/0 8 * * *":              "positive",
		"-1 8 * * *":               "failed to parse",
		"0 0 30 2 *":               "never comes",
		"0 0 31 4,6 *":             "never comes",
		", , , , ,":                "is no cron line",
		",5 8 * * *":               "is no cron line",
		"0\n8 * * *":               "is no cron line",
		"@every 1h":                "names no time",
		" @every":                  "names no time",
		"@reboot":                  "unrecognized",
		"@":                        "unrecognized",
		"TZ=0":                     "timezone",
		"CRON_TZ=":                 "timezone",
		"CRON_TZ=UTC 0 8 * * *":    "timezone",
		strings.Repeat("1,", 128):  "is no cron line",
		strings.Repeat("1,", 129):  "at most 256",
		"0-59/9223372036854775807": "found 1",
		"0-59/9223372036854775807 0/9223372036854775806 * * *": "",
		"99999999999999999999 8 * * *":                         "failed to parse",
	} {
		if got := cronProblem(line); (got == "") != (says == "") || !strings.Contains(got, says) {
			t.Errorf("%q: %q is wanted, not %q", line, says, got)
		}
	}
}

// TestAcceptedCronLinesCome holds that what is accepted parses and comes, soon
// enough, and that nothing upsets the library.
func TestAcceptedCronLinesCome(t *testing.T) {
	word := rapid.SampledFrom([]string{"*", "?", "0", "1", "5", "31", "59", "-", "/", ",", "mon", "feb", "@", "TZ=", "@daily", "@every", "9", " ", " ", " ", "x", "\n"})
	rapid.Check(t, func(t *rapid.T) {
		line := strings.Join(rapid.SliceOfN(word, 0, 30).Draw(t, "words"), "")
		if cronProblem(line) != "" {
			return
		}
		schedule, err := cron.ParseStandard(line)
		if err != nil {
			t.Fatal(err)
		}
		from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		if next := schedule.Next(from); next.IsZero() || !next.After(from) {
			t.Fatalf("%q comes at %s", line, next)
		}
	})
}

func TestTimezones(t *testing.T) {
	for name, good := range map[string]bool{
		"UTC": true, "Europe/Berlin": true, "America/Argentina/Buenos_Aires": true, "Etc/GMT+5": true, "Asia/Kolkata": true,
		"": false, "Local": false, "local": false, "localtime": false, "right/UTC": false, "posix/UTC": false, "utc": false,
		"Europe/Atlantis": false, "Europe": false, "../../etc/passwd": false, "/etc/passwd": false, "Europe/../UTC": false,
		"America/" + strings.Repeat("x", 100): false, "UTC\x00": false, "+01:00": false,
	} {
		if problem := timezoneProblem(name); (problem == "") != good {
			t.Errorf("%q: accepted: %v, want %v: %s", name, problem == "", good, problem)
		}
	}
}

func TestMetricFields(t *testing.T) {
	for field, good := range map[string]bool{
		"depth": true, "queue.depth": true, "models[0].queue-depth": true, "[3]": true, "[0][1].a_B": true, "a.0.p99": true, "-": true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a[": false, "a[]": false, "a[x]": false, "a[-1]": false,
		"a]": false, "a[0]b": false, "a.[0]": false, "a[1234567890]": false, "a b": false, "ä": false, "a\\.b": false, "a*": false, "a?": false,
		"#": false, "a.#": false, "a|b": false, "@this": false, "a.@reverse": false, "!true": false, "{a,b}": false, "a\n": false,
		"a:b": false, "a.#(b==1)": false, strings.Repeat("a.", 127) + "ab": true, strings.Repeat("a.", 128) + "a": false,
	} {
		if problem := fieldProblem(field); (problem == "") != good {
			t.Errorf("%q: accepted: %v, want %v: %s", field, problem == "", good, problem)
		}
	}
}

func TestFieldPath(t *testing.T) {
	for field, want := range map[string]string{
		"depth": "depth", "queue.depth": "queue.depth", "models[0].queue": "models.0.queue", "[0][12].a": "0.12.a", "a.0": "a.0",
	} {
		if got := (&Metric{Field: field}).FieldPath(); got != want {
			t.Errorf("%q: %q, want %q", field, got, want)
		}
	}
}

// TestJSONMayLeaveOut holds that what JSON leaves out means what HCL means by
// it, before Complete to Diff and after it to everybody.
func TestJSONMayLeaveOut(t *testing.T) {
	app := parsed(t, "autoscaling.hcl")
	bare := throughJSON(t, app)
	left := 0
	for i, d := range bare.Deployments {
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "num_replicas")
		block, _ := fields["autoscaling"].(map[string]any)
		if block["policy"] == PolicyRay {
			delete(block, "policy")
			left++
		}
		if d.Name == "knative-defaults" {
			delete(block, "kpa")
			left++
		}
		raw, err = json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		bare.Deployments[i] = &Deployment{}
		if err := json.Unmarshal(raw, bare.Deployments[i]); err != nil {
			t.Fatal(err)
		}
	}
	if left != 4 {
		t.Fatalf("%d fields are left out", left)
	}
	if faults := Validate(bare); len(faults) > 0 {
		t.Error(faults)
	}
	if changes := Diff(app, bare); len(changes) > 0 {
		t.Errorf("it differs: %v", changes)
	}
	if kpa := bare.Deployment("knative-defaults").Autoscaling.EffectiveKPA(); kpa != defaultKPA() {
		t.Errorf("not the defaults: %+v", kpa)
	}
	bare.Complete()
	if diff := cmp.Diff(app, bare); diff != "" {
		t.Errorf("(-HCL +JSON):\n%s", diff)
	}
	odd := &Application{Deployments: []*Deployment{nil, {}}}
	odd.Complete()
}

func TestDiffOfAutoscaling(t *testing.T) {
	old, app := parsed(t, "autoscaling.hcl"), parsed(t, "autoscaling.hcl")
	plain, ray, knative, outside := app.Deployments[0], app.Deployments[1], app.Deployments[2], app.Deployments[4]
	plain.Autoscaling, plain.NumReplicas = nil, 2
	ray.Autoscaling.UpscaleDelay = Duration(90 * time.Second)
	ray.Autoscaling.Schedules = append(ray.Autoscaling.Schedules[1:], &Schedule{
		Name: "night", Cron: "@daily", Duration: Duration(6 * time.Hour), Timezone: "UTC", MinReplicas: new(0),
	})
	ray.Autoscaling.Schedules[0].MaxReplicas = new(600)
	ray.Autoscaling.Metric.Query = "up"
	ray.Autoscaling.Forecast = nil
	knative.Autoscaling.KPA.ScaleDownDelay = 0
	outside.Autoscaling.InitialReplicas = nil
	slices.Reverse(app.Deployment("ray").Autoscaling.Schedules)
	app.Deployment("asked").NumReplicas = 0 // as JSON leaves it out
	var lines strings.Builder
	for _, c := range Diff(old, app) {
		fmt.Fprintf(&lines, "%-7s %s: %q -> %q\n", c.Effect, c.Path, c.Old, c.New)
	}
	golden(t, "autoscaling-diff.txt", []byte(lines.String()))
}

func TestNullIsNotSet(t *testing.T) {
	file := accept(t, source(`autoscaling {
      policy           = "external"
      max_replicas     = 3
      initial_replicas = null
      upscale_delay    = null
    }`, ""))
	d := file.Applications[0].Deployments[0]
	if d.Autoscaling.InitialReplicas != nil || d.NumReplicas != 1 {
		t.Errorf("initial_replicas is %v, num_replicas %d", d.Autoscaling.InitialReplicas, d.NumReplicas)
	}
}

// TestManyHostileSchedules holds that looking for times that never come ends
// soon.
func TestManyHostileSchedules(t *testing.T) {
	app := sound()
	app.Deployments = nil
	for i := range maxDeployments {
		d := sound().Deployments[2]
		d.Name = fmt.Sprint("d", i)
		d.Autoscaling = soundAutoscaling()
		d.Autoscaling.Schedules = nil
		for j := range maxSchedules {
			d.Autoscaling.Schedules = append(d.Autoscaling.Schedules, &Schedule{
				Name: fmt.Sprint("s", j), Cron: "0 0 30 2 *", Duration: Duration(time.Hour), Timezone: "Europe/Berlin", MinReplicas: new(2),
			})
		}
		app.Deployments = append(app.Deployments, d)
	}
	app.Ingress = "d0"
	start := time.Now()
	if faults := Validate(app); len(faults) != maxFaults {
		t.Errorf("%d faults", len(faults))
	}
	if took := time.Since(start); took > patience {
		t.Errorf("took %s", took)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## autoscaling\n")
	if !found {
		t.Fatal("docs/spec.md has no section on autoscaling")
	}
	for _, block := range []any{Autoscaling{}, KPA{}, Schedule{}, Forecast{}, Metric{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(block)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "name" && !strings.Contains(section, "`"+name) { // a schedule's label
				t.Errorf("docs/spec.md does not say what %s is", name)
			}
		}
	}
}
