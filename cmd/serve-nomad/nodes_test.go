package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// gpuGroup is a worker group with two ready nodes and one on its way.
func gpuGroup() api.WorkerGroupStatus {
	return api.WorkerGroupStatus{
		Name: "gpu", ModifyIndex: 7, DeployedAt: time.Now().Add(-time.Hour), By: "me",
		Spec: &appspec.WorkerGroup{
			Name: "gpu", NodePool: "gpu", MinNodes: 0, MaxNodes: 8, IdleTimeout: appspec.Duration(time.Minute),
			Node: appspec.NodeShape{CPU: 8, MemoryMB: 24576, GPU: 1}, Target: appspec.NodeTarget{Kind: appspec.TargetProcess},
		},
		Phases: map[raftstate.NodePhase]int{raftstate.NodeReady: 2, raftstate.NodeLaunching: 1},
		Usage:  raftstate.Usage{Launched: 5, Failed: 1, Removed: 1},
		Report: &nodescale.GroupReport{
			Name: "gpu", MinNodes: 1, MaxNodes: 4, Wants: 3, ByHand: 1, Reason: "orders 1 node: hello/web waits", Price: 1.5,
			Cost: nodescale.Cost{NodeHours: 12.5, PerHour: 4.5, Total: 18.75, IdleShare: 0.5}, Notes: []string{"its target has 1 machine too many"},
			StartTime: 4.2,
		},
	}
}

func bareGroup() api.WorkerGroupStatus {
	return api.WorkerGroupStatus{
		Name: "cpu", ReportError: "the node autoscaler has not looked at it yet",
		Spec: &appspec.WorkerGroup{Name: "cpu", NodePool: "all-cpu", MaxNodes: 2, Target: appspec.NodeTarget{Kind: appspec.TargetNone}, DryRun: true},
	}
}

func node() nodescale.NodeReport {
	return nodescale.NodeReport{
		ID: "gpu-5f0c2a91", Name: "gpu-5f0c2a91", NomadID: "3b1f0000", Group: "gpu", Pool: "gpu", Phase: raftstate.NodeReady, Status: "ready",
		Replicas: 2, CPU: nodescale.Share{Used: 500, Total: 16000}, MemoryMB: nodescale.Share{Used: 128, Total: 24000},
		GPU: nodescale.Share{Total: 1}, Verdict: "wait", Reason: "empty", Due: time.Unix(1030, 0),
	}
}

func waiting(deployment string) nodescale.PendingReport {
	return nodescale.PendingReport{
		Job: "serve-hello-" + deployment + "-1", Application: "hello", Deployment: deployment, Count: 3, Since: time.Unix(988, 0), Coming: 2, Never: 1,
		Reason: "2 wait for 1 node of gpu", Groups: map[string]string{"gpu": "1 node is on its way", "cpu": "no GPU"},
	}
}

func TestNodeGroups(t *testing.T) {
	f := &fakeAPI{t: t, groups: []api.WorkerGroupStatus{bareGroup(), gpuGroup()}}
	code, out, errs := f.cliRun(t.Context(), "node-groups")
	want := `Group  Pool     Target          Nodes                 By Hand  Bounds  Wants  Cost/h  Reason
cpu    all-cpu  none (dry run)  0                              0..2    ?              the node autoscaler has not looked at it yet
gpu    gpu      process         2 ready, 1 launching  1        1..4    3      4.50    orders 1 node: hello/web waits

Note: gpu: its target has 1 machine too many
`
	if diff := cmp.Diff(want, out); code != exitOK || errs != "" || diff != "" {
		t.Errorf("exit code %d, %s\n%s", code, errs, diff)
	}
	if code, out, _ = (&fakeAPI{t: t}).cliRun(t.Context(), "node-groups"); code != exitOK || !strings.Contains(out, "No worker groups") {
		t.Errorf("without groups: exit code %d, %s", code, out)
	}
}

