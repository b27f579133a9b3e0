//go:build e2e

package nomaddev_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// dev is `serve-nomad dev` with a folder and ports of its own.
type dev struct {
	t      *testing.T
	state  string
	binary string
	ports  []string // flags
	http   string
}

func newDev(t *testing.T) *dev {
	t.Helper()
	agents(t) // built before the clock of a test runs
	d := &dev{t: t, state: runDir(t), binary: serveNomad(t)}
	taken := map[int]bool{}
	for _, flag := range []string{"-http-port", "-api-port", "-handle-port", "-nomad-port", "-consul-port"} {
		port, err := nomaddev.FreePort(t.Context(), taken)
		if err != nil {
			t.Fatal(err)
		}
		taken[port] = true
		d.ports = append(d.ports, flag, strconv.Itoa(port))
	}
	d.http = "http://127.0.0.1:" + d.ports[1]
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, d.run())
		}
		stop := d.command("dev", "stop")
		_ = stop.Wait() // what it left is looked for below
		wantNoProcess(t, d.run())
		if err := nomaddev.RemoveData(d.state); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return d
}

// run is the run folder.
func (d *dev) run() string { return filepath.Join(d.state, "serve-nomad", "dev", "default") }

// running is a command under way.
type running struct {
	*exec.Cmd
	out *output
}

// output is what a command wrote so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command starts serve-nomad.
func (d *dev) command(args ...string) *running {
	d.t.Helper()
	r := &running{Cmd: exec.Command(d.binary, args...), out: &output{}}
	r.Env = append(os.Environ(), "XDG_STATE_HOME="+d.state)
	r.Stdout, r.Stderr = r.out, r.out
	if err := r.Start(); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// start starts dev.
func (d *dev) start(args ...string) *running {
	d.t.Helper()
	return d.command(append(append([]string{"dev"}, d.ports...), args...)...)
}

// wants waits for the end of a command and its exit code.
func (r *running) wants(t *testing.T, code int) string {
	t.Helper()
	err := r.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := r.ProcessState.ExitCode(); got != code {
		t.Fatalf("%v: exit code %d, want %d:\n%s", r.Args[1:], got, code, r.out)
	}
	return r.out.String()
}

func (r *running) waitFor(t *testing.T, text string) {
	t.Helper()
	eventually(t, time.Minute, "the command says "+text, func() error {
		if !strings.Contains(r.out.String(), text) {
			return errors.New(r.out.String())
		}
		return nil
	})
}

func (r *running) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := r.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// pidOf returns the pid that the run folder records for a process.
func (d *dev) pidOf(name string) int {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.run(), "pids", name+".json"))
	if err != nil {
		d.t.Fatal(err)
	}
	var record struct{ Pid int }
	if err = json.Unmarshal(text, &record); err != nil {
		d.t.Fatal(err)
	}
	return record.Pid
}

func (d *dev) wantAnswer() {
	d.t.Helper()
	eventually(d.t, 30*time.Second, "the application answers", func() error {
		body, err := tryGet(d.t.Context(), d.http+"/hello")
		if err == nil && string(body) != "hello\n" {
			err = fmt.Errorf("got %q", body)
		}
		return err
	})
}

func TestDevDetached(t *testing.T) {
	d := newDev(t)
	out := d.start("-detach", "-var", "replicas=1", "testdata/hello.hcl").wants(t, 0)
	if want := "curl " + d.http + "/hello?name=you"; !strings.Contains(out, want) {
		t.Errorf("it does not say %q:\n%s", want, out)
	}
	d.wantAnswer()
	if out = d.command("dev", "status").wants(t, 0); !strings.Contains(out, "healthy") {
		t.Errorf("status says\n%s", out)
	}
	if out = d.start("testdata/hello.hcl").wants(t, 1); !strings.Contains(out, "dev runs already (pid ") || !strings.Contains(out, "dev stop") {
		t.Errorf("a second dev says\n%s", out)
	}
	for _, name := range []string{"proxy", "server"} {
		if err := syscall.Kill(d.pidOf(name), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, name+" is back", func() error {
			log := nomaddev.LastLines(filepath.Join(d.run(), "logs", "dev.log"), 100)
			if !strings.Contains(log, name+" is back") {
				return errors.New(log)
			}
			return nil
		})
		d.wantAnswer()
	}
	d.command("dev", "stop").wants(t, 0)
	wantNoProcess(t, d.run())
	d.command("dev", "status").wants(t, 1)
	if out = d.command("dev", "stop").wants(t, 0); !strings.Contains(out, "No dev runs") {
		t.Errorf("a second stop says\n%s", out)
	}
}

