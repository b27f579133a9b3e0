package jobspec

import (
	"fmt"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// CheckURLEnv is the variable in which a gate's check finds the URL of the new
// version's ingress.
const CheckURLEnv = "SERVE_CHECK_URL"

// CheckID returns the id of the Nomad job that is a gate's check of one version
// of an application (1, 2, 3 ...).
func CheckID(application, check string, version int) string {
	return JobPrefix + "check-" + application + "-" + check + "-v" + strconv.Itoa(version)
}

// RenderCheck returns the job of a gate's check: a task that runs once, and is
// not tried again, so that how it ends is what it found. Of in it reads what is
// not a deployment's. Nothing in Nomad bounds how long it runs.
func RenderCheck(in Input, version int, check *appspec.Check) *api.Job {
	app := in.Application
	task := clone(check.Task)
	if task == nil {
		task = &api.Task{}
	}
	task.Name = check.Name
	task.Resources = resources(check.Resources, in.coreMHz())
	task.Resources.MemoryMB = new(max(minMemoryMB, check.Resources.MemoryMB))
	if task.Env == nil {
		task.Env = map[string]string{}
	}
	task.Env[CheckURLEnv] = HandleURL(in.HandleAddress, app.Name, in.Generation, app.Ingress)
	return &api.Job{
		ID:          new(CheckID(app.Name, check.Name, version)),
		Name:        new("check " + app.Name + "/" + check.Name + " of version " + strconv.Itoa(version)),
		Type:        new(api.JobTypeBatch),
		Namespace:   optional(in.Placement.Namespace),
		Region:      optional(in.Placement.Region),
		NodePool:    optional(in.Placement.NodePool),
		Datacenters: in.Placement.datacenters(),
		Meta: map[string]string{
			ClusterIDMeta:   in.ClusterID,
			ApplicationMeta: app.Name,
			CheckMeta:       check.Name,
			VersionMeta:     strconv.Itoa(version),
			CoreMHzMeta:     strconv.Itoa(in.coreMHz()),
		},
		UI: &api.JobUIConfig{
			Description: fmt.Sprintf("Check **%s** of version %d of the serve-nomad application **%s**: runs once while it rolls out.", check.Name, version, app.Name),
		},
		TaskGroups: []*api.TaskGroup{{
			Name:             new(check.Name),
			Count:            new(1),
			Tasks:            []*api.Task{task},
			Volumes:          hostVolumes(task.VolumeMounts),
			RestartPolicy:    &api.RestartPolicy{Attempts: new(0), Mode: new("fail")},
			ReschedulePolicy: &api.ReschedulePolicy{Attempts: new(0), Unlimited: new(false)},
		}},
	}
}
