package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serve-nomad/serve-nomad/routes"
)

// tinyConsul answers for one application with one replica, and never changes.
type tinyConsul struct {
	*httptest.Server
	replica string
	down    atomic.Bool
}

func newTinyConsul(t *testing.T, replica string) *tinyConsul {
	t.Helper()
	c := &tinyConsul{replica: replica}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() { c.CloseClientConnections(); c.Close() })
	return c
}

func (c *tinyConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.down.Load() {
		panic(http.ErrAbortHandler)
	}
	if r.URL.Query().Get("index") == "7" {
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		select {
		case <-r.Context().Done():
			return
		case <-time.After(wait):
		}
	}
	w.Header().Set("X-Consul-Index", "7")
	w.Header().Set("X-Consul-KnownLeader", "true")
	var answer any
	switch {
	case strings.Contains(r.URL.Path, "/routes"):
		value, _ := json.Marshal(routes.Route{
			Schema: routes.Schema, ClusterID: "c", Application: "app", RoutePrefix: "/app", Ingress: "main",
			Deployments: map[string]routes.Deployment{"main": {Service: "s", Version: "v", MaxOngoingRequests: 1000, MaxQueuedRequests: -1}},
		})
		answer = api.KVPairs{{Key: "serve-nomad/routes/app", Value: value, CreateIndex: 5, ModifyIndex: 5}}
	case strings.HasSuffix(r.URL.Path, "/service/s"):
		_, port, _ := net.SplitHostPort(c.replica)
		number := 0
		_, _ = fmt.Sscan(port, &number)
		answer = []api.ServiceEntry{{
			Node: &api.Node{Node: "n", Address: "127.0.0.1"},
			Service: &api.AgentService{ID: "i", Service: "s", Address: "127.0.0.1", Port: number, Meta: map[string]string{
				"serve_application": "app", "serve_deployment": "main", "serve_version": "v", "serve_replica": "r1",
			}},
			Checks: api.HealthChecks{{CheckID: "c", ServiceID: "i", Status: api.HealthPassing}},
		}}
	default:
		answer = []any{}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// output is what a process writes, while it writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) count(pattern string) int {
	return len(regexp.MustCompile(pattern).FindAllString(o.String(), -1))
}

// proxyUnderTest is a process of `serve-nomad proxy`.
type proxyUnderTest struct {
	*exec.Cmd
	t       *testing.T
	config  string
	address string
	slots   string // at which other proxies would ask for slots
	output  output
	ended   chan error
}

// shortFolder is a folder whose path leaves room for a socket's name.
func shortFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sn") //nolint:usetesting // t.TempDir has the test's name in it, which is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newProxy writes a configuration; more is what is in its block proxy.
func newProxy(t *testing.T, consul, dir, more string) *proxyUnderTest {
	t.Helper()
	p := &proxyUnderTest{t: t, config: filepath.Join(dir, "proxy.hcl"), address: freePort(t), slots: freePort(t)}
	p.configure(consul, dir, freePort(t), more)
	return p
}

func (p *proxyUnderTest) configure(consul, dir, handles, more string) {
	p.t.Helper()
	text := fmt.Sprintf("name = \"n1\"\nconsul {\n address = %q\n}\nproxy {\n address = %q\n gatekeeper_address = %q\n handle_address = %q\n servers = [\"http://127.0.0.1:1\"]\n data_dir = %q\n%s\n}\n",
		consul, p.address, p.slots, handles, dir, more)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// start starts the process and waits until it serves.
func (p *proxyUnderTest) start(args ...string) {
	p.t.Helper()
	p.launch(args...)
	p.eventually("it serves", func() bool {
		return p.healthy() && (!slices.Contains(args, "-supervise") || p.output.count(`proxy serves: `) > 0)
	})
}

func (p *proxyUnderTest) launch(args ...string) {
	p.t.Helper()
	p.Cmd = exec.Command(program, append([]string{"proxy", "-config", p.config, "-drain-notice", "0s"}, args...)...)
	p.Stderr, p.Stdout = &p.output, &p.output
	p.WaitDelay = time.Second // a killed supervisor leaves a process that has them
	p.ended = make(chan error, 1)
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	p.t.Cleanup(func() {
		_ = p.Process.Kill()
		if p.t.Failed() {
			p.t.Logf("%s", p.output.String())
		}
	})
}

func (p *proxyUnderTest) healthy() bool {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/-/healthz", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (p *proxyUnderTest) eventually(what string, holds func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			p.t.Fatalf("not within 30 s: %s", what)
		case <-ticker.C:
		}
	}
}

func (p *proxyUnderTest) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the process in order, or says how it ended.
func (p *proxyUnderTest) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.wait()
}

func (p *proxyUnderTest) wait() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("it ended with %v", err)
		}
	case <-time.After(40 * time.Second):
		p.t.Error("it does not end")
	}
}

