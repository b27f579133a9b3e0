package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/h1"
	"github.com/serve-nomad/serve-nomad/routes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// discovery is a Discovery that a test sets.
type discovery struct {
	mu      sync.Mutex
	view    routes.View
	updates chan struct{}
}

func newDiscovery(v routes.View) *discovery {
	return &discovery{view: v, updates: make(chan struct{}, 1)}
}

func (d *discovery) View() routes.View {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}

func (d *discovery) Updates() <-chan struct{} { return d.updates }

func (d *discovery) set(v routes.View) {
	d.mu.Lock()
	d.view = v
	d.mu.Unlock()
	select {
	case d.updates <- struct{}{}:
	default:
	}
}

// app is a view of one application "app" at /app with one deployment "main".
type app struct {
	ongoing, queued int
	timeout         time.Duration
	addresses       []string
}

func (a app) view() routes.View {
	v := routes.View{
		Known: true,
		Table: routes.Table{"app": {
			Schema: routes.Schema, Application: "app", RoutePrefix: "/app", Ingress: "main", RequestTimeout: a.timeout,
			Deployments: map[string]routes.Deployment{"main": {
				Service: "serve-app-main", Version: "v1",
				MaxOngoingRequests: a.ongoing, MaxQueuedRequests: a.queued,
			}},
		}},
	}
	for i, address := range a.addresses {
		v.Endpoints = append(v.Endpoints, endpoint(fmt.Sprintf("r%d", i), address))
	}
	return v
}

func endpoint(id, address string) routes.Endpoint {
	return routes.Endpoint{Replica: id, Application: "app", Deployment: "main", Version: "v1", Address: address, Passing: true}
}

// rig is a proxy that listens.
type rig struct {
	*Proxy
	discovery *discovery
	url       string // of the public port
	handleURL string
	addr      string // of the public port
	client    *http.Client
}

func start(tb testing.TB, v routes.View, configure ...func(*Config)) *rig {
	tb.Helper()
	d := newDiscovery(v)
	config := Config{Discovery: d}
	for _, f := range configure {
		f(&config)
	}
	p := New(config, hclog.NewNullLogger())
	p.apply(v)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	r := &rig{Proxy: p, discovery: d, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}}}
	serve := func(s *h1.Server) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		wg.Go(func() { _ = s.Serve(l) })
		tb.Cleanup(func() { _ = s.Close() })
		return l.Addr().String()
	}
	r.addr = serve(p.Server(""))
	r.url = "http://" + r.addr
	r.handleURL = "http://" + serve(p.HandleServer(""))
	tb.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		short, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		if err := p.Drain(short); err != nil {
			tb.Errorf("drain at the end of the test: %v", err)
		}
		wg.Wait()
	})
	return r
}

// replicaServer starts an HTTP server that a test uses as a replica.
func replicaServer(tb testing.TB, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// rawReplica starts a TCP server that hands each connection to serve.
func rawReplica(tb testing.TB, serve func(nc net.Conn, br *bufio.Reader)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[nc] = true
			mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				serve(nc, bufio.NewReader(nc))
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		mu.Lock()
		for nc := range open {
			nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one request with its body and fails the connection otherwise.
func readRequest(br *bufio.Reader) (*http.Request, string, bool) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, "", false
	}
	b, err := io.ReadAll(r.Body)
	return r, string(b), err == nil
}

// eventually waits for a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			tb.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// load returns what the proxy says of the deployment app/main.
func (r *rig) load() (ongoing, queued int) {
	for _, d := range r.Status().Deployments {
		if d.Application == "app" && d.Deployment == "main" {
			return d.Ongoing, d.Queued
		}
	}
	return 0, 0
}

func (r *rig) waitIdle(tb testing.TB) {
	tb.Helper()
	eventually(tb, "every slot is free", func() bool {
		ongoing, queued := r.load()
		return ongoing == 0 && queued == 0
	})
}

func get(tb testing.TB, c *http.Client, url string) (*http.Response, string) {
	tb.Helper()
	return do(tb, c, http.MethodGet, url, nil)
}

func do(tb testing.TB, c *http.Client, method, url string, body io.Reader) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return send(tb, c, req)
}

func send(tb testing.TB, c *http.Client, req *http.Request) (*http.Response, string) {
	tb.Helper()
	res, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatalf("read the body: %v", err)
	}
	return res, string(b)
}

// rawRequest writes bytes to addr and reads one response.
func rawRequest(tb testing.TB, addr, request string) (*http.Response, string) {
	tb.Helper()
	nc := dial(tb, addr)
	if _, err := io.WriteString(nc, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		tb.Fatalf("read the response to %q: %v", request, err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res, string(b)
}

func dial(tb testing.TB, addr string) *net.TCPConn {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	return nc.(*net.TCPConn)
}

// tcpPair returns both ends of a connection.
func tcpPair(tb testing.TB) (far, near *net.TCPConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	near = dial(tb, l.Addr().String())
	nc, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn), near
}
