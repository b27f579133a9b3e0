package api_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fakeNodes is what a node autoscaler says.
type fakeNodes struct {
	report nodescale.Report
	err    error
}

func (f *fakeNodes) Report() (nodescale.Report, error) { return f.report, f.err }

func withNodes(n serve.Nodes) func(*serve.ServerConfig) {
	return func(c *serve.ServerConfig) { c.Nodes = n }
}

// group is a valid worker group.
func group(name string) *appspec.WorkerGroup {
	g := &appspec.WorkerGroup{
		Name: name, MaxNodes: 4, Node: appspec.NodeShape{CPU: 2, MemoryMB: 1024}, Target: appspec.NodeTarget{Kind: appspec.TargetProcess},
	}
	g.Complete()
	return g
}

func TestDeployOfWorkerGroups(t *testing.T) {
	i := start(t)
	on := spec("search")
	on.Deployments[0].WorkerGroup = "gpu"
	first, err := i.client.Deploy(t.Context(), serve.DeployRequest{
		Applications: []*appspec.Application{on}, WorkerGroups: []*appspec.WorkerGroup{group("gpu")}, By: "me",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []serve.DeployedGroup{{Name: "gpu", ModifyIndex: first.Index, Changed: true}}
	if diff := cmp.Diff(want, first.WorkerGroups); diff != "" || len(first.Applications) != 1 {
		t.Errorf("%v %s", first.Applications, diff)
	}
	changed := group("gpu")
	changed.MaxNodes = 9
	for _, c := range []struct {
		name  string
		req   serve.DeployRequest
		code  serve.Code // "": accepted
		says  string
		group serve.DeployedGroup
	}{
		{"the same again, alone", serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{group("gpu")}}, "", "", serve.DeployedGroup{Name: "gpu", ModifyIndex: first.Index}},
		{
			"on another index",
			serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{changed}, GroupCheckIndex: map[string]uint64{"gpu": 99}},
			serve.CodeConflict, "changed since",
			serve.DeployedGroup{},
		},
		{
			"an index of no group of the request",
			serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{changed}, GroupCheckIndex: map[string]uint64{"search": 0}},
			serve.CodeInvalid, "faults",
			serve.DeployedGroup{},
		},
		{"a group that is null", serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{nil}}, serve.CodeInvalid, "faults", serve.DeployedGroup{}},
		{"max below min", serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{func() *appspec.WorkerGroup {
			g := group("gpu")
			g.MinNodes, g.MaxNodes = 3, 2
			return g
		}()}}, serve.CodeInvalid, "faults", serve.DeployedGroup{}},
		{"two groups on one pool", serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{func() *appspec.WorkerGroup {
			g := group("other")
			g.NodePool = "gpu"
			return g
		}()}}, serve.CodeConflict, "share node pool", serve.DeployedGroup{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := i.View().State
			answer, err := i.client.Deploy(t.Context(), c.req)
			if c.code == "" {
				if err != nil || len(answer.WorkerGroups) != 1 || answer.WorkerGroups[0] != c.group {
					t.Errorf("got %+v, %v", answer, err)
				}
				return
			}
			if e := asError(t, err); e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Errorf("got %s: %v", e.Code, e)
			}
			if !maps.Equal(before.WorkerGroups, i.View().State.WorkerGroups) {
				t.Error("the groups changed")
			}
		})
	}
}

