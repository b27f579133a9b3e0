package reconcile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Every step has an owner who can tell of it: also one on a job that is not
// there yet, on one that only takes another user_config, and on a prefetch job.
func TestOwnersOf(t *testing.T) {
	group := &appspec.WorkerGroup{Name: "gpu", NodePool: "pool"}
	fetch := jobspec.RenderPrefetch("c", group, &appspec.Prefetch{Name: "weights"}, 1000, jobspec.Placement{})
	app := &appspec.Application{Name: "new"}
	job := jobspec.Render(jobspec.Input{ClusterID: "c", Application: app, Deployment: &appspec.Deployment{Name: "d"}, Version: "v"})
	world := &reconcile.World{Jobs: map[string]reconcile.Job{"there": {ID: "there", Application: "old"}, "gone": {ID: "gone"}}}
	of := func(application string) reconcile.Owner { return reconcile.Owner{Application: application} }
	for _, c := range []struct {
		name string
		step reconcile.Step
		want reconcile.Owner
	}{
		{"config before its job", reconcile.Step{WriteConfig: &reconcile.WriteConfig{JobID: *job.ID}}, of("new")},
		{"register", reconcile.Step{Register: &reconcile.Register{Job: job}}, of("new")},
		{"prefetch", reconcile.Step{Register: &reconcile.Register{Job: fetch}}, reconcile.Owner{WorkerGroup: "gpu"}},
		{"stop of a prefetch job", reconcile.Step{Stop: &reconcile.Stop{JobID: "gone"}}, reconcile.Owner{}},
		{"config", reconcile.Step{WriteConfig: &reconcile.WriteConfig{JobID: "there"}}, of("old")},
		{"no config", reconcile.Step{DropConfig: &reconcile.DropConfig{JobID: "there"}}, of("old")},
		{"scale", reconcile.Step{Scale: &reconcile.Scale{JobID: "there"}}, of("old")},
		{"update", reconcile.Step{Update: &reconcile.Update{JobID: "there"}}, of("old")},
		{"stop", reconcile.Step{Stop: &reconcile.Stop{JobID: "there"}}, of("old")},
		{"route", reconcile.Step{WriteRoute: &reconcile.WriteRoute{Route: routes.Route{Application: "old"}}}, of("old")},
		{"no route", reconcile.Step{DropRoute: &reconcile.DropRoute{Application: "old"}}, of("old")},
		{"pool", reconcile.Step{WritePool: &reconcile.WritePool{Name: "pool"}}, reconcile.Owner{Pool: "pool"}},
		{"record", reconcile.Step{Propose: &raftstate.Command{ForgetVersion: &raftstate.ForgetVersion{Application: "old"}}}, of("old")},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := []reconcile.Step{c.step, {Register: &reconcile.Register{Job: job}}, {Register: &reconcile.Register{Job: fetch}}}
			if diff := cmp.Diff(c.want, reconcile.OwnersOf(world, steps)[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
