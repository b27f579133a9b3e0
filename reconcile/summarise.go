package reconcile

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// SummariseAll says how each application is, by name. A nil world is one that
// is not known.
func SummariseAll(state *raftstate.State, world *World, now time.Time, settings Settings) []ApplicationStatus {
	list := []ApplicationStatus{}
	seen := seeAny(state, world)
	for _, app := range applications(state) {
		list = append(list, summarise(state, seen, now, settings, app))
	}
	return list
}

// Summarise says how one application is, and whether there is one.
func Summarise(state *raftstate.State, world *World, now time.Time, settings Settings, name string) (ApplicationStatus, bool) {
	app := state.Applications[name]
	if app == nil {
		return ApplicationStatus{}, false
	}
	return summarise(state, seeAny(state, world), now, settings, app), true
}

// seeAny is see for a World that may be nil.
func seeAny(state *raftstate.State, world *World) sight {
	if world == nil {
		world = &World{NomadError: "this server does not lead and does not look at Nomad"}
	}
	return see(state, world)
}

func summarise(state *raftstate.State, world sight, now time.Time, settings Settings, app *raftstate.Application) ApplicationStatus {
	s := ApplicationStatus{
		Name: app.Name, RoutePrefix: app.Serving.Spec.RoutePrefix, Ingress: app.Serving.Spec.Ingress,
		Version: app.Wanted.Number, ServingVersion: app.Serving.Number, Rollout: app.Rollout,
		By: app.Wanted.By, Message: app.Wanted.Message, DeployedAt: app.Wanted.At, ModifyIndex: app.ModifyIndex,
		Deployments: []DeploymentStatus{},
	}
	list := world.needs(app)
	if app.Deleting {
		list = world.remains(app)
	}
	slices.SortStableFunc(list, func(a, b need) int {
		return cmp.Compare(position(app, a.deployment.Name), position(app, b.deployment.Name))
	})
	for _, n := range list {
		d := world.deployment(state, settings, n)
		d.Grows = grows(app.Scalings[d.Name], d)
		d.Status, d.Reason = deploymentHealth(world, app, n, d)
		if d.Edited {
			d.Reason = strings.TrimPrefix(d.Reason+"; "+edited(d.JobID), "; ")
		}
		d.Autoscaling = autoscalingStatus(app, n)
		s.Deployments = append(s.Deployments, d)
	}
	s.rollout(&differ{state: state, world: world, now: now, settings: settings}, app)
	s.Status, s.Reason = applicationHealth(state, world, app, s.Deployments)
	return s
}

// rollout says where the rollout of app stands, and which versions leave.
func (s *ApplicationStatus) rollout(d *differ, app *raftstate.Application) {
	if app.RollingOut() {
		stage := app.Stage()
		s.Stage, s.Stages, s.Weight = stage.Name, len(app.Stages()), stage.Weight
		if d.world.NomadKnown && d.world.ConsulKnown {
			v := d.judge(app)
			s.Waits, s.Gates = strings.TrimSuffix(v.waits, ": "+v.gates), v.gates // what is in one is not said twice
		}
	}
	for _, l := range app.Leaving {
		_, waits := d.departed(app, l)
		s.Leaving = append(s.Leaving, LeavingStatus{Version: l.Version.Number, Generation: l.Version.Generation, Cause: l.Cause, Waits: waits})
	}
}

// position orders deployments as the newest spec does, those that it no longer
// has at the end.
func position(app *raftstate.Application, deployment string) int {
	for i, d := range app.Wanted.Spec.Deployments {
		if d.Name == deployment {
			return i
		}
	}
	return len(app.Wanted.Spec.Deployments)
}

