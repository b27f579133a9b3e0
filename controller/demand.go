package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// input is what the node autoscaler decides from.
func (n *noder) input(view *View, seen, now time.Time) nodescale.Input {
	state, world := view.State, view.World
	in := nodescale.Input{
		Now: now, Seen: seen, DryRun: n.c.cfg.NodesDryRun, Groups: state.WorkerGroups, Records: state.Nodes, Nodes: world.Nodes,
		CoreMHz: map[string]int{}, Jobs: map[string]nodescale.Job{},
		Lists: map[string]nodescale.Listed{}, Calls: map[string]nodescale.Call{},
	}
	in.Blind = n.blind(world, now.Sub(seen))
	in.Hold = in.Blind
	if in.Hold == "" && !world.ConsulKnown {
		in.Hold = "Consul is not known: " + world.ConsulError
	}
	for name, g := range state.WorkerGroups {
		in.CoreMHz[name] = reconcile.CoreMHz(state, world, g.Spec)
	}
	n.mu.Lock()
	maps.Copy(in.Lists, n.lists)
	for id, call := range n.calls {
		in.Calls[id] = call.Call
	}
	n.mu.Unlock()
	n.jobs(&in, view)
	in.Ahead = n.c.scaler.ahead(view, now)
	return in
}

// blind says why what is known of Nomad is nothing to act on; "": it is.
func (n *noder) blind(world *reconcile.World, age time.Duration) string {
	switch limit := 2*n.c.cfg.FullPass + n.c.cfg.ObserveLimit; {
	case !world.NomadKnown:
		return "Nomad is not known: " + world.NomadError
	case !world.NodesKnown:
		return "Nomad's nodes have not been looked at yet"
	case age > limit:
		return fmt.Sprintf("what was last seen of Nomad is %s old", age.Round(time.Second))
	default:
		return ""
	}
}

// jobs fills in what our jobs are to have, what they have, and what they lack.
// Replicas that only run beside others while a node drains are not worth a node.
func (n *noder) jobs(in *nodescale.Input, view *View) {
	world, targets := view.World, reconcile.JobTargets(view.State, view.World)
	passing := serving(world)
	for _, id := range slices.Sorted(maps.Keys(world.Jobs)) {
		job := world.Jobs[id]
		if job.ClusterID != view.State.ClusterID || job.Stopped || job.Ask == nil {
			continue
		}
		target, ours := targets[id]
		if !ours {
			continue
		}
		j := nodescale.Job{
			Application: job.Application, Deployment: job.Deployment, Target: target, Passing: passing[id],
			Blocked: job.Blocked, Ask: *job.Ask,
		}
		j.Group, j.Shape = home(view.State.Applications[job.Application], job)
		j.Ask.Key = id
		in.Jobs[id] = j
		// A target that was lowered is on its way to Nomad: what it lets go is not wanted.
		beside := max(0, job.Count-target)
		if lacking := job.Unplaced - beside; lacking > 0 {
			ask := j.Ask
			ask.Count = lacking
			in.Asks = append(in.Asks, ask)
		}
	}
}

// home returns the worker group that a job's deployment names, and which shape
// its nodes are to have for the version that the job is of; "": it names none. A
// version that leaves has its replicas where it had them.
func home(app *raftstate.Application, job reconcile.Job) (group string, shape int) {
	if app == nil {
		return "", 0
	}
	versions := []*raftstate.Version{app.Serving, app.Wanted}
	for _, l := range app.Leaving {
		versions = append(versions, l.Version)
	}
	for _, v := range versions {
		if d := v.Spec.Deployment(job.Deployment); d != nil && v.DeploymentVersion(d.Name) == job.Version {
			return d.WorkerGroup, v.Shapes[d.WorkerGroup]
		}
	}
	return "", 0
}

// serving counts the replicas of each job that serve, by both Nomad and Consul.
func serving(world *reconcile.World) map[string]int {
	status := make(map[string]reconcile.ReplicaStatus, len(world.Replicas))
	for _, r := range world.Replicas {
		status[r.ID] = r.Status
	}
	passing := map[string]int{}
	for _, e := range world.Endpoints {
		if e.Passing && status[e.Replica] == reconcile.ReplicaRunning {
			passing[jobspec.JobID(e.Application, e.Deployment, e.Version)]++
		}
	}
	return passing
}

// ahead lists the replicas that schedules will ask for by the time that a node
// which is ordered now is there.
func (s *scaler) ahead(view *View, now time.Time) []placement.Ask {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fleet == nil { // it begins and ends beside the node autoscaler
		return nil
	}
	var list []placement.Ask
	for _, m := range s.fleet.order {
		if !m.scales() || len(m.block.Schedules) == 0 {
			continue
		}
		least, _ := m.policy.Bounds(now.Add(nodescale.Lead(view.State.WorkerGroups[m.workerGroup])))
		job := view.World.Jobs[jobspec.JobID(m.key.Application, m.key.Deployment, m.version)]
		if least <= m.target || job.Ask == nil {
			continue
		}
		ask := *job.Ask
		ask.Key, ask.Count = "schedules of "+job.ID, least-m.target
		list = append(list, ask)
	}
	return list
}
