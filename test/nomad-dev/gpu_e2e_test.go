//go:build e2e

package nomaddev_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/gpushare"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// gpuNode is a real Nomad agent with the device plugin, and make-believe GPUs:
// two that are shared by four slices each, and one that is whole.
type gpuNode struct {
	cluster

	plugin string // its program

	state string // file that takes the shared GPUs away and gives them back
	out   string // folder where tasks write their environment
}

func startGPUNode(t *testing.T) gpuNode {
	t.Helper()
	c := startCluster(t, agentsOnly())
	plugins := t.TempDir()
	n := gpuNode{cluster: c, plugin: filepath.Join(plugins, gpushare.Plugin), state: filepath.Join(t.TempDir(), "gpus.json"), out: t.TempDir()}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", n.plugin, "github.com/serve-nomad/serve-nomad/cmd/serve-nomad-gpu")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, said)
	}
	c.Nomad.Kill() // this one takes its place
	nomad, err := nomaddev.StartNomad(t.Context(), nomaddev.NomadOptions{
		RunDir: c.Dir, Name: "gpus", Path: agents(t).Nomad.Path, ConsulAddress: c.Consul.Address(), PluginDir: plugins,
		More: fmt.Sprintf(`plugin %q {
  config {
    fingerprint_period = "100ms"
    state_dir          = %q
    sharing            = "mps"

    make_believe "Shared" {
      count  = 2
      slices = 4
      memory = "80GiB"
      state  = %q
    }

    make_believe "Whole" {
      memory = "40GiB"
    }
  }
}`, gpushare.Plugin, t.TempDir(), n.state),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Nomad = nomad
	return n
}

// run registers a job whose one task writes its environment to a file, and waits
// for what it wrote; it runs on until it is stopped.
func (n gpuNode) run(t *testing.T, id, device string, count int) map[string]string {
	t.Helper()
	n.register(t, id, device, count)
	waitRunning(t, n.cluster, id)
	env := map[string]string{}
	eventually(t, 20*time.Second, id+" has said what it has", func() error {
		text, err := os.ReadFile(filepath.Join(n.out, id))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
				env[name] = value
			}
		}
		if env[gpushare.EnvShare] == "" {
			return fmt.Errorf("no share in %s", text)
		}
		return nil
	})
	return env
}

