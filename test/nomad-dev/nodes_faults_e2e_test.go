//go:build e2e

package nomaddev_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// workers is an application of one deployment, whose replicas are half a core.
func (s *shop) workers(name string, replicas int, more string) string {
	return fmt.Sprintf(`
application %q {
  route_prefix = "/%s"
  deployment %q {
    num_replicas = %d
    %s
    resources {
      cpu    = 0.5
      memory = "128MiB"
    }
    task {
      driver = "raw_exec"
      config {
        command = %q
      }
    }
    health_check {
      period = "1s"
    }
    graceful_shutdown_timeout = "10s"
  }
}
`, name, name, name, replicas, more, s.program)
}

// workerGroup is the block of a worker group, whose nodes have one core.
func workerGroup(name, more, node, target string) string {
	return fmt.Sprintf(`
worker_group %q {
  idle_timeout = "2s"
  %s
  node {
    cpu      = 1
    core_mhz = 1000
    memory   = "512MiB"
    %s
  }
  scale_down {
    budget            = "100%%"
    consolidate_after = "1s"
  }
  target %s
}
`, name, more, node, target)
}

const byProcess = `"process" {}`

// byScript is the target that testdata/target.sh is, in one of its modes.
func (s *shop) byScript(mode string) string {
	path, err := filepath.Abs("testdata/target.sh")
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("\"exec\" {\n    command = [%q]\n    config = {\n      mode = %q\n      log = %q\n    }\n  }", path, mode, s.scriptLog(mode))
}

func (s *shop) scriptLog(mode string) string { return filepath.Join(s.Dir, "target-"+mode+".log") }

// called returns the ids that the script was called with so far.
func (s *shop) called(mode, what string) map[string]bool {
	s.t.Helper()
	text, err := os.ReadFile(s.scriptLog(mode))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	ids := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), what+" "); ok {
			ids[id] = true
		}
	}
	return ids
}

// group returns what there is to say of a worker group.
func (s *shop) group(name string) (api.WorkerGroupDetail, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	g, _, err := s.client(0).WorkerGroup(ctx, name, api.Query{})
	if err == nil && g.Report == nil {
		err = errors.New(g.ReportError)
	}
	return g, err
}

// groupHas waits until a group has ordered so many nodes, all of them ready, and
// returns these.
func (s *shop) groupHas(name string, nodes int) []nodescale.NodeReport {
	s.t.Helper()
	var list []nodescale.NodeReport
	eventually(s.t, 60*time.Second, fmt.Sprintf("worker group %s has %d nodes", name, nodes), func() error {
		g, err := s.group(name)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(g.Nodes, func(n nodescale.NodeReport) bool { return n.Phase == "" })
		all := 0
		for _, n := range g.Phases {
			all += n
		}
		if all != nodes || g.Phases[raftstate.NodeReady] != nodes || len(list) != nodes {
			return fmt.Errorf("%v: %+v", g.Phases, g.Nodes)
		}
		return nil
	})
	return list
}

// serves waits until an application is healthy.
func (s *shop) serves(name string) reconcile.DeploymentStatus {
	s.t.Helper()
	var app reconcile.ApplicationStatus
	eventually(s.t, 90*time.Second, name+" is healthy", func() (err error) {
		if app, _, err = s.client(0).Application(s.t.Context(), name, api.Query{}); err != nil {
			return err
		}
		if app.Status != reconcile.Healthy || app.Deployments[0].Healthy != app.Deployments[0].Target {
			return fmt.Errorf("%s: %s", app.Status, app.Reason)
		}
		return nil
	})
	return app.Deployments[0]
}

func (s *shop) mustCLI(args ...string) string {
	s.t.Helper()
	out, code := s.cli(0, args...)
	if code != 0 {
		s.t.Fatalf("serve-nomad %q: exit code %d\n%s", args, code, out)
	}
	return out
}

// refused checks that a spec is not deployed, and that the answer says why.
func (s *shop) refused(t *testing.T, why, spec string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "refused.hcl")
	if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := s.cli(0, "deploy", "-detach", file); code == 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), why) {
		t.Errorf("exit code %d, want one that is not 0 and %q\n%s", code, why, out)
	}
}

func (s *shop) deployDetached(t *testing.T, spec string, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "app.hcl")
	if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustCLI(append([]string{"deploy", "-detach", file}, flags...)...)
}