func TestPlanOfWorkerGroups(t *testing.T) {
	i := start(t)
	deploy := func(g *appspec.WorkerGroup) serve.DeployResponse {
		answer, err := i.client.Deploy(t.Context(), serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{g}})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	index := deploy(group("gpu")).Index
	changed, fresh := group("gpu"), group("fresh")
	changed.MaxNodes, changed.Node.CPU = 9, 4
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{WorkerGroups: []*appspec.WorkerGroup{changed, fresh}})
	if err != nil {
		t.Fatal(err)
	}
	if p := answer.WorkerGroups[1]; p.Action != serve.ActionCreate || p.CheckIndex != 0 || len(p.Changes) == 0 {
		t.Errorf("of a new group: %+v", p)
	}
	p := answer.WorkerGroups[0]
	want := []appspec.Change{
		{Path: "max_nodes", Old: "4", New: "9", Effect: appspec.EffectLive},
		{Path: "node.cpu", Old: "2", New: "4", Effect: appspec.EffectNodes},
	}
	if diff := cmp.Diff(want, p.Changes); diff != "" || p.Action != serve.ActionUpdate || p.CheckIndex != index {
		t.Errorf("%+v\n%s", p, diff)
	}
	if answer, err = i.client.Plan(t.Context(), serve.PlanRequest{WorkerGroups: []*appspec.WorkerGroup{group("gpu")}}); err != nil ||
		answer.WorkerGroups[0].Action != serve.ActionNone {
		t.Errorf("of the same: %+v, %v", answer, err)
	}
	i.mustApply(t, raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: []raftstate.NodeChange{
		{ID: "gpu-00000001", Group: "gpu", To: raftstate.NodeLaunching, Reason: "test"},
	}}})
	moved := group("gpu")
	moved.NodePool, moved.Node.CPU = "elsewhere", 4
	_, err = i.client.Plan(t.Context(), serve.PlanRequest{WorkerGroups: []*appspec.WorkerGroup{moved}})
	if e := asError(t, err); e.Code != serve.CodeConflict || !strings.Contains(e.Message, "while it has 1 node") {
		t.Errorf("another pool of a group with a node: %v", e)
	}
}

// mustApply applies one command, which must not be refused.
func (i *instance) mustApply(t *testing.T, c raftstate.Command) {
	t.Helper()
	c.At = time.Unix(1000, 0).UTC()
	result, err := i.Propose(t.Context(), c)
	if err = errors.Join(err, result.Err()); err != nil {
		t.Fatal(err)
	}
}

// nodesOf is a server with group gpu, one node of it, and a replica that waits.
func nodesOf(t *testing.T) (*instance, *fakeNodes) {
	t.Helper()
	said := &fakeNodes{report: nodescale.Report{
		At: time.Unix(1001, 0).UTC(), Hold: "the look is old",
		Groups: []nodescale.GroupReport{{Name: "gpu", MinNodes: 0, MaxNodes: 4, Wants: 2, Reason: "orders 1 node", Price: 2, Cost: nodescale.Cost{NodeHours: 1.5, PerHour: 2, Total: 3}}},
		Nodes: []nodescale.NodeReport{
			{ID: "gpu-00000001", NomadID: "aaaa1111", Name: "gpu-00000001", Group: "gpu", Verdict: "keep", Reason: "2 replicas"},
			{ID: "aaaa2222", NomadID: "aaaa2222", Name: "by-hand", Verdict: "keep"},
		},
		Pending: []nodescale.PendingReport{{
			Job: "serve-search-web-1", Application: "search", Deployment: "web", Count: 3, Coming: 2, Never: 0,
			Reason: "1 node of gpu is on its way", Groups: map[string]string{"gpu": "orders 1"},
		}},
	}}
	i := start(t, withNodes(said))
	if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{WorkerGroups: []*appspec.WorkerGroup{group("gpu"), group("cpu")}}); err != nil {
		t.Fatal(err)
	}
	i.mustApply(t, raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: []raftstate.NodeChange{
		{ID: "gpu-00000001", Group: "gpu", To: raftstate.NodeLaunching, Reason: "search/web waits"},
	}}})
	return i, said
}

