package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/routes"
	"github.com/serve-nomad/serve-nomad/telemetry"
)

// instance is one proxy that is to be started.
type instance struct {
	Dir      string   `json:"dir"`      // for its configuration
	Address  string   `json:"address"`  // HTTP/1.1
	H2       string   `json:"h2"`       // HTTP/2 without TLS; may be Address
	Prefix   string   `json:"prefix"`   // taken off the path; "": nothing
	Backends []string `json:"backends"` // host:port
	Profile  string   `json:"profile"`  // file for a CPU profile; "": none
	Protocol string   `json:"protocol"` // of the backends, as a specification names it; "": HTTP/1.1
}

// maxOngoing is how many requests a proxy sends to one backend at a time.
const maxOngoing = 1000

// runGo runs a server written in Go until SIGTERM. Its argument is the instance
// as JSON.
func runGo(args []string, serve func(context.Context, instance) error) error {
	var i instance
	if err := json.Unmarshal([]byte(args[0]), &i); err != nil {
		return fmt.Errorf("read the instance: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if i.Profile == "" {
		return serve(ctx, i)
	}
	f, err := os.Create(i.Profile)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return serve(ctx, i)
}

// fixed is a proxy.Discovery that never changes.
type fixed struct{ view routes.View }

func (f fixed) View() routes.View                           { return f.view }
func (fixed) Updates() <-chan struct{}                      { return nil }
func (fixed) SendLoads(context.Context, loads.Report) error { return nil }

// serveOurs runs package proxy as `serve-nomad proxy` does: with a request
// timeout, a limit that a gatekeeper keeps, a bounded queue, metrics and reports of the
// load, from a table that is fixed instead of read from Consul.
func serveOurs(ctx context.Context, i instance) error { return serveProxy(ctx, i, nil) }

// serveProxy runs it, with another handler than its own if there is one.
func serveProxy(ctx context.Context, i instance, instead http.Handler) error {
	prefix := i.Prefix
	if prefix == "" {
		prefix = "/"
	}
	f := fixed{routes.View{
		Known: true,
		Table: routes.Table{"app": {
			Schema: routes.Schema, Application: "app", RoutePrefix: prefix, Ingress: "main", RequestTimeout: time.Minute,
			Deployments: map[string]routes.Deployment{"main": {
				Service: "serve-app-main", Version: "v1", Protocol: i.Protocol, HealthPath: "/healthz", HealthPeriod: 10 * time.Second,
				MaxOngoingRequests: maxOngoing, MaxQueuedRequests: 10000, MetricsInterval: 100 * time.Millisecond,
			}},
		}},
	}}
	for n, address := range i.Backends {
		f.view.Endpoints = append(f.view.Endpoints, routes.Endpoint{
			Replica: fmt.Sprintf("replica-%04d", n), Application: "app", Deployment: "main",
			Version: "v1", Address: address, Node: "node", Passing: true,
		})
	}
	log := hclog.NewNullLogger()
	metrics, err := telemetry.New(ctx, telemetry.Config{Version: "bench", Name: "bench"}, log)
	if err != nil {
		return err
	}
	slots, err := keepSlots(ctx, log)
	if err != nil {
		return err
	}
	defer slots.Close()
	f.view.Gatekeepers = []routes.Gatekeeper{{Address: slots.Own(), Passing: true}}
	p := proxy.New(proxy.Config{
		Discovery: f, Loads: f, Name: "bench", Observer: metrics, Metrics: metrics.Handler(), Slots: slots,
	}, log)
	metrics.Watch(p)
	go metrics.Run(ctx)
	if os.Getenv("GOGC") == "" {
		go proxy.PaceCollector(ctx)
	}
	go p.Run(ctx)
	l, err := net.Listen("tcp", i.Address) //nolint:noctx // it listens until ctx ends
	if err != nil {
		return err
	}
	s := p.Server(i.Address)
	if instead != nil {
		s.Handler, s.Fallback.Handler = instead, instead
	}
	return serveUntil(ctx, s, l)
}

// keepSlots returns the gatekeeper of this host, which has begun.
func keepSlots(ctx context.Context, log hclog.Logger) (*gatekeeper.Gatekeeper, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens until ctx ends
	if err != nil {
		return nil, err
	}
	g := gatekeeper.New(gatekeeper.Config{Name: "bench"}, log)
	go func() { _ = g.Keep(l, l.Addr().String()) }() // until the end, which is no fault
	for g.Own() == "" {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return g, nil
}

// serveReverseProxy runs the standard library's proxy, with as many kept
// connections as it needs.
func serveReverseProxy(ctx context.Context, i instance) error {
	var next atomic.Uint64
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: maxOngoing}
	rp := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: i.Backends[next.Add(1)%uint64(len(i.Backends))]})
			r.Out.Host = r.In.Host
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, i.Prefix)
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, i.Prefix)
			r.SetXForwarded()
			r.Out.Header.Set("X-Request-Id", "0123456789abcdef0123456789abcdef")
		},
	}
	l, err := net.Listen("tcp", i.Address) //nolint:noctx // it listens until ctx ends
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return serveUntil(ctx, &http.Server{Handler: rp, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}, l)
}

// server is one of net/http or of ours.
type server interface {
	Serve(l net.Listener) error
	Close() error
}

// serveUntil serves until ctx ends, and then closes at once.
func serveUntil(ctx context.Context, s server, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // Serve says it
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
