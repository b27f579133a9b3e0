//go:build unix

package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/proctable"
)

// TestFakeAgent is no test but the agents of the tests below: a program that
// reads the HTTP port out of its config file and answers there. FAKE_NOMAD and
// FAKE_CONSUL say what it does wrong.
func TestFakeAgent(t *testing.T) {
	args := flag.Args()
	if len(args) < 2 || args[0] != "agent" {
		t.Skip("it is started by other tests")
	}
	_, path, _ := strings.Cut(args[1], "=")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Name     string
		NodeName string `json:"node_name"`
		Ports    struct{ HTTP int }
	}
	if err = json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	behaviour := os.Getenv("FAKE_NOMAD")
	if config.NodeName != "" {
		behaviour = os.Getenv("FAKE_CONSUL")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	switch behaviour {
	case "ends":
		fmt.Fprintln(os.Stderr, "==> it cannot be")
		os.Exit(1)
	case "silent":
		<-stop
		os.Exit(0)
	case "task": // in a session of its own, as Nomad starts executors
		task := exec.Command("sh", "-c", "sleep 1000 & wait")
		task.SysProcAttr = ownSession()
		if err = task.Start(); err != nil {
			t.Fatal(err)
		}
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	http.HandleFunc("/v1/agent/self", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "{%q: %q}", "Name", config.Name+config.NodeName)
	})
	http.HandleFunc("/v1/catalog/node/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"Meta": {"serve_node": "x"}}`) })
	http.HandleFunc("/v1/status/leader", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `"127.0.0.1:8300"`) })
	go func() {
		<-stop
		os.Exit(0)
	}()
	t.Fatal(http.ListenAndServe(net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Ports.HTTP)), nil))
}

// fakeAgent writes a program that is this test binary as an agent.
func fakeAgent(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	writeProgram(t, path, "#!/bin/sh\nGORACE=atexit_sleep_ms=0 exec '"+os.Args[0]+"' -test.run='^TestFakeAgent$' -- \"$@\"\n")
	return path
}

