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

// verdict is what is to become of a running rollout.
type verdict struct {
	status raftstate.RolloutStatus // running: it goes on
	stage  int                     // to go on with, while it runs
	pause  bool                    // it is to wait for somebody
	reason string                  // of any of these
	refuse map[string]string       // deployment -> its version with the user_config in it, which running replicas did not take
	waits  string                  // what it needs first, while nothing of these is due
	gates  string                  // what was found last of the new version
}

// rollout brings the running rollout on, or ends it when it has come to its end.
// settled says that Consul has the route as it is to be: a stage has not begun
// before.
func (d *differ) rollout(app *raftstate.Application, settled bool) {
	if app.Rollout.Status != raftstate.RolloutRunning || !d.world.NomadKnown || !d.world.ConsulKnown {
		return
	}
	d.runChecks(app)
	v := d.judge(app)
	if app.RollingOut() && !settled && v.status != raftstate.RolloutFailed && !v.pause {
		return
	}
	number, command := app.Wanted.Number, raftstate.Command{}
	switch {
	case v.status != raftstate.RolloutRunning:
		command.EndRollout = &raftstate.EndRollout{Application: app.Name, Version: number, Status: v.status, Reason: v.reason}
	case len(v.refuse) > 0:
		command.RefuseConfig = &raftstate.RefuseConfig{Application: app.Name, Version: number, Hashes: v.refuse, Reason: v.reason}
	case v.pause:
		command.SteerRollout = &raftstate.SteerRollout{Application: app.Name, Version: number, Action: raftstate.ActionPause, Message: v.reason}
	case v.stage != app.Rollout.Stage:
		command.AdvanceRollout = &raftstate.AdvanceRollout{
			Application: app.Name, Version: number, From: app.Rollout.Stage, To: v.stage, Reason: v.reason,
		}
	default:
		return
	}
	d.add(Step{Propose: &command, Reason: v.reason})
}

// judge says where the rollout of app's wanted version stands, and why. Faults
// come first: a version that is not good ends its rollout also while that is
// paused.
func (d *differ) judge(app *raftstate.Application) verdict {
	r := &app.Rollout
	v := verdict{status: raftstate.RolloutRunning, stage: r.Stage}
	if fault := d.broken(app); fault != "" {
		return d.fails(app, v, fault)
	}
	configs, doubts, checks := "", "", ""
	if app.RollingOut() {
		var fault string
		if checks, fault = d.checks(app); fault != "" {
			return d.fails(app, v, fault)
		}
		if configs, v.refuse, v.reason = d.configs(app); len(v.refuse) > 0 {
			return v
		}
		found := d.gates(app)
		v.gates = found.Reason
		switch {
		case r.Promoted:
		case found.Worse:
			return d.fails(app, v, found.Reason)
		case found.Doubts:
			doubts = "more requests, to tell whether it is worse: " + found.Reason
		}
		if r.Paused != nil {
			v.waits = paused(r.Paused)
			return v
		}
	}
	replicas, waiting := d.missing(app)
	waiting = cmp.Or(waiting, configs, checks, d.queriesWait(app), doubts)
	lasted, lasts := d.now.Sub(r.StageAt), app.Stage().Lasts
	if r.Promoted {
		lasts = 0
	}
	switch last := len(app.Stages()) - 1; {
	case waiting != "":
		v.waits = waiting
		return d.late(app, v)
	case lasted < lasts:
		v.waits = fmt.Sprintf("%q lasts until %s", app.Stage().Name, r.StageAt.Add(lasts).UTC().Format(time.RFC3339))
	case r.Stage < last:
		v.stage, v.reason = r.Stage+1, allPass(replicas)
		if r.Promoted {
			v.stage, v.reason = last, "promoted; "+v.reason
		}
	default:
		v.status, v.reason = raftstate.RolloutSuccessful, allPass(replicas)
		if app.RollingOut() && r.Strategy == appspec.StrategyLive {
			v.reason = "all replicas that run have taken the user_config"
		}
	}
	return v
}

// configs says what user_configs the rollout waits for, and which of them
// running replicas did not take, and why.
func (d *differ) configs(app *raftstate.Application) (waiting string, refuse map[string]string, reason string) {
	for _, n := range d.world.needs(app) {
		if !n.wanted || n.deployment.Reconfigure == nil {
			continue
		}
		waits, refused := d.world.configured(n)
		waiting = cmp.Or(waiting, waits)
		hash := appspec.VersionWithConfig(n.spec, n.deployment)
		if refused != "" && n.serving && app.Wanted.Replaced[n.deployment.Name] != hash {
			if refuse == nil {
				refuse = map[string]string{}
			}
			refuse[n.deployment.Name], reason = hash, refused
		}
	}
	return waiting, refuse, reason
}

func allPass(replicas int) string {
	switch replicas {
	case 0:
		return "there was no replica to wait for"
	case 1:
		return "the replica that it waited for passes its health check"
	}
	return fmt.Sprintf("all %d replicas that it waited for pass their health checks", replicas)
}

