package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// scaling is a valid application whose deployment scales by a policy.
func scaling(name, policy string) *appspec.Application {
	app := spec(name)
	app.Deployments[0].Autoscaling = &appspec.Autoscaling{
		Policy: policy, MinReplicas: 1, MaxReplicas: 4, TargetOngoingRequests: 2, UpscalingFactor: 1, DownscalingFactor: 1,
		MetricsInterval: appspec.Duration(time.Second), Aggregation: "mean",
	}
	return app
}

func TestScalingWhatHasAnAutoscalingBlock(t *testing.T) {
	i := start(t)
	for _, app := range []*appspec.Application{scaling("outside", appspec.PolicyExternal), scaling("itself", appspec.PolicyRay)} {
		if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{app}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, app string
		replicas  int
		code      serve.Code // "": accepted
		says      string
	}{
		{"from outside", "outside", 4, "", ""},
		{"the same again", "outside", 4, "", ""},
		{"beyond its bounds", "outside", 5, serve.CodeInvalid, "1 to 4 replicas"},
		{"to zero, where one is the least", "outside", 0, serve.CodeInvalid, "1 to 4 replicas"},
		{"far beyond", "outside", 1 << 40, serve.CodeInvalid, "1 to 4 replicas"},
		{"below zero", "outside", -1, serve.CodeInvalid, "-1"},
		{"what scales by itself", "itself", 3, serve.CodeConflict, `set policy = "external"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := i.View().State.Applications[c.app].Target("web")
			_, err := i.client.Scale(t.Context(), c.app, "web", serve.ScaleRequest{Replicas: c.replicas, By: "keda", Message: "queue"})
			want := before
			if c.code == "" {
				want = c.replicas
			}
			if got := i.View().State.Applications[c.app].Target("web"); got != want {
				t.Errorf("the target is %d, want %d", got, want)
			}
			if c.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := asError(t, err); e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Errorf("got %v, want code %s and %q", e, c.code, c.says)
			}
		})
	}
}

// Whoever waits for a change sees the autoscaler's, though it leaves the modify
// index alone.
func TestAWatcherSeesTheAutoscaler(t *testing.T) {
	i := start(t)
	if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{scaling("a", appspec.PolicyRay)}}); err != nil {
		t.Fatal(err)
	}
	before, index, err := i.client.Application(t.Context(), "a", serve.Query{})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan error, 1)
	var after []byte
	go func() {
		status, _, err := i.client.Application(t.Context(), "a", serve.Query{Index: index, Wait: time.Minute})
		if err == nil {
			after, err = json.Marshal(status.Deployments[0].Autoscaling)
		}
		if err == nil && status.ModifyIndex != before.ModifyIndex {
			t.Errorf("the modify index went from %d to %d", before.ModifyIndex, status.ModifyIndex)
		}
		seen <- err
	}()
	i.awaitWaiter(t)
	_, err = i.Propose(t.Context(), raftstate.Command{At: time.Unix(100, 0).UTC(), Autoscale: &raftstate.Autoscale{Changes: []raftstate.AutoscaleChange{
		{Application: "a", Deployment: "web", From: 2, To: 3, Reason: "9 requests"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	want := `{"policy":"ray","min_replicas":1,"max_replicas":4,"last":{"at":"1970-01-01T00:01:40Z","by":"autoscaler","from":2,"to":3,"reason":"9 requests"}}`
	if string(after) != want {
		t.Errorf("got  %s\nwant %s", after, want)
	}
}
