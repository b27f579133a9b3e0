package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// flaky is a replica that binds its port late, loads for a while, and counts
// what it is sent.
type flaky struct {
	address string
	server  *http.Server
	loading atomic.Int32 // as often it still says that it cannot serve
	ready   atomic.Bool
	ongoing atomic.Int32
	most    atomic.Int32
	early   atomic.Int32 // requests that came before it was ready
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		if f.loading.Add(-1) >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.ready.Store(true)
		return
	}
	n := f.ongoing.Add(1)
	defer f.ongoing.Add(-1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
		continue
	}
	if !f.ready.Load() {
		f.early.Add(1)
	}
	_, _ = io.Copy(w, r.Body)
}

// TestFromZeroAndBackAgain has replicas come and go under load, from none to
// some and to none again, each of them listed before it can serve and not
// always called passing. Nothing is lost, no replica gets more than its limit
// or anything too early, and, which TestMain sees, no goroutine is left.
func TestFromZeroAndBackAgain(t *testing.T) {
	t.Parallel()
	const limit = 2
	var reports atomic.Int32
	view := func(es ...routes.Endpoint) routes.View {
		v := amend(coming(es...), func(d *routes.Deployment) {
			d.MaxOngoingRequests, d.MetricsInterval = limit, 100*time.Millisecond
		})
		return v
	}
	r := start(t, view(), func(c *Config) {
		c.Name = "churn"
		c.Loads = sinkFunc(func(_ context.Context, r loads.Report) error {
			if n := reports.Add(1); n%5 == 0 {
				return errAway
			}
			for _, d := range r.Deployments {
				if float64(d.Ongoing+d.Queued) > d.Max {
					t.Errorf("report %+v", d)
				}
			}
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			return nil
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int32
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for ctx.Err() == nil {
				body := fmt.Sprint("body ", sent.Add(1))
				if res, got := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader(body)); res.StatusCode != 200 || got != body {
					t.Errorf("%q: %d %s %q", body, res.StatusCode, res.Header.Get(errorHeader), got)
				}
			}
		})
	}
	var serving sync.WaitGroup
	for round := range 15 {
		var all []*flaky
		var listed []routes.Endpoint
		for i := range 1 + round%3 {
			f := &flaky{address: deadAddress(t)}
			f.server = &http.Server{Handler: f}
			f.loading.Store(rand.Int32N(4))
			all = append(all, f)
			e := unproven(fmt.Sprintf("r%d-%d", round, i))
			e.Address = f.address
			listed = append(listed, e)
		}
		r.discovery.set(view(slices.Clone(listed)...)) // from here on they are asked
		before := sent.Load()
		for i, f := range all {
			l := listenAt(t, f.address)
			listed = slices.Clone(listed)
			listed[i].Address = l.Addr().String()
			serving.Go(func() { _ = f.server.Serve(l) })
		}
		if round%2 == 0 {
			for i := range listed[:1+len(listed)/2] { // Consul was first
				all[i].ready.Store(true)
				listed[i].Passing, listed[i].Unproven = true, false
			}
		}
		r.discovery.set(view(listed...))
		eventually(t, "requests go on", func() bool { return sent.Load() > before+30 })
		r.discovery.set(view()) // to zero: out of Consul first
		eventually(t, "none is sent any more", func() bool { return len(r.Status().Deployments[0].Replicas) == 0 })
		for _, f := range all {
			if err := f.server.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if f.most.Load() > limit || f.early.Load() > 0 {
				t.Errorf("at most %d at once, %d too early", f.most.Load(), f.early.Load())
			}
		}
	}
	cancel()
	last := replicaServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	r.discovery.set(view(endpoint("last", last)))
	clients.Wait()
	serving.Wait()
	r.waitIdle(t)
	if reports.Load() == 0 {
		t.Error("nothing was reported")
	}
}

// listenAt listens at an address that was free a moment ago, or at another if
// it no longer is.
func listenAt(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sinkFunc is a LoadSink that is a function.
type sinkFunc func(ctx context.Context, r loads.Report) error

func (f sinkFunc) SendLoads(ctx context.Context, r loads.Report) error { return f(ctx, r) }

// TestFirstRequest has requests wait for a replica that takes a while to bind
// its port and to load, as Consul sees it: listed, and not passing.
func TestFirstRequest(t *testing.T) {
	t.Parallel()
	address := deadAddress(t)
	e := unproven("r0")
	e.Address = address
	r := start(t, coming())
	got := make(chan string, 3)
	for range 3 {
		go func() {
			res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("x"))
			got <- fmt.Sprint(res.StatusCode, " ", body)
		}()
	}
	eventually(t, "they wait", func() bool { _, queued := r.load(); return queued == 3 })
	r.discovery.set(coming(e))
	eventually(t, "it is listed", func() bool { return len(r.Status().Deployments[0].Replicas) == 1 })

	var loading, atOnce, most atomic.Int32
	loading.Store(3)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			if loading.Add(-1) >= 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if loading.Load() >= 0 {
			t.Error("a request before it could serve")
		}
		most.Store(max(most.Load(), atOnce.Add(1)))
		defer atOnce.Add(-1)
		_, _ = io.Copy(w, r.Body)
	})}
	var serving sync.WaitGroup
	l := listenAt(t, address)
	e.Address = l.Addr().String()
	serving.Go(func() { _ = s.Serve(l) })
	r.discovery.set(coming(e))
	for range 3 {
		if answer := <-got; answer != "200 x" {
			t.Errorf("got %s", answer)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
	if s := r.Status().Deployments[0].Replicas[0]; !s.Probed || s.Passing {
		t.Errorf("status %+v", s)
	}

	// It dies before Consul has seen it: the next requests take the ordinary
	// way of those that reach nobody.
	_ = s.Close()
	serving.Wait()
	go func() {
		res, _ := get(t, r.client, r.url+"/app")
		got <- fmt.Sprint(res.StatusCode)
	}()
	eventually(t, "it is found dead", func() bool { return !r.Status().Deployments[0].Replicas[0].Probed })
	another := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
	r.discovery.set(coming(e, endpoint("r1", another)))
	if answer := <-got; answer != "200" {
		t.Errorf("got %s", answer)
	}
}

// unproven is an endpoint that only its own health check keeps from passing.
func unproven(id string) routes.Endpoint {
	e := endpoint(id, id+":1")
	e.Passing, e.Unproven = false, true
	return e
}

// coming is a view whose deployment has a health path, and those endpoints.
func coming(es ...routes.Endpoint) routes.View {
	v := amend(app{ongoing: 1, queued: -1}.view(), func(d *routes.Deployment) { d.HealthPath = "/healthz" })
	v.Endpoints = es
	return v
}
