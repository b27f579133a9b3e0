//go:build e2e

package nomadjobs

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// configScript is a replica that says what its user_config is, as it starts and
// at each SIGHUP.
const configScript = `
import os, signal, time
def say(why, *_):
    print(why, open(os.environ["SERVE_USER_CONFIG"]).read(), flush=True)
signal.signal(signal.SIGHUP, lambda *_: say("signalled"))
say("started")
while True:
    time.sleep(60)
`

// e2eWriteConfig writes a user_config at what there is, and says when.
func e2eWriteConfig(t *testing.T, c *Client, id, config string) reconcile.Config {
	t.Helper()
	have, err := c.Configs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := reconcile.WriteConfig{JobID: id, ClusterID: "e2e", Config: config, Hash: "of " + config, ModifyIndex: have[id].ModifyIndex}
	if err := c.WriteConfig(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if have, err = c.Configs(t.Context()); err != nil || have[id].Hash != w.Hash || have[id].ClusterID != "e2e" || time.Since(have[id].WrittenAt) > time.Minute {
		t.Fatalf("written and not seen: %+v, %v", have[id], err)
	}
	return have[id]
}

func TestE2EConfigWithoutARestart(t *testing.T) {
	c := e2eClient(t)
	for name, tc := range map[string]struct {
		driver string
		by     appspec.Reconfigure
	}{
		"config-hup":  {"raw_exec", appspec.Reconfigure{Signal: "SIGHUP"}},
		"config-exec": {"exec", appspec.Reconfigure{Signal: "SIGHUP"}},
		"config-path": {"raw_exec", appspec.Reconfigure{Path: "/config"}},
	} {
		t.Run(name, func(t *testing.T) {
			job := e2eJob(t, c, name, configScript, func(in *jobspec.Input) {
				in.Deployment.Task.Driver, in.Deployment.Reconfigure = tc.driver, &tc.by
			})
			e2eConfigLife(t, c, job, tc.by)
		})
	}
}

func e2eConfigLife(t *testing.T, c *Client, job *api.Job, by appspec.Reconfigure) {
	t.Helper()
	e2eWriteConfig(t, c, *job.ID, `{"a":1}`)
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	first, replicas := await(t, c, job, "a replica runs", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 1 })
	replica := live(replicas)[0]
	if replica.StartedAt.IsZero() || !replica.SignalledAt.IsZero() {
		t.Errorf("started at %v, signalled at %v", replica.StartedAt, replica.SignalledAt)
	}
	saw := followLog(t, c, replica.ID)
	saw(`started {"a":1}`)
	for _, config := range []string{`{"a":2}`, `{"a":3}`} {
		written := e2eWriteConfig(t, c, *job.ID, config)
		if by.Signal != "" {
			saw("signalled " + config)
			await(t, c, job, "Nomad tells of the signal", func(_ reconcile.Job, list []reconcile.Replica) bool {
				return len(live(list)) == 1 && live(list)[0].SignalledAt.After(written.WrittenAt)
			})
		}
		e2eFile(t, c, replica.ID, config)
	}
	last, replicas := await(t, c, job, "it still runs", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 1 })
	if r := live(replicas)[0]; r.ID != replica.ID || r.Restarts > 0 || last.ModifyIndex != first.ModifyIndex {
		t.Errorf("the replica or its job is another: %+v, then %+v", replica, r)
	}
	if job.TaskGroups[0].Tasks[0].Driver != "exec" {
		e2eConfigOfAnother(t, c, job, replica.ID)
	}
	e2eDropConfig(t, c, *job.ID)
	e2eFile(t, c, replica.ID, `{"a":3}`)
}