// deployment counts what there is of one job. Its Reason says why replicas are
// missing, "" when that cannot be told.
func (w sight) deployment(state *raftstate.State, settings Settings, n need) DeploymentStatus {
	d := DeploymentStatus{
		Name: n.deployment.Name, Version: n.version, JobID: n.jobID(),
		Serving: n.serving, Wanted: n.wanted, Generation: n.generation, Target: n.count, Replicas: []ReplicaInfo{},
	}
	if more, surging := w.surges[d.JobID]; surging {
		d.Surge, d.SurgeReason = more.count(n)-n.count, more.why()
	}
	endpoints := w.endpoints[d.JobID]
	for _, r := range w.replicas[d.JobID] {
		// The dead of an earlier rollout of the same version say nothing of
		// this one.
		if r.Status == ReplicaStopped || !r.Status.live() && r.CreatedAt.Before(n.app.Rollout.StartedAt) {
			continue
		}
		e := endpoints[r.ID]
		info := ReplicaInfo{
			ID: r.ID, Status: r.Status, Healthy: e.Passing && r.Status == ReplicaRunning, Node: r.Node,
			Address: e.Address, Restarts: r.Restarts, Reason: r.Reason, CreatedAt: r.CreatedAt,
		}
		d.Replicas = append(d.Replicas, info)
		d.count(info)
	}
	slices.SortStableFunc(d.Replicas, func(a, b ReplicaInfo) int { return b.CreatedAt.Compare(a.CreatedAt) })
	d.Unplaced, d.Edited = w.Jobs[d.JobID].Unplaced, w.Jobs[d.JobID].Edited
	d.Reason = w.shortage(state, settings, n, d)
	return d
}

// edited says what there is to know of a job whose replicas run as what somebody
// wrote into it. To set it back would replace all of them at once, as the edit
// did, and maybe that edit is what keeps the application alive.
func edited(jobID string) string {
	return fmt.Sprintf("job %s was edited in Nomad and is left so until another version of the deployment is deployed (nomad job history -p %s shows the edit)", jobID, jobID)
}

func (d *DeploymentStatus) count(r ReplicaInfo) {
	switch r.Status {
	case ReplicaPending:
		d.Starting++
	case ReplicaRunning:
		if r.Healthy {
			d.Healthy++
		} else {
			d.Starting++
		}
	case ReplicaFailed, ReplicaLost:
		d.Failed++
	case ReplicaStopping, ReplicaStopped:
	}
}

// shortage says why n's job has fewer healthy replicas than it should.
func (w sight) shortage(state *raftstate.State, settings Settings, n need, d DeploymentStatus) string {
	job, exists := w.Jobs[d.JobID]
	switch {
	case !w.NomadKnown:
		return w.NomadError
	case exists && job.ClusterID != state.ClusterID:
		return fmt.Sprintf("Nomad job %s belongs to another serve-nomad cluster (%s): stop it there, or with nomad job stop", job.ID, job.ClusterID)
	case !exists && w.place(state, settings, n.deployment, 0).problem != "":
		return w.place(state, settings, n.deployment, 0).problem
	case d.Healthy >= d.Target:
		return ""
	case job.Blocked != "":
		return "no room: " + job.Blocked
	}
	for _, r := range d.Replicas {
		if r.Reason != "" && !r.Healthy {
			return fmt.Sprintf("replica %s: %s", short(r.ID), r.Reason)
		}
	}
	if !w.ConsulKnown {
		return w.ConsulError
	}
	return ""
}

func deploymentHealth(w sight, app *raftstate.Application, n need, d DeploymentStatus) (Health, string) {
	switch {
	case !w.NomadKnown || !w.ConsulKnown:
		return Unknown, cmp.Or(w.NomadError, w.ConsulError)
	case app.Deleting:
		return Deleting, ""
	case d.Target == 0:
		return Healthy, idle(n)
	case d.Healthy >= d.Target:
		return Healthy, ""
	case n.wanted && app.Rollout.Status == raftstate.RolloutRunning:
		return Deploying, d.Reason
	case d.Grows && d.Unplaced == 0:
		return Scaling, n.whyCount(d.Healthy)
	case n.wanted && app.Rollout.Status == raftstate.RolloutFailed && d.Healthy == 0:
		return Failed, cmp.Or(d.Reason, app.Rollout.Reason)
	case d.Healthy > 0:
		return Degraded, cmp.Or(d.Reason, d.few())
	default:
		return Unhealthy, cmp.Or(d.Reason, d.few())
	}
}

