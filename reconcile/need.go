package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Settings is what the operator has configured that decisions depend on.
type Settings struct {
	Placement        jobspec.Placement // where replicas may run
	HandleAddress    string            // of the node's own proxy, as replicas reach it
	UIAddress        string            // of the control API, for links from the Nomad UI
	ShutdownDelay    time.Duration     // between a replica's leaving Consul and its SIGTERM
	ProgressDeadline time.Duration     // a rollout that is not done by then has failed
}

// need is one Nomad job that the State asks for.
type need struct {
	app        *raftstate.Application
	spec       *appspec.Application
	deployment *appspec.Deployment
	version    string // deployment version
	count      int
	serving    bool // is of the version that takes traffic
	wanted     bool // is of the newest version
}

func (n need) jobID() string {
	return jobspec.JobID(n.app.Name, n.deployment.Name, n.version)
}

// whyCount says why n is to have so many replicas, and not as many as there are,
// for Nomad's list of scaling events too.
func (n need) whyCount(have int) string {
	s, scaled := n.app.Scalings[n.deployment.Name]
	switch {
	case !scaled || s.To != n.count, s.From < s.To && have > n.count: // the end of a surge is not why it was scaled up
		return fmt.Sprintf("%s of application %s is to have %d replicas", n.deployment.Name, n.app.Name, n.count)
	case s.By == raftstate.ByAutoscaler:
		return "autoscaler: " + s.Reason
	}
	why := "scaled"
	if s.By != "" {
		why += " by " + s.By
	}
	if s.Reason != "" {
		why += ": " + s.Reason
	}
	return why
}

// needs returns the jobs that app asks for: those of the serving version and,
// while it rolls out, those of the wanted one. A deployment that is the same
// in both is one job.
func needs(app *raftstate.Application) []need {
	if app.Deleting {
		return nil
	}
	list := versionNeeds(app, app.Serving)
	if app.RollingOut() {
		list = append(list, versionNeeds(app, app.Wanted)...)
	}
	return merge(list)
}

// remains returns the jobs that an application which is being deleted may
// still have, each with no replica wanted.
func remains(app *raftstate.Application) []need {
	list := merge(append(versionNeeds(app, app.Serving), versionNeeds(app, app.Wanted)...))
	for i := range list {
		list[i].count = 0
	}
	return list
}

// merge makes one of the needs that are for the same job.
func merge(list []need) []need {
	var merged []need
	for _, n := range list {
		i := slices.IndexFunc(merged, func(m need) bool { return m.jobID() == n.jobID() })
		if i < 0 {
			merged = append(merged, n)
			continue
		}
		// The newer spec carries the newer limits; the larger count keeps
		// both versions whole until one of them goes.
		n.serving = n.serving || merged[i].serving
		n.wanted = n.wanted || merged[i].wanted
		n.count = max(n.count, merged[i].count)
		merged[i] = n
	}
	return merged
}

func versionNeeds(app *raftstate.Application, v *raftstate.Version) []need {
	var list []need
	for _, d := range v.Spec.Deployments {
		list = append(list, need{
			app: app, spec: v.Spec, deployment: d, version: v.Hashes[d.Name], count: v.Replicas[d.Name],
			serving: v.Number == app.Serving.Number, wanted: v.Number == app.Wanted.Number,
		})
	}
	return list
}

// render returns the job input for n at its place.
func (n need) render(clusterID string, at place, s Settings) jobspec.Input {
	return jobspec.Input{
		ClusterID: clusterID, Application: n.spec, Deployment: n.deployment,
		Version: n.version, Count: n.count, CoreMHz: at.coreMHz,
		Placement: s.Placement, WorkerGroup: at.group, HandleAddress: s.HandleAddress, UIAddress: s.UIAddress, ShutdownDelay: s.ShutdownDelay,
	}
}

// wantRoute returns the route that app asks for: limits of the newest spec,
// versions of the one that takes traffic. Deployments that are only on their
// way in are named too, so that their replicas are watched, and with their
// version: nobody calls them but the new replicas of others, which may do so
// before they pass their checks.
func wantRoute(clusterID string, app *raftstate.Application) routes.Route {
	serving := app.Serving
	r := routes.Route{
		Schema: routes.Schema, ClusterID: clusterID, Application: app.Name,
		RoutePrefix: serving.Spec.RoutePrefix, Ingress: serving.Spec.Ingress,
		RequestTimeout: serving.Spec.RequestTimeout.Std(),
		MaxBodyBytes:   serving.Spec.MaxBodyBytes,
		Deployments:    map[string]routes.Deployment{},
	}
	for _, n := range needs(app) {
		d := n.deployment
		entry := routes.Deployment{
			Service:            jobspec.ServiceName(app.Name, d.Name),
			Version:            cmp.Or(serving.Hashes[d.Name], n.version),
			Protocol:           d.Protocol,
			MaxOngoingRequests: d.MaxOngoingRequests,
			MaxQueuedRequests:  d.MaxQueuedRequests,
			PriorityHeaders:    d.PriorityHeaders,
			HealthPath:         d.HealthCheck.Path,
			HealthService:      d.HealthCheck.Service,
			HealthPeriod:       d.HealthCheck.Period.Std(),
			MetricsInterval:    metricsInterval(d),
		}
		// Until a version takes traffic its limits do not count, and it is
		// replicas of the old one that requests wait for.
		if old, ok := r.Deployments[d.Name]; ok && !n.serving {
			entry.MaxOngoingRequests, entry.MaxQueuedRequests = old.MaxOngoingRequests, old.MaxQueuedRequests
			entry.HealthPath, entry.HealthService, entry.HealthPeriod = old.HealthPath, old.HealthService, old.HealthPeriod
			entry.Protocol, entry.PriorityHeaders = old.Protocol, old.PriorityHeaders
		}
		r.Deployments[d.Name] = entry
	}
	return r
}

// metricsInterval returns how often proxies are to report the load of d; 0 when
// that scales nothing.
func metricsInterval(d *appspec.Deployment) time.Duration {
	if !raftstate.ScalesByItself(d) {
		return 0
	}
	return d.Autoscaling.MetricsInterval.Std()
}

// applications returns the State's applications by name.
func applications(state *raftstate.State) []*raftstate.Application {
	var list []*raftstate.Application
	for _, name := range slices.Sorted(maps.Keys(state.Applications)) {
		list = append(list, state.Applications[name])
	}
	return list
}
