package nomaddev

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// ServerPorts are the ports of a serve-nomad server; 0 stands for a free one.
type ServerPorts struct {
	API, Raft int
}

// ProxyPorts are the ports of a serve-nomad proxy; 0 stands for a free one. All
// proxies of a cluster have the first one's Gatekeeper: they are on one machine,
// and the one that opens it keeps the slots of all replicas there.
type ProxyPorts struct {
	HTTP, Handle, Gatekeeper int
}

// Server is a `serve-nomad server` process.
type Server struct {
	*Daemon
	api, raft string // host:port as others on this machine reach it
}

// Address returns host:port of the control API.
func (s *Server) Address() string { return s.api }

// URL returns the control API's base URL.
func (s *Server) URL() string { return "http://" + s.api }

// RaftAddress returns host:port of the server's Raft port.
func (s *Server) RaftAddress() string { return s.raft }

func (s *Server) ready(ctx context.Context) error {
	_, err := fetch(ctx, s.URL()+"/v1/status/leader")
	return err
}

// Proxy is a `serve-nomad proxy` process.
type Proxy struct {
	*Daemon
	http, handle string
}

// Address returns host:port of the applications' listener.
func (p *Proxy) Address() string { return p.http }

// URL returns the base URL of the applications' routes.
func (p *Proxy) URL() string { return "http://" + p.http }

// HandleURL returns the base URL of the handles' listener.
func (p *Proxy) HandleURL() string { return "http://" + p.handle }

func (p *Proxy) ready(ctx context.Context) error {
	_, err := fetch(ctx, p.URL()+"/-/healthz")
	return err
}

// serveValues is what the template of serve-nomad's config file reads.
type serveValues struct {
	NodeName, DataDir, LogLevel string
	API, Raft                   string
	Expect                      int
	Peers                       []string
	Nomad, Consul               string
	Proxy, Handle, Gatekeeper   string
	Servers                     []string // base URLs of the control API, which proxies tell of their load
	Nodes                       *nodesValues
}

// nodesValues say how a server makes nodes on this machine.
type nodesValues struct {
	Dir, Nomad, Consul        string // a folder, and programs
	NomadServer, ConsulServer string // host:port that agents join
}

// serveCommand writes a config file and returns the command that reads it.
func serveCommand(o ClusterOptions, dir, name, subcommand string, v serveValues) (Command, error) {
	v.NodeName, v.LogLevel = name, o.LogLevel
	v.DataDir = filepath.Join(dir, name, "data")
	config := filepath.Join(dir, name, "serve-nomad.hcl")
	if err := writeConfig(config, serveConfig, v); err != nil {
		return Command{}, err
	}
	return Command{Name: name, RunDir: dir, Path: o.Binary, Args: []string{subcommand, "-config", config}}, nil
}

// makeServers writes the servers' config files. Nothing is started yet.
func (c *Cluster) makeServers(o ClusterOptions) error {
	var peers []string
	for _, p := range o.Servers {
		peers = append(peers, hostPort(loopback, p.Raft))
	}
	if len(peers) == 1 {
		peers = nil
	}
	for i, ports := range o.Servers {
		v := c.serveValues(o)
		v.Nodes = &nodesValues{
			Dir: c.nodesDir(), Nomad: o.Agents.Nomad.Path, Consul: o.Agents.Consul.Path,
			NomadServer: hostPort(loopback, c.Nomad.Ports.RPC), ConsulServer: hostPort(loopback, c.Consul.Ports.Serf),
		}
		v.API, v.Raft = hostPort(o.Bind, ports.API), hostPort(loopback, ports.Raft)
		v.Expect, v.Peers = len(o.Servers), peers
		name := numbered("server", i, len(o.Servers))
		command, err := serveCommand(o, c.Dir, name, "server", v)
		if err != nil {
			return err
		}
		s := &Server{api: hostPort(reachable(o.Bind), ports.API), raft: v.Raft}
		s.Daemon = &Daemon{
			name: name, command: command, listens: []string{v.API, v.Raft},
			ready: s.ready, within: 60 * time.Second,
		}
		c.Servers = append(c.Servers, s)
	}
	return nil
}

// makeProxies writes the proxies' config files. Nothing is started yet.
func (c *Cluster) makeProxies(o ClusterOptions) error {
	for i, ports := range o.Proxies {
		v := c.serveValues(o)
		v.Proxy, v.Handle = hostPort(o.Bind, ports.HTTP), hostPort(loopback, ports.Handle)
		name := numbered("proxy", i, len(o.Proxies))
		command, err := serveCommand(o, c.Dir, name, "proxy", v)
		if err != nil {
			return err
		}
		command.Args = append(command.Args, "-drain-notice", "0s") // no load balancer watches this one
		p := &Proxy{http: hostPort(reachable(o.Bind), ports.HTTP), handle: hostPort(loopback, ports.Handle)}
		p.Daemon = &Daemon{
			name: name, command: command, listens: []string{v.Proxy, v.Handle},
			ready: p.ready, within: 30 * time.Second,
		}
		c.Proxies = append(c.Proxies, p)
	}
	return nil
}

// serveValues is what every config file of the cluster says alike: replicas are
// told the first proxy's handles, and a proxy's file names the first server.
func (c *Cluster) serveValues(o ClusterOptions) serveValues {
	v := serveValues{Nomad: c.Nomad.URL(), Consul: c.Consul.URL(), Expect: 1}
	if len(o.Proxies) > 0 {
		v.Proxy, v.Handle = hostPort(o.Bind, o.Proxies[0].HTTP), hostPort(loopback, o.Proxies[0].Handle)
		v.Gatekeeper = hostPort(loopback, o.Proxies[0].Gatekeeper)
	}
	if len(o.Servers) > 0 {
		v.API, v.Raft = hostPort(o.Bind, o.Servers[0].API), hostPort(loopback, o.Servers[0].Raft)
	}
	for _, s := range o.Servers {
		v.Servers = append(v.Servers, "http://"+hostPort(reachable(o.Bind), s.API))
	}
	return v
}

// numbered names one of n: "server" when it is the only one, else "server-1".
func numbered(name string, i, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, i+1)
}

// reachable is the address by which this machine reaches what listens on bind.
func reachable(bind string) string {
	if ip := net.ParseIP(bind); ip != nil && ip.IsUnspecified() {
		return loopback
	}
	return bind
}
