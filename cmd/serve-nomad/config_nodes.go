package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// nodesConfig is the node autoscaler: how the nodes of worker groups are made
// and removed. What lets others run programs on this machine is off unless it
// is asked for.
type nodesConfig struct {
	Enabled   bool           `hcl:"enabled,optional"`
	DryRun    bool           `hcl:"dry_run,optional"`    // decide and tell, make and remove nothing
	AllowExec bool           `hcl:"allow_exec,optional"` // target "exec": whoever may deploy runs programs as this server's user
	PluginDir string         `hcl:"plugin_dir,optional"` // target "plugin": folder of Nomad Autoscaler target plugins; "": there are none
	Process   *processConfig `hcl:"process,block"`
}

// processConfig is target "process": Nomad clients on this machine, each with a
// Consul agent of its own.
type processConfig struct {
	Enabled       bool     `hcl:"enabled,optional"`
	Dir           string   `hcl:"dir,optional"`            // each node has a folder below it; default: nodes below data_dir
	Nomad         string   `hcl:"nomad,optional"`          // the program
	Consul        string   `hcl:"consul,optional"`         // the program
	NomadServers  []string `hcl:"nomad_servers,optional"`  // host:port of RPC; empty: asked of Nomad
	ConsulServers []string `hcl:"consul_servers,optional"` // host:port of serf LAN; empty: asked of Consul
}

// complete derives what follows from other fields and finds every fault.
func (c *nodesConfig) complete(dataDir string) error {
	var faults []error
	p := c.Process
	if p.Dir == "" && dataDir != "" {
		p.Dir = filepath.Join(dataDir, "nodes")
	}
	if p.Nomad == "" {
		faults = append(faults, errors.New("nodes.process.nomad is empty: name the program, or leave it out"))
	}
	if p.Consul == "" {
		faults = append(faults, errors.New("nodes.process.consul is empty: name the program, or leave it out"))
	}
	for _, list := range []struct {
		field, example string
		addresses      []string
	}{
		{"nodes.process.nomad_servers", "10.0.0.5:4647", p.NomadServers},
		{"nodes.process.consul_servers", "10.0.0.5:8301", p.ConsulServers},
	} {
		for _, address := range list.addresses {
			if !hostPort(address) {
				faults = append(faults, fmt.Errorf("%s: %q: want host:port, such as %s", list.field, address, list.example))
			}
		}
	}
	return errors.Join(faults...)
}

// checkPluginDir is for the server alone: a proxy's node that reads the same
// file need not have the folder.
func (c *nodesConfig) checkPluginDir() error {
	if c.PluginDir == "" {
		return nil
	}
	info, err := os.Stat(c.PluginDir)
	if err != nil {
		return fmt.Errorf("nodes.plugin_dir: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("nodes.plugin_dir = %q is not a folder", c.PluginDir)
	}
	return nil
}
