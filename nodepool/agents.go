package nodepool

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
)

// object is one of JSON. The agents' configuration is written as JSON, where no
// label, path or class can be taken for syntax.
type object map[string]any

// configure writes the agents' config files.
func (f folder) configure(r *record, b nodescale.Blueprint, to joining) error {
	for name, config := range map[string]object{
		"consul.json": f.consulConfig(r, to),
		"nomad.json":  f.nomadConfig(r, b, to),
	} {
		text, err := json.MarshalIndent(config, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err = writeFile(f.path(name), append(text, '\n')); err != nil {
			return err
		}
	}
	return f.introduce(to)
}

// introduce has a new Consul agent know the servers as if it had been among them
// before, so that it joins them, mostly, before it first tells them what it has.
// It fails at that otherwise, and tries again up to 3 s later.
func (f folder) introduce(to joining) error {
	path := f.path("consul/serf/local.snapshot")
	if _, err := os.Lstat(path); err == nil {
		return nil // it was among them
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("introduce the servers to Consul: %w", err)
	}
	var text strings.Builder
	for i, address := range to.consul {
		fmt.Fprintf(&text, "alive: server-%d %s\n", i, address)
	}
	return writeFile(path, []byte(text.String()))
}

func (f folder) consulConfig(r *record, to joining) object {
	return object{
		"node_name":            r.ID,
		"node_meta":            object{placement.NodeMeta: r.ID},
		"datacenter":           to.datacenter,
		"data_dir":             f.path("consul"),
		"bind_addr":            to.ip,
		"client_addr":          "127.0.0.1",
		"retry_join":           to.consul,
		"retry_interval":       "1s", // the servers are there: it is the default of 30 s that would cost
		"leave_on_terminate":   true,
		"disable_update_check": true,
		"log_level":            "INFO",
		"log_file":             f.path("consul.log"),
		"log_rotate_bytes":     logBytes,
		"log_rotate_max_files": 2,
		"ports": object{
			"http": r.Ports.consul(), "serf_lan": r.Ports.serf(),
			"https": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1,
		},
		// Every watch of the node's proxies and tasks comes from one address.
		"limits": object{"http_max_conns_per_client": 4000},
	}
}

func (f folder) nomadConfig(r *record, b nodescale.Blueprint, to joining) object {
	first, last := r.Ports.tasks()
	client := object{
		"enabled":           true,
		"servers":           to.nomad,
		"node_pool":         b.NodePool,
		"node_class":        b.Class,
		"network_interface": to.device,
		"alloc_mounts_dir":  f.path("mounts"), // by default the folder beside data_dir
		"max_kill_timeout":  "5m",
		"min_dynamic_port":  first,
		"max_dynamic_port":  last,
		"meta":              machineMeta(r, b),
		"options":           clientOptions(b),
	}
	if b.CPUMHz > 0 {
		client["cpu_total_compute"] = b.CPUMHz
	}
	if b.MemoryMB > 0 {
		client["memory_total_mb"] = b.MemoryMB
	}
	nomad, serf := fmt.Sprintf("127.0.0.1:%d", r.Ports.nomad()), fmt.Sprintf("127.0.0.1:%d", r.Ports.serf())
	config := object{
		"name":                 r.ID,
		"datacenter":           b.Datacenter,
		"data_dir":             f.path("nomad"),
		"bind_addr":            "127.0.0.1",
		"advertise":            object{"http": nomad, "rpc": nomad, "serf": serf}, // loopback has to be said
		"ports":                object{"http": r.Ports.nomad()},
		"leave_on_terminate":   true,
		"disable_update_check": true,
		"log_level":            "INFO",
		"log_file":             f.path("nomad.log"),
		"log_rotate_bytes":     logBytes,
		"log_rotate_max_files": 2,
		"client":               client,
		"consul":               object{"address": fmt.Sprintf("127.0.0.1:%d", r.Ports.consul())},
		"limits":               object{"http_max_conns_per_client": 4000},
		// Blocks with labels are lists: HCL reads an object in them in two ways.
		"plugin": []object{
			{"raw_exec": []object{{"config": []object{{"enabled": true}}}}},
			{"docker": []object{{"config": []object{{"volumes": []object{{"enabled": true}}}}}}},
		},
	}
	if to.region != "" {
		config["region"] = to.region
	}
	return config
}

// logBytes is the size at which an agent begins a new log file.
const logBytes = 10 << 20

func machineMeta(r *record, b nodescale.Blueprint) map[string]string {
	meta := map[string]string{}
	maps.Copy(meta, b.Labels)
	meta[placement.NodeMeta], meta[placement.GroupMeta] = r.ID, r.Group
	return meta
}

func clientOptions(b nodescale.Blueprint) map[string]string {
	// These ask a cloud's metadata server, which on other machines costs time and
	// can end the agent.
	options := map[string]string{"fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean"}
	if len(b.Drivers) > 0 {
		options["driver.allowlist"] = strings.Join(b.Drivers, ",")
	}
	return options
}

// The arguments of the agents. A worker group may name one more config file for
// each, for what only this machine's owner knows: tokens, TLS, plugins.
func consulArgs(f folder, b nodescale.Blueprint) []string {
	args := []string{"agent", "-config-file=" + f.path("consul.json")}
	if more := b.Config["consul_config"]; more != "" {
		args = append(args, "-config-file="+more)
	}
	return args
}

func nomadArgs(f folder, b nodescale.Blueprint) []string {
	args := []string{"agent", "-config=" + f.path("nomad.json")}
	if more := b.Config["nomad_config"]; more != "" {
		args = append(args, "-config="+more)
	}
	return args
}

// agentEnv is the environment of a machine's agents: the server's own, without
// what would point an agent at another cluster, the group's, and the machine's
// mark. The mark of a run folder stays, so that who made it finds all of it.
func agentEnv(own []string, group map[string]string, token string) []string {
	env := slices.DeleteFunc(slices.Clone(own), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		if name == runDirVar {
			return false
		}
		_, again := group[name]
		return again || slices.ContainsFunc([]string{"NOMAD_", "CONSUL_", "VAULT_", "SERVE_"}, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		})
	})
	for _, name := range slices.Sorted(maps.Keys(group)) {
		if name != runDirVar && name != machineVar {
			env = append(env, name+"="+group[name])
		}
	}
	return append(env, machineVar+"="+token)
}