// echoReplica answers a POST with its body, and echoes what comes after an
// upgrade.
func echoReplica(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			nc, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer nc.Close()
			fmt.Fprint(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(nc, rw)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// load sends requests without a pause, half of them on connections that are
// kept, and counts those that are lost. Nothing is sent again by itself.
type load struct {
	t      *testing.T
	url    string
	stop   chan struct{}
	once   sync.Once
	run    sync.WaitGroup
	served atomic.Int64
	lost   atomic.Int64
}

func startLoad(t *testing.T, url string) *load {
	t.Helper()
	l := &load{t: t, url: url, stop: make(chan struct{})}
	for n := range 4 {
		l.run.Go(func() { l.send(n%2 == 0) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) send(kept bool) {
	transport := &http.Transport{DisableKeepAlives: !kept}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		// A POST whose body cannot be made anew is never sent again by the client.
		req, err := http.NewRequest(http.MethodPost, l.url, io.NopCloser(strings.NewReader("hello")))
		if err != nil {
			l.t.Error(err)
			return
		}
		req.ContentLength = 5
		res, err := client.Do(req)
		if err == nil {
			body, rerr := io.ReadAll(res.Body)
			res.Body.Close()
			if err = rerr; err == nil && string(body) != "hello" {
				err = fmt.Errorf("%s: %s", res.Status, body)
			}
		}
		if err != nil {
			if l.lost.Add(1) == 10 {
				return // something is wrong altogether
			}
			l.t.Errorf("lost (kept %v): %v", kept, err)
			continue
		}
		l.served.Add(1)
	}
}

func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.run.Wait()
}

func TestTwentyUpgradesLoseNothing(t *testing.T) {
	replica := echoReplica(t)
	consul := newTinyConsul(t, replica)
	p := newProxy(t, consul.URL, shortFolder(t), "")
	p.start("-supervise")

	// A tunnel outlives the process that it began in.
	tunnel, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	fmt.Fprint(tunnel, "GET /app HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	reader := bufio.NewReader(tunnel)
	if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("open a tunnel: %v, %v", res, err)
	}

	l := startLoad(t, "http://"+p.address+"/app")
	for n := range 20 {
		p.signal(upgradeSignal)
		p.eventually("the next one serves", func() bool { return p.output.count(`proxy serves: `) == n+2 })
		served := l.served.Load()
		p.eventually("requests go on", func() bool { return l.served.Load() > served+8 })
		fmt.Fprintf(tunnel, "still here %d\n", n)
		if line, err := reader.ReadString('\n'); err != nil || line != fmt.Sprintf("still here %d\n", n) {
			t.Fatalf("the tunnel after upgrade %d: %q, %v", n, line, err)
		}
	}
	l.end()
	t.Logf("%d requests served, %d lost", l.served.Load(), l.lost.Load())
	p.eventually("all but two processes have ended", func() bool { return p.output.count(`proxy ended: `) == 19 })
	tunnel.Close()
	p.eventually("the first one has ended too", func() bool { return p.output.count(`proxy ended: `) == 20 })
	p.stop()
	if n := p.output.count(`\[ERROR\]`); n > 0 {
		t.Errorf("%d errors in the log", n)
	}
}

func TestAnUpgradeByHand(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	dir := shortFolder(t)
	old := newProxy(t, consul.URL, dir, "")
	old.start()
	l := startLoad(t, "http://"+old.address+"/app")
	next := &proxyUnderTest{t: t, config: old.config, address: old.address}
	next.launch("-upgrade")
	old.wait()
	next.eventually("it serves", func() bool { return next.healthy() })
	l.end()
	next.stop()
}

func TestAnUpgradeThatFailsLosesNothing(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	dir := shortFolder(t)
	p := newProxy(t, consul.URL, dir, "")
	p.start("-supervise")
	good, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, "http://"+p.address+"/app")
	for n, bad := range []string{
		"proxy {", // no configuration
		strings.Replace(string(good), "handle_address = \"127.0.0.1:", "handle_address = \"203.0.113.1:", 1), // not an address of ours
	} {
		if err := os.WriteFile(p.config, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		p.signal(upgradeSignal)
		p.eventually("it has failed", func() bool { return p.output.count(`proxy ended: `) == n+1 })
		served := l.served.Load()
		p.eventually("requests go on", func() bool { return l.served.Load() > served+8 })
	}
	if err := os.WriteFile(p.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(upgradeSignal)
	p.eventually("a good one serves", func() bool { return p.output.count(`proxy serves: `) == 2 })
	l.end()
	p.eventually("the old one has ended", func() bool { return p.output.count(`proxy ended: `) == 3 })
	p.stop()
}

func TestAProxyWhoseSupervisorIsKilledIsTakenOver(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	p := newProxy(t, consul.URL, shortFolder(t), "")
	p.launch("-supervise")
	p.eventually("it serves", func() bool { return p.healthy() })
	l := startLoad(t, "http://"+p.address+"/app")
	p.signal(os.Kill)
	if err := <-p.ended; err == nil {
		t.Error("it was not killed")
	}
	next := &proxyUnderTest{t: t, config: p.config, address: p.address}
	next.launch("-supervise")
	next.eventually("it serves", func() bool { return next.output.count(`proxy serves: `) == 1 })
	served := l.served.Load()
	next.eventually("requests go on", func() bool { return l.served.Load() > served+8 })
	l.end()
	next.stop()
}

func TestAProxyWhoseSupervisorIsGoneEnds(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	p := newProxy(t, consul.URL, shortFolder(t), "")
	p.start("-supervise", "-drain-timeout", "1s")
	match := regexp.MustCompile(`proxy started: process=(\d+)`).FindStringSubmatch(p.output.String())
	if match == nil {
		t.Fatal("it does not say which process it has started")
	}
	process, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	p.signal(os.Kill)
	p.eventually("the proxy ends", func() bool { return errors.Is(syscall.Kill(process, 0), syscall.ESRCH) || isZombie(process) })
}

// isZombie says whether a process has ended and nobody has asked how.
func isZombie(process int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	return err == nil && bytes.Contains(status, []byte(") Z "))
}

func TestAStartWithoutConsul(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	dir := shortFolder(t)
	p := newProxy(t, consul.URL, dir, "")
	p.start("-supervise")
	l := startLoad(t, "http://"+p.address+"/app")
	p.eventually("the table is on disk", func() bool {
		_, err := os.Stat(filepath.Join(dir, "table"))
		return err == nil
	})
	consul.down.Store(true)
	consul.CloseClientConnections()
	p.signal(upgradeSignal)
	p.eventually("the next one serves", func() bool { return p.output.count(`proxy serves: `) == 2 })
	served := l.served.Load()
	p.eventually("requests go on", func() bool { return l.served.Load() > served+8 })
	l.end()
	p.stop()

	again := &proxyUnderTest{t: t, config: p.config, address: p.address}
	again.start()
	l = startLoad(t, "http://"+p.address+"/app")
	again.eventually("requests are served", func() bool { return l.served.Load() > 8 })
	if !strings.Contains(again.status(), "lay on disk") {
		t.Errorf("the status does not say that the table is old: %s", again.status())
	}
	consul.down.Store(false)
	again.eventually("Consul is read", func() bool {
		status := again.status()
		return strings.Contains(status, `"ready":true`) && !strings.Contains(status, "discovery_error")
	})
	l.end()
	again.stop()
}

// status returns what the proxy says of itself, or why it could not be asked.
func (p *proxyUnderTest) status() string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.address+"/-/status", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func TestReload(t *testing.T) {
	consul := newTinyConsul(t, echoReplica(t))
	dir := shortFolder(t)
	p := newProxy(t, consul.URL, dir, "")
	p.start()
	kept := &http.Client{Transport: &http.Transport{}}
	defer kept.CloseIdleConnections()
	post := func(body string) int {
		t.Helper()
		res, err := kept.Post("http://"+p.address+"/app", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	if got := post("hello"); got != http.StatusOK {
		t.Errorf("at first: %d", got)
	}
	handles := freePort(t)
	reload := func(more, done string) {
		t.Helper()
		before := p.output.count(done)
		p.configure(consul.URL, dir, handles, more)
		p.signal(reloadSignal)
		p.eventually(done, func() bool { return p.output.count(done) > before })
	}
	l := startLoad(t, "http://"+p.address+"/app")
	reload("max_body_bytes = \"much\"", `faulty`)
	if got := post("hello"); got != http.StatusOK {
		t.Errorf("after a fault: %d", got)
	}
	reload("max_body_bytes = 5\n header_timeout = \"7s\"", `configuration read again`)
	if p.output.count(`proxy.handle_address`) != 1 {
		t.Error("it does not say that it keeps the port of the handles")
	}
	if got := post("hello!"); got != http.StatusRequestEntityTooLarge {
		t.Errorf("over the bound: %d", got)
	}
	reload("tls {\n cert_file = \"nothing.pem\"\n}", `faulty`)
	if got := post("hello!"); got != http.StatusRequestEntityTooLarge {
		t.Errorf("after another fault: %d", got)
	}
	reload("max_connections = 1000", `configuration read again`)
	if got := post("hello!"); got != http.StatusOK {
		t.Errorf("without the bound: %d", got)
	}
	l.end()
	reload("max_connections = 1", `configuration read again`)
	kept.CloseIdleConnections()
	var stay net.Conn
	p.eventually("the one connection is taken", func() bool {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			return false
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		if stay = c; !errors.Is(err, os.ErrDeadlineExceeded) {
			c.Close()
			return false
		}
		return true
	})
	defer stay.Close()
	p.eventually("another one is refused", func() bool { return !p.healthy() })
	stay.Close()
	p.eventually("the ports count that", func() bool {
		return p.healthy() && regexp.MustCompile(`"public":{[^}]*"full":[1-9]`).MatchString(p.status())
	})
	p.signal(upgradeSignal) // of no use, and no harm
	p.eventually("it says so", func() bool { return p.output.count(`-supervise`) > 0 })
	p.stop()
}
