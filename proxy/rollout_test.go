package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// fleet is the replicas of a rollout, and what Consul says of it to two proxies.
type fleet struct {
	t     *testing.T
	rigs  []*rig
	route routes.Route
	all   map[string]*ship

	answered atomic.Int64 // requests, of all clients
	copies   atomic.Int64
}

// ship is one replica.
type ship struct {
	endpoint routes.Endpoint
	server   *http.Server
	served   atomic.Int64
}

// launch starts replicas of a version.
func (f *fleet) launch(version string, n int) {
	f.t.Helper()
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.t.Fatal(err)
		}
		s := &ship{endpoint: endpoint(fmt.Sprint(version, "-", i), l.Addr().String())}
		s.endpoint.Version = version
		s.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(s, w, r) })}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.server.Serve(l) }()
		f.t.Cleanup(func() { _ = s.server.Close(); <-done })
		f.all[s.endpoint.Replica] = s
	}
}

// serve answers as the request asks: at once, or in pieces.
func (f *fleet) serve(s *ship, w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(shadowHeader) != "" {
		f.copies.Add(1)
	} else {
		s.served.Add(1)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	for range 3 {
		_, _ = io.WriteString(w, "data: x\n")
		if r.URL.Query().Has("stream") {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond) // its work: not a way to wait for anything
		}
	}
}

func (f *fleet) view() routes.View {
	v := routes.View{Known: true, Table: routes.Table{"app": f.route}}
	for _, s := range f.all {
		v.Endpoints = append(v.Endpoints, s.endpoint)
	}
	return v
}

// publish has the proxies see what there is, one a little after the other.
func (f *fleet) publish() {
	v := f.view()
	for _, r := range f.rigs {
		r.discovery.set(v)
		f.pass(5)
	}
}

// pass waits until so many more requests have been answered.
func (f *fleet) pass(n int64) {
	f.t.Helper()
	from := f.answered.Load()
	eventually(f.t, "requests are answered", func() bool { return f.answered.Load() >= from+n || f.t.Failed() })
}

// stop ends the replicas of a version as Nomad does: they leave Consul, and then
// finish what they have begun.
func (f *fleet) stop(version string) {
	f.t.Helper()
	var leaving []*ship
	for id, s := range f.all {
		if s.endpoint.Version == version {
			leaving = append(leaving, s)
			delete(f.all, id)
		}
	}
	f.publish()
	var ended sync.WaitGroup
	for _, s := range leaving {
		ended.Go(func() {
			ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
			defer cancel()
			if err := s.server.Shutdown(ctx); err != nil {
				f.t.Errorf("a replica of %s does not end: %v", version, err)
			}
		})
	}
	ended.Wait()
}

// idle waits until no proxy has a request in a generation, which the leader does
// before it takes that out of the table.
func (f *fleet) idle(generation int) {
	f.t.Helper()
	for _, r := range f.rigs {
		eventually(f.t, "the generation has drained", func() bool { return ongoingIn(r, generation) == 0 })
	}
}

func (f *fleet) deployment(versions ...string) map[string]routes.Deployment {
	return map[string]routes.Deployment{"main": {
		Service: "serve-app-main", Version: versions[0], Also: versions[1:], MaxOngoingRequests: 4, MaxQueuedRequests: -1,
	}}
}

func (f *fleet) other(number, weight, shadow int, versions ...string) {
	f.route.Others = []routes.Generation{{Number: number, Weight: weight, Shadow: shadow, Ingress: "main", Deployments: f.deployment(versions...)}}
}

// client sends one request after the other, of all kinds, and all must be answered.
func (f *fleet) client(ctx context.Context, r *rig, n int) {
	for i := n; ctx.Err() == nil; i++ {
		method, url, body := http.MethodGet, r.url+"/app/x", io.Reader(nil)
		switch i % 4 {
		case 1:
			url += "?stream"
		case 2:
			method, body = http.MethodPost, io.LimitReader(endless{}, 100)
		}
		req, err := http.NewRequestWithContext(context.Background(), method, url, body)
		if err != nil {
			f.t.Error(err)
			return
		}
		res, err := r.client.Do(req)
		if err == nil {
			lines := 0
			for s := bufio.NewScanner(res.Body); s.Scan(); {
				lines++
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK || lines != 3 {
				err = fmt.Errorf("%d %s, %d lines of 3", res.StatusCode, res.Header.Get(errorHeader), lines)
			}
		}
		if err != nil {
			f.t.Errorf("%s %s: %v", method, url, err)
			return
		}
		f.answered.Add(1)
	}
}

// TestNothingIsLostInARollout takes an application through a rolling change, a
// canary that is rolled back, one that goes through, and a switch back, under
// load at two proxies that hear of each step at different times.
func TestNothingIsLostInARollout(t *testing.T) {
	f := &fleet{t: t, all: map[string]*ship{}, route: routes.Route{
		Schema: routes.Schema, Application: "app", RoutePrefix: "/app", Ingress: "main", RequestTimeout: 20 * time.Second, Watched: true,
	}}
	f.route.Deployments = f.deployment("v1")
	f.launch("v1", 3)
	for range 2 {
		f.rigs = append(f.rigs, start(t, f.view(), unheard))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	t.Cleanup(func() { cancel(); clients.Wait() })
	for _, r := range f.rigs {
		for i := range 8 {
			clients.Go(func() { f.client(ctx, r, i) })
		}
	}
	step := func(what string, do func()) {
		if do(); t.Failed() {
			t.Fatalf("at: %s", what)
		}
		f.publish()
		f.pass(100)
	}
	step("both versions", func() { f.launch("v2", 3); f.route.Deployments = f.deployment("v2", "v1") })
	step("the new one alone", func() { f.route.Deployments = f.deployment("v2") })
	step("the old one has ended", func() { f.stop("v1") })

	step("a canary starts, and gets copies", func() { f.launch("v3-g3", 2); f.other(3, 0, 50, "v3-g3") })
	step("a canary at 10", func() { f.other(3, 10, 0, "v3-g3") })
	step("it is rolled back", func() { f.other(3, 0, 0, "v3-g3"); f.publish(); f.idle(3); f.route.Others = nil })
	step("it has ended", func() { f.stop("v3-g3") })

	step("another canary", func() { f.launch("v4-g4", 3); f.other(4, 50, 0, "v4-g4") })
	step("it has all", func() { f.other(4, 100, 0, "v4-g4") })
	step("it becomes the route's own", func() {
		f.other(0, 0, 0, "v2")
		f.route.Generation, f.route.Deployments = 4, f.deployment("v4-g4")
		f.publish()
		f.idle(0)
		f.route.Others = nil
	})
	step("the old one has ended", func() { f.stop("v2") })
	step("a rolling change within it", func() { f.launch("v5-g4", 2); f.route.Deployments = f.deployment("v5-g4", "v4-g4") })
	step("the old version has ended", func() { f.route.Deployments = f.deployment("v5-g4"); f.publish(); f.stop("v4-g4") })
	cancel()
	clients.Wait()
	if f.copies.Load() == 0 {
		t.Error("no copy was sent")
	}
	for _, r := range f.rigs {
		eventually(t, "nothing is left but the new version", func() bool {
			list := r.Status().Deployments
			return len(list) >= 1 && list[len(list)-1].Version == "v5-g4" && list[len(list)-1].Ongoing == 0
		})
	}
	t.Logf("%d requests, all of them answered; %d copies", f.answered.Load(), f.copies.Load())
}
