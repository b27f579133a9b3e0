package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/routes"
)

// TestMain looks for goroutines that stay. An HTTP/2 server keeps a connection
// that it has ended for a second, and goleak waits less than that.
func TestMain(m *testing.M) {
	code := m.Run()
	var leak error
	for range 20 {
		if leak = goleak.Find(); leak == nil {
			break
		}
	}
	if leak != nil && code == 0 {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// patience bounds what has to happen and would otherwise hang the test.
const patience = 30 * time.Second

// span returns how long a test that can go on for any time is to go on: short,
// or the minutes of the long form.
func span(tb testing.TB, short time.Duration) time.Duration {
	tb.Helper()
	text := os.Getenv("SERVE_NOMAD_CONFORMANCE_MINUTES")
	if text == "" {
		return short
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil || minutes <= 0 {
		tb.Fatalf("SERVE_NOMAD_CONFORMANCE_MINUTES is %q: it must be a number of minutes above 0", text)
	}
	return time.Duration(minutes * float64(time.Minute))
}

// long says whether the long form runs.
func long() bool { return os.Getenv("SERVE_NOMAD_CONFORMANCE_MINUTES") != "" }

// discovery is a proxy.Discovery that a test sets.
type discovery struct {
	mu      sync.Mutex
	view    routes.View
	updates chan struct{}
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
	default: // one is on its way, and the newest view is read
	}
}

// application is one application with one deployment, which has its name.
type application struct {
	name, prefix    string
	ongoing, queued int // queued below 0: no limit
	timeout         time.Duration
	replicas        []string // addresses
}

// app is an application "app" at /app.
func app(ongoing int, replicas ...string) application {
	return application{name: "app", prefix: "/app", ongoing: ongoing, queued: -1, replicas: replicas}
}

func viewOf(apps ...application) routes.View {
	v := routes.View{Known: true, Table: routes.Table{}}
	for _, a := range apps {
		v.Table[a.name] = routes.Route{
			Schema: routes.Schema, Application: a.name, RoutePrefix: a.prefix, Ingress: a.name, RequestTimeout: a.timeout,
			Deployments: map[string]routes.Deployment{a.name: {
				Service: "serve-" + a.name, Version: "v1", MaxOngoingRequests: a.ongoing, MaxQueuedRequests: a.queued,
			}},
		}
		for _, address := range a.replicas {
			v.Endpoints = append(v.Endpoints, routes.Endpoint{
				Replica: a.name + "@" + address, Application: a.name, Deployment: a.name, Version: "v1",
				Address: address, Passing: true,
			})
		}
	}
	return v
}

// rig is proxies that listen and see the same routes.
type rig struct {
	proxies     []*proxy.Proxy
	discoveries []*discovery
	addrs       []string // of the public ports
	keepers     []routes.Gatekeeper
	addr        string // the first of addrs
	url         string // of the first
	client      *http.Client
}

// options are what a test may want of its proxies.
type options struct {
	proxies   int
	configure func(*proxy.Config)
	keepers   bool // each proxy keeps the book of the replicas on its host
}

func start(tb testing.TB, v routes.View, configure ...func(*proxy.Config)) *rig {
	tb.Helper()
	return startWith(tb, v, options{proxies: 1, configure: func(c *proxy.Config) {
		for _, f := range configure {
			f(c)
		}
	}})
}

func startWith(tb testing.TB, v routes.View, o options) *rig {
	tb.Helper()
	r := &rig{client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true},
	}}
	for range o.proxies {
		r.addProxy(tb, v, o)
	}
	r.publish(v)
	r.addr, r.url = r.addrs[0], "http://"+r.addrs[0]
	tb.Cleanup(r.client.CloseIdleConnections)
	eventually(tb, "the proxies are ready", func() bool {
		for _, p := range r.proxies {
			if !p.Status().Ready {
				return false
			}
		}
		return true
	})
	return r
}

func (r *rig) addProxy(tb testing.TB, v routes.View, o options) {
	tb.Helper()
	d := &discovery{view: v, updates: make(chan struct{}, 1)}
	config := proxy.Config{Discovery: d, Name: fmt.Sprint("proxy", len(r.proxies))}
	if o.configure != nil {
		o.configure(&config)
	}
	if o.keepers {
		g, known := keep(tb, len(r.proxies))
		config.Slots, r.keepers = g, append(r.keepers, known)
	}
	p := proxy.New(config, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { p.Run(ctx) })
	l := listen(tb)
	s := p.Server("")
	parts.Go(func() { _ = s.Serve(l) }) // the drain ends it
	r.proxies, r.discoveries, r.addrs = append(r.proxies, p), append(r.discoveries, d), append(r.addrs, l.Addr().String())
	tb.Cleanup(func() {
		r.client.CloseIdleConnections()
		limit, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := p.Drain(limit); err != nil {
			tb.Errorf("drain at the end of the test: %v", err)
		}
		cancel()
		parts.Wait()
	})
}

// publish shows every proxy another view.
func (r *rig) publish(v routes.View) {
	v.Gatekeepers = r.keepers
	for _, d := range r.discoveries {
		d.set(v)
	}
}

// ongoing returns what the proxies say is under way and waits.
func (r *rig) ongoing() (ongoing, queued int) {
	for _, p := range r.proxies {
		for _, d := range p.Status().Deployments {
			ongoing += d.Ongoing
			queued += d.Queued
		}
	}
	return ongoing, queued
}

// waitIdle waits until every slot has been given back.
func (r *rig) waitIdle(tb testing.TB) {
	tb.Helper()
	eventually(tb, "every slot is free", func() bool {
		ongoing, queued := r.ongoing()
		return ongoing == 0 && queued == 0
	})
}

// get asks for a path and returns the response with its body.
func (r *rig) get(tb testing.TB, path string) (*http.Response, string) {
	tb.Helper()
	res, err := r.client.Get(r.url + path)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(b)
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// replica starts an HTTP server that a test uses as a replica.
func replica(tb testing.TB, h http.HandlerFunc) (address string) {
	tb.Helper()
	l := listen(tb)
	s := &http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Close
	tb.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// rawReplica starts a TCP server that hands each connection to serve.
func rawReplica(tb testing.TB, serve func(nc *net.TCPConn)) (address string) {
	tb.Helper()
	l := listen(tb)
	var parts sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	parts.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[nc] = true
			late := closed
			mu.Unlock()
			if late {
				nc.Close()
			}
			parts.Go(func() {
				defer func() {
					nc.Close()
					mu.Lock()
					delete(open, nc)
					mu.Unlock()
				}()
				serve(nc.(*net.TCPConn))
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		mu.Lock()
		closed = true
		for nc := range open {
			nc.Close()
		}
		mu.Unlock()
		parts.Wait()
	})
	return l.Addr().String()
}

// dial connects, for as long as the test may last.
func dial(tb testing.TB, addr string) *net.TCPConn {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	return nc.(*net.TCPConn)
}

func write(tb testing.TB, w io.Writer, s string) {
	tb.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		tb.Fatalf("write %.80q: %v", s, err)
	}
}

// readHead reads one response's head, and what it says of its body stays to be
// read.
func readHead(tb testing.TB, br *bufio.Reader) *http.Response {
	tb.Helper()
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		tb.Fatalf("read a response: %v", err)
	}
	return res
}

// eventually waits for a condition that comes true by itself.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
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