func TestNodeGroupsExplain(t *testing.T) {
	f := &fakeAPI{t: t, group: []api.WorkerGroupDetail{{
		WorkerGroupStatus: gpuGroup(), Hold: "Nomad is not known", Nodes: []nodescale.NodeReport{node()},
		Pending: []nodescale.PendingReport{waiting("web")},
		Events:  []raftstate.Event{{At: time.Now(), Type: "node-launching", Node: "gpu-5f0c2a91", WorkerGroup: "gpu", Message: "for hello/web"}},
	}}}
	code, out, errs := f.cliRun(t.Context(), "node-groups", "explain", "gpu")
	for _, want := range []string{
		"A Node       = 8 cores, 24576 MiB, 1 GPU", "Bounds       = 1..4", "Launched     = 5, 1 of them failed, 1 removed since",
		"Start Time   = 4.2s from the order", "nothing is taken away: Nomad is not known", "hello/web", "1 node is on its way",
		"500/16000 MHz", "for hello/web", "Note: gpu: its target",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if code != exitOK || t.Failed() {
		t.Errorf("exit code %d: %s\n%s", code, errs, out)
	}
}

func TestNodeGroupsCosts(t *testing.T) {
	free := gpuGroup()
	free.Name, free.Report = "own", &nodescale.GroupReport{Name: "own", Cost: nodescale.Cost{NodeHours: 1}}
	f := &fakeAPI{t: t, groups: []api.WorkerGroupStatus{bareGroup(), gpuGroup(), free}}
	_, out, _ := f.cliRun(t.Context(), "node-groups", "costs")
	want := `Group  Nodes  Node-Hours  Idle  Price  Cost/h  Cost   Not Known
cpu    0      ?                                       the node autoscaler has not looked at it yet
gpu    3      12.50       50 %  1.50   4.50    18.75
own    3      1.00        0 %
all    6      13.50                    4.50    18.75
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	f.groups = []api.WorkerGroupStatus{free}
	want = `Group  Nodes  Node-Hours  Idle
own    3      1.00        0 %

No group has a price: with price = ... in its worker_group block its costs are shown.
`
	_, out, _ = f.cliRun(t.Context(), "node-groups", "costs")
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}

func TestNodeGroupsDeleteWaits(t *testing.T) {
	going := gpuGroup()
	going.Deleting = true
	gone := going
	gone.Phases = map[raftstate.NodePhase]int{raftstate.NodeTerminating: 1}
	f := &fakeAPI{t: t, group: []api.WorkerGroupDetail{{WorkerGroupStatus: going}, {WorkerGroupStatus: gone}}}
	code, out, errs := f.cliRun(t.Context(), "node-groups", "delete", "gpu")
	want := "  nodes left: 2 ready, 1 launching\n  nodes left: 1 terminating\nWorker group gpu is gone.\n"
	if code != exitOK || out != want {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	f.group = []api.WorkerGroupDetail{{WorkerGroupStatus: gpuGroup()}}
	if code, _, errs = f.cliRun(t.Context(), "node-groups", "delete", "gpu"); code != exitError || !strings.Contains(errs, "deployed again") {
		t.Errorf("deployed again meanwhile: exit code %d: %s", code, errs)
	}
}

func TestNodes(t *testing.T) {
	foreign := nodescale.NodeReport{ID: "77aa", Name: "by-hand", Pool: "gpu", Status: "down", Others: 1, Verdict: "keep", Reason: "nobody ordered it"}
	f := &fakeAPI{t: t, nodes: api.NodeList{At: time.Unix(1000, 0), Hold: "the look is old", Nodes: []nodescale.NodeReport{node(), foreign}}}
	_, out, _ := f.cliRun(t.Context(), "nodes")
	want := `Node          Name     Group  Pool  Phase  Status  Replicas  Others  CPU            Memory         GPU  Verdict  Due     Reason
gpu-5f0c2a91           gpu    gpu   ready  ready   2                 500/16000 MHz  128/24000 MiB  0/1  wait     in 30s  empty
77aa          by-hand         gpu          down    0         1                                          keep             nobody ordered it

Nothing is taken away: the look is old
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	f.node = api.NodeDetail{NodeReport: node(), At: time.Unix(1000, 0), Record: &raftstate.Node{
		ID: "gpu-5f0c2a91", At: time.Unix(900, 0), JoinedAt: time.Unix(904, 0), Reason: "joined", Surge: map[string]int{"serve-hello-web-1": 2},
	}}
	_, out, _ = f.cliRun(t.Context(), "nodes", "explain", "gpu-5")
	for _, want := range []string{"Verdict      = wait", "Due          = in 30s", "Joined       = 4s after it was ordered", "2 more replicas of job serve-hello-web-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

func TestPending(t *testing.T) {
	other := nodescale.PendingReport{Job: "buffer of worker group gpu", Count: 1, Reason: "no room"}
	f := &fakeAPI{t: t, pending: api.PendingList{At: time.Unix(1000, 0), Pending: []nodescale.PendingReport{waiting("web"), other}}}
	_, out, _ := f.cliRun(t.Context(), "pending")
	want := `Deployment                  Replicas  For  Node Coming  Never  Reason
hello/web                   3         12s  2            1      2 wait for 1 node of gpu
buffer of worker group gpu  1                                  no room
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	_, out, _ = f.cliRun(t.Context(), "pending", "hello/web")
	want = `Deployment  = hello/web
Job         = serve-hello-web-1
Replicas    = 3 without a place
For         = 12s
Node Coming = 2
Never       = 1
Why         = 2 wait for 1 node of gpu

Worker Group  Says
cpu           no GPU
gpu           1 node is on its way
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	hello := reconcile.ApplicationStatus{Name: "hello", Deployments: []reconcile.DeploymentStatus{{Name: "api"}}}
	f.statuses = []reconcile.ApplicationStatus{hello, hello}
	if _, out, _ = f.cliRun(t.Context(), "pending", "hello/api"); out != "Every replica of hello/api has a place.\n" {
		t.Errorf("of another deployment: %s", out)
	}
	if code, _, errs := f.cliRun(t.Context(), "pending", "hello/ape"); code != exitError || !strings.Contains(errs, `"hello" has no deployment "ape"`) {
		t.Errorf("of a deployment that there is not: exit code %d: %s", code, errs)
	}
}

func TestStatusShowsWorkerGroups(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{{Name: "hello", Status: reconcile.Healthy}}, groups: []api.WorkerGroupStatus{bareGroup(), gpuGroup()}}
	_, out, _ := f.cliRun(t.Context(), "status")
	if want := "\nWorker groups: cpu 0 of 0..2; gpu 2 ready, 1 launching of 1..4\n"; !strings.HasSuffix(out, want) {
		t.Errorf("got %s", out)
	}
}

func TestDeployOfGroupsAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "groups.hcl")
	text := "worker_group \"gpu\" {\n  max_nodes = 2\n  node {\n    cpu = 2\n    memory = \"1GiB\"\n  }\n  target \"none\" {}\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &fakeAPI{t: t}
	f.deploy = func(w http.ResponseWriter) {
		answer := api.DeployResponse{Index: 5, WorkerGroups: []api.DeployedGroup{{Name: "gpu", ModifyIndex: 5, Changed: true}}}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}
	code, out, errs := f.cliRun(t.Context(), "deploy", "-group-check-index", "gpu=3", file)
	if code != exitOK || out != "Worker group gpu is recorded.\n" {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if f.deployed.GroupCheckIndex["gpu"] != 3 || len(f.deployed.WorkerGroups) != 1 || f.deployed.WorkerGroups[0].MaxNodes != 2 {
		t.Errorf("it sent %+v", f.deployed)
	}
	code, out, _ = f.cliRun(t.Context(), "validate", file)
	if code != exitOK || out != "The spec is good: 0 applications, 0 deployments, 1 worker group.\n" {
		t.Errorf("validate: exit code %d: %s", code, out)
	}
}

func TestPlanOfGroups(t *testing.T) {
	answer := api.PlanResponse{WorkerGroups: []api.GroupPlan{{
		Name: "gpu", Action: api.ActionUpdate, CheckIndex: 7, Steps: []string{"make node pool gpu"}, Changes: []appspec.Change{
			{Path: "max_nodes", Old: "2", New: "4", Effect: appspec.EffectLive},
			{Path: "node.cpu", Old: "2", New: "4", Effect: appspec.EffectNodes},
		},
		Outdated: 3, Note: "its target is odd",
	}, {Name: "cpu", Action: api.ActionNone}}, Applications: []api.ApplicationPlan{
		{Name: "shop", Moved: true, Action: api.ActionUpdate, CheckIndex: 4, Version: 2, Serving: 1, Strategy: appspec.StrategyBlueGreen, Why: "worker group gpu: node.cpu changed"},
		{Name: "named", Action: api.ActionUpdate, CheckIndex: 5, Version: 2, Serving: 1, Strategy: appspec.StrategyBlueGreen, Why: "worker group gpu: node.cpu changed"},
	}}
	want := `~ worker group "gpu" changes
  ~ max_nodes: 2 -> 4  (at once, no replica restarted)
  ~ node.cpu: 2 -> 4  (new nodes only)

  It would have 3 nodes of another shape: closed to new replicas at once, and removed when
  none is left on them. Until then there may be max_nodes of the new shape beside these.

  Note: its target is odd

  What the controller would do:
   1. make node pool gpu

  worker group "cpu" stays as it is

~ application "shop" moves with its worker group

  Version 2 takes over from version 1: blue_green, a whole new set of replicas, then all requests at once, as worker group gpu: node.cpu changed

~ application "named" moves with its worker group

  Version 2 takes over from version 1: blue_green, a whole new set of replicas, then all requests at once, as worker group gpu: node.cpu changed

To do exactly this, unless something changes before:
  serve-nomad deploy -group-check-index gpu=7 -check-index named=5 x.hcl
`
	if diff := cmp.Diff(want, planText(answer, func() string { return deployAgain(answer, []string{"x.hcl"}) })); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownSecondWord(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"node-groups explian gpu", "did you mean node-groups explain"},
		{"nodes xyz", "there is no nodes \"xyz\": there are explain"},
		{"autoscale replya", "did you mean autoscale replay"},
	} {
		code, _, errs := (&fakeAPI{t: t}).cliRun(t.Context(), strings.Fields(c.line)...)
		if code != exitUsage || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit code %d: %s", c.line, code, errs)
		}
	}
}

