package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// onTheWay is a status in the middle of a canary.
func onTheWay(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
	s.Rollout.Strategy, s.Rollout.Why, s.Rollout.Stage = appspec.StrategyCanary, "the spec asks for it", 1
	s.Stage, s.Stages, s.Weight = "10 percent", 4, 10
	s.Waits, s.Gates = "40s of its time", "no worse than version 1"
	d.Healthy, d.Generation = 2, 2
}

func paused(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
	onTheWay(s, d)
	s.Rollout.Paused = &raftstate.Pause{At: time.Unix(2000, 0), By: "her@there", Reason: "a closer look"}
}

func TestDeployShowsTheStages(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{
		hello(onTheWay),
		hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) { // counts down
			onTheWay(s, d)
			s.Waits = "39s of its time"
		}),
		hello(paused), hello(paused),
		hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			onTheWay(s, d)
			s.Rollout.Stage, s.Stage = 3, "100 percent"
		}),
		hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			healthy(s, d)
			s.Leaving = []reconcile.LeavingStatus{{Version: 1, Cause: raftstate.LeavingReplaced, Waits: "3 requests are under way"}}
		}),
	}}
	code, out, errs := f.cliRun(t.Context(), "deploy", specFile(t))
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out,
		"hello: canary, stage 2 of 4 (10 percent); waits: 40s of its time; gates: no worse than version 1",
		"hello version 2 is paused by her@there: a closer look", "serve-nomad resume hello", "serve-nomad promote hello", "serve-nomad abort hello",
		"stage 4 of 4 (100 percent)", "version 2 is healthy", "Version 1 leaves, as it was replaced: 3 requests are under way",
	)
	if strings.Contains(out, "39s") {
		t.Errorf("each second is a line:\n%s", out)
	}
	if strings.Count(out, "is paused") != 1 {
		t.Errorf("the pause is told more than once:\n%s", out)
	}
}

func TestDeploySaysWhyConfigMeansNewReplicas(t *testing.T) {
	as := func(strategy appspec.Strategy, why string) reconcile.ApplicationStatus {
		return hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			onTheWay(s, d)
			s.Rollout.Strategy, s.Rollout.Why = strategy, why
		})
	}
	refused := as(appspec.StrategyRolling, "web: replica 1 did not take the user_config")
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{as(appspec.StrategyLive, "user_config changed"), refused, refused, hello(healthy)}}
	code, out, _ := f.cliRun(t.Context(), "deploy", specFile(t))
	if want := "hello version 2 goes on as rolling: web: replica 1 did not take the user_config\n"; code != exitOK || strings.Count(out, want) != 1 {
		t.Errorf("exit code %d, want %q once in\n%s", code, want, out)
	}
}

func TestDeployThatIsRolledBack(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(onTheWay), hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
		onTheWay(s, d)
		s.Status, s.Rollout.Status, s.Rollout.Reason = reconcile.Failed, raftstate.RolloutFailed, "web: 12 of 100 requests failed, of version 1 none"
	})}}
	code, _, errs := f.cliRun(t.Context(), "deploy", specFile(t))
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stderr", errs, "version 2 was rolled back: web: 12 of 100 requests failed", "version 1 still serves")
}

func TestDeployThatStaysPaused(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(paused)}}
	code, out, errs := f.cliRun(t.Context(), "deploy", "-timeout", "200ms", specFile(t))
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "is paused by her@there")
	wantAll(t, "stderr", errs, "not healthy yet", "the deploy is paused")
}

