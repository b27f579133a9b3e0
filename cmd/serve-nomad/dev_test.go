package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

func devBase(t *testing.T) (b *base, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	state := t.TempDir()
	return &base{
		ctx: t.Context(), stdout: out, stderr: out, stdin: strings.NewReader(""),
		getenv: func(name string) string {
			return map[string]string{"XDG_STATE_HOME": state}[name]
		},
	}, out
}

func TestDevOptions(t *testing.T) {
	for _, tc := range []struct{ name, args, want string }{
		{"a name with a slash is refused", "-name ../x", "-name"},
		{"a bind address must be one", "-bind localhost", "-bind"},
		{"a port must be one", "-http-port 70000", "-http-port 70000: want a port from 1 to 65535"},
		{"two ports must differ", "-http-port 9000 -api-port 9000", "-http-port and -api-port are both 9000"},
		{"a timeout must be more than nothing", "-timeout 0s", "-timeout"},
		{"stop takes no file", "stop x.hcl", "dev stop takes no file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, out := devBase(t)
			if code := newDevCommand(b).Run(strings.Fields(tc.args)); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("%q does not say %q", out, tc.want)
			}
		})
	}
}

func TestDevStopAndStatusWhenNoneRuns(t *testing.T) {
	b, out := devBase(t)
	if code := newDevCommand(b).Run([]string{"stop"}); code != exitOK {
		t.Errorf("stop: exit code %d: %s", code, out)
	}
	if code := newDevCommand(b).Run([]string{"status"}); code != exitError {
		t.Errorf("status: exit code %d: %s", code, out)
	}
	if got := strings.Count(out.String(), "No dev runs."); got != 2 {
		t.Errorf("it says\n%s", out)
	}
}

func TestDevThatRunsIsNamed(t *testing.T) {
	b, _ := devBase(t)
	folder, err := openDevFolder(b, "default")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := folder.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info := devInfo{Phase: phaseRunning, HTTP: "http://127.0.0.1:8000", API: "http://127.0.0.1:8265"}
	if err = folder.save(&info); err != nil {
		t.Fatal(err)
	}
	if !info.alive() {
		t.Error("this process is not taken to run")
	}
	_, err = folder.lock()
	if err == nil || !strings.Contains(err.Error(), "applications at http://127.0.0.1:8000") || !strings.HasSuffix(err.Error(), "serve-nomad dev stop") {
		t.Errorf("a second lock: %v", err)
	}
}

func TestSettlePorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // the test is over
	busy := taken.Addr().(*net.TCPAddr).Port
	settle := func(t *testing.T, given string, change func(*devPorts)) (devOptions, string, error) {
		t.Helper()
		o := devOptions{Bind: "127.0.0.1"}
		used := map[int]bool{busy: true}
		for _, p := range o.Ports.list() {
			port, perr := nomaddev.FreePort(t.Context(), used)
			if perr != nil {
				t.Fatal(perr)
			}
			*p.port, used[port] = port, true
		}
		change(&o.Ports)
		b, out := devBase(t)
		c := newDevCommand(b).(*devCommand)
		c.given = map[string]bool{given: true}
		serr := c.settlePorts(t.Context(), out, &o)
		return o, out.String(), serr
	}
	t.Run("moves a default of Nomad that is taken, and says so", func(t *testing.T) {
		o, said, serr := settle(t, "", func(p *devPorts) { p.Nomad = busy })
		if serr != nil || o.Ports.Nomad == busy || !strings.Contains(said, "-nomad-port") {
			t.Errorf("port %d, said %q, error %v", o.Ports.Nomad, said, serr)
		}
	})
	t.Run("does not move a port that was asked for", func(t *testing.T) {
		_, _, serr := settle(t, "nomad-port", func(p *devPorts) { p.Nomad = busy })
		var port *nomaddev.PortError
		if !errors.As(serr, &port) || !strings.Contains(serr.Error(), "-nomad-port") {
			t.Errorf("got %v", serr)
		}
	})
	t.Run("does not move the applications' port", func(t *testing.T) {
		_, _, serr := settle(t, "", func(p *devPorts) { p.HTTP = busy })
		if serr == nil || !strings.Contains(serr.Error(), "-http-port") {
			t.Errorf("got %v", serr)
		}
	})
}

