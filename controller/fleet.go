package controller

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fleet is the deployments that have an autoscaling block, as the State and the
// World have them. It looks at either only when it is another one.
type fleet struct {
	log     hclog.Logger
	state   *raftstate.State
	world   *reconcile.World
	members map[loads.Key]*member
	apps    map[string][]*member // by application, as its spec has them
	order   []*member            // all of them, by application
	groups  map[group]*replicas
	passed  map[string]bool // replicas that have passed their check; nil: not known
}

// member is one deployment.
type member struct {
	key    loads.Key
	block  *appspec.Autoscaling
	policy *autoscale.Policy // nil: the block makes none
	fault  string            // why not
	newest int               // version of the application

	workerGroup string // that its replicas run in; "": none is named
	version     string // the deployment version that takes traffic
	beside      string // one that takes a part of it, while it takes over; "": none
	target      int
	running     int // replicas of these that pass

	// What is remembered from one decision to the next. Another block starts
	// anew, as in Ray.
	state     autoscale.State
	asked     *asked    // the last change that was to be recorded; nil: it is settled
	notBefore time.Time // a change was left out: not again before
	starts    autoscale.StartTimes
}

// asked is a change of the target, and the state that comes with it.
type asked struct {
	from, to int
	next     autoscale.State
}

// recall takes in what came of the last change. Whoever proposed it may not have
// been told.
func (m *member) recall() {
	switch {
	case m.asked == nil || m.target == m.asked.from:
		return
	case m.target == m.asked.to:
		m.state = m.asked.next
	}
	m.asked = nil
}

// scales says whether the scaler sets the target. That of policy external it
// keeps within the bounds, which a schedule moves.
func (m *member) scales() bool { return m.policy != nil }

// byMetricAlone says whether the load that proxies report does not count, so
// that it does not matter whether it is known.
func (m *member) byMetricAlone() bool {
	return m.block.Metric != nil && m.block.Metric.Combine != appspec.CombineMax
}

// group is the replicas of one deployment version.
type group struct{ application, deployment, version string }

type replicas struct{ addresses []string }

func newFleet(log hclog.Logger) *fleet {
	return &fleet{log: log, members: map[loads.Key]*member{}}
}

// follow takes in the State, and says whether another set of deployments or
// other blocks came of it.
func (f *fleet) follow(state *raftstate.State) (changed bool) {
	if state == f.state {
		return false
	}
	last, before, known := f.state, f.members, f.apps
	f.state = state
	f.members, f.order = make(map[loads.Key]*member, len(before)), f.order[:0]
	f.apps = make(map[string][]*member, len(known))
	for _, name := range slices.Sorted(maps.Keys(state.Applications)) {
		list := known[name]
		if app := state.Applications[name]; last == nil || last.Applications[name] != app {
			var other bool
			list, other = f.enter(app, before)
			changed = changed || other
		}
		f.apps[name] = list
		f.order = append(f.order, list...)
		for _, m := range list {
			f.members[m.key] = m
		}
	}
	return changed || len(f.members) != len(before)
}

// enter returns the members of an application, and whether one of them has
// another block than before.
func (f *fleet) enter(app *raftstate.Application, before map[loads.Key]*member) (list []*member, changed bool) {
	if app.Deleting {
		return nil, false
	}
	for _, d := range deployments(app) {
		key := loads.Key{Application: app.Name, Deployment: d.Name}
		m := before[key]
		if m == nil || m.block != d.Autoscaling && !reflect.DeepEqual(m.block, d.Autoscaling) {
			m = f.join(m, key, d.Autoscaling)
			changed = true
		}
		m.block, m.target = d.Autoscaling, app.Target(d.Name)
		m.version, m.beside = servingVersions(app, d.Name)
		m.newest, m.workerGroup = app.Wanted.Number, d.WorkerGroup
		m.running = f.running(m)
		list = append(list, m)
	}
	return list, changed
}

// deployments returns those of app that have an autoscaling block, by the spec
// that is in force.
func deployments(app *raftstate.Application) []*appspec.Deployment {
	var list []*appspec.Deployment
	add := func(v, known *raftstate.Version) {
		for _, d := range v.Spec.Deployments {
			if known != nil && known.Spec.Deployment(d.Name) != nil {
				continue
			}
			if in := app.Deployment(d.Name); in != nil && in.Autoscaling != nil {
				list = append(list, in)
			}
		}
	}
	add(app.Wanted, nil)
	if app.Serving != app.Wanted {
		add(app.Serving, app.Wanted)
	}
	return list
}

