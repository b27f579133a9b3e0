package main

import (
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/autoscale"
)

func explanation(change func(*autoscale.Explanation)) autoscale.Explanation {
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	e := autoscale.Explanation{
		Application: "hello", Deployment: "web", At: at, Policy: "ray", Min: 1, Max: 10, Target: 3, Running: 2, Ongoing: 8, Queued: 4,
		Load: &autoscale.LoadSummary{Window: 30 * time.Second, Known: 12 * time.Second, Present: 12, Mean: 9.5, Max: 14, Min: 3},
		Decision: autoscale.Decision{
			Target: 3, Desired: 6, Min: 1, Max: 10, At: at, Reason: "9.5 requests want 5; upscale_delay",
			Rules: []autoscale.Rule{
				{Name: "policy", Wants: 5, Detail: "9.5 requests at 2 each want 4.75"},
				{Name: "delay", Wants: 3, Detail: "5 is wanted for 18s of the 30s of upscale_delay"},
			},
			Pending: &autoscale.Pending{Target: 5, At: at.Add(12 * time.Second)},
		},
		Last: &autoscale.LastScaling{At: at.Add(-40 * time.Second), By: "autoscaler", From: 2, To: 3, Reason: "it was busy"},
		Proxies: autoscale.ProxyList{Proxies: []autoscale.ProxyReport{
			{Proxy: "n1:8000", Age: 400 * time.Millisecond, Ready: true, Reports: 120},
			{Proxy: "n2:8000", Age: 31 * time.Second, Ready: true, Silent: true, Reports: 7},
		}},
	}
	if change != nil {
		change(&e)
	}
	return e
}

func TestExplainShowsWhyAndWhatComesNext(t *testing.T) {
	f := &fakeAPI{t: t, explanation: explanation(func(e *autoscale.Explanation) {
		e.Hold, e.StartTime = "proxy n2:8000 is silent", 8*time.Second
		e.Metric = &autoscale.MetricSeen{Source: "prometheus", At: e.At.Add(-2 * time.Second), Value: 35}
		e.Proxies.Refused, e.Proxies.LastRefusal = 2, "schema is \x1b[2J9"
	})}
	code, out, errs := f.cliRun(t.Context(), "autoscale", "explain", "hello/web")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out, "hello/web", "3 replicas, of 1 to 10", "8 ongoing, 4 queued", "30s: mean 9.5, largest 14, smallest 3; only 12s",
		"35, from prometheus 2s ago", "8s from the order", "2 -> 3, 40s ago by autoscaler: it was busy", "nothing is taken away: proxy n2:8000 is silent",
		"no change", "5 replicas in 12s", "18s of the 30s", "n1:8000", "400ms ago", "silent", "2 reports refused, the last one: schema is [2J9")

	f = &fakeAPI{t: t, explanation: explanation(nil)}
	code, out, _ = f.cliRun(t.Context(), "autoscale", "explain", "-json", "hello", "web")
	if code != exitOK || !strings.Contains(out, `"pending": {`) {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestExplainOfWhatIsNotKnown(t *testing.T) {
	f := &fakeAPI{t: t, explanation: explanation(func(e *autoscale.Explanation) {
		e.Load, e.Last, e.Decision.Pending, e.Decision.Rules, e.Proxies.Proxies = nil, nil, nil, nil, nil
		e.Metric = &autoscale.MetricSeen{Source: "replica", Error: "2 of 2 replicas say nothing usable"}
		e.Decision.Target = 1
	})}
	_, out, _ := f.cliRun(t.Context(), "autoscale", "explain", "hello/web")
	wantAll(t, "stdout", out, "not known: no proxy has reported of late", "cannot be read from replica: 2 of 2 replicas", "down to 1 replica", "None has reported")
	for _, absent := range []string{"Window", "Next", "Last Change", "On Hold", "Rules"} {
		if strings.Contains(out, absent) {
			t.Errorf("it says %s:\n%s", absent, out)
		}
	}
}

func TestExplainWithoutADeployment(t *testing.T) {
	f := &fakeAPI{t: t, refusal: &api.ErrorResponse{Error: "it has no autoscaling block", Code: api.CodeConflict}}
	if code, _, errs := f.cliRun(t.Context(), "autoscale", "explain", "hello/web"); code != exitError || !strings.Contains(errs, "no autoscaling block") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	for _, args := range [][]string{{"hello"}, {"hello/"}, {"/web"}, {"a/b/c"}, {"a", "b", "c"}, {}} {
		code, _, errs := (&fakeAPI{t: t}).cliRun(t.Context(), append([]string{"autoscale", "explain"}, args...)...)
		if code != exitUsage || errs == "" {
			t.Errorf("%q: exit code %d: %s", args, code, errs)
		}
	}
}
