package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestH2Asker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, service)
	service.SetServingStatus("up.v1.Up", healthpb.HealthCheckResponse_SERVING)
	service.SetServingStatus("down.v1.Down", healthpb.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	withHealth := l.Addr().String()

	without := func() string { // gRPC without its health service
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Stop(); <-done })
		return l.Addr().String()
	}()
	h2c, _ := h2Replica(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	h1 := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
	silent := rawReplica(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })

	ofGRPC := func(service string) healthCheck {
		return newHealthCheck(routes.Deployment{Protocol: routes.ProtocolGRPC, HealthService: service})
	}
	ofH2C := func(path string) healthCheck {
		return newHealthCheck(routes.Deployment{Protocol: routes.ProtocolH2C, HealthPath: path})
	}
	for name, c := range map[string]struct {
		address string
		check   healthCheck
		says    string // "": it serves
	}{
		"gRPC that serves":                    {withHealth, ofGRPC(""), ""},
		"a service that serves":               {withHealth, ofGRPC("up.v1.Up"), ""},
		"a service that does not":             {withHealth, ofGRPC("down.v1.Down"), "SERVING"},
		"a service that is not known":         {withHealth, ofGRPC("x"), `status "5"`},
		"gRPC without a health service":       {without, ofGRPC(""), `status "12"`},
		"h2c that answers 200":                {h2c, ofH2C("/up"), ""},
		"h2c that answers 503":                {h2c, ofH2C("/down"), "status 503"},
		"h2c that is only connected to":       {h2c, ofH2C(""), ""},
		"HTTP/1.1 in the place of h2c":        {h1, ofH2C(""), "HTTP/2"},
		"HTTP/1.1 in the place of gRPC":       {h1, ofGRPC(""), "HTTP/2"},
		"h2c in the place of gRPC":            {h2c, ofGRPC(""), "status 503"},
		"who takes connections and is silent": {silent, ofH2C(""), "HTTP/2"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if c.address == silent {
				cancel()
			}
			err := newH2Asker()(ctx, c.address, c.check)
			switch {
			case c.address == silent && err != nil:
			case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// TestProbeOverGRPC holds that a request which waits goes out as soon as a
// replica's health service says that it serves, before Consul does.
func TestProbeOverGRPC(t *testing.T) {
	address, _ := grpcReplica(t, &service{})
	v := speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address}})
	v = amend(v, func(d *routes.Deployment) { d.HealthPeriod = time.Minute })
	v.Endpoints[0].Passing, v.Endpoints[0].Unproven = false, true
	r := start(t, v)
	if _, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1)); err != nil {
		t.Error(err)
	}
	if s := r.Status().Deployments[0].Replicas; len(s) != 1 || !s[0].Probed {
		t.Errorf("%+v", s)
	}
}

func TestHealthCheckOfTheTable(t *testing.T) {
	for name, c := range map[string]struct {
		d    routes.Deployment
		want healthCheck
	}{
		"none":             {routes.Deployment{}, healthCheck{}},
		"a path":           {routes.Deployment{HealthPath: "/x"}, healthCheck{path: "/x"}},
		"http by name":     {routes.Deployment{Protocol: "http", HealthPath: "/x"}, healthCheck{path: "/x"}},
		"a bad path":       {routes.Deployment{HealthPath: "x y"}, healthCheck{}},
		"h2c":              {routes.Deployment{Protocol: "h2c"}, healthCheck{protocol: "h2c"}},
		"h2c and bad path": {routes.Deployment{Protocol: "h2c", HealthPath: "x"}, healthCheck{}},
		"grpc":             {routes.Deployment{Protocol: "grpc", HealthPath: "/x", HealthService: "s"}, healthCheck{protocol: "grpc", service: "s"}},
	} {
		if got := newHealthCheck(c.d); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
