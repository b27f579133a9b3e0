package nomadjobs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// observed turns a job into words of ours.
func observed(job *api.Job) (reconcile.Job, bool) {
	meta, count, ours := jobspec.Read(job)
	if !ours {
		return reconcile.Job{}, false
	}
	return reconcile.Job{
		ID: *job.ID, ClusterID: meta.ClusterID, Application: meta.Application, Deployment: meta.Deployment, Check: meta.Check,
		Version: meta.Version, LiveHash: meta.LiveHash, CoreMHz: meta.CoreMHz,
		Count: count, Stopped: job.Stop != nil && *job.Stop, ModifyIndex: *job.JobModifyIndex,
		Edited: jobspec.Edited(job),
	}, true
}

// nodeSpeed is what a core of a node counts for; 0 MHz: it is not known.
type nodeSpeed struct {
	status, pool string
	coreMHz      int
}

// slowest returns what a core counts for on the slowest ready node of each
// pool: a replica that asks for two cores gets them on every node. The pool
// "all" is Nomad's own name for every node.
func slowest(nodes []nodeSpeed) map[string]int {
	lowest := map[string]int{}
	for _, node := range nodes {
		if node.status != api.NodeStatusReady || node.coreMHz == 0 {
			continue
		}
		for _, pool := range []string{node.pool, api.NodePoolAll} {
			if known, ok := lowest[pool]; !ok || node.coreMHz < known {
				lowest[pool] = node.coreMHz
			}
		}
	}
	return lowest
}

func coreMHz(nodes []*api.NodeListStub) map[string]int {
	var speeds []nodeSpeed
	for _, node := range nodes {
		if node.NodeResources != nil {
			speeds = append(speeds, nodeSpeed{node.Status, node.NodePool, mhzOf(node.NodeResources.Cpu)})
		}
	}
	return slowest(speeds)
}

func replica(alloc *api.AllocationListStub) reconcile.Replica {
	r := reconcile.Replica{
		ID: alloc.ID, JobID: alloc.JobID, Node: alloc.NodeName,
		Status: replicaStatus(alloc), CreatedAt: time.Unix(0, alloc.CreateTime).UTC(),
	}
	for _, task := range alloc.TaskStates {
		if task != nil {
			r.Restarts += int(task.Restarts)
			r.StartedAt, r.SignalledAt = later(r.StartedAt, task.StartedAt), later(r.SignalledAt, signalledAt(task))
		}
	}
	r.Reason = replicaReason(alloc, r.Status)
	return r
}

// rerendered is how Nomad words the event of a signal that a changed template
// sends.
const rerendered = "Template re-rendered"

// signalledAt returns when a task was last signalled because a template of it
// was rendered again.
func signalledAt(task *api.TaskState) time.Time {
	for _, event := range slices.Backward(task.Events) {
		if event != nil && event.Type == api.TaskSignaling && event.DisplayMessage == rerendered {
			return time.Unix(0, event.Time)
		}
	}
	return time.Time{}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b.UTC()
	}
	return a
}

// replicaStatus says where an allocation is in its life. Nomad holds what it
// wants and what the client reports apart.
func replicaStatus(alloc *api.AllocationListStub) reconcile.ReplicaStatus {
	asked := alloc.DesiredStatus == api.AllocDesiredStatusStop || alloc.DesiredStatus == api.AllocDesiredStatusEvict
	switch alloc.ClientStatus {
	case api.AllocClientStatusFailed:
		return reconcile.ReplicaFailed
	case api.AllocClientStatusLost, api.AllocClientStatusUnknown:
		return reconcile.ReplicaLost
	case api.AllocClientStatusComplete:
		if asked || alloc.JobType == api.JobTypeBatch {
			return reconcile.ReplicaStopped
		}
		return reconcile.ReplicaFailed // a server that ended unasked
	case api.AllocClientStatusRunning:
		if asked {
			return reconcile.ReplicaStopping
		}
		return reconcile.ReplicaRunning
	default: // pending
		if asked {
			return reconcile.ReplicaStopping
		}
		return reconcile.ReplicaPending
	}
}

// replicaReason says why a replica is as it is, "" when there is nothing to
// explain.
func replicaReason(alloc *api.AllocationListStub, status reconcile.ReplicaStatus) string {
	switch status {
	case reconcile.ReplicaStopped, reconcile.ReplicaStopping:
		return alloc.DesiredDescription
	case reconcile.ReplicaLost:
		return cmp.Or(alloc.ClientDescription, alloc.DesiredDescription, "its node is lost")
	case reconcile.ReplicaFailed, reconcile.ReplicaPending, reconcile.ReplicaRunning:
		for _, name := range slices.Sorted(maps.Keys(alloc.TaskStates)) {
			if reason := taskReason(alloc.TaskStates[name], status); reason != "" {
				return reason
			}
		}
	}
	if status == reconcile.ReplicaFailed {
		return cmp.Or(alloc.ClientDescription, alloc.DesiredDescription, "ended by itself")
	}
	return ""
}