// What is deployed is what was there when the command began.
func TestDeployIsOfWhatItHasSeen(t *testing.T) {
	plan := api.PlanResponse{
		Applications: []api.ApplicationPlan{{Name: "hello", CheckIndex: 41}},
		WorkerGroups: []api.GroupPlan{{Name: "gpu", CheckIndex: 7}},
	}
	for _, c := range []struct {
		name   string
		args   []string
		apps   map[string]uint64
		groups map[string]uint64
	}{
		{"as it is", nil, map[string]uint64{"hello": 41}, map[string]uint64{"gpu": 7}},
		{"as it was said to be", []string{"-check-index", "hello=9"}, map[string]uint64{"hello": 9}, map[string]uint64{"gpu": 7}},
		{"the group too", []string{"-group-check-index", "gpu=1"}, map[string]uint64{"hello": 41}, map[string]uint64{"gpu": 1}},
		{"whatever there is", []string{"-force"}, nil, nil},
		{"forced, of one index", []string{"-force", "-check-index", "9"}, map[string]uint64{"hello": 9}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeAPI{t: t, plan: plan}
			if code, _, errs := f.cliRun(t.Context(), append([]string{"deploy", "-detach", specFile(t)}, c.args...)...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			if d := cmp.Diff(c.apps, f.deployed.CheckIndex); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.groups, f.deployed.GroupCheckIndex); d != "" {
				t.Error(d)
			}
		})
	}
}

func roomOf(never bool) *api.RoomPlan {
	return &api.RoomPlan{
		Nodes: []nodescale.GroupOutlook{{Name: "gpu", Have: 1, More: 3, Most: 4}, {Name: "dry", More: 1, Most: 9, DryRun: true}},
		Missing: []nodescale.ShortOutlook{{
			Job: "serve-hello-web-1", Application: "hello", Deployment: "web", Count: 2, Never: never, Reason: "gpu: memory: 9000 MiB asked",
		}},
	}
}

func TestDeployThatFitsNowhere(t *testing.T) {
	f := &fakeAPI{t: t, plan: api.PlanResponse{Room: roomOf(true)}}
	code, out, errs := f.cliRun(t.Context(), "deploy", "-detach", "-json", specFile(t))
	var got api.ErrorResponse
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Code != codeNoRoom || code != exitError {
		t.Errorf("exit code %d, %s, error %v", code, out, err)
	}
	wantAll(t, "stderr", errs, "nothing was done", "2 replicas of hello/web that no node could hold, were it empty: gpu: memory: 9000 MiB asked", "-force")
	if f.deployed.RequestID != "" {
		t.Error("it was deployed")
	}
	for name, room := range map[string]*api.RoomPlan{"with -force": roomOf(true), "that is full": roomOf(false)} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAPI{t: t, plan: api.PlanResponse{Room: room, Warnings: []string{"one thing"}}}
			args := []string{"deploy", "-detach", specFile(t)}
			if room.Never() {
				args = append(args, "-force")
			}
			code, _, errs := f.cliRun(t.Context(), args...)
			if code != exitOK || f.deployed.RequestID == "" {
				t.Errorf("exit code %d", code)
			}
			wantAll(t, "stderr", errs, "Warning: one thing", "Warning: 2 replicas of hello/web")
		})
	}
}

// The default limit leaves time for the stages, one that is given holds.
func TestDeployWaitsForTheStages(t *testing.T) {
	hour := appspec.Duration(time.Hour)
	stages := lasting([]api.StagePlan{{Name: "starting"}, {Lasts: hour}, {Lasts: hour}})
	for _, c := range []struct {
		args []string
		want time.Duration
	}{{nil, 2*time.Hour + 10*time.Minute}, {[]string{"-timeout", "5m"}, 5 * time.Minute}, {[]string{"-timeout", "10m"}, 10 * time.Minute}} {
		f := follow{what: "deploy", command: newCommand(&base{ctx: t.Context()}, "deploy", helpText{})}
		f.register()
		if err := f.flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got, err := f.limit(stages); err != nil || got != c.want {
			t.Errorf("%v: %s, %v, want %s", c.args, got, err, c.want)
		}
	}
}

