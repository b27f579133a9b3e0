package appspec

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"
)

func parsed(t *testing.T, name string) *Application {
	t.Helper()
	body, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return accept(t, Source{Files: []SourceFile{{Name: name, Body: body}}, FS: os.DirFS("testdata"), AllowUnsupported: true}).Applications[0]
}

// throughJSON is what the API and the log make of an application or a worker
// group.
func throughJSON[T any](t interface{ Fatal(args ...any) }, spec *T) *T {
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// TestVersionsStay holds the versions of a spec. When they change, each
// deployment that runs anywhere is replaced at its next deploy: change them
// only when there is no other way, and say so in the change log.
func TestVersionsStay(t *testing.T) {
	app := parsed(t, "search.hcl")
	var lines strings.Builder
	for _, d := range app.Deployments {
		fmt.Fprintln(&lines, d.Name, VersionOf(app, d))
	}
	golden(t, "versions.txt", []byte(lines.String()))
}

func TestJSONKeepsASpec(t *testing.T) {
	for _, name := range []string{"search.hcl", "later.hcl", "autoscaling.hcl"} {
		app := parsed(t, name)
		back := throughJSON(t, app)
		if diff := cmp.Diff(app, back); diff != "" {
			t.Errorf("%s (-parsed +read back):\n%s", name, diff)
		}
		if changes := Diff(app, back); len(changes) > 0 {
			t.Errorf("%s: %v", name, changes)
		}
		for i, d := range app.Deployments {
			if VersionOf(app, d) != VersionOf(back, back.Deployments[i]) {
				t.Errorf("%s: another version of %s", name, d.Name)
			}
		}
	}
}

func TestVersionDependsOn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(app *Application, d *Deployment)
		new    bool
	}{
		"the application's name": {func(app *Application, _ *Deployment) { app.Name = "x" }, true},
		"the deployment's name":  {func(_ *Application, d *Deployment) { d.Name = "x" }, true},
		"a handle":               {func(_ *Application, d *Deployment) { d.Handles = d.Handles[:1] }, true},
		"the order of handles":   {func(_ *Application, d *Deployment) { slices.Reverse(d.Handles) }, false},
		"the image":              {func(_ *Application, d *Deployment) { d.Task.Config["image"] = "x" }, true},
		"the environment":        {func(_ *Application, d *Deployment) { d.Task.Env["X"] = "" }, true},
		"a constraint":           {func(_ *Application, d *Deployment) { d.Task.Constraints[0].RTarget = "x" }, true},
		"a flag behind a pointer": {func(_ *Application, d *Deployment) {
			d.Task.Templates[0].Envvars = new(false)
		}, true},
		"what is ours in the task": {func(_ *Application, d *Deployment) {
			d.Task.Name, d.Task.Resources = d.Name, &api.Resources{}
		}, false},
		"the cores":             {func(_ *Application, d *Deployment) { d.Resources.CPU++ }, true},
		"the check":             {func(_ *Application, d *Deployment) { d.HealthCheck.Path = "/x" }, true},
		"the shutdown":          {func(_ *Application, d *Deployment) { d.GracefulShutdownTimeout++ }, true},
		"the user's config":     {func(_ *Application, d *Deployment) { d.UserConfig = json.RawMessage(`{"threshold":0.6}`) }, true},
		"a way to reconfigure":  {func(_ *Application, d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGHUP"} }, true},
		"the rollout":           {func(app *Application, _ *Deployment) { app.Rollout = soundRollout() }, false},
		"spaces in the config":  {func(_ *Application, d *Deployment) { d.UserConfig = json.RawMessage(" " + string(d.UserConfig) + "\n") }, false},
		"the worker group":      {func(_ *Application, d *Deployment) { d.WorkerGroup = "x" }, true},
		"the node pool":         {func(_ *Application, d *Deployment) { d.NodePool = "x" }, true},
		"the number of them":    {func(_ *Application, d *Deployment) { d.NumReplicas++ }, false},
		"autoscaling":           {func(_ *Application, d *Deployment) { d.Autoscaling = soundAutoscaling() }, false},
		"the requests at once":  {func(_ *Application, d *Deployment) { d.MaxOngoingRequests++ }, false},
		"the requests in queue": {func(_ *Application, d *Deployment) { d.MaxQueuedRequests++ }, false},
		"the queue's headers":   {func(_ *Application, d *Deployment) { d.PriorityHeaders = true }, false},
		"the route":             {func(app *Application, _ *Deployment) { app.RoutePrefix = "/x" }, false},
		"the timeout":           {func(app *Application, _ *Deployment) { app.RequestTimeout++ }, false},
		"the bodies":            {func(app *Application, _ *Deployment) { app.MaxBodyBytes++ }, false},
		"the ingress":           {func(app *Application, _ *Deployment) { app.Ingress = "ranker" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			old, app := parsed(t, "search.hcl"), parsed(t, "search.hcl")
			c.change(app, app.Deployments[0])
			before, after := VersionOf(old, old.Deployments[0]), VersionOf(app, app.Deployments[0])
			if len(after) != 8 || (before != after) != c.new {
				t.Errorf("%s -> %s, a new version is wanted: %v", before, after, c.new)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	old, app := parsed(t, "search.hcl"), parsed(t, "search.hcl")
	if changes := Diff(old, app); len(changes) > 0 {
		t.Errorf("nothing changed, not %v", changes)
	}
	first := app.Deployments[0]
	app.RoutePrefix = "/find"
	app.RequestTimeout, app.MaxBodyBytes = 0, 1<<20
	first.NumReplicas = 5
	first.Task.Config["image"] = "registry.example/pipeline:1.5"
	first.Task.Config["args"] = []any{"--port", "8000"}
	first.Task.Env["API_TOKEN"] = "very secret"
	first.Task.Templates[0].EmbeddedTmpl = new(strings.Repeat("long ", 1000))
	first.Task.Vault = nil
	first.UserConfig = json.RawMessage(`{"threshold":0.6,"models":["a","b"],"nested":{"deep":null,"large":9007199254740991}}`)
	first.Handles = []string{"embedder"}
	app.Deployments = app.Deployments[:2]
	app.Deployments = append(app.Deployments, sound().Deployments[2])
	var lines strings.Builder
	for _, c := range Diff(old, app) {
		fmt.Fprintf(&lines, "%-7s %s: %q -> %q\n", c.Effect, c.Path, c.Old, c.New)
	}
	golden(t, "diff.txt", []byte(lines.String()))
}

// anyApplication draws applications that differ in few ways, so that two of
// them are often alike in part.
func anyApplication(t *rapid.T, label string) *Application {
	app := &Application{
		Name:           "shop",
		RoutePrefix:    rapid.SampledFrom([]string{"/", "/a"}).Draw(t, label+" route"),
		Ingress:        rapid.SampledFrom([]string{"a", "b"}).Draw(t, label+" ingress"),
		RequestTimeout: Duration(rapid.IntRange(0, 1).Draw(t, label+" timeout")),
		MaxBodyBytes:   rapid.Int64Range(0, 1).Draw(t, label+" body"),
		Rollout: rapid.SampledFrom([]*Rollout{
			nil,
			{},
			{Strategy: "rolling"},
			{Strategy: "canary", Steps: []int{1, 50}, MaxSurge: new(0)},
			{BakeTime: new(Duration(0))},
			{Gates: &Gates{MaxRestarts: new(-1), Queries: []*Query{{Name: "a"}, nil}, Checks: []*Check{{Name: "a.b", Task: &api.Task{Driver: "exec"}}}}},
		}).Draw(t, label+" rollout"),
	}
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID[string]).Draw(t, label+" deployments") {
		app.Deployments = append(app.Deployments, anyDeployment(t, label+" "+name, name))
	}
	return app
}

func anyDeployment(t *rapid.T, label, name string) *Deployment {
	few := func(what string) int { return rapid.IntRange(0, 1).Draw(t, label+" "+what) }
	d := &Deployment{
		Name: name, NumReplicas: few("replicas"), MaxOngoingRequests: few("ongoing"), MaxQueuedRequests: few("queued"),
		Handles:                 rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, label+" handles"),
		Resources:               Resources{CPU: float64(few("cpu")) / 2, MemoryMB: few("memory"), GPU: float64(few("gpu"))},
		HealthCheck:             HealthCheck{Path: "/", Period: Duration(few("period"))},
		GracefulShutdownTimeout: Duration(few("shutdown")),
		UserConfig:              rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`{}`), json.RawMessage(`{"a": 1}`), json.RawMessage(`{"a":1}`), json.RawMessage(`{"a":"1"}`)}).Draw(t, label+" config"),
		Task: &api.Task{
			Driver: rapid.SampledFrom([]string{"exec", "docker"}).Draw(t, label+" driver"),
			Env:    rapid.MapOfN(rapid.SampledFrom([]string{"A", "B.C"}), rapid.SampledFrom([]string{"", "1", "x"}), 0, 2).Draw(t, label+" env"),
			Config: rapid.SampledFrom([]map[string]any{
				nil,
				{"a": 1},
				{"a": 1.0},
				{"a": "1"},
				{"a": nil},
				{"a": []any{}},
				{"a": []any{map[string]any{"b": true}}},
				{"a": []map[string]any{{"b": true}}},
				{"a": map[string]any{"b": true}},
				{"a": []any{1, "1"}},
			}).Draw(t, label+" task config"),
			Templates: rapid.SampledFrom([][]*api.Template{nil, {{}}, {{EmbeddedTmpl: new("x")}}, {{Envvars: new(false)}}}).Draw(t, label+" templates"),
		},
	}
	d.Autoscaling = anyAutoscaling(t, label)
	d.Reconfigure = rapid.SampledFrom([]*Reconfigure{nil, {}, {Signal: "SIGHUP"}, {Path: "/x"}, {Path: "/x", Timeout: 1}}).Draw(t, label+" reconfigure")
	if few("timeout of the check") == 1 {
		d.HealthCheck.Timeout = Duration(time.Second)
	}
	return d
}

