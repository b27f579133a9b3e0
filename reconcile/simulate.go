package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// maxPreviewPasses bounds Preview: a deploy is done in a handful of passes for
// each of its stages, and for each batch of replicas.
const maxPreviewPasses = 400

// Preview returns the steps that deploying would lead to, in order, when all
// goes well: it applies the command to state and then plans and simulates
// until nothing is left to do. Steps that are due anyway are left out. The
// refusal, if any, is the one that the deploy would get.
func Preview(state *raftstate.State, world *World, now time.Time, settings Settings, deploy raftstate.Command) ([]Step, error) {
	deploy.At = now
	next, result := state.Apply(state.Index+1, deploy)
	if err := result.Err(); err != nil {
		return nil, err
	}
	if len(next.WorkerGroups) > 0 {
		world = withNodes(world)
	}
	after := closeOutdated(next, world)
	due := map[string]bool{}
	for _, s := range settle(state, world, now, settings) {
		due[s.String()] = true
	}
	var steps []Step
	for _, s := range settle(next, after, now, settings) {
		if !due[s.String()] {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// withNodes is a world whose nodes have not been looked at, as there was no worker
// group, taken for one that has no pools but those of its nodes: what a deploy of
// the first group does can then be told.
func withNodes(world *World) *World {
	if world.NodesKnown {
		return world
	}
	w := *world
	w.NodesKnown, w.Pools = true, map[string]bool{}
	for pool := range world.CoreMHz {
		w.Pools[pool] = true
	}
	return &w
}

// closeOutdated is a world in which the node autoscaler has closed the nodes of
// earlier shapes, as it does first.
func closeOutdated(state *raftstate.State, world *World) *World {
	closed := map[*placement.Node]bool{}
	for _, group := range state.WorkerGroups {
		for _, n := range world.openOutdated(state, group) {
			closed[n] = true
		}
	}
	if len(closed) == 0 {
		return world
	}
	w := *world
	w.Nodes = slices.Clone(world.Nodes)
	for i, n := range w.Nodes {
		if closed[n] {
			n = new(*n)
			n.Said.Eligible, n.Closed = false, "not eligible"
			w.Nodes[i] = n
		}
	}
	return &w
}

// settle plans and simulates until there is nothing left to do.
func settle(state *raftstate.State, world *World, now time.Time, settings Settings) []Step {
	var all []Step
	for range maxPreviewPasses {
		plan := Diff(state, world, now, settings)
		if len(plan.Steps) == 0 {
			later := due(state, now)
			if !later.After(now) {
				break
			}
			now = later
			continue
		}
		for _, s := range plan.Steps {
			state, world = Simulate(state, world, now, s)
		}
		all = append(all, plan.Steps...)
	}
	return all
}

// due returns when the next of what only time can bring on is due; not after now:
// nothing is.
func due(state *raftstate.State, now time.Time) time.Time {
	var first time.Time
	for _, app := range state.Applications {
		var times []time.Time
		if app.RollingOut() && app.Rollout.Paused == nil {
			times = append(times, app.Rollout.StageAt.Add(app.Stage().Lasts))
		}
		for _, l := range app.Leaving {
			times = append(times, l.At.Add(app.Wanted.Spec.Rollout.Drain()))
		}
		for _, at := range times {
			if at.After(now) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
	}
	return first
}

// Simulate returns what state and world would be after step, in a cluster
// where everything works at once: registered replicas run and pass, stopped
// ones are gone. Its arguments stay as they are.
func Simulate(state *raftstate.State, world *World, now time.Time, step Step) (*raftstate.State, *World) {
	if c := step.Propose; c != nil {
		command := *c
		command.At = now
		next, _ := state.Apply(state.Index+1, command)
		return next, world
	}
	w := *world
	w.Jobs = clone(world.Jobs)
	w.Routes = clone(world.Routes)
	w.RouteIndex = clone(world.RouteIndex)
	switch {
	case step.Register != nil:
		meta, replicas, _ := jobspec.Read(step.Register.Job)
		id := *step.Register.Job.ID
		w.Jobs[id] = Job{
			ID: id, ClusterID: meta.ClusterID, Application: meta.Application, Deployment: meta.Deployment, Check: meta.Check,
			Version: meta.Version, LiveHash: meta.LiveHash, CoreMHz: meta.CoreMHz,
			Count: replicas, ModifyIndex: step.Register.ModifyIndex + 1,
		}
		if meta.Check != "" {
			w.Replicas = append(slices.Clone(w.Replicas), Replica{ID: id + "-0", JobID: id, Status: ReplicaStopped, CreatedAt: now})
		} else {
			w.populate(id, now)
		}
		if meta.Prefetch != "" {
			w.prefetched(id, now)
		}
	case step.Update != nil:
		job := w.Jobs[step.Update.JobID]
		job.Count, job.LiveHash = step.Update.Count, step.Update.Meta[jobspec.LiveHashMeta]
		job.ModifyIndex++
		w.Jobs[job.ID] = job
		w.populate(job.ID, now)
	case step.Scale != nil:
		job := w.Jobs[step.Scale.JobID]
		job.Count = step.Scale.Count
		w.Jobs[job.ID] = job
		w.populate(job.ID, now)
	case step.Stop != nil:
		job := w.Jobs[step.Stop.JobID]
		job.Stopped, job.Count = true, 0
		w.Jobs[job.ID] = job
		w.populate(job.ID, now)
	case step.WritePool != nil:
		w.Pools = clone(world.Pools)
		w.Pools[step.WritePool.Name] = true
	case step.WriteConfig != nil:
		w.writeConfig(step.WriteConfig, now)
	case step.DropConfig != nil:
		w.dropConfig(step.DropConfig.JobID)
	case step.WriteRoute != nil:
		name := step.WriteRoute.Route.Application
		w.Routes[name] = step.WriteRoute.Route
		w.RouteIndex[name]++
	case step.DropRoute != nil:
		delete(w.Routes, step.DropRoute.Application)
		delete(w.RouteIndex, step.DropRoute.Application)
	}
	return state, &w
}

// populate gives a job as many healthy replicas as it counts.
func (w *World) populate(jobID string, now time.Time) {
	job := w.Jobs[jobID]
	w.Replicas = slices.DeleteFunc(slices.Clone(w.Replicas), func(r Replica) bool { return r.JobID == jobID })
	w.Endpoints = slices.DeleteFunc(slices.Clone(w.Endpoints), func(e routes.Endpoint) bool {
		return e.Application == job.Application && e.Deployment == job.Deployment && e.Version == job.Version
	})
	for i := range job.Count {
		id := fmt.Sprintf("%s-%s", jobID, strconv.Itoa(i))
		w.Replicas = append(w.Replicas, Replica{ID: id, JobID: jobID, Status: ReplicaRunning, CreatedAt: now})
		w.Endpoints = append(w.Endpoints, routes.Endpoint{
			Replica: id, Application: job.Application, Deployment: job.Deployment, Version: job.Version, Passing: true,
		})
	}
	w.takeConfig(jobID)
}

// prefetched lets a prefetch job have run on every node.
func (w *World) prefetched(jobID string, now time.Time) {
	for _, n := range w.Nodes {
		w.Replicas = append(w.Replicas, Replica{
			ID: jobID + "-" + n.ID, JobID: jobID, Node: n.Name, Status: ReplicaStopped, CreatedAt: now,
		})
	}
}

func clone[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
