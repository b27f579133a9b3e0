//go:build e2e

package nomaddev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// deployElastic deploys the application that scales by its load, and the one
// that is scaled from outside.
func (s *shop) deployElastic(vars ...string) {
	s.t.Helper()
	s.deployFile("elastic", 0, vars...)
}

// elastic returns the status of the deployment that scales, as one server has it.
func (s *shop) elastic(server int) (reconcile.DeploymentStatus, error) {
	return s.only(server, "elastic")
}

// comesTo waits until the deployment that scales has so many replicas wanted and
// healthy, and no other.
func (s *shop) comesTo(server, replicas int) {
	s.t.Helper()
	eventually(s.t, 60*time.Second, fmt.Sprintf("it has %d replicas", replicas), func() error {
		d, err := s.elastic(server)
		if err == nil && (d.Target != replicas || d.Healthy != replicas || len(d.Replicas) != replicas) {
			err = fmt.Errorf("%d wanted, %d healthy of %d", d.Target, d.Healthy, len(d.Replicas))
		}
		return err
	})
}

// crowd is clients that ask without a pause, each sent to a proxy in turn.
type crowd struct {
	load
	s     *shop
	path  string
	leave []context.CancelFunc
	next  int
	avoid *nomaddev.Proxy // it is not asked; nil: all are
}

func (s *shop) startCrowd(path string) *crowd {
	c := &crowd{s: s, path: path}
	c.stop, c.versions = func() {}, map[string]int{}
	s.t.Cleanup(func() { c.size(0); c.done.Wait() })
	return c
}

// size makes the crowd so many. Who leaves finishes his request.
func (c *crowd) size(n int) {
	for ; len(c.leave) > n; c.leave = c.leave[:len(c.leave)-1] {
		c.leave[len(c.leave)-1]()
	}
	for len(c.leave) < n {
		ctx, cancel := context.WithCancel(context.Background())
		c.leave = append(c.leave, cancel)
		proxy := c.s.Proxies[c.next%len(c.s.Proxies)]
		if c.next++; proxy == c.avoid {
			proxy = c.s.Proxies[c.next%len(c.s.Proxies)]
			c.next++
		}
		url := proxy.URL() + c.path
		c.done.Go(func() {
			for ctx.Err() == nil {
				c.one(url)
			}
		})
	}
}

// scalingEvent is one of Nomad's records of a count that was changed.
type scalingEvent struct {
	Time    int64 // ns since 1970
	Count   *int
	Message string
}

// scalingEvents returns Nomad's records for the deployment's job, newest first.
func (s *shop) scalingEvents(t *testing.T) []scalingEvent {
	t.Helper()
	var jobs []struct{ ID string }
	decode(t, get(t, s.Nomad.URL()+"/v1/jobs?prefix=serve-elastic-"), &jobs)
	if len(jobs) != 1 {
		t.Fatalf("jobs: %v", jobs)
	}
	var status struct {
		TaskGroups map[string]struct{ Events []scalingEvent }
	}
	decode(t, get(t, s.Nomad.URL()+"/v1/job/"+jobs[0].ID+"/scale"), &status)
	return status.TaskGroups["worker"].Events
}

// rounds is how often what is measured is done. SERVE_NOMAD_ROUNDS=10 gives
// figures for BENCHMARKS.md.
func rounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SERVE_NOMAD_ROUNDS"))
	if err != nil {
		return 1
	}
	return n
}