func anyAutoscaling(t *rapid.T, label string) *Autoscaling {
	few := func(what string) int { return rapid.IntRange(0, 1).Draw(t, label+" "+what) }
	a := &Autoscaling{
		Policy:      rapid.SampledFrom([]string{"", PolicyRay, PolicyKPA}).Draw(t, label+" policy"),
		MinReplicas: few("min"), UpscaleDelay: Duration(few("delay")), TargetOngoingRequests: float64(few("target")) / 3,
		KPA:       rapid.SampledFrom([]*KPA{nil, {}, new(defaultKPA())}).Draw(t, label+" kpa"),
		Schedules: rapid.SampledFrom([][]*Schedule{nil, {{Name: "a"}}, {{Name: "a"}, {Name: "a"}}, {{Name: "b.c", MinReplicas: new(0)}, nil}}).Draw(t, label+" schedules"),
		Forecast:  rapid.SampledFrom([]*Forecast{nil, {}}).Draw(t, label+" forecast"),
		Metric:    rapid.SampledFrom([]*Metric{nil, {Query: "1"}, {Query: "up"}}).Draw(t, label+" metric"),
	}
	return rapid.SampledFrom([]*Autoscaling{nil, a}).Draw(t, label+" autoscaling")
}

// TestDiffAgreesWithVersions holds what people are told against what is done.
func TestDiffAgreesWithVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, app := anyApplication(t, "old"), anyApplication(t, "new")
		versions := func(app *Application) map[string]string {
			out := map[string]string{}
			for _, d := range app.Deployments {
				out[d.Name] = VersionOf(app, d)
			}
			return out
		}
		changes := Diff(old, app)
		replaced := slices.ContainsFunc(changes, func(c Change) bool { return c.Effect == EffectReplace })
		if differ := !maps.Equal(versions(old), versions(app)); differ != replaced {
			t.Errorf("versions differ: %v, something is replaced: %v: %v", differ, replaced, changes)
		}
		if !slices.IsSortedFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) }) {
			t.Errorf("not sorted: %v", changes)
		}
		for _, c := range changes {
			if c.Old == c.New {
				t.Errorf("no change: %v", c)
			}
		}
		if changes := Diff(app, throughJSON(t, app)); len(changes) > 0 {
			t.Errorf("JSON changes it: %v", changes)
		}
	})
}
