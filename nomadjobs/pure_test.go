package nomadjobs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestExplain(t *testing.T) {
	for name, tc := range map[string]struct {
		metric api.AllocationMetric
		want   string
	}{
		"a pool without nodes": {
			api.AllocationMetric{NodePool: "gpu"},
			`node pool "gpu" has no ready node in the job's datacenters`,
		},
		"nodes that are full": {
			api.AllocationMetric{
				NodePool: "default", NodesInPool: 3, NodesEvaluated: 3, NodesExhausted: 3,
				DimensionExhausted: map[string]int{"memory": 2, "cpu": 1},
			},
			"1 of 3 nodes: not enough CPU free; 2 of 3 nodes: not enough memory free",
		},
		"devices that are taken, or that no device group can ever fill": {
			api.AllocationMetric{
				NodesInPool: 2, NodesEvaluated: 2, NodesExhausted: 2,
				DimensionExhausted: map[string]int{"devices: no devices match request": 2},
			},
			"2 of 2 nodes: not enough devices (GPUs) free",
		},
		"devices that no node has": {
			api.AllocationMetric{NodesInPool: 2, NodesEvaluated: 2, NodesFiltered: 2, ConstraintFiltered: map[string]int{"missing devices": 2}},
			"2 of 2 nodes: no such device (GPU), or not as many",
		},
		"a driver that is missing on the only node": {
			api.AllocationMetric{NodesInPool: 1, NodesEvaluated: 1, NodesFiltered: 1, ConstraintFiltered: map[string]int{"missing drivers": 1}},
			"the only node: the task's driver is missing or not healthy",
		},
		"a constraint, and what is left full": {
			api.AllocationMetric{
				NodesInPool: 5, NodesEvaluated: 5, NodesFiltered: 3, NodesExhausted: 2,
				ConstraintFiltered: map[string]int{"${attr.kernel.name} = windows": 1, "computed class ineligible": 2},
				DimensionExhausted: map[string]int{"network: port collision": 2},
			},
			"1 of 5 nodes: does not meet the constraint ${attr.kernel.name} = windows; " +
				"2 of 5 nodes: of the same kind as a node that does not fit; 2 of 5 nodes: network: port collision",
		},
		"a host volume": {
			api.AllocationMetric{NodesInPool: 1, NodesEvaluated: 1, ConstraintFiltered: map[string]int{"missing compatible host volumes": 1}},
			"the only node: no host volume of that name",
		},
		"a quota": {
			api.AllocationMetric{NodesInPool: 1, NodesEvaluated: 1, QuotaExhausted: []string{"memory exhausted (1 needed > 0 limit)"}},
			"the namespace's quota is used up: memory exhausted (1 needed > 0 limit)",
		},
		"nothing that Nomad names": {
			api.AllocationMetric{NodePool: "default", NodesInPool: 4, NodesEvaluated: 4, NodesFiltered: 1, NodesExhausted: 3},
			`none of the 4 nodes of node pool "default" fits (1 ruled out, 3 full)`,
		},
		"what this version does not know": {
			api.AllocationMetric{NodesInPool: 1, NodesEvaluated: 1, DimensionExhausted: map[string]int{"qubits": 1}},
			"the only node: no qubits left",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := explain(&tc.metric); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestReplicaStatus(t *testing.T) {
	for _, tc := range []struct {
		desired, client string
		want            reconcile.ReplicaStatus
	}{
		{"run", "pending", reconcile.ReplicaPending},
		{"run", "running", reconcile.ReplicaRunning},
		{"run", "complete", reconcile.ReplicaFailed},
		{"run", "failed", reconcile.ReplicaFailed},
		{"run", "lost", reconcile.ReplicaLost},
		{"run", "unknown", reconcile.ReplicaLost},
		{"stop", "pending", reconcile.ReplicaStopping},
		{"stop", "running", reconcile.ReplicaStopping},
		{"stop", "complete", reconcile.ReplicaStopped},
		{"stop", "failed", reconcile.ReplicaFailed},
		{"stop", "lost", reconcile.ReplicaLost},
		{"evict", "running", reconcile.ReplicaStopping},
		{"evict", "complete", reconcile.ReplicaStopped},
	} {
		t.Run("wanted "+tc.desired+" and "+tc.client, func(t *testing.T) {
			got := replicaStatus(&api.AllocationListStub{DesiredStatus: tc.desired, ClientStatus: tc.client})
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func event(kind string, details ...string) *api.TaskEvent {
	e := &api.TaskEvent{Type: kind, Details: map[string]string{}}
	for i := 0; i+1 < len(details); i += 2 {
		e.Details[details[i]] = details[i+1]
	}
	return e
}

func shown(kind, message string, details ...string) *api.TaskEvent {
	e := event(kind, details...)
	e.DisplayMessage = message
	return e
}

// The events are as Nomad 1.11 writes them.
func TestReplicaReason(t *testing.T) {
	started := event(api.TaskStarted)
	for name, tc := range map[string]struct {
		status   string
		restarts uint64
		events   []*api.TaskEvent
		want     string
	}{
		"a running replica needs no reason": {"running", 0, []*api.TaskEvent{started}, ""},
		"a restarted one says why": {
			"running", 1,
			[]*api.TaskEvent{started, event(api.TaskTerminated, "exit_code", "1", "exit_message", "Docker container exited with non-zero exit code: 1"), event(api.TaskRestarting), started},
			"exited with code 1: Docker container exited with non-zero exit code: 1",
		},
		"an exit code": {
			"failed", 2,
			[]*api.TaskEvent{event(api.TaskTerminated, "exit_code", "3", "signal", "0", "oom_killed", "false"), event(api.TaskNotRestarting, "fails_task", "true")},
			"exited with code 3",
		},
		"a clean exit is a fault too": {"failed", 2, []*api.TaskEvent{event(api.TaskTerminated, "exit_code", "0", "signal", "0")}, "exited with code 0, which a replica should not do unasked"},
		"a command that the shell did not find": {
			"failed", 0, []*api.TaskEvent{event(api.TaskTerminated, "exit_code", "127")}, "exited with code 127 (the command was not found)",
		},
		"a signal":      {"failed", 2, []*api.TaskEvent{event(api.TaskTerminated, "exit_code", "137", "signal", "9", "oom_killed", "false")}, "ended by signal 9 (SIGKILL)"},
		"out of memory": {"failed", 0, []*api.TaskEvent{event(api.TaskTerminated, "exit_code", "137", "oom_killed", "true", "exit_message", "OOM Killed")}, "killed: out of memory (more than its memory limit)"},
		"a missing binary": {
			"failed", 0,
			[]*api.TaskEvent{event(api.TaskDriverFailure, "driver_error", "rpc error: code = Unknown desc = failed to launch command with executor: rpc error: code = Unknown desc = file modelsrv not found under path /task")},
			"cannot start: file modelsrv not found under path /task",
		},
		"an image that cannot be pulled": {
			"pending", 1,
			[]*api.TaskEvent{event(api.TaskDriverFailure, "driver_error", "Failed to pull `nope:1`: Error response from daemon: manifest unknown"), event(api.TaskRestarting)},
			"cannot start: Failed to pull `nope:1`: Error response from daemon: manifest unknown",
		},
		"an artifact": {
			"pending", 1,
			[]*api.TaskEvent{event(api.TaskArtifactDownloadFailed, "download_error", `failed to download artifact "http://a/x": getter subprocess failed: exit status 1: failed to download artifact: Get "http://a/x": connection refused`), event(api.TaskRestarting), event(api.TaskDownloadingArtifacts)},
			`cannot download an artifact: Get "http://a/x": connection refused`,
		},
		"a template with a fault": {
			"failed", 0,
			[]*api.TaskEvent{shown(api.TaskKilling, `Template failed: (dynamic): parse: template: :1: function "bogus" not defined`, "fails_task", "true")},
			`Template failed: (dynamic): parse: template: :1: function "bogus" not defined`,
		},
		"a template that waits":              {"pending", 0, []*api.TaskEvent{event(api.TaskReceived), shown("Template", "Missing: kv.block(none)")}, "waits for a template: Missing: kv.block(none)"},
		"a download under way":               {"pending", 0, []*api.TaskEvent{event(api.TaskReceived), event(api.TaskDownloadingArtifacts)}, "downloading artifacts"},
		"what the driver is doing":           {"pending", 0, []*api.TaskEvent{event(api.TaskDriverMessage, "driver_message", "Downloading image")}, "Downloading image"},
		"a set-up that failed":               {"failed", 0, []*api.TaskEvent{event(api.TaskSetupFailure, "message", "no such\n\thost volume")}, "cannot be set up: no such host volume"},
		"being asked to stop is not a fault": {"running", 1, []*api.TaskEvent{shown(api.TaskKilling, "Sent interrupt")}, ""},
		"nothing known of a failure":         {"failed", 0, []*api.TaskEvent{nil}, "Failed tasks"},
	} {
		t.Run(name, func(t *testing.T) {
			alloc := &api.AllocationListStub{
				DesiredStatus: "run", ClientStatus: tc.status,
				TaskStates: map[string]*api.TaskState{"web": {Events: tc.events, Restarts: tc.restarts}, "none": nil},
			}
			if tc.status == "failed" {
				alloc.ClientDescription = "Failed tasks"
			}
			if got := replicaReason(alloc, replicaStatus(alloc)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestReplica(t *testing.T) {
	got := replica(&api.AllocationListStub{
		ID: "a1", JobID: "serve-search-ranker-1a2b3c4d", NodeName: "n1", DesiredStatus: "stop", ClientStatus: "running",
		DesiredDescription: "alloc not needed due to job update", CreateTime: 1_700_000_000_000_000_000,
		TaskStates: map[string]*api.TaskState{"ranker": {Restarts: 2}, "side": {Restarts: 1}},
	})
	want := reconcile.Replica{
		ID: "a1", JobID: "serve-search-ranker-1a2b3c4d", Node: "n1", Status: reconcile.ReplicaStopping, Restarts: 3,
		Reason: "alloc not needed due to job update", CreatedAt: time.Unix(1_700_000_000, 0).UTC(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCoreMHz(t *testing.T) {
	node := func(pool, status string, shares int64, cores uint16) *api.NodeListStub {
		return &api.NodeListStub{NodePool: pool, Status: status, NodeResources: &api.NodeResources{Cpu: api.NodeCpuResources{CpuShares: shares, TotalCpuCores: cores}}}
	}
	got := coreMHz([]*api.NodeListStub{
		node("default", "ready", 5200, 2), node("default", "ready", 8000, 4), node("default", "down", 100, 1),
		node("gpu", "ready", 64_000, 16), node("odd", "ready", 0, 4), node("odd", "ready", 4000, 0),
		{NodePool: "bare", Status: "ready"},
	})
	if diff := cmp.Diff(map[string]int{"default": 2000, "gpu": 4000, "all": 2000}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLastLines(t *testing.T) {
	for name, tc := range map[string]struct {
		data string
		n    int
		want []string
	}{
		"nothing":                         {"", 3, nil},
		"fewer than asked for":            {"a\nb\n", 3, []string{"a", "b"}},
		"the last ones":                   {"a\nb\r\nc", 2, []string{"b", "c"}},
		"none asked for":                  {"a\n", 0, nil},
		"bytes that are not text survive": {"a\xffb\n", 1, []string{"a\uFFFDb"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, lastLines([]byte(tc.data), tc.n)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
