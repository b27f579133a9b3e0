package appspec

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"
)

// TestWhatChangedDecidesTheStrategy has a row for each kind of change, beside a
// spec that asks for nothing.
func TestWhatChangedDecidesTheStrategy(t *testing.T) {
	for name, c := range map[string]struct {
		change func(app *Application, b *Deployment)
		want   Strategy
		why    string
	}{
		"nothing":                     {func(*Application, *Deployment) {}, StrategyLive, "nothing changed"},
		"the number of replicas":      {func(_ *Application, b *Deployment) { b.NumReplicas = 7 }, StrategyLive, "deployment.b.num_replicas changed, which no"},
		"autoscaling":                 {func(_ *Application, b *Deployment) { b.Autoscaling = soundAutoscaling() }, StrategyLive, "deployment.b.autoscaling"},
		"the requests at once":        {func(_ *Application, b *Deployment) { b.MaxOngoingRequests = 9 }, StrategyLive, "deployment.b.max_ongoing_requests changed, which"},
		"the queue":                   {func(_ *Application, b *Deployment) { b.MaxQueuedRequests, b.PriorityHeaders = 9, true }, StrategyLive, "deployment.b.max_queued_requests, deployment.b.priority_headers changed"},
		"the timeout":                 {func(app *Application, _ *Deployment) { app.RequestTimeout = 9 }, StrategyLive, "request_timeout changed, which no"},
		"the size of bodies":          {func(app *Application, _ *Deployment) { app.MaxBodyBytes = 9 }, StrategyLive, "max_body_bytes changed"},
		"the route":                   {func(app *Application, _ *Deployment) { app.RoutePrefix = "/x" }, StrategyLive, "route_prefix changed"},
		"the rollout itself":          {func(app *Application, _ *Deployment) { app.Rollout = &Rollout{Strategy: "canary", Shadow: 5} }, StrategyLive, "rollout."},
		"a config that replicas take": {func(app *Application, _ *Deployment) { app.Deployments[2].UserConfig = json.RawMessage(`{"a":2}`) }, StrategyLive, "deployment.c.user_config.a changed, which no"},
		"its time":                    {func(app *Application, _ *Deployment) { app.Deployments[2].Reconfigure.Timeout = 9 }, StrategyLive, "deployment.c.reconfigure.timeout changed"},

		"another config":     {func(_ *Application, b *Deployment) { b.UserConfig = json.RawMessage(`{"a":2}`) }, StrategyRolling, "deployment.b.user_config.a changed"},
		"the image":          {func(_ *Application, b *Deployment) { b.Task.Config = map[string]any{"image": "x"} }, StrategyRolling, "deployment.b.task.config.image changed"},
		"the environment":    {func(_ *Application, b *Deployment) { b.Task.Env = map[string]string{"A": "1"} }, StrategyRolling, "deployment.b.task.env.A changed"},
		"the resources":      {func(_ *Application, b *Deployment) { b.Resources.CPU = 2 }, StrategyRolling, "deployment.b.resources.cpu changed"},
		"the health check":   {func(_ *Application, b *Deployment) { b.HealthCheck.Path = "/x" }, StrategyRolling, "deployment.b.health_check.path changed"},
		"how configs change": {func(app *Application, _ *Deployment) { app.Deployments[2].Reconfigure.Signal = "SIGUSR1" }, StrategyRolling, "deployment.c.reconfigure.signal changed"},
		"many things": {func(_ *Application, b *Deployment) {
			*b.Task, b.Resources = api.Task{Driver: "docker"}, Resources{CPU: 2, MemoryMB: 256, GPU: 1}
		}, StrategyRolling, "deployment.b.resources.cpu, deployment.b.resources.gpu, deployment.b.resources.memory and 1 more changed"},
		"replicas and counts": {func(_ *Application, b *Deployment) { b.NumReplicas, b.Resources.CPU = 7, 2 }, StrategyRolling, "deployment.b.resources.cpu changed"},

		"the ingress":      {func(app *Application, _ *Deployment) { app.Ingress = "b" }, StrategyBlueGreen, "ingress changed: old and new"},
		"who calls whom":   {func(_ *Application, b *Deployment) { b.Handles = nil }, StrategyBlueGreen, "deployment.b.handles changed"},
		"in which order":   {func(app *Application, _ *Deployment) { slices.Reverse(app.Deployments[0].Handles) }, StrategyLive, "nothing"},
		"how it is called": {func(_ *Application, b *Deployment) { b.Protocol = ProtocolH2C }, StrategyBlueGreen, "deployment.b.protocol changed"},
		"on what nodes":    {func(_ *Application, b *Deployment) { b.WorkerGroup = "gpu" }, StrategyBlueGreen, "deployment.b.worker_group changed"},
		"in what pool":     {func(_ *Application, b *Deployment) { b.NodePool = "gpu" }, StrategyBlueGreen, "deployment.b.node_pool changed"},
		"a new deployment": {func(app *Application, _ *Deployment) {
			app.Deployments = append(app.Deployments, &Deployment{Name: "d"})
		}, StrategyBlueGreen, "deployment.d (new) changed"},
		"a deployment that goes": {func(app *Application, _ *Deployment) { app.Deployments = app.Deployments[:2] }, StrategyBlueGreen, "deployment.c (gone) changed"},
		"one that is renamed":    {func(_ *Application, b *Deployment) { b.Name = "d" }, StrategyBlueGreen, "deployment.b (gone), deployment.d (new) changed"},
		"wiring and images":      {func(_ *Application, b *Deployment) { b.Handles, b.Resources.CPU = nil, 2 }, StrategyBlueGreen, "deployment.b.handles changed: "},
		"wiring of many a thing": {func(app *Application, b *Deployment) {
			b.Handles, b.NodePool, b.WorkerGroup, app.Ingress = nil, "x", "x", "b"
		}, StrategyBlueGreen, "deployment.b.handles, deployment.b.node_pool, deployment.b.worker_group and 1 more changed"},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := rolledOut(), rolledOut()
			c.change(after, after.Deployments[1])
			s, why := ChooseStrategy(before, after)
			if s != c.want || !strings.HasPrefix(why, c.why) {
				t.Errorf("%s: %s, want %s: %s", s, why, c.want, c.why)
			}
		})
	}
}

