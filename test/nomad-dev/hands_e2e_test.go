//go:build e2e

package nomaddev_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// TestHands does by hand what is serve-nomad's to do, while requests run: what
// was decided comes back, and no request is lost on the way.
func TestHands(t *testing.T) {
	s := startShop(t, 1, 1)
	s.deploy(0)

	under := func(name string, do func(t *testing.T, l *load)) {
		t.Run(name, func(t *testing.T) {
			s.healthy(2)
			l := s.startLoad()
			l.answered(t, 100)
			do(t, l)
			l.answered(t, 500) // the replicas that stop have ended by then
			l.wantNoneLost(t)
		})
	}
	under("a job stopped in Nomad comes back", func(t *testing.T, _ *load) {
		before := s.healthy(2)
		s.nomadDo(t, http.MethodDelete, "/v1/job/"+before.JobID, "")
		s.replaced(t, before)
		s.tells(t, "job "+before.JobID+": somebody else than this server stopped it")
	})
	under("a job purged from Nomad comes back", func(t *testing.T, _ *load) {
		before := s.healthy(2)
		s.nomadDo(t, http.MethodDelete, "/v1/job/"+before.JobID+"?purge=true", "")
		s.replaced(t, before)
		s.tells(t, "job "+before.JobID+": somebody else than this server stopped and purged it")
	})
	under("a job scaled in Nomad goes back to its count", func(t *testing.T, _ *load) {
		job := s.healthy(2).JobID
		for _, n := range []int{4, 1, 0} {
			s.nomadDo(t, http.MethodPost, "/v1/job/"+job+"/scale", fmt.Sprintf(`{"Count":%d,"Target":{"Group":"till"}}`, n))
			eventually(t, 30*time.Second, "the count is 2 again", func() error { return s.count(t, job, 2) })
			s.healthy(2)
			s.tells(t, fmt.Sprintf("set its count from 2 to %d", n))
		}
	})
	under("a job edited in Nomad is left as it is until the next version, and said to be edited", s.editJob)
	under("a deploy that is taken back before it is done leaves the old replicas alone", func(t *testing.T, l *load) {
		before := s.healthy(2)
		if out, code := s.cli(0, "deploy", "-detach", "-var", "program="+s.program, "-var", "version=v2", "-var", "loads=60s", "testdata/shop.hcl"); code != 0 {
			t.Fatal(out)
		}
		eventually(t, 30*time.Second, "the new version has a job", func() error { return s.running(t, 2) })
		s.deploy(0)
		if after := s.healthy(2); !maps.Equal(replicaIDs(before), replicaIDs(after)) {
			t.Errorf("replicas %v became %v", replicaIDs(before), replicaIDs(after))
		}
		eventually(t, 30*time.Second, "the new version's job is stopped", func() error { return s.running(t, 1) })
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.versions) != 1 {
			t.Errorf("answers came from %v", l.versions)
		}
	})
	t.Run("an application deleted in the middle of a rollout can be deployed again", s.deleteMidRollout)
	under("a Consul that comes back empty gets its routes and replicas back", func(t *testing.T, l *load) {
		before := s.healthy(2)
		s.Consul.Kill()
		l.answered(t, 100)
		if err := os.RemoveAll(filepath.Join(s.Dir, "consul", "data")); err != nil {
			t.Fatal(err)
		}
		if err := s.Consul.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 60*time.Second, "the route is back", func() error {
			_, err := tryGet(t.Context(), s.Consul.URL()+"/v1/kv/serve-nomad/routes/shop")
			return err
		})
		eventually(t, 90*time.Second, "the replicas are back", func() error {
			var instances []struct{}
			body, err := tryGet(t.Context(), s.Consul.URL()+"/v1/health/service/serve-shop-till?passing=true")
			if err == nil {
				decode(t, body, &instances)
			}
			if err == nil && len(instances) != 2 {
				err = fmt.Errorf("%d instances pass", len(instances))
			}
			return err
		})
		if after := s.healthy(2); !maps.Equal(replicaIDs(before), replicaIDs(after)) {
			t.Errorf("replicas %v became %v", replicaIDs(before), replicaIDs(after))
		}
	})
}

