package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fakeCluster is a Cluster of one server without Raft: it applies commands at
// once, in memory.
type fakeCluster struct {
	mu        sync.Mutex
	view      *serve.View
	changed   chan struct{}
	leads     bool
	transport http.RoundTripper
	propose   func(raftstate.Command) error // nil: apply
	proposed  []raftstate.Command
	waiters   atomic.Int64
}

func newFakeCluster() *fakeCluster {
	state, _ := (&raftstate.State{}).Apply(1, raftstate.Command{InitCluster: &raftstate.InitCluster{ClusterID: "c1"}})
	return &fakeCluster{
		leads: true, changed: make(chan struct{}),
		view: &serve.View{Index: 1, State: state, World: &reconcile.World{
			NomadKnown: true, ConsulKnown: true, Jobs: map[string]reconcile.Job{},
		}},
	}
}

func (f *fakeCluster) View() *serve.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

func (f *fakeCluster) Wait(ctx context.Context, index uint64) *serve.View {
	for {
		f.mu.Lock()
		view, changed := f.view, f.changed
		f.mu.Unlock()
		if view.Index != index {
			return view
		}
		f.waiters.Add(1)
		select {
		case <-ctx.Done():
			f.waiters.Add(-1)
			return view
		case <-changed:
			f.waiters.Add(-1)
		}
	}
}

// awaitWaiter returns when somebody waits for a change.
func (f *fakeCluster) awaitWaiter(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if f.waiters.Load() > 0 {
			return
		}
		<-tick.C
	}
	t.Fatal("nobody waits")
}

// update publishes a changed View.
func (f *fakeCluster) update(change func(*serve.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locked(change)
}

func (f *fakeCluster) locked(change func(*serve.View)) {
	next := *f.view
	change(&next)
	next.Index++
	f.view = &next
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeCluster) Propose(_ context.Context, c raftstate.Command) (raftstate.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proposed = append(f.proposed, c)
	if !f.leads {
		return raftstate.Result{}, serve.ErrNoLeader
	}
	if f.propose != nil {
		if err := f.propose(c); err != nil {
			return raftstate.Result{}, err
		}
	}
	data, err := raftstate.Encode(c)
	if err != nil {
		return raftstate.Result{}, err
	}
	stored, err := raftstate.Decode(data)
	if err != nil {
		return raftstate.Result{}, err
	}
	state, result := f.view.State.Apply(f.view.State.Index+1, stored)
	f.locked(func(v *serve.View) { v.State = state })
	return result, nil
}

func (f *fakeCluster) IsLeader() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leads
}

func (f *fakeCluster) setLeads(leads bool) {
	f.mu.Lock()
	f.leads = leads
	f.mu.Unlock()
	f.update(func(*serve.View) {})
}

func (f *fakeCluster) Leader() (id, address string) {
	if f.IsLeader() || f.transport != nil {
		return "s1", "127.0.0.1:7000"
	}
	return "", ""
}

func (f *fakeCluster) Peers() []serve.Peer {
	return []serve.Peer{{ID: "s1", Address: "127.0.0.1:7000", Leader: f.IsLeader(), Voter: true}}
}

func (f *fakeCluster) LeaderTransport() http.RoundTripper {
	if f.transport == nil {
		return roundTrip(func(*http.Request) (*http.Response, error) { return nil, serve.ErrNoLeader })
	}
	return f.transport
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// toServer reaches one server, whatever the URL says.
func toServer(s *httptest.Server) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		out := r.Clone(r.Context())
		out.URL.Host = s.Listener.Addr().String()
		return http.DefaultTransport.RoundTrip(out)
	})
}

// previewer plans with reconcile, against the fake's own View.
type previewer struct {
	cluster *fakeCluster
	err     error
	room    func([]reconcile.JobCount) (nodescale.Outlook, []string, error) // nil: there is
	mute    []string                                                        // what cannot be read
}

func (p *previewer) Unreadable(context.Context, raftstate.Command) []string { return p.mute }

func (p *previewer) Preview(command raftstate.Command) ([]reconcile.Step, error) {
	if p.err != nil {
		return nil, p.err
	}
	view := p.cluster.View()
	return reconcile.Preview(view.State, view.World, time.Now(), reconcile.Settings{}, command)
}

func (p *previewer) Room(_ context.Context, _ raftstate.Command, steps []reconcile.Step) (nodescale.Outlook, []string, error) {
	if p.room == nil {
		return nodescale.Outlook{}, nil, nil
	}
	return p.room(reconcile.JobCounts(p.cluster.View().World, steps))
}

