package reconcile

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Diff returns what to do now to bring world to what state asks for. It adds
// before it takes away, and takes away only what it has seen to be unneeded:
// a job stops once the routing table in Consul no longer sends it traffic.
func Diff(state *raftstate.State, world *World, now time.Time, settings Settings) Plan {
	if state.ClusterID == "" {
		return Plan{}
	}
	d := differ{state: state, world: see(state, world), now: now, settings: settings, needed: map[string]bool{}}
	d.jobs = map[string][]Job{}
	for _, id := range slices.Sorted(maps.Keys(world.Jobs)) {
		if job := world.Jobs[id]; job.ClusterID == state.ClusterID {
			d.jobs[job.Application] = append(d.jobs[job.Application], job)
		}
	}
	d.pools()
	d.prefetches()
	for _, app := range applications(state) {
		d.application(app)
	}
	d.leftovers()
	d.dropConfigs()
	return Plan{Steps: d.steps}
}

type differ struct {
	state    *raftstate.State
	world    sight
	now      time.Time
	settings Settings

	jobs   map[string][]Job // this cluster's, by application ("": of prefetch blocks), each list by id
	needed map[string]bool  // job id
	steps  []Step
}

func (d *differ) add(s Step) { d.steps = append(d.steps, s) }

func (d *differ) application(app *raftstate.Application) {
	if app.Deleting {
		d.deletion(app)
		return
	}
	want := d.world.route(d.state.ClusterID, app)
	// Until proxies go by a new route the replicas that the old one counts on
	// stay.
	shrink := !changing(app) || d.world.ConsulKnown && reflect.DeepEqual(d.world.Routes[app.Name], want)
	for _, n := range d.world.needs(app) {
		d.needed[n.jobID()] = true
		d.config(n)
		if job := d.world.Jobs[n.jobID()]; !shrink && !job.Stopped {
			n.count = max(n.count, job.Count)
		}
		d.job(n)
	}
	settled := d.route(app, want)
	d.rollout(app, settled)
	d.departures(app, settled)
	if settled && d.world.NomadKnown {
		d.stopUnneeded(app, jobsOf(want))
	}
}

// job brings one job to what n asks for.
func (d *differ) job(n need) {
	if !d.world.NomadKnown {
		return
	}
	job, exists := d.world.Jobs[n.jobID()]
	more := d.world.surges[n.jobID()]
	count := more.count(n)
	live := jobspec.LiveMeta(n.spec, n.deployment)
	switch {
	case exists && job.ClusterID != d.state.ClusterID:
		// Another cluster's, and two clusters that overwrite each other
		// would never end. Summarise says so.
	case n.fills && (!exists || job.Stopped):
		// It is on its way out: nothing of it starts again.
	case !exists:
		d.register(n, job, fmt.Sprintf("%s of application %s has no job of version %s", n.deployment.Name, n.app.Name, n.version))
	case job.Stopped:
		d.register(n, job, "it is needed and was stopped")
	case job.LiveHash != live[jobspec.LiveHashMeta] && !n.fills:
		d.add(Step{
			Update: &Update{JobID: job.ID, Group: n.deployment.Name, Count: count, Meta: live, ModifyIndex: job.ModifyIndex},
			Reason: "limits changed; no replica restarts",
		})
	case job.Count != count:
		d.add(Step{
			Scale:  &Scale{JobID: job.ID, Group: n.deployment.Name, From: job.Count, Count: count},
			Reason: more.whyCount(n, job.Count),
		})
	}
}

// register makes a job, or starts one again that was stopped, if there is a
// place for it. Summarise says when there is none.
func (d *differ) register(n need, old Job, reason string) {
	at := d.world.place(d.state, d.settings, n.deployment, old.CoreMHz)
	if at.problem != "" || !d.world.hasConfig(n) {
		return
	}
	n.count = d.world.surges[n.jobID()].count(n)
	d.add(Step{
		Register: &Register{Job: jobspec.Render(n.render(d.state.ClusterID, at, d.settings)), ModifyIndex: old.ModifyIndex},
		Reason:   reason,
	})
}