// few says how many replicas pass, where nothing says why they are so few.
func (d *DeploymentStatus) few() string {
	return fmt.Sprintf("%d of %d replicas pass their health checks", d.Healthy, d.Target)
}

// idle says what it means that n is to have no replica.
func idle(n need) string {
	if raftstate.ScalesByItself(n.deployment) {
		return "scaled to zero: a replica starts when a request comes"
	}
	return "scaled to zero: requests wait until it is scaled up"
}

// grows says whether d lacks replicas only because s asked for more: those from
// before it still pass, and none of the new ones that have a place is in trouble.
// A deployment that scales is then as well as it can be.
func grows(s raftstate.Scaling, d DeploymentStatus) bool {
	if s.From >= s.To || d.Healthy >= d.Target {
		return false
	}
	kept := 0
	for _, r := range d.Replicas {
		switch {
		case r.CreatedAt.Before(s.At):
			if r.Healthy {
				kept++
			}
		case !r.Status.live() || r.Restarts > 0:
			return false
		}
	}
	return kept >= s.From
}

func autoscalingStatus(app *raftstate.Application, n need) *AutoscalingStatus {
	block := n.deployment.Autoscaling
	if block == nil {
		return nil
	}
	s := &AutoscalingStatus{
		Policy: block.EffectivePolicy(), Min: block.MinReplicas, Max: block.MaxReplicas, Schedules: len(block.Schedules),
	}
	if last, scaled := app.Scalings[n.deployment.Name]; scaled {
		s.Last = &last
	}
	return s
}

func applicationHealth(state *raftstate.State, w sight, app *raftstate.Application, list []DeploymentStatus) (Health, string) {
	route, routed := w.Routes[app.Name]
	holder, taken := w.holder(state.ClusterID, app.Name, app.Serving.Spec.RoutePrefix)
	switch {
	case app.Deleting:
		return Deleting, "its replicas are stopping"
	case !w.NomadKnown || !w.ConsulKnown:
		return Unknown, cmp.Or(w.NomadError, w.ConsulError)
	case routed && route.ClusterID != state.ClusterID:
		return Unhealthy, fmt.Sprintf("its route in Consul belongs to another serve-nomad cluster (%s)", route.ClusterID)
	case !routed && taken:
		return Unhealthy, fmt.Sprintf("route_prefix %q belongs to application %q of another serve-nomad cluster (%s) in Consul KV: delete that entry if the cluster is gone",
			holder.RoutePrefix, holder.Application, holder.ClusterID)
	case app.Rollout.Status == raftstate.RolloutRunning:
		return Deploying, firstReason(list)
	case app.Rollout.Status == raftstate.RolloutSuccessful && !reflect.DeepEqual(route, w.route(state.ClusterID, app)):
		return Deploying, "its route is being written"
	case app.Rollout.Status == raftstate.RolloutFailed && app.Wanted.Number != app.Serving.Number:
		return Failed, fmt.Sprintf("version %d: %s; version %d serves", app.Wanted.Number, app.Rollout.Reason, app.Serving.Number)
	}
	return Worst(list)
}

// Worst is how deployments are together: as the worst of them, and why.
func Worst(list []DeploymentStatus) (health Health, reason string) {
	for _, h := range []Health{Failed, Unhealthy, Degraded, Scaling} {
		for _, d := range list {
			if d.Status == h {
				return h, d.Name + ": " + d.Reason
			}
		}
	}
	return Healthy, ""
}

func firstReason(list []DeploymentStatus) string {
	for _, d := range list {
		if d.Reason != "" && d.Status != Healthy {
			return d.Name + ": " + d.Reason
		}
	}
	return ""
}

// short shortens an allocation id as Nomad's own tools do.
func short(id string) string {
	return id[:min(8, len(id))]
}
