package nomaddev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ConsulPorts are the ports of a Consul agent; 0 stands for a free one.
type ConsulPorts struct {
	HTTP, Server, Serf int
}

// ConsulOptions say how a Consul agent is run.
type ConsulOptions struct {
	RunDir   string // logs, records, config and data go below it
	Name     string // "": consul
	Path     string // the program
	Dev      bool   // keeps nothing: a restart begins anew
	Ports    ConsulPorts
	LogLevel string // "": INFO
}

// Consul is a Consul agent: one server with its UI.
type Consul struct {
	*Daemon
	Ports ConsulPorts
}

// Address returns host:port of the HTTP API.
func (c *Consul) Address() string { return hostPort(loopback, c.Ports.HTTP) }

// URL returns the HTTP API's base URL.
func (c *Consul) URL() string { return "http://" + c.Address() }

// StartConsul starts a Consul agent and waits until it has a leader and knows
// its own node.
func StartConsul(ctx context.Context, o ConsulOptions) (*Consul, error) {
	if o.Name == "" {
		o.Name = "consul"
	}
	if o.LogLevel == "" {
		o.LogLevel = "INFO"
	}
	dir, err := absolute(o.RunDir)
	if err != nil {
		return nil, err
	}
	if err = fillPorts(ctx, &o.Ports.HTTP, &o.Ports.Server, &o.Ports.Serf); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	config := filepath.Join(dir, o.Name, "consul.hcl")
	err = writeConfig(config, consulConfig, struct {
		ConsulOptions
		NodeName, DataDir string
	}{o, o.Name, filepath.Join(dir, o.Name, "data")})
	if err != nil {
		return nil, err
	}
	args := []string{"agent", "-config-file=" + config}
	if o.Dev {
		args = append(args, "-dev")
	}
	c := &Consul{Ports: o.Ports}
	c.Daemon = &Daemon{
		name:    o.Name,
		command: Command{Name: o.Name, RunDir: dir, Path: o.Path, Args: args},
		listens: []string{c.Address(), hostPort(loopback, o.Ports.Server), hostPort(loopback, o.Ports.Serf)},
		ready:   c.ready,
		within:  60 * time.Second,
	}
	return c, c.Start(ctx)
}

func (c *Consul) ready(ctx context.Context) error {
	if err := leaderElected(ctx, c.URL()); err != nil {
		return err
	}
	// A leader that has just started answers other reads from a log that it is
	// still applying.
	body, err := fetch(ctx, c.URL()+"/v1/catalog/nodes?consistent")
	if err != nil {
		return err
	}
	var nodes []struct{}
	if err = json.Unmarshal(body, &nodes); err != nil {
		return fmt.Errorf("read the catalog: %w", err)
	}
	if len(nodes) == 0 {
		return errors.New("its catalog is still empty")
	}
	return nil
}

// leaderElected asks an agent, of Nomad or of Consul, for its leader.
func leaderElected(ctx context.Context, url string) error {
	body, err := fetch(ctx, url+"/v1/status/leader")
	if err != nil {
		return err
	}
	var leader string
	if err = json.Unmarshal(body, &leader); err != nil {
		return fmt.Errorf("read the leader: %w", err)
	}
	if leader == "" {
		return errors.New("it has no leader yet")
	}
	return nil
}

// fillPorts puts a free port in each place that holds 0.
func fillPorts(ctx context.Context, ports ...*int) error {
	taken := map[int]bool{}
	for _, p := range ports {
		taken[*p] = true
	}
	for _, p := range ports {
		if *p != 0 {
			continue
		}
		port, err := FreePort(ctx, taken)
		if err != nil {
			return err
		}
		*p, taken[port] = port, true
	}
	return nil
}