// taskReason reads a task's events from the newest back to the one that says
// what went wrong. A task that runs is only explained when it has restarted.
func taskReason(task *api.TaskState, status reconcile.ReplicaStatus) string {
	if task == nil || status == reconcile.ReplicaRunning && task.Restarts == 0 {
		return ""
	}
	for _, event := range slices.Backward(task.Events) {
		if event == nil {
			continue
		}
		if reason := eventReason(event); reason != "" {
			return reason
		}
	}
	if status == reconcile.ReplicaPending {
		return progress(task.Events)
	}
	return ""
}

// eventReason says what a task event means, "" for those that are no fault.
func eventReason(event *api.TaskEvent) string {
	switch event.Type {
	case api.TaskTerminated:
		return exitReason(event)
	case api.TaskDriverFailure:
		return "cannot start: " + driverReason(cmp.Or(detail(event, "driver_error"), event.DriverError, detail(event, "message")))
	case api.TaskSetupFailure:
		return "cannot be set up: " + tidy(cmp.Or(detail(event, "setup_error"), detail(event, "message"), event.SetupError, event.DisplayMessage))
	case api.TaskFailedValidation:
		return "its task is not valid: " + tidy(cmp.Or(detail(event, "validation_error"), event.ValidationError, event.DisplayMessage))
	case api.TaskArtifactDownloadFailed:
		return "cannot download an artifact: " + downloadReason(cmp.Or(detail(event, "download_error"), event.DownloadError, event.DisplayMessage))
	case api.TaskSiblingFailed:
		return "another task of the replica failed"
	case api.TaskKilling:
		// A template or a secret that cannot be had kills the task; being
		// asked to stop is no fault.
		if detail(event, "fails_task") == "true" {
			return tidy(cmp.Or(detail(event, "kill_reason"), event.DisplayMessage))
		}
	case "Template":
		return "waits for a template: " + tidy(cmp.Or(detail(event, "message"), event.DisplayMessage, event.Message))
	}
	return ""
}

func exitReason(event *api.TaskEvent) string {
	code, signal := detail(event, "exit_code"), detail(event, "signal")
	var what string
	switch {
	case detail(event, "oom_killed") == "true":
		return "killed: out of memory (more than its memory limit)"
	case signal != "" && signal != "0":
		what = "ended by signal " + signalName(signal)
	case code == "0":
		what = "exited with code 0, which a replica should not do unasked"
	default:
		what = "exited with code " + cmp.Or(code, fmt.Sprint(event.ExitCode))
		if meaning := exitMeaning(code); meaning != "" {
			what += " (" + meaning + ")"
		}
	}
	if message := tidy(detail(event, "exit_message")); message != "" && !strings.Contains(message, "exit status") {
		what += ": " + message
	}
	return what
}

// exitMeaning says what shells and containers mean by some exit codes.
func exitMeaning(code string) string {
	switch code {
	case "126":
		return "the command cannot be executed"
	case "127":
		return "the command was not found"
	case "137":
		return "killed, often for lack of memory"
	case "143":
		return "ended by SIGTERM"
	default:
		return ""
	}
}

func signalName(number string) string {
	names := map[string]string{"1": "SIGHUP", "2": "SIGINT", "6": "SIGABRT", "7": "SIGBUS", "8": "SIGFPE", "9": "SIGKILL", "11": "SIGSEGV", "13": "SIGPIPE", "15": "SIGTERM"}
	if name := names[number]; name != "" {
		return number + " (" + name + ")"
	}
	return number
}

// driverReason shortens the chain of errors that drivers pass up.
func driverReason(message string) string {
	message = tidy(message)
	for _, prefix := range []string{
		"failed to launch command with executor: ", "rpc error: code = Unknown desc = ", "Failed to create container configuration for image ",
	} {
		message = strings.ReplaceAll(message, prefix, "")
	}
	if message == "" {
		return "the driver does not say why"
	}
	return message
}

// downloadReason leaves out that Nomad downloads in a subprocess.
func downloadReason(message string) string {
	message = tidy(message)
	if _, cause, found := strings.Cut(message, "getter subprocess failed: exit status 1: "); found {
		message = strings.TrimPrefix(cause, "failed to download artifact: ")
	}
	return message
}

// progress says what a task that is not running yet is doing.
func progress(events []*api.TaskEvent) string {
	for _, event := range slices.Backward(events) {
		if event == nil {
			continue
		}
		switch event.Type {
		case api.TaskDownloadingArtifacts:
			return "downloading artifacts"
		case api.TaskDriverMessage:
			if message := cmp.Or(detail(event, "driver_message"), event.DriverMessage); message != "" {
				return tidy(message)
			}
		}
	}
	return ""
}

func detail(event *api.TaskEvent, key string) string { return event.Details[key] }

// tidy makes a message one line of bearable length.
func tidy(message string) string {
	const limit = 400
	message = oneLine(message)
	if runes := []rune(message); len(runes) > limit {
		return string(runes[:limit]) + "..."
	}
	return message
}