func (s *shop) editJob(t *testing.T, _ *load) {
	before := s.healthy(2)
	if before.Edited || before.Reason != "" {
		t.Errorf("before anybody has edited it, it is said: %q", before.Reason)
	}
	var job map[string]any
	decode(t, get(t, s.Nomad.URL()+"/v1/job/"+before.JobID), &job)
	task := job["TaskGroups"].([]any)[0].(map[string]any)["Tasks"].([]any)[0].(map[string]any)
	task["Env"].(map[string]any)["VERSION"] = "edited"
	body, err := json.Marshal(map[string]any{"Job": job})
	if err != nil {
		t.Fatal(err)
	}
	s.nomadDo(t, http.MethodPost, "/v1/jobs", string(body))
	s.replaced(t, before)
	s.tells(t, "job "+before.JobID+": somebody else than this server edited it")
	s.comesBack(t, "edited")
	if _, d, err := s.status(0); err != nil || !d.Edited || !strings.Contains(d.Reason, "was edited in Nomad") {
		t.Errorf("status says %+v, %v", d, err)
	}
	if out, code := s.cli(0, "status", "shop"); code != 0 || !strings.Contains(out, "was edited in Nomad") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.deploy(0, "version=v1b") // Nomad still has the job of v1, as it was edited
	s.deploy(0)
	s.comesBack(t, "v1")
	if _, d, err := s.status(0); err != nil || d.Edited {
		t.Errorf("status says %+v, %v", d, err)
	}
}

// comesBack waits until requests are answered by that version.
func (s *shop) comesBack(t *testing.T, version string) {
	t.Helper()
	eventually(t, 30*time.Second, "version "+version+" answers", func() error {
		a, _, err := s.ask("/shop")
		if err == nil && a.Version != version {
			err = fmt.Errorf("version %s answered", a.Version)
		}
		return err
	})
}

// tells waits until events have a message that says so.
func (s *shop) tells(t *testing.T, message string) {
	t.Helper()
	eventually(t, 10*time.Second, "events say "+message, func() error {
		out, _ := s.cli(0, "events", "shop")
		if !strings.Contains(out, message) {
			return errors.New(out)
		}
		return nil
	})
}

func (s *shop) deleteMidRollout(t *testing.T) {
	if out, code := s.cli(0, "deploy", "-detach", "-var", "program="+s.program, "-var", "version=v3", "-var", "loads=60s", "testdata/shop.hcl"); code != 0 {
		t.Fatal(out)
	}
	eventually(t, 30*time.Second, "the new version has a job", func() error { return s.running(t, 2) })
	if out, code := s.cli(0, "delete", "-detach", "shop"); code != 0 {
		t.Fatal(out)
	}
	s.deploy(0) // while the replicas of both versions are still stopping
	s.healthy(2)
	if a, _, err := s.ask("/shop"); err != nil || a.Version != "v1" {
		t.Errorf("got %+v, %v", a, err)
	}
	eventually(t, 30*time.Second, "one job is left", func() error { return s.running(t, 1) })
}

