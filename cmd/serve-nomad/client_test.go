package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fakeAPI is a server that answers from a script: each status of an
// application is the answer to one question about it.
type fakeAPI struct {
	t *testing.T

	mu       sync.Mutex
	statuses []reconcile.ApplicationStatus
	asked    int
	gone     bool // after the last status: 404
	deployed api.DeployRequest
	deploy   func(http.ResponseWriter)
	held     chan struct{} // closed when a question waits for a change that never comes

	explanation autoscale.Explanation
	refusal     *api.ErrorResponse // in place of the explanation

	groups  []api.WorkerGroupStatus
	group   []api.WorkerGroupDetail // one after the other; then 404
	nodes   api.NodeList
	node    api.NodeDetail
	pending api.PendingList

	refuseDelete bool // of applications

	plan       api.PlanResponse
	planned    api.PlanRequest
	history    []api.VersionInfo
	rolledBack api.RollbackRequest
	steered    map[string]api.SteerRequest // action -> what was sent
	refuse     *api.ErrorResponse          // of rollbacks and what steers a rollout
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := func(v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			f.t.Error(err)
		}
	}
	switch path := r.URL.Path; {
	case f.ofNodes(w, r, reply), f.ofRollouts(w, r, reply):
	case r.Method == http.MethodPut:
		if err := json.NewDecoder(r.Body).Decode(&f.deployed); err != nil {
			f.t.Error(err)
		}
		if f.deploy != nil {
			f.deploy(w)
			return
		}
		reply(api.DeployResponse{Index: 5, Applications: []api.Deployed{{Name: "hello", Version: 2, ModifyIndex: 5, Changed: true}}})
	case r.Method == http.MethodDelete && f.refuseDelete:
		w.WriteHeader(http.StatusNotFound)
		reply(api.ErrorResponse{Error: "no application", Code: api.CodeNotFound})
	case r.Method == http.MethodDelete:
		reply(api.WriteResponse{Index: 6})
	case strings.HasSuffix(path, "/logs"):
		w.Header().Set(api.ReplicaHeader, "0123456789abcdef")
		_, _ = w.Write([]byte("the " + r.URL.Query().Get("stream") + " of it\x1b[2J\n"))
	case path == "/v1/agent/self":
		reply(api.ServerInfo{ID: "s1", Proxy: "http://proxy.example:8000/"})
	case path == "/v1/status/peers":
		reply([]api.Peer{{ID: "s1", Address: "a:1", Leader: true, Voter: true}, {ID: "s2", Address: "b:1", Voter: true}})
	case path == "/v1/applications":
		w.Header().Set(api.IndexHeader, "1")
		reply(f.statuses[:1])
	case path == "/v1/applications/hello/deployments/web/autoscale" && f.refusal != nil:
		w.WriteHeader(http.StatusConflict)
		reply(f.refusal)
	case path == "/v1/applications/hello/deployments/web/autoscale":
		reply(f.explanation)
	case path == "/v1/applications/hello":
		f.status(w, r, reply)
	default:
		f.t.Errorf("asked for %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	}
}

// ofNodes answers what is asked of worker groups and nodes.
func (f *fakeAPI) ofNodes(w http.ResponseWriter, r *http.Request, reply func(any)) bool {
	switch path := r.URL.Path; {
	case path == "/v1/worker-groups":
		reply(append([]api.WorkerGroupStatus{}, f.groups...))
	case strings.HasPrefix(path, "/v1/worker-groups/") && r.Method == http.MethodDelete:
		reply(api.WriteResponse{Index: 6})
	case strings.HasPrefix(path, "/v1/worker-groups/") && len(f.group) > 0:
		w.Header().Set(api.IndexHeader, strconv.Itoa(len(f.group)))
		reply(f.group[0])
		f.group = f.group[1:]
	case strings.HasPrefix(path, "/v1/worker-groups/"):
		w.WriteHeader(http.StatusNotFound)
		reply(api.ErrorResponse{Error: "no worker group", Code: api.CodeNotFound})
	case path == "/v1/nodes":
		reply(f.nodes)
	case strings.HasPrefix(path, "/v1/nodes/"):
		reply(f.node)
	case path == "/v1/pending":
		reply(f.pending)
	default:
		return false
	}
	return true
}

// ofRollouts answers what is asked of versions and how they take over.
func (f *fakeAPI) ofRollouts(w http.ResponseWriter, r *http.Request, reply func(any)) bool {
	read := func(v any) {
		if err := json.NewDecoder(r.Body).Decode(v); err != nil {
			f.t.Error(err)
		}
	}
	const app = "/v1/applications/hello/"
	action, steers := strings.CutPrefix(r.URL.Path, app+"rollout/")
	switch path := r.URL.Path; {
	case path == "/v1/plan":
		read(&f.planned)
		reply(f.plan)
	case path == app+"history":
		reply(f.history)
	case path == app+"spec":
		reply(map[string]string{"name": "hello", "version": r.URL.Query().Get("version")})
	case (steers || path == app+"rollback") && f.refuse != nil:
		w.WriteHeader(http.StatusConflict)
		reply(f.refuse)
	case path == app+"rollback":
		read(&f.rolledBack)
		reply(api.RollbackResponse{Index: 5, Deployed: api.Deployed{Name: "hello", Version: 2, ModifyIndex: 5, Changed: true}})
	case steers:
		var req api.SteerRequest
		read(&req)
		f.steered = map[string]api.SteerRequest{action: req}
		reply(api.SteerResponse{Index: 6, Version: 2})
	default:
		return false
	}
	return true
}

func (f *fakeAPI) status(w http.ResponseWriter, r *http.Request, reply func(any)) {
	if f.asked == len(f.statuses) {
		if !f.gone {
			close(f.held)
			f.mu.Unlock()
			<-r.Context().Done()
			f.mu.Lock()
			return
		}
		w.WriteHeader(http.StatusNotFound)
		reply(api.ErrorResponse{Error: "no application", Code: api.CodeNotFound})
		return
	}
	f.asked++
	w.Header().Set(api.IndexHeader, strconv.Itoa(f.asked))
	reply(f.statuses[f.asked-1])
}

// cliRun runs one command line against f and returns what it wrote.
func (f *fakeAPI) cliRun(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	f.t.Helper()
	if f.held == nil {
		f.held = make(chan struct{})
	}
	return cliRunAgainst(ctx, f, args...)
}

// cliRunAgainst runs one command line against any server and returns what it
// wrote.
func cliRunAgainst(ctx context.Context, handler http.Handler, args ...string) (code int, stdout, stderr string) {
	server := httptest.NewServer(handler)
	defer server.Close()
	var out, errs bytes.Buffer
	env := map[string]string{api.AddressEnv: server.URL, "USER": "me"}
	b := &base{
		ctx: ctx, stdin: strings.NewReader(""), stdout: &out, stderr: &errs,
		getenv: func(name string) string { return env[name] }, environ: func() []string { return nil },
	}
	code = run(b, args)
	return code, out.String(), errs.String()
}

const helloSpec = `
application "hello" {
  route_prefix = "/hello"
  ingress      = deployment.web

  deployment "web" {
    num_replicas = 2
    resources {
      cpu    = 0.5
      memory = "64MiB"
    }
    task {
      driver = "raw_exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
`

func specFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hello.hcl")
	if err := os.WriteFile(name, []byte(helloSpec), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// hello is a status of the application, with changes.
func hello(change func(*reconcile.ApplicationStatus, *reconcile.DeploymentStatus)) reconcile.ApplicationStatus {
	d := reconcile.DeploymentStatus{
		Name: "web", Version: "abcd1234", JobID: "serve-hello-web-abcd1234", Wanted: true, Status: reconcile.Deploying, Target: 2,
	}
	s := reconcile.ApplicationStatus{
		Name: "hello", RoutePrefix: "/hello", Ingress: "web", Status: reconcile.Deploying, Version: 2, ServingVersion: 1,
		Rollout: raftstate.Rollout{Status: raftstate.RolloutRunning}, ModifyIndex: 5, DeployedAt: time.Unix(1000, 0), By: "me@here",
	}
	if change != nil {
		change(&s, &d)
	}
	s.Deployments = []reconcile.DeploymentStatus{d}
	return s
}

func healthy(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
	s.Status, d.Status, d.Healthy, d.Serving, s.ServingVersion = reconcile.Healthy, reconcile.Healthy, 2, true, 2
	s.Rollout.Status = raftstate.RolloutSuccessful
	d.Replicas = []reconcile.ReplicaInfo{{ID: "0123456789abcdef", Status: reconcile.ReplicaRunning, Healthy: true, Node: "n1", Address: "10.0.0.1:2000"}}
}

func failing(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
	d.Failed = 1
	d.Reason = "replica 01234567: Exit Code: 1"
	d.Replicas = []reconcile.ReplicaInfo{{ID: "0123456789abcdef", Status: reconcile.ReplicaFailed, Node: "n1", Reason: "Exit Code: 1"}}
	s.Reason = d.Reason
}

func wantAll(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s has no %q:\n%s", what, part, text)
		}
	}
}

