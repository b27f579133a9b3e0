//go:build e2e

package nomaddev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/nomadjobs"
	"github.com/serve-nomad/serve-nomad/placement"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// TestPlacementAgreesWithNomad asks Nomad's scheduler and placement the same
// questions: how many replicas of hundreds of random jobs fit on real Nomad
// clients that differ, while more and more runs there.
func TestPlacementAgreesWithNomad(t *testing.T) {
	f := startField(t)
	const rounds, plans = 8, 100
	seen := map[string]int{}
	for round := range rounds {
		f.occupy(t, round)
		nodes := f.observe(t)
		for i := range plans {
			job := f.randomJob(fmt.Sprintf("ask-%d-%d", round, i))
			want, reasons := f.plan(t, job)
			got, short := pack(t, nodes, job)
			seen[verdict(want, *job.TaskGroups[0].Count)]++
			// A loopback has two addresses, and Nomad gives a port out once on each.
			// Placement counts a node's port once.
			if static := static(job); got > want || !static && got < want {
				t.Errorf("placement has room for %d, Nomad for %d of %s\nplacement: %s\nNomad: %s", got, want, text(job), text(short), reasons)
			}
		}
	}
	t.Logf("%d jobs: %v", rounds*plans, seen)
	for _, kind := range []string{"all", "some", "none"} {
		if seen[kind] < rounds*plans/20 {
			t.Errorf("only %d of the jobs fit in the way %q: little is tested", seen[kind], kind)
		}
	}
}

func static(job *api.Job) bool {
	networks := job.TaskGroups[0].Networks
	return len(networks) > 0 && len(networks[0].ReservedPorts) > 0
}

func verdict(placed, count int) string {
	switch placed {
	case 0:
		return "none"
	case count:
		return "all"
	default:
		return "some"
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// pack is placement's answer.
func pack(t *testing.T, nodes []*placement.Node, job *api.Job) (placed int, short []placement.Short) {
	t.Helper()
	ask, err := nomadjobs.AskOf(job)
	if err != nil {
		t.Fatal(err)
	}
	ask.Count = *job.TaskGroups[0].Count
	r := placement.Pack(placement.Input{Nodes: nodes, Asks: []placement.Ask{ask}})
	for _, p := range r.Placed {
		placed += p.Count
	}
	return placed, r.Short
}

// field is a Nomad server and clients that differ.
type field struct {
	url     string
	nomad   *api.Client
	jobs    *nomadjobs.Client
	rand    *rand.Rand
	devices bool // the clients have some
}

// fieldClient is how one client differs from the others.
type fieldClient struct {
	Pool, Class, Datacenter string
	CPU, Memory, Devices    int
	Rack, Level             string
}

const fieldServer = `
name = "server"
data_dir = %q
bind_addr = "127.0.0.1"
disable_update_check = true
ports {
  http = %d
  rpc = %d
  serf = %d
}
advertise {
  http = "127.0.0.1:%[2]d"
  rpc  = "127.0.0.1:%[3]d"
  serf = "127.0.0.1:%[4]d"
}
server {
  enabled = true
  bootstrap_expect = 1
  raft_multiplier = 1
}
`

func startField(t *testing.T) *field {
	t.Helper()
	found := agents(t)
	dir := runDir(t)
	block, err := nomaddev.ReserveBlock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			t.Logf("the run's folder is %s", dir)
		}
		if _, cerr := nomaddev.Cleanup(ctx, dir); cerr != nil {
			t.Error(cerr)
		}
		if rerr := block.Release(); rerr != nil {
			t.Error(rerr)
		}
		if rerr := nomaddev.RemoveData(dir); !t.Failed() && rerr != nil {
			t.Error(rerr)
		}
	})
	port := func() int {
		p, perr := block.Port(t.Context())
		if perr != nil {
			t.Fatal(perr)
		}
		return p
	}
	http, rpc := port(), port()
	f := &field{url: fmt.Sprintf("http://127.0.0.1:%d", http), rand: rand.New(rand.NewPCG(1, 2))}
	plugin := devicePlugin(t)
	f.devices = plugin != ""
	launch(t, dir, found.Nomad.Path, "server", fmt.Sprintf(fieldServer, filepath.Join(dir, "server"), http, rpc, port()))
	if f.nomad, err = api.NewClient(&api.Config{Address: f.url}); err != nil {
		t.Fatal(err)
	}
	if f.jobs, err = nomadjobs.New(nomadjobs.Config{Address: f.url}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the server leads", func() error {
		_, lerr := f.nomad.Status().Leader()
		return lerr
	})
	clients := []fieldClient{
		{"default", "small", "dc1", 2000, 1024, 0, "r1", "3"},
		{"default", "large", "dc1", 8000, 4096, 4, "r1", "12"},
		{"default", "large", "dc2", 6000, 2048, 2, "r2", "9"},
		{"gpu", "", "dc1", 4000, 8192, 8, "r2", "2.5"},
		{"gpu", "small", "east-1", 3000, 1500, 1, "", "high"},
	}
	for i, c := range clients {
		name := "client" + strconv.Itoa(i)
		low := 20000 + 1000*i
		launch(t, dir, found.Nomad.Path, name, clientConfig(t, dir, name, c, rpc, [3]int{port(), port(), port()}, low, plugin))
	}
	eventually(t, 2*time.Minute, "all clients are ready, with their devices", func() error { return f.ready(t.Context(), clients) })
	return f
}

