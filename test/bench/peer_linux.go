package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peer is one way from a client to the backend.
type peer struct {
	name    string
	program string // to be found on PATH; "": this one
	ownH2   bool   // HTTP/2 without TLS has an address of its own
	chains  bool   // measured with two in a row
	alone   bool   // answers by itself
	// argv writes the instance's configuration and returns the command line.
	argv func(program string, i instance) ([]string, error)
	// grpc does so for backends that speak gRPC. Nil: it is not measured.
	grpc func(program string, i instance) ([]string, error)
}

// The names that the scenarios and the tables know.
const (
	direct     = "direct"
	ours       = "ours"
	haproxyTie = "haproxy" // what the ratios are to

	haproxyPlainName = "haproxy-plain"
)

func peers() []peer {
	return []peer{
		{name: direct},
		{name: ours, chains: true, argv: child(childOurs), grpc: child(childOurs)},
		{name: "front", alone: true, argv: child(childFront)},
		{name: haproxyTie, program: "haproxy", ownH2: true, chains: true, argv: haproxyFull, grpc: haproxyGRPC},
		{name: haproxyPlainName, program: "haproxy", ownH2: true, argv: haproxyPlain},
		{name: "nginx", program: "nginx", ownH2: true, chains: true, argv: nginx},
		{name: "traefik", program: "traefik", argv: traefik, grpc: traefikGRPC},
		{name: "traefik-fast", program: "traefik", argv: traefikFast},
		{name: "caddy", program: "caddy", argv: caddy},
		{name: "reverse-proxy", chains: true, argv: child(childReverseProxy)},
	}
}

func peerNames() []string {
	var names []string
	for _, p := range peers() {
		names = append(names, p.name)
	}
	return names
}

// find returns the program's path.
func (p peer) find() (string, error) {
	if p.program == "" {
		return os.Executable()
	}
	return exec.LookPath(p.program)
}

func child(kind string) func(string, instance) ([]string, error) {
	return func(program string, i instance) ([]string, error) {
		b, err := json.Marshal(i)
		return []string{program, kind, string(b)}, err
	}
}

// write writes a configuration file and returns its path.
func (i instance) write(name, text string) (string, error) {
	path := filepath.Join(i.Dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// each makes a line of every backend, with its number and its address.
func (i instance) each(format string) string {
	var b strings.Builder
	for n, address := range i.Backends {
		fmt.Fprintf(&b, format, n, address)
	}
	return b.String()
}

const haproxyHead = `global
  maxconn 15000
  no strict-limits
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  http-reuse always
`

func haproxyFull(program string, i instance) ([]string, error) {
	match, strip := "", ""
	if i.Prefix != "" {
		match = fmt.Sprintf(" if { path_beg %s/ }", i.Prefix)
		strip = fmt.Sprintf("  http-request set-path %%[path,bytes(%d)]\n", len(i.Prefix))
	}
	path, err := i.write("haproxy.cfg", haproxyHead+fmt.Sprintf(`frontend in
  bind %s
  bind %s proto h2
  use_backend app%s
backend app
  balance leastconn
  option forwardfor
  option http-no-delay
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  http-request set-header X-Request-Id %%[uuid]
%s%s`, i.Address, i.H2, match, strip, i.each(fmt.Sprintf("  server r%%d %%s maxconn %d\n", maxOngoing))))
	return []string{program, "-db", "-f", path}, err
}

func haproxyPlain(program string, i instance) ([]string, error) {
	path, err := i.write("haproxy.cfg", haproxyHead+fmt.Sprintf(`listen in
  bind %s
  bind %s proto h2
%s`, i.Address, i.H2, i.each("  server r%d %s\n")))
	return []string{program, "-db", "-f", path}, err
}

func nginx(program string, i instance) ([]string, error) {
	path, err := i.write("nginx.conf", fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
worker_processes auto;
worker_rlimit_nofile 20000;
events { worker_connections 15000; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  keepalive_requests 1000000000;
  upstream app {
    least_conn;
    keepalive 256;
    keepalive_requests 1000000000;
%[2]s  }
  server {
    listen %[3]s;
    listen %[4]s http2;
    location %[5]s/ {
      proxy_pass http://app/;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id;
    }
  }
}
`, i.Dir, i.each(fmt.Sprintf("    server %%[2]s max_conns=%d; # %%[1]d\n", maxOngoing)), i.Address, i.H2, i.Prefix))
	return []string{program, "-p", i.Dir, "-e", "stderr", "-c", path}, err
}

func caddy(program string, i instance) ([]string, error) {
	path, err := i.write("Caddyfile", fmt.Sprintf(`{
  admin off
  auto_https off
  persist_config off
  log {
    level ERROR
  }
  servers {
    protocols h1 h2c
  }
}
http://%s {
  handle_path %s/* {
    reverse_proxy %s {
      lb_policy least_conn
      flush_interval -1
      header_up X-Request-Id {http.request.uuid}
      transport http {
        compression off
        keepalive_idle_conns_per_host %d
      }
    }
  }
}
`, i.Address, i.Prefix, strings.Join(i.Backends, " "), maxOngoing))
	return []string{program, "run", "--adapter", "caddyfile", "--config", path}, err
}

func traefik(program string, i instance) ([]string, error) {
	path, err := i.write("routes.yml", fmt.Sprintf(`http:
  routers:
    app: {rule: "PathPrefix(`+"`%[1]s/`"+`)", service: app, middlewares: [strip]}
  middlewares:
    strip: {stripPrefix: {prefixes: ["%[1]s"]}}
  serversTransports:
    kept: {maxIdleConnsPerHost: %[2]d}
  services:
    app:
      loadBalancer:
        serversTransport: kept
        servers:
%[3]s`, i.Prefix, maxOngoing, i.each("          - {url: \"http://%[2]s\"} # %[1]d\n")))
	return traefikArgv(program, i, path), err
}

func traefikArgv(program string, i instance, path string) []string {
	return []string{
		program, "--entryPoints.web.address=" + i.Address, "--providers.file.filename=" + path, "--log.level=ERROR",
		"--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
	}
}

func traefikFast(program string, i instance) ([]string, error) {
	argv, err := traefik(program, i)
	return append(argv, "--experimental.fastProxy=true"), err
}