func TestDeployWaitsAndShowsProgress(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{
		hello(func(s *reconcile.ApplicationStatus, _ *reconcile.DeploymentStatus) { // from before the deploy
			s.ModifyIndex, s.Rollout.Status = 4, raftstate.RolloutSuccessful
		}),
		hello(func(_ *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			d.Unplaced, d.Reason = 2, "no room: 1 of 1 nodes out of memory"
		}),
		hello(func(_ *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) { d.Starting, d.Healthy = 1, 1 }),
		hello(healthy),
	}}
	code, out, errs := f.cliRun(t.Context(), "deploy", "-message", "why not", "-check-index", "4", specFile(t))
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out, "version 2 is recorded", "0/2 healthy, 2 unplaced", "no room: 1 of 1 nodes out of memory",
		"1/2 healthy, 1 starting", "2/2 healthy", "version 2 is healthy", "curl http://proxy.example:8000/hello")
	if f.deployed.Message != "why not" || f.deployed.CheckIndex["hello"] != 4 || !strings.HasPrefix(f.deployed.By, "me@") || f.deployed.RequestID == "" {
		t.Errorf("sent %+v", f.deployed)
	}
}

func TestDeployAtZeroSaysThatNothingWasTried(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{
		hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			healthy(s, d)
			d.Target, d.Healthy, d.Replicas = 0, 0, nil
		}),
	}}
	code, out, errs := f.cliRun(t.Context(), "deploy", specFile(t))
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out, "version 2 is healthy", "web has no replica, so it is not known whether its replicas start")
}