// TestSpecs deploys what only a spec of its own can show.
func TestSpecs(t *testing.T) {
	s := startShop(t, 1, 1)

	t.Run("a version that drops a deployment finishes what calls it", func(t *testing.T) {
		s.deploySpec(t, 0, s.deployment("till", "VERSION = \"v1\"", "handles = [deployment.stock]"), s.deployment("stock", "", ""))
		l := s.startLoadOf(20, func(int) string { return "/shop?call=STOCK&sleep=300ms" })
		l.answered(t, 50)
		s.deploySpec(t, 0, s.deployment("till", "VERSION = \"v2\"", ""))
		l.answered(t, 300)
		eventually(t, 60*time.Second, "one job is left", func() error { return s.running(t, 1) })
		l.answered(t, 50)
		l.wantNoneLost(t)
		if l.versions["v1"] == 0 || l.versions["v2"] == 0 {
			t.Errorf("answers came from %v", l.versions)
		}
	})

	t.Run("a version that failed is tried anew when it is deployed again", func(t *testing.T) {
		obstacle := filepath.Join(t.TempDir(), "obstacle")
		if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		broken := s.deployment("till", fmt.Sprintf("VERSION = \"v3\"\nCRASH_IF = %q", obstacle), "")
		s.deploySpec(t, 1, broken)
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		s.deploySpec(t, 0, broken)
		if a, _, err := s.ask("/shop"); err != nil || a.Version != "v3" {
			t.Errorf("got %+v, %v", a, err)
		}
	})

	t.Run("the longest names work", func(t *testing.T) {
		long := strings.Repeat("n", 63)
		spec := fmt.Sprintf("application %q {\n route_prefix = \"/long\"\n ingress = deployment.%s\n%s}\n", long, long, s.deployment(long, "VERSION = \"long\"", ""))
		s.deployText(t, 0, spec)
		if a, _, err := s.ask("/long"); err != nil || a.Version != "long" {
			t.Errorf("got %+v, %v", a, err)
		}
		if out, code := s.cli(0, "delete", long); code != 0 {
			t.Errorf("delete: %s", out)
		}
	})
}

// deployment returns the block of a deployment of two replicas.
func (s *shop) deployment(name, env, more string) string {
	return fmt.Sprintf(`
deployment %q {
  num_replicas = 2
  %s
  resources {
    cpu    = 0.1
    memory = "64MiB"
  }
  task {
    driver = "raw_exec"
    config {
      command = %q
    }
    env {
      %s
    }
  }
  health_check {
    period = "1s"
  }
  graceful_shutdown_timeout = "10s"
}
`, name, more, s.program, env)
}

// deploySpec deploys the shop, with these deployments and till as its ingress.
func (s *shop) deploySpec(t *testing.T, want int, deployments ...string) {
	t.Helper()
	s.deployText(t, want, "application \"shop\" {\n route_prefix = \"/shop\"\n ingress = deployment.till\n"+strings.Join(deployments, "")+"}\n")
}

func (s *shop) deployText(t *testing.T, want int, spec string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.hcl")
	if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := s.cli(0, "deploy", "-timeout", "90s", file); code != want {
		t.Fatalf("deploy: exit code %d, want %d\n%s\n%s", code, want, out, spec)
	}
}

// nomadDo calls Nomad's API as somebody would who does not know serve-nomad.
func (s *shop) nomadDo(t *testing.T, method, path, body string) {
	t.Helper()
	if _, err := do(t.Context(), method, s.Nomad.URL()+path, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

// replaced waits until none of the replicas of before is left and as many
// others are healthy.
func (s *shop) replaced(t *testing.T, before reconcile.DeploymentStatus) {
	t.Helper()
	old := slices.Collect(maps.Keys(replicaIDs(before)))
	eventually(t, 60*time.Second, "other replicas are healthy", func() error {
		_, d, err := s.status(0)
		if err != nil {
			return err
		}
		now := replicaIDs(d)
		if len(now) != len(old) || slices.ContainsFunc(old, func(id string) bool { return now[id] }) {
			return fmt.Errorf("%v became %v", old, now)
		}
		return nil
	})
}

// count says whether Nomad's job asks for so many replicas.
func (s *shop) count(t *testing.T, job string, want int) error {
	t.Helper()
	var is struct{ TaskGroups []struct{ Count int } }
	decode(t, get(t, s.Nomad.URL()+"/v1/job/"+job), &is)
	if got := is.TaskGroups[0].Count; got != want {
		return fmt.Errorf("it is %d", got)
	}
	return nil
}

// running says whether so many of the shop's jobs are not stopped.
func (s *shop) running(t *testing.T, want int) error {
	t.Helper()
	var jobs []struct {
		ID   string
		Stop bool
	}
	decode(t, get(t, s.Nomad.URL()+"/v1/jobs?prefix=serve-shop-"), &jobs)
	jobs = slices.DeleteFunc(jobs, func(j struct {
		ID   string
		Stop bool
	},
	) bool {
		return j.Stop
	})
	if len(jobs) != want {
		return fmt.Errorf("%+v", jobs)
	}
	return nil
}
