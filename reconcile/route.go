package reconcile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// route returns the route that app is to have now: each generation with its part
// of the requests, and beside them what replicas on their way out may still
// call. They finish what they began, and a handle that leads nowhere would break
// what they finish.
func (w sight) route(clusterID string, app *raftstate.Application) routes.Route {
	serving := app.Serving
	r := routes.Route{
		Schema: routes.Schema, ClusterID: clusterID, Application: app.Name,
		RoutePrefix: serving.Spec.RoutePrefix, Ingress: serving.Spec.Ingress,
		RequestTimeout: serving.Spec.RequestTimeout.Std(),
		MaxBodyBytes:   serving.Spec.MaxBodyBytes,
		Generation:     serving.Generation,
		Deployments:    map[string]routes.Deployment{},
		Watched:        watched(app),
	}
	if app.RollingOut() {
		r.Sticky = app.Wanted.Spec.Rollout != nil && app.Wanted.Spec.Rollout.Sticky
	}
	var others []lane
	if changing(app) {
		others = w.lanes(app)[1:]
	}
	for _, l := range others {
		ingress := l.layers[0].version.Spec.Ingress
		r.Others = append(r.Others, routes.Generation{
			Number: l.generation, Weight: l.weight, Shadow: l.shadow, Ingress: ingress, Deployments: map[string]routes.Deployment{},
		})
	}
	for _, n := range w.needs(app) {
		if in := deploymentsOf(&r, n.generation); in != nil {
			enter(in, n)
		}
	}
	w.keepCalled(clusterID, app, &r)
	r.Others = slices.DeleteFunc(r.Others, func(g routes.Generation) bool { return len(g.Deployments) == 0 })
	for i := range r.Others {
		if g := &r.Others[i]; g.Deployments[g.Ingress].Service == "" {
			g.Ingress = "" // it is called by handles alone
		}
	}
	slices.SortFunc(r.Others, func(a, b routes.Generation) int { return cmp.Compare(a.Number, b.Number) })
	return r
}

// watched says whether the leader needs to hear how app's versions serve.
func watched(app *raftstate.Application) bool {
	return app.RollingOut() || slices.ContainsFunc(app.Leaving, func(l raftstate.Leaving) bool {
		return l.Version.Generation != app.Serving.Generation
	})
}

// deploymentsOf returns the deployments of a generation of r, or nil.
func deploymentsOf(r *routes.Route, generation int) map[string]routes.Deployment {
	if r.Generation == generation {
		return r.Deployments
	}
	for _, g := range r.Others {
		if g.Number == generation {
			return g.Deployments
		}
	}
	return nil
}

// enter adds a job to the deployments of its generation. Deployments that are
// only on their way in are named too, so that their replicas are watched:
// nobody calls them but the new replicas of others, which may do so before they
// pass their checks.
func enter(in map[string]routes.Deployment, n need) {
	entry := routeDeployment(n)
	old, there := in[n.deployment.Name]
	switch {
	case !there:
		in[n.deployment.Name] = entry
		return
	case !n.takes || slices.Contains(old.Versions(), n.version):
		return
	case n.serving:
		// It is what the others are held to until one of them serves.
		entry.Also = old.Versions()
		old, entry = entry, old
	default:
		old.Also = append(slices.Clone(old.Also), n.version)
	}
	// Replicas of all of them are in one gate, which knows one limit.
	old.MaxOngoingRequests = min(old.MaxOngoingRequests, entry.MaxOngoingRequests)
	in[n.deployment.Name] = old
}

func routeDeployment(n need) routes.Deployment {
	d := n.deployment
	return routes.Deployment{
		Service:            jobspec.ServiceName(n.app.Name, d.Name),
		Version:            n.version,
		Protocol:           d.Protocol,
		MaxOngoingRequests: d.MaxOngoingRequests,
		MaxQueuedRequests:  d.MaxQueuedRequests,
		PriorityHeaders:    d.PriorityHeaders,
		HealthPath:         d.HealthCheck.Path,
		HealthService:      d.HealthCheck.Service,
		HealthPeriod:       d.HealthCheck.Period.Std(),
		MetricsInterval:    metricsInterval(d),
	}
}

// keepCalled leaves in the route what replicas that are on their way out may
// still call, in their own generation. While Nomad is not known they may call
// all that they could.
func (w sight) keepCalled(clusterID string, app *raftstate.Application, r *routes.Route) {
	have := w.Routes[app.Name]
	if have.ClusterID != clusterID {
		return
	}
	for _, was := range have.Generations() {
		for _, name := range slices.Sorted(maps.Keys(was.Deployments)) {
			in := deploymentsOf(r, was.Number)
			if _, asked := in[name]; asked || !w.called(clusterID, app, was.Number, name) {
				continue
			}
			if in == nil {
				in = map[string]routes.Deployment{}
				r.Others = append(r.Others, routes.Generation{Number: was.Number, Ingress: was.Ingress, Deployments: in})
			}
			in[name] = was.Deployments[name]
		}
	}
}

// called says whether replicas that are on their way out may still call a
// deployment of their generation: of any version, for calls go by name.
func (w sight) called(clusterID string, app *raftstate.Application, generation int, deployment string) bool {
	if !w.NomadKnown {
		return true
	}
	needed := map[string]bool{}
	for _, n := range w.needs(app) {
		needed[n.jobID()] = true
	}
	for _, v := range known(app) {
		if v.Generation != generation {
			continue
		}
		for _, d := range v.Spec.Deployments {
			id := jobspec.JobID(app.Name, d.Name, v.DeploymentVersion(d.Name))
			if slices.Contains(d.Handles, deployment) && !needed[id] && w.lives(clusterID, id) {
				return true
			}
		}
	}
	return false
}

// known returns all versions of app that may have had replicas.
func known(app *raftstate.Application) []*raftstate.Version {
	list := []*raftstate.Version{app.Wanted, app.Serving}
	for _, l := range app.Leaving {
		list = append(list, l.Version)
	}
	for _, h := range app.History {
		list = append(list, h.Version)
	}
	return list
}

// lives says whether a job of this cluster is to run, or has replicas that
// have not ended.
func (w sight) lives(clusterID, jobID string) bool {
	job, exists := w.Jobs[jobID]
	return exists && job.ClusterID == clusterID && (!job.Stopped || w.alive(jobID))
}

// alive says whether a job still has a replica that has not ended.
func (w sight) alive(jobID string) bool {
	return slices.ContainsFunc(w.replicas[jobID], func(r Replica) bool { return r.Status.live() })
}

// jobsOf returns the jobs that a route names.
func jobsOf(r routes.Route) map[string]bool {
	jobs := map[string]bool{}
	for _, g := range r.Generations() {
		for name, d := range g.Deployments {
			for _, version := range d.Versions() {
				jobs[jobspec.JobID(r.Application, name, version)] = true
			}
		}
	}
	return jobs
}