func TestRollbackCommand(t *testing.T) {
	statuses := []reconcile.ApplicationStatus{hello(nil), hello(healthy)}
	plan := rollbackPlan()
	f := &fakeAPI{t: t, statuses: statuses, plan: plan}
	code, out, errs := f.cliRun(t.Context(), "rollback", "-message", "slow", "hello", "1")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out, "version 2 is recorded", "version 2 is healthy")
	if r := f.rolledBack; r.Version != 1 || r.Message != "slow" || r.CheckIndex == nil || *r.CheckIndex != 4 || !strings.HasPrefix(r.By, "me@") || r.RequestID == "" {
		t.Errorf("sent %+v", r)
	}
	for name, c := range map[string]struct {
		args  []string
		index uint64 // 0: none
	}{
		"forced":                       {[]string{"-force"}, 0},
		"of an index":                  {[]string{"-check-index", "9"}, 9},
		"of an index, forced":          {[]string{"-force", "-check-index", "9"}, 9},
		"of the index that there is":   {nil, 4},
		"of an index that there isn't": {[]string{"-check-index", "18446744073709551615"}, 1<<64 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAPI{t: t, statuses: statuses, plan: plan}
			code, out, _ := f.cliRun(t.Context(), append([]string{"rollback", "-detach", "hello"}, c.args...)...)
			var sent uint64
			if f.rolledBack.CheckIndex != nil {
				sent = *f.rolledBack.CheckIndex
			}
			if code != exitOK || sent != c.index || f.rolledBack.Version != 0 {
				t.Errorf("exit code %d, sent %+v, index %d", code, f.rolledBack, sent)
			}
			wantAll(t, "stdout", out, "Follow it: serve-nomad status hello")
		})
	}
}

// rollbackPlan is what the server says of a rollback of hello.
func rollbackPlan() api.PlanResponse {
	return api.PlanResponse{Applications: []api.ApplicationPlan{{
		Name: "hello", Action: api.ActionUpdate, CheckIndex: 4, Version: 5, Serving: 4, Strategy: appspec.StrategyRolling, Why: "image changed",
	}}}
}

func TestPlanOfARollback(t *testing.T) {
	f := &fakeAPI{t: t, plan: rollbackPlan()}
	code, out, errs := f.cliRun(t.Context(), "rollback", "-plan", "hello", "1")
	if code != exitChanges || errs != "" || f.rolledBack.RequestID != "" {
		t.Errorf("exit code %d, stderr %q, sent %+v", code, errs, f.rolledBack)
	}
	wantAll(t, "stdout", out, "Version 5 takes over from version 4: rolling", "serve-nomad rollback -check-index 4 hello 1\n")
	if got := f.planned.Rollback; got == nil || *got != (api.PlanRollback{Application: "hello", Version: 1}) {
		t.Errorf("asked for a plan of %+v", got)
	}
	f.plan.Applications[0].Action = api.ActionNone
	if code, out, _ = f.cliRun(t.Context(), "rollback", "-plan", "hello", "4"); code != exitOK || !strings.Contains(out, "Nothing would change.") {
		t.Errorf("of nothing new: exit code %d\n%s", code, out)
	}
}

func TestRollbackThatFitsNowhere(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(nil), hello(healthy)}, plan: rollbackPlan()}
	f.plan.Room = roomOf(true)
	code, _, errs := f.cliRun(t.Context(), "rollback", "-detach", "hello")
	if code != exitError || f.rolledBack.RequestID != "" {
		t.Errorf("exit code %d, sent %+v", code, f.rolledBack)
	}
	wantAll(t, "stderr", errs, "nothing was done, as replicas would never find a place", "hello/web", "-force")
	if _, out, _ := f.cliRun(t.Context(), "rollback", "-plan", "hello"); !strings.Contains(out, "serve-nomad rollback -check-index 4 -force hello\n") {
		t.Errorf("the plan says\n%s", out)
	}
	if code, _, errs = f.cliRun(t.Context(), "rollback", "-force", "-detach", "hello"); code != exitOK || f.rolledBack.RequestID == "" || !strings.Contains(errs, "Warning: ") {
		t.Errorf("forced: exit code %d, sent %+v: %s", code, f.rolledBack, errs)
	}
}

