//go:build e2e

package nomaddev_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// shaped is an application of two deployments on the nodes of one worker group,
// under load. Its replicas say of which color their node is.
type shaped struct {
	*shop
	dir     string
	program string
	load    *traffic
}

// newShaped deploys the application on blue nodes, and lets requests come.
func newShaped(t *testing.T) *shaped {
	t.Helper()
	s := &shaped{shop: startShop(t, 1, 2), dir: t.TempDir(), program: rolloutProgram(t)}
	s.deployGroup("blue", 400, s.application("first", `bake_time = "2s"`))
	s.until("version 1 serves", func(a reconcile.ApplicationStatus) bool {
		return a.Status == reconcile.Healthy && a.ServingVersion == 1 && healthyOf(a) == 4
	})
	s.load = s.startTraffic("shaped", phases{rate: 100, stream: 2 * time.Second}, "")
	s.load.says(t, 10*time.Second, "blue")
	s.load.goesOn(t, time.Second)
	return s
}

// deployGroup deploys the worker group with nodes of a color and so much memory,
// and whatever else.
func (s *shaped) deployGroup(color string, memory int, more string) {
	s.t.Helper()
	text := fmt.Sprintf(`
worker_group "cpu" {
  max_nodes    = 3
  idle_timeout = "2s"
  env = {
    VERSION = %q
    FAULT   = %q
  }
  node {
    cpu      = 1
    core_mhz = 1000
    memory   = "%dMiB"
  }
  target "process" {}
}
`, color, map[string]string{"black": "crash"}[color], memory)
	file := filepath.Join(s.t.TempDir(), "group.hcl")
	if err := os.WriteFile(file, []byte(text+more), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if out, code := s.cli(0, "deploy", "-detach", file); code != 0 {
		s.t.Fatalf("exit code %d\n%s", code, out)
	}
}

// application is one whose replicas are others when mark is another word.
func (s *shaped) application(mark, rollout string) string {
	deployment := func(name, more string) string {
		return fmt.Sprintf(`
  deployment %q {
    worker_group         = "cpu"
    num_replicas         = 2
    max_ongoing_requests = 100
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
        JOURNAL = %q
        MARK    = %q
      }
    }
    health_check {
      period = "1s"
    }
    graceful_shutdown_timeout = "30s"
  }
`, name, more, s.program, s.dir, mark)
	}
	return "application \"shaped\" {\n  route_prefix = \"/shaped\"\n  ingress = deployment.front\n  request_timeout = \"60s\"\n  rollout {\n" + rollout + "\n  }\n" +
		deployment("front", "handles = [deployment.back]") + deployment("back", "") + "}\n"
}

func healthyOf(a reconcile.ApplicationStatus) int {
	n := 0
	for _, d := range a.Deployments {
		n += d.Healthy
	}
	return n
}

// until waits until the application is as it is asked for.
func (s *shaped) until(what string, so func(reconcile.ApplicationStatus) bool) reconcile.ApplicationStatus {
	s.t.Helper()
	var app reconcile.ApplicationStatus
	eventually(s.t, 3*time.Minute, what, func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		var err error
		if app, _, err = s.client(0).Application(ctx, "shaped", api.Query{}); err == nil && !so(app) {
			err = fmt.Errorf("%s, version %d serves, %d replicas: %s", app.Status, app.ServingVersion, healthyOf(app), app.Reason)
		}
		return err
	})
	return app
}

// replicasOf returns the ids of all replicas that pass.
func replicasOf(a reconcile.ApplicationStatus) []string {
	var ids []string
	for _, d := range a.Deployments {
		ids = slices.AppendSeq(ids, maps.Keys(replicaIDs(d)))
	}
	slices.Sort(ids)
	return ids
}

// nodeIDs waits until all nodes that there are are ready and it is so of their
// ids, and returns these.
func (s *shaped) nodeIDs(what string, so func(ids []string) bool) []string {
	s.t.Helper()
	var ids []string
	eventually(s.t, 2*time.Minute, what, func() error {
		by, err := s.nodeList(0)
		if err != nil {
			return err
		}
		ids = nil
		for _, n := range by[raftstate.NodeReady] {
			ids = append(ids, n.ID)
		}
		if len(by) != 1 || !so(ids) {
			return fmt.Errorf("%+v", by)
		}
		return nil
	})
	return ids
}

// apart checks that no answer was of both colors.
func (s *shaped) apart() {
	s.t.Helper()
	for versions := range s.load.counts() {
		if words := strings.Fields(versions); len(slices.Compact(words)) != 1 {
			s.t.Errorf("an answer is of %q", versions)
		}
	}
}

// launches is how many nodes were ordered so far.
func (s *shaped) launches() int { return s.launched(s.t) }