// servingVersions are the deployment version that takes traffic, or that will
// when there is none yet, and the one that takes a part of it during a rollout.
func servingVersions(app *raftstate.Application, deployment string) (version, beside string) {
	version, next := app.Serving.DeploymentVersion(deployment), app.Wanted.DeploymentVersion(deployment)
	switch {
	case version == "":
		return next, ""
	case app.RollingOut() && next != version && (app.Wanted.Generation == app.Serving.Generation || app.Stage().Weight > 0):
		return version, next
	default:
		return version, ""
	}
}

// join returns a member for a block that is new. old may be nil; how long its
// replicas took to start is still true of them.
func (f *fleet) join(old *member, key loads.Key, block *appspec.Autoscaling) *member {
	m := &member{key: key, block: block}
	if old != nil {
		m.starts = old.starts
	}
	policy, err := autoscale.Compile(block)
	if err != nil {
		m.fault = err.Error()
		f.log.Error("a deployment cannot scale", "application", key.Application, "deployment", key.Deployment, "error", err)
		return m
	}
	m.policy = policy
	return m
}

// windows says how much of each deployment's load is looked at.
func (f *fleet) windows() map[loads.Key]time.Duration {
	windows := make(map[loads.Key]time.Duration, len(f.order))
	for _, m := range f.order {
		if m.policy != nil {
			windows[m.key] = m.policy.Window()
		}
	}
	return windows
}

// metrics returns the metric sources that there are.
func (f *fleet) metrics() map[loads.Key]appspec.Metric {
	list := map[loads.Key]appspec.Metric{}
	for _, m := range f.order {
		if m.block.Metric != nil && m.scales() {
			list[m.key] = *m.block.Metric
		}
	}
	return list
}

// pick returns the members that are named.
func (f *fleet) pick(keys map[loads.Key]bool) []*member {
	var list []*member
	for key := range keys {
		if m := f.members[key]; m != nil {
			list = append(list, m)
		}
	}
	return list
}

// see takes in the World, which may be nil: nothing has been seen yet.
func (f *fleet) see(world *reconcile.World, now time.Time) {
	if world == f.world {
		return
	}
	f.world = world
	if world == nil {
		return
	}
	status := make(map[string]reconcile.ReplicaStatus, len(world.Replicas))
	for _, r := range world.Replicas {
		status[r.ID] = r.Status
	}
	f.groups = map[group]*replicas{}
	for _, e := range world.Endpoints {
		s, listed := status[e.Replica]
		// Consul may know of a replica before Nomad's list does, and for a
		// moment of one that Nomad has stopped.
		if !e.Passing || listed && s != reconcile.ReplicaRunning {
			continue
		}
		in := group{e.Application, e.Deployment, e.Version}
		if f.groups[in] == nil {
			f.groups[in] = &replicas{}
		}
		f.groups[in].addresses = append(f.groups[in].addresses, e.Address)
	}
	for _, m := range f.order {
		m.running = f.running(m)
	}
	f.learn(world, now)
}

// running counts the replicas that serve. While Consul has never been seen that
// is not known, and they are taken to be as many as were ordered.
func (f *fleet) running(m *member) int {
	switch {
	case f.world == nil:
		return 0
	case !f.world.ConsulKnown && len(f.world.Endpoints) == 0:
		return m.target
	default:
		return len(f.addresses(m))
	}
}

// addresses lists where the replicas are that serve.
func (f *fleet) addresses(m *member) []string {
	var list []string
	for _, version := range []string{m.version, m.beside} {
		if found := f.groups[group{m.key.Application, m.key.Deployment, version}]; found != nil && version != "" {
			list = append(list, found.addresses...)
		}
	}
	return list
}

// hold says why nothing may be taken away on what has been seen; "": it may.
func (f *fleet) hold() string {
	switch {
	case !f.world.NomadKnown:
		return "Nomad is not known: " + f.world.NomadError
	case !f.world.ConsulKnown:
		return "Consul is not known: " + f.world.ConsulError
	default:
		return ""
	}
}

// learn notes how long replicas took that pass for the first time. Those that
// pass when the world is first seen, or seen again, began at an unknown time.
func (f *fleet) learn(world *reconcile.World, now time.Time) {
	if !world.NomadKnown || !world.ConsulKnown {
		f.passed = nil
		return
	}
	created := map[string]time.Time{}
	if f.passed != nil {
		for _, r := range world.Replicas {
			created[r.ID] = r.CreatedAt
		}
	}
	passed := make(map[string]bool, len(world.Endpoints))
	for _, e := range world.Endpoints {
		if e.Passing || f.passed[e.Replica] {
			passed[e.Replica] = true
		}
		at, listed := created[e.Replica]
		m := f.members[loads.Key{Application: e.Application, Deployment: e.Deployment}]
		if m != nil && e.Passing && listed && !f.passed[e.Replica] {
			m.starts.Add(now.Sub(at))
		}
	}
	f.passed = passed
}