func paused(p *raftstate.Pause) string {
	text := "paused"
	if p.By != "" {
		text += " by " + p.By
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// fails is the verdict on a version that is not good: its rollout ends, or waits
// for somebody where the spec says so.
func (d *differ) fails(app *raftstate.Application, v verdict, reason string) verdict {
	switch {
	case !app.RollingOut() || app.Wanted.Spec.Rollout.RollsBack():
		v.status, v.reason = raftstate.RolloutFailed, reason
	case app.Rollout.Paused == nil:
		v.pause, v.reason = true, reason
	default:
		v.waits = paused(app.Rollout.Paused)
	}
	return v
}

// late is the verdict on a version that is still waited for.
func (d *differ) late(app *raftstate.Application, v verdict) verdict {
	since := app.Rollout.StageAt
	if since.IsZero() {
		since = app.Rollout.StartedAt
	}
	since = since.Add(app.Stage().Lasts)
	deadline := d.deadline(app) + d.launchTime(app, since)
	if d.now.Sub(since) < deadline || d.now.Sub(d.world.Since) < deadline {
		return v
	}
	return d.fails(app, v, fmt.Sprintf("not healthy within %s: %s", deadline, v.waits))
}

// changes says whether n is a job that app's rollout brings up.
func changes(app *raftstate.Application, n need) bool { return n.wanted && !unchanged(app, n) }

// broken says that replicas of the wanted version do not live, and why; "": they
// do, as far as is known.
func (d *differ) broken(app *raftstate.Application) string {
	_, _, restarts := app.Wanted.Spec.Rollout.Limits()
	for _, n := range d.world.needs(app) {
		if !changes(app, n) {
			continue
		}
		failures, last := d.world.startFailures(n.jobID(), app.Rollout.StartedAt)
		switch {
		// Without a target the dead are no more than what the autoscaler once
		// asked for.
		case n.target == 0:
		case failures >= maxStartFailures && d.world.healthy(n.jobID()) == 0:
			return fmt.Sprintf("%s: its replicas died %d times and none passes: %s", n.deployment.Name, failures, last)
		case app.RollingOut() && !app.Rollout.Promoted && restarts >= 0 && failures > restarts:
			return fmt.Sprintf("%s: its replicas died %d times, and at most %d are allowed: %s", n.deployment.Name, failures, restarts, last)
		}
	}
	return ""
}

// missing counts the replicas that the next stage of app's rollout needs, and
// says what they lack; "": nothing.
func (d *differ) missing(app *raftstate.Application) (replicas int, waiting string) {
	for _, n := range d.world.needs(app) {
		if !changes(app, n) {
			continue
		}
		s := d.world.deployment(d.state, d.settings, n)
		enough := d.required(app, n)
		replicas += enough
		if waiting == "" {
			waiting = d.waitsFor(n, s, enough)
		}
	}
	return replicas, waiting
}

// required returns how many replicas of n must pass before its rollout goes on.
func (d *differ) required(app *raftstate.Application, n need) int {
	enough := d.enough(app, n)
	switch {
	case !app.RollingOut() || enough == 0:
		return enough
	case n.generation != app.Serving.Generation:
		return max(1, percentOf(enough, nextShare(app)))
	case app.Stage().All || app.Rollout.Promoted:
		return enough
	default:
		return min(enough, n.count)
	}
}

// deadline is within which each stage of app's rollout is to be ready.
func (d *differ) deadline(app *raftstate.Application) time.Duration {
	var own time.Duration
	if r := app.Wanted.Spec.Rollout; r != nil {
		own = r.ProgressDeadline.Std()
	}
	return cmp.Or(own, d.settings.ProgressDeadline, DefaultProgressDeadline)
}

// launchTime is how much longer a rollout may take because nodes had to be
// ordered for it: the launch_timeout of the slowest worker group that it may
// have waited for, once. The wait for a node is no fault of the version; and one
// whose nodes never come fails all the same.
func (d *differ) launchTime(app *raftstate.Application, since time.Time) time.Duration {
	if d.now.Sub(since) < d.deadline(app) {
		return 0 // not needed yet
	}
	var longest time.Duration
	for _, n := range d.world.needs(app) {
		if !changes(app, n) {
			continue
		}
		for _, group := range d.state.WorkerGroups {
			if d.mayRunIn(n.deployment, group.Spec) && d.launchedSince(group, since) {
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
	if n.deployment.Autoscaling == nil {
		return n.target
	}
	least := n.deployment.FirstReplicas()
	if app.RollingOut() {
		least = max(least, 1)
		if hash := app.Serving.DeploymentVersion(n.deployment.Name); hash != "" {
			least = max(least, d.world.healthy(jobspec.JobID(app.Name, n.deployment.Name, hash)))
		}
	}
	return min(n.target, least)
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
