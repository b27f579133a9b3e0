package proxy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestOrigin(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for name, c := range map[string]struct {
		from      string
		forwarded []string // X-Forwarded-For
		proto     []string
		tls       bool
		addresses string
		scheme    string
		client    string // RemoteAddr then
	}{
		"a client": {from: "192.0.2.1:5", addresses: "192.0.2.1", scheme: "http", client: "192.0.2.1:5"},
		"a client that says who it is": {
			from: "192.0.2.1:5", forwarded: []string{"10.0.0.9"}, proto: []string{"https"},
			addresses: "192.0.2.1", scheme: "http", client: "192.0.2.1:5",
		},
		"a client over TLS": {from: "192.0.2.1:5", tls: true, addresses: "192.0.2.1", scheme: "https", client: "192.0.2.1:5"},
		"a proxy":           {from: "10.0.0.1:5", addresses: "10.0.0.1", scheme: "http", client: "10.0.0.1:5"},
		"behind a proxy": {
			from: "10.0.0.1:5", forwarded: []string{"192.0.2.1"}, proto: []string{"https"},
			addresses: "192.0.2.1, 10.0.0.1", scheme: "https", client: "192.0.2.1",
		},
		"behind two": {
			from: "10.0.0.1:5", forwarded: []string{"192.0.2.1, 10.0.0.2"},
			addresses: "192.0.2.1, 10.0.0.2, 10.0.0.1", scheme: "http", client: "192.0.2.1",
		},
		"in two lines": {
			from: "10.0.0.1:5", forwarded: []string{"192.0.2.1", "10.0.0.2"},
			addresses: "192.0.2.1, 10.0.0.2, 10.0.0.1", scheme: "http", client: "192.0.2.1",
		},
		"what a client put before it is left out": {
			from: "10.0.0.1:5", forwarded: []string{"10.9.9.9, 1.1.1.1,  192.0.2.1"},
			addresses: "192.0.2.1, 10.0.0.1", scheme: "http", client: "192.0.2.1",
		},
		"what is no address ends it": {
			from: "10.0.0.1:5", forwarded: []string{"192.0.2.1, unknown, 10.0.0.2"},
			addresses: "10.0.0.2, 10.0.0.1", scheme: "http", client: "10.0.0.2",
		},
		"a line that would break out": {
			from: "10.0.0.1:5", forwarded: []string{"192.0.2.1 x: y"}, proto: []string{"gopher"},
			addresses: "10.0.0.1", scheme: "http", client: "10.0.0.1:5",
		},
		"two schemes": {
			from: "10.0.0.1:5", proto: []string{"https", "http"}, tls: true,
			addresses: "10.0.0.1", scheme: "https", client: "10.0.0.1:5",
		},
		"http in front of our TLS": {
			from: "10.0.0.1:5", proto: []string{"http"}, tls: true, addresses: "10.0.0.1", scheme: "http", client: "10.0.0.1:5",
		},
		"addresses with ports, and IPv6": {
			from: "[2001:db8::1]:5", forwarded: []string{"[2a00::7]:80, ::ffff:10.0.0.2"},
			addresses: "2a00::7, 10.0.0.2, 2001:db8::1", scheme: "http", client: "2a00::7",
		},
		"too many": {
			from: "10.0.0.1:5", forwarded: []string{strings.Repeat("10.0.0.2,", 100) + "10.0.0.3"},
			addresses: strings.Repeat("10.0.0.2, ", 31) + "10.0.0.3, 10.0.0.1", scheme: "http", client: "10.0.0.2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &Proxy{}
			p.SetLimits(Limits{TrustedProxies: trusted})
			r := &http.Request{RemoteAddr: c.from, Header: http.Header{"X-Forwarded-For": c.forwarded, "X-Forwarded-Proto": c.proto}}
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			addresses, scheme := p.origin(r)
			if addresses != c.addresses || scheme != c.scheme || r.RemoteAddr != c.client {
				t.Errorf("got %q, %s, client %q", addresses, scheme, r.RemoteAddr)
			}
		})
	}
}

func TestOriginReachesTheReplica(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"])
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view())
	const request = "GET /app HTTP/1.1\nHost: a\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https\nConnection: close\n\n"
	if _, got := rawRequest(t, r.addr, request); got != "[127.0.0.1] [http]" {
		t.Errorf("not trusted: %s", got)
	}
	r.SetLimits(Limits{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if _, got := rawRequest(t, r.addr, request); got != "[192.0.2.1, 127.0.0.1] [https]" {
		t.Errorf("trusted: %s", got)
	}
}

func FuzzHops(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.1", "[::1]:80")
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, hop := range hops(http.Header{"X-Forwarded-For": {first, second}}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) {
			if _, err := netip.ParseAddr(hop); err != nil {
				t.Fatalf("%q, %q: %q is no address", first, second, hop)
			}
		}
	})
}