// TestAutoscaling takes a deployment from nothing to its most and back while
// requests run through two proxies, and loses none.
func TestAutoscaling(t *testing.T) {
	s := startShop(t, 1, 2)
	s.deployElastic()
	s.comesTo(0, 0)
	trace := s.startRecording(t)
	c := s.startCrowd("/elastic?sleep=300ms")

	t.Run("nobody asks and nothing runs", func(t *testing.T) {
		if pids := taskPidsOf(t, s, "elastic"); len(pids) > 0 {
			t.Errorf("replicas: %v", pids)
		}
		out, code := s.cli(0, "status", "elastic")
		if code != 0 || !strings.Contains(out, "0..4") {
			t.Errorf("status does not show the bounds:\n%s", out)
		}
	})
	t.Run("the first request brings the first replica, and waits for it", func(t *testing.T) {
		c.size(1)
		s.comesTo(0, 1)
		c.answered(t, 3)
	})
	t.Run("a burst brings as many as it needs, and no more than allowed", func(t *testing.T) {
		c.size(5)
		s.comesTo(0, 3)
		c.size(30)
		s.comesTo(0, 4)
		c.answered(t, 100)
		if d, err := s.elastic(0); err != nil || d.Target != 4 {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("Nomad shows why", func(t *testing.T) {
		events := s.scalingEvents(t)
		if len(events) < 3 || !strings.Contains(events[0].Message, "requests") {
			t.Errorf("scaling events: %+v", events)
		}
	})
	t.Run("explain tells what it sees and what comes next", func(t *testing.T) {
		out, code := s.cli(0, "autoscale", "explain", "elastic/worker")
		for _, want := range []string{"4", "max_replicas", "30", "proxy"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("exit code %d, no %q in\n%s", code, want, out)
			}
		}
	})
	t.Run("who scales it by hand is told to leave it alone", func(t *testing.T) {
		if out, code := s.cli(0, "scale", "elastic", "worker", "1"); code != 1 || !strings.Contains(out, "external") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
	t.Run("a deploy of the same spec leaves the target alone", func(t *testing.T) {
		s.deployElastic()
		if d, err := s.elastic(0); err != nil || d.Target != 4 {
			t.Errorf("%+v, %v", d, err)
		}
	})
	t.Run("less load takes replicas away, and none takes all", func(t *testing.T) {
		c.size(3)
		s.comesTo(0, 2)
		c.size(1)
		s.comesTo(0, 1)
		c.size(0)
		s.comesTo(0, 0)
	})
	t.Run("and up again at once", func(t *testing.T) {
		c.size(4)
		s.comesTo(0, 2)
		c.size(0)
		s.comesTo(0, 0)
	})
	c.wantNoneLost(t)
	trace.end(t)
}

// TestAutoscalingFigures measures how soon a burst is an order, and how much is
// added to a replica's own start.
func TestAutoscalingFigures(t *testing.T) {
	s := startShop(t, 1, 1)
	t.Run("from nothing", func(t *testing.T) {
		s.deployElastic("loads=200ms")
		for range rounds(t) {
			s.comesTo(0, 0)
			asked := time.Now()
			a, _, err := s.ask("/elastic")
			answered := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			ordered, started := time.Unix(0, s.scalingEvents(t)[0].Time), time.Unix(0, a.Started)
			ready := started.Add(200 * time.Millisecond)
			t.Logf("answered after %s: ordered of Nomad %s, started by Nomad %s, its own start 200ms, answered %s after it was ready; added: %s",
				ms(answered.Sub(asked)), ms(ordered.Sub(asked)), ms(started.Sub(ordered)), ms(answered.Sub(ready)), ms(ordered.Sub(asked)+answered.Sub(ready)))
		}
	})
	t.Run("a burst", func(t *testing.T) {
		s.deployElastic("loads=200ms", "min=1", "look_back=0s")
		for range rounds(t) {
			s.comesTo(0, 1)
			c := s.startCrowd("/elastic?sleep=300ms")
			burst := time.Now()
			c.size(30)
			s.comesTo(0, 4)
			var ordered time.Time
			for _, e := range s.scalingEvents(t) {
				if at := time.Unix(0, e.Time); e.Count != nil && at.After(burst) {
					ordered = at // newest first: the last one is the first after the burst
				}
			}
			t.Logf("Nomad has the new count %s after the burst", ms(ordered.Sub(burst)))
			c.size(0)
			c.wantNoneLost(t)
		}
	})
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// TestAutoscalingWithoutItsLeader kills the leader of three while load runs: the
// target stays where the load has it, and follows it again afterwards.
func TestAutoscalingWithoutItsLeader(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 3, 2)
	s.deployElastic("min=1")
	c := s.startCrowd("/elastic?sleep=300ms")
	c.size(6)
	s.comesTo(0, 3)
	leader := s.leader(t)
	other := (leader + 1) % 3
	watch := s.watchTargets(other)
	s.Servers[leader].Kill()
	s.leader(t)
	c.answered(t, 200)
	if seen := watch.end(); len(seen) != 1 || !seen[3] {
		t.Errorf("targets while the leader changed: %v", seen)
	}
	c.size(8)
	s.comesTo(other, 4)
	c.size(1)
	s.comesTo(other, 1)
	c.size(0)
	c.wantNoneLost(t)
}

// watched is the targets that were seen.
type watched struct {
	stop context.CancelFunc
	done sync.WaitGroup
	seen map[int]bool
}

func (s *shop) watchTargets(server int) *watched {
	ctx, cancel := context.WithCancel(s.t.Context())
	w := &watched{stop: cancel, seen: map[int]bool{}}
	client := s.client(server)
	w.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if app, _, err := client.Application(ctx, "elastic", api.Query{Stale: true}); err == nil {
				w.seen[app.Deployments[0].Target] = true
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return w
}

func (w *watched) end() map[int]bool {
	w.stop()
	w.done.Wait()
	return w.seen
}

// TestSilentProxy stops a proxy that has requests: the leader does not take its
// silence for idleness.
func TestSilentProxy(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 2)
	s.deployElastic("min=1")
	c := s.startCrowd("/elastic?sleep=300ms")
	c.size(6)
	s.comesTo(0, 3)
	silent := s.Proxies[1]
	if err := syscall.Kill(silent.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "it is said which proxy is silent", func() error {
		out, code := s.cli(0, "autoscale", "explain", "elastic/worker")
		if code != 0 || !strings.Contains(out, "silent") {
			return fmt.Errorf("exit code %d\n%s", code, out)
		}
		return nil
	})
	c.answered(t, 100)
	if d, err := s.elastic(0); err != nil || d.Target != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	if err := syscall.Kill(silent.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.size(1)
	s.comesTo(0, 1)
	c.size(0)
}

// TestExternalScaling sets the target from outside, within the bounds.
func TestExternalScaling(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := startShop(t, 1, 1)
	s.deployElastic()
	if out, code := s.cli(0, "scale", "-message", "campaign", "manual", "worker", "3"); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	eventually(t, 30*time.Second, "3 replicas are healthy", func() error {
		app, _, err := s.client(0).Application(t.Context(), "manual", api.Query{})
		if err == nil && app.Deployments[0].Healthy != 3 {
			err = fmt.Errorf("%+v", app.Deployments[0])
		}
		return err
	})
	if out, code := s.cli(0, "scale", "manual", "worker", "4"); code != 1 || !strings.Contains(out, "1") || !strings.Contains(out, "3") {
		t.Errorf("beyond its bounds: exit code %d\n%s", code, out)
	}
}

// recording is a `serve-nomad autoscale record` at work.
type recording struct {
	cmd           *exec.Cmd
	path, picture string
	out           *strings.Builder
}

// startRecording records the load of the deployment that scales.
// SERVE_NOMAD_TRACE names a folder to keep the record and its picture in.
func (s *shop) startRecording(t *testing.T) *recording {
	t.Helper()
	dir := os.Getenv("SERVE_NOMAD_TRACE")
	if dir == "" {
		dir = t.TempDir()
	}
	r := &recording{
		path: filepath.Join(dir, "elastic.jsonl"), picture: filepath.Join(dir, "elastic.svg"), out: &strings.Builder{},
	}
	r.cmd = exec.CommandContext(t.Context(), serveNomad(t), "autoscale", "record", "-interval", "200ms", "-out", r.path, "-svg", r.picture, "elastic/worker")
	r.cmd.Env = append(os.Environ(), api.AddressEnv+"="+s.Servers[0].URL())
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// end ends the recording, and checks that it shows what there was and that a
// replay comes to as many replicas.
func (r *recording) end(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("record: %v\n%s", err, r.out)
	}
	lines, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	most, length := 0, 0.0
	for line := range strings.Lines(string(lines)) {
		var sample struct {
			At      float64
			Running int
		}
		if err := json.Unmarshal([]byte(line), &sample); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		most, length = max(most, sample.Running), sample.At
	}
	if most != 4 {
		t.Errorf("at most %d replicas were recorded as running:\n%s", most, lines)
	}
	if picture, err := os.ReadFile(r.picture); err != nil || !strings.Contains(string(picture), "elastic/worker") {
		t.Errorf("the drawing: %v\n%s", err, picture)
	}
	out, err := exec.CommandContext(t.Context(), serveNomad(t), "autoscale", "replay", "-spec", "testdata/elastic.hcl", "-var", "program=/bin/true",
		"-application", "elastic", "-deployment", "worker", "-load", r.path, "-until", fmt.Sprintf("%.0fs", length+5)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Largest target        = 4") {
		t.Fatalf("replay: %v\n%s", err, out)
	}
}

// taskPidsOf returns the pids of the tasks of one application.
func taskPidsOf(t *testing.T, s *shop, application string) []int {
	t.Helper()
	var pids []int
	for _, pid := range taskPids(t, s.cluster) {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && strings.Contains(string(env), "SERVE_APPLICATION="+application+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
