package nomadjobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
)

// fakeNomad answers like a Nomad agent for the calls that this package makes.
// It is a fake: it schedules nothing and checks nothing but the index that a
// register enforces. The e2e tests hold it to the real one.
type fakeNomad struct {
	t      testing.TB
	server *httptest.Server

	mu     sync.Mutex
	jobs   map[string]*api.Job
	allocs []*api.AllocationListStub
	nodes  []*api.NodeListStub
	evals  []*api.Evaluation
	queued map[string]int // job -> unplaced
	ground fakeGround
	vars   fakeVars
	logs   string
	events chan string
	calls  map[string]int
	broken string // path prefix that answers 500
}

func startFake(t *testing.T) (*fakeNomad, *Client) {
	t.Helper()
	f := &fakeNomad{t: t, jobs: map[string]*api.Job{}, queued: map[string]int{}, calls: map[string]int{}, events: make(chan string)}
	f.ground.init()
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	c, err := New(Config{Address: f.server.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func (f *fakeNomad) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.Method + " " + r.URL.Path
	f.mu.Lock()
	f.calls[path]++
	broken := f.broken != "" && strings.HasPrefix(r.URL.Path, f.broken)
	f.mu.Unlock()
	id, _ := strings.CutPrefix(r.URL.Path, "/v1/job/")
	switch {
	case broken:
		http.Error(w, "the fake is broken here", http.StatusInternalServerError)
	case f.serveGround(w, r):
	case f.serveVars(w, r):
	case path == "GET /v1/jobs":
		f.listJobs(w)
	case path == "PUT /v1/jobs":
		f.register(w, r)
	case path == "GET /v1/allocations":
		f.answer(w, f.allocs)
	case path == "GET /v1/nodes":
		f.answer(w, f.nodes)
	case path == "GET /v1/evaluations":
		f.answer(w, f.evals)
	case path == "GET /v1/event/stream":
		f.stream(w, r)
	case strings.HasPrefix(path, "GET /v1/client/fs/logs/"):
		_, _ = fmt.Fprint(w, f.logs)
	case strings.HasPrefix(path, "DELETE /v1/job/"):
		f.mu.Lock()
		f.jobs[id].Stop = new(true)
		f.mu.Unlock()
		f.answer(w, api.JobDeregisterResponse{})
	case strings.HasPrefix(path, "GET /v1/job/"):
		f.mu.Lock()
		job := f.jobs[id]
		f.mu.Unlock()
		if job == nil {
			http.Error(w, "job not found", http.StatusNotFound)
			return
		}
		f.answer(w, job)
	default:
		http.Error(w, "the fake does not know "+path, http.StatusNotImplemented)
	}
}

func (f *fakeNomad) answer(w http.ResponseWriter, v any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeNomad) listJobs(w http.ResponseWriter) {
	f.mu.Lock()
	list := []*api.JobListStub{{ID: "serve-stranger", Meta: map[string]string{"owner": "somebody"}}}
	for _, id := range slices.Sorted(maps.Keys(f.jobs)) { // as Nomad lists them
		job := f.jobs[id]
		list = append(list, &api.JobListStub{
			ID: id, Meta: job.Meta, JobModifyIndex: *job.JobModifyIndex,
			JobSummary: &api.JobSummary{Summary: map[string]api.TaskGroupSummary{*job.TaskGroups[0].Name: {Queued: f.queued[id]}}},
		})
	}
	f.mu.Unlock()
	f.answer(w, list)
}

func (f *fakeNomad) register(w http.ResponseWriter, r *http.Request) {
	var req api.JobRegisterRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	old := f.jobs[*req.Job.ID]
	have := uint64(0)
	if old != nil {
		have = *old.JobModifyIndex
	}
	ok := req.EnforceIndex && req.JobModifyIndex == have
	if ok {
		req.Job.JobModifyIndex = new(have + 1)
		f.jobs[*req.Job.ID] = req.Job
	}
	f.mu.Unlock()
	if !ok {
		http.Error(w, fmt.Sprintf("%s %d: job exists with conflicting job modify index: %d", api.RegisterEnforceIndexErrPrefix, req.JobModifyIndex, have), http.StatusInternalServerError)
		return
	}
	f.answer(w, api.JobRegisterResponse{})
}

// stream sends what the test puts on events; "close" ends it.
func (f *fakeNomad) stream(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	refused := f.ground.token.Type != "management" && slices.Contains(r.URL.Query()["topic"], "NodePool")
	f.mu.Unlock()
	if refused {
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	control := http.NewResponseController(w)
	_, _ = fmt.Fprintln(w, "{}")
	_ = control.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-f.events:
			if line == "close" {
				return
			}
			_, _ = fmt.Fprintln(w, line)
			_ = control.Flush()
		}
	}
}

func (f *fakeNomad) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeNomad) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[path]
}

// total counts the calls of paths that begin so.
func (f *fakeNomad) total(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for path, calls := range f.calls {
		if strings.HasPrefix(path, prefix) {
			n += calls
		}
	}
	return n
}

// put places a job in the fake at index and returns it.
func (f *fakeNomad) put(cluster string, index uint64) *api.Job {
	job := fakeJob(cluster)
	job.JobModifyIndex = new(index)
	f.set(func() { f.jobs[*job.ID] = job })
	return job
}

func fakeJob(cluster string) *api.Job {
	dep := &appspec.Deployment{Name: "ranker", MaxOngoingRequests: 5, Task: &api.Task{Driver: "raw_exec"}}
	return jobspec.Render(jobspec.Input{
		ClusterID: cluster, Application: &appspec.Application{Name: "search"}, Deployment: dep,
		Version: "1a2b3c4d", Count: 3, CoreMHz: 2000,
	})
}