func TestWorkerGroupsAreListed(t *testing.T) {
	i, said := nodesOf(t)
	list, index, err := i.client.WorkerGroups(t.Context(), serve.Query{})
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	cpu, gpu := list[0], list[1]
	if cpu.Report != nil || !strings.Contains(cpu.ReportError, "not looked at it yet") {
		t.Errorf("of a group that the report does not have: %+v", cpu)
	}
	if gpu.Report.Wants != 2 || gpu.Phases[raftstate.NodeLaunching] != 1 || gpu.Usage.Launched != 1 || gpu.ReportError != "" {
		t.Errorf("got %+v", gpu)
	}
	detail, _, err := i.client.WorkerGroup(t.Context(), "gpu", serve.Query{})
	if err != nil || detail.Hold == "" || len(detail.Nodes) != 1 || len(detail.Pending) != 1 || len(detail.Events) < 2 {
		t.Errorf("got %+v, %v", detail, err)
	}
	if _, _, err = i.client.WorkerGroup(t.Context(), "tpu", serve.Query{}); asError(t, err).Code != serve.CodeNotFound {
		t.Errorf("got %v", err)
	}

	// A server that does not lead says what was decided, and that it knows no more.
	said.err = serve.ErrNoLeader
	i.setLeads(false)
	list, _, err = i.client.WorkerGroups(t.Context(), serve.Query{Stale: true})
	if err != nil || list[1].Report != nil || list[1].ReportError == "" || list[1].Phases[raftstate.NodeLaunching] != 1 {
		t.Errorf("stale: %+v, %v", list, err)
	}
	i.setLeads(true)

	// A watcher is woken by what is decided.
	done := make(chan uint64)
	go func() {
		_, next, _ := i.client.WorkerGroups(t.Context(), serve.Query{Index: i.View().Index, Wait: time.Minute})
		done <- next
	}()
	i.awaitWaiter(t)
	i.mustApply(t, raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: []raftstate.NodeChange{
		{ID: "gpu-00000001", Group: "gpu", From: raftstate.NodeLaunching, To: raftstate.NodeReady, NomadID: "aaaa1111"},
	}}})
	if next := <-done; next <= index {
		t.Errorf("the index went from %d to %d", index, next)
	}
}

func TestNodesAndPending(t *testing.T) {
	i, said := nodesOf(t)
	list, err := i.client.Nodes(t.Context())
	if err != nil || len(list.Nodes) != 2 || list.Hold == "" {
		t.Errorf("got %+v, %v", list, err)
	}
	for _, c := range []struct {
		name string
		id   string // "": refused
		code serve.Code
	}{
		{"gpu-00000001", "gpu-00000001", ""},
		{"gpu-0", "gpu-00000001", ""},
		{"aaaa1111", "gpu-00000001", ""},
		{"by-hand", "aaaa2222", ""},
		{"aaaa", "", serve.CodeInvalid},
		{"gpu", "", serve.CodeNotFound},
		{"bbbb", "", serve.CodeNotFound},
	} {
		node, err := i.client.Node(t.Context(), c.name)
		switch {
		case c.id == "":
			if e := asError(t, err); e.Code != c.code {
				t.Errorf("%s: got %s: %v", c.name, e.Code, e)
			}
		case err != nil || node.ID != c.id:
			t.Errorf("%s: got %+v, %v", c.name, node, err)
		case c.id == "gpu-00000001" && (node.Record == nil || len(node.Events) != 1):
			t.Errorf("%s: got record %+v, events %v", c.name, node.Record, node.Events)
		}
	}
	pending, err := i.client.Pending(t.Context())
	if err != nil || len(pending.Pending) != 1 {
		t.Errorf("got %+v, %v", pending, err)
	}
	said.err = serve.ErrUnavailable
	if _, err = i.client.Nodes(t.Context()); asError(t, err).Code != serve.CodeUnavailable {
		t.Errorf("not known yet: %v", err)
	}
}