func TestDeployThatFailsShowsWhyAndTheLog(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{
		hello(failing),
		hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			failing(s, d)
			s.Status, s.Rollout.Status, s.Rollout.Reason = reconcile.Failed, raftstate.RolloutFailed, "web: replica 01234567: Exit Code: 1"
		}),
	}}
	code, out, errs := f.cliRun(t.Context(), "deploy", specFile(t))
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "replica 01234567 on node n1 does not stay up: Exit Code: 1", "stderr | the stderr of it", "stdout | the stdout of it")
	wantAll(t, "stderr", errs, "version 2 was rolled back: web: replica 01234567: Exit Code: 1", "version 1 still serves")
	if strings.Contains(out, "\x1b") {
		t.Error("the replica's control characters reach the terminal")
	}
	if strings.Count(out, "does not stay up") != 1 {
		t.Errorf("the log is shown more than once:\n%s", out)
	}
}

func TestDeployJSON(t *testing.T) {
	for _, c := range []struct {
		name string
		last reconcile.ApplicationStatus
		code int
	}{
		{"healthy", hello(healthy), exitOK},
		{"failed", hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
			failing(s, d)
			s.Rollout.Status = raftstate.RolloutFailed
		}), exitError},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(nil), c.last}}
			code, out, _ := f.cliRun(t.Context(), "deploy", "-json", specFile(t))
			var got deployOutput
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if code != c.code || len(got.Statuses) != 1 || (got.Error == "") != (c.code == exitOK) || (len(got.Notes) > 0) == (c.code == exitOK) {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
}

func TestDeployThatIsInterruptedSaysThatItGoesOn(t *testing.T) {
	interrupted := func(args ...string) (stdout, stderr string) {
		f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(nil)}, held: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-f.held
			cancel()
		}()
		code, out, errs := f.cliRun(ctx, append(args, specFile(t))...)
		if code != exitStopped {
			t.Errorf("%v: exit code %d", args, code)
		}
		return out, errs
	}
	_, errs := interrupted("deploy")
	wantAll(t, "stderr", errs, "goes on at the server", "serve-nomad status hello")
	out, _ := interrupted("deploy", "-json")
	var got deployOutput
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Applications) != 1 || !strings.Contains(got.Error, "goes on at the server") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDeployThatTakesTooLong(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(failing)}}
	code, _, errs := f.cliRun(t.Context(), "deploy", "-timeout", "200ms", specFile(t))
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stderr", errs, "not healthy yet", "Exit Code: 1", "goes on at the server")
}