func TestTryLine(t *testing.T) {
	dir := t.TempDir()
	with, without := filepath.Join(dir, "with.hcl"), filepath.Join(dir, "without.hcl")
	text := "application \"x\" {}\n# try: curl 'http://127.0.0.1:8000/search?q=rust'\n# try: no\n"
	if err := os.WriteFile(with, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(without, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info := devInfo{HTTP: "http://127.0.0.1:9000", Try: tryLine([]string{"-", without, with})}
	if got, want := tryCommand(info), "curl 'http://127.0.0.1:9000/search?q=rust'"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info.Try = tryLine([]string{without})
	if got := tryCommand(info); got != "" {
		t.Errorf("got %q for a run without applications", got)
	}
	info.Applications = []devApplication{{Name: "x", URL: "http://127.0.0.1:9000/x"}}
	if got, want := tryCommand(info), "curl http://127.0.0.1:9000/x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRunningText(t *testing.T) {
	info := devInfo{
		Pid: 7, Phase: phaseRunning, HTTP: "http://127.0.0.1:8000", API: "http://127.0.0.1:8265",
		Nomad: "http://127.0.0.1:9123", Consul: "http://127.0.0.1:8500", Logs: "/s/logs",
		Applications: []devApplication{{Name: "search", URL: "http://127.0.0.1:8000/search"}},
		Try:          "curl 'http://127.0.0.1:8000/search?q=x'",
		WorkerGroups: []string{"cpu", "gpu"},
	}
	want := `
serve-nomad dev is running (pid 7):

  search      = http://127.0.0.1:8000/search
  Node groups = cpu, gpu
  API         = http://127.0.0.1:8265
  Nomad UI    = http://127.0.0.1:9123/ui/
  Consul UI   = http://127.0.0.1:8500/ui/
  Logs        = /s/logs

Try it:
  curl 'http://127.0.0.1:8000/search?q=x'

For the command lines of serve-nomad, nomad and consul:
  export NOMAD_ADDR=http://127.0.0.1:9123
`
	if diff := cmp.Diff(want, runningText(info)); diff != "" {
		t.Error(diff)
	}
}

func TestDevGroups(t *testing.T) {
	names := func(file *appspec.File) string {
		var list []string
		for _, g := range devGroups(file) {
			if faults := appspec.ValidateFile(&appspec.File{WorkerGroups: []*appspec.WorkerGroup{g}}); len(faults) > 0 {
				t.Errorf("%s: %v", g.Name, faults)
			}
			list = append(list, g.Name)
		}
		return strings.Join(list, " ")
	}
	of := func(name, pool string) *appspec.File {
		return &appspec.File{WorkerGroups: []*appspec.WorkerGroup{{Name: name, NodePool: pool}}}
	}
	for _, c := range []struct {
		name string
		file *appspec.File
		want string
	}{
		{"without a file", nil, "cpu gpu"},
		{"a file of applications", &appspec.File{}, "cpu gpu"},
		{"one of the same name", of("cpu", "mine"), "gpu"},
		{"one on the same node pool", of("mine", "gpu"), "cpu"},
		{"another one", of("mine", "mine"), "cpu gpu"},
	} {
		if got := names(c.file); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFollowFileShowsTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	followFile(ctx, path, &out)
	if out.String() != "one\ntwo\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestManyEndedProcessesAreAFewLines(t *testing.T) {
	for n, want := range map[int]string{0: "", 5: strings.Repeat("ended what an earlier run left: nomad\n", 5), 8: strings.Repeat("ended what an earlier run left: nomad\n", 5) + "ended 3 more of that\n"} {
		var out strings.Builder
		sayEnded(&out, slices.Repeat([]string{"nomad"}, n))
		if out.String() != want {
			t.Errorf("%d: got %q", n, out.String())
		}
	}
}
