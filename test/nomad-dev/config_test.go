package nomaddev

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclparse"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestConfigFiles(t *testing.T) {
	nomad := NomadOptions{
		Name: "nomad", ConsulAddress: "127.0.0.1:8500", LogLevel: "INFO",
		Ports: NomadPorts{HTTP: 4646, RPC: 4647, Serf: 4648},
	}
	small := nomad
	small.Ports.DynamicLow, small.Ports.DynamicHigh, small.CPUMHz, small.MemoryMB = 10100, 10499, 8000, 4096
	dev := nomad
	dev.Dev = true
	consul := struct {
		ConsulOptions
		NodeName, DataDir string
	}{
		ConsulOptions{LogLevel: "INFO", Ports: ConsulPorts{HTTP: 8500, Server: 8300, Serf: 8301}},
		"consul", "/run/consul/data",
	}
	consulDev := consul
	consulDev.Dev = true
	serve := serveValues{
		NodeName: "server", DataDir: `/run/with "quotes" and ${dollars}/data`, LogLevel: "info",
		API: "127.0.0.1:8265", Raft: "127.0.0.1:8266", Expect: 1,
		Nomad: "http://127.0.0.1:4646", Consul: "http://127.0.0.1:8500",
		Proxy: "127.0.0.1:8000", Handle: "127.0.0.1:8001", Gatekeeper: "127.0.0.1:8002",
	}
	making := serve
	making.Nodes = &nodesValues{
		Dir: "/run/nodes", Nomad: "/bin/nomad", Consul: "/bin/consul", NomadServer: "127.0.0.1:4647", ConsulServer: "127.0.0.1:8301",
	}
	three := serve
	three.Expect, three.Peers = 3, []string{"127.0.0.1:8266", "127.0.0.1:8267", "127.0.0.1:8268"}
	three.Servers = []string{"http://127.0.0.1:8265", "http://127.0.0.1:8275", "http://127.0.0.1:8285"}
	for _, tc := range []struct {
		file, text string
		values     any
	}{
		{"nomad-dev.hcl", nomadConfig, nomadValues(dev, "/run", "lo")},
		{"nomad-kept.hcl", nomadConfig, nomadValues(small, "/run", "lo")},
		{"consul-dev.hcl", consulConfig, consulDev},
		{"consul-kept.hcl", consulConfig, consul},
		{"serve.hcl", serveConfig, serve},
		{"serve-three.hcl", serveConfig, three},
		{"serve-nodes.hcl", serveConfig, making},
	} {
		t.Run(tc.file, func(t *testing.T) {
			got, err := renderConfig(tc.text, tc.values)
			if err != nil {
				t.Fatal(err)
			}
			if _, diags := hclparse.NewParser().ParseHCL([]byte(got), tc.file); diags.HasErrors() {
				t.Fatalf("it is not HCL: %s", diags)
			}
			golden := filepath.Join("testdata", tc.file)
			if *update {
				if err = os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNodeReady(t *testing.T) {
	for _, tc := range []struct{ name, node, problem string }{
		{
			"a ready node can be used",
			`{"Status":"ready","Attributes":{"consul.version":"1.20.1"},"Drivers":{"raw_exec":{"Healthy":true}}}`, "",
		},
		{"a node that starts cannot", `{"Status":"initializing"}`, `its node is "initializing"`},
		{
			"a node without raw_exec cannot",
			`{"Status":"ready","Drivers":{"raw_exec":{"HealthDescription":"disabled"}}}`,
			"its raw_exec driver is not healthy: disabled",
		},
		{
			"a node without Consul cannot",
			`{"Status":"ready","Drivers":{"raw_exec":{"Healthy":true}}}`, "its node does not know Consul yet",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := nodeReady([]byte(tc.node)); err != nil {
				got = err.Error()
			}
			if got != tc.problem {
				t.Errorf("got %q, want %q", got, tc.problem)
			}
		})
	}
}
