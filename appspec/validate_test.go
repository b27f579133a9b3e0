package appspec

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"
)

// sound is an application without a fault.
func sound() *Application {
	deployment := func(name string, handles ...string) *Deployment {
		return &Deployment{
			Name: name, Handles: handles, NumReplicas: 1, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Resources:               Resources{CPU: 1, MemoryMB: 128},
			Task:                    &api.Task{Driver: "exec"},
			HealthCheck:             HealthCheck{Path: "/healthz", Period: Duration(2 * time.Second), Timeout: Duration(time.Second)},
			GracefulShutdownTimeout: Duration(20 * time.Second),
		}
	}
	return &Application{
		Name: "shop", RoutePrefix: "/", Ingress: "a",
		Deployments: []*Deployment{deployment("a", "b", "c"), deployment("b", "c"), deployment("c")},
	}
}

func TestValidate(t *testing.T) {
	if faults := Validate(sound()); len(faults) > 0 {
		t.Fatalf("a sound application has no fault: %v", faults)
	}
	at := "application.shop.deployment.b"
	for name, c := range map[string]struct {
		change func(app *Application, b *Deployment)
		path   string
		says   string
	}{
		"no name":                  {func(app *Application, _ *Deployment) { app.Name = "" }, "application.", "starting with a letter"},
		"a route without a slash":  {func(app *Application, _ *Deployment) { app.RoutePrefix = "x" }, "application.shop.route_prefix", "starts with a slash"},
		"an endless timeout":       {func(app *Application, _ *Deployment) { app.RequestTimeout = math.MaxInt64 }, "application.shop.request_timeout", "0s to 24h"},
		"a body below none":        {func(app *Application, _ *Deployment) { app.MaxBodyBytes = -1 }, "application.shop.max_body_bytes", "0 for what the proxy takes"},
		"an endless body":          {func(app *Application, _ *Deployment) { app.MaxBodyBytes = math.MaxInt64 }, "application.shop.max_body_bytes", "from 0 to 1125899906842624"},
		"an unknown ingress":       {func(app *Application, _ *Deployment) { app.Ingress = "aa" }, "application.shop.ingress", "Did you mean deployment.a?"},
		"no ingress":               {func(app *Application, _ *Deployment) { app.Ingress = "" }, "application.shop.ingress", "ingress = deployment.a"},
		"no deployments":           {func(app *Application, _ *Deployment) { app.Deployments = nil }, "application.shop", "at least one deployment"},
		"a ring":                   {func(_ *Application, b *Deployment) { b.Handles = []string{"a"} }, "application.shop.deployment.a.handles", "a -> b -> a"},
		"itself":                   {func(_ *Application, b *Deployment) { b.Handles = []string{"b"} }, at + ".handles", "b -> b"},
		"an unknown handle":        {func(_ *Application, b *Deployment) { b.Handles = []string{"c", "none"} }, at + ".handles[1]", `"none"`},
		"a handle twice":           {func(_ *Application, b *Deployment) { b.Handles = []string{"c", "c"} }, at + ".handles[1]", "twice"},
		"a name twice":             {func(app *Application, _ *Deployment) { app.Deployments[2].Name = "b" }, at, "already"},
		"too few replicas":         {func(_ *Application, b *Deployment) { b.NumReplicas = -1 }, at + ".num_replicas", "0 to 100000"},
		"no requests at all":       {func(_ *Application, b *Deployment) { b.MaxOngoingRequests = 0 }, at + ".max_ongoing_requests", "from 1"},
		"a queue below no limit":   {func(_ *Application, b *Deployment) { b.MaxQueuedRequests = -2 }, at + ".max_queued_requests", "-1 for no limit"},
		"NaN cores":                {func(_ *Application, b *Deployment) { b.Resources.CPU = math.NaN() }, at + ".resources.cpu", "NaN"},
		"endless cores":            {func(_ *Application, b *Deployment) { b.Resources.CPU = math.Inf(1) }, at + ".resources.cpu", "Inf"},
		"no memory":                {func(_ *Application, b *Deployment) { b.Resources.MemoryMB = 0 }, at + ".resources.memory", "10MiB"},
		"half a GPU too many":      {func(_ *Application, b *Deployment) { b.Resources.GPU = 1.5 }, at + ".resources.gpu", "use 1 or 2"},
		"a share of a GPU":         {func(_ *Application, b *Deployment) { b.Resources.GPU = 0.5 }, at + ".resources.gpu", "not supported yet"},
		"negative GPUs":            {func(_ *Application, b *Deployment) { b.Resources.GPU = -1 }, at + ".resources.gpu", "from 0"},
		"a check of another host":  {func(_ *Application, b *Deployment) { b.HealthCheck.Path = "http://x" }, at + ".health_check.path", "slash"},
		"a check with a line end":  {func(_ *Application, b *Deployment) { b.HealthCheck.Path = "/\r\nx" }, at + ".health_check.path", "no place"},
		"a busy check":             {func(_ *Application, b *Deployment) { b.HealthCheck.Period = Duration(time.Millisecond) }, at + ".health_check.period", "1s to"},
		"a check without time":     {func(_ *Application, b *Deployment) { b.HealthCheck.Timeout = 0 }, at + ".health_check.timeout", "1s to"},
		"a negative shutdown":      {func(_ *Application, b *Deployment) { b.GracefulShutdownTimeout = -1 }, at + ".graceful_shutdown_timeout", "0s to"},
		"a config that is a list":  {func(_ *Application, b *Deployment) { b.UserConfig = json.RawMessage("[1]") }, at + ".user_config", "object"},
		"a config that is no JSON": {func(_ *Application, b *Deployment) { b.UserConfig = json.RawMessage("{") }, at + ".user_config", "object"},
		"a large config":           {func(_ *Application, b *Deployment) { b.UserConfig = make(json.RawMessage, maxUserConfig+1) }, at + ".user_config", "256 KiB"},
		"no task":                  {func(_ *Application, b *Deployment) { b.Task = nil }, at + ".task", "task block"},
		"no driver":                {func(_ *Application, b *Deployment) { b.Task.Driver = "" }, at + ".task.driver", "driver"},
		"another task's name":      {func(_ *Application, b *Deployment) { b.Task.Name = "x" }, at + ".task.name", "named as its deployment"},
		"a task's resources":       {func(_ *Application, b *Deployment) { b.Task.Resources = &api.Resources{} }, at + ".task.resources", "own resources"},
		"a task's service":         {func(_ *Application, b *Deployment) { b.Task.Services = []*api.Service{nil} }, at + ".task.service", "health_check"},
		"a task's kill timeout":    {func(_ *Application, b *Deployment) { b.Task.KillTimeout = new(time.Second) }, at + ".task.kill_timeout", "graceful_shutdown_timeout"},
		"our environment":          {func(_ *Application, b *Deployment) { b.Task.Env = map[string]string{"PORT": "1"} }, at + ".task.env.PORT", "itself sets PORT"},
		"a worker group's name":    {func(_ *Application, b *Deployment) { b.WorkerGroup = "GPU" }, at + ".worker_group", "no worker group's name"},
		"a node pool's name":       {func(_ *Application, b *Deployment) { b.NodePool = "a b" }, at + ".node_pool", "no node pool's name"},
		"a rollout":                {func(app *Application, _ *Deployment) { app.Rollout = &Rollout{Shadow: 101} }, "application.shop.rollout.shadow", "from 0 to 100"},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			c.change(app, app.Deployments[1])
			faults := Validate(app)
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == c.path && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", c.path, c.says, faults)
			}
		})
	}
}