func launch(t *testing.T, dir, nomad, name, config string) {
	t.Helper()
	path := filepath.Join(dir, name+".hcl")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nomaddev.StartProcess(nomaddev.Command{Name: name, RunDir: dir, Path: nomad, Args: []string{"agent", "-config=" + path}}); err != nil {
		t.Fatal(err)
	}
}

func clientConfig(t *testing.T, dir, name string, c fieldClient, rpc int, ports [3]int, low int, plugin string) string {
	t.Helper()
	volume, devices := filepath.Join(dir, name+"-volume"), filepath.Join(dir, name+"-devices")
	for _, d := range []string{volume, devices} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.Devices {
		if err := os.WriteFile(filepath.Join(devices, "dev"+strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	meta := fmt.Sprintf("level = %q\n", c.Level)
	if c.Rack != "" {
		meta += fmt.Sprintf("rack = %q\n", c.Rack)
	}
	config := fmt.Sprintf(`
name = %q
datacenter = %q
data_dir = %q
bind_addr = "127.0.0.1"
disable_update_check = true
ports {
  http = %d
  rpc = %d
  serf = %d
}
advertise {
  http = "127.0.0.1:%[4]d"
  rpc  = "127.0.0.1:%[5]d"
  serf = "127.0.0.1:%[6]d"
}
client {
  enabled = true
  servers = ["127.0.0.1:%d"]
  node_pool = %q
  node_class = %q
  network_interface = "lo"
  alloc_mounts_dir = %q
  cpu_total_compute = %d
  memory_total_mb = %d
  min_dynamic_port = %d
  max_dynamic_port = %d
  reserved {
    memory = 100
    cpu = 200
    reserved_ports = "23000-23001"
  }
  meta {
    %s
  }
  host_volume "data" {
    path = %q
    read_only = %v
  }
  options = {
    "driver.allowlist" = "raw_exec"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
`, name, c.Datacenter, filepath.Join(dir, name), ports[0], ports[1], ports[2], rpc, c.Pool, c.Class, filepath.Join(dir, name+"-mounts"),
		c.CPU, c.Memory, low, low+900, meta, volume, name == "client0")
	if plugin != "" && c.Devices > 0 {
		config += fmt.Sprintf("plugin_dir = %q\nplugin \"nomad-device-example\" {\n  config {\n    dir = %q\n    list_period = \"1s\"\n  }\n}\n", filepath.Dir(plugin), devices)
	}
	return config
}

func (f *field) ready(ctx context.Context, clients []fieldClient) error {
	seen, err := f.jobs.Observe(ctx, true)
	if err != nil {
		return err
	}
	if len(seen.Nodes) != len(clients) {
		return fmt.Errorf("%d nodes of %d", len(seen.Nodes), len(clients))
	}
	for _, n := range seen.Nodes {
		if n.Closed != "" || !n.Drivers["raw_exec"] {
			return fmt.Errorf("node %s: %q, raw_exec %v", n.Name, n.Closed, n.Drivers["raw_exec"])
		}
		var i int
		if _, err := fmt.Sscanf(n.Name, "client%d", &i); err != nil {
			return err
		}
		have := 0
		for _, d := range n.Devices {
			have += len(d.Instances)
		}
		if f.devices && have != clients[i].Devices {
			return fmt.Errorf("node %s has %d devices of %d", n.Name, have, clients[i].Devices)
		}
	}
	return nil
}

// devicePlugin builds the example of a device plugin that comes with Nomad's
// source. Without it devices are not compared.
func devicePlugin(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SERVE_NOMAD_DEVICE_EXAMPLE_BIN"); path != "" {
		return path
	}
	dir := filepath.Join(testRoot(), "device-example")
	out := filepath.Join(dir, "plugins", "nomad-device-example")
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join("agents", "nomad", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-o", out, "github.com/hashicorp/nomad/plugins/device/cmd/example/cmd")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Logf("devices are not compared: Nomad's example of a device plugin cannot be built: %v\n%s", err, said)
		return ""
	}
	return out
}

// occupy registers a few jobs and waits until Nomad has decided on them.
func (f *field) occupy(t *testing.T, round int) {
	t.Helper()
	for i := range 3 {
		job := f.randomJob(fmt.Sprintf("there-%d-%d", round, i))
		group := job.TaskGroups[0]
		group.Count, group.Volumes = new(1+f.rand.IntN(2)), nil
		if r := group.Tasks[0].Resources; *r.Cores > 0 {
			r.Cores, r.CPU = new(0), new(400) // a task may fail on cores that the machine does not have
		}
		// What runs takes no whole cores: all Nomad clients of a machine share one
		// cgroup for these, and one that finds another's in it starts no task.
		if r := job.TaskGroups[0].Tasks[0].Resources; r.Cores != nil {
			r.CPU, r.Cores = new(500), nil
		}
		if _, _, err := f.nomad.Jobs().Register(job, nil); err != nil {
			t.Fatalf("register %s: %v", text(job), err)
		}
	}
	eventually(t, time.Minute, "all that Nomad placed runs", func() error {
		evals, _, err := f.nomad.Evaluations().List(&api.QueryOptions{Filter: `Status == "pending"`})
		if err == nil && len(evals) > 0 {
			err = fmt.Errorf("%d are", len(evals))
		}
		if err != nil {
			return err
		}
		allocs, _, err := f.nomad.Allocations().List(nil)
		for _, a := range allocs {
			if a.ClientStatus != api.AllocClientStatusRunning {
				err = fmt.Errorf("%s is %s", a.Name, a.ClientStatus)
			}
		}
		return err
	})
}

func (f *field) observe(t *testing.T) []*placement.Node {
	t.Helper()
	seen, err := f.jobs.Observe(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return seen.Nodes
}

// plan is Nomad's answer, and what it says of those that do not fit.
func (f *field) plan(t *testing.T, job *api.Job) (placed int, reasons string) {
	t.Helper()
	r, _, err := f.nomad.Jobs().PlanOpts(job, &api.PlanOptions{}, nil)
	if err != nil {
		t.Fatalf("plan %s: %v", text(job), err)
	}
	placed = *job.TaskGroups[0].Count
	for _, metric := range r.FailedTGAllocs {
		placed -= 1 + metric.CoalescedFailures
		reasons = fmt.Sprintf("filtered %v, exhausted %v", metric.ConstraintFiltered, metric.DimensionExhausted)
	}
	return placed, reasons
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (f *field) randomJob(id string) *api.Job {
	r := f.rand
	task := api.NewTask("main", "raw_exec").SetConfig("command", "sleep").SetConfig("args", []string{"1000"})
	task.Resources = &api.Resources{CPU: new(50 + r.IntN(1500)), MemoryMB: new(16 + r.IntN(900))}
	if r.IntN(8) == 0 {
		task.Resources.CPU, task.Resources.Cores = nil, new(1+r.IntN(2))
	}
	task.LogConfig = &api.LogConfig{MaxFiles: new(1), MaxFileSizeMB: new(1)}
	if f.devices && r.IntN(3) == 0 {
		task.Resources.Devices = []*api.RequestedDevice{f.randomDevice()}
	}
	group := api.NewTaskGroup("main", 1+r.IntN(6)).AddTask(task)
	group.EphemeralDisk = &api.EphemeralDisk{SizeMB: new(10 + r.IntN(300))}
	if n := r.IntN(4); n > 0 {
		network := &api.NetworkResource{}
		for i := range n {
			network.DynamicPorts = append(network.DynamicPorts, api.Port{Label: "p" + strconv.Itoa(i)})
		}
		if r.IntN(3) == 0 {
			network.ReservedPorts = []api.Port{{Label: "s", Value: pick(r, 23000, 23002, 30000, 30001)}}
		}
		group.Networks = []*api.NetworkResource{network}
	}
	if r.IntN(5) == 0 {
		group.Volumes = map[string]*api.VolumeRequest{"v": {Name: "v", Type: "host", Source: pick(r, "data", "data", "none"), ReadOnly: r.IntN(2) == 0}}
	}
	if r.IntN(4) == 0 {
		group.Constraints = append(group.Constraints, &api.Constraint{Operand: api.ConstraintDistinctHosts, RTarget: pick(r, "", "true", "false")})
	}
	if r.IntN(5) == 0 {
		group.Constraints = append(group.Constraints, &api.Constraint{
			LTarget: pick(r, "${meta.rack}", "${node.class}", "${node.datacenter}", "${node.unique.id}"),
			Operand: api.ConstraintDistinctProperty, RTarget: pick(r, "", "1", "2", "3"),
		})
	}
	job := api.NewServiceJob(id, id, "global", 50).AddTaskGroup(group)
	job.NodePool = new(pick(r, "default", "default", "gpu", "all"))
	job.Datacenters = pick(r, []string{"*"}, []string{"*"}, []string{"dc1"}, []string{"dc*"}, []string{"d*1", "east-*"})
	for range r.IntN(5) / 2 {
		job.Constraints = append(job.Constraints, f.randomConstraint())
	}
	if r.IntN(4) == 0 {
		job.Spreads = []*api.Spread{{Attribute: "${node.unique.id}", Weight: new(int8(100))}}
	}
	job.Canonicalize()
	return job
}

func (f *field) randomDevice() *api.RequestedDevice {
	r := f.rand
	d := &api.RequestedDevice{Name: pick(r, "file", "nomad/file", "nomad/file/mock", "nomad/file", "gpu"), Count: new(uint64(1 + r.IntN(4)))}
	if r.IntN(3) == 0 {
		d.Constraints = []*api.Constraint{pick(r,
			&api.Constraint{LTarget: "${device.model}", Operand: "=", RTarget: "mock"},
			&api.Constraint{LTarget: "${device.model}", Operand: "regexp", RTarget: "^m"},
			&api.Constraint{LTarget: "${device.vendor}", Operand: "!=", RTarget: "nomad"},
			&api.Constraint{LTarget: "${device.attr.memory}", Operand: ">", RTarget: "1 GiB"},
			&api.Constraint{LTarget: "${device.attr.memory}", Operand: "is_not_set"},
			&api.Constraint{LTarget: "${device.ids}", Operand: "set_contains", RTarget: "dev1"},
		)}
	}
	return d
}

// randomConstraint is one that some of the clients meet, if any.
func (f *field) randomConstraint() *api.Constraint {
	r := f.rand
	left := pick(r, "${meta.level}", "${meta.rack}", "${node.class}", "${node.pool}", "${node.datacenter}", "${node.unique.name}", "${attr.kernel.name}", "${attr.nomad.version}", "${attr.driver.raw_exec}", "${meta.none}", "${env.HOME}", "literal")
	right := pick(r, "3", "9", "10", "2.5", "r1", "r2", "small", "large", "gpu", "dc1", "client1", "linux", "literal", "1", "${meta.rack}", "${meta.none}")
	switch op := pick(r, "=", "==", "is", "!=", "not", "<", "<=", ">", ">=", "regexp", "version", "semver", "set_contains", "set_contains_any", "is_set", "is_not_set"); op {
	case "version", "semver":
		return &api.Constraint{LTarget: pick(r, "${attr.nomad.version}", "${meta.level}"), Operand: op, RTarget: pick(r, ">= 1.4.0", "< 1.5", ">= 1.10, < 3", "> 2.4", "= 3", "!= 12")}
	case "regexp":
		return &api.Constraint{LTarget: left, Operand: op, RTarget: pick(r, "^r", "[0-9]$", "client[123]", "l.*e", "dc|east")}
	case "set_contains", "set_contains_any":
		return &api.Constraint{LTarget: left, Operand: op, RTarget: pick(r, "r1", "r1, r2", "small,large", "dc1")}
	case "is_set", "is_not_set":
		return &api.Constraint{LTarget: left, Operand: op}
	default:
		return &api.Constraint{LTarget: left, Operand: op, RTarget: right}
	}
}
