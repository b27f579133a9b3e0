package appspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// taskKind is what a task block is for.
type taskKind int

const (
	replicaTask taskKind = iota
	prefetchTask
	checkTask
)

// String is the block that the task is in.
func (k taskKind) String() string {
	return [...]string{"deployment", "prefetch", "check"}[k]
}

// ours is what serve-nomad sets in a task, or has no use for there, with what
// to write instead.
func (k taskKind) ours(field string) (instead string, found bool) {
	if k != replicaTask {
		ends := map[taskKind]string{
			prefetchTask: "A prefetch task runs once on each node and ends by itself.",
			checkTask:    "A check's task runs once and ends by itself.",
		}[k]
		instead, found = map[string]string{
			"name":             fmt.Sprintf("The task is named as its %s block.", k),
			"resources":        fmt.Sprintf("The %s block's own resources block sets them.", k),
			"kill_timeout":     ends,
			"shutdown_delay":   ends,
			"service":          ends,
			"lifecycle":        ends,
			"scaling":          ends,
			"dispatch_payload": fmt.Sprintf("A %s job is not dispatched.", k),
			"csi_plugin":       ends + " Run a CSI plugin as a Nomad job of its own.",
		}[field]
		return instead, found
	}
	instead, found = map[string]string{
		"name":             "The task is named as its deployment.",
		"resources":        "The deployment's own resources block sets them.",
		"kill_timeout":     "The deployment's graceful_shutdown_timeout sets it.",
		"shutdown_delay":   "serve-nomad sets it, so that a replica gets no new request when it stops.",
		"service":          "serve-nomad registers each replica in Consul itself; the deployment's health_check block says how it is checked.",
		"lifecycle":        "A replica has one task, which runs as long as the replica.",
		"scaling":          "The deployment's num_replicas and resources set it.",
		"dispatch_payload": "A deployment's job is a service, which is not dispatched.",
		"csi_plugin":       "A replica serves requests; run a CSI plugin as a Nomad job of its own.",
	}[field]
	return instead, found
}

const needsDriver = "A task needs a driver, such as driver = \"docker\"."

// task holds the rules of a task block; name and gpu are those of what it is in.
func (v *validator) task(path string, kind taskKind, task *api.Task, name string, gpu float64) {
	if task == nil {
		what := kind.String()
		if kind != replicaTask {
			what += " block"
		}
		v.addf(path, "A %s needs a task block: what to run, as in a Nomad job.", what)
		return
	}
	if task.Driver == "" {
		v.addf(path+".driver", needsDriver)
	}
	set := map[string]bool{
		"name":             task.Name != "" && task.Name != name,
		"resources":        task.Resources != nil,
		"kill_timeout":     task.KillTimeout != nil,
		"shutdown_delay":   task.ShutdownDelay != 0,
		"service":          len(task.Services) > 0,
		"lifecycle":        task.Lifecycle != nil,
		"scaling":          len(task.ScalingPolicies) > 0,
		"dispatch_payload": task.DispatchPayload != nil,
		"csi_plugin":       task.CSIPluginConfig != nil,
	}
	for _, field := range slices.Sorted(maps.Keys(set)) {
		if set[field] {
			instead, _ := kind.ours(field)
			v.addf(path+"."+field, "%s is not for the task block. %s", field, instead)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(task.Env)) {
		if problem := kind.envProblem(name, gpu); problem != "" {
			v.addf(join(path+".env", clip(name)), "%s", problem)
		}
	}
}

// envProblem says why a task may not set an environment variable.
func (k taskKind) envProblem(name string, gpu float64) string {
	switch {
	case k == replicaTask && (name == "PORT" || strings.HasPrefix(name, "SERVE_")):
		return "serve-nomad itself sets " + clip(name) + " for each replica; leave it out."
	case k == checkTask && strings.HasPrefix(name, "SERVE_"):
		return "serve-nomad itself sets what begins with SERVE_ for each check; leave it out."
	case name == "CUDA_VISIBLE_DEVICES" && gpu > 0:
		return "Nomad sets CUDA_VISIBLE_DEVICES to the GPUs that the task is given; leave it out."
	default:
		return ""
	}
}
