package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/serve-nomad/serve-nomad/routes"
)

// TestAsker asks servers of every kind over real sockets.
func TestAsker(t *testing.T) {
	t.Parallel()
	raw := func(answer string) func(nc net.Conn, br *bufio.Reader) {
		return func(nc net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err == nil {
				fmt.Fprint(nc, answer)
			}
		}
	}
	var other atomic.Int32
	elsewhere := answering(t, func(http.ResponseWriter, *http.Request) { other.Add(1) })
	for name, tt := range map[string]struct {
		serve func(nc net.Conn, br *bufio.Reader)
		good  bool
		late  bool
	}{
		"200":                  {raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), true, false},
		"204":                  {raw("HTTP/1.1 204 No Content\r\n\r\n"), true, false},
		"299, to the end":      {raw("HTTP/1.0 299 Odd\r\n\r\nbody"), true, false},
		"a long one":           {raw("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000)), true, false},
		"103, then 200":        {raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), true, false},
		"503":                  {raw("HTTP/1.1 503 Loading\r\nContent-Length: 0\r\n\r\n"), false, false},
		"199 at the end":       {raw("HTTP/1.1 199 Odd\r\n\r\n"), false, false},
		"a redirect":           {raw("HTTP/1.1 302 Found\r\nLocation: http://" + elsewhere + "/\r\nContent-Length: 0\r\n\r\n"), false, false},
		"something else":       {raw("SSH-2.0-OpenSSH\r\n\r\n"), false, false},
		"nothing":              {raw(""), false, false},
		"half a body":          {raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), false, false},
		"a header without end": {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"), false, false},
		"no answer in time":    {func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) }, false, true},
		"no whole body in time": {func(nc net.Conn, br *bufio.Reader) {
			raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")(nc, br)
			_, _ = io.Copy(io.Discard, br)
		}, false, true},
		"a change of protocol":   {raw("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), false, false},
		"two lengths":            {raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), false, false},
		"a status of two digits": {raw("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := NewAsker()(t.Context(), rawServer(t, tt.serve), Check{Path: "/healthz"})
			if (err == nil) != tt.good || (err != nil && IsLate(err) != tt.late) {
				t.Errorf("got %v, late %v", err, err != nil && IsLate(err))
			}
			if other.Load() != 0 {
				t.Error("followed the redirect")
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		if err := NewAsker()(t.Context(), nobodyAt(t), Check{Path: "/"}); err == nil || IsLate(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("it asks as Consul does", func(t *testing.T) {
		t.Parallel()
		got := make(chan string, 1)
		address := answering(t, func(_ http.ResponseWriter, r *http.Request) {
			got <- fmt.Sprint(r.Method, " ", r.URL, " ", r.Host, " ", r.Close)
		})
		if err := NewAsker()(t.Context(), address, Check{Path: "/healthz?a=b"}); err != nil {
			t.Fatal(err)
		}
		if want := "GET /healthz?a=b " + address + " true"; <-got != want {
			t.Errorf("want %s", want)
		}
	})
}

func TestH2Asker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), grpchealth.NewServer()
	healthpb.RegisterHealthServer(server, service)
	service.SetServingStatus("up.v1.Up", healthpb.HealthCheckResponse_SERVING)
	service.SetServingStatus("down.v1.Down", healthpb.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	withHealth := l.Addr().String()

	without := func() string { // gRPC without its health service
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Stop(); <-done })
		return l.Addr().String()
	}()
	h2c := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	h1 := answering(t, func(http.ResponseWriter, *http.Request) {})
	silent := rawServer(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })

	ofGRPC := func(service string) Check {
		return CheckOf(routes.Deployment{Protocol: routes.ProtocolGRPC, HealthService: service})
	}
	ofH2C := func(path string) Check {
		return CheckOf(routes.Deployment{Protocol: routes.ProtocolH2C, HealthPath: path})
	}
	for name, c := range map[string]struct {
		address string
		check   Check
		says    string // "": it serves
	}{
		"gRPC that serves":                    {withHealth, ofGRPC(""), ""},
		"a service that serves":               {withHealth, ofGRPC("up.v1.Up"), ""},
		"a service that does not":             {withHealth, ofGRPC("down.v1.Down"), "SERVING"},
		"a service that is not known":         {withHealth, ofGRPC("x"), `status "5"`},
		"gRPC without a health service":       {without, ofGRPC(""), `status "12"`},
		"h2c that answers 200":                {h2c, ofH2C("/up"), ""},
		"h2c that answers 503":                {h2c, ofH2C("/down"), "status 503"},
		"h2c that is only connected to":       {h2c, ofH2C(""), ""},
		"HTTP/1.1 in the place of h2c":        {h1, ofH2C(""), "HTTP/2"},
		"HTTP/1.1 in the place of gRPC":       {h1, ofGRPC(""), "HTTP/2"},
		"h2c in the place of gRPC":            {h2c, ofGRPC(""), "status 503"},
		"who takes connections and is silent": {silent, ofH2C(""), "HTTP/2"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if c.address == silent {
				cancel()
			}
			err := NewAsker()(ctx, c.address, c.check)
			switch {
			case c.address == silent && err != nil:
			case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}
