package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// version is an application version with deployments that scale; a hash names
// the deployment's version.
func version(number int, hashes map[string]string, replicas map[string]int) *raftstate.Version {
	v := &raftstate.Version{Number: number, Hashes: hashes, Replicas: replicas, Spec: &appspec.Application{Name: "shop"}}
	for _, name := range []string{"a", "b", "c"} {
		if hashes[name] != "" {
			v.Spec.Deployments = append(v.Spec.Deployments, &appspec.Deployment{Name: name, Autoscaling: block(9)})
		}
	}
	return v
}

func block(most int) *appspec.Autoscaling {
	return &appspec.Autoscaling{
		Policy: appspec.PolicyRay, MaxReplicas: most, TargetOngoingRequests: 1, UpscalingFactor: 1, DownscalingFactor: 1,
		LookBackPeriod: appspec.Duration(30 * time.Second), Aggregation: "mean",
	}
}

func stateOf(apps ...*raftstate.Application) *raftstate.State {
	s := &raftstate.State{Applications: map[string]*raftstate.Application{}}
	for _, app := range apps {
		s.Applications[app.Name] = app
	}
	return s
}

// passing is a world in which replicas of the shop pass: "a/v1" is one of
// version v1 of deployment a.
func passing(names ...string) *reconcile.World {
	w := &reconcile.World{NomadKnown: true, ConsulKnown: true}
	for i, name := range names {
		id := fmt.Sprintf("%s-%d", name, i)
		w.Replicas = append(w.Replicas, reconcile.Replica{ID: id, Status: reconcile.ReplicaRunning})
		w.Endpoints = append(w.Endpoints, routes.Endpoint{
			Replica: id, Application: "shop", Deployment: name[:1], Version: name[2:], Address: id, Passing: true,
		})
	}
	return w
}

// seen is what a fleet has of each deployment: target, running.
func seen(f *fleet) map[string][2]int {
	got := map[string][2]int{}
	for _, m := range f.order {
		got[m.key.Deployment] = [2]int{m.target, m.running}
	}
	return got
}

