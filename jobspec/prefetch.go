package jobspec

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// minMemoryMB is the least memory that Nomad takes for a task, MiB.
const minMemoryMB = 10

// PrefetchID returns the id of the Nomad job of a prefetch block. It names the
// content: another task, or other nodes to run on, is another job, and nothing
// else is, so that no node fetches again what it has.
func PrefetchID(group *appspec.WorkerGroup, p *appspec.Prefetch) string {
	return JobPrefix + "prefetch-" + group.Name + "-" + p.Name + "-" + prefetchVersion(group, p)
}

// prefetchVersion names the content as VersionOf does that of a deployment, so
// that no later release of Nomad's task type changes it.
func prefetchVersion(group *appspec.WorkerGroup, p *appspec.Prefetch) string {
	task := appspec.VersionOf(nil, &appspec.Deployment{Name: p.Name, WorkerGroup: group.Name, Task: p.Task, Resources: p.Resources})
	return hash8(task + "/" + group.NodePool + "/" + group.Node.Class)
}

// RenderPrefetch returns the job of a prefetch block: a task that runs once on
// each node of the group, and shares nothing with its input. A core counts for
// coreMHz; 0: DefaultCoreMHz.
//
// Nomad does not look at a sysbatch job when a node joins. Registering the job
// again, unchanged, makes it look, and runs the task where it has not run.
func RenderPrefetch(clusterID string, group *appspec.WorkerGroup, p *appspec.Prefetch, coreMHz int, placement Placement) *api.Job {
	coreMHz = knownMHz(coreMHz)
	task := clone(p.Task)
	if task == nil {
		task = &api.Task{}
	}
	task.Name = p.Name
	task.Resources = resources(p.Resources, coreMHz)
	task.Resources.MemoryMB = new(max(minMemoryMB, p.Resources.MemoryMB))
	return &api.Job{
		ID:          new(PrefetchID(group, p)),
		Name:        new("prefetch " + group.Name + "/" + p.Name),
		Type:        new(api.JobTypeSysbatch),
		Namespace:   optional(placement.Namespace),
		Region:      optional(placement.Region),
		NodePool:    optional(group.NodePool),
		Datacenters: placement.datacenters(),
		Meta: map[string]string{
			ClusterIDMeta:   clusterID,
			WorkerGroupMeta: group.Name,
			PrefetchMeta:    p.Name,
			VersionMeta:     prefetchVersion(group, p),
			CoreMHzMeta:     strconv.Itoa(coreMHz),
		},
		UI: &api.JobUIConfig{
			Description: fmt.Sprintf("Prefetch **%s** of the serve-nomad worker group **%s**: runs once on each of its nodes.", p.Name, group.Name),
		},
		TaskGroups: []*api.TaskGroup{{
			Name:        new(p.Name),
			Count:       new(1),
			Constraints: onlyIn(group),
			Tasks:       []*api.Task{task},
			Volumes:     hostVolumes(task.VolumeMounts),
			RestartPolicy: &api.RestartPolicy{
				Attempts:        new(3),
				Interval:        new(10 * time.Minute),
				Delay:           new(5 * time.Second),
				Mode:            new("fail"),
				RenderTemplates: new(false),
			},
		}},
	}
}