func TestDevInTheForeground(t *testing.T) {
	t.Run("Ctrl-C stops everything", func(t *testing.T) {
		d := newDev(t)
		r := d.start("testdata/hello.hcl")
		r.waitFor(t, "Ctrl-C stops it")
		d.wantAnswer()
		r.signal(t, os.Interrupt)
		r.wants(t, 0)
		wantNoProcess(t, d.run())
	})
	for _, stage := range []string{"starting Consul", "starting Nomad", "starting the serve-nomad server", "is recorded"} {
		t.Run("Ctrl-C half-way stops everything: "+stage, func(t *testing.T) {
			d := newDev(t)
			r := d.start("testdata/hello.hcl")
			r.waitFor(t, stage)
			r.signal(t, os.Interrupt)
			r.wants(t, 130)
			wantNoProcess(t, d.run())
		})
	}
	t.Run("a second Ctrl-C is quick", func(t *testing.T) {
		d := newDev(t)
		r := d.start("testdata/hello.hcl")
		r.waitFor(t, "Ctrl-C stops it")
		begin := time.Now()
		r.signal(t, syscall.SIGTERM)
		r.waitFor(t, "stopping")
		r.signal(t, os.Interrupt)
		_ = r.Wait() // it was killed
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		wantNoProcess(t, d.run())
	})
	t.Run("it ends when Nomad does", func(t *testing.T) {
		d := newDev(t)
		r := d.start()
		r.waitFor(t, "Ctrl-C stops it")
		if err := syscall.Kill(d.pidOf("nomad"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if out := r.wants(t, 1); !strings.Contains(out, "nomad ended (signal: killed)") {
			t.Errorf("it says\n%s", out)
		}
		wantNoProcess(t, d.run())
	})
}

func TestDevThatWasKilled(t *testing.T) {
	d := newDev(t)
	kill := func() {
		r := d.start("testdata/hello.hcl")
		r.waitFor(t, "Ctrl-C stops it")
		// Nomad too, so that its tasks are left.
		nomad := d.pidOf("nomad")
		r.signal(t, os.Kill)
		if err := syscall.Kill(nomad, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = r.Wait() // it was killed
		if len(marked(d.run())) == 0 {
			t.Fatal("nothing was left: nothing is tested")
		}
	}
	kill()
	d.command("dev", "stop").wants(t, 0)
	wantNoProcess(t, d.run())
	kill()
	d.start("-detach", "testdata/hello.hcl").wants(t, 0)
	d.wantAnswer()
}

func TestDevStartsNothingInVain(t *testing.T) {
	nothing := func(t *testing.T, d *dev) {
		t.Helper()
		if logs, _ := filepath.Glob(filepath.Join(d.run(), "logs", "*.log")); len(logs) > 0 {
			t.Errorf("something was started: %q", logs)
		}
	}
	t.Run("from a faulty file", func(t *testing.T) {
		d := newDev(t)
		file := filepath.Join(t.TempDir(), "bad.hcl")
		if err := os.WriteFile(file, []byte("application \"x\" {\n  rout_prefix = \"/x\"\n}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := d.start(file).wants(t, 1); !strings.Contains(out, "rout_prefix") {
			t.Errorf("it says\n%s", out)
		}
		nothing(t, d)
	})
	t.Run("on a port that is taken", func(t *testing.T) {
		d := newDev(t)
		l, err := net.Listen("tcp", strings.TrimPrefix(d.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out := d.start("testdata/hello.hcl").wants(t, 1)
		for _, want := range []string{"-http-port", fmt.Sprintf("(pid %d)", os.Getpid())} {
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		}
		nothing(t, d)
	})
}

func TestDevDetachedThatFails(t *testing.T) {
	d := newDev(t)
	file := filepath.Join(t.TempDir(), "dies.hcl")
	spec, err := os.ReadFile("testdata/hello.hcl")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(spec), `file("hello.py")`, `"import sys; sys.exit('no model here')"`, 1)
	if err = os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := d.start("-detach", "-timeout", "20s", file).wants(t, 1)
	if !strings.Contains(out, "no model here") {
		t.Errorf("it does not show the replica's log:\n%s", out)
	}
	wantNoProcess(t, d.run())
	d.command("dev", "status").wants(t, 1)
}
