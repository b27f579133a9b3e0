//go:build e2e

package nomaddev_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// TestApplication takes one application through its life on one server and one
// proxy, as a person would.
func TestApplication(t *testing.T) {
	s := startShop(t, 1, 1)

	t.Run("a deploy answers through the proxy", func(t *testing.T) {
		out := s.deploy(0)
		if !strings.Contains(out, "healthy") {
			t.Errorf("deploy says:\n%s", out)
		}
		a, resp, err := s.ask("/shop/some/item")
		if err != nil {
			t.Fatal(err)
		}
		if a.Path != "/some/item" || a.Version != "v1" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("answer %+v, header %v", a, resp.Header)
		}
	})

	t.Run("Nomad and Consul show what runs", func(t *testing.T) { s.looksRight(t) })

	t.Run("a path without a route is 404", func(t *testing.T) {
		_, resp, err := s.ask("/shopping")
		if err == nil || resp == nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("got %v, %v", resp, err)
		}
	})

	t.Run("deploying the same again changes nothing", func(t *testing.T) {
		_, before, err := s.status(0)
		if err != nil {
			t.Fatal(err)
		}
		s.deploy(0)
		app, after, err := s.status(0)
		if err != nil {
			t.Fatal(err)
		}
		if app.Version != 1 || fmt.Sprint(replicaIDs(before)) != fmt.Sprint(replicaIDs(after)) {
			t.Errorf("version %d, replicas %v -> %v", app.Version, replicaIDs(before), replicaIDs(after))
		}
	})

	t.Run("scaling up and down loses nothing", func(t *testing.T) {
		l := s.startLoad()
		l.answered(t, 50)
		for _, n := range []int{4, 1, 3} {
			if out, code := s.cli(0, "scale", "shop", "till", strconv.Itoa(n)); code != 0 {
				t.Fatalf("scale: %s", out)
			}
			s.healthy(n)
		}
		l.answered(t, 300) // the last stopped replicas have ended by then
		l.wantNoneLost(t)
	})

	t.Run("a new version takes over and nothing is lost", func(t *testing.T) {
		l := s.startLoad()
		l.answered(t, 50)
		s.deploy(0, "version=v2")
		l.answered(t, 500)
		l.wantNoneLost(t)
		if a, _, err := s.ask("/shop"); err != nil || a.Version != "v2" {
			t.Errorf("got %+v, %v", a, err)
		}
	})

	t.Run("a version that dies at start is told with its log and the old one serves", func(t *testing.T) {
		l := s.startLoad()
		out := s.deploy(1, "version=v3", "crash=resnet")
		for _, want := range []string{"no such model: resnet", "exited with code 3", "still serves"} {
			if !strings.Contains(out, want) {
				t.Errorf("deploy does not say %q:\n%s", want, out)
			}
		}
		l.wantNoneLost(t)
		if l.versions["v2"] == 0 || len(l.versions) != 1 {
			t.Errorf("answers came from %v", l.versions)
		}
	})

	t.Run("a version that has no room is told and the old one serves", func(t *testing.T) {
		out, code := s.cli(0, "deploy", "-detach", "-force", "-var", "program="+s.program, "-var", "version=v4", "-var", "memory=9000GiB", "testdata/shop.hcl")
		if code != 0 {
			t.Fatal(out)
		}
		eventually(t, 20*time.Second, "status says why", func() error {
			app, _, err := s.status(0)
			if err == nil && !strings.Contains(app.Reason, "not enough memory") {
				err = fmt.Errorf("%s: %s", app.Status, app.Reason)
			}
			return err
		})
		if a, _, err := s.ask("/shop"); err != nil || a.Version != "v2" {
			t.Errorf("got %+v, %v", a, err)
		}
		s.deploy(0, "version=v2", "replicas=3")
	})

	t.Run("a killed replica loses no request that can be repeated, and is replaced", func(t *testing.T) {
		s.healthy(3)
		l := s.startLoad()
		l.answered(t, 100)
		a, _, err := s.ask("/shop")
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(a.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.answered(t, 300)
		s.healthy(3)
		l.wantNoneLost(t)
	})

	t.Run("limits hold", func(t *testing.T) { s.limits(t) })

	t.Run("at no replicas requests wait for the first", func(t *testing.T) {
		s.deploy(0, "version=v5", "replicas=0")
		got := make(chan error, 1)
		go func() {
			_, _, err := s.ask("/shop")
			got <- err
		}()
		eventually(t, 10*time.Second, "the request waits", func() error { return s.queued(1) })
		if out, code := s.cli(0, "scale", "shop", "till", "1"); code != 0 {
			t.Fatal(out)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})

	t.Run("a deletion leaves nothing", func(t *testing.T) {
		if out, code := s.cli(0, "delete", "shop"); code != 0 {
			t.Fatal(out)
		}
		if _, resp, err := s.ask("/shop"); resp == nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("the route is left: %v, %v", resp, err)
		}
		if pids := taskPids(t, s.cluster); len(pids) > 0 {
			t.Errorf("replicas are left: %v", pids)
		}
	})
}