// What the node autoscaler does not tell of, Nomad does; and what Nomad does not
// answer is not "nothing".
func TestPendingWithoutANodeAutoscaler(t *testing.T) {
	i := start(t)
	i.deployed(t, "search")
	i.update(func(v *serve.View) {
		w := *v.World
		w.Jobs = maps.Clone(w.Jobs)
		job := w.Jobs["serve-search-web-1"]
		job.Unplaced, job.Blocked = 2, "1 node: out of memory"
		w.Jobs[job.ID] = job
		job.ID, job.ClusterID = "serve-other-web-1", "c2"
		w.Jobs[job.ID] = job
		v.World = &w
	})
	list, err := i.client.Pending(t.Context())
	want := []nodescale.PendingReport{{
		Job: "serve-search-web-1", Application: "search", Deployment: "web", Count: 2, Reason: "no room: 1 node: out of memory",
	}}
	if diff := cmp.Diff(want, list.Pending); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	i.update(func(v *serve.View) { v.World = &reconcile.World{NomadError: "Nomad: connection refused"} })
	_, err = i.client.Pending(t.Context())
	if e := asError(t, err); e.Code != serve.CodeUnavailable || !strings.Contains(e.Message, "refused") {
		t.Errorf("got %v", err)
	}
	if _, err = i.client.Nodes(t.Context()); !strings.Contains(asError(t, err).Message, "enabled = false") {
		t.Errorf("got %v", err)
	}
}

