package jobspec_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
)

func TestEdited(t *testing.T) {
	made := func() *api.Job {
		app := &appspec.Application{Name: "shop", Ingress: "till"}
		dep := &appspec.Deployment{
			Name: "till", MaxOngoingRequests: 5, Resources: appspec.Resources{CPU: 1, MemoryMB: 64, GPU: 1},
			Task: &api.Task{
				Driver: "docker",
				Config: map[string]any{"image": "till:1", "pids_limit": 100, "mount": []map[string]any{{"type": "bind", "readonly": true}}},
				Env:    map[string]string{"MODEL": "a"},
			},
		}
		app.Deployments = []*appspec.Deployment{dep}
		return jobspec.Render(jobspec.Input{ClusterID: "c", Application: app, Deployment: dep, Version: "12345678", Count: 2})
	}
	// fromNomad is the job as Nomad gives it back: through JSON, with its defaults
	// and what it adds by itself.
	fromNomad := func(t *testing.T) *api.Job {
		t.Helper()
		text, err := json.Marshal(made())
		if err != nil {
			t.Fatal(err)
		}
		job := &api.Job{}
		if err := json.Unmarshal(text, job); err != nil {
			t.Fatal(err)
		}
		job.Canonicalize()
		group := job.TaskGroups[0]
		group.Constraints = append(group.Constraints,
			api.NewConstraint("${attr.os.signals}", "set_contains", "SIGTERM"),
			api.NewConstraint("${attr.consul.version}", "semver", ">= 1.8.0"))
		return job
	}
	if jobspec.Edited(fromNomad(t)) {
		t.Error("a job as it was made is said to be edited")
	}
	for name, c := range map[string]struct {
		edit func(job *api.Job, group *api.TaskGroup, task *api.Task)
		want bool
	}{
		"its count": {func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Count = new(7) }, false},
		"its limits": {func(j *api.Job, _ *api.TaskGroup, _ *api.Task) {
			jobspec.SetLive(j, "till", 2, map[string]string{jobspec.MaxOngoingRequestsMeta: "9"})
		}, false},
		"it is stopped":              {func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Stop = new(true) }, false},
		"its priority":               {func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Priority = new(90) }, false},
		"no digest":                  {func(j *api.Job, _ *api.TaskGroup, k *api.Task) { delete(j.Meta, jobspec.SpecMeta); k.Driver = "exec" }, false},
		"a digest of another scheme": {func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.Meta[jobspec.SpecMeta] = "2:ab" }, false},

		"its image": {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Config["image"] = "till:2" }, true},
		"deep in config": {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Config["mount"].([]any)[0].(map[string]any)["readonly"] = false
		}, true},
		"its driver":    {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Driver = "podman" }, true},
		"its user":      {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.User = "root" }, true},
		"a variable":    {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Env["MODEL"] = "b" }, true},
		"another one":   {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Env["DEBUG"] = "1" }, true},
		"its memory":    {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Resources.MemoryMB = new(65) }, true},
		"its cpu":       {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Resources.CPU = new(2) }, true},
		"its GPUs":      {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Resources.Devices[0].Count = new(uint64(2)) }, true},
		"its kill time": {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.KillTimeout = new(time.Minute) }, true},
		"a template":    {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) { k.Templates[0].EmbeddedTmpl = new("x") }, true},
		"an artifact": {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Artifacts = []*api.TaskArtifact{{GetterSource: new("https://x")}}
		}, true},
		"another task": {func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Tasks = append(g.Tasks, &api.Task{Name: "side"}) }, true},
		"a constraint": {func(_ *api.Job, g *api.TaskGroup, _ *api.Task) {
			g.Constraints = append(g.Constraints, api.NewConstraint("${node.class}", "=", "x"))
		}, true},
		"a constraint of its task": {func(_ *api.Job, _ *api.TaskGroup, k *api.Task) {
			k.Constraints = append(k.Constraints, api.NewConstraint("${attr.cpu.arch}", "=", "arm64"))
		}, true},
		"its health path": {func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Services[0].Checks[0].Path = "/other" }, true},
		"its service":     {func(_ *api.Job, g *api.TaskGroup, _ *api.Task) { g.Services = nil }, true},
		"its node pool":   {func(j *api.Job, _ *api.TaskGroup, _ *api.Task) { j.NodePool = new("gpu") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			job := fromNomad(t)
			c.edit(job, job.TaskGroups[0], job.TaskGroups[0].Tasks[0])
			if got := jobspec.Edited(job); got != c.want {
				t.Errorf("edited: %t", got)
			}
		})
	}
}