// looksRight checks what a Nomad user and a Consul user see.
func (s *shop) looksRight(t *testing.T) {
	t.Helper()
	var jobs []struct{ ID, Name, Status string }
	decode(t, get(t, s.Nomad.URL()+"/v1/jobs?prefix=serve-shop-till-"), &jobs)
	if len(jobs) != 1 || jobs[0].Status != "running" {
		t.Errorf("jobs: %+v", jobs)
	}
	var instances []struct {
		ServiceMeta map[string]string
		ServiceTags []string
	}
	decode(t, get(t, s.Consul.URL()+"/v1/catalog/service/serve-shop-till"), &instances)
	if len(instances) != 2 {
		t.Fatalf("%d instances in Consul", len(instances))
	}
	for _, i := range instances {
		if i.ServiceMeta["serve_application"] != "shop" || i.ServiceMeta["serve_deployment"] != "till" || len(i.ServiceMeta["serve_replica"]) != 36 {
			t.Errorf("meta: %v", i.ServiceMeta)
		}
	}
}

// limits checks the limit on ongoing requests, the queue's length and the
// timeout of a deployment with 2 replicas that take 2 requests each.
func (s *shop) limits(t *testing.T) {
	t.Helper()
	s.deploy(0, "version=limits", "replicas=2", "queue=3", "timeout=3s")
	s.healthy(2)
	var mu sync.Mutex
	var group sync.WaitGroup
	codes, most := map[int]int{}, 0
	for range 20 {
		group.Go(func() {
			a, resp, err := s.ask("/shop?sleep=800ms")
			mu.Lock()
			defer mu.Unlock()
			if resp == nil {
				t.Error(err)
				return
			}
			codes[resp.StatusCode]++
			most = max(most, a.Most)
			if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		})
	}
	group.Wait()
	if codes[200] != 7 || codes[503] != 13 {
		t.Errorf("of 20 requests at once, 4 may go on and 3 may wait: %v", codes)
	}
	if most != 2 {
		t.Errorf("a replica had %d requests at once", most)
	}
	if _, resp, err := s.ask("/shop?sleep=5s"); resp == nil || resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a request that takes too long: %v, %v", resp, err)
	}
}

// queued says whether the proxy has so many requests waiting.
func (s *shop) queued(n int) error {
	body, err := tryGet(s.t.Context(), s.Proxies[0].URL()+"/-/status")
	if err != nil {
		return err
	}
	var status struct {
		Deployments []struct {
			Application string
			Queued      int
		}
	}
	if err := json.Unmarshal(body, &status); err != nil {
		return err
	}
	for _, d := range status.Deployments {
		if d.Application == "shop" && d.Queued == n {
			return nil
		}
	}
	return fmt.Errorf("not %d queued: %s", n, body)
}

