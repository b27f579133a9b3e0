package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/serve-nomad/serve-nomad/proxy"
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

	HTTP       *httpConfig       `hcl:"http,block"`
	Raft       *raftConfig       `hcl:"raft,block"`
	Nomad      *nomadConfig      `hcl:"nomad,block"`
	Consul     *consulConfig     `hcl:"consul,block"`
	Proxy      *proxyConfig      `hcl:"proxy,block"`
	Jobs       *jobsConfig       `hcl:"jobs,block"`
	Prometheus *prometheusConfig `hcl:"prometheus,block"`
	Nodes      *nodesConfig      `hcl:"nodes,block"`
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

	// GatekeeperAddress is where other proxies ask for slots of the replicas on
	// this machine. "": address's host, port 8002; "off": nowhere, and this proxy
	// counts alone.
	GatekeeperAddress string `hcl:"gatekeeper_address,optional"`

	// Servers are base URLs of the control API, which is told of the load; any
	// of them passes it on to the leader. Default: this file's own.
	Servers []string `hcl:"servers,optional"`

	// AdminAddress is where all that is below /-/ is served; "": on the two
	// ports above, which otherwise have /-/healthz alone.
	AdminAddress string           `hcl:"admin_address,optional"`
	AccessLog    *accessLogConfig `hcl:"access_log,block"`
	Tracing      *tracingConfig   `hcl:"tracing,block"`

	// DataDir is where the last routing table is kept, and the socket at which
	// the proxy hands over to the next. Default: proxy below the file's data_dir;
	// "" where there is none: nothing is kept.
	DataDir        string `hcl:"data_dir,optional"`
	UpgradeSocket  string `hcl:"upgrade_socket,optional"`  // default: upgrade.sock in DataDir
	UpgradeTimeout string `hcl:"upgrade_timeout,optional"` // that requests may take to finish after a handover

	ProxyProtocol  []string `hcl:"proxy_protocol,optional"`  // networks that must send a PROXY protocol header
	TrustedProxies []string `hcl:"trusted_proxies,optional"` // networks whose X-Forwarded-For is believed

	MaxConnections          int   `hcl:"max_connections,optional"` // of each port; 0: by the open files that the process may have
	MaxConnectionsPerClient int   `hcl:"max_connections_per_client,optional"`
	MaxHeaderBytes          int   `hcl:"max_header_bytes,optional"`
	MaxBodyBytes            int64 `hcl:"max_body_bytes,optional"`
	MinBodyRate             int64 `hcl:"min_body_rate,optional"` // bytes a second

	HeaderTimeout    string `hcl:"header_timeout,optional"`
	KeepAliveTimeout string `hcl:"keep_alive_timeout,optional"`
	StallTimeout     string `hcl:"stall_timeout,optional"`

	TLS *tlsConfig `hcl:"tls,block"`

	limits         proxy.Limits
	proxyProtocol  []netip.Prefix
	upgradeTimeout time.Duration
}

// prometheusConfig is where the leader reads the metrics of autoscaling blocks.
type prometheusConfig struct {
	Address string `hcl:"address,optional"` // base URL; "": there is none
	Token   string `hcl:"token,optional"`   // sent as a bearer token
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
		Proxy: &proxyConfig{
			Address: "127.0.0.1:8000", HandleAddress: "127.0.0.1:8001",
			AccessLog: &accessLogConfig{Output: "stdout", Format: "json", Sample: 1, Slow: "1s", Headers: []string{"User-Agent"}},
			Tracing:   &tracingConfig{},

			MaxHeaderBytes: 64 << 10, MinBodyRate: 100,
			HeaderTimeout: "10s", KeepAliveTimeout: "60s", StallTimeout: "60s", UpgradeTimeout: "15m",
		},
		Jobs: &jobsConfig{
			Datacenters: []string{"*"}, NodePool: "default",
			ShutdownDelay: "2s", ProgressDeadline: "10m",
		},
		Prometheus: &prometheusConfig{},
		Nodes:      &nodesConfig{Enabled: true, Process: &processConfig{Nomad: "nomad", Consul: "consul"}},
	}
}

// readConfig reads the named file over the defaults; "" is no file. The error
// says every fault, each in a line.
func readConfig(path string) (*config, error) {
	c := defaultConfig()
	if path == "" {
		return c, c.complete()
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	body, diags := parseConfig(path, src)
	if diags.HasErrors() {
		return nil, configFaults(path, diags) // what follows from half a file is no help
	}
	faults := []error{configFaults(path, gohcl.DecodeBody(body, nil, c)), inFile(path, c.complete())}
	return c, errors.Join(faults...)
}

// inFile says of each fault, a line each, which file has it.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return errors.New(path + ": " + strings.ReplaceAll(err.Error(), "\n", "\n"+path+": "))
}

