package controller

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// still is a Raft in which nothing happens.
type still struct{ state *raftstate.State }

func (s still) State() *raftstate.State            { return s.state }
func (s still) Changed() <-chan struct{}           { return nil }
func (s still) VerifyLeader(context.Context) error { return nil }
func (s still) Propose(context.Context, raftstate.Command) (raftstate.Result, error) {
	return raftstate.Result{}, nil
}

// BenchmarkTick is one decision on each of 10,000 deployments, of 1,000
// applications and two replicas each, with the reports of three proxies that
// have all of them busy: once with nothing new, as most ticks are, and once with
// another State and another World.
func BenchmarkTick(b *testing.B) {
	for _, policy := range []string{appspec.PolicyRay, appspec.PolicyKPA} {
		b.Run(policy, func(b *testing.B) {
			s := busy(b, policy)
			b.ReportAllocs()
			for b.Loop() {
				if changes := s.decide(false); len(changes) > 0 {
					b.Fatalf("not settled: %+v", changes[0])
				}
			}
		})
	}
	b.Run("after a change", func(b *testing.B) {
		s := busy(b, appspec.PolicyRay)
		b.ReportAllocs()
		for b.Loop() {
			s.fleet.state, s.fleet.world = nil, nil
			s.decide(false)
		}
	})
}

// busy is the scaler of a leader that has seen two minutes of reports.
func busy(tb testing.TB, policy string) *scaler {
	tb.Helper()
	const applications, each, proxies = 1000, 10, 3
	state := &raftstate.State{Applications: map[string]*raftstate.Application{}}
	world := &reconcile.World{NomadKnown: true, ConsulKnown: true}
	r := loads.Report{Schema: loads.Schema, Incarnation: 1, Ready: true, Covers: time.Second, Next: time.Second}
	for i := range applications {
		v := &raftstate.Version{
			Number: 1, Spec: &appspec.Application{Name: fmt.Sprintf("application-%04d", i)},
			Hashes: map[string]string{}, Replicas: map[string]int{},
		}
		for j := range each {
			d := &appspec.Deployment{Name: fmt.Sprintf("deployment-%d", j), Autoscaling: &appspec.Autoscaling{
				Policy: policy, MinReplicas: 1, MaxReplicas: 10, TargetOngoingRequests: proxies, UpscalingFactor: 1, DownscalingFactor: 1,
				LookBackPeriod: appspec.Duration(30 * time.Second), MetricsInterval: appspec.Duration(time.Second), Aggregation: "mean",
			}}
			v.Spec.Deployments = append(v.Spec.Deployments, d)
			v.Hashes[d.Name], v.Replicas[d.Name] = "0123456789ab", 2
			for k := range 2 {
				id := fmt.Sprintf("00000000-0000-0000-%04d-%08d%d", i, j, k)
				world.Replicas = append(world.Replicas, reconcile.Replica{ID: id, Status: reconcile.ReplicaRunning, CreatedAt: time.Now()})
				world.Endpoints = append(world.Endpoints, routes.Endpoint{
					Replica: id, Application: v.Spec.Name, Deployment: d.Name, Version: "0123456789ab", Address: "10.0.0.1:20000", Passing: true,
				})
			}
			r.Deployments = append(r.Deployments, loads.Deployment{Application: v.Spec.Name, Deployment: d.Name, Ongoing: 2})
		}
		state.Applications[v.Spec.Name] = &raftstate.Application{Name: v.Spec.Name, Serving: v, Wanted: v}
	}
	now := time.Now()
	c := New(Config{Raft: still{state}, Now: func() time.Time { return now }})
	c.view.publish(func(v *View) { v.World = world })
	s := c.scaler
	s.begin(tb.Context())
	for second := range 120 {
		now = now.Add(time.Second)
		for p := range proxies {
			r.Proxy, r.Sequence = fmt.Sprintf("node-%d:8000", p), uint64(second+1)
			for i := range r.Deployments { // no two seconds alike, and 2 on average
				d := &r.Deployments[i]
				d.Mean = 2 + 0.1*float64((second+i+p)%2*2-1)
				d.Max, d.Min = d.Mean+1, d.Mean-1
			}
			if err := s.take(r); err != nil {
				tb.Fatal(err)
			}
		}
		if second == 0 {
			s.decide(false)
		}
	}
	return s
}

// BenchmarkWatched is what a second costs beside that while ten of the thousand
// applications roll out: the reports of three proxies of how 200 versions serve,
// and a look at how all of them stand.
func BenchmarkWatched(b *testing.B) {
	s := busy(b, appspec.PolicyRay)
	state, world := *s.c.cfg.Raft.State(), *s.fleet.world
	state.Applications, world.Jobs = maps.Clone(state.Applications), map[string]reconcile.Job{}
	report := loads.Report{Schema: loads.Schema, Incarnation: 2, Ready: true, Covers: time.Second, Next: time.Second}
	for i := range 10 {
		app := *state.Applications[fmt.Sprintf("application-%04d", i)]
		next := *app.Wanted
		next.Number, app.Wanted, app.Rollout.Status = 2, &next, raftstate.RolloutRunning
		state.Applications[app.Name] = &app
		for _, d := range next.Spec.Deployments {
			for _, version := range []string{"0123456789ab", "ba9876543210"} {
				id := jobspec.JobID(app.Name, d.Name, version)
				world.Jobs[id] = reconcile.Job{ID: id, Application: app.Name, Deployment: d.Name, Version: version}
				served := loads.Served{Application: app.Name, Deployment: d.Name, Version: version, Ongoing: 2, Requests: 400, Latency: map[int]uint64{}}
				for bucket := range 40 {
					served.Latency[60+bucket] = 10
				}
				report.Served = append(report.Served, served)
			}
		}
	}
	s.c.cfg.Raft = still{&state}
	s.served(&world)
	b.ReportAllocs()
	for b.Loop() {
		report.Sequence++
		report.After = report.Sequence - 1
		for p := range 3 {
			report.Proxy = fmt.Sprintf("node-%d:8000", p)
			s.service.ledger.Take(s.c.cfg.Now().Add(time.Duration(report.Sequence)*time.Second), &report)
		}
		if served := s.served(&world); len(served) != 200 {
			b.Fatalf("%d versions stand", len(served))
		}
	}
}