// TestRestarts ends each part in turn while requests run.
func TestRestarts(t *testing.T) {
	s := startShop(t, 1, 1)
	s.deploy(0)
	before := s.healthy(2)

	same := func(t *testing.T) {
		t.Helper()
		after := s.healthy(2)
		if fmt.Sprint(replicaIDs(before)) != fmt.Sprint(replicaIDs(after)) {
			t.Errorf("replicas %v became %v", replicaIDs(before), replicaIDs(after))
		}
		for _, r := range after.Replicas {
			if r.Restarts > 0 {
				t.Errorf("replica %s was restarted", r.ID)
			}
		}
	}

	t.Run("the controller is killed and comes back with its state", func(t *testing.T) {
		l := s.startLoad()
		l.answered(t, 100)
		s.Servers[0].Kill()
		l.answered(t, 200)
		started := time.Now()
		if err := s.Servers[0].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "status is right", func() error {
			app, d, err := s.status(0)
			if err == nil && (app.Status != reconcile.Healthy || d.Healthy != 2) {
				err = fmt.Errorf("%s: %s", app.Status, app.Reason)
			}
			return err
		})
		t.Logf("status is right %s after the server was started again", time.Since(started).Round(time.Millisecond))
		same(t)
		l.wantNoneLost(t)
	})

	t.Run("Nomad's agent restarts", func(t *testing.T) {
		l := s.startLoad()
		l.answered(t, 100)
		if err := s.Nomad.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.answered(t, 300)
		same(t)
		l.wantNoneLost(t)
	})

	t.Run("Consul is away for a while", func(t *testing.T) {
		l := s.startLoad()
		l.answered(t, 100)
		s.Consul.Kill()
		l.answered(t, 500)
		if err := s.Consul.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.answered(t, 500)
		same(t)
		l.wantNoneLost(t)
	})
}

// TestThreeServers kills the leader of three with -9.
func TestThreeServers(t *testing.T) {
	s := startShop(t, 3, 2)
	s.deploy(0)
	s.healthy(2)
	l := s.startLoad()
	l.answered(t, 100)

	leader := s.leader(t)
	other := (leader + 1) % 3
	s.Servers[leader].Kill()
	killed := time.Now()
	var gap time.Duration
	eventually(t, 30*time.Second, "another server takes writes", func() error {
		out, code := s.cli(other, "scale", "shop", "till", "3")
		if code != 0 {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		gap = time.Since(killed)
		return nil
	})
	t.Logf("writes go on %s after the leader was killed", gap.Round(time.Millisecond))
	eventually(t, 30*time.Second, "the write takes effect", func() error {
		app, d, err := s.status(other)
		if err == nil && (app.Status != reconcile.Healthy || d.Healthy != 3) {
			err = fmt.Errorf("%s: %s, %d healthy", app.Status, app.Reason, d.Healthy)
		}
		return err
	})
	var jobs []struct{ ID string }
	decode(t, get(t, s.Nomad.URL()+"/v1/jobs?prefix=serve-"), &jobs)
	if len(jobs) != 1 {
		t.Errorf("jobs: %v", jobs)
	}
	if err := s.Servers[leader].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the killed server answers as the others do", func() error {
		_, d, err := s.status(leader)
		if err == nil && d.Healthy != 3 {
			err = fmt.Errorf("%+v", d)
		}
		return err
	})
	l.wantNoneLost(t)
}

// leader returns the number of the server that leads.
func (s *shop) leader(t *testing.T) int {
	t.Helper()
	found := -1
	eventually(t, 30*time.Second, "a server leads", func() error {
		for i := range s.Servers {
			if info, err := s.client(i).Self(t.Context()); err == nil && info.Leader {
				found = i
				return nil
			}
		}
		return fmt.Errorf("none does")
	})
	return found
}

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
}
