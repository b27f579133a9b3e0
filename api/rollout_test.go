package api_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// image is the application with another image, which needs new replicas.
func image(name, tag string, change ...func(*appspec.Application)) *appspec.Application {
	app := spec(name)
	app.Deployments[0].Task.Env = map[string]string{"IMAGE": tag}
	for _, c := range change {
		c(app)
	}
	return app
}

func canary(app *appspec.Application) {
	app.Rollout = &appspec.Rollout{Strategy: "canary", Steps: []int{10, 50}, Interval: appspec.Duration(time.Minute)}
}

// deploy deploys one application and lets it take over, unless it is to stay on
// its way.
func (i *instance) deploy(t *testing.T, app *appspec.Application, takesOver bool) serve.Deployed {
	t.Helper()
	answer, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{app}, By: "me", Message: "because"})
	if err != nil {
		t.Fatal(err)
	}
	d := answer.Applications[0]
	if takesOver {
		i.mustApply(t, raftstate.Command{At: time.Unix(100, 0).UTC(), EndRollout: &raftstate.EndRollout{
			Application: d.Name, Version: d.Version, Status: raftstate.RolloutSuccessful, Reason: "it passes",
		}})
	}
	return d
}

func TestHistory(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "1"), true)
	i.deploy(t, image("shop", "2", canary), true)
	i.deploy(t, image("shop", "3", canary), false)
	if _, err := i.client.Steer(t.Context(), "shop", raftstate.ActionAbort, serve.SteerRequest{By: "her", Message: "wrong"}); err != nil {
		t.Fatal(err)
	}
	list, err := i.client.History(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		version, generation int
		strategy            appspec.Strategy
		status              raftstate.RolloutStatus
		reason              string
		serving, wanted     bool
		leaving             raftstate.LeavingCause
	}
	var got []row
	for _, v := range list {
		got = append(got, row{v.Version, v.Generation, v.Rollout.Strategy, v.Rollout.Status, v.Rollout.Reason, v.Serving, v.Wanted, v.Leaving})
		if v.By != "me" || v.Message != "because" || v.At.IsZero() || v.Replicas["web"] != 2 || v.Hashes["web"] == "" {
			t.Errorf("version %d: %+v", v.Version, v)
		}
	}
	want := []row{
		{3, 3, appspec.StrategyCanary, raftstate.RolloutFailed, "aborted by her: wrong", false, true, raftstate.LeavingAborted},
		{2, 2, appspec.StrategyCanary, raftstate.RolloutSuccessful, "it passes", true, false, ""},
		{1, 0, "", raftstate.RolloutSuccessful, "it passes", false, false, raftstate.LeavingReplaced},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(row{})); d != "" {
		t.Error(d)
	}
	for _, version := range []int{1, 3} {
		app, err := i.client.Spec(t.Context(), "shop", version)
		if err != nil || app.Deployments[0].Task.Env["IMAGE"] != string(rune('0'+version)) {
			t.Errorf("the spec of version %d: %+v, %v", version, app, err)
		}
	}
}

