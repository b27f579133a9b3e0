package nomaddev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// NomadPorts are the ports of a Nomad agent; 0 stands for a free one. Tasks get
// theirs from DynamicLow to DynamicHigh, or from Nomad's own range when these
// are 0.
type NomadPorts struct {
	HTTP, RPC, Serf         int
	DynamicLow, DynamicHigh int
}

// NomadOptions say how a Nomad agent is run.
type NomadOptions struct {
	RunDir        string // logs, records, config and data go below it
	Name          string // "": nomad
	Path          string // the program
	Dev           bool   // keeps nothing, and ends its tasks when it ends
	ConsulAddress string // host:port
	Ports         NomadPorts
	CPUMHz        int    // what the node says that it has; 0: what the machine has
	MemoryMB      int    // the same
	LogLevel      string // "": INFO
	PluginDir     string // "": no plugins but Nomad's own
	More          string // more of the configuration, as Nomad's HCL
}

// Nomad is a Nomad agent that is server and client in one, with raw_exec on.
type Nomad struct {
	*Daemon
	Ports NomadPorts

	kept bool // its data outlive it
}

// Address returns host:port of the HTTP API.
func (n *Nomad) Address() string { return hostPort(loopback, n.Ports.HTTP) }

// URL returns the HTTP API's base URL.
func (n *Nomad) URL() string { return "http://" + n.Address() }

// StartNomad starts a Nomad agent and waits until it has a leader, its node is
// ready, raw_exec is healthy and its Consul is known.
func StartNomad(ctx context.Context, o NomadOptions) (*Nomad, error) {
	if o.Name == "" {
		o.Name = "nomad"
	}
	if o.LogLevel == "" {
		o.LogLevel = "INFO"
	}
	dir, err := absolute(o.RunDir)
	if err != nil {
		return nil, err
	}
	if err = fillPorts(ctx, &o.Ports.HTTP, &o.Ports.RPC, &o.Ports.Serf); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	iface, err := loopbackInterface()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, o.Name, "nomad.hcl")
	if err = writeConfig(config, nomadConfig, nomadValues(o, dir, iface)); err != nil {
		return nil, err
	}
	args := []string{"agent", "-config=" + config}
	if o.Dev {
		args = append(args, "-dev")
	}
	n := &Nomad{Ports: o.Ports}
	n.Daemon = &Daemon{
		name:    o.Name,
		command: Command{Name: o.Name, RunDir: dir, Path: o.Path, Args: args},
		listens: []string{n.Address(), hostPort(loopback, o.Ports.RPC), hostPort(loopback, o.Ports.Serf)},
		ready:   n.ready,
		within:  90 * time.Second,
	}
	n.kept = !o.Dev
	return n, n.Start(ctx)
}

// Start starts the agent and waits until it can be used. An agent that keeps its
// data may have to be started more than once: when its client registers before
// its server has the key that it signs with, the client tries again only after
// 15 s or more, and starting it again is quicker.
func (n *Nomad) Start(ctx context.Context) error {
	const usual, tries = 6 * time.Second, 4
	if !n.kept {
		return n.Daemon.Start(ctx)
	}
	for range tries - 1 {
		if err := n.Launch(ctx); err != nil {
			return err
		}
		err := n.waitReady(ctx, usual)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !n.Running() {
			n.Kill()
			return err
		}
		if err = stopAll(ctx, []*Nomad{n}, usual); err != nil {
			return err
		}
	}
	return n.Daemon.Start(ctx)
}

// Restart stops the agent, if it runs, and starts it again.
func (n *Nomad) Restart(ctx context.Context) error {
	if err := stopAll(ctx, []*Nomad{n}, 30*time.Second); err != nil && ctx.Err() != nil {
		return err
	}
	return n.Start(ctx)
}

// nomadValues is what the template of the config file reads.
func nomadValues(o NomadOptions, dir, iface string) any {
	return struct {
		NomadOptions
		NodeName, DataDir, MountsDir, Interface string
		DynamicLow, DynamicHigh                 int
	}{
		NomadOptions: o,
		NodeName:     o.Name,
		DataDir:      filepath.Join(dir, o.Name, "data"),
		MountsDir:    filepath.Join(dir, o.Name, "mounts"),
		Interface:    iface,
		DynamicLow:   o.Ports.DynamicLow,
		DynamicHigh:  o.Ports.DynamicHigh,
	}
}

func (n *Nomad) ready(ctx context.Context) error {
	if err := leaderElected(ctx, n.URL()); err != nil {
		return err
	}
	body, err := fetch(ctx, n.URL()+"/v1/agent/self")
	if err != nil {
		return err
	}
	var self struct {
		Stats struct {
			Client struct {
				NodeID string `json:"node_id"`
			} `json:"client"`
		} `json:"stats"`
	}
	if err = json.Unmarshal(body, &self); err != nil {
		return fmt.Errorf("read the agent: %w", err)
	}
	if self.Stats.Client.NodeID == "" {
		return errors.New("its node has no id yet")
	}
	if body, err = fetch(ctx, n.URL()+"/v1/node/"+self.Stats.Client.NodeID); err != nil {
		return err
	}
	return nodeReady(body)
}

// nodeReady reads a node as Nomad's API gives it.
func nodeReady(body []byte) error {
	var node struct {
		Status     string
		Attributes map[string]string
		Drivers    map[string]struct {
			Healthy           bool
			HealthDescription string
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("read the node: %w", err)
	}
	if node.Status != "ready" {
		return fmt.Errorf("its node is %q", node.Status)
	}
	if driver := node.Drivers["raw_exec"]; !driver.Healthy {
		return fmt.Errorf("its raw_exec driver is not healthy: %s", driver.HealthDescription)
	}
	if node.Attributes["consul.version"] == "" {
		return errors.New("its node does not know Consul yet")
	}
	return nil
}
