package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/listeners"
	"github.com/serve-nomad/serve-nomad/proxy"
)

// tlsConfig is how the proxy's ports speak TLS.
type tlsConfig struct {
	CertFile     string              `hcl:"cert_file,optional"`
	KeyFile      string              `hcl:"key_file,optional"` // default: CertFile
	Certificates []certificateConfig `hcl:"certificate,block"` // more of them, by name
	MinVersion   string              `hcl:"min_version,optional"`
	ClientCAFile string              `hcl:"client_ca_file,optional"`
	Handles      bool                `hcl:"handles,optional"` // the port of the handles speaks TLS too

	files listeners.TLSConfig
}

type certificateConfig struct {
	CertFile string `hcl:"cert_file"`
	KeyFile  string `hcl:"key_file,optional"`
}

// complete derives what follows from other fields and finds every fault.
// dataDir is that of the whole file.
func (c *proxyConfig) complete(dataDir string) error {
	if c.DataDir == "" && dataDir != "" {
		c.DataDir = filepath.Join(dataDir, "proxy")
	}
	if c.UpgradeSocket == "" && c.DataDir != "" {
		c.UpgradeSocket = filepath.Join(c.DataDir, "upgrade.sock")
	}
	var faults []error
	for _, n := range []struct {
		field string
		value int64
		least int64
	}{
		{"proxy.max_connections", int64(c.MaxConnections), 0},
		{"proxy.max_connections_per_client", int64(c.MaxConnectionsPerClient), 0},
		{"proxy.max_header_bytes", int64(c.MaxHeaderBytes), 1024},
		{"proxy.max_body_bytes", c.MaxBodyBytes, 0},
		{"proxy.min_body_rate", c.MinBodyRate, 0},
	} {
		if n.value < n.least {
			faults = append(faults, fmt.Errorf("%s = %d: want a number from %d", n.field, n.value, n.least))
		}
	}
	c.limits = proxy.Limits{MaxBody: c.MaxBodyBytes, MinBodyRate: c.MinBodyRate, MaxHeader: c.MaxHeaderBytes}
	for _, d := range []struct {
		field, value string
		into         *time.Duration
	}{
		{"proxy.header_timeout", c.HeaderTimeout, &c.limits.HeaderTimeout},
		{"proxy.keep_alive_timeout", c.KeepAliveTimeout, &c.limits.KeepAlive},
		{"proxy.stall_timeout", c.StallTimeout, &c.limits.ClientStall},
		{"proxy.upgrade_timeout", c.UpgradeTimeout, &c.upgradeTimeout},
	} {
		var err error
		if *d.into, err = time.ParseDuration(d.value); err != nil || *d.into < time.Second {
			faults = append(faults, fmt.Errorf("%s = %q: want a duration from 1s, such as 30s", d.field, d.value))
		}
	}
	var trusted, speakers error
	c.limits.TrustedProxies, trusted = networks("proxy.trusted_proxies", c.TrustedProxies)
	c.proxyProtocol, speakers = networks("proxy.proxy_protocol", c.ProxyProtocol)
	faults = append(faults, trusted, speakers)
	if c.TLS != nil {
		faults = append(faults, c.TLS.complete())
	}
	return errors.Join(append(faults, c.sharedPorts())...)
}

// sharedPorts finds ports that are named for two things.
func (c *proxyConfig) sharedPorts() error {
	var faults []error
	used := map[string]string{}
	for _, a := range []struct{ field, value string }{
		{"proxy.address", c.Address},
		{"proxy.handle_address", c.HandleAddress},
		{"proxy.gatekeeper_address", c.GatekeeperAddress},
		{"proxy.admin_address", c.AdminAddress},
	} {
		if a.value == "" || a.value == gatekeeperOff || strings.HasSuffix(a.value, ":0") {
			continue
		}
		if other := used[a.value]; other != "" {
			faults = append(faults, fmt.Errorf("%s and %s are both %q: give each a port of its own", other, a.field, a.value))
		}
		used[a.value] = a.field
	}
	return errors.Join(faults...)
}

// networks reads a list of networks, or of single addresses.
func networks(field string, words []string) (list []netip.Prefix, err error) {
	var faults []error
	for _, word := range words {
		prefix, err := netip.ParsePrefix(word)
		if address, single := netip.ParseAddr(word); single == nil {
			prefix, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %q: want a network or an address, such as 10.0.0.0/8", field, word))
			continue
		}
		list = append(list, prefix.Masked())
	}
	return list, errors.Join(faults...)
}

// complete finds every fault but those of the files themselves.
func (c *tlsConfig) complete() error {
	var faults []error
	versions := map[string]uint16{"": tls.VersionTLS12, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	version, known := versions[c.MinVersion]
	if !known {
		faults = append(faults, fmt.Errorf("proxy.tls.min_version = %q: want 1.2 or 1.3", c.MinVersion))
	}
	c.files = listeners.TLSConfig{MinVersion: version, ClientCA: c.ClientCAFile}
	pairs := c.Certificates
	if c.CertFile != "" || c.KeyFile != "" {
		pairs = append([]certificateConfig{{c.CertFile, c.KeyFile}}, pairs...)
	}
	for _, pair := range pairs {
		if pair.CertFile == "" {
			faults = append(faults, fmt.Errorf("proxy.tls: the key %q has no cert_file", pair.KeyFile))
		}
		c.files.Certificates = append(c.files.Certificates, listeners.CertificateFiles{Cert: pair.CertFile, Key: cmp.Or(pair.KeyFile, pair.CertFile)})
	}
	if len(pairs) == 0 {
		faults = append(faults, errors.New("proxy.tls names no certificate: set cert_file and key_file"))
	}
	return errors.Join(faults...)
}

// portOptions is what a port of the proxy asks of connections. maxFiles is how
// many files the process may have open; 0: not known.
func (c *proxyConfig) portOptions(certificates *listeners.Certificates, maxFiles uint64) listeners.Options {
	return listeners.Options{
		MaxConnections: cmp.Or(c.MaxConnections, connectionsFor(maxFiles)), MaxPerClient: c.MaxConnectionsPerClient,
		Uncounted: c.limits.TrustedProxies, ProxyProtocol: c.proxyProtocol, TLS: certificates,
	}
}

// Connections of a port where max_connections does not say: two ports, each
// connection with one to a replica, and some files for the rest.
const (
	spareFiles      = 256
	mostConnections = 50_000
)

func connectionsFor(maxFiles uint64) int {
	if maxFiles == 0 {
		return mostConnections
	}
	return int(min(max(maxFiles, spareFiles+64)-spareFiles, 4*mostConnections) / 4) //nolint:gosec // bounded
}

// handleOptions is the same for the port of the handles, which replicas call
// themselves: no load balancer stands before it.
func (c *proxyConfig) handleOptions(certificates *listeners.Certificates, maxFiles uint64) listeners.Options {
	o := c.portOptions(certificates, maxFiles)
	o.ProxyProtocol, o.MaxPerClient = nil, 0
	if c.TLS == nil || !c.TLS.Handles {
		o.TLS = nil
	}
	return o
}