func TestValidateTakesAnything(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	many := &Application{Name: huge, RoutePrefix: huge, Ingress: huge}
	for i := range 1000 {
		d := &Deployment{Name: fmt.Sprint("d", i)}
		for j := range 1000 {
			d.Handles = append(d.Handles, fmt.Sprint("d", j), huge)
		}
		many.Deployments = append(many.Deployments, d)
	}
	chain := sound()
	chain.Deployments = nil
	for i := range maxDeployments {
		chain.Deployments = append(chain.Deployments, &Deployment{Name: fmt.Sprint("d", i), Handles: []string{fmt.Sprint("d", i+1)}})
	}
	deep := json.RawMessage(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000))
	odd := &Rollout{
		MaxSurge: new(math.MinInt), Steps: make([]int, 1<<16), Interval: math.MinInt64, BakeTime: new(Duration(math.MinInt64)), Shadow: math.MaxInt,
		Gates: &Gates{
			MaxErrorIncrease: new(math.NaN()), MaxRestarts: new(math.MinInt),
			Queries: []*Query{nil, {Name: huge, Query: huge, Min: new(math.NaN())}}, Checks: []*Check{nil, {Name: huge, Task: &api.Task{Name: huge}}},
		},
	}
	apps := map[string]*Application{
		"odd rollouts": {Rollout: odd, Deployments: []*Deployment{{Reconfigure: &Reconfigure{Signal: huge, Path: huge, Timeout: math.MinInt64}}, {Reconfigure: &Reconfigure{}}}},
		"nil":          nil, "empty": {}, "a nil deployment": {Deployments: []*Deployment{nil, nil}},
		"an empty deployment": {Deployments: []*Deployment{{}, {}}},
		"many and huge":       many, "a long chain": chain,
		"too many":    {Deployments: make([]*Deployment, 100_000)},
		"deep config": {Deployments: []*Deployment{{UserConfig: deep, Task: &api.Task{Config: map[string]any{"a": deepMap(5000), "b": nil, "c": []any{nil, []any{math.NaN()}}}}}}},
		"odd numbers": {RequestTimeout: math.MinInt64, Deployments: []*Deployment{{Resources: Resources{CPU: math.NaN(), MemoryMB: math.MinInt, GPU: math.Inf(-1)}, Autoscaling: &Autoscaling{TargetOngoingRequests: math.NaN()}}}},
		"nil parts":   {Deployments: []*Deployment{{Task: &api.Task{Templates: []*api.Template{nil}, Services: []*api.Service{nil}, Constraints: []*api.Constraint{nil}}}}},
	}
	for name, app := range apps {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			faults := Validate(app)
			if len(faults) == 0 {
				t.Error("there is no fault")
			}
			ValidateFile(&File{Applications: []*Application{app, app, nil}, WorkerGroups: []*WorkerGroup{nil, {}}})
			if name != "many and huge" { // 2 GB of handles are not what a version is made for
				Diff(nil, app)
				Diff(app, sound())
				if app != nil {
					for _, d := range app.Deployments {
						VersionOf(app, d)
					}
				}
			}
			if raw, err := json.Marshal(faults); err != nil || len(raw) > 4<<20 {
				t.Errorf("%d bytes of faults, %v", len(raw), err)
			}
			if took := time.Since(start); took > patience {
				t.Errorf("took %s", took)
			}
		})
	}
	ValidateFile(nil)
	VersionOf(nil, nil)
}

