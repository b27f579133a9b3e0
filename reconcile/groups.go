package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// prefetchWithin is how long after a node became ready, or after its group was
// deployed, it is seen to that prefetch jobs run on it. Nomad forgets what has
// ended in time, and nothing is to be fetched again because of that.
const prefetchWithin = 15 * time.Minute

// groups returns the worker groups that are to stay, by name.
func groups(state *raftstate.State) []*raftstate.WorkerGroup {
	var list []*raftstate.WorkerGroup
	for _, name := range slices.Sorted(maps.Keys(state.WorkerGroups)) {
		if group := state.WorkerGroups[name]; !group.Deleting {
			list = append(list, group)
		}
	}
	return list
}

// pools makes the node pools of worker groups that Nomad does not have. They
// come before all else: Nomad takes no job for a pool that is not there.
func (d *differ) pools() {
	if !d.world.NomadKnown || !d.world.NodesKnown {
		return
	}
	made := map[string]bool{}
	for _, group := range groups(d.state) {
		pool := group.Spec.NodePool
		if made[pool] || d.world.hasPool(pool) {
			continue
		}
		made[pool] = true
		d.add(Step{
			WritePool: &WritePool{
				Name:        pool,
				Description: fmt.Sprintf("Made by serve-nomad for the nodes of worker group %s.", group.Name),
				Meta:        map[string]string{jobspec.ClusterIDMeta: d.state.ClusterID, jobspec.WorkerGroupMeta: group.Name},
			},
			Reason: fmt.Sprintf("worker group %s has its nodes there", group.Name),
		})
	}
}

// prefetches sees to it that the prefetch jobs of the groups run on their nodes,
// and stops those that no group asks for any more.
func (d *differ) prefetches() {
	if !d.world.NomadKnown {
		return
	}
	asked := map[string]bool{}
	for _, group := range groups(d.state) {
		for _, p := range group.Spec.Prefetch {
			asked[jobspec.PrefetchID(group.Spec, p)] = true
			if d.world.NodesKnown {
				d.prefetch(group, p)
			}
		}
	}
	for _, job := range d.jobs[""] {
		if !asked[job.ID] && !job.Stopped {
			d.stop(job, "no worker group has such a prefetch block")
		}
	}
}

// prefetch registers a prefetch job when a node has come that it has not run
// on. Registering it as it is makes Nomad look at the nodes that have come since,
// which it does not do by itself.
func (d *differ) prefetch(group *raftstate.WorkerGroup, p *appspec.Prefetch) {
	job, exists := d.world.Jobs[jobspec.PrefetchID(group.Spec, p)]
	if exists && job.ClusterID != d.state.ClusterID {
		return
	}
	lacks := d.lacking(group, job)
	if len(lacks) == 0 {
		return
	}
	coreMHz := job.CoreMHz // as it was made, or Nomad would run it everywhere again
	if coreMHz == 0 {
		coreMHz = CoreMHz(d.state, d.world.World, group.Spec)
	}
	why := fmt.Sprintf("it has not run on node %s", lacks[0].Name)
	if more := len(lacks) - 1; more > 0 {
		why += fmt.Sprintf(", and on %d more", more)
	}
	d.add(Step{
		Register: &Register{
			Job:         jobspec.RenderPrefetch(d.state.ClusterID, group.Spec, p, coreMHz, d.settings.Placement),
			ModifyIndex: job.ModifyIndex,
		},
		Reason: why,
	})
}

// lacking returns the nodes of a group that are new, or new to what the group
// asks for, and have not run a job.
func (d *differ) lacking(group *raftstate.WorkerGroup, job Job) []*placement.Node {
	var list []*placement.Node
	for _, n := range d.world.Nodes {
		if n.Said.Status != api.NodeStatusReady || n.Closed != "" || !inGroup(n, group.Spec) {
			continue
		}
		if d.now.Sub(n.Said.Since) < prefetchWithin || d.now.Sub(group.At) < prefetchWithin {
			list = append(list, n)
		}
	}
	if len(list) == 0 || job.Stopped {
		return list
	}
	ran := map[string]bool{}
	for _, r := range d.world.replicas[job.ID] {
		ran[r.Node] = true
	}
	return slices.DeleteFunc(list, func(n *placement.Node) bool { return ran[n.Name] })
}