// Without worker groups there is nothing to decide, which is no failure.
func TestNodesWithoutWorkerGroups(t *testing.T) {
	i := start(t, withNodes(&fakeNodes{err: serve.ErrUnavailable}))
	if list, err := i.client.Nodes(t.Context()); err != nil || list.Nodes == nil {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestStatusSaysWhatReplicasWaitFor(t *testing.T) {
	i, said := nodesOf(t)
	i.deployed(t, "search")
	state := i.View().State.Applications["search"]
	job := "serve-search-web-" + state.Wanted.Hashes["web"]
	said.report.Pending[0].Job = job
	unplaced := func(n int) {
		i.update(func(v *serve.View) {
			w := *v.World
			w.Jobs = map[string]reconcile.Job{job: {ID: job, ClusterID: v.State.ClusterID, Application: "search", Deployment: "web", Unplaced: n}}
			v.World = &w
		})
	}
	unplaced(2)
	status, _, err := i.client.Application(t.Context(), "search", serve.Query{})
	if err != nil {
		t.Fatal(err)
	}
	const want = "1 node of gpu is on its way"
	if got := status.Deployments[0].Reason; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	list, _, err := i.client.Applications(t.Context(), serve.Query{})
	if err != nil || list[0].Deployments[0].Reason != want {
		t.Errorf("got %+v, %v", list, err)
	}
	// It is older than what Nomad has placed since.
	unplaced(0)
	if list, _, err = i.client.Applications(t.Context(), serve.Query{}); err != nil || list[0].Deployments[0].Reason == want {
		t.Errorf("got %+v, %v", list, err)
	}
	unplaced(2)
	// Of another version of the deployment it says nothing.
	said.report.Pending[0].Job = "serve-search-web-other"
	if list, _, err = i.client.Applications(t.Context(), serve.Query{}); err != nil || list[0].Deployments[0].Reason == want {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestDeleteWorkerGroup(t *testing.T) {
	i, _ := nodesOf(t)
	on := spec("search")
	on.Deployments[0].WorkerGroup = "gpu"
	if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{on}}); err != nil {
		t.Fatal(err)
	}
	_, err := i.client.DeleteWorkerGroup(t.Context(), "gpu", serve.DeleteRequest{})
	if e := asError(t, err); e.Code != serve.CodeConflict || !strings.Contains(e.Message, "search/web") {
		t.Errorf("a group in use: %v", err)
	}
	if _, err = i.client.DeleteWorkerGroup(t.Context(), "cpu", serve.DeleteRequest{By: "me"}); err != nil {
		t.Error(err)
	}
	if !i.View().State.WorkerGroups["cpu"].Deleting {
		t.Error("it is not being deleted")
	}
	_, err = i.client.DeleteWorkerGroup(t.Context(), "tpu", serve.DeleteRequest{})
	if asError(t, err).Code != serve.CodeNotFound {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	i, said := nodesOf(t)
	i.deployed(t, "search")
	resp, body := i.ask(t, http.MethodGet, "/v1/metrics?format=prometheus", "")
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", kind)
	}
	version := i.View().State.Applications["search"].Wanted.Hashes["web"]
	for _, line := range []string{
		"# TYPE serve_nomad_worker_group_nodes gauge",
		"# TYPE serve_nomad_worker_group_launches_total counter",
		"serve_nomad_leader 1",
		`serve_nomad_build_info{version="1.2.3"} 1`,
		`serve_nomad_worker_group_nodes{worker_group="gpu",phase="launching"} 1`,
		`serve_nomad_worker_group_nodes{worker_group="gpu",phase="ready"} 0`,
		`serve_nomad_worker_group_max_nodes{worker_group="gpu"} 4`,
		`serve_nomad_worker_group_wanted_nodes{worker_group="gpu"} 2`,
		`serve_nomad_worker_group_launches_total{worker_group="gpu"} 1`,
		`serve_nomad_worker_group_node_seconds_total{worker_group="gpu"} 5400`,
		`serve_nomad_worker_group_cost_total{worker_group="gpu"} 3`,
		`serve_nomad_pending_replicas{application="search",deployment="web",job="serve-search-web-1",state="coming"} 2`,
		`serve_nomad_pending_replicas{application="search",deployment="web",job="serve-search-web-1",state="waiting"} 1`,
		`serve_nomad_deployment_target_replicas{application="search",deployment="web",version="` + version + `"} 2`,
		`serve_nomad_node_autoscaler_up 1`,
	} {
		if !slices.Contains(strings.Split(body, "\n"), line) {
			t.Errorf("there is no %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}

	// What is not known is not told: 0 would say that there is nothing.
	said.err = serve.ErrUnavailable
	i.update(func(v *serve.View) { v.World = &reconcile.World{NomadError: "away"} })
	_, body = i.ask(t, http.MethodGet, "/v1/metrics", "")
	for _, name := range []string{"serve_nomad_deployment_replicas", "serve_nomad_worker_group_wanted_nodes", "serve_nomad_pending_replicas"} {
		if strings.Contains(body, name) {
			t.Errorf("%s is told though it is not known", name)
		}
	}
	if !strings.Contains(body, "serve_nomad_nomad_up 0\n") || !strings.Contains(body, "serve_nomad_deployment_target_replicas") {
		t.Error(body)
	}

	// Only the leader tells of the cluster, so that sums over servers are right.
	i.setLeads(false)
	_, body = i.ask(t, http.MethodGet, "/v1/metrics", "")
	if !strings.Contains(body, "serve_nomad_leader 0\n") || strings.Contains(body, "worker_group") {
		t.Error(body)
	}
	if resp, _ = i.ask(t, http.MethodGet, "/v1/metrics?format=json", ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d for another format", resp.StatusCode)
	}
}

// A follower passes on what only the leader knows.
func TestNodesAreAskedOfTheLeader(t *testing.T) {
	leader, _ := nodesOf(t)
	follower := start(t, withNodes(&fakeNodes{err: serve.ErrNoLeader}))
	follower.setLeads(false)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	follower.transport = toServer(leader.http)
	list, err := follower.client.Nodes(ctx)
	if err != nil || len(list.Nodes) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
}

// A group that is there already is asked as one of the same file is; what its
// nodes really have may be more, so that is a warning.
func TestPlanWarnsOfReplicasThatNoNodeHolds(t *testing.T) {
	i, _ := nodesOf(t)
	app := spec("shop")
	app.Deployments[0].WorkerGroup, app.Deployments[0].Resources.CPU = "gpu", 8
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{app}})
	if err != nil || !slices.ContainsFunc(answer.Warnings, func(w string) bool {
		return strings.Contains(w, `deployment "web" of application "shop": No node of worker group "gpu" can ever hold a replica`)
	}) {
		t.Errorf("got %v, %v", answer.Warnings, err)
	}
	app.Deployments[0].Resources.CPU = 2
	if answer, err = i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{app}}); err != nil || strings.Contains(strings.Join(answer.Warnings, ""), "can ever hold") {
		t.Errorf("got %v, %v", answer.Warnings, err)
	}
}