// What serves is in the history however many versions after it have failed.
func TestHistoryHasWhatServes(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "good"), true)
	for n := range 25 {
		i.deploy(t, image("shop", "bad"+string(rune('a'+n))), false)
		if _, err := i.client.Steer(t.Context(), "shop", raftstate.ActionAbort, serve.SteerRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := i.client.History(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	serving := 0
	for _, v := range list {
		if v.Serving {
			serving = v.Version
		}
	}
	if serving != 1 || !slices.IsSortedFunc(list, func(a, b serve.VersionInfo) int { return b.Version - a.Version }) {
		t.Errorf("version %d serves; %+v", serving, list)
	}
	if app, err := i.client.Spec(t.Context(), "shop", 1); err != nil || app.Deployments[0].Task.Env["IMAGE"] != "good" {
		t.Errorf("its spec: %+v, %v", app, err)
	}
}

func TestRollback(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "1"), true)
	i.deploy(t, image("shop", "2"), true)
	answer, err := i.client.Rollback(t.Context(), "shop", serve.RollbackRequest{By: "me", Message: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	app := i.View().State.Applications["shop"]
	want := serve.RollbackResponse{Index: app.ModifyIndex, Deployed: serve.Deployed{Name: "shop", Version: 3, ModifyIndex: app.ModifyIndex, Changed: true}}
	if d := cmp.Diff(want, answer); d != "" {
		t.Error(d)
	}
	if v := app.Wanted; v.Spec.Deployments[0].Task.Env["IMAGE"] != "1" || v.By != "me" || !strings.Contains(v.Message, "slow") {
		t.Errorf("wanted is %+v", v)
	}
}

func TestPlanOfARollback(t *testing.T) {
	i := start(t)
	i.settled(t, image("shop", "1"))
	i.deploy(t, image("shop", "2"), true)
	before := len(i.proposed)
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Rollback: &serve.PlanRollback{Application: "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	p, app := answer.Applications[0], i.View().State.Applications["shop"]
	if len(answer.Applications) != 1 || p.Moved || p.Action != serve.ActionUpdate || p.Version != 3 || p.Serving != 2 || p.CheckIndex != app.ModifyIndex {
		t.Errorf("got %+v", answer)
	}
	if len(p.Changes) != 1 || p.Changes[0].Old != `"2"` || p.Changes[0].New != `"1"` || p.Strategy != appspec.StrategyRolling || len(p.Stages) == 0 {
		t.Errorf("changes %+v, by %s in %+v", p.Changes, p.Strategy, p.Stages)
	}
	if len(p.Steps) == 0 || answer.Room == nil {
		t.Errorf("steps %v, room %v", p.Steps, answer.Room)
	}
	if len(i.proposed) != before {
		t.Error("plan proposed something")
	}
	for name, c := range map[string]struct {
		req  serve.PlanRequest
		want string
	}{
		"no such version":     {serve.PlanRequest{Rollback: &serve.PlanRollback{Application: "shop", Version: 9}}, "has no version 9; there are 1"},
		"no such application": {serve.PlanRequest{Rollback: &serve.PlanRollback{Application: "ship"}}, `"ship"`},
		"and a deploy":        {serve.PlanRequest{Rollback: &serve.PlanRollback{Application: "shop"}, Applications: []*appspec.Application{image("shop", "3")}}, "not of both"},
	} {
		if _, err := i.client.Plan(t.Context(), c.req); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSteering(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "1"), true)
	i.deploy(t, image("shop", "2", canary), false)
	for _, c := range []struct {
		action raftstate.RolloutAction
		check  func(raftstate.Rollout) bool
		event  string
	}{
		{raftstate.ActionPause, func(r raftstate.Rollout) bool {
			return r.Paused != nil && r.Paused.By == "me" && r.Paused.Reason == "so"
		}, "rollout-paused"},
		{raftstate.ActionResume, func(r raftstate.Rollout) bool { return r.Paused == nil && !r.Promoted }, "rollout-resumed"},
		{raftstate.ActionPromote, func(r raftstate.Rollout) bool { return r.Promoted }, "rollout-promoted"},
		{raftstate.ActionAbort, func(r raftstate.Rollout) bool {
			return r.Status == raftstate.RolloutFailed && strings.Contains(r.Reason, "by me")
		}, "rollout-failed"},
	} {
		answer, err := i.client.Steer(t.Context(), "shop", c.action, serve.SteerRequest{Version: 2, By: "me", Message: "so"})
		if err != nil {
			t.Fatalf("%s: %v", c.action, err)
		}
		if answer.Version != 2 || answer.Index == 0 || !c.check(answer.Rollout) {
			t.Errorf("%s: %+v", c.action, answer)
		}
		events, _, err := i.client.Events(t.Context(), "shop", serve.Query{})
		if err != nil || events[len(events)-1].Type != c.event {
			t.Errorf("%s: the last event is %+v, %v", c.action, events[len(events)-1], err)
		}
	}
}

func TestMisuseOfRollouts(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "1"), true)
	i.deploy(t, image("rolls", "1"), true)
	i.deploy(t, image("rolls", "2", canary), false)
	long := `{"message":"` + strings.Repeat("m", 1025) + `"}`
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"rollback of what is not there", "nothing/rollback", "{}", 404, `no application \"nothing\"`},
		{"rollback to a version that is gone", "shop/rollback", `{"version":7}`, 404, "there is version 1 alone"},
		{"rollback where nothing came before", "shop/rollback", "{}", 404, "no earlier version"},
		{"rollback to a version below 1", "shop/rollback", `{"version":-1}`, 400, "count from 1"},
		{"rollback to a version beyond any number", "shop/rollback", `{"version":1e30}`, 400, "version"},
		{"rollback on another index", "shop/rollback", `{"version":1,"check_index":1}`, 409, "its index is"},
		{"rollback with a long message", "shop/rollback", long, 400, "longer than 1024"},
		{"rollback with an unknown field", "shop/rollback", `{"to":1}`, 400, "to"},
		{"rollback without a body", "shop/rollback", "", 400, "empty"},
		{"steering what is not there", "nothing/rollout/pause", "{}", 404, `no application \"nothing\"`},
		{"steering where nothing rolls out", "shop/rollout/pause", "{}", 409, "not rolling out"},
		{"aborting where nothing rolls out", "shop/rollout/abort", "{}", 409, "version 1 serves"},
		{"an unknown action", "rolls/rollout/stop", "{}", 404, "pause, resume, promote and abort"},
		{"no action", "rolls/rollout/", "{}", 404, "/v1/"},
		{"another version than rolls out", "rolls/rollout/abort", `{"version":1}`, 409, "not rolling out version 1"},
		{"a version below 1", "rolls/rollout/abort", `{"version":-2}`, 400, "count from 1"},
		{"a long message", "rolls/rollout/pause", long, 400, "longer than 1024"},
		{"a message of several lines", "rolls/rollout/pause", `{"message":"a\nb"}`, 400, "line breaks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := i.ask(t, "POST", "/v1/applications/"+c.path, c.body, "Content-Type", "application/json")
			if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%d %s, want %d and %q", resp.StatusCode, body, c.status, c.says)
			}
		})
	}
	if app := i.View().State.Applications["rolls"]; app.Rollout.Status != raftstate.RolloutRunning || app.Rollout.Paused != nil {
		t.Errorf("something was done: %+v", app.Rollout)
	}
}