func TestDeleteNamesTheWorkerGroup(t *testing.T) {
	f := &fakeAPI{t: t, refuseDelete: true, group: []api.WorkerGroupDetail{{WorkerGroupStatus: gpuGroup()}}}
	code, _, errs := f.cliRun(t.Context(), "delete", "gpu")
	if code != exitError || !strings.Contains(errs, "serve-nomad node-groups delete gpu") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func TestNodeCommandsInJSON(t *testing.T) {
	f := &fakeAPI{
		t: t, groups: []api.WorkerGroupStatus{gpuGroup()}, node: api.NodeDetail{NodeReport: node()}, pending: api.PendingList{Pending: []nodescale.PendingReport{waiting("web")}},
		nodes: api.NodeList{Nodes: []nodescale.NodeReport{node()}},
	}
	for line, key := range map[string]string{
		"node-groups":             `"max_nodes": 4`,
		"node-groups explain gpu": `"hold"`,
		"node-groups costs":       `"per_hour": 4.5`,
		"node-groups delete gpu":  `"index": 6`,
		"nodes":                   `"verdict": "wait"`,
		"nodes explain gpu-5":     `"verdict": "wait"`,
		"pending":                 `"never": 1`,
		"pending hello/web":       `"never": 1`,
	} {
		if line == "node-groups explain gpu" {
			f.group = []api.WorkerGroupDetail{{WorkerGroupStatus: gpuGroup(), Hold: "held"}}
		}
		code, out, errs := f.cliRun(t.Context(), append(strings.Fields(line), "-json")...)
		if code != exitOK || !json.Valid([]byte(out)) || !strings.Contains(out, key) {
			t.Errorf("%s: exit code %d, it lacks %s: %s%s", line, code, key, out, errs)
		}
	}
}

func TestCompletionOfNodesAndGroups(t *testing.T) {
	f := &fakeAPI{t: t, groups: []api.WorkerGroupStatus{gpuGroup()}, nodes: api.NodeList{Nodes: []nodescale.NodeReport{node()}}}
	server := httptest.NewServer(f)
	defer server.Close()
	b := &base{ctx: t.Context(), getenv: func(string) string { return server.URL }}
	for want, c := range map[string]*command{
		"gpu":          newNodeGroupsExplainCommand(b).(*command),
		"gpu-5f0c2a91": newNodesExplainCommand(b).(*command),
	} {
		if got := c.AutocompleteArgs().Predict(complete.Args{}); !slices.Equal(got, []string{want}) {
			t.Errorf("%s completes %q, want %q", c.name, got, want)
		}
	}
}