func TestRollbackThatIsInterrupted(t *testing.T) {
	f := &fakeAPI{t: t, plan: rollbackPlan(), statuses: []reconcile.ApplicationStatus{hello(nil), hello(nil)}, held: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.held
		cancel()
	}()
	code, _, errs := f.cliRun(ctx, "rollback", "hello")
	if code != exitStopped {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stderr", errs, "the rollback goes on at the server", "serve-nomad status hello")
}

func TestRolloutCommandsThatAreRefused(t *testing.T) {
	for _, args := range [][]string{{"rollback", "hello", "9"}, {"pause", "hello"}, {"resume", "hello"}, {"promote", "hello"}, {"abort", "hello"}} {
		t.Run(args[0], func(t *testing.T) {
			f := &fakeAPI{
				t: t, statuses: []reconcile.ApplicationStatus{hello(healthy)},
				refuse: &api.ErrorResponse{Code: api.CodeConflict, Error: "there are 1 and 2"},
			}
			code, out, errs := f.cliRun(t.Context(), append(args, "-json")...)
			var got api.ErrorResponse
			if err := json.Unmarshal([]byte(out), &got); err != nil || got.Code != api.CodeConflict || code != exitError {
				t.Errorf("exit code %d, %s, error %v", code, out, err)
			}
			wantAll(t, "stderr", errs, "there are 1 and 2")
		})
	}
}

func TestSteeringWhatIsBeingDeleted(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(func(s *reconcile.ApplicationStatus, _ *reconcile.DeploymentStatus) { s.Status = reconcile.Deleting })}}
	code, _, errs := f.cliRun(t.Context(), "pause", "hello")
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stderr", errs, `application "hello" is being deleted: there is no rollout to pause`)
}

func TestSteeringCommands(t *testing.T) {
	for action, says := range map[raftstate.RolloutAction]string{
		raftstate.ActionPause:   "Application hello: version 2 is paused in stage 2 of 4 (10 percent). To go on: serve-nomad resume hello",
		raftstate.ActionResume:  "version 2 goes on. Follow it: serve-nomad status hello",
		raftstate.ActionPromote: "version 2 takes over without waiting",
		raftstate.ActionAbort:   "version 2 is rolled back, version 1 serves",
	} {
		t.Run(string(action), func(t *testing.T) {
			f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(onTheWay)}}
			code, out, errs := f.cliRun(t.Context(), string(action), "-message", "so", "hello")
			if code != exitOK || errs != "" {
				t.Errorf("exit code %d, stderr %q", code, errs)
			}
			wantAll(t, "stdout", out, says)
			sent, ok := f.steered[string(action)]
			if !ok || sent.Version != 2 || sent.Message != "so" || !strings.HasPrefix(sent.By, "me@") || sent.RequestID == "" {
				t.Errorf("sent %+v", f.steered)
			}
			f = &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(onTheWay)}}
			_, out, _ = f.cliRun(t.Context(), string(action), "-json", "hello")
			var got api.SteerResponse
			if err := json.Unmarshal([]byte(out), &got); err != nil || got.Version != 2 || got.Index != 6 {
				t.Errorf("%s, error %v", out, err)
			}
		})
	}
}

func TestHistoryCommand(t *testing.T) {
	at := time.Date(2026, 3, 2, 12, 0, 0, 0, time.Local)
	version := func(n int, by, message string, r raftstate.Rollout) api.VersionInfo {
		return api.VersionInfo{Version: n, At: at, By: by, Message: message, Rollout: r}
	}
	list := []api.VersionInfo{
		version(4, "me", "again", raftstate.Rollout{Status: raftstate.RolloutRunning, Strategy: appspec.StrategyCanary, Paused: &raftstate.Pause{By: "her"}}),
		version(3, "me", "", raftstate.Rollout{Status: raftstate.RolloutRunning, Strategy: appspec.StrategyRolling}),
		version(2, "her", "wide\x1b[2J", raftstate.Rollout{Status: raftstate.RolloutFailed, Reason: "it died", Strategy: appspec.StrategyBlueGreen}),
		version(1, "", "", raftstate.Rollout{Status: raftstate.RolloutSuccessful, Reason: "all 2 replicas pass"}),
	}
	list[0].Wanted, list[3].Serving, list[1].Leaving = true, true, raftstate.LeavingSuperseded
	f := &fakeAPI{t: t, history: list}
	code, out, _ := f.cliRun(t.Context(), "history", "hello")
	want := `Version  Deployed             By   Strategy    Outcome                          Now     Message
4        2026-03-02 12:00:00  me   canary      paused by her                    wanted  again
3        2026-03-02 12:00:00  me   rolling     superseded before its end        leaves
2        2026-03-02 12:00:00  her  blue_green  failed: it died                          wide[2J
1        2026-03-02 12:00:00                   successful: all 2 replicas pass  serves
`
	if d := cmp.Diff(want, out); d != "" || code != exitOK {
		t.Errorf("exit code %d\n%s", code, d)
	}
	var got []api.VersionInfo
	if _, out, _ = f.cliRun(t.Context(), "history", "-json", "hello"); json.Unmarshal([]byte(out), &got) != nil || len(got) != 4 || got[2].Rollout.Reason != "it died" {
		t.Errorf("as JSON: %s", out)
	}
	if _, out, _ = f.cliRun(t.Context(), "history", "-version", "2", "hello"); !strings.Contains(out, `"name": "hello"`) {
		t.Errorf("the spec: %s", out)
	}
}