// TestNodesOfBadTargets orders nodes of targets that misbehave in every way:
// another group of the pool takes over, and what they were asked for is
// cleaned up.
func TestNodesOfBadTargets(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	why := map[string]string{
		"hangs": "did not answer in time", "garbage": "not the JSON that is wanted",
		"fails": "the quota is used up", "ghost": "did not join Nomad within launch_timeout",
	}
	modes := slices.Sorted(maps.Keys(why))
	var spec strings.Builder
	for _, mode := range modes {
		pool := fmt.Sprintf("node_pool = %q\n", mode)
		spec.WriteString(workerGroup(mode, pool+"priority = 10\nlaunch_timeout = \"3s\"", `class = "bad"`, s.byScript(mode)))
		spec.WriteString(workerGroup(mode+"-sound", pool, `class = "sound"`, byProcess))
		spec.WriteString(s.workers(mode, 1, pool))
	}
	s.deployDetached(t, spec.String())

	t.Run("each is told of, and pauses", func(t *testing.T) {
		told := map[string]bool{}
		eventually(t, 30*time.Second, "all four are told of", func() error {
			out := s.mustCLI("node-groups")
			for _, mode := range modes {
				g, err := s.group(mode)
				if err != nil {
					return err
				}
				told[mode] = told[mode] || !g.Report.Backoff.IsZero() && strings.Contains(g.Report.Failure, why[mode]) && strings.Contains(out, why[mode])
			}
			if len(told) != len(modes) || slices.Contains(slices.Collect(maps.Values(told)), false) {
				return fmt.Errorf("%v\n%s", told, out)
			}
			return nil
		})
	})
	t.Run("the other group of the pool takes over", func(t *testing.T) {
		for _, mode := range modes {
			s.groupHas(mode+"-sound", 1)
			s.serves(mode)
		}
	})
	t.Run("what was asked for is removed", func(t *testing.T) {
		for _, mode := range modes {
			s.groupHas(mode, 0)
			launched, removed := s.called(mode, "launch"), s.called(mode, "remove")
			if len(launched) == 0 || !maps.Equal(launched, removed) {
				t.Errorf("%s: launched %v, removed %v", mode, launched, removed)
			}
		}
	})
	t.Run("a machine that nobody ordered is told of, and left alone", func(t *testing.T) {
		g, err := s.group("ghost")
		if err != nil {
			t.Fatal(err)
		}
		if notes := strings.Join(g.Report.Notes, "\n"); !strings.Contains(notes, "nobody-ordered-this") {
			t.Errorf("notes: %s", notes)
		}
		if g, err = s.group("garbage"); err != nil || !strings.Contains(strings.Join(g.Report.Notes, "\n"), "does not say what there is") {
			t.Errorf("%v: %+v", err, g.Report.Notes)
		}
	})
	t.Run("the rest goes when nobody needs it", func(t *testing.T) {
		for _, mode := range modes {
			s.mustCLI("delete", "-detach", mode)
		}
		for _, mode := range modes {
			s.groupHas(mode+"-sound", 0)
		}
	})
}