func TestFleetCountsWhatServes(t *testing.T) {
	v1 := version(1, map[string]string{"a": "v1", "b": "v1"}, map[string]int{"a": 2, "b": 3})
	v2 := version(2, map[string]string{"a": "v2", "c": "v2"}, map[string]int{"a": 4, "c": 5})
	world := passing("a/v1", "a/v1", "a/v2", "b/v1", "c/v2")
	gone := passing("a/v1", "a/v1", "a/v1")
	gone.Replicas[0].Status = reconcile.ReplicaStopping
	gone.Endpoints[1].Passing = false
	gone.Replicas = gone.Replicas[:2] // the third is not listed yet
	unseen := &reconcile.World{NomadKnown: true}
	lost := passing("a/v1")
	lost.ConsulKnown = false
	app := func(serving, wanted *raftstate.Version, status raftstate.RolloutStatus) *raftstate.Application {
		return &raftstate.Application{Name: "shop", Serving: serving, Wanted: wanted, Rollout: raftstate.Rollout{Status: status}}
	}
	deleting := app(v1, v1, raftstate.RolloutSuccessful)
	deleting.Deleting = true
	for _, c := range []struct {
		name  string
		app   *raftstate.Application
		world *reconcile.World
		want  map[string][2]int
	}{
		{"one version", app(v1, v1, raftstate.RolloutSuccessful), world, map[string][2]int{"a": {2, 2}, "b": {3, 1}}},
		{
			"a rollout: the new targets, the replicas of both that take traffic", app(v1, v2, raftstate.RolloutRunning), world,
			map[string][2]int{"a": {4, 3}, "b": {3, 1}, "c": {5, 1}},
		},
		{"a rollout that failed", app(v1, v2, raftstate.RolloutFailed), world, map[string][2]int{"a": {2, 2}, "b": {3, 1}, "c": {5, 1}}},
		{"replicas on their way", app(v1, v1, raftstate.RolloutSuccessful), gone, map[string][2]int{"a": {2, 1}, "b": {3, 0}}},
		{"Consul has never been seen", app(v1, v1, raftstate.RolloutSuccessful), unseen, map[string][2]int{"a": {2, 2}, "b": {3, 3}}},
		{"Consul was seen", app(v1, v1, raftstate.RolloutSuccessful), lost, map[string][2]int{"a": {2, 1}, "b": {3, 0}}},
		{"an application that is deleted", deleting, world, map[string][2]int{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(hclog.NewNullLogger())
			f.follow(stateOf(c.app))
			f.see(c.world, time.Now())
			if d := cmp.Diff(c.want, seen(f)); d != "" {
				t.Error(d)
			}
			other := newFleet(hclog.NewNullLogger()) // the other way round
			other.see(c.world, time.Now())
			other.follow(stateOf(c.app))
			if d := cmp.Diff(c.want, seen(other)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFleetHoldsWhatItRemembers(t *testing.T) {
	f := newFleet(hclog.NewNullLogger())
	v := version(1, map[string]string{"a": "v1"}, map[string]int{"a": 2})
	app := &raftstate.Application{Name: "shop", Serving: v, Wanted: v}
	if !f.follow(stateOf(app)) || f.follow(stateOf(app)) {
		t.Error("a new deployment is a change, the same one again is none")
	}
	key := loads.Key{Application: "shop", Deployment: "a"}
	f.members[key].state.Direction = 1
	f.members[key].starts.Add(7 * time.Second)

	same := *v
	same.Spec = &appspec.Application{Name: "shop", Deployments: []*appspec.Deployment{{Name: "a", Autoscaling: block(9)}}}
	if f.follow(stateOf(&raftstate.Application{Name: "shop", Serving: &same, Wanted: &same})) || f.members[key].state.Direction != 1 {
		t.Error("the same block starts anew")
	}
	other := *v
	other.Spec = &appspec.Application{Name: "shop", Deployments: []*appspec.Deployment{{Name: "a", Autoscaling: block(8)}}}
	if !f.follow(stateOf(&raftstate.Application{Name: "shop", Serving: &other, Wanted: &other})) || f.members[key].state.Direction != 0 {
		t.Error("another block does not start anew")
	}
	if got := f.members[key].starts.Typical(); got != 7*time.Second {
		t.Errorf("with another block, replicas take %s to start", got)
	}
	if !f.follow(stateOf()) || len(f.members) != 0 {
		t.Error("what is gone is kept")
	}

	bad := block(3)
	bad.Schedules = []*appspec.Schedule{{Name: "night", Cron: "never"}}
	faulty := *v
	faulty.Spec = &appspec.Application{Name: "shop", Deployments: []*appspec.Deployment{{Name: "a", Autoscaling: bad}}}
	f.follow(stateOf(&raftstate.Application{Name: "shop", Serving: &faulty, Wanted: &faulty}))
	if m := f.members[key]; m.scales() || m.fault == "" || len(f.windows()) != 0 {
		t.Errorf("a block that makes no policy: %+v", m)
	}
}

func TestFleetLearnsHowLongReplicasTakeToStart(t *testing.T) {
	f := newFleet(hclog.NewNullLogger())
	v := version(1, map[string]string{"a": "v1"}, map[string]int{"a": 2})
	f.follow(stateOf(&raftstate.Application{Name: "shop", Serving: v, Wanted: v}))
	key := loads.Key{Application: "shop", Deployment: "a"}
	now := time.Now()
	world := func(age time.Duration, pass ...bool) *reconcile.World {
		w := passing("a/v1", "a/v1", "a/v1")
		for i := range pass {
			w.Replicas[i].CreatedAt = now.Add(-age)
			w.Endpoints[i].Passing = pass[i]
		}
		return w
	}
	away := world(0, true, true, true)
	away.ConsulKnown = false
	for i, step := range []struct {
		world *reconcile.World
		want  time.Duration
	}{
		{world(time.Minute, true, false, false), 0}, // it may have passed for long
		{world(8*time.Second, true, true, false), 8 * time.Second},
		{world(9*time.Second, true, false, false), 8 * time.Second},
		{world(90*time.Second, true, true, false), 8 * time.Second}, // again, not for the first time
		{away, 8 * time.Second},
		{world(99*time.Second, true, true, true), 8 * time.Second}, // when, nobody saw
	} {
		f.see(step.world, now)
		if got := f.members[key].starts.Typical(); got != step.want {
			t.Errorf("after look %d: %s, want %s", i+1, got, step.want)
		}
	}
}
