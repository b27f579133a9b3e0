package telemetry

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/routes"
)

// BenchmarkRequest is a request through a proxy, to a replica and back on kept
// connections, with nobody who watches and with everybody. Allocations are those
// of client, proxy and replica together; the client and the replica make none.
func BenchmarkRequest(b *testing.B) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer collector.Close()
	log := &AccessLog{Writer: io.Discard, Format: JSON, Sample: 1, Headers: []string{"User-Agent"}}
	spansOf := func(sample float64) *Tracing { return &Tracing{Endpoint: collector.URL, Sample: &sample} }
	for _, c := range []struct {
		name string
		*Config
	}{
		{"off", nil},
		{"metrics", &Config{}},
		{"metrics, lines", &Config{AccessLog: log}},
		{"metrics, lines, spans of 1 percent", &Config{AccessLog: log, Tracing: spansOf(0.01)}},
		{"metrics, lines, spans", &Config{AccessLog: log, Tracing: spansOf(1)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			address := watchedProxy(b, c.Config)
			nc, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			br := bufio.NewReader(nc)
			request := []byte("GET /app/x HTTP/1.1\r\nHost: a\r\nUser-Agent: bench\r\n\r\n")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := nc.Write(request); err != nil {
					b.Fatal(err)
				}
				skipResponse(b, br)
			}
		})
	}
}

// skipResponse reads a response whose body is two bytes, "ok".
func skipResponse(tb testing.TB, br *bufio.Reader) {
	tb.Helper()
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
	}
	if body, err := br.Peek(2); err != nil || string(body) != "ok" {
		tb.Fatalf("%q, %v", body, err)
	}
	_, _ = br.Discard(2)
}

// watchedProxy runs a proxy with one replica, and returns its address. c nil:
// nobody watches it.
func watchedProxy(b *testing.B, c *Config) string {
	b.Helper()
	config := proxy.Config{Discovery: fixed{viewOf(bareReplica(b))}}
	var tel *Telemetry
	if c != nil {
		tel = newTelemetry(b, *c)
		config.Observer = tel
	}
	p := proxy.New(config, hclog.NewNullLogger())
	if tel != nil {
		tel.Watch(p)
		b.Cleanup(run(b, tel))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { p.Run(ctx) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := p.Server("")
	parts.Go(func() { _ = s.Serve(l) })
	b.Cleanup(func() {
		cancel()
		_ = s.Close()
		parts.Wait()
	})
	<-p.Ready()
	return l.Addr().String()
}

// bareReplica answers whatever comes, without a word that costs anything.
func bareReplica(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer nc.Close()
				answer, buffer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), make([]byte, 4096)
				for {
					if _, err := nc.Read(buffer); err != nil {
						return
					}
					if _, err := nc.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(func() { l.Close(); connections.Wait() })
	return l.Addr().String()
}

// viewOf is a routing table with one replica.
func viewOf(address string) routes.View {
	return routes.View{
		Known: true,
		Table: routes.Table{"app": {
			Schema: routes.Schema, Application: "app", RoutePrefix: "/app", Ingress: "main",
			Deployments: map[string]routes.Deployment{"main": {Service: "s", Version: "v1", MaxOngoingRequests: 1, MaxQueuedRequests: -1}},
		}},
		Endpoints: []routes.Endpoint{{
			Replica: "r0", Application: "app", Deployment: "main", Version: "v1", Node: "n1", Address: address, Passing: true,
		}},
	}
}
