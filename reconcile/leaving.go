package reconcile

import (
	"maps"
	"slices"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// route returns the route that app is to have now: the one that it asks for,
// and beside it the deployments that it no longer has but that are still
// called. Replicas of the version before finish what they began, and a handle
// that leads nowhere would break what they finish.
func (w sight) route(clusterID string, app *raftstate.Application) routes.Route {
	want := wantRoute(clusterID, app)
	have := w.Routes[app.Name]
	if have.ClusterID != clusterID {
		return want
	}
	for _, name := range slices.Sorted(maps.Keys(have.Deployments)) {
		if _, asked := want.Deployments[name]; !asked && w.called(clusterID, app, name) {
			want.Deployments[name] = have.Deployments[name]
		}
	}
	return want
}

// called says whether replicas that are on their way out may still call a
// deployment: of any version, for calls go by name. While Nomad is not known
// they may.
func (w sight) called(clusterID string, app *raftstate.Application, deployment string) bool {
	if !w.NomadKnown {
		return true
	}
	needed := map[string]bool{}
	for _, n := range needs(app) {
		needed[n.jobID()] = true
	}
	for _, h := range app.History {
		for _, d := range h.Version.Spec.Deployments {
			id := jobspec.JobID(app.Name, d.Name, h.Version.Hashes[d.Name])
			if slices.Contains(d.Handles, deployment) && !needed[id] && w.lives(clusterID, id) {
				return true
			}
		}
	}
	return false
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
	for name, d := range r.Deployments {
		jobs[jobspec.JobID(r.Application, name, d.Version)] = true
	}
	return jobs
}
