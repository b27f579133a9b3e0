//go:build unix

package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/proctable"
)

// script is a blueprint whose command is a shell script. It runs in the folder
// that is returned.
func script(t *testing.T, text string) (b nodescale.Blueprint, dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Join(dir, "target.sh")
	writeProgram(t, path, "#!/bin/sh\ncd '"+dir+"'\n"+text)
	return nodescale.Blueprint{
		ClusterID: "c1", Group: "gpu", NodePool: "pool", Kind: "exec",
		Command: []string{path, "first"}, Config: map[string]string{"server-type": "cx 22"},
	}, dir
}

// writeProgram writes a program to run. No process is started meanwhile: it would
// hold the file open for writing, and then the program cannot be run.
func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func execTargets(t *testing.T) *Targets {
	t.Helper()
	targets, err := New(Config{AllowExec: true}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	targets.kinds["exec"] = &execTarget{grace: 100 * time.Millisecond, log: hclog.NewNullLogger()}
	return targets
}

func TestExecTellsTheCommand(t *testing.T) {
	b, dir := script(t, `
cat > stdin
echo "$*" > args
env > env
echo '{"instance": "i-123", "more": [1, 2]}'
`)
	instance, err := execTargets(t).Launch(t.Context(), b, nodescale.Machine{ID: "gpu-1", Wanted: 3})
	if err != nil || instance != "i-123" {
		t.Fatalf("got %q, %v; want i-123", instance, err)
	}
	if got := read(t, dir, "args"); got != "first launch\n" {
		t.Errorf("the arguments are %q", got)
	}
	var input execInput
	if err = json.Unmarshal([]byte(read(t, dir, "stdin")), &input); err != nil {
		t.Fatal(err)
	}
	if input.Blueprint.Group != "gpu" || input.Machine.ID != "gpu-1" || input.Machine.Wanted != 3 {
		t.Errorf("the command was told %+v", input)
	}
	for _, want := range []string{"SERVE_NODE=gpu-1", "SERVE_WORKER_GROUP=gpu", "SERVE_WANTED=3", "SERVE_CONFIG_SERVER_TYPE=cx 22"} {
		if !strings.Contains("\n"+read(t, dir, "env"), "\n"+want+"\n") {
			t.Errorf("the environment has no %s", want)
		}
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExecLaunch(t *testing.T) {
	for name, c := range map[string]struct {
		script, want, wrong string
	}{
		"no answer":            {script: `exit 0`},
		"white space":          {script: `echo; echo`},
		"no instance":          {script: `echo '{}'`},
		"garbage":              {script: `echo 'Creating server... done'`, wrong: `"Creating server... done`},
		"more than an answer":  {script: `echo '{"instance": "a"} {"instance": "b"}'`, wrong: "there is more after it"},
		"half an answer":       {script: `printf '{"instance": "a'`, wrong: "not the JSON that is wanted"},
		"a list":               {script: `echo '["a"]'`, wrong: "not the JSON that is wanted"},
		"a name with a line":   {script: `printf '%s' '{"instance": "a\u000ab"}'`, wrong: "cannot be printed"},
		"a long name":          {script: `printf '{"instance": "%02000d"}' 1`, wrong: "more than 1024 bytes"},
		"failure":              {script: `echo noise; echo one >&2; echo 'quota exceeded' >&2; exit 3`, wrong: "exit status 3; it says: one | quota exceeded"},
		"killed":               {script: `kill -9 $$`, wrong: "signal: killed"},
		"flood":                {script: `yes`, wrong: "it wrote more than 1048576 bytes"},
		"flood of stderr":      {script: `yes | head -c 3000000 >&2; echo last >&2; exit 1`, wrong: "last"},
		"binary stderr":        {script: `printf '\377\376' >&2; exit 1`, wrong: "it says: ?"},
		"leaves one behind":    {script: `sleep 5 & echo '{"instance": "a"}'`, want: "a"},
		"does not read stdin":  {script: `exec 0<&-; echo '{"instance": "a"}'`, want: "a"},
		"ends before it reads": {script: `echo '{"instance": "a"}'; exit 0`, want: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := script(t, c.script)
			b.Labels = map[string]string{"large": strings.Repeat("x", 1<<17)} // more than a pipe takes
			got, err := execTargets(t).Launch(t.Context(), b, nodescale.Machine{ID: "gpu-1"})
			if c.wrong == "" {
				if err != nil || got != c.want {
					t.Fatalf("got %q, %v; want %q", got, err, c.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.wrong) || got != "" {
				t.Fatalf("got %q, %v; want an error that says %q", got, err, c.wrong)
			}
			if len(err.Error()) > 6000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestExecList(t *testing.T) {
	for name, c := range map[string]struct {
		answer, want, wrong string
	}{
		"instances":        {answer: `{"instances": [{"id": "gpu-1", "instance": "i-1"}, {"id": "gpu-2", "state": "ended", "message": "spot"}, {"instance": "i-3", "state": "starting"}]}`, want: "gpu-1/i-1/running gpu-2//ended /i-3/starting"},
		"none":             {answer: `{"instances": []}`},
		"count":            {answer: `{"count": 7}`, want: "7"},
		"both":             {answer: `{"count": 1, "instances": [{"id": "a"}]}`, want: "a//running"},
		"contradiction":    {answer: `{"count": 2, "instances": [{"id": "a"}]}`, wrong: "says that there are 2 and names 1"},
		"nothing":          {answer: ``, wrong: "it is empty"},
		"neither":          {answer: `{}`, wrong: "neither instances nor count"},
		"null":             {answer: `{"instances": null}`, wrong: "neither instances nor count"},
		"bare null":        {answer: `null`, wrong: "neither instances nor count"},
		"negative":         {answer: `{"count": -1}`, wrong: "says that there are -1"},
		"fraction":         {answer: `{"count": 1.5}`, wrong: "not the JSON that is wanted"},
		"huge":             {answer: `{"count": 1e99}`, wrong: "not the JSON that is wanted"},
		"unknown state":    {answer: `{"instances": [{"id": "a", "state": "ACTIVE"}]}`, wrong: `has the state "ACTIVE"`},
		"no name":          {answer: `{"instances": [{"state": "running"}]}`, wrong: "neither id nor instance"},
		"one name twice":   {answer: `{"instances": [{"id": "a"}, {"id": "a"}]}`, wrong: `"a" is named twice`},
		"what is no name":  {answer: `{"instances": [{"id": "a\u0000"}]}`, wrong: "cannot be printed"},
		"an error page":    {answer: `<html>502</html>`, wrong: `"<html>502</html>`},
		"instances, later": {answer: `{"instances": [{"id": "a"}]} oops`, wrong: "there is more after it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dir := script(t, "cat answer\n")
			if err := os.WriteFile(filepath.Join(dir, "answer"), []byte(c.answer), 0o600); err != nil {
				t.Fatal(err)
			}
			listing, err := execTargets(t).List(t.Context(), b)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("got %+v, %v; want an error that says %q", listing, err, c.wrong)
				}
				return
			}
			var got []string
			for _, i := range listing.Instances {
				got = append(got, i.ID+"/"+i.Name+"/"+i.State)
			}
			if listing.Counted {
				got = append(got, strconv.Itoa(listing.Count))
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Fatalf("got %v, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestExecThatCannot(t *testing.T) {
	b, _ := script(t, "echo 'no list here' >&2; exit 64\n")
	_, err := execTargets(t).List(t.Context(), b)
	if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "no list here") {
		t.Errorf("got %v, want ErrNotSupported and what the command says", err)
	}
}

// TestExecEndsItsGroup ends calls of commands that hang, with what they started.
func TestExecEndsItsGroup(t *testing.T) {
	for name, text := range map[string]string{
		"hangs":           "sleep 1000 & echo $! > child; echo $$ > pid; mv pid up; wait",
		"ignores SIGTERM": "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > pid; mv pid up; while true; do wait; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, dir := script(t, text)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			over := make(chan error, 1)
			go func() { over <- execTargets(t).Remove(ctx, b, nodescale.Machine{ID: "gpu-1"}) }()
			waitUntil(t, func() bool { _, err := os.Stat(filepath.Join(dir, "up")); return err == nil })
			cancel(errors.New("the server is stopping"))
			if err := <-over; err == nil || !strings.Contains(err.Error(), "the server is stopping") {
				t.Errorf("got %v, want why it was ended", err)
			}
			for _, name := range []string{"up", "child"} {
				pid, err := strconv.Atoi(strings.TrimSpace(read(t, dir, name)))
				if err != nil {
					t.Fatal(err)
				}
				waitUntil(t, func() bool { return proctable.Start(pid) == "" })
			}
		})
	}
}

func TestExecRefuses(t *testing.T) {
	off, err := New(Config{}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	b, dir := script(t, "touch ran")
	if _, err = off.Launch(t.Context(), b, nodescale.Machine{ID: "a"}); !errors.Is(err, ErrNotSupported) {
		t.Errorf("got %v from a server that allows no commands", err)
	}
	if _, err = os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("the command ran")
	}
	for name, change := range map[string]func(b *nodescale.Blueprint){
		"names no command":   func(b *nodescale.Blueprint) { b.Command = nil },
		"no such file":       func(b *nodescale.Blueprint) { b.Command = []string{"/does/not/exist"} },
		"permission denied":  func(b *nodescale.Blueprint) { b.Command = []string{dir} },
		"rename one":         func(b *nodescale.Blueprint) { b.Config = map[string]string{"a-b": "1", "a.b": "2"} },
		"contains NUL":       func(b *nodescale.Blueprint) { b.Config = map[string]string{"a": "\x00"} },
		"there is no target": func(b *nodescale.Blueprint) { b.Kind = "asg" },
	} {
		b, _ := script(t, "exit 0")
		change(&b)
		if _, err = execTargets(t).Launch(t.Context(), b, nodescale.Machine{ID: "a"}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error that says %q", err, name)
		}
	}
}

func TestNoneOnlyTells(t *testing.T) {
	targets, err := New(Config{}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	b := nodescale.Blueprint{Group: "g", Kind: "none"}
	_, launch := targets.Launch(t.Context(), b, nodescale.Machine{ID: "a"})
	_, list := targets.List(t.Context(), b)
	for _, err = range []error{launch, list, targets.Remove(t.Context(), b, nodescale.Machine{ID: "a"})} {
		if !errors.Is(err, ErrNotSupported) {
			t.Errorf("got %v, want ErrNotSupported", err)
		}
	}
}

// waitUntil looks again and again, for a condition that must come.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(fmt.Errorf("it did not come to that"))
		}
	}
}

// TestExecExample runs the script of docs/targets.md against a make-believe of
// the program that it calls.
func TestExecExample(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("the script needs jq")
	}
	doc := read(t, "../docs", "targets.md")
	_, text, found := strings.Cut(doc, "```sh\n#!/bin/sh\n")
	text, _, ended := strings.Cut(text, "```")
	if !found || !ended {
		t.Fatal("docs/targets.md has no script")
	}
	b, dir := script(t, text)
	b.Command, b.Config = b.Command[:1], map[string]string{"type": "cx52", "image": "nomad-client"}
	hcloud := `#!/bin/sh
cd '` + dir + `'
case "$2" in
list) [ ! -e broken ] && cat server-* 2> /dev/null | jq -s . ;;
create) cat > user-data; echo "{\"id\": 42, \"name\": \"$4\", \"status\": \"running\", \"created\": \"2026-01-02T03:04:05+00:00\"}" > "server-$4"; jq '{server: .}' "server-$4" ;;
delete) rm server-*; echo gone ;;
esac
`
	writeProgram(t, filepath.Join(dir, "hcloud"), hcloud)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	targets, m := execTargets(t), nodescale.Machine{ID: "gpu-1"}
	for range 2 {
		if instance, err := targets.Launch(t.Context(), b, m); err != nil || instance != "42" {
			t.Fatalf("got %q, %v; want 42", instance, err)
		}
	}
	if data := read(t, dir, "user-data"); !strings.Contains(data, `\"serve_node\":\"gpu-1\"`) {
		t.Errorf("the machine is not told its id: %s", data)
	}
	listing, err := targets.List(t.Context(), b)
	if err != nil || len(listing.Instances) != 1 || listing.Instances[0].ID != "gpu-1" || listing.Instances[0].State != stateRunning {
		t.Fatalf("got %+v, %v; want gpu-1, running", listing, err)
	}
	for range 2 {
		if err = targets.Remove(t.Context(), b, m); err != nil {
			t.Fatal(err)
		}
	}
	if listing, err = targets.List(t.Context(), b); err != nil || len(listing.Instances) != 0 {
		t.Errorf("got %+v, %v; want none", listing, err)
	}
	if err = os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if listing, err = targets.List(t.Context(), b); err == nil {
		t.Errorf("got %+v from an API that fails", listing)
	}
}
