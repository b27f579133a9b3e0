package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
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
	generation int
	count      int
	target     int  // how many its version is to have when it is alone
	serving    bool // is of the version that takes traffic
	wanted     bool // is of the newest version
	takes      bool // requests of its generation go to those of its replicas that pass
	fills      bool // is of a version that leaves: there is nothing to start
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
		noun := "replicas"
		if n.count == 1 {
			noun = "replica"
		}
		return fmt.Sprintf("%s of application %s is to have %d %s", n.deployment.Name, n.app.Name, n.count, noun)
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

// needs returns the jobs that app asks for, as the world is. A deployment that
// is the same in two versions of one generation is one job.
func (w sight) needs(app *raftstate.Application) []need {
	if app.Deleting {
		return nil
	}
	if !changing(app) {
		return settledNeeds(app)
	}
	var list []need
	all := w.lanes(app)
	for i := range all {
		list = append(list, w.laneNeeds(app, all, i)...)
	}
	return list
}

// settledNeeds are those of an application of which one version has replicas.
func settledNeeds(app *raftstate.Application) []need {
	var list []need
	for _, d := range app.Serving.Spec.Deployments {
		n := newNeed(app, app.Serving, d)
		n.takes = true
		list = append(list, n)
	}
	return list
}

func newNeed(app *raftstate.Application, v *raftstate.Version, d *appspec.Deployment) need {
	count := v.Replicas[d.Name]
	return need{
		app: app, spec: v.Spec, deployment: d, version: v.DeploymentVersion(d.Name), generation: v.Generation, count: count, target: count,
		serving: v.Number == app.Serving.Number, wanted: v.Number == app.Wanted.Number,
	}
}

// laneNeeds returns the jobs of one of app's lanes.
func (w sight) laneNeeds(app *raftstate.Application, all []lane, at int) []need {
	var list []need
	l := all[at]
	var names []string
	for _, layer := range l.layers {
		for _, d := range layer.version.Spec.Deployments {
			if !slices.Contains(names, d.Name) {
				names = append(names, d.Name)
			}
		}
	}
	for _, name := range names {
		crews, jobs := w.crews(app, l, name)
		if l.drains {
			drain(crews)
		} else {
			p := w.pace(app)
			// Nomad chooses which replicas go, and it may be those that pass.
			p.held = p.held || at > 0 && at == successor(app, all)
			share(crews, needed(app, all, at, name, own(l, crews)), p)
		}
		for i, n := range jobs {
			n.count, n.takes = crews[i].count, crews[i].takes
			if !n.fills || n.count > 0 || at > 0 { // replicas of a generation may call all of it
				list = append(list, n)
			}
		}
	}
	return list
}

// drain leaves the crews of a lane that takes no more requests as they are:
// which of their replicas still have some is not known. Those that have no place
// have none, and are not to find one any more.
func drain(crews []*crew) {
	for _, c := range crews {
		c.count, c.takes = c.have-c.unplaced, true
	}
}

// crews returns the versions of a deployment in a lane, each job once, and what
// is needed of each.
func (w sight) crews(app *raftstate.Application, l lane, deployment string) ([]*crew, []need) {
	var crews []*crew
	var jobs []need
	for _, layer := range l.layers {
		d := layer.version.Spec.Deployment(deployment)
		if d == nil {
			continue
		}
		n := newNeed(app, layer.version, d)
		n.fills = !n.serving && !n.wanted || app.Rollout.Status == raftstate.RolloutFailed && !n.serving
		if n.wanted && n.target == 0 && proves(app, d) {
			n.target = 1
		}
		if same := slices.IndexFunc(jobs, func(m need) bool { return m.version == n.version }); same >= 0 {
			// The newer spec carries the newer limits; the larger count keeps
			// both versions whole until one of them goes.
			m, c := &jobs[same], crews[same]
			m.serving, m.wanted, m.fills = m.serving || n.serving, m.wanted || n.wanted, m.fills && n.fills
			m.target = max(m.target, n.target)
			c.target = m.target
			if layer.role == roleServes {
				c.role = roleServes
			}
			continue
		}
		id := n.jobID()
		c := &crew{role: layer.role, target: n.target, healthy: w.healthy(id)}
		if job, exists := w.Jobs[id]; exists && !job.Stopped {
			c.have, c.unplaced = job.Count, min(job.Unplaced, job.Count)
		}
		crews, jobs = append(crews, c), append(jobs, n)
	}
	return crews, jobs
}

