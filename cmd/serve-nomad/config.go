package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/hclsimple"
)

// config is the file that `serve-nomad server` and `serve-nomad proxy` read:
// one file serves both on a node that runs both. It is the operator's own, so
// HCL's ordinary parser reads it. Every block and field may be absent.
type config struct {
	Name     string `hcl:"name,optional"` // default: the host's name
	DataDir  string `hcl:"data_dir,optional"`
	LogLevel string `hcl:"log_level,optional"`

	// AllowInsecureBind lets the control API and the Raft port listen beyond
	// loopback, where anybody who reaches them may do anything.
	AllowInsecureBind bool `hcl:"allow_insecure_bind,optional"`

	HTTP   *httpConfig   `hcl:"http,block"`
	Raft   *raftConfig   `hcl:"raft,block"`
	Nomad  *nomadConfig  `hcl:"nomad,block"`
	Consul *consulConfig `hcl:"consul,block"`
	Proxy  *proxyConfig  `hcl:"proxy,block"`
	Jobs   *jobsConfig   `hcl:"jobs,block"`
}

// httpConfig is the control API.
type httpConfig struct {
	Address   string `hcl:"address,optional"`   // listen here
	Advertise string `hcl:"advertise,optional"` // as people reach it, for links; default: address
}

// raftConfig is how servers reach each other.
type raftConfig struct {
	Address         string   `hcl:"address,optional"`
	Advertise       string   `hcl:"advertise,optional"` // as the other servers reach it; default: address
	BootstrapExpect int      `hcl:"bootstrap_expect,optional"`
	Peers           []string `hcl:"peers,optional"` // every server's advertised address
}

// nomadConfig is where Nomad is. What is empty comes from NOMAD_ADDR and the
// like.
type nomadConfig struct {
	Address   string `hcl:"address,optional"`
	Token     string `hcl:"token,optional"`
	Region    string `hcl:"region,optional"`
	Namespace string `hcl:"namespace,optional"`
}

// consulConfig is where Consul is. What is empty comes from CONSUL_HTTP_ADDR
// and the like.
type consulConfig struct {
	Address    string `hcl:"address,optional"`
	Token      string `hcl:"token,optional"`
	Datacenter string `hcl:"datacenter,optional"`
	Prefix     string `hcl:"prefix,optional"` // of our keys in the KV store
}

// proxyConfig is the data plane on each node.
type proxyConfig struct {
	Address         string `hcl:"address,optional"`          // listen here for requests
	Advertise       string `hcl:"advertise,optional"`        // base URL as people reach it; default: from address
	HandleAddress   string `hcl:"handle_address,optional"`   // listen here for calls between deployments
	HandleAdvertise string `hcl:"handle_advertise,optional"` // as replicas reach it; may hold Nomad's ${attr...}
}

// jobsConfig is what the Nomad jobs that serve-nomad makes have in common.
type jobsConfig struct {
	Datacenters      []string `hcl:"datacenters,optional"`
	NodePool         string   `hcl:"node_pool,optional"`
	ShutdownDelay    string   `hcl:"shutdown_delay,optional"`    // between leaving Consul and SIGTERM
	ProgressDeadline string   `hcl:"progress_deadline,optional"` // a rollout that is not done by then has failed

	shutdownDelay    time.Duration
	progressDeadline time.Duration
}

// defaultConfig is what a field is when the file does not name it.
func defaultConfig() *config {
	return &config{
		LogLevel: "info",
		HTTP:     &httpConfig{Address: "127.0.0.1:8265"},
		Raft:     &raftConfig{Address: "127.0.0.1:8266", BootstrapExpect: 1},
		Nomad:    &nomadConfig{Namespace: "default"},
		Consul:   &consulConfig{Prefix: "serve-nomad"},
		Proxy:    &proxyConfig{Address: "127.0.0.1:8000", HandleAddress: "127.0.0.1:8001"},
		Jobs: &jobsConfig{
			Datacenters: []string{"*"}, NodePool: "default",
			ShutdownDelay: "2s", ProgressDeadline: "10m",
		},
	}
}

// readConfig reads the named file over the defaults; "" is no file.
func readConfig(path string) (*config, error) {
	c := defaultConfig()
	if path != "" {
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		name := path
		if !strings.HasSuffix(name, ".hcl") && !strings.HasSuffix(name, ".json") {
			name += ".hcl"
		}
		if err := hclsimple.Decode(name, src, nil, c); err != nil {
			return nil, err
		}
	}
	return c, c.complete()
}

// complete derives what follows from other fields and finds every fault.
func (c *config) complete() error {
	var faults []error
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			faults = append(faults, fmt.Errorf("name: %w", err))
		}
		c.Name = host
	}
	for _, a := range []struct{ field, value string }{
		{"http.address", c.HTTP.Address},
		{"raft.address", c.Raft.Address},
		{"proxy.address", c.Proxy.Address},
		{"proxy.handle_address", c.Proxy.HandleAddress},
	} {
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			faults = append(faults, fmt.Errorf("%s = %q: want host:port, such as 127.0.0.1:8265", a.field, a.value))
		}
	}
	for _, a := range []struct{ field, value string }{
		{"http.address", c.HTTP.Address},
		{"raft.address", c.Raft.Address},
	} {
		if !c.AllowInsecureBind && !loopback(a.value) {
			faults = append(faults, fmt.Errorf("%s = %q is reachable from other machines and has no authentication: "+
				"keep it on loopback, or set allow_insecure_bind = true where the network itself is trusted", a.field, a.value))
		}
	}
	c.HTTP.Advertise = cmp.Or(c.HTTP.Advertise, c.HTTP.Address)
	c.Proxy.Advertise = cmp.Or(c.Proxy.Advertise, "http://"+c.Proxy.Address)
	c.Raft.Advertise = cmp.Or(c.Raft.Advertise, c.Raft.Address)
	if host, port, err := net.SplitHostPort(c.Proxy.HandleAddress); err == nil && c.Proxy.HandleAdvertise == "" {
		c.Proxy.HandleAdvertise = c.Proxy.HandleAddress
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			c.Proxy.HandleAdvertise = "${attr.unique.network.ip-address}:" + port
		}
	}
	if c.Raft.BootstrapExpect > 1 && !slices.Contains(c.Raft.Peers, c.Raft.Advertise) {
		c.Raft.Peers = append(c.Raft.Peers, c.Raft.Advertise)
	}
	if n := c.Raft.BootstrapExpect; n > 1 && len(c.Raft.Peers) < n {
		faults = append(faults, fmt.Errorf("raft.peers names %d servers, fewer than bootstrap_expect = %d: name every server's Raft address", len(c.Raft.Peers), n))
	}
	for _, d := range []struct {
		field, value string
		into         *time.Duration
	}{
		{"jobs.shutdown_delay", c.Jobs.ShutdownDelay, &c.Jobs.shutdownDelay},
		{"jobs.progress_deadline", c.Jobs.ProgressDeadline, &c.Jobs.progressDeadline},
	} {
		v, err := time.ParseDuration(d.value)
		if err != nil || v < 0 {
			faults = append(faults, fmt.Errorf("%s = %q: want a duration, such as 3s", d.field, d.value))
		}
		*d.into = v
	}
	return errors.Join(faults...)
}

// loopback says whether only this machine reaches address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // reported as a fault of its own
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
