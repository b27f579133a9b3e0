//go:build e2e

package nomadjobs

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestE2EChecks(t *testing.T) {
	c := e2eClient(t)
	for name, tc := range map[string]struct {
		script, reason string
		memory         int
		state          reconcile.CheckState
	}{
		"check-good":  {script: `test "$SERVE_CHECK_URL" = http://127.0.0.1:8001/e2e-check-good@2/web && exec sleep 1`, state: reconcile.CheckPassed},
		"check-bad":   {script: "exit 7", reason: "exited with code 7", state: reconcile.CheckFailed},
		"check-large": {script: "exit 0", memory: 1 << 30, reason: "not enough memory", state: reconcile.CheckRunning},
	} {
		t.Run(name, func(t *testing.T) {
			job := jobspec.RenderCheck(jobspec.Input{
				ClusterID: "e2e-" + name, Application: &appspec.Application{Name: "e2e-" + name, Ingress: "web"}, Generation: 2,
				HandleAddress: "127.0.0.1:8001",
			}, 3, &appspec.Check{
				Name: "smoke", Resources: appspec.Resources{CPU: 0.05, MemoryMB: tc.memory},
				Task: &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "sh", "args": []string{"-c", tc.script}}},
			})
			if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				now, err := c.job(context.WithoutCancel(t.Context()), *job.ID)
				if err == nil {
					err = c.Stop(context.WithoutCancel(t.Context()), *job.ID, *now.JobModifyIndex)
				}
				if err != nil {
					t.Error(err)
				}
			})
			var state reconcile.CheckState
			var reason string
			seen, replicas := await(t, c, job, "the check comes to its end", func(j reconcile.Job, list []reconcile.Replica) bool {
				w := reconcile.World{Jobs: map[string]reconcile.Job{j.ID: j}, Replicas: list}
				state, reason = w.Checked(*job.ID)
				return state == tc.state && strings.Contains(reason, tc.reason)
			})
			if seen.Application != "e2e-"+name || seen.Check != "smoke" || seen.Version != "3" || len(replicas) > 1 {
				t.Errorf("job %+v, replicas %+v", seen, replicas)
			}
		})
	}
}