// needed returns how many replicas a lane needs of a deployment: as its part of
// the requests asks for, of one that takes over as the next stage does, and of
// one that serves as many as the spec leaves room for beside those.
func needed(app *raftstate.Application, all []lane, at int, deployment string, target int) int {
	l := all[at]
	switch next := successor(app, all); {
	case next > 0 && at == next:
		return upcoming(app, deployment, l.weight)
	case at == 0 && next > 0:
		beside := target*(100+app.Wanted.Spec.Rollout.Surge(app.Rollout.Strategy))/100 - upcoming(app, deployment, all[next].weight)
		return max(percentOf(target, l.weight), min(target, beside))
	case at == 0:
		return target // it is to take all of the requests again
	default:
		return percentOf(target, l.weight)
	}
}

// own returns how many replicas the version that a lane is of is to have when it
// is alone; 0: it does not have the deployment.
func own(l lane, crews []*crew) int {
	for _, c := range crews {
		if c.role == roleServes || len(l.layers) == 1 {
			return c.target
		}
	}
	return 0
}

// successor returns which of the lanes takes over from the serving one; 0: none.
func successor(app *raftstate.Application, all []lane) int {
	if app.RollingOut() && len(all) > 1 && all[1].generation == app.Wanted.Generation {
		return 1
	}
	return 0
}

// upcoming returns how many replicas of a deployment the next stage of app's
// rollout needs in a generation of its own, which takes weight percent now.
func upcoming(app *raftstate.Application, deployment string, weight int) int {
	d := app.Wanted.Spec.Deployment(deployment)
	if d == nil {
		return 0
	}
	target := app.Wanted.Replicas[deployment]
	if target == 0 && proves(app, d) {
		return 1
	}
	return percentOf(target, max(weight, nextShare(app)))
}

// nextShare is the percent of the replicas that the next stage of app's rollout
// needs.
func nextShare(app *raftstate.Application) int {
	if app.Rollout.Promoted {
		return 100
	}
	stages := app.Stages()
	at := min(app.Rollout.Stage+1, len(stages)-1)
	share := max(stages[at].Weight, stages[at].Shadow)
	for _, before := range stages[:at] {
		share = max(share, before.Weight)
	}
	return share
}

// proves says whether a deployment that is to have no replica gets one while a
// version rolls out, so that it is known whether its replicas start.
func proves(app *raftstate.Application, d *appspec.Deployment) bool {
	return app.RollingOut() && d.Autoscaling != nil && !app.Rollout.Promoted
}

// pace returns how fast app's rollout may go.
func (w sight) pace(app *raftstate.Application) pace {
	r := app.Wanted.Spec.Rollout
	return pace{
		surge: r.Surge(app.Rollout.Strategy), unavailable: r.Unavailable(),
		all: app.Stage().All || app.Rollout.Promoted, held: app.Rollout.Paused != nil,
		blind: !w.NomadKnown || !w.ConsulKnown,
	}
}

// render returns the job input for n at its place.
func (n need) render(clusterID string, at place, s Settings) jobspec.Input {
	return jobspec.Input{
		ClusterID: clusterID, Application: n.spec, Deployment: n.deployment,
		Version: n.version, Generation: n.generation, Count: n.count, CoreMHz: at.coreMHz,
		Placement: s.Placement, WorkerGroup: at.group, HandleAddress: s.HandleAddress, UIAddress: s.UIAddress, ShutdownDelay: s.ShutdownDelay,
	}
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

// remains returns the jobs that an application which is being deleted may
// still have, each with no replica wanted.
func (w sight) remains(app *raftstate.Application) []need {
	versions := []*raftstate.Version{app.Wanted, app.Serving}
	for _, l := range app.Leaving {
		versions = append(versions, l.Version)
	}
	var list []need
	for _, v := range versions {
		for _, d := range v.Spec.Deployments {
			n := newNeed(app, v, d)
			n.count, n.target = 0, 0
			if !slices.ContainsFunc(list, func(m need) bool { return m.jobID() == n.jobID() }) {
				list = append(list, n)
			}
		}
	}
	return list
}

// healthy counts the replicas of a job that run and pass their checks.
func (w sight) healthy(jobID string) int {
	count := 0
	endpoints := w.endpoints[jobID]
	for _, r := range w.replicas[jobID] {
		if r.Status == ReplicaRunning && endpoints[r.ID].Passing {
			count++
		}
	}
	return count
}
