package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestScale(t *testing.T) {
	var sent api.ScaleRequest
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/applications/search/deployments/ranker/scale" {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if sent.Replicas > 4 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"deployment \"ranker\" can have 1 to 4 replicas","code":"invalid"}`))
			return
		}
		_, _ = w.Write([]byte(`{"index":7}`))
	}
	code, out, errs := cliRunAgainst(t.Context(), http.HandlerFunc(answer), "scale", "-message", "queue of 40", "search", "ranker", "3")
	if code != exitOK || errs != "" || sent.Replicas != 3 || sent.Message != "queue of 40" || !strings.HasPrefix(sent.By, "me@") {
		t.Errorf("exit code %d, stderr %q, sent %+v", code, errs, sent)
	}
	wantAll(t, "stdout", out, "search/ranker is to have 3 replicas", "serve-nomad status search")

	code, _, errs = cliRunAgainst(t.Context(), http.HandlerFunc(answer), "scale", "search", "ranker", "5")
	if code != exitError {
		t.Errorf("beyond the bounds: exit code %d", code)
	}
	wantAll(t, "stderr", errs, "can have 1 to 4 replicas")
}

func TestStatusSaysWhyThereAreSoMany(t *testing.T) {
	scales := func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
		healthy(s, d)
		d.Autoscaling = &reconcile.AutoscalingStatus{
			Policy: "ray", Min: 2, Max: 8, Schedules: 1,
			Last: &raftstate.Scaling{At: time.Now().Add(-2 * time.Minute), By: raftstate.ByAutoscaler, From: 4, To: 6, Reason: "12 requests\nat 2 each"},
		}
		d.Target, d.Healthy = 6, 6
	}
	_, out, _ := (&fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(scales)}}).cliRun(t.Context(), "status", "hello")
	wantAll(t, "stdout", out, "\nAutoscaling\n", "2..8, 1 schedule", "ray", "4 -> 6", "2 minutes ago", "autoscaler", "12 requests at 2 each")

	untouched := func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
		healthy(s, d)
		d.Target, d.Healthy, d.Replicas, d.Reason = 0, 0, nil, "scaled to zero: a replica starts when a request comes"
		d.Autoscaling = &reconcile.AutoscalingStatus{Policy: "kpa", Max: 8}
	}
	for _, args := range [][]string{{"status"}, {"status", "hello"}} {
		_, out, _ = (&fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(untouched)}}).cliRun(t.Context(), args...)
		wantAll(t, strings.Join(args, " "), out, "healthy", "scaled to zero")
	}
	wantAll(t, "stdout", out, "0..8", "kpa")
	if strings.Contains(out, "Last Change") || strings.Contains(out, "\nReplicas\n") {
		t.Errorf("empty columns and tables show:\n%s", out)
	}

	_, out, _ = (&fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(healthy)}}).cliRun(t.Context(), "status", "hello")
	if strings.Contains(out, "Autoscaling") {
		t.Errorf("what does not scale is shown:\n%s", out)
	}
}