func TestDeployThatSomebodyElseOverwrites(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(func(s *reconcile.ApplicationStatus, _ *reconcile.DeploymentStatus) {
		s.Version, s.ModifyIndex, s.By = 3, 9, "them"
	})}}
	code, _, errs := f.cliRun(t.Context(), "deploy", specFile(t))
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stderr", errs, "version 3, deployed by them")
}

func TestDeployThatIsRefused(t *testing.T) {
	refuse := func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"error":"application \"hello\" changed since","code":"conflict"}`))
	}
	f := &fakeAPI{t: t, deploy: refuse}
	code, out, errs := f.cliRun(t.Context(), "deploy", "-json", specFile(t))
	var got api.ErrorResponse
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Code != api.CodeConflict {
		t.Errorf("got %s, error %v", out, err)
	}
	if code != exitError || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "deploy again, or with -force") {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
}

func TestDeployDetached(t *testing.T) {
	code, out, _ := (&fakeAPI{t: t}).cliRun(t.Context(), "deploy", "-detach", specFile(t))
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "version 2 is recorded", "serve-nomad status hello")
}

func TestDeleteWaitsUntilTheApplicationIsGone(t *testing.T) {
	deleting := hello(func(s *reconcile.ApplicationStatus, d *reconcile.DeploymentStatus) {
		healthy(s, d)
		s.Status = reconcile.Deleting
	})
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{deleting}, gone: true}
	code, out, errs := f.cliRun(t.Context(), "delete", "hello")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	wantAll(t, "stdout", out, "1 replica left", "hello is gone")
}

func TestStatus(t *testing.T) {
	f := &fakeAPI{t: t, statuses: []reconcile.ApplicationStatus{hello(healthy)}}
	code, out, _ := f.cliRun(t.Context(), "status")
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "Name ", "hello", "/hello", "2/2")
	code, out, _ = f.cliRun(t.Context(), "status", "hello")
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "= hello", "by me@here", "abcd1234", "01234567 ", "10.0.0.1:2000")
	if strings.Contains(out, "0123456789abcdef") {
		t.Error("whole ids without -verbose")
	}
}

func TestServers(t *testing.T) {
	code, out, _ := (&fakeAPI{t: t}).cliRun(t.Context(), "servers")
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, "stdout", out, "s1", "leader", "s2", "follower")
}

func TestLogs(t *testing.T) {
	code, out, _ := (&fakeAPI{t: t}).cliRun(t.Context(), "logs", "-stderr", "hello", "web")
	if code != exitOK || !strings.HasPrefix(out, "the stderr of it") {
		t.Errorf("exit code %d: %q", code, out)
	}
	code, out, _ = (&fakeAPI{t: t}).cliRun(t.Context(), "logs", "-json", "hello", "web")
	var got logOutput
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || got.Replica != "0123456789abcdef" {
		t.Errorf("exit code %d: %s, error %v", code, out, err)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	for name := range commands() {
		t.Run(name, func(t *testing.T) {
			code, out, errs := (&fakeAPI{t: t}).cliRun(t.Context(), append(strings.Fields(name), "-help")...)
			if code != exitOK || errs != "" {
				t.Errorf("exit code %d, stderr %q", code, errs)
			}
			wantAll(t, "help", out, "Usage: serve-nomad "+name, "Example", "$ serve-nomad "+name, "Exit codes:", "-json")
		})
	}
}

func TestProgressOnATerminalIsDrawnOver(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, terminal: true, started: time.Now(), last: map[string]string{}, waits: map[string]waitLine{}}
	outcomes := []outcome{{name: "hello", status: hello(nil)}}
	p.draw(outcomes)
	p.draw(outcomes)
	if n := strings.Count(out.String(), "\x1b[2A"); n != 1 {
		t.Errorf("went up %d times by two lines: %q", n, out.String())
	}
	out.Reset()
	p.note("something")
	p.draw(outcomes)
	if text := out.String(); strings.Count(text, "\x1b[2A") != 1 || !strings.Contains(text, "something\n") {
		t.Errorf("a note must stay: %q", text)
	}
}