// instance is a server with its cluster and a client of it.
type instance struct {
	*fakeCluster
	server  *serve.Server
	http    *httptest.Server
	client  *serve.Client
	planner *previewer

	settledBy int // commands
}

func start(t *testing.T, adjust ...func(*serve.ServerConfig)) *instance {
	t.Helper()
	cluster := newFakeCluster()
	planner := &previewer{cluster: cluster}
	ids := 0
	cfg := serve.ServerConfig{
		Cluster: cluster, Planner: planner, Logs: fakeLogs{},
		Info: serve.ServerInfo{ID: "s1", Name: "one", Version: "1.2.3", Nomad: "http://nomad", Consul: "http://consul"},
		NewID: func() string {
			ids++
			return "generated-" + strconv.Itoa(ids)
		},
		ProposeLimit: time.Second,
	}
	for _, a := range adjust {
		a(&cfg)
	}
	server := serve.NewServer(cfg)
	ts := httptest.NewUnstartedServer(server)
	ctx, cancel := context.WithCancel(t.Context())
	ts.Config = server.HTTPServer(ctx)
	ts.Start()
	t.Cleanup(func() {
		cancel()
		ts.Close()
	})
	client, err := serve.NewClient(serve.ClientConfig{Address: ts.URL, HTTPClient: ts.Client(), RetryFor: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return &instance{fakeCluster: cluster, server: server, http: ts, client: client, planner: planner}
}

// spec is a valid application with one deployment.
func spec(name string) *appspec.Application {
	return &appspec.Application{
		Name: name, RoutePrefix: "/" + name, Ingress: "web",
		Deployments: []*appspec.Deployment{{
			Name: "web", NumReplicas: 2, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Resources: appspec.Resources{CPU: 0.5, MemoryMB: 128},
			Task: &api.Task{Driver: "raw_exec", Config: map[string]any{
				"command": "/bin/web", "args": []any{"-port", "1"},
			}},
			HealthCheck: appspec.HealthCheck{
				Path: "/healthz", Period: appspec.Duration(2 * time.Second), Timeout: appspec.Duration(time.Second),
			},
			GracefulShutdownTimeout: appspec.Duration(20 * time.Second),
		}},
	}
}

// deployed deploys an application, with one running replica of it.
func (i *instance) deployed(t *testing.T, name string) {
	t.Helper()
	if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{spec(name)}}); err != nil {
		t.Fatal(err)
	}
	jobID := "serve-" + name + "-web-1"
	i.update(func(v *serve.View) {
		w := *v.World
		w.Jobs = map[string]reconcile.Job{jobID: {ID: jobID, ClusterID: "c1", Application: name, Deployment: "web", Version: "1"}}
		w.Replicas = []reconcile.Replica{
			{ID: "aaaa1111-old", JobID: jobID, Status: reconcile.ReplicaRunning, CreatedAt: time.Unix(100, 0)},
			{ID: "aaaa2222-new", JobID: jobID, Status: reconcile.ReplicaRunning, CreatedAt: time.Unix(200, 0)},
			{ID: "bbbb3333-pending", JobID: jobID, Status: reconcile.ReplicaPending, CreatedAt: time.Unix(300, 0)},
			{ID: "cccc4444-stopped", JobID: jobID, Status: reconcile.ReplicaStopped, CreatedAt: time.Unix(400, 0)},
		}
		v.World = &w
	})
}

// settled deploys an application and does all that follows from it, in a world
// where everything works at once.
func (i *instance) settled(t *testing.T, app *appspec.Application) {
	t.Helper()
	i.update(func(v *serve.View) {
		v.World = &reconcile.World{NomadKnown: true, ConsulKnown: true, CoreMHz: map[string]int{"": 1000, "default": 1000}}
	})
	if _, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{app}}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		view := i.View()
		steps := reconcile.Diff(view.State, view.World, time.Now(), reconcile.Settings{}).Steps
		if len(steps) == 0 {
			return
		}
		for _, step := range steps {
			if step.Propose != nil {
				i.settledBy++
				i.mustApply(t, *step.Propose)
				continue
			}
			i.update(func(v *serve.View) { v.State, v.World = reconcile.Simulate(v.State, v.World, time.Now(), step) })
		}
	}
	t.Fatal("it does not settle")
}

func asError(t *testing.T, err error) *serve.Error {
	t.Helper()
	var e *serve.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an api.Error", err)
	}
	return e
}
