package consulsd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// fakeConsul is a fake of the two parts of Consul's HTTP API that this package
// asks: KV and the health of services. It keeps Consul's rules for indexes and
// blocking queries, as read from the answers of Consul 1.20, and no more.
type fakeConsul struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change
	index    uint64
	kv       map[string]*api.KVPair
	services map[string][]*api.ServiceEntry
	touched  map[string]uint64 // "kv" or a service -> index of its last change
	broken   func(w http.ResponseWriter, r *http.Request) bool
	queries  int
	open     int // queries in flight
	mostOpen int
}

func newFakeConsul(t *testing.T) *fakeConsul {
	t.Helper()
	f := &fakeConsul{t: t, changed: make(chan struct{})}
	f.empty(100)
	f.server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.server.CloseClientConnections()
		f.server.Close()
	})
	return f
}

func (f *fakeConsul) client(cfg Config) *Client {
	f.t.Helper()
	cfg.Address = f.server.URL
	c, err := New(cfg, hclog.NewNullLogger())
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// empty is a restart without data: everything is gone and the index is low.
func (f *fakeConsul) empty(index uint64) {
	f.change(func() {
		f.index = index
		f.kv = map[string]*api.KVPair{}
		f.services = map[string][]*api.ServiceEntry{}
		f.touched = map[string]uint64{}
	})
}

func (f *fakeConsul) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeConsul) put(key string, value []byte) uint64 {
	f.change(func() {
		created := f.index
		if old := f.kv[key]; old != nil {
			created = old.CreateIndex
		}
		f.kv[key] = &api.KVPair{Key: key, Value: value, CreateIndex: created, ModifyIndex: f.index}
		f.touched["kv"] = f.index
	})
	return f.kv[key].ModifyIndex
}

func (f *fakeConsul) putRoute(route routes.Route) uint64 {
	f.t.Helper()
	value, err := json.Marshal(route)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.put("serve-nomad/routes/"+route.Application, value)
}

func (f *fakeConsul) drop(key string) {
	f.change(func() {
		delete(f.kv, key)
		f.touched["kv"] = f.index
	})
}

func (f *fakeConsul) register(service string, entries ...*api.ServiceEntry) {
	f.change(func() {
		f.services[service] = entries
		f.touched[service] = f.index
	})
}

// breakWith lets do answer instead, if it says so; nil mends.
func (f *fakeConsul) breakWith(do func(w http.ResponseWriter, r *http.Request) bool) {
	f.change(func() { f.broken = do })
	if do != nil {
		f.server.CloseClientConnections()
	}
}

func (f *fakeConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	broken := f.broken
	f.queries++
	f.open++
	f.mostOpen = max(f.mostOpen, f.open)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open--
	}()
	if broken != nil && broken(w, r) {
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/kv/"):
		f.serveKV(w, r, strings.TrimPrefix(r.URL.Path, "/v1/kv/"))
	case strings.HasPrefix(r.URL.Path, "/v1/health/service/"):
		service := strings.TrimPrefix(r.URL.Path, "/v1/health/service/")
		f.block(w, r, service, func() any { return append([]*api.ServiceEntry{}, f.services[service]...) })
	case r.URL.Path == "/v1/status/leader":
		fmt.Fprint(w, `"127.0.0.1:8300"`)
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeConsul) serveKV(w http.ResponseWriter, r *http.Request, key string) {
	if r.Method == http.MethodGet {
		f.block(w, r, "kv", func() any {
			var pairs []*api.KVPair
			for k, pair := range f.kv {
				if strings.HasPrefix(k, key) {
					pairs = append(pairs, pair)
				}
			}
			slices.SortFunc(pairs, func(a, b *api.KVPair) int { return strings.Compare(a.Key, b.Key) })
			return pairs
		})
		return
	}
	cas, err := strconv.ParseUint(r.URL.Query().Get("cas"), 10, 64)
	if err != nil {
		http.Error(w, "bad cas", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	old := f.kv[key]
	f.mu.Unlock()
	var have uint64
	if old != nil {
		have = old.ModifyIndex
	}
	if r.Method == http.MethodDelete && old == nil {
		fmt.Fprint(w, "true")
		return
	}
	if have != cas {
		fmt.Fprint(w, "false")
		return
	}
	if r.Method == http.MethodDelete {
		f.drop(key)
	} else {
		value := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(value)
		f.put(key, value)
	}
	fmt.Fprint(w, "true")
}

// block answers when what it reads has an index past the one that is asked
// with, or when the wait is over.
func (f *fakeConsul) block(w http.ResponseWriter, r *http.Request, what string, read func() any) {
	after, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		wait = 5 * time.Minute
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := false; ; {
		f.mu.Lock()
		index, changed, value := max(1, f.touched[what]), f.changed, read()
		f.mu.Unlock()
		if index > after || over {
			f.answer(w, index, value)
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeConsul) answer(w http.ResponseWriter, index uint64, value any) {
	w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
	if pairs, ok := value.([]*api.KVPair); ok && len(pairs) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(value)
}

// route returns a valid route of one deployment, called main.
func route(application string) routes.Route {
	return routes.Route{
		Schema:      routes.Schema,
		ClusterID:   "c1",
		Application: application,
		RoutePrefix: "/" + application,
		Ingress:     "main",
		Deployments: map[string]routes.Deployment{
			"main": {Service: "serve-" + application + "-main", Version: "0badcafe", MaxOngoingRequests: 5, MaxQueuedRequests: -1},
		},
	}
}

// replica returns an instance of a deployment called main, as Nomad registers it.
func replica(application, id string, port int) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node: &api.Node{Node: "node1", Address: "10.0.0.1"},
		Service: &api.AgentService{
			ID:      "_nomad-task-" + id,
			Service: "serve-" + application + "-main",
			Address: "127.0.0.1",
			Port:    port,
			Meta: map[string]string{
				"serve_application": application,
				"serve_deployment":  "main",
				"serve_version":     "0badcafe",
				"serve_replica":     id,
			},
		},
		Checks: api.HealthChecks{
			{CheckID: "serfHealth", Status: api.HealthPassing, Output: "Agent alive"},
			{CheckID: "c-" + id, ServiceID: "_nomad-task-" + id, Status: api.HealthPassing, Output: "200 OK"},
		},
	}
}

func critical(e *api.ServiceEntry, output string) *api.ServiceEntry {
	e.Checks[1].Status, e.Checks[1].Output = api.HealthCritical, output
	return e
}

func endpoint(application, id string, port int) routes.Endpoint {
	return routes.Endpoint{
		Replica: id, Application: application, Deployment: "main", Version: "0badcafe",
		Address: fmt.Sprintf("127.0.0.1:%d", port), Node: "node1", Passing: true,
	}
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		case <-ticker.C:
		}
	}
}
