//go:build e2e

package nomadjobs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/reconcile"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// clientConfig is a Nomad client of its own, with a Consul agent of its own:
// two clients that share one take each other's services out.
const clientConfig = `
name      = %q
data_dir  = %q
bind_addr = "127.0.0.1"
ports {
  http = %d
  rpc  = %d
  serf = %d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
client {
  enabled           = true
  servers           = ["127.0.0.1:%d"]
  node_pool         = %q
  network_interface = "lo"
  alloc_mounts_dir  = %q
  cpu_total_compute = 2000
  memory_total_mb   = 1000
  reserved {
    cpu    = 200
    memory = 100
    reserved_ports = "8000-8001"
  }
  meta {
    serve_node = %q
  }
  options {
    "driver.allowlist"     = "raw_exec"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
consul {
  address = %q
}
`

// e2eNode starts a Nomad client of 1,800 MHz and 900 MiB in pool.
func e2eNode(t *testing.T, name, pool string) *nomaddev.Process {
	t.Helper()
	dir := filepath.Join(agents.cluster.Dir, name)
	found, err := nomaddev.Find(t.Context(), nomaddev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	consul, err := nomaddev.StartConsul(ctx, nomaddev.ConsulOptions{RunDir: dir, Name: name + "-consul", Path: found.Consul.Path, Dev: true})
	if consul != nil {
		t.Cleanup(consul.Kill)
	}
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(clientConfig, name, filepath.Join(dir, "data"), freePort(t), freePort(t), freePort(t),
		agents.cluster.Nomad.Ports.RPC, pool, filepath.Join(dir, "mounts"), name, consul.Address())
	return e2eAgent(t, found.Nomad.Path, dir, name, text)
}

// e2eAgent starts a Nomad agent with a configuration of the test's own.
func e2eAgent(t *testing.T, path, dir, name, text string) *nomaddev.Process {
	t.Helper()
	config := filepath.Join(dir, name+".hcl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := nomaddev.StartProcess(nomaddev.Command{Name: name, RunDir: dir, Path: path, Args: []string{"agent", "-config=" + config}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(nomaddev.LastLines(p.LogPath, 20))
		}
		if _, err := nomaddev.Cleanup(context.WithoutCancel(t.Context()), dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := nomaddev.FreePort(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// awaitNodes looks at everything, woken by Wake, until done says so.
func awaitNodes(t *testing.T, c *Client, what string, done func(reconcile.Observation) bool) reconcile.Observation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen reconcile.Observation
	for range c.Wake(ctx) {
		var err error
		if seen, err = c.Observe(ctx, true); err != nil {
			t.Fatal(err)
		}
		checkCounts(t, c, seen)
		if done(seen) {
			return seen
		}
	}
	t.Fatalf("%s: not within a minute; last seen %+v", what, seen.Jobs)
	return reconcile.Observation{}
}

// checkCounts holds a look to the law that no replica is both on a node and
// waiting for one. A replica that is alive afterwards was so when it was seen.
func checkCounts(t *testing.T, c *Client, seen reconcile.Observation) {
	t.Helper()
	later, err := c.listAllocs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]bool{}
	for _, a := range later {
		running[a.ID] = alive(a.DesiredStatus, a.ClientStatus)
	}
	placed := map[string]int{}
	for _, n := range seen.Nodes {
		for _, a := range n.Allocs {
			if a.Ours && running[a.ID] {
				placed[a.Job]++
			}
		}
	}
	for id, job := range seen.Jobs {
		if job.Unplaced > 0 && job.Unplaced+placed[id] > job.Count {
			t.Errorf("%s: %d unplaced and %d placed, of %d", id, job.Unplaced, placed[id], job.Count)
		}
	}
}

func nodeNamed(seen reconcile.Observation, name string) *placement.Node {
	for _, n := range seen.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}
