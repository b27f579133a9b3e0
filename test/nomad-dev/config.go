package nomaddev

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// loopback is where the agents listen: they run what anybody who reaches them
// asks for.
const loopback = "127.0.0.1"

const consulConfig = `# Written anew at each start.
node_name            = {{str .NodeName}}
datacenter           = "dc1"
{{- if not .Dev}}
data_dir             = {{str .DataDir}}
server               = true
bootstrap_expect     = 1
{{- end}}
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
leave_on_terminate   = false
disable_update_check = true
log_level            = {{str .LogLevel}}

ui_config {
  enabled = true
}

ports {
  http     = {{.Ports.HTTP}}
  server   = {{.Ports.Server}}
  serf_lan = {{.Ports.Serf}}
  https    = -1
  dns      = -1
  grpc     = -1
  grpc_tls = -1
  serf_wan = -1
}

performance {
  raft_multiplier = 1
}

# Every watch of every proxy, server and agent comes from one address.
limits {
  http_max_conns_per_client = 4000
  rpc_max_conns_per_client  = 4000
}
`

const nomadConfig = `# Written anew at each start.
name                 = {{str .NodeName}}
data_dir             = {{str .DataDir}}
bind_addr            = "127.0.0.1"
leave_on_terminate   = false
leave_on_interrupt   = false
disable_update_check = true
log_level            = {{str .LogLevel}}
{{- if .PluginDir}}
plugin_dir           = {{str .PluginDir}}
{{- end}}

ports {
  http = {{.Ports.HTTP}}
  rpc  = {{.Ports.RPC}}
  serf = {{.Ports.Serf}}
}

advertise {
  http = "127.0.0.1:{{.Ports.HTTP}}"
  rpc  = "127.0.0.1:{{.Ports.RPC}}"
  serf = "127.0.0.1:{{.Ports.Serf}}"
}

server {
  enabled          = true
  bootstrap_expect = 1
{{- if not .Dev}}
  raft_multiplier  = 1
{{- end}}
}

client {
  enabled           = true
  network_interface = {{str .Interface}}
  alloc_mounts_dir  = {{str .MountsDir}}
  max_kill_timeout  = "5m"
{{- if .DynamicLow}}
  min_dynamic_port  = {{.DynamicLow}}
  max_dynamic_port  = {{.DynamicHigh}}
{{- end}}
{{- if .CPUMHz}}
  cpu_total_compute = {{.CPUMHz}}
{{- end}}
{{- if .MemoryMB}}
  memory_total_mb   = {{.MemoryMB}}
{{- end}}

  # These ask a cloud's metadata server, which on other machines costs time and
  # can end the agent.
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}

plugin "docker" {
  config {
    volumes {
      enabled = true
    }
  }
}

consul {
  address = {{str .ConsulAddress}}
}

ui {
  enabled = true
  consul {
    ui_url = {{str (print "http://" .ConsulAddress "/ui")}}
  }
}

limits {
  http_max_conns_per_client = 4000
  rpc_max_conns_per_client  = 4000
}
{{- if .More}}

{{.More}}
{{- end}}
`

const serveConfig = `# Written anew at each start.
name      = {{str .NodeName}}
data_dir  = {{str .DataDir}}
log_level = {{str .LogLevel}}
{{- if .API}}

http {
  address = {{str .API}}
}

raft {
  address          = {{str .Raft}}
  bootstrap_expect = {{.Expect}}
{{- if .Peers}}
  peers            = [{{range $i, $p := .Peers}}{{if $i}}, {{end}}{{str $p}}{{end}}]
{{- end}}
}
{{- end}}

nomad {
  address = {{str .Nomad}}
}

consul {
  address = {{str .Consul}}
}
{{- if .Proxy}}

proxy {
  address        = {{str .Proxy}}
  handle_address = {{str .Handle}}

  gatekeeper_address = {{str .Gatekeeper}}
{{- if .Servers}}
  servers        = [{{range $i, $s := .Servers}}{{if $i}}, {{end}}{{str $s}}{{end}}]
{{- end}}
}
{{- end}}
{{- with .Nodes}}

# Whoever reaches the API can run programs here anyway: raw_exec is on.
nodes {
  allow_exec = true

  process {
    enabled        = true
    dir            = {{str .Dir}}
    nomad          = {{str .Nomad}}
    consul         = {{str .Consul}}
    nomad_servers  = [{{str .NomadServer}}]
    consul_servers = [{{str .ConsulServer}}]
  }
}
{{- end}}
`

// writeConfig renders a config file below the run folder.
func writeConfig(path, text string, values any) error {
	rendered, err := renderConfig(text, values)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = WriteFile(path, []byte(rendered)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func renderConfig(text string, values any) (string, error) {
	t, err := template.New("config").Funcs(template.FuncMap{"str": hclString}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse the config template: %w", err)
	}
	var b strings.Builder
	if err = t.Execute(&b, values); err != nil {
		return "", fmt.Errorf("render the config: %w", err)
	}
	return b.String(), nil
}

// hclString quotes a string so that HCL reads it as it is.
func hclString(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}

// loopbackInterface returns the name of the interface that has 127.0.0.1.
func loopbackInterface() (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("find the loopback interface: %w", err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i.Name, nil
		}
	}
	return "", fmt.Errorf("find the loopback interface: none of %d is up", len(all))
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