func TestStatusOfARollout(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
		paused(s, d)
		s.Leaving = []reconcile.LeavingStatus{{Version: 1, Generation: 3, Cause: raftstate.LeavingSuperseded, Waits: "2 requests are under way"}}
	})}}
	code, out, _ := f.cliRun(t.Context(), "status", "hello")
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out,
		"Rollout      = running, stage 2 of 4 (10 percent)", "Strategy     = canary: the spec asks for it",
		"Requests     = 10 % to version 2, 90 % to version 1", "by her@there: a closer look (serve-nomad resume, promote or abort hello)",
		"Gates        = no worse than version 1", "deploying  10 %",
		"Leaving\nVersion  Generation  Cause       Waits For\n1        3           superseded  2 requests are under way\n",
	)
	if strings.Contains(out, "Waits For    =") {
		t.Errorf("a rollout that is paused waits for nothing else:\n%s", out)
	}
	f = &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(onTheWay)}}
	_, out, _ = f.cliRun(t.Context(), "status", "hello")
	wantAll(t, "stdout", out, "Waits For    = 40s of its time")
	f = &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(healthy)}}
	if _, out, _ = f.cliRun(t.Context(), "status", "hello"); strings.Contains(out, "Strategy") || strings.Contains(out, "Leaving") || strings.Contains(out, "Gates") {
		t.Errorf("of one that is over:\n%s", out)
	}
}

func TestWhatAPlanComparesWith(t *testing.T) {
	changes := []appspec.Change{{Path: "deployment.web.num_replicas", Old: "1", New: "2"}}
	for _, c := range []struct {
		plan api.ApplicationPlan
		want string
	}{
		{api.ApplicationPlan{Version: 3, Against: 2, Serving: 2, Changes: changes}, "changes"},
		{api.ApplicationPlan{Version: 4, Against: 3, Serving: 2, Changes: changes}, "changes"},
		{api.ApplicationPlan{Version: 4, Against: 2, Serving: 2, Changes: changes}, "changes, from version 2, which serves: version 3 failed"},
		{api.ApplicationPlan{Version: 4, Against: 2, Serving: 2}, "is as in version 2, which serves: version 3, which failed, is given up"},
		{api.ApplicationPlan{Version: 2, Against: 1, Serving: 1}, "is the same, but its last deploy failed: another one tries again"},
		{api.ApplicationPlan{Version: 3, Against: 3, Serving: 2}, "goes back to version 2: version 3 is aborted"},
	} {
		if got := differs(c.plan); got != c.want {
			t.Errorf("%+v: %q, want %q", c.plan, got, c.want)
		}
	}
}

