//go:build e2e

package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// These tests share one real Nomad agent with a Consul agent beside it. They
// leave their jobs stopped.

var agents struct {
	sync.Once
	cluster *nomaddev.Cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if agents.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(agents.cluster.Stop(ctx), os.RemoveAll(agents.cluster.Dir)); err != nil {
			fmt.Fprintln(os.Stderr, "stop the agents:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func startAgents(ctx context.Context) (*nomaddev.Cluster, error) {
	found, err := nomaddev.Find(ctx, nomaddev.Options{Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "nomadjobs-e2e-") // not t.TempDir: it outlives the test, and Nomad needs a short path
	if err != nil {
		return nil, err
	}
	return nomaddev.StartCluster(ctx, nomaddev.ClusterOptions{Dir: dir, Agents: found, Dev: true})
}

const replicaScript = `
import http.server, os, signal, sys, time
print("environment", sorted((k, v) for k, v in os.environ.items() if k.startswith("SERVE_")), flush=True)
print("config", open(os.environ["SERVE_USER_CONFIG"]).read(), flush=True)
def end(number, frame):
    print("signal", number, time.time(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
http.server.HTTPServer(("", int(os.environ["PORT"])), http.server.SimpleHTTPRequestHandler).serve_forever()
`

func e2eClient(t *testing.T) *Client {
	t.Helper()
	agents.Do(func() { agents.cluster, agents.err = startAgents(context.WithoutCancel(t.Context())) })
	if agents.err != nil {
		t.Fatal(agents.err)
	}
	c, err := New(Config{Address: agents.cluster.Nomad.URL()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// e2eJob renders a job of one deployment that runs script.
func e2eJob(t *testing.T, c *Client, name, script string, edit func(*jobspec.Input)) *api.Job {
	t.Helper()
	seen, err := c.Observe(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	dep := &appspec.Deployment{
		Name: "web", NumReplicas: 1, MaxOngoingRequests: 5, Resources: appspec.Resources{CPU: 0.05, MemoryMB: 64},
		HealthCheck:             appspec.HealthCheck{Path: "/", Period: appspec.Duration(time.Second), Timeout: appspec.Duration(time.Second)},
		GracefulShutdownTimeout: appspec.Duration(10 * time.Second),
		UserConfig:              []byte(`{"text":"{{ env \"HOME\" }} ${NOMAD_ALLOC_ID}"}`),
		Task:                    &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "python3", "args": []string{"-u", "-c", script}}},
	}
	in := jobspec.Input{
		ClusterID:   "e2e-" + name,
		Application: &appspec.Application{Name: "e2e-" + name, Deployments: []*appspec.Deployment{dep}}, Deployment: dep,
		Version: "00000001", Count: 1, CoreMHz: seen.CoreMHz["default"],
		HandleAddress: "127.0.0.1:8001", UIAddress: "http://127.0.0.1:8265", ShutdownDelay: time.Second,
	}
	if in.CoreMHz == 0 {
		t.Fatal("no ready node in pool default")
	}
	if edit != nil {
		edit(&in)
	}
	job := jobspec.Render(in)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if now, err := c.job(ctx, *job.ID); err == nil {
			if err := c.Stop(ctx, *job.ID, *now.JobModifyIndex); err != nil {
				t.Error(err)
			}
		}
	})
	return job
}

// index returns the index to register job with.
func index(t *testing.T, c *Client, id string) uint64 {
	t.Helper()
	job, err := c.job(t.Context(), id)
	if errors.Is(err, ErrNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return *job.JobModifyIndex
}

// await observes, woken by Wake, until done says so.
func await(t *testing.T, c *Client, job *api.Job, what string, done func(reconcile.Job, []reconcile.Replica) bool) (reconcile.Job, []reconcile.Replica) {
	t.Helper()
	limit := 30 * time.Second
	if job.TaskGroups[0].Tasks[0].Driver == "exec" {
		limit = 3 * time.Minute // it copies the system's programs first
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for range c.Wake(ctx) {
		seen, err := c.Observe(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		var replicas []reconcile.Replica
		for _, r := range seen.Replicas {
			if r.JobID == *job.ID {
				replicas = append(replicas, r)
			}
		}
		if done(seen.Jobs[*job.ID], replicas) {
			return seen.Jobs[*job.ID], replicas
		}
	}
	t.Fatalf("%s: not within %s", what, limit)
	return reconcile.Job{}, nil
}

func live(replicas []reconcile.Replica) (list []reconcile.Replica) {
	for _, r := range replicas {
		if r.Status == reconcile.ReplicaRunning {
			list = append(list, r)
		}
	}
	return list
}

func TestE2ELife(t *testing.T) {
	c := e2eClient(t)
	job := e2eJob(t, c, "life", replicaScript, nil)
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	_, replicas := await(t, c, job, "one replica runs", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 1 })
	first := live(replicas)[0]
	if err := c.Register(t.Context(), job, 0); !errors.Is(err, ErrConflict) {
		t.Errorf("registered over a running job: %v", err)
	}
	if err := c.Scale(t.Context(), *job.ID, "web", 3, "the test asks for it"); err != nil {
		t.Fatal(err)
	}
	if err := c.Scale(t.Context(), *job.ID, "web", 2, "no Nomad deployment is in the way"); err != nil {
		t.Fatal(err)
	}
	seen, _ := await(t, c, job, "two replicas run", func(j reconcile.Job, list []reconcile.Replica) bool {
		return len(live(list)) == 2 && j.Count == 2
	})

	// A server with another configuration would render another job.
	limited := e2eJob(t, c, "life", replicaScript, func(in *jobspec.Input) {
		in.Count, in.Deployment.MaxOngoingRequests, in.HandleAddress = 2, 9, "127.0.0.2:8001"
	})
	if err := c.Register(t.Context(), limited, seen.ModifyIndex-1); !errors.Is(err, ErrConflict) {
		t.Errorf("registered with an old index: %v", err)
	}
	meta := jobspec.LiveMeta(nil, &appspec.Deployment{MaxOngoingRequests: 9})
	if err := c.Update(t.Context(), reconcile.Update{JobID: *job.ID, Group: "web", Count: 2, Meta: meta, ModifyIndex: seen.ModifyIndex}); err != nil {
		t.Fatal(err)
	}
	seen, replicas = await(t, c, job, "the live hash changes", func(j reconcile.Job, _ []reconcile.Replica) bool { return j.LiveHash != seen.LiveHash })
	found := false
	for _, r := range live(replicas) {
		found = found || r.ID == first.ID
	}
	if !found || len(live(replicas)) != 2 {
		t.Errorf("a change of limits restarted replicas: %+v", replicas)
	}
	lines, err := c.LastLines(t.Context(), first.ID, "web", "stdout", 5)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{first.ID, `{"text":"{{ env \"HOME\" }} ${NOMAD_ALLOC_ID}"}`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not hold %q:\n%s", want, text)
		}
	}
	stopAndRestart(t, c, limited, first, seen)
}

func stopAndRestart(t *testing.T, c *Client, job *api.Job, first reconcile.Replica, seen reconcile.Job) {
	t.Helper()
	log, err := c.Logs(t.Context(), LogRequest{Replica: first.ID, Task: "web", Stream: "stdout", Follow: true, TailLines: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := c.Stop(t.Context(), *job.ID, seen.ModifyIndex-1); !errors.Is(err, ErrConflict) {
		t.Errorf("stopped with an old index: %v", err)
	}
	if err := c.Stop(t.Context(), *job.ID, seen.ModifyIndex); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(log) // ends with the replica
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "config ") || !strings.Contains(string(text), "signal 15") {
		t.Errorf("the followed log is not its last line and then the SIGTERM:\n%s", text)
	}
	await(t, c, job, "all replicas stop", func(j reconcile.Job, list []reconcile.Replica) bool {
		for _, r := range list {
			if r.Status != reconcile.ReplicaStopped {
				return false
			}
		}
		return j.Stopped
	})
	if err := c.Register(t.Context(), job, 0); err != nil {
		t.Errorf("register over a stopped job: %v", err)
	}
	await(t, c, job, "replicas run again", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 2 })
}

func TestE2EShortage(t *testing.T) {
	c := e2eClient(t)
	job := e2eJob(t, c, "short", replicaScript, func(in *jobspec.Input) { in.Deployment.Resources.MemoryMB = 1 << 30; in.Count = 2 })
	problem, err := c.Plan(t.Context(), job)
	if err != nil || !strings.Contains(problem, "not enough memory") {
		t.Errorf("plan: %q, %v", problem, err)
	}
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	seen, _ := await(t, c, job, "the shortage shows", func(j reconcile.Job, _ []reconcile.Replica) bool { return j.Blocked != "" })
	if seen.Unplaced != 2 || !strings.Contains(seen.Blocked, "not enough memory") {
		t.Errorf("got %+v", seen)
	}
}

func TestE2EDeadAtStart(t *testing.T) {
	c := e2eClient(t)
	job := e2eJob(t, c, "dead", "import sys; print('no model', file=sys.stderr); sys.exit(3)", nil)
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, replicas := await(t, c, job, "the replica fails", func(_ reconcile.Job, list []reconcile.Replica) bool {
		return len(list) > 0 && list[len(list)-1].Status == reconcile.ReplicaFailed
	})
	last := replicas[len(replicas)-1]
	t.Logf("failed after %s: %q, %d restarts", time.Since(began), last.Reason, last.Restarts)
	if !strings.Contains(last.Reason, "exited with code 3") {
		t.Errorf("reason %q", last.Reason)
	}
	lines, err := c.LastLines(t.Context(), last.ID, "web", "stderr", 1)
	if err != nil || len(lines) != 1 || lines[0] != "no model" {
		t.Errorf("log %q, %v", lines, err)
	}
}

func TestE2EMissingBinary(t *testing.T) {
	c := e2eClient(t)
	job := e2eJob(t, c, "missing", "", func(in *jobspec.Input) {
		in.Deployment.Task.Config = map[string]any{"command": "no-such-binary"}
	})
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	_, replicas := await(t, c, job, "the replica fails", func(_ reconcile.Job, list []reconcile.Replica) bool {
		return len(list) > 0 && list[len(list)-1].Reason != ""
	})
	if reason := replicas[len(replicas)-1].Reason; !strings.Contains(reason, "no-such-binary") {
		t.Errorf("reason %q", reason)
	}
}
