//go:build e2e

package nomaddev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

func TestClusterOfAgents(t *testing.T) {
	c := startCluster(t, agentsOnly())
	job := register(t, c, "sleeper", "sleep", "1000")
	alloc := waitRunning(t, c, job)

	t.Run("a restart of Nomad keeps the task", func(t *testing.T) {
		before := taskPids(t, c)
		if err := c.Nomad.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := waitRunning(t, c, job); got != alloc {
			t.Errorf("allocation %s runs after the restart, want %s", got, alloc)
		}
		if after := taskPids(t, c); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("tasks %v after the restart, want %v", after, before)
		}
	})
	t.Run("a kill of Nomad keeps the task", func(t *testing.T) {
		before := taskPids(t, c)
		c.Nomad.Kill()
		if err := c.Nomad.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitRunning(t, c, job)
		if after := taskPids(t, c); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("tasks %v after the kill, want %v", after, before)
		}
	})
	t.Run("a restart of Consul keeps its data", func(t *testing.T) {
		put(t, c.Consul.URL()+"/v1/kv/kept", []byte("yes"))
		if err := c.Consul.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := string(get(t, c.Consul.URL()+"/v1/kv/kept?raw")); got != "yes" {
			t.Errorf("kept is %q, want yes", got)
		}
	})
	t.Run("a stop leaves no process", func(t *testing.T) {
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantNoProcess(t, c.Dir)
	})
}

func TestDevClusterEndsItsTasks(t *testing.T) {
	o := agentsOnly()
	o.Dev = true
	c := startCluster(t, o)
	waitRunning(t, c, register(t, c, "sleeper", "sleep", "1000"))
	stop, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Nomad.Stop(stop); err != nil {
		t.Fatal(err)
	}
	if pids := taskPids(t, c); len(pids) != 0 {
		t.Errorf("tasks %v outlived a Nomad in dev mode", pids)
	}
	if err := c.Stop(stop); err != nil {
		t.Fatal(err)
	}
	wantNoProcess(t, c.Dir)
}

func TestKilledClusterIsCleanedUp(t *testing.T) {
	c := startCluster(t, agentsOnly())
	allocation := waitRunning(t, c, register(t, c, "sleeper", "sleep", "1000"))
	c.Nomad.Kill()
	c.Consul.Kill()
	if pids := taskPids(t, c); len(pids) == 0 {
		t.Fatal("no task outlived the kill: nothing is tested")
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNoProcess(t, c.Dir)
	for _, groups := range []string{"/sys/fs/cgroup/*/nomad/", "/sys/fs/cgroup/nomad.slice/*/"} {
		if left, _ := filepath.Glob(groups + allocation + ".*"); len(left) > 0 {
			t.Errorf("the cgroups %q are left", left)
		}
	}
}

func TestNomadSaysWhyItDoesNotStart(t *testing.T) {
	o := agentsOnly()
	c := startCluster(t, o)
	err := startSecondNomad(t, c)
	if err == nil {
		t.Fatal("two Nomads started on one port")
	}
	for _, want := range []string{"second", c.Nomad.Address() + " is in use by", "nomad agent"} {
		if !contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// register runs a raw_exec job with one replica and returns its id.
func register(t *testing.T, c cluster, id, command string, args ...string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Job": map[string]any{
		"ID": id, "Name": id, "Type": "service", "Datacenters": []string{"*"},
		"TaskGroups": []any{map[string]any{
			"Name": "main", "Count": 1,
			"Tasks": []any{map[string]any{
				"Name": "main", "Driver": "raw_exec",
				"Config":    map[string]any{"command": command, "args": args},
				"Resources": map[string]any{"CPU": 50, "MemoryMB": 32},
			}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, c.Nomad.URL()+"/v1/jobs", body)
	return id
}

// waitRunning waits until a job has a running allocation and returns its id.
func waitRunning(t *testing.T, c cluster, job string) string {
	t.Helper()
	var running string
	eventually(t, 30*time.Second, "an allocation of "+job+" runs", func() error {
		body, err := tryGet(t.Context(), c.Nomad.URL()+"/v1/job/"+job+"/allocations")
		if err != nil {
			return err
		}
		var allocs []struct{ ID, ClientStatus, DesiredStatus string }
		if err = json.Unmarshal(body, &allocs); err != nil {
			return err
		}
		for _, a := range allocs {
			if a.ClientStatus == "running" && a.DesiredStatus == "run" {
				running = a.ID
				return nil
			}
		}
		return fmt.Errorf("allocations: %+v", allocs)
	})
	return running
}
