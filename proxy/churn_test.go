package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/serve-nomad/serve-nomad/gate"
)

// TestOrderlyChangesLoseNothing replaces replicas under load, by scaling and by
// new versions, each of them as Nomad does: out of the endpoints first, then
// told to stop. The requests are such that none can be sent twice.
func TestOrderlyChangesLoseNothing(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 2, queued: -1}.view())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent, lost atomic.Int32
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				body := fmt.Sprint("body ", sent.Add(1))
				if res, got := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader(body)); res.StatusCode != 200 || got != body {
					lost.Add(1)
					t.Errorf("%q: %d %s %q", body, res.StatusCode, res.Header.Get(errorHeader), got)
				}
			}
		})
	}

	type running struct {
		id      string
		version string
		server  *http.Server
		address string
	}
	var replicas []running
	var serving sync.WaitGroup
	add := func(id, version string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
		serving.Go(func() { _ = s.Serve(l) })
		replicas = append(replicas, running{id, version, s, l.Addr().String()})
	}
	publish := func(version string) {
		v := app{ongoing: 2, queued: -1}.view()
		d := v.Table["app"].Deployments["main"]
		d.Version = version
		v.Table["app"].Deployments["main"] = d
		for _, e := range replicas {
			at := endpoint(e.id, e.address)
			at.Version = e.version
			v.Endpoints = append(v.Endpoints, at)
		}
		r.discovery.set(v)
	}
	version := "v0"
	for i := range 40 {
		before := sent.Load()
		gone := replicas
		if i%4 == 0 { // a new version takes over
			version = fmt.Sprint("v", i)
			add(fmt.Sprint("a", i), version)
			add(fmt.Sprint("b", i), version)
			publish(version)
			replicas = slices.Clone(replicas[len(gone):])
		} else { // one replica comes and one goes
			add(fmt.Sprint("c", i), version)
			gone, replicas = replicas[:1:1], slices.Clone(replicas[1:])
		}
		publish(version)
		// What has been given a slot by then is sent within Nomad's
		// shutdown_delay, which the wait for those that leave stands for.
		eventually(t, "the change is seen", func() bool {
			known := r.Status().Deployments[0].Replicas
			return len(known) == len(replicas) && !slices.ContainsFunc(known, func(k gate.ReplicaStatus) bool {
				return !slices.ContainsFunc(replicas, func(e running) bool { return e.id == k.Replica })
			})
		})
		for _, e := range gone {
			if err := e.server.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "requests go on", func() bool { return sent.Load() > before+20 })
	}
	cancel()
	clients.Wait()
	for _, e := range replicas {
		_ = e.server.Close()
	}
	serving.Wait()
	if lost.Load() > 0 {
		t.Errorf("%d of %d requests lost", lost.Load(), sent.Load())
	}
	r.waitIdle(t)
}