// Of many who deploy or roll back what they all have seen in one state, one gets
// through.
func TestOfManyThatDeployAtOnceOneDoes(t *testing.T) {
	i := start(t)
	i.deploy(t, image("shop", "0"), true)
	index := i.deploy(t, image("shop", "1"), true).ModifyIndex
	if status, _, err := i.client.Application(t.Context(), "shop", serve.Query{}); err != nil {
		t.Fatal(err)
	} else {
		index = status.ModifyIndex
	}
	errs := make([]error, 8)
	var all sync.WaitGroup
	for n := range errs {
		all.Go(func() {
			if n%2 == 0 {
				_, errs[n] = i.client.Rollback(t.Context(), "shop", serve.RollbackRequest{CheckIndex: &index, By: "one of many"})
				return
			}
			_, errs[n] = i.client.Deploy(t.Context(), serve.DeployRequest{
				Applications: []*appspec.Application{image("shop", "new"+string(rune('a'+n)))}, CheckIndex: map[string]uint64{"shop": index}, By: "one of many",
			})
		})
	}
	all.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if e := asError(t, err); e.Code != serve.CodeConflict || !strings.Contains(e.Message, "version 3 by one of many") {
			t.Errorf("%s: %s", e.Code, e.Message)
		}
	}
	if done != 1 {
		t.Errorf("%d got through", done)
	}
}

// jobs is what a plan says of replicas: now, at the peak, then.
func jobs(p serve.ApplicationPlan) [][3]int {
	var list [][3]int
	for _, j := range p.Jobs {
		list = append(list, [3]int{j.Now, j.Peak, j.Then})
	}
	return list
}

func TestPlanOfRollouts(t *testing.T) {
	minute := appspec.Duration(time.Minute)
	for name, c := range map[string]struct {
		change func(*appspec.Application)
		want   serve.ApplicationPlan
		jobs   [][3]int // of the old one, the new one
	}{
		"live": {
			func(a *appspec.Application) { a.Deployments[0].NumReplicas = 7 },
			serve.ApplicationPlan{Strategy: appspec.StrategyLive, Stages: []serve.StagePlan{}},
			[][3]int{{4, 7, 7}},
		},
		"rolling": {
			func(a *appspec.Application) { a.Deployments[0].Task.Env = map[string]string{"IMAGE": "2"} },
			serve.ApplicationPlan{Strategy: appspec.StrategyRolling, Stages: []serve.StagePlan{
				{Name: "starting"}, {Name: "first replicas", Lasts: appspec.Duration(10 * time.Second)}, {Name: "all replicas"},
			}},
			[][3]int{{4, 4, 0}, {0, 1, 4}},
		},
		"canary": {
			func(a *appspec.Application) {
				a.Deployments[0].Task.Env = map[string]string{"IMAGE": "2"}
				a.Rollout = &appspec.Rollout{Strategy: "canary", Steps: []int{10, 50}, Interval: minute}
			},
			serve.ApplicationPlan{Strategy: appspec.StrategyCanary, Stages: []serve.StagePlan{
				{Name: "starting"},
				{Name: "10 percent", Weight: 10, Lasts: minute},
				{Name: "50 percent", Weight: 50, Lasts: minute},
				{Name: "100 percent", Weight: 100, Lasts: minute},
			}},
			[][3]int{{4, 4, 0}, {0, 4, 4}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t)
			first := spec("shop")
			first.Deployments[0].NumReplicas = 4
			i.settled(t, first)
			next := spec("shop")
			next.Deployments[0].NumReplicas = 4
			c.change(next)
			answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{next}})
			if err != nil {
				t.Fatal(err)
			}
			p := answer.Applications[0]
			if p.Version != 2 || p.Serving != 1 || p.Strategy != c.want.Strategy || p.Why == "" {
				t.Errorf("got %+v", p)
			}
			if d := cmp.Diff(c.want.Stages, p.Stages); d != "" {
				t.Error(d)
			}
			got := jobs(p)
			slices.SortFunc(got, func(a, b [3]int) int { return b[0] - a[0] })
			if d := cmp.Diff(c.jobs, got); d != "" {
				t.Errorf("%s\n%v", d, p.Steps)
			}
			if answer.Room == nil || !answer.Room.Fits || answer.Room.Never() {
				t.Errorf("room: %+v", answer.Room)
			}
			if len(i.proposed) != 1+i.settledBy {
				t.Error("plan proposed something")
			}
		})
	}
}