func parseConfig(path string, src []byte) (hcl.Body, hcl.Diagnostics) {
	parse := hclparse.NewParser().ParseHCL
	if strings.HasSuffix(path, ".json") {
		parse = hclparse.NewParser().ParseJSON
	}
	file, diags := parse(src, path)
	if file == nil {
		return nil, diags
	}
	return file.Body, diags
}

// configFaults is one error for each fault, with its line, up to a number that
// people read.
func configFaults(path string, diags hcl.Diagnostics) error {
	const most = 20
	var faults []error
	diags = slices.Clone(diags)
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int { return cmp.Compare(faultLine(a), faultLine(b)) })
	for _, d := range diags {
		place := path
		if d.Subject != nil {
			place = fmt.Sprintf("%s:%d", path, faultLine(d))
		}
		if len(faults) == most {
			faults = append(faults, fmt.Errorf("%s: and more", path))
			break
		}
		faults = append(faults, fmt.Errorf("%s: %s: %s", place, d.Summary, d.Detail))
	}
	return errors.Join(faults...)
}

func faultLine(d *hcl.Diagnostic) int {
	if d.Subject == nil {
		return 0
	}
	return d.Subject.Start.Line
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
	for _, a := range []struct{ field, value, example string }{
		{"http.address", c.HTTP.Address, "127.0.0.1:8265"},
		{"raft.address", c.Raft.Address, "127.0.0.1:8266"},
		{"proxy.address", c.Proxy.Address, "127.0.0.1:8000"},
		{"proxy.handle_address", c.Proxy.HandleAddress, "127.0.0.1:8001"},
	} {
		if !hostPort(a.value) {
			faults = append(faults, fmt.Errorf("%s = %q: want host:port, such as %s", a.field, a.value, a.example))
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
	scheme := "http://"
	if c.Proxy.TLS != nil {
		scheme = "https://"
	}
	c.Proxy.Advertise = cmp.Or(c.Proxy.Advertise, scheme+c.Proxy.Address)
	c.Raft.Advertise = cmp.Or(c.Raft.Advertise, c.Raft.Address)
	if len(c.Proxy.Servers) == 0 {
		c.Proxy.Servers = []string{"http://" + reachable(c.HTTP.Advertise)}
	}
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
		faults = append(faults, fmt.Errorf("raft.peers names %s, fewer than bootstrap_expect = %d: name every server's Raft address", plural(len(c.Raft.Peers), "server"), n))
	}
	return errors.Join(append(faults, c.wrongWords(), c.Proxy.completeGatekeeper(), c.Proxy.completeTelemetry(), c.Proxy.complete(c.DataDir), c.Jobs.parse(), c.Nodes.complete(c.DataDir))...)
}

// wrongWords finds what is there but means nothing.
func (c *config) wrongWords() error {
	var faults []error
	if hclog.LevelFromString(c.LogLevel) == hclog.NoLevel {
		faults = append(faults, fmt.Errorf("log_level = %q: want trace, debug, info, warn, error or off", c.LogLevel))
	}
	for _, peer := range c.Raft.Peers {
		if !hostPort(peer) {
			faults = append(faults, fmt.Errorf("raft.peers: %q: want host:port, such as 10.0.0.5:8266", peer))
		}
	}
	for _, server := range c.Proxy.Servers {
		if !baseURL(server) {
			faults = append(faults, fmt.Errorf("proxy.servers: %q: want a base URL, such as http://10.0.0.5:8265", server))
		}
	}
	if a := c.Prometheus.Address; a != "" && !baseURL(a) {
		faults = append(faults, fmt.Errorf("prometheus.address = %q: want a base URL, such as http://127.0.0.1:9090", a))
	}
	if c.Consul.Prefix == "" {
		faults = append(faults, errors.New("consul.prefix is empty: name a folder of Consul's KV, or leave it out"))
	}
	if c.Jobs.NodePool == "" {
		faults = append(faults, errors.New("jobs.node_pool is empty: name a node pool, or leave it out"))
	}
	if len(c.Jobs.Datacenters) == 0 {
		faults = append(faults, errors.New(`jobs.datacenters is empty: name some, or ["*"] for all`))
	}
	return errors.Join(faults...)
}

// parse reads the durations.
func (c *jobsConfig) parse() error {
	var faults []error
	for _, d := range []struct {
		field, value string
		least        time.Duration
		into         *time.Duration
	}{
		{"jobs.shutdown_delay", c.ShutdownDelay, 0, &c.shutdownDelay},
		{"jobs.progress_deadline", c.ProgressDeadline, time.Second, &c.progressDeadline},
	} {
		v, err := time.ParseDuration(d.value)
		if err != nil || v < d.least {
			faults = append(faults, fmt.Errorf("%s = %q: want a duration from %s, such as 30s", d.field, d.value, d.least))
		}
		*d.into = v
	}
	return errors.Join(faults...)
}

// hostPort says whether address is a host, or none, and the number of a port.
func hostPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// reachable is address as this machine reaches what listens there.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// baseURL says whether address is one that HTTP can be spoken to.
func baseURL(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
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
