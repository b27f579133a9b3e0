package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// drainQuiet is how long a generation must have had no request before it goes:
// proxies hear of a new route one after the other, and one that has not yet may
// send it another request.
const drainQuiet = 2 * time.Second

// departures forgets the versions of app that have nothing more to do. Their
// jobs stop then, as nobody needs them. settled says that Consul has the route
// as it is to be.
func (d *differ) departures(app *raftstate.Application, settled bool) {
	if !d.world.NomadKnown || !d.world.ConsulKnown || !settled {
		return
	}
	for _, l := range app.Leaving {
		reason, waits := d.departed(app, l)
		if waits != "" {
			continue
		}
		d.add(Step{
			Propose: &raftstate.Command{ForgetVersion: &raftstate.ForgetVersion{Application: app.Name, Version: l.Version.Number, Reason: reason}},
			Reason:  reason,
		})
	}
}

// departed says why a version that leaves has nothing more to do, or what it is
// still there for.
func (d *differ) departed(app *raftstate.Application, l raftstate.Leaving) (reason, waits string) {
	all := d.world.lanes(app)
	at := slices.IndexFunc(all, func(o lane) bool { return o.generation == l.Version.Generation })
	switch own := all[at]; {
	case at > 0 && own.drains:
		return d.drained(app, l)
	case at > 0 && at != successor(app, all):
		return "", fmt.Sprintf("its generation takes %d percent of the requests until version %d does", own.weight, app.Wanted.Number)
	}
	for _, n := range d.world.needs(app) {
		if n.fills && n.count > 0 && n.generation == l.Version.Generation && n.version == l.Version.DeploymentVersion(n.deployment.Name) {
			return "", fmt.Sprintf("%d replicas of %s serve until others do", n.count, n.deployment.Name)
		}
	}
	return "its replicas have been replaced", ""
}

// drained says whether a generation that takes no more requests has finished
// those that it had, or had time enough.
func (d *differ) drained(app *raftstate.Application, l raftstate.Leaving) (reason, waits string) {
	limit := app.Wanted.Spec.Rollout.Drain()
	quiet, ongoing, unknown, runs := l.At, 0, false, false
	for _, dep := range l.Version.Spec.Deployments {
		id := jobspec.JobID(app.Name, dep.Name, l.Version.DeploymentVersion(dep.Name))
		if job, exists := d.world.Jobs[id]; !exists || job.Stopped {
			continue
		}
		runs = true
		s, told := d.world.Served[id]
		ongoing += s.Ongoing
		unknown = unknown || !told || s.Settled.IsZero()
		if s.Settled.After(quiet) {
			quiet = s.Settled
		}
	}
	until := l.At.Add(limit).UTC().Format(time.RFC3339)
	switch left := limit - d.now.Sub(l.At); {
	case !runs:
		return "its jobs are gone", ""
	case left <= 0 && ongoing > 0:
		return fmt.Sprintf("%d requests have not ended within %s", ongoing, limit), ""
	case left <= 0:
		return fmt.Sprintf("it had %s to finish its requests", limit), ""
	case ongoing > 0:
		return "", fmt.Sprintf("%d requests have not ended; they have until %s", ongoing, until)
	case unknown:
		return "", "not all proxies have told whether it has requests; they have until " + until
	case d.now.Sub(quiet) < drainQuiet:
		return "", "its last request has just ended"
	default:
		return "all of its requests have ended", ""
	}
}