func TestPlanCommand(t *testing.T) {
	minute := appspec.Duration(time.Minute)
	plan := api.PlanResponse{
		Applications: []api.ApplicationPlan{{
			Name: "hello", Action: api.ActionUpdate, CheckIndex: 41, Version: 5, Serving: 4, Against: 4,
			Changes:  []appspec.Change{{Path: "deployment.web.task.env.IMAGE", Old: "1", New: "2", Effect: appspec.EffectReplace}},
			Strategy: appspec.StrategyCanary, Why: "the spec asks for it", UserConfig: []string{"other"},
			Stages: []api.StagePlan{
				{Name: "starting"},
				{Name: "shadow", Shadow: 5, Lasts: appspec.Duration(30 * time.Second)},
				{Name: "10 percent", Weight: 10, Lasts: minute},
				{Name: "100 percent", Weight: 100, Lasts: appspec.Duration(90 * time.Minute)},
			},
			Jobs:  []reconcile.JobCount{{Job: "serve-hello-web-1", Now: 4, Peak: 4}, {Job: "serve-hello-web-2-g5", Peak: 4, Then: 4}},
			Steps: []string{"register job serve-hello-web-2-g5, count 4: it has none"},
		}},
		WorkerGroups: []api.GroupPlan{{Name: "gpu", Action: api.ActionNone}},
		Room:         roomOf(false), Warnings: []string{"something odd"},
	}
	f := &fakeAPI{t: t, plan: plan}
	code, out, errs := f.cliRun(t.Context(), "plan", specFile(t))
	if code != exitChanges || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	head, _, _ := strings.Cut(out, "To do exactly this")
	want := `  worker group "gpu" stays as it is

~ application "hello" changes
  ~ deployment.web.task.env.IMAGE: 1 -> 2  (new replicas)

  Version 5 takes over from version 4: canary, a whole new set of replicas, and the requests step by step, as the spec asks for it
   1. starting
   2. copies of 5 % of the requests, for 30s at least
   3. 10 % of the requests, for 1m at least
   4. 100 % of the requests, for 1h30m at least
  Running replicas of other take the new user_config; if they do not, new ones replace them

  Replicas              Now  Peak  Then
  serve-hello-web-1     4    4     0
  serve-hello-web-2-g5  0    4     4
  together              4    8     4

  What the controller would do:
   1. register job serve-hello-web-2-g5, count 4: it has none

Worker group gpu orders 3 nodes, beside 1 of at most 4.
Worker group dry would order 1 node if it did more than tell.
No room: 2 replicas of hello/web without a place for now: gpu: memory: 9000 MiB asked
A deploy waits for room, and fails at its progress deadline if there is none by then.

Warning: something odd

`
	if d := cmp.Diff(want, head); d != "" {
		t.Error(d)
	}
	var got api.PlanResponse
	_, out, _ = f.cliRun(t.Context(), "plan", "-json", specFile(t))
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if d := cmp.Diff(plan, got); d != "" {
		t.Errorf("as JSON: %s", d)
	}
	f.plan = api.PlanResponse{Applications: []api.ApplicationPlan{{Name: "hello", Action: api.ActionNone}}}
	if code, out, _ = f.cliRun(t.Context(), "plan", specFile(t)); code != exitOK {
		t.Errorf("of nothing new: exit code %d\n%s", code, out)
	}
}

func TestPlanSaysWhatIsRefused(t *testing.T) {
	f := &fakeAPI{t: t, plan: api.PlanResponse{
		Applications: []api.ApplicationPlan{{Name: "hello", Action: api.ActionCreate}}, Room: roomOf(true),
	}}
	code, out, _ := f.cliRun(t.Context(), "plan", specFile(t))
	if code != exitChanges {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "that no node could hold, were it empty", "refused without -force", "deploy -check-index hello=0 -force ")
	steps := make([]string, mostSteps+5)
	for i := range steps {
		steps[i] = "a step"
	}
	f.plan.Applications[0].Steps, f.plan.Room = steps, &api.RoomPlan{Fits: true}
	_, out, _ = f.cliRun(t.Context(), "plan", specFile(t))
	wantAll(t, "stdout", out, "and 5 more, which -json shows", "There is room for all of it.")
}

// A plan that fails is a reason not to deploy, unless it is forced.
func TestDeployWithoutAPlan(t *testing.T) {
	f := &fakeAPI{t: t}
	broken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/plan" {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"error":"a fault in serve-nomad","code":"internal"}`))
			return
		}
		f.ServeHTTP(w, r)
	})
	file := specFile(t)
	if code, _, errs := cliRunAgainst(t.Context(), broken, "deploy", "-detach", file); code != exitError || !strings.Contains(errs, "a fault") || f.deployed.RequestID != "" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if code, _, errs := cliRunAgainst(t.Context(), broken, "deploy", "-detach", "-force", file); code != exitOK || !strings.Contains(errs, "cannot be told") || f.deployed.RequestID == "" {
		t.Errorf("forced: exit code %d, %s", code, errs)
	}
}
