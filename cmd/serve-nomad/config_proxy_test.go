package main

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/listeners"
)

func readProxyConfig(t *testing.T, text string) (*config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readConfig(file)
}

func TestProxyInTheConfiguration(t *testing.T) {
	for text, says := range map[string]string{
		"max_connections = -1":               "proxy.max_connections = -1: want a number from 0",
		"max_connections_per_client = -1":    "proxy.max_connections_per_client = -1",
		"max_header_bytes = 10":              "proxy.max_header_bytes = 10: want a number from 1024",
		"max_body_bytes = -5":                "proxy.max_body_bytes = -5",
		"max_body_bytes = 99999999999999999": "",
		"min_body_rate = -1":                 "proxy.min_body_rate = -1",
		"min_body_rate = 0":                  "",
		`header_timeout = "10"`:              `proxy.header_timeout = "10": want a duration from 1s`,
		`keep_alive_timeout = "0s"`:          `proxy.keep_alive_timeout = "0s"`,
		`stall_timeout = "-1s"`:              `proxy.stall_timeout = "-1s"`,
		`upgrade_timeout = ""`:               `proxy.upgrade_timeout = ""`,
		`trusted_proxies = ["10.0.0.0/33"]`:  `proxy.trusted_proxies: "10.0.0.0/33": want a network or an address`,
		`proxy_protocol = ["lb.example"]`:    `proxy.proxy_protocol: "lb.example"`,
		`address = "x"`:                      `config.hcl: proxy.address = "x": want host:port, such as 127.0.0.1:8000`,
		`admin_address = "127.0.0.1:8002"`:   `proxy.gatekeeper_address and proxy.admin_address are both "127.0.0.1:8002": give each a port of its own`,
		`handle_address = "127.0.0.1:8000"`:  `proxy.address and proxy.handle_address are both`,
		"admin_address = \"127.0.0.1:0\"\naddress = \"127.0.0.1:0\"\nhandle_address = \"127.0.0.1:0\"": "",
		"admin_address = \"127.0.0.1:8002\"\ngatekeeper_address = \"off\"":                             "",
		"tls {\n}":                    "proxy.tls names no certificate",
		"tls {\n key_file = \"a\"\n}": `proxy.tls: the key "a" has no cert_file`,
		"tls {\n cert_file = \"a\"\n min_version = \"1.1\"\n}":                     `proxy.tls.min_version = "1.1": want 1.2 or 1.3`,
		"tls {\n certificate {\n }\n}":                                             "config.hcl:",
		"tls {\n certificate {\n cert_file = \"a\"\n }\n min_version = \"1.3\"\n}": "",
	} {
		_, err := readProxyConfig(t, "proxy {\n"+text+"\n}\n")
		switch {
		case says == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: got %v, want %q in it", text, err, says)
		}
	}
}

func TestWhatFollowsFromTheConfigurationOfAProxy(t *testing.T) {
	c, err := readProxyConfig(t, `
data_dir = "/var/lib/x"
proxy {
  address         = "0.0.0.0:443"
  trusted_proxies = ["10.1.2.3/8", "192.0.2.7", "2001:db8::1"]
  proxy_protocol  = ["10.0.0.0/8"]
  max_body_bytes  = 7
  stall_timeout   = "5s"

  max_connections_per_client = 9
  tls {
    cert_file = "one.pem"
    certificate {
      cert_file = "two.pem"
      key_file  = "two.key"
    }
    min_version = "1.3"
  }
}`)
	if err != nil {
		t.Fatal(err)
	}
	p := c.Proxy
	if p.DataDir != "/var/lib/x/proxy" || p.UpgradeSocket != "/var/lib/x/proxy/upgrade.sock" || p.Advertise != "https://0.0.0.0:443" {
		t.Errorf("got %q, %q, %q", p.DataDir, p.UpgradeSocket, p.Advertise)
	}
	var trusted []string
	for _, n := range p.limits.TrustedProxies {
		trusted = append(trusted, n.String())
	}
	if !slices.Equal(trusted, []string{"10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"}) {
		t.Errorf("trusted are %q", trusted)
	}
	if p.limits.MaxBody != 7 || p.limits.ClientStall != 5*time.Second || p.limits.HeaderTimeout != 10*time.Second || p.upgradeTimeout != 15*time.Minute {
		t.Errorf("limits are %+v", p.limits)
	}
	files := p.TLS.files
	if files.MinVersion != tls.VersionTLS13 || !slices.Equal(files.Certificates, []listeners.CertificateFiles{{Cert: "one.pem", Key: "one.pem"}, {Cert: "two.pem", Key: "two.key"}}) {
		t.Errorf("TLS is %+v", files)
	}
	certificates := &listeners.Certificates{}
	public, handles := p.portOptions(certificates, 4352), p.handleOptions(certificates, 4352)
	if public.MaxConnections != 1024 || public.MaxPerClient != 9 || public.TLS == nil || !slices.Equal(public.ProxyProtocol, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) {
		t.Errorf("the public port: %+v", public)
	}
	if handles.MaxConnections != 1024 || handles.MaxPerClient != 0 || handles.TLS != nil || handles.ProxyProtocol != nil {
		t.Errorf("the port of the handles: %+v", handles)
	}
	for files, want := range map[uint64]int{0: 50_000, 10: 16, 1024: 192, 1 << 62: 50_000} {
		if got := connectionsFor(files); got != want {
			t.Errorf("of %d files: %d connections, want %d", files, got, want)
		}
	}
}

func TestWorkerArgs(t *testing.T) {
	got := workerArgs([]string{"proxy", "-supervise", "-config=a", "--upgrade", "-drain-notice", "1s", "-supervise=true"})
	if want := []string{"proxy", "-upgrade", "-config=a", "-drain-notice", "1s"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