// processes is a target with fake agents, and a blueprint for it.
func processes(t *testing.T) (*processTarget, nodescale.Blueprint) {
	t.Helper()
	agent := fakeAgent(t)
	p, err := newProcess(ProcessConfig{
		Dir: filepath.Join(t.TempDir(), "nodes"), NomadPath: agent, ConsulPath: agent,
		NomadServers: []string{"127.0.0.1:4647"}, Region: "global",
		ConsulServers: []string{"127.0.0.1:8301"}, ConsulDatacenter: "dc1",
	}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	b := nodescale.Blueprint{ClusterID: "c1", Group: "gpu", NodePool: "gpu", Datacenter: "dc1", Kind: "process"}
	t.Cleanup(func() {
		all, _, rerr := p.records()
		if rerr != nil {
			t.Fatal(rerr)
		}
		for _, r := range all {
			f := folder(filepath.Join(p.config.Dir, r.ID))
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if rerr = p.end(ctx, f, r); rerr != nil {
				t.Error(rerr)
			}
		}
	})
	return p, b
}

func launch(t *testing.T, p *processTarget, b nodescale.Blueprint, id string) *record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	instance, err := p.Launch(ctx, b, nodescale.Machine{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(instance, ":"+filepath.Join(p.config.Dir, id)) {
		t.Fatalf("the instance is %q, want where its folder is", instance)
	}
	return loaded(t, p, id)
}

func loaded(t *testing.T, p *processTarget, id string) *record {
	t.Helper()
	r, err := folder(filepath.Join(p.config.Dir, id)).load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantRemoved(t *testing.T, p *processTarget, b nodescale.Blueprint, r *record) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(p.config.Dir, r.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of %s is there still: %v", r.ID, err)
	}
	if r.Nomad.alive() || r.Consul.alive() {
		t.Errorf("an agent of %s runs still", r.ID)
	}
	if left := marked(r.Token, nil); len(left) > 0 {
		t.Errorf("processes of %s run still: %v", r.ID, left)
	}
	if got := states(t, p, b); strings.Contains(got, r.ID) {
		t.Errorf("%s is listed still: %s", r.ID, got)
	}
}

func states(t *testing.T, p *processTarget, b nodescale.Blueprint) string {
	t.Helper()
	listing, err := p.List(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, i := range listing.Instances {
		all = append(all, i.ID+" "+i.State)
	}
	if listing.Counted || listing.Count != len(all) {
		t.Errorf("the listing counts: %+v", listing)
	}
	return strings.Join(all, ", ")
}

func kill(t *testing.T, one process) {
	t.Helper()
	if err := one.signal((*os.Process).Kill); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return !one.alive() })
}

func TestProcessLife(t *testing.T) {
	p, b := processes(t)
	b.Env = map[string]string{"FAKE_NOMAD": "task"}
	first := launch(t, p, b, "gpu-1")
	if again := launch(t, p, b, "gpu-1"); again.Nomad != first.Nomad || again.Consul != first.Consul {
		t.Errorf("a second launch started %+v, the first %+v", again, first)
	}
	other := launch(t, p, b, "gpu-2")
	listing, err := p.List(t.Context(), b)
	if err != nil || len(listing.Instances) != 2 || listing.Instances[0].Name == listing.Instances[1].Name {
		t.Errorf("listed are %+v, %v, want two with names of their own", listing, err)
	}
	if got := states(t, p, b); got != "gpu-1 running, gpu-2 running" {
		t.Errorf("listed are %q", got)
	}
	b.Group = "gp"
	if got := states(t, p, b); got != "" {
		t.Errorf("another group has %q", got)
	}
	b.Group = "gpu"
	if gap := other.Ports - first.Ports; gap < portsBlock && gap > -portsBlock {
		t.Errorf("the ports overlap: %d and %d", first.Ports, other.Ports)
	}
	if runtime.GOOS == "linux" && len(marked(first.Token, nil)) < 4 {
		t.Errorf("marked are %v, want two agents and the task's processes", marked(first.Token, nil))
	}
	for range 2 { // a machine that is gone is removed already
		if err := p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err != nil {
			t.Fatal(err)
		}
	}
	wantRemoved(t, p, b, first)
	if !other.Nomad.alive() || !other.Consul.alive() {
		t.Error("another machine was ended as well")
	}
}

func TestProcessStartsAgainWhatEnded(t *testing.T) {
	p, b := processes(t)
	first := launch(t, p, b, "gpu-1")
	for _, name := range []string{"nomad", "consul"} {
		before := loaded(t, p, "gpu-1")
		kill(t, map[string]process{"nomad": before.Nomad, "consul": before.Consul}[name])
		listing, err := p.List(t.Context(), b)
		if err != nil || len(listing.Instances) != 1 || listing.Instances[0].State != "ended" ||
			!strings.Contains(listing.Instances[0].Message, name) {
			t.Errorf("without %s it is listed as %+v, %v", name, listing, err)
		}
		after := launch(t, p, b, "gpu-1")
		if (after.Nomad == before.Nomad) != (name == "consul") || (after.Consul == before.Consul) != (name == "nomad") {
			t.Errorf("after the end of %s: %+v, before: %+v", name, after, before)
		}
		if after.Token != first.Token || after.Ports != first.Ports {
			t.Errorf("it came back as another one: %+v, was %+v", after, first)
		}
	}
}

// TestProcessIsLaunchedOnce launches one machine by several servers at a time.
func TestProcessIsLaunchedOnce(t *testing.T) {
	p, b := processes(t)
	other, err := newProcess(p.config, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		target := []*processTarget{p, other}[i%2]
		all.Go(func() {
			if _, lerr := target.Launch(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); lerr != nil {
				t.Error(lerr)
			}
		})
	}
	all.Wait()
	if n := len(marked(loaded(t, p, "gpu-1").Token, nil)); runtime.GOOS == "linux" && n != 2 {
		t.Errorf("%d agents run, want 2", n)
	}
	locks, err := filepath.Glob(filepath.Join(p.config.Dir, "*.lock"))
	if err != nil || len(locks) > 0 {
		t.Errorf("locks are left: %v, %v", locks, err)
	}
}

func TestProcessOutlivesItsRecord(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the environment of other processes")
	}
	p, b := processes(t)
	first := launch(t, p, b, "gpu-1")
	f := folder(filepath.Join(p.config.Dir, "gpu-1"))
	forgot := *first // the server was killed before it could write the pids
	forgot.Nomad, forgot.Consul = process{}, process{}
	if err := f.save(&forgot); err != nil {
		t.Fatal(err)
	}
	if again := launch(t, p, b, "gpu-1"); again.Nomad != first.Nomad || again.Consul != first.Consul {
		t.Errorf("it started %+v beside %+v", again, first)
	}
	if err := f.save(&forgot); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err != nil {
		t.Fatal(err)
	}
	wantRemoved(t, p, b, first)
}

func TestProcessThatDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		env   map[string]string
		wrong []string
	}{
		"nomad ends":    {map[string]string{"FAKE_NOMAD": "ends"}, []string{"nomad agent ended", "it cannot be"}},
		"consul ends":   {map[string]string{"FAKE_CONSUL": "ends"}, []string{"consul agent ended", "it cannot be"}},
		"nomad silent":  {map[string]string{"FAKE_NOMAD": "silent"}, []string{"nomad agent is not ready", "too late"}},
		"consul silent": {map[string]string{"FAKE_CONSUL": "silent"}, []string{"consul agent is not ready", "too late"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, b := processes(t)
			b.Env = c.env
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if strings.HasSuffix(name, "silent") {
				go func() {
					waitUntil(t, func() bool {
						r, err := folder(filepath.Join(p.config.Dir, "gpu-1")).load()
						return err == nil && (r.Nomad.alive() || c.env["FAKE_CONSUL"] != "" && r.Consul.alive())
					})
					if got := states(t, p, b); got != "gpu-1 starting" && got != "gpu-1 running" {
						t.Errorf("it is listed as %q while it starts", got)
					}
					cancel(errors.New("too late"))
				}()
			}
			_, err := p.Launch(ctx, b, nodescale.Machine{ID: "gpu-1"})
			for _, want := range c.wrong {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error that says %q", err, want)
				}
			}
			if got := states(t, p, b); got != "gpu-1 ended" {
				t.Errorf("it is listed as %q", got)
			}
			r := loaded(t, p, "gpu-1")
			if left := marked(r.Token, nil); len(left) > 0 || r.Consul.alive() || r.Nomad.alive() {
				t.Errorf("it left %v running", left)
			}
			b.Env = nil // the trouble is over
			launch(t, p, b, "gpu-1")
			if err = p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err != nil {
				t.Error(err)
			}
			wantRemoved(t, p, b, r)
		})
	}
}

func TestProcessThatDoesNotEnd(t *testing.T) {
	p, b := processes(t)
	b.Env = map[string]string{"FAKE_NOMAD": "stubborn", "FAKE_CONSUL": "stubborn"}
	r := launch(t, p, b, "gpu-1")
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too late"))
	if err := p.Remove(over, b, nodescale.Machine{ID: "gpu-1"}); err == nil {
		wantRemoved(t, p, b, r) // given no time it kills, and may be done before it looks at the time
	}
	ctx, cancelLate := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancelLate()
	if err := p.Remove(ctx, b, nodescale.Machine{ID: "gpu-1"}); err != nil {
		t.Fatal(err)
	}
	wantRemoved(t, p, b, r)
}

