package reconcile

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// maxStartFailures is how often the replicas of a new version may die, with
// none of them ever passing its check, before the version counts as broken.
const maxStartFailures = 3

// DefaultProgressDeadline is how long a rollout may take: models load slowly.
// The time while Nomad or Consul is away, or nobody leads, does not count.
const DefaultProgressDeadline = 10 * time.Minute

// rollout ends the running rollout when it has come to its end.
func (d *differ) rollout(app *raftstate.Application) {
	if app.Rollout.Status != raftstate.RolloutRunning || !d.world.NomadKnown || !d.world.ConsulKnown {
		return
	}
	status, reason := d.judge(app)
	if status == raftstate.RolloutRunning {
		return
	}
	d.add(Step{
		Propose: &raftstate.Command{EndRollout: &raftstate.EndRollout{
			Application: app.Name, Version: app.Wanted.Number, Status: status, Reason: reason,
		}},
		Reason: reason,
	})
}

// judge says where the rollout of app's wanted version stands, and why.
func (d *differ) judge(app *raftstate.Application) (raftstate.RolloutStatus, string) {
	replicas, waiting := 0, ""
	for _, n := range needs(app) {
		if !n.wanted || unchanged(app, n) {
			continue
		}
		s := d.world.deployment(d.state, d.settings, n)
		enough := d.enough(app, n)
		replicas += enough
		if waiting == "" {
			waiting = d.waitsFor(n, s, enough)
		}
		failures, last := d.world.startFailures(n.jobID(), app.Rollout.StartedAt)
		// Without a target the dead are no more than what the autoscaler once
		// asked for.
		if s.Healthy == 0 && failures >= maxStartFailures && app.Wanted.Replicas[n.deployment.Name] > 0 {
			return raftstate.RolloutFailed, fmt.Sprintf("%s: its replicas died %d times and none ever passed: %s", n.deployment.Name, failures, last)
		}
	}
	deadline := d.deadline() + d.launchTime(app)
	switch {
	case waiting == "" && replicas == 0:
		return raftstate.RolloutSuccessful, "there was no replica to wait for"
	case waiting == "":
		return raftstate.RolloutSuccessful, fmt.Sprintf("all %d replicas that it waited for pass their health checks", replicas)
	case d.now.Sub(app.Rollout.StartedAt) >= deadline && d.now.Sub(d.world.Since) >= deadline:
		return raftstate.RolloutFailed, fmt.Sprintf("not healthy within %s: %s", deadline, waiting)
	default:
		return raftstate.RolloutRunning, waiting
	}
}

func (d *differ) deadline() time.Duration {
	return cmp.Or(d.settings.ProgressDeadline, DefaultProgressDeadline)
}

// launchTime is how much longer a rollout may take because nodes had to be
// ordered for it: the launch_timeout of the slowest worker group that it may
// have waited for, once. The wait for a node is no fault of the version; and one
// whose nodes never come fails all the same.
func (d *differ) launchTime(app *raftstate.Application) time.Duration {
	if d.now.Sub(app.Rollout.StartedAt) < d.deadline() {
		return 0 // not needed yet
	}
	var longest time.Duration
	for _, n := range needs(app) {
		if !n.wanted || unchanged(app, n) {
			continue
		}
		for _, group := range d.state.WorkerGroups {
			if d.mayRunIn(n.deployment, group.Spec) && d.launchedSince(group, app.Rollout.StartedAt) {
				longest = max(longest, group.Spec.LaunchTimeout.Std())
			}
		}
	}
	return longest
}

// mayRunIn says whether replicas of a deployment may run on nodes of a group.
func (d *differ) mayRunIn(dep *appspec.Deployment, group *appspec.WorkerGroup) bool {
	if dep.WorkerGroup != "" {
		return dep.WorkerGroup == group.Name
	}
	pool := cmp.Or(jobspec.NodePool(dep, nil, d.settings.Placement), api.NodePoolDefault)
	return pool == group.NodePool || pool == api.NodePoolAll
}

// launchedSince says whether a group has had a node on its way at any time
// since then.
func (d *differ) launchedSince(group *raftstate.WorkerGroup, since time.Time) bool {
	if !group.Failures.LastAt.Before(since) {
		return true
	}
	for _, node := range d.state.Nodes {
		if node.Group == group.Name && (node.Phase == raftstate.NodeLaunching || !node.At.Before(since) || !node.JoinedAt.Before(since)) {
			return true
		}
	}
	return false
}

// waitsFor says what the rollout waits for at n, "" when for nothing.
func (d *differ) waitsFor(n need, s DeploymentStatus, enough int) string {
	waiting := ""
	job, exists := d.world.Jobs[n.jobID()]
	switch {
	case s.Healthy < enough:
		waiting = fmt.Sprintf("%s: %d of %d replicas pass", n.deployment.Name, s.Healthy, enough)
	case !exists || job.Stopped || job.ClusterID != d.state.ClusterID:
		// Without a replica to wait for, this is how a job shows that Nomad
		// does not take.
		waiting = n.deployment.Name + ": its job is not in Nomad yet"
	default:
		return ""
	}
	if s.Reason != "" {
		waiting += ", " + s.Reason
	}
	return waiting
}

// enough returns how many replicas of n, which is of the wanted version, must
// pass before it takes over. Of a deployment that scales those are the ones
// that it is to begin with, and as many as carry the load now; never more than
// the target. The target alone would not do: load that comes while a rollout
// runs may ask for more than there is room for, next to the old version.
func (d *differ) enough(app *raftstate.Application, n need) int {
	name := n.deployment.Name
	target := app.Wanted.Replicas[name]
	if n.deployment.Autoscaling == nil {
		return target
	}
	least := n.deployment.FirstReplicas()
	if app.RollingOut() {
		for _, old := range versionNeeds(app, app.Serving) {
			if old.deployment.Name == name {
				least = max(least, d.world.deployment(d.state, d.settings, old).Healthy)
			}
		}
	}
	return min(target, least)
}

// unchanged says whether a rollout leaves n as it is: the same replicas serve
// before and after, and no more of them. Such a deployment may be short of
// replicas for reasons that the new version has nothing to do with.
func unchanged(app *raftstate.Application, n need) bool {
	name := n.deployment.Name
	return app.RollingOut() && n.serving && app.Wanted.Replicas[name] <= app.Serving.Replicas[name]
}

// startFailures counts how often replicas of a job that were made since then
// have died, and says what the last one died of.
func (w sight) startFailures(jobID string, since time.Time) (failures int, last string) {
	var at time.Time
	for _, r := range w.replicas[jobID] {
		if r.CreatedAt.Before(since) {
			continue
		}
		failures += r.Restarts
		if r.Status == ReplicaFailed {
			failures++
		}
		if r.Reason != "" && !r.CreatedAt.Before(at) {
			last, at = r.Reason, r.CreatedAt
		}
	}
	if last == "" {
		last = "Nomad does not say why"
	}
	return failures, last
}
