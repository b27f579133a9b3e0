package main

import (
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// silent is a replica that runs and never passes its health check.
func silent(_ *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
	d.Starting = 1
	d.Replicas = []reconcile.ReplicaInfo{{
		ID: "0123456789abcdef", Status: reconcile.ReplicaRunning, Node: "n1", Address: "10.0.0.1:2000", CreatedAt: time.Unix(1000, 0),
	}}
}

func TestReplicaThatNeverPassesItsCheckIsTheReason(t *testing.T) {
	const why = "web: replica 01234567 runs, but its health check at 10.0.0.1:2000 does not pass"
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(silent)}}
	_, out, errs := f.cliRun(t.Context(), "deploy", "-timeout", "200ms", specFile(t))
	wantAll(t, "stderr", errs, "not healthy yet", why)
	wantAll(t, "stdout", out, "1 starting (replica 01234567 runs, but")
	for _, args := range [][]string{{"status"}, {"status", "hello"}} {
		f = &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(silent)}}
		_, out, _ = f.cliRun(t.Context(), args...)
		wantAll(t, strings.Join(args, " "), out, why)
	}
}

func TestReplicaThatJustStartedIsNoReason(t *testing.T) {
	status := hello(silent)
	status.Deployments[0].Replicas[0].CreatedAt = time.Now()
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{status}}
	_, out, _ := f.cliRun(t.Context(), "status", "hello")
	if strings.Contains(out, "does not pass") {
		t.Errorf("status complains too early:\n%s", out)
	}
}

func TestPlanOfWhatFailedSaysThatADeployTriesAgain(t *testing.T) {
	plan := api.PlanResponse{Applications: []api.ApplicationPlan{{Name: "hello", Action: api.ActionUpdate, CheckIndex: 7, Version: 3, Against: 2, Serving: 2}}}
	text := planText(plan, func() string { return deployAgain(plan, []string{"hello.hcl"}) })
	wantAll(t, "plan", text, "is the same, but its last deploy failed: another one tries again", "-check-index hello=7")
}
