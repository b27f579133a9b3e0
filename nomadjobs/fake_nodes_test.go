package nomadjobs

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

// fakeGround is the part of the fake that has nodes, node pools, all that holds
// room, and ACLs. Nodes and allocations are as Nomad wrote them, from testdata.
type fakeGround struct {
	nodes    []map[string]any
	held     []map[string]any
	pools    map[string]*api.NodePool
	token    api.ACLToken
	policies map[string]map[string]any
	written  []string // method and path of each change, with its body
}

func (g *fakeGround) init() {
	g.token = api.ACLToken{AccessorID: "acls-disabled", Type: "client"}
	g.held = []map[string]any{}
	g.pools = map[string]*api.NodePool{"default": {Name: "default"}, "all": {Name: "all"}}
}

// serveGround answers what is about nodes, and says whether r was.
func (f *fakeNomad) serveGround(w http.ResponseWriter, r *http.Request) bool {
	path := r.Method + " " + r.URL.Path
	query := r.URL.Query()
	switch {
	case path == "GET /v1/nodes" && query.Get("resources") == "":
		var stubs []*api.NodeListStub
		for _, n := range f.ground.nodes {
			stubs = append(stubs, &api.NodeListStub{ID: n["ID"].(string), ModifyIndex: n["ModifyIndex"].(uint64)})
		}
		f.answer(w, stubs)
	case path == "GET /v1/allocations" && query.Get("resources") == "true":
		if query.Get("namespace") != "*" || query.Get("filter") != holding {
			f.t.Errorf("what holds room is listed with %s", r.URL.RawQuery)
		}
		f.answer(w, f.ground.held)
	case path == "GET /v1/node/pools":
		pools := []*api.NodePool{}
		for _, p := range f.ground.pools {
			pools = append(pools, p)
		}
		f.answer(w, pools)
	case strings.HasPrefix(path, "GET /v1/node/pool/"):
		f.found(w, f.ground.pools[strings.TrimPrefix(path, "GET /v1/node/pool/")])
	case strings.HasPrefix(path, "PUT /v1/node/"):
		f.changeGround(w, r)
	case strings.HasPrefix(path, "GET /v1/node/"):
		f.found(w, f.node(strings.TrimPrefix(path, "GET /v1/node/")))
	case path == "GET /v1/acl/token/self":
		f.answer(w, f.ground.token)
	case path == "GET /v1/acl/policies":
		var stubs []*api.ACLPolicyListStub
		for name, p := range f.ground.policies {
			stubs = append(stubs, &api.ACLPolicyListStub{Name: name, ModifyIndex: p["ModifyIndex"].(uint64)})
		}
		f.answer(w, stubs)
	case strings.HasPrefix(path, "GET /v1/acl/policy/"):
		f.answer(w, f.ground.policies[strings.TrimPrefix(path, "GET /v1/acl/policy/")])
	default:
		return false
	}
	return true
}

func (f *fakeNomad) found(w http.ResponseWriter, v any) {
	switch p := v.(type) {
	case *api.NodePool:
		if p == nil {
			http.Error(w, "node pool not found", http.StatusNotFound)
			return
		}
	case map[string]any:
		if p == nil {
			http.Error(w, "node not found", http.StatusNotFound)
			return
		}
	}
	f.answer(w, v)
}

// changeGround makes the change that a PUT asks for, as Nomad would.
func (f *fakeNomad) changeGround(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if r.ContentLength != 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			f.t.Error(err)
		}
	}
	id, act, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/node/"), "/")
	node := f.node(id)
	text, err := json.Marshal(body)
	if err != nil {
		f.t.Error(err)
	}
	f.set(func() { f.ground.written = append(f.ground.written, fmt.Sprintf("%s %s", r.URL.Path, text)) })
	if id == "pools" {
		var pool api.NodePool
		if err := json.Unmarshal(text, &pool); err != nil {
			f.t.Error(err)
		}
		f.set(func() { f.ground.pools[pool.Name] = &pool })
		f.answer(w, nil)
		return
	}
	if node == nil {
		http.Error(w, "node not found", http.StatusInternalServerError) // as Nomad has it
		return
	}
	f.set(func() {
		switch act {
		case "eligibility":
			node["SchedulingEligibility"] = body["Eligibility"]
		case "drain":
			node["DrainStrategy"], node["SchedulingEligibility"] = body["DrainSpec"], "ineligible"
			if body["MarkEligible"] == true {
				node["SchedulingEligibility"] = "eligible"
			}
		case "purge":
			f.ground.nodes = nil
		}
		node["ModifyIndex"] = node["ModifyIndex"].(uint64) + 1
	})
	f.answer(w, struct{}{})
}

func (f *fakeNomad) node(id string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.ground.nodes {
		if n["ID"] == id {
			return n
		}
	}
	return nil
}

// addNode adds the node of testdata under another id.
func (f *fakeNomad) addNode(id string) map[string]any {
	node := readJSON(f.t, "testdata/node.json")
	node["ID"], node["ModifyIndex"] = id, uint64(9)
	f.set(func() { f.ground.nodes = append(f.ground.nodes, node) })
	return node
}

// addHeld adds the allocation of testdata, as one of job on node.
func (f *fakeNomad) addHeld(job, node string, index int) map[string]any {
	alloc := readJSON(f.t, "testdata/alloc.json")
	alloc["ID"] = fmt.Sprintf("%s-%s-%d", job, node, index)
	alloc["JobID"], alloc["NodeID"], alloc["Name"] = job, node, fmt.Sprintf("%s.ranker[%d]", job, index)
	f.set(func() { f.ground.held = append(f.ground.held, alloc) })
	return alloc
}

// addReplica adds an allocation to the list that has the states of tasks.
func (f *fakeNomad) addReplica(job, node string, index int) {
	events := []*api.TaskEvent{
		{Type: "Received", Time: time.Now().UnixNano(), DisplayMessage: "Task received by client"},
		{Type: "Task Setup", Time: time.Now().UnixNano(), DisplayMessage: "Building Task Directory", Details: map[string]string{"message": "Building Task Directory"}},
		{Type: "Started", Time: time.Now().UnixNano(), DisplayMessage: "Task started by client"},
	}
	f.set(func() {
		f.allocs = append(f.allocs, &api.AllocationListStub{
			ID: fmt.Sprintf("%s-%s-%d", job, node, index), JobID: job, NodeID: node, NodeName: node, DesiredStatus: "run", ClientStatus: "running",
			Name: fmt.Sprintf("%s.ranker[%d]", job, index), Namespace: "default", JobType: "service", TaskGroup: "ranker",
			TaskStates: map[string]*api.TaskState{"ranker": {State: "running", Events: events}},
		})
	})
}

func readJSON(tb testing.TB, path string) map[string]any {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		tb.Fatal(err)
	}
	return v
}