// e2eConfigOfAnother starts a second replica, with what there is by now.
func e2eConfigOfAnother(t *testing.T, c *Client, job *api.Job, first string) {
	t.Helper()
	if err := c.Scale(t.Context(), *job.ID, "web", 2, "the test asks for it"); err != nil {
		t.Fatal(err)
	}
	_, replicas := await(t, c, job, "two run", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 2 })
	for _, r := range live(replicas) {
		if r.ID != first {
			followLog(t, c, r.ID)(`started {"a":3}`)
		}
	}
}

// e2eDropConfig drops a config, which must not take it from those that run.
func e2eDropConfig(t *testing.T, c *Client, id string) {
	t.Helper()
	have, err := c.Configs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := reconcile.DropConfig{JobID: id, ModifyIndex: have[id].ModifyIndex - 1}
	if err := c.DropConfig(t.Context(), old); !errors.Is(err, ErrConflict) {
		t.Errorf("dropped at an old index: %v", err)
	}
	drop := reconcile.DropConfig{JobID: id, ModifyIndex: have[id].ModifyIndex}
	for range 2 { // the second time it is gone
		if err := c.DropConfig(t.Context(), drop); err != nil {
			t.Error(err)
		}
	}
	if have, err = c.Configs(t.Context()); err != nil || have[id].Hash != "" {
		t.Errorf("dropped and still there: %v, %v", have[id], err)
	}
}

// followLog returns a wait for a line of a replica's output.
func followLog(t *testing.T, c *Client, replica string) func(line string) {
	t.Helper()
	log, err := c.Logs(t.Context(), LogRequest{Replica: replica, Task: "web", Stream: "stdout", Follow: true, TailLines: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		var text strings.Builder
		one := make([]byte, 1)
		for {
			if _, err := log.Read(one); err != nil {
				return
			}
			if one[0] == '\n' {
				lines <- text.String()
				text.Reset()
				continue
			}
			text.WriteByte(one[0])
		}
	}()
	return func(want string) {
		t.Helper()
		for timeout := time.After(30 * time.Second); ; {
			select {
			case line, ok := <-lines:
				if !ok || line != want {
					t.Fatalf("the replica says %q, want %q", line, want)
				}
				return
			case <-timeout:
				t.Fatalf("the replica does not say %q within 30 s", want)
			}
		}
	}
}

// e2eFile waits until the file of a replica holds a config.
func e2eFile(t *testing.T, c *Client, replica, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Address()+"/v1/client/fs/cat/"+replica+"?path=web/local/serve/user_config.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the file holds %q, want %q", got, want)
		}
	}
}

func TestE2EConfigThatIsNotThere(t *testing.T) {
	c := e2eClient(t)
	job := e2eJob(t, c, "config-late", configScript, func(in *jobspec.Input) { in.Deployment.Reconfigure = &appspec.Reconfigure{Signal: "SIGHUP"} })
	if err := c.Register(t.Context(), job, index(t, c, *job.ID)); err != nil {
		t.Fatal(err)
	}
	_, replicas := await(t, c, job, "it is said what the replica waits for", func(_ reconcile.Job, list []reconcile.Replica) bool {
		return len(list) == 1 && strings.Contains(list[0].Reason, jobspec.ConfigPath(*job.ID))
	})
	if r := replicas[0]; r.Status != reconcile.ReplicaPending {
		t.Errorf("without its config it is %+v", r)
	}
	e2eWriteConfig(t, c, *job.ID, `{"a":1}`)
	await(t, c, job, "it runs", func(_ reconcile.Job, list []reconcile.Replica) bool { return len(live(list)) == 1 })
	e2eDropConfig(t, c, *job.ID)
}

func TestE2EConfigTooLarge(t *testing.T) {
	c := e2eClient(t)
	err := c.WriteConfig(t.Context(), reconcile.WriteConfig{JobID: "serve-e2e-large-web-00000001", ClusterID: "e2e", Config: strings.Repeat(" ", 1<<16), Hash: "h"})
	if err == nil || !strings.Contains(err.Error(), "64KiB") {
		t.Errorf("got %v", err)
	}
}