// runDirVar marks what belongs to a run folder of `serve-nomad dev` or a test.
const runDirVar = "SERVE_NOMAD_RUN_DIR"

// complaint is what an agent said before it could log, or else the last that went
// wrong by its log, for the end of an error. Without either it names the log.
func (f folder) complaint(name string) string {
	said := strings.ReplaceAll(readEnd(f.path(name+".err"), 4<<10), nomadBanner, "")
	if text := lastLines(said, 6); text != "" {
		return "; it said: " + text
	}
	var wrong strings.Builder
	for line := range strings.Lines(readEnd(f.path(name+".log"), 16<<10)) {
		if strings.Contains(line, " [ERROR] ") || strings.Contains(line, " [WARN] ") {
			wrong.WriteString(line)
		}
	}
	if text := lastLines(wrong.String(), 2); text != "" {
		return "; the last that went wrong in " + f.path(name+".log") + ": " + text
	}
	return "; its log is " + f.path(name+".log")
}

// nomadBanner is what each Nomad agent without TLS begins with.
const nomadBanner = "==> WARNING: mTLS is not configured - Nomad is not secure without mTLS!"

// readEnd returns the last bytes of a file, or nothing where there is none.
func readEnd(path string, most int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, serr := file.Stat(); serr == nil && info.Size() > most {
		if _, err = file.Seek(-most, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return ""
	}
	return string(text)
}