// TestProcessSparesStrangers removes machines whose pids other processes have.
func TestProcessSparesStrangers(t *testing.T) {
	p, b := processes(t)
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stranger.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = stranger.Wait() // it was killed
	})
	r := launch(t, p, b, "gpu-1")
	kill(t, r.Nomad)
	r.Nomad.Pid = stranger.Process.Pid
	if err := folder(filepath.Join(p.config.Dir, "gpu-1")).save(r); err != nil {
		t.Fatal(err)
	}
	if got := states(t, p, b); got != "gpu-1 ended" {
		t.Errorf("it is listed as %q", got)
	}
	if err := p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err != nil {
		t.Fatal(err)
	}
	if proctable.Start(stranger.Process.Pid) == "" {
		t.Error("a process that only has the pid was ended")
	}
}

func TestProcessFoldersThatAreWrong(t *testing.T) {
	p, b := processes(t)
	for id, text := range map[string]string{
		"gpu-1": "", "gpu-2": `{"id": "gpu-1", "token": "x"}`, "gpu-3": `{"id": "gpu-3"}`, "other-4": "{", "gpu": "{", "gpu-a-5": "{",
	} {
		if err := os.MkdirAll(filepath.Join(p.config.Dir, id), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.config.Dir, id, "machine.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(p.config.Dir, "gpu-6"), 0o755); err != nil { // just being made
		t.Fatal(err)
	}
	if got := states(t, p, b); got != "gpu-1 ended, gpu-2 ended, gpu-3 ended" {
		t.Errorf("listed are %q", got)
	}
	if err := p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err == nil || !strings.Contains(err.Error(), "remove its folder") {
		t.Errorf("got %v: nobody knows what runs there", err)
	}
	if err := os.RemoveAll(p.config.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := p.List(t.Context(), b); err == nil {
		t.Error("a folder that is gone reads as no machine")
	}
	if err := os.MkdirAll(p.config.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestProcessRefuses(t *testing.T) {
	p, b := processes(t)
	for _, id := range []string{"", ".", "..", "a/b", "../a", "a.lock", "-a", "a\x00", strings.Repeat("a", 101)} {
		_, err := p.Launch(t.Context(), b, nodescale.Machine{ID: id})
		if err == nil || p.Remove(t.Context(), b, nodescale.Machine{ID: id}) == nil {
			t.Errorf("%q is taken for the id of a machine", id)
		}
	}
	far := nodescale.Machine{ID: "gpu-1", Instance: "elsewhere:/nodes/gpu-1"}
	if _, err := p.Launch(t.Context(), b, far); err == nil {
		t.Error("a machine of another place was made here")
	}
	if err := p.Remove(t.Context(), b, far); err == nil || !strings.Contains(err.Error(), "elsewhere:/nodes/gpu-1") {
		t.Errorf("got %v: a machine of another place cannot be removed here", err)
	}
	launch(t, p, b, "gpu-1")
	b.ClusterID = "c2"
	if _, err := p.Launch(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err == nil {
		t.Error("another cluster was given the machine")
	}
	if err := p.Remove(t.Context(), b, nodescale.Machine{ID: "gpu-1"}); err == nil {
		t.Error("another cluster removed the machine")
	}
}

func TestAgentEnv(t *testing.T) {
	own := []string{
		"PATH=/bin", "NOMAD_TOKEN=secret", "CONSUL_HTTP_ADDR=x", "SERVE_NOMAD_ADDR=x", "VAULT_TOKEN=x",
		"SERVE_NOMAD_MACHINE=outer", "SERVE_NOMAD_RUN_DIR=/run", "HOME=/root",
	}
	group := map[string]string{"HOME": "/home", "NOMAD_LICENSE": "x", "SERVE_NOMAD_MACHINE": "y", "SERVE_NOMAD_RUN_DIR": "/no"}
	got := agentEnv(own, group, "token")
	want := []string{"PATH=/bin", "SERVE_NOMAD_RUN_DIR=/run", "HOME=/home", "NOMAD_LICENSE=x", "SERVE_NOMAD_MACHINE=token"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