// rolledOut is an application whose deployment c takes another config as it
// runs.
func rolledOut() *Application {
	app := sound()
	for _, d := range app.Deployments {
		d.UserConfig = json.RawMessage(`{"a":1}`)
	}
	app.Deployments[2].Reconfigure = &Reconfigure{Signal: "SIGHUP"}
	return app
}

func TestAStrategyThatIsAskedFor(t *testing.T) {
	for _, asked := range []Strategy{StrategyRolling, StrategyBlueGreen, StrategyCanary} {
		for name, c := range map[string]struct {
			change func(b *Deployment)
			want   Strategy
			why    string
		}{
			"counts":   {func(b *Deployment) { b.NumReplicas = 7 }, StrategyLive, "deployment.b.num_replicas"},
			"an image": {func(b *Deployment) { b.Task.Config = map[string]any{"image": "x"} }, asked, "the spec asks for it; deployment.b.task.config.image changed"},
			"handles":  {func(b *Deployment) { b.Handles = nil }, asked, "the spec asks for it; deployment.b.handles changed"},
			"wiring before the rest": {
				func(b *Deployment) { b.HealthCheck.Path, b.NodePool = "/x", "x" }, asked,
				"the spec asks for it; deployment.b.node_pool, deployment.b.health_check.path changed",
			},
		} {
			before, after := rolledOut(), rolledOut()
			after.Rollout = &Rollout{Strategy: string(asked)}
			c.change(after.Deployments[1])
			if s, why := ChooseStrategy(before, after); s != c.want || !strings.HasPrefix(why, c.why) {
				t.Errorf("%s of %s: %s: %s, want %s: %s", asked, name, s, why, c.want, c.why)
			}
			// What the old spec asks for does not count.
			after.Rollout, before.Rollout = before.Rollout, after.Rollout
			if s, _ := ChooseStrategy(before, after); s == StrategyCanary {
				t.Errorf("%s of %s: the old spec decides", asked, name)
			}
		}
	}
}

// TestLiveIsWhatReplacesNothing holds the strategy against what a replica's
// version depends on, and the ingress.
func TestLiveIsWhatReplacesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := anyApplication(t, "old"), anyApplication(t, "new")
		versions := func(app *Application) map[string]string {
			out := map[string]string{}
			for _, d := range app.Deployments {
				out[d.Name] = VersionOf(app, d)
			}
			return out
		}
		s, why := ChooseStrategy(before, after)
		live := maps.Equal(versions(before), versions(after)) && before.Ingress == after.Ingress
		if (s == StrategyLive) != live {
			t.Errorf("%s: %s; nothing is replaced: %v", s, why, live)
		}
		if r := after.Rollout; !live && r != nil && r.Strategy != "" && string(s) != r.Strategy {
			t.Errorf("%s is asked for, and it is %s", r.Strategy, s)
		}
		if asked := after.Rollout; !live && (asked == nil || asked.Strategy == "") && s != StrategyRolling && s != StrategyBlueGreen {
			t.Errorf("%s by what changed", s)
		}
		for range 3 {
			if again, other := ChooseStrategy(throughJSON(t, before), throughJSON(t, after)); again != s || other != why {
				t.Errorf("%s: %s, and then %s: %s", s, why, again, other)
			}
		}
	})
}
