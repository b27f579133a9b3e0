package jobspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func smokeTest() (Input, *appspec.Check) {
	in := samples()["search-pipeline-generation-3"]
	in.Deployment, in.Version, in.Placement = nil, "", Placement{Namespace: "ml", NodePool: "cpu"}
	return in, &appspec.Check{
		Name: "smoke", Resources: appspec.Resources{CPU: 0.5, MemoryMB: 1},
		Task: &api.Task{
			Driver: "raw_exec", Config: map[string]any{"command": "sh", "args": []any{"-c", `curl -f "$SERVE_CHECK_URL"`}},
			Env: map[string]string{"MODE": "quick", CheckURLEnv: "mine"},
		},
	}
}

func TestRenderCheck(t *testing.T) {
	in, check := smokeTest()
	before := clone(check)
	job := RenderCheck(in, 7, check)
	golden(t, "search-smoke-check", job)
	scribble(job)
	if diff := cmp.Diff(before, check); diff != "" {
		t.Errorf("the check changed:\n%s", diff)
	}
}

func TestACheckIsOurs(t *testing.T) {
	in, check := smokeTest()
	want := Meta{ClusterID: "c1", Application: "search", Check: "smoke", Version: "7", CoreMHz: 2596}
	job := RenderCheck(in, 7, check)
	got, count, ours := Read(job)
	if diff := cmp.Diff(want, got); diff != "" || count != 1 || !ours {
		t.Errorf("count %d, ours %v, meta (-want +got):\n%s", count, ours, diff)
	}
	job.Meta[DeploymentMeta] = "pipeline"
	if _, _, ours := Read(job); ours {
		t.Error("a job that says two things of itself is taken for ours")
	}
}
