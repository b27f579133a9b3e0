package api_test

import (
	"strings"
	"testing"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// A plan for another shape of a group's nodes tells of the applications that
// move there, also of those that it does not name, and of each once.
func TestPlanOfAnotherShape(t *testing.T) {
	i := start(t)
	on := func(name string) *appspec.Application {
		app := spec(name)
		for _, d := range app.Deployments {
			d.WorkerGroup = "gpu"
		}
		return app
	}
	elsewhere := spec("elsewhere")
	request := serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{group("gpu")}, Applications: []*appspec.Application{on("one"), on("two"), elsewhere}}
	if _, err := i.client.Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two", "elsewhere"} {
		i.mustApply(t, raftstate.Command{EndRollout: &raftstate.EndRollout{Application: name, Version: 1, Status: raftstate.RolloutSuccessful}})
	}
	i.mustApply(t, raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: []raftstate.NodeChange{
		{ID: "gpu-00000001", Group: "gpu", To: raftstate.NodeLaunching, Reason: "test"},
	}}})
	larger, other := group("gpu"), on("two")
	larger.Node.CPU = 4
	other.Deployments[0].MaxOngoingRequests++
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{WorkerGroups: []*appspec.WorkerGroup{larger}, Applications: []*appspec.Application{other, elsewhere}})
	if err != nil {
		t.Fatal(err)
	}
	if g := answer.WorkerGroups[0]; g.Outdated != 1 || g.Note != "" {
		t.Errorf("%+v", g)
	}
	var got []string
	for _, a := range answer.Applications {
		line := a.Name + " " + a.Action + " " + string(a.Strategy)
		if a.Moved {
			line += " moved"
		}
		got = append(got, line)
		for _, step := range a.Steps {
			if other := map[string]string{"one": "two", "two": "one"}[a.Name]; strings.Contains(step, "-"+other+"-") || strings.Contains(step, "application "+other) {
				t.Errorf("of %s: %s", a.Name, step)
			}
		}
		if a.Action != serve.ActionNone && (len(a.Steps) == 0 || len(a.Jobs) == 0 || len(a.Stages) == 0 || a.Why == "") {
			t.Errorf("%+v", a)
		}
	}
	if want := "two update blue_green, elsewhere none , one update blue_green moved"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}

	deployed, err := i.client.Deploy(t.Context(), serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{larger}, Applications: []*appspec.Application{other}})
	if err != nil || len(deployed.Applications) != 2 || deployed.Applications[1].Name != "one" || deployed.Applications[1].Version != 2 || !deployed.Applications[1].Changed {
		t.Errorf("%+v, %v", deployed, err)
	}

	hand := group("hand")
	hand.Target.Kind = appspec.TargetNone
	answer, err = i.client.Plan(t.Context(), serve.PlanRequest{WorkerGroups: []*appspec.WorkerGroup{hand}})
	if err != nil || !strings.Contains(answer.WorkerGroups[0].Note, "makes no nodes") {
		t.Errorf("%+v, %v", answer, err)
	}
}

// A user_config that running replicas take is a step of its own, on a job that
// is otherwise left alone; it is told too.
func TestPlanOfALiveConfig(t *testing.T) {
	i := start(t)
	with := func(config string) *appspec.Application {
		app := spec("live")
		app.Deployments[0].Reconfigure = &appspec.Reconfigure{Signal: "SIGHUP"}
		app.Deployments[0].UserConfig = []byte(config)
		return app
	}
	i.settled(t, with(`{"threshold":1}`))
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{with(`{"threshold":2}`)}})
	if err != nil {
		t.Fatal(err)
	}
	steps := strings.Join(answer.Applications[0].Steps, "\n")
	if told := strings.Count(steps, "write the user_config of job serve-live-"); told != 1 {
		t.Errorf("the config is told %d times:\n%s", told, steps)
	}
}