// route brings the table's entry of app to what is wanted, and says whether it
// is that already.
func (d *differ) route(app *raftstate.Application, want routes.Route) bool {
	if !d.world.ConsulKnown {
		return false
	}
	have, exists := d.world.Routes[app.Name]
	switch {
	case exists && have.ClusterID != d.state.ClusterID:
		return false
	case exists && reflect.DeepEqual(have, want):
		return true
	}
	if _, taken := d.world.holder(d.state.ClusterID, app.Name, want.RoutePrefix); taken {
		return false // Summarise says so
	}
	reason := "the application has no route yet"
	if exists {
		reason = fmt.Sprintf("version %d takes the traffic, or what it consists of changed", app.Serving.Number)
		if app.RollingOut() {
			reason = fmt.Sprintf("version %d is on its way: %s", app.Wanted.Number, app.Stage().Name)
		}
	}
	d.add(Step{WriteRoute: &WriteRoute{Route: want, ModifyIndex: d.world.RouteIndex[app.Name]}, Reason: reason})
	return false
}

// stopUnneeded stops app's jobs that no version asks for and that are not
// named by the table, which the caller has seen.
func (d *differ) stopUnneeded(app *raftstate.Application, named map[string]bool) {
	for _, job := range d.jobs[app.Name] {
		if !d.needed[job.ID] && !named[job.ID] && !job.Stopped {
			d.stop(job, fmt.Sprintf("version %d does not need it and no traffic goes there", app.Wanted.Number))
		}
	}
}

// deletion ends an application: first no request from outside finds it any more,
// then its jobs stop, each when nobody is left who calls it, then its handles go,
// and the memory of it.
func (d *differ) deletion(app *raftstate.Application) {
	if !d.world.ConsulKnown || !d.world.NomadKnown {
		return
	}
	route, routed := d.world.Routes[app.Name]
	routed = routed && route.ClusterID == d.state.ClusterID
	if routed && !route.Closed {
		route.Closed, route.Watched = true, false
		d.add(Step{
			WriteRoute: &WriteRoute{Route: route, ModifyIndex: d.world.RouteIndex[app.Name]},
			Reason:     "the application is being deleted: no more requests from outside",
		})
		return
	}
	left := false
	for _, job := range d.jobs[app.Name] {
		left = left || !job.Stopped || d.world.alive(job.ID)
		called := job.Check == "" && d.world.called(d.state.ClusterID, app, raftstate.GenerationOf(job.Version), job.Deployment)
		if !job.Stopped && !called {
			d.stop(job, "the application is being deleted")
		}
	}
	switch {
	case left:
	case routed:
		d.add(Step{
			DropRoute: &DropRoute{Application: app.Name, ModifyIndex: d.world.RouteIndex[app.Name]},
			Reason:    "the application is being deleted, and its replicas have ended",
		})
	default:
		d.add(Step{
			Propose: &raftstate.Command{Forget: &raftstate.Forget{Application: app.Name}},
			Reason:  "its jobs have stopped and it has no route",
		})
	}
}

// leftovers takes away routes and jobs of ours that belong to no application:
// what a leader that died half-way through a deletion left.
func (d *differ) leftovers() {
	if !d.world.ConsulKnown || !d.world.NomadKnown {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.world.Routes)) {
		if d.state.Applications[name] == nil && d.world.Routes[name].ClusterID == d.state.ClusterID {
			d.add(Step{
				DropRoute: &DropRoute{Application: name, ModifyIndex: d.world.RouteIndex[name]},
				Reason:    "there is no such application",
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.jobs)) {
		_, routed := d.world.Routes[name]
		if name == "" || d.state.Applications[name] != nil || routed {
			continue
		}
		for _, job := range d.jobs[name] {
			if !job.Stopped {
				d.stop(job, fmt.Sprintf("there is no application %s", name))
			}
		}
	}
}

func (d *differ) stop(job Job, reason string) {
	d.add(Step{Stop: &Stop{JobID: job.ID, ModifyIndex: job.ModifyIndex}, Reason: reason})
}

// live says whether a replica in this state has a process, or will have one.
func (s ReplicaStatus) live() bool {
	return s == ReplicaPending || s == ReplicaRunning || s == ReplicaStopping
}