func (n gpuNode) register(t *testing.T, id, device string, count int) {
	t.Helper()
	file := filepath.Join(n.out, id)
	body, err := json.Marshal(map[string]any{"Job": map[string]any{
		"ID": id, "Name": id, "Type": "service", "Datacenters": []string{"*"},
		"TaskGroups": []any{map[string]any{
			"Name": "main", "Count": 1,
			"Tasks": []any{map[string]any{
				"Name": "main", "Driver": "raw_exec",
				"Config": map[string]any{"command": "/bin/sh", "args": []string{"-c", "env | grep -E 'GPU|CUDA' >" + file + ".tmp; mv " + file + ".tmp " + file + "; exec sleep 600"}},
				"Resources": map[string]any{
					"CPU": 50, "MemoryMB": 32, "Devices": []any{map[string]any{"Name": device, "Count": count, "Affinities": lowestFirst(device)}},
				},
			}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, n.Nomad.URL()+"/v1/jobs", body)
}

// lowestFirst are the affinities of docs/gpus.md, by which the first GPU of a node
// fills first.
func lowestFirst(device string) []any {
	if device != gpushare.ShareDevice {
		return nil
	}
	like := func(attribute, operand, value string, weight int) any {
		return map[string]any{"LTarget": "${device.attr." + attribute + "}", "Operand": operand, "RTarget": value, "Weight": weight}
	}
	return []any{like(gpushare.AttrSlices, ">", "0", 100), like(gpushare.AttrIndex, "<", "1", 1), like(gpushare.AttrIndex, "<", "2", 1)}
}

// devices returns the instances of the node's device groups that are healthy.
func (n gpuNode) devices(t *testing.T) (map[string]int, error) {
	t.Helper()
	body, err := tryGet(t.Context(), n.Nomad.URL()+"/v1/nodes")
	if err != nil {
		return nil, err
	}
	var nodes []struct{ ID string }
	if err = json.Unmarshal(body, &nodes); err != nil || len(nodes) != 1 {
		return nil, fmt.Errorf("nodes: %s, %w", body, err)
	}
	body, err = tryGet(t.Context(), n.Nomad.URL()+"/v1/node/"+nodes[0].ID)
	if err != nil {
		return nil, err
	}
	var node struct {
		NodeResources struct {
			Devices []struct {
				Vendor, Type, Name string
				Instances          []struct{ Healthy bool }
			}
		}
	}
	if err = json.Unmarshal(body, &node); err != nil {
		return nil, err
	}
	healthy := map[string]int{}
	for _, d := range node.NodeResources.Devices {
		for _, i := range d.Instances {
			if i.Healthy {
				healthy[d.Vendor+"/"+d.Type+"/"+d.Name]++
			}
		}
	}
	return healthy, nil
}

func (n gpuNode) waitDevices(t *testing.T, want map[string]int) {
	t.Helper()
	eventually(t, 60*time.Second, "the node has the devices", func() error {
		got, err := n.devices(t)
		if err == nil && fmt.Sprint(got) != fmt.Sprint(want) {
			err = fmt.Errorf("healthy are %v, want %v", got, want)
		}
		return err
	})
}

// waitBlocked waits until Nomad has said that there is no room for a job.
func (n gpuNode) waitBlocked(t *testing.T, job string) {
	t.Helper()
	eventually(t, 20*time.Second, job+" waits for room", func() error {
		body, err := tryGet(t.Context(), n.Nomad.URL()+"/v1/job/"+job+"/evaluations")
		if err != nil || !strings.Contains(string(body), `"Status":"blocked"`) {
			return fmt.Errorf("%s, %w", body, err)
		}
		return nil
	})
}

// Slices of GPUs are given out by Nomad itself: never one twice, never a part of
// two GPUs, and whatever becomes of the GPU, the plugin or the agent.
func TestSharedGPUs(t *testing.T) {
	n := startGPUNode(t)
	all := map[string]int{"nvidia/gpu-share/Shared/gpu0": 4, "nvidia/gpu-share/Shared/gpu1": 4, "nvidia/gpu/Whole": 1}
	n.waitDevices(t, all)

	whole := n.run(t, "whole", gpushare.WholeDevice, 1)
	if whole[gpushare.EnvShare] != "1" || whole[gpushare.EnvMemory] != "40960" || whole[gpushare.EnvMPSPipe] != "" || whole[gpushare.EnvMakeBelieve] != "1" {
		t.Errorf("of a whole one: %v", whole)
	}
	used := map[string]int{} // slices by GPU
	var order []string       // the index of each task's GPU
	for _, ask := range []struct {
		name  string
		count int
	}{{"three", 3}, {"other-three", 3}, {"one", 1}} {
		env := n.run(t, ask.name, gpushare.ShareDevice, ask.count)
		gpu := env[gpushare.EnvVisible]
		used[gpu] += ask.count
		for _, index := range []string{"0", "1", "2"} {
			if env[gpushare.EnvGPU+index] == gpu {
				order = append(order, index)
			}
		}
		want := map[string]string{
			gpushare.EnvShare:      map[int]string{1: "0.25", 3: "0.75"}[ask.count],
			gpushare.EnvMemory:     fmt.Sprint(20480 * ask.count),
			gpushare.EnvSharing:    gpushare.SharingMPS,
			gpushare.EnvMPSThreads: fmt.Sprint(25 * ask.count),
			gpushare.EnvMPSMemory:  fmt.Sprintf("0=%dM", 20480*ask.count),
		}
		for name, value := range want {
			if env[name] != value {
				t.Errorf("%s of %s is %q, want %q", name, ask.name, env[name], value)
			}
		}
		if gpu == "" || strings.Contains(gpu, ",") || gpu == whole[gpushare.EnvVisible] || env[gpushare.EnvMPSPipe] == "" {
			t.Errorf("%s has %v", ask.name, env)
		}
	}
	if len(used) != 2 || strings.Join(order, " ") != "0 1 0" {
		t.Errorf("slices by GPU: %v; GPUs %v, want the first one with room each time", used, order)
	}
	// One slice is free: a half would be of no GPU, though more are asked for
	// than there are in all.
	n.register(t, "half", gpushare.ShareDevice, 2)
	n.waitBlocked(t, "half")

	n.weigh(t)
	pids := fmt.Sprint(taskPids(t, n.cluster))
	t.Run("GPU 0 is lost and found", func(t *testing.T) {
		if err := os.WriteFile(n.state, []byte(`{"0": {"lost": true}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		n.waitDevices(t, map[string]int{"nvidia/gpu-share/Shared/gpu1": 4, "nvidia/gpu/Whole": 1})
		if err := os.Remove(n.state); err != nil {
			t.Fatal(err)
		}
		n.waitDevices(t, all)
	})
	t.Run("the plugin is killed", func(t *testing.T) {
		before := n.pluginPid()
		if err := exec.Command("kill", "-9", before).Run(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 60*time.Second, "another plugin runs", func() error {
			if now := n.pluginPid(); now == "" || now == before {
				return fmt.Errorf("process %q", now)
			}
			return nil
		})
		n.waitDevices(t, all)
	})
	t.Run("the agent is killed", func(t *testing.T) {
		n.Nomad.Kill()
		if err := n.Nomad.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		n.waitDevices(t, all)
	})
	for _, job := range []string{"whole", "three", "other-three", "one"} {
		waitRunning(t, n.cluster, job)
	}
	if now := fmt.Sprint(taskPids(t, n.cluster)); now != pids {
		t.Errorf("tasks %s, want %s as before", now, pids)
	}
	n.register(t, "quarter", gpushare.ShareDevice, 1)
	n.register(t, "too-much", gpushare.WholeDevice, 1)
	n.waitBlocked(t, "too-much")
	if got := n.run(t, "quarter", gpushare.ShareDevice, 1); used[got[gpushare.EnvVisible]]+1 > 4 {
		t.Errorf("a slice of %s is given twice: %v", got[gpushare.EnvVisible], used)
	}
	n.waitBlocked(t, "half")
}

// weigh holds the plugin to the size that it may have, on disk and in memory.
func (n gpuNode) weigh(t *testing.T) {
	t.Helper()
	const mostOnDisk, mostInMemory = 20_000_000, 40_000_000
	file, err := os.Stat(n.plugin)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/" + n.pluginPid() + "/status")
	if err != nil {
		t.Logf("how much memory a process has is only known on Linux: %v", err)
		return
	}
	var resident int64
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			if _, err = fmt.Sscanf(rest, "%d kB", &resident); err != nil {
				t.Fatal(err)
			}
			resident <<= 10
		}
	}
	t.Logf("the plugin has %.1f MB on disk, %.1f MB resident", float64(file.Size())/1e6, float64(resident)/1e6)
	if file.Size() > mostOnDisk || resident == 0 || resident > mostInMemory {
		t.Errorf("want at most %d bytes on disk and %d resident", mostOnDisk, mostInMemory)
	}
}

// pluginPid returns the process of the plugin; "": there is none.
func (n gpuNode) pluginPid() string {
	out, err := exec.Command("pgrep", "-o", "-f", "^"+n.plugin).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
