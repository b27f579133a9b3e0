//go:build e2e

package consulsd

import (
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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// realConsul is a real Consul agent in dev mode.
type realConsul struct {
	t     *testing.T
	bin   string
	ports map[string]int
	cmd   *exec.Cmd
	log   *os.File
}

func startConsul(t *testing.T) *realConsul {
	t.Helper()
	agents, err := nomaddev.Find(t.Context(), nomaddev.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "consul.log"))
	if err != nil {
		t.Fatal(err)
	}
	c := &realConsul{t: t, bin: agents.Consul.Path, ports: map[string]int{}, log: log}
	for _, name := range []string{"http-port", "server-port", "serf-lan-port"} {
		c.ports[name] = freePort(t)
	}
	t.Cleanup(func() {
		c.kill()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s", text)
		}
		_ = log.Close()
	})
	c.start()
	return c
}

func (c *realConsul) start() {
	c.t.Helper()
	args := []string{"agent", "-dev", "-node=e2e", "-bind=127.0.0.1", "-log-level=warn", "-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1", "-serf-wan-port=-1"}
	for name, port := range c.ports {
		args = append(args, fmt.Sprintf("-%s=%d", name, port))
	}
	c.cmd = exec.Command(c.bin, args...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *realConsul) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *realConsul) signal(s os.Signal) {
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Error(err)
	}
}

func (c *realConsul) address() string { return fmt.Sprintf("127.0.0.1:%d", c.ports["http-port"]) }

func (c *realConsul) client() *Client {
	c.t.Helper()
	client, err := New(Config{Address: c.address()}, hclog.NewNullLogger())
	if err != nil {
		c.t.Fatal(err)
	}
	within(c.t, 30*time.Second, "Consul has a leader", func() bool { return client.Ping(c.t.Context()) == nil })
	return client
}

// register registers a replica at the agent, as Nomad does.
func (c *realConsul) register(application, id string, port int) {
	c.t.Helper()
	e := replica(application, id, port)
	body, err := json.Marshal(map[string]any{
		"Name": e.Service.Service, "ID": e.Service.ID, "Address": e.Service.Address, "Port": port, "Meta": e.Service.Meta,
		"Check": map[string]string{"HTTP": fmt.Sprintf("http://127.0.0.1:%d/", port), "Interval": "1s", "Timeout": "1s"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.put("/v1/agent/service/register", body)
}

func (c *realConsul) put(path string, body []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPut, "http://"+c.address()+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if said, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		c.t.Fatalf("PUT %s: %s: %s", path, response.Status, said)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	started := time.Now()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", limit, what)
		case <-ticker.C:
		}
	}
	t.Logf("after %s: %s", time.Since(started).Round(time.Millisecond), what)
}

// serving returns the port of a server that passes any health check.
func serving(t *testing.T) int {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRealConsul(t *testing.T) {
	consul := startConsul(t)
	c := consul.client()
	w := watch(t, c)
	port := serving(t)

	passing := func(n int) func() bool {
		return func() bool {
			v := w.View()
			count := 0
			for _, e := range v.Endpoints {
				if e.Passing {
					count++
				}
			}
			return v.Known && v.Error == "" && count == n && len(v.Table) == 1
		}
	}
	if err := c.WriteRoute(t.Context(), route("search"), 0); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the route is seen", passing(0))
	if err := c.WriteRoute(t.Context(), route("search"), 0); !errors.Is(err, ErrConflict) {
		t.Errorf("wrote over an entry that must not be: %v", err)
	}
	consul.register("search", "r1", port)
	consul.register("search", "r2", port)
	within(t, 10*time.Second, "both replicas pass", passing(2))

	t.Run("an update is seen, and an old index refused", func(t *testing.T) {
		old := w.View().Index["search"]
		next := route("search")
		next.RoutePrefix = "/search/v2"
		if err := c.WriteRoute(t.Context(), next, old); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "the new prefix is seen", func() bool { return w.View().Table["search"].RoutePrefix == "/search/v2" })
		if err := c.DropRoute(t.Context(), "search", old); !errors.Is(err, ErrConflict) {
			t.Errorf("dropped by an old index: %v", err)
		}
	})
	t.Run("an entry of the largest size that is taken fits", func(t *testing.T) {
		big := route("big")
		big.ClusterID = strings.Repeat("x", routes.MaxBytes-400)
		if err := c.WriteRoute(t.Context(), big, 0); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "it is seen", func() bool { return len(w.View().Table) == 2 })
		if err := c.DropRoute(t.Context(), "big", w.View().Index["big"]); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "it is gone", func() bool { return len(w.View().Table) == 1 && len(w.View().Kept) == 0 })
	})
	t.Run("garbage is ignored", func(t *testing.T) {
		consul.put("/v1/kv/serve-nomad/routes/junk", []byte("{"))
		within(t, 5*time.Second, "its index is seen", func() bool { return w.View().Index["junk"] != 0 })
		if _, ok := w.View().Table["junk"]; ok {
			t.Error("it is in the table")
		}
	})
	t.Run("kill -9, and a restart without data", func(t *testing.T) {
		consul.kill()
		within(t, 5*time.Second, "the error is seen", func() bool { return strings.Contains(w.View().Error, consul.address()) })
		if v := w.View(); len(v.Table) != 1 || len(v.Endpoints) != 2 {
			t.Fatalf("view %+v", v)
		}
		consul.start()
		within(t, 20*time.Second, "Consul is read again, and what it lost is kept", func() bool {
			return passing(2)() && len(w.View().Written()) == 0 && w.View().Kept["search"] != ""
		})
		if err := c.WriteRoute(t.Context(), w.View().Table["search"], w.View().Index["search"]); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "the route is written again", func() bool { return len(w.View().Written()) == 1 && passing(2)() })
		consul.register("search", "r1", port)
		consul.register("search", "r2", port)
		stays(t, 3*time.Second, "both replicas pass while their checks run for the first time", passing(2))
		consul.put("/v1/agent/service/deregister/_nomad-task-r2", nil)
		within(t, 5*time.Second, "a replica that goes now is gone at once", passing(1))
	})
	t.Run("a Consul that is stopped, and goes on", func(t *testing.T) {
		consul.signal(syscall.SIGSTOP)
		within(t, 20*time.Second, "the error is seen", func() bool { return w.View().Error != "" })
		if len(w.View().Endpoints) != 1 {
			t.Errorf("view %+v", w.View())
		}
		consul.signal(syscall.SIGCONT)
		within(t, 15*time.Second, "Consul is read again", passing(1))
	})
}