// A group gets other nodes: new ones come, a new generation of the application
// starts there and takes over, the old ones go, and no request is lost.
func TestNodesOfAnotherShape(t *testing.T) {
	s := newShaped(t)
	old := s.nodeIDs("there are nodes", func(ids []string) bool { return len(ids) > 0 })
	plan, code := s.planOf("green", 500)
	if code != 2 || !strings.Contains(plan, "moves with its worker group") || !strings.Contains(plan, "of another shape: closed to new replicas") ||
		!strings.Contains(plan, "Worker group cpu orders") {
		t.Errorf("exit code %d\n%s", code, plan)
	}
	began := time.Now()
	s.deployGroup("green", 500, "")
	app := s.until("version 2 serves alone", func(a reconcile.ApplicationStatus) bool {
		return a.Status == reconcile.Healthy && a.ServingVersion == 2 && healthyOf(a) == 4
	})
	switched := time.Since(began)
	fresh := s.nodeIDs("the old nodes are gone", func(ids []string) bool {
		return len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(old, id) })
	})
	t.Logf("green serves alone after %s, the old nodes are gone after %s; %d nodes before, %d now", ms(switched), ms(time.Since(began)), len(old), len(fresh))
	s.load.says(t, 10*time.Second, "green")
	s.load.goesOn(t, time.Second)
	s.load.wantNoneLost(t)
	s.apart()
	t.Logf("%d requests, answers by color %v", s.load.sent, s.load.counts())
	if app.ServingVersion != 2 {
		t.Errorf("%+v", app)
	}
	var nodes []struct{ Name, Status string }
	decode(t, get(t, s.Nomad.URL()+"/v1/nodes"), &nodes)
	if len(nodes) != 1+len(fresh) {
		t.Errorf("Nomad's nodes, its own among them: %+v", nodes)
	}
	if out, code := s.cli(0, "events"); code != 0 || !strings.Contains(out, "node-retiring") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// planOf returns what plan says of another shape.
func (s *shaped) planOf(color string, memory int) (output string, code int) {
	s.t.Helper()
	text := fmt.Sprintf("worker_group \"cpu\" {\n  max_nodes = 3\n  idle_timeout = \"2s\"\n  env = { VERSION = %q, FAULT = \"\" }\n"+
		"  node {\n    cpu = 1\n    core_mhz = 1000\n    memory = \"%dMiB\"\n  }\n  target \"process\" {}\n}\n", color, memory)
	file := filepath.Join(s.t.TempDir(), "plan.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.cli(0, "plan", file)
}

// The shape goes back while nodes of the other one are on their way: what runs
// goes on where it is, and no node is made again.
func TestNodesOfTheOldShapeAgain(t *testing.T) {
	s := newShaped(t)
	old := s.nodeIDs("there are nodes", func(ids []string) bool { return len(ids) > 0 })
	before := replicasOf(s.until("version 1 serves", func(a reconcile.ApplicationStatus) bool { return a.ServingVersion == 1 }))
	s.deployGroup("green", 500, "")
	eventually(t, 60*time.Second, "a green node is ordered", func() error {
		by, err := s.nodeList(0)
		if err == nil && (len(by[raftstate.NodeRetiring]) != len(old) || s.launches() == len(old)) {
			err = fmt.Errorf("%+v", by)
		}
		return err
	})
	s.deployGroup("blue", 400, "")
	ordered := s.launches() // green ones may have been on their way until then
	app := s.until("version 3 serves alone", func(a reconcile.ApplicationStatus) bool {
		return a.Status == reconcile.Healthy && a.ServingVersion == 3 && healthyOf(a) == 4
	})
	now := s.nodeIDs("there are the old nodes alone", func(ids []string) bool { return slices.Equal(ids, old) })
	if got := replicasOf(app); !slices.Equal(got, before) {
		t.Errorf("replicas %v, and before %v", got, before)
	}
	if launched := s.launches(); launched > ordered {
		events, _ := s.cli(0, "events")
		t.Errorf("%d nodes were ordered when the shape came back to %v\n%s", launched-ordered, now, events)
	}
	s.load.goesOn(t, time.Second)
	s.load.wantNoneLost(t)
	s.apart()
	t.Logf("%d requests, answers by color %v", s.load.sent, s.load.counts())
}

// Replicas do not live on nodes of the new shape: the rollout is undone, and with
// it the shape; what served goes on, and its nodes take replicas again.
func TestNodesOfABadShape(t *testing.T) {
	s := newShaped(t)
	old := s.nodeIDs("there are nodes", func(ids []string) bool { return len(ids) > 0 })
	s.deployGroup("black", 500, "")
	eventually(t, 3*time.Minute, "the group has its shape again", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		g, _, err := s.client(0).WorkerGroup(ctx, "cpu", api.Query{})
		if err == nil && g.Spec.Env["VERSION"] != "blue" || err == nil && g.Spec.Node.MemoryMB != 400 {
			err = fmt.Errorf("%+v", g.Spec)
		}
		return err
	})
	s.until("version 1 serves alone", func(a reconcile.ApplicationStatus) bool { return a.ServingVersion == 1 && healthyOf(a) == 4 })
	s.nodeIDs("there are the old nodes alone", func(ids []string) bool { return slices.Equal(ids, old) })
	if out, code := s.cli(0, "scale", "shaped", "back", "4"); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.until("there are two more", func(a reconcile.ApplicationStatus) bool { return healthyOf(a) == 6 })
	s.load.goesOn(t, time.Second)
	s.load.wantNoneLost(t)
	s.apart()
	if n := s.load.by("black"); n > 0 {
		t.Errorf("%d answers are of a version that does not live", n)
	}
	t.Logf("%d requests, answers by color %v", s.load.sent, s.load.counts())
}