func deepMap(n int) any {
	var v any = 1
	for range n {
		v = map[string]any{"a": v}
	}
	return v
}

// TestRingsAreFound compares the search for rings with a dumb one: removing
// what calls nothing until nothing changes.
func TestRingsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		app := sound()
		app.Deployments = nil
		n := rapid.IntRange(1, 6).Draw(t, "n")
		for i := range n {
			d := sound().Deployments[0]
			d.Name = fmt.Sprint("d", i)
			d.Handles = nil
			for _, j := range rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, 3, rapid.ID[int]).Draw(t, "handles") {
				d.Handles = append(d.Handles, fmt.Sprint("d", j))
			}
			app.Deployments = append(app.Deployments, d)
		}
		app.Ingress = "d0"
		left := slices.Clone(app.Deployments)
		for changed := true; changed; {
			before := len(left)
			left = slices.DeleteFunc(left, func(d *Deployment) bool {
				return !slices.ContainsFunc(d.Handles, func(h string) bool {
					return slices.ContainsFunc(left, func(o *Deployment) bool { return o != nil && o.Name == h })
				})
			})
			changed = len(left) < before
		}
		if found := len(Validate(app)) > 0; found != (len(left) > 0) {
			t.Errorf("found %v, %d deployments are in or before a ring", found, len(left))
		}
	})
}
