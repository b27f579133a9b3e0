//go:build unix

package nomaddev

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// start runs a shell script as a process of a run folder.
func start(t *testing.T, dir, name, script string) *Process {
	t.Helper()
	p, err := StartProcess(Command{Name: name, RunDir: dir, Path: "/bin/sh", Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !waitGone(10*time.Second, ok) {
		t.Fatalf("it did not come about that %s", what)
	}
}

func TestChildEnvPointsNowhere(t *testing.T) {
	got := childEnv([]string{"HOME=/h", "NOMAD_ADDR=x", "CONSUL_HTTP_TOKEN=x", "VAULT_ADDR=x", "SERVE_NOMAD_ADDR=x", "PATH=/bin"})
	if diff := cmp.Diff([]string{"HOME=/h", "PATH=/bin"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDaemon(t *testing.T) {
	daemon := func(t *testing.T, script string, ready func(context.Context) error) *Daemon {
		t.Helper()
		d := &Daemon{
			name: "thing", within: 5 * time.Second, ready: ready,
			command: Command{Name: "thing", RunDir: t.TempDir(), Path: "/bin/sh", Args: []string{"-c", script}},
		}
		t.Cleanup(d.Kill)
		return d
	}
	yes := func(context.Context) error { return nil }
	no := func(context.Context) error { return errors.New("it is not there yet") }

	t.Run("is stopped in order and starts again", func(t *testing.T) {
		d := daemon(t, "echo hello; exec sleep 100", yes)
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := d.Pid()
		if err := d.Launch(t.Context()); err == nil {
			t.Error("it was started twice")
		}
		if err := d.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d.Pid() == first || !d.Running() {
			t.Errorf("pid %d after the restart, running %t", d.Pid(), d.Running())
		}
		if err := d.Stop(t.Context()); err != nil || d.Running() {
			t.Errorf("stop: %v, running %t", err, d.Running())
		}
	})
	t.Run("says the last lines of one that does not start", func(t *testing.T) {
		err := daemon(t, "echo the disk is full; exit 7", no).Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("says what is missing when the time is over", func(t *testing.T) {
		d := daemon(t, "exec sleep 100", no)
		d.within = 100 * time.Millisecond
		err := d.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "it is not there yet") {
			t.Errorf("got %v", err)
		}
		if d.Running() {
			t.Error("it was left running")
		}
	})
	t.Run("does not start where its port is taken", func(t *testing.T) {
		b, err := ReserveBlock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Release() }()
		d := daemon(t, "exec sleep 100", yes)
		d.listens = []string{hostPort(loopback, b.first)}
		var busy *PortError
		if err = d.Start(t.Context()); !errors.As(err, &busy) {
			t.Errorf("got %v, want a PortError", err)
		}
	})
	t.Run("is killed when it does not stop", func(t *testing.T) {
		d := daemon(t, "trap '' TERM; echo ready; while :; do sleep 0.05; done", nil)
		d.ready = func(context.Context) error {
			if !strings.Contains(LastLines(d.LogPath(), 1), "ready") {
				return errors.New("not yet")
			}
			return nil
		}
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || d.Running() {
			t.Errorf("stop: %v, running %t", err, d.Running())
		}
	})
}

func TestCleanup(t *testing.T) {
	t.Run("ends recorded processes and what they started, and nothing else", func(t *testing.T) {
		dir, other := t.TempDir(), t.TempDir()
		p := start(t, dir, "agent", "sleep 100 & echo $!; wait")
		stranger := start(t, other, "agent", "exec sleep 100")
		reader := exec.Command("tail", "-f", filepath.Join(dir, "logs", "agent.log")) // names the folder, is no part of it
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = reader.Process.Kill()
			_ = reader.Wait()
		}()
		until(t, "the child runs", func() bool { return LastLines(p.LogPath, 1) != "" })
		cleaned, err := Cleanup(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(cleaned.Processes) == 0 || p.Ended() == "" && !gone(p) {
			t.Errorf("ended %q", cleaned.Processes)
		}
		if runtime.GOOS == "linux" && len(leftovers(dir)) > 0 {
			t.Errorf("%+v are left", leftovers(dir))
		}
		if stranger.Ended() != "" {
			t.Error("another run's process was ended")
		}
		if identity, _ := identity(reader.Process.Pid); identity == "" {
			t.Error("a process that only reads a log was ended")
		}
		again, err := Cleanup(t.Context(), dir)
		if err != nil || len(again.Processes) != 0 {
			t.Errorf("the second time: %q, %v", again.Processes, err)
		}
	})
	t.Run("spares a process that has got a recorded pid", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "pids"), 0o755); err != nil {
			t.Fatal(err)
		}
		bystander := exec.Command("sleep", "100")
		if err := bystander.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = bystander.Process.Kill()
			_ = bystander.Wait()
		}()
		path := filepath.Join(dir, "pids", "nomad.json")
		if err := writeRecord(path, bystander.Process.Pid); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), `"start":"`, `"start":"1`, 1)
		if err = os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		cleaned, err := Cleanup(t.Context(), dir)
		if err != nil || len(cleaned.Processes) != 0 {
			t.Errorf("ended %q, %v", cleaned.Processes, err)
		}
		if start, _ := identity(bystander.Process.Pid); start == "" {
			t.Error("the bystander was ended")
		}
	})
	t.Run("finds a task by its folder where the system shows it", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("other systems do not show the environment of processes")
		}
		dir := t.TempDir()
		task := exec.Command("sleep", "100")
		task.Env = []string{"NOMAD_TASK_DIR=" + filepath.Join(dir, "nomad/data/alloc/1/main/local")}
		if err := task.Start(); err != nil {
			t.Fatal(err)
		}
		cleaned, err := Cleanup(t.Context(), dir)
		if err != nil || len(cleaned.Processes) != 1 {
			t.Errorf("ended %q, %v", cleaned.Processes, err)
		}
		_ = task.Wait()
	})
	t.Run("finds the cgroups of its own allocations", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("they are Linux's")
		}
		const own, nodes, other = "10000000-0000-4000-8000-000000000000", "20000000-0000-4000-8000-000000000000", "30000000-0000-4000-8000-000000000000"
		dir, root := t.TempDir(), t.TempDir()
		below := func(parts ...string) string {
			path := filepath.Join(parts...)
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			return path
		}
		below(dir, "nomad/data/alloc", own)
		below(dir, "nodes/n1/nomad/alloc", nodes)
		below(dir, "nomad/data/alloc/keep") // no allocation's
		want := []string{
			below(root, "cpu/nomad", own+".main"), below(root, "memory/nomad", own+".main"),
			below(root, "nomad.slice/share.slice", own+".main.scope"), below(root, "cpu/nomad", nodes+".main"),
		}
		below(root, "cpu/nomad", other+".main")
		below(root, "cpu/nomad/keep.main")
		if diff := cmp.Diff(want, cgroups(root, dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("takes a folder that is not there", func(t *testing.T) {
		if _, err := Cleanup(t.Context(), filepath.Join(t.TempDir(), "none")); err != nil {
			t.Error(err)
		}
	})
}

// gone says whether a process has ended, or only waits to be awaited.
func gone(p *Process) bool {
	start, _ := identity(p.Pid)
	return start == ""
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	held := make(chan struct{})
	got := make(chan error, 1)
	go func() {
		again, lerr := WaitLock(t.Context(), path, func() { close(held) })
		if lerr == nil {
			again()
		}
		got <- lerr
	}()
	<-held
	unlock()
	if err = <-got; err != nil {
		t.Error(err)
	}
}