// TestNodesOfAScript has nodes made by a command: a machine is known by what its
// Nomad client says of itself, and only by that.
func TestNodesOfAScript(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	targets := processTargets(t, s.cluster)
	machine := func(pool string, config map[string]string) nodescale.Blueprint {
		return nodescale.Blueprint{
			ClusterID: "test", Group: "test", NodePool: pool, Datacenter: "dc1",
			CPU: 1, CPUMHz: 1000, MemoryMB: 512, Kind: "process", Config: config,
		}
	}
	ordered := func(t *testing.T, mode string) (id string) {
		t.Helper()
		eventually(t, 30*time.Second, "the script is called", func() error {
			for id = range s.called(mode, "launch") {
				return nil
			}
			return errors.New("not yet")
		})
		return id
	}
	t.Run("by the id in its meta", func(t *testing.T) {
		s.deployDetached(t, workerGroup("made", "", "", s.byScript("works"))+s.workers("made", 1, `worker_group = "made"`))
		id := ordered(t, "works")
		if _, err := targets.Launch(t.Context(), machine("made", nil), nodescale.Machine{ID: id}); err != nil {
			t.Fatal(err)
		}
		if n := s.groupHas("made", 1)[0]; n.ID != id || n.Name != id {
			t.Errorf("%+v", n)
		}
		s.serves("made")
		s.mustCLI("delete", "made")
		eventually(t, 30*time.Second, "the script is to remove it", func() error {
			g, err := s.group("made")
			if err == nil && (!s.called("works", "remove")[id] || !strings.Contains(g.Nodes[0].Reason, "still answers Nomad")) {
				err = fmt.Errorf("%+v", g.Nodes)
			}
			return err
		})
		if err := targets.Remove(t.Context(), machine("made", nil), nodescale.Machine{ID: id}); err != nil {
			t.Fatal(err)
		}
		s.groupHas("made", 0)
	})
	t.Run("by its instance, and no other node of that name", func(t *testing.T) {
		// Nomad's own node runs on a host of the same name, in another pool.
		s.deployText(t, 0, workerGroup("named", "min_nodes = 1", "", s.byScript("named")))
		id := ordered(t, "named")
		config := filepath.Join(t.TempDir(), "nomad.hcl")
		if err := os.WriteFile(config, []byte("client {\n meta {\n serve_node = \"\"\n }\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := targets.Launch(t.Context(), machine("named", map[string]string{"nomad_config": config}), nodescale.Machine{ID: "another-name"}); err != nil {
			t.Fatal(err)
		}
		if n := s.groupHas("named", 1)[0]; n.ID != id || n.Name != "another-name" {
			t.Errorf("%+v", n)
		}
		own, err := nodeNamed(t, s.cluster, "nomad")
		if err != nil || own.Status != "ready" {
			t.Errorf("Nomad's own node: %+v, %v", own, err)
		}
	})
}

// TestNodesOfBadSpecs deploys what cannot be: it is refused with the reason, or
// told of at once, and no node is ordered for it.
func TestNodesOfBadSpecs(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	s.deployText(t, 0, workerGroup("cpu", "max_nodes = 2", "", byProcess))

	t.Run("what fits no group", func(t *testing.T) {
		large := strings.Replace(s.workers("large", 1, `node_pool = "cpu"`), "128MiB", "4GiB", 1)
		s.refused(t, "no node could hold", large)
		s.deployDetached(t, large, "-force")
		eventually(t, 30*time.Second, "status and pending say so", func() error {
			status, pending := s.mustCLI("status", "large"), s.mustCLI("pending")
			for _, want := range []string{"4096", "memory"} {
				if !strings.Contains(status, want) || !strings.Contains(pending, want) {
					return fmt.Errorf("%s\n%s", status, pending)
				}
			}
			return nil
		})
		g, err := s.group("cpu")
		if err != nil || g.Usage.Launched != 0 {
			t.Errorf("%v: %+v", err, g)
		}
		s.mustCLI("delete", "large")
	})
	t.Run("bounds and pools that contradict each other", func(t *testing.T) {
		s.refused(t, "above max_nodes", workerGroup("odd", "min_nodes = 3\nmax_nodes = 2", "", byProcess))
		s.refused(t, "nothing tells the nodes of the two apart",
			workerGroup("one", `node_pool = "same"`, "", byProcess)+workerGroup("two", `node_pool = "same"`, "", byProcess))
		s.refused(t, `share node pool "cpu"`, workerGroup("other", `node_pool = "cpu"`, "", byProcess))
		s.refused(t, `share node pool "cpu"`, workerGroup("other", `node_pool = "cpu"`, `class = "x"`, byProcess))
	})
	t.Run("a group with nodes keeps their class, and changes its bounds", func(t *testing.T) {
		s.deployText(t, 0, workerGroup("cpu", "max_nodes = 2\nmin_nodes = 1", "", byProcess))
		s.groupHas("cpu", 1)
		s.refused(t, "cannot change while it has 1 node", workerGroup("cpu", "max_nodes = 2\nmin_nodes = 1", `class = "x"`, byProcess))
		s.deployText(t, 0, workerGroup("cpu", "max_nodes = 3\nmin_nodes = 2", "", byProcess))
		s.groupHas("cpu", 2)
		s.deployText(t, 0, strings.Replace(workerGroup("cpu", "max_nodes = 3", "", byProcess), `"2s"`, `"1s"`, 1))
		s.groupHas("cpu", 0)
	})
	t.Run("a group in use is not deleted", func(t *testing.T) {
		s.deployText(t, 0, s.workers("app", 1, `worker_group = "cpu"`))
		if out, code := s.cli(0, "node-groups", "delete", "cpu"); code == 0 || !strings.Contains(out, "in use: app/app") {
			t.Errorf("exit code %d\n%s", code, out)
		}
		s.serves("app")
	})
	t.Run("a group whose node holds a replica of the pool goes when the replica does", func(t *testing.T) {
		s.deployText(t, 0, s.workers("app", 1, `node_pool = "cpu"`))
		s.serves("app")
		s.mustCLI("node-groups", "delete", "-detach", "cpu")
		eventually(t, 20*time.Second, "it says what keeps its node", func() error {
			g, err := s.group("cpu")
			if err == nil && (len(g.Nodes) != 1 || !strings.Contains(g.Nodes[0].Reason, "there is room for 0")) {
				err = fmt.Errorf("%+v", g.Nodes)
			}
			return err
		})
		s.serves("app")
		s.mustCLI("delete", "app")
		eventually(t, 30*time.Second, "it is gone", func() error {
			if _, err := s.group("cpu"); !api.CodeNotFound.Is(err) {
				return fmt.Errorf("%w", err)
			}
			return nil
		})
	})
}
