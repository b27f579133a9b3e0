package reconcile

import (
	"fmt"
	"time"

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
		if !n.wanted {
			continue
		}
		s := d.world.deployment(d.state.ClusterID, d.settings, n)
		target := app.Wanted.Replicas[n.deployment.Name]
		if unchanged(app, n) {
			continue
		}
		replicas += target
		if s.Healthy < target && waiting == "" {
			waiting = fmt.Sprintf("%s: %d of %d replicas pass", n.deployment.Name, s.Healthy, target)
			if s.Reason != "" {
				waiting += ", " + s.Reason
			}
		}
		if failures, last := d.world.startFailures(n.jobID(), app.Rollout.StartedAt); s.Healthy == 0 && failures >= maxStartFailures {
			return raftstate.RolloutFailed, fmt.Sprintf("%s: its replicas died %d times and none ever passed: %s", n.deployment.Name, failures, last)
		}
	}
	deadline := d.settings.ProgressDeadline
	if deadline == 0 {
		deadline = DefaultProgressDeadline
	}
	switch {
	case waiting == "":
		return raftstate.RolloutSuccessful, fmt.Sprintf("all %d replicas that it waited for pass their health checks", replicas)
	case d.now.Sub(app.Rollout.StartedAt) >= deadline && d.now.Sub(d.world.Since) >= deadline:
		return raftstate.RolloutFailed, fmt.Sprintf("not healthy within %s: %s", deadline, waiting)
	default:
		return raftstate.RolloutRunning, waiting
	}
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