func TestPlanAfterAVersionThatFailed(t *testing.T) {
	i := start(t)
	i.settled(t, image("shop", "1"))
	i.deploy(t, image("shop", "2"), false)
	i.mustApply(t, raftstate.Command{At: time.Unix(200, 0).UTC(), EndRollout: &raftstate.EndRollout{
		Application: "shop", Version: 2, Status: raftstate.RolloutFailed, Reason: "it is worse",
	}})
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{image("shop", "1")}})
	if err != nil {
		t.Fatal(err)
	}
	if p := answer.Applications[0]; p.Action != serve.ActionUpdate || len(p.Changes) != 0 || p.Against != 1 || p.Version != 3 || p.Strategy != appspec.StrategyLive {
		t.Errorf("of what serves: %+v", p)
	}
	if answer, err = i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{image("shop", "2")}}); err != nil {
		t.Fatal(err)
	}
	if p := answer.Applications[0]; len(p.Changes) != 1 || p.Changes[0].Old != `"1"` || p.Against != 1 || p.Strategy != appspec.StrategyRolling {
		t.Errorf("of the same once more: %+v", p)
	}
}

func TestPlanSaysWhatHasNoRoom(t *testing.T) {
	short := nodescale.ShortOutlook{Job: "serve-shop-web-1", Application: "shop", Deployment: "web", Count: 2, Never: true, Reason: "too large"}
	group := nodescale.GroupOutlook{Name: "gpu", Have: 1, More: 3, Most: 4}
	i := start(t)
	i.update(func(v *serve.View) {
		w := *v.World
		w.CoreMHz = map[string]int{"": 1000, "default": 1000}
		v.World = &w
	})
	var asked []reconcile.JobCount
	i.planner.room = func(counts []reconcile.JobCount) (nodescale.Outlook, []string, error) {
		asked = counts
		return nodescale.Outlook{Groups: []nodescale.GroupOutlook{group}, Short: []nodescale.ShortOutlook{short}}, []string{"nomad doubts it"}, nil
	}
	two := []*appspec.Application{image("shop", "1"), image("other", "1")}
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: two})
	if err != nil {
		t.Fatal(err)
	}
	want := &serve.RoomPlan{Nodes: []nodescale.GroupOutlook{group}, Missing: []nodescale.ShortOutlook{short}}
	if d := cmp.Diff(want, answer.Room); d != "" || !answer.Room.Never() || !slices.Contains(answer.Warnings, "nomad doubts it") {
		t.Errorf("%s\n%v", d, answer.Warnings)
	}
	if len(asked) != 2 {
		t.Errorf("room was looked for %+v: both applications have to fit beside each other", asked)
	}
	i.planner.mute = []string{"query errors cannot be read"}
	if answer, err = i.client.Plan(t.Context(), serve.PlanRequest{Applications: two}); err != nil || !slices.Contains(answer.Warnings, "query errors cannot be read") {
		t.Errorf("%v, %v", answer.Warnings, err)
	}
	i.deployed(t, "same")
	i.planner.room = func([]reconcile.JobCount) (nodescale.Outlook, []string, error) {
		t.Error("room was looked for although nothing changes")
		return nodescale.Outlook{}, nil, nil
	}
	if answer, err = i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{spec("same")}}); err != nil || answer.Room != nil || len(answer.Warnings) > 0 {
		t.Errorf("%+v, %v", answer, err)
	}
}