func stays(t *testing.T, long time.Duration, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if !holds() {
			t.Fatalf("no longer: %s", what)
		}
		<-ticker.C
	}
}

// TestRealConsulDelete looks at what the fake promises of Consul.
func TestRealConsulDelete(t *testing.T) {
	consul := startConsul(t)
	c := consul.client()
	if err := c.DropRoute(t.Context(), "none", 7); err != nil {
		t.Errorf("an entry that is gone: %v", err)
	}
	pairs, meta, err := c.consul.KV().List("serve-nomad/routes/", (&api.QueryOptions{}).WithContext(t.Context()))
	if err != nil || len(pairs) != 0 || meta.LastIndex == 0 {
		t.Errorf("an empty folder: %v, %+v, %v", pairs, meta, err)
	}
}

// TestRealConsulHowSoon logs how long after its registration a replica that has
// not been tested is in the View, which requests to a deployment at zero wait
// for. It is a measurement and asserts no time.
func TestRealConsulHowSoon(t *testing.T) {
	consul := startConsul(t)
	c := consul.client()
	w := watch(t, c)
	if err := c.WriteRoute(t.Context(), route("search"), 0); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the route is seen", func() bool { return w.View().Known && len(w.View().Table) == 1 })
	sees := func(n int) time.Duration {
		started := time.Now()
		for len(w.View().Endpoints) != n {
			select {
			case <-w.Updates():
			case <-t.Context().Done():
				t.Fatal("it is never seen")
			}
		}
		return time.Since(started)
	}
	for round := range 10 {
		time.Sleep(500 * time.Millisecond) // it is quiet, as at a deployment at zero
		started := time.Now()
		consul.register("search", "r1", 1)
		registered := time.Since(started)
		seen := registered + sees(1)
		e := w.View().Endpoints[0]
		if e.Passing || !e.Unproven {
			t.Errorf("it is %+v", e)
		}
		consul.put("/v1/agent/service/deregister/_nomad-task-r1", nil)
		t.Logf("round %d: Consul took the registration in %s, seen after %s; gone after %s", round, registered.Round(100*time.Microsecond), seen.Round(100*time.Microsecond), sees(0).Round(100*time.Microsecond))
	}
}
