package conformance

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// mortal is a replica that dies over each request, and counts them.
func mortal(tb testing.TB, seen *atomic.Int64) (address string) {
	tb.Helper()
	return rawReplica(tb, func(nc *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			return
		}
		seen.Add(1)
		_, _ = io.Copy(io.Discard, req.Body)
	})
}

// TestSentAgain has replicas die over requests: one that may have done something
// comes to no second replica, nor one whose body is gone.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	for request, times := range map[string]int64{
		"GET /app HTTP/1.1\n":                                          2,
		"HEAD /app HTTP/1.1\n":                                         2,
		"OPTIONS /app HTTP/1.1\n":                                      2,
		"POST /app HTTP/1.1\n":                                         1,
		"DELETE /app HTTP/1.1\n":                                       1,
		"PUT /app HTTP/1.1\n":                                          1,
		"BREW /app HTTP/1.1\n":                                         1,
		"POST /app HTTP/1.1\nIdempotency-Key: 1\n":                     2,
		"POST /app HTTP/1.1\nX-Idempotency-Key: 1\n":                   2,
		"GET /app HTTP/1.1\nContent-Length: 4\n":                       1,
		"GET /app HTTP/1.1\nTransfer-Encoding: chunked\n":              1,
		"POST /app HTTP/1.1\nIdempotency-Key: 1\nContent-Length: 4\n":  1,
		"GET /app HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\n": 1,
	} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			r := start(t, viewOf(app(1, mortal(t, &seen), mortal(t, &seen))))
			body := ""
			switch {
			case strings.Contains(request, "Length"):
				body = "body"
			case strings.Contains(request, "chunked"):
				body = "4\nbody\n0\n\n"
			}
			nc := dial(t, r.addr)
			write(t, nc, wire(request+"Host: a\n\n"+body))
			if res := readHead(t, bufio.NewReader(nc)); res.StatusCode != http.StatusBadGateway {
				t.Errorf("the client got %d", res.StatusCode)
			}
			r.waitIdle(t)
			if n := seen.Load(); n != times {
				t.Errorf("replicas got it %d times, want %d", n, times)
			}
		})
	}
}

// TestSendingAgainIsBounded has every replica die over every request: what is
// sent again stays a small part of what is asked.
func TestSendingAgainIsBounded(t *testing.T) {
	t.Parallel()
	const requests = 300
	var seen atomic.Int64
	r := start(t, viewOf(app(1, mortal(t, &seen), mortal(t, &seen), mortal(t, &seen))))
	began := time.Now()
	for range requests {
		if res, _ := r.get(t, "/app"); res.StatusCode != http.StatusBadGateway {
			t.Fatalf("the client got %d", res.StatusCode)
		}
	}
	again, denied := seen.Load()-requests, r.proxies[0].Status().Deployments[0].ResendsDenied
	most := requests/5 + 5*(10+int64(time.Since(began).Seconds())+1)
	t.Logf("of %d requests %d were sent again, %d were not", requests, again, denied)
	if again > most || again <= 0 || denied == 0 {
		t.Errorf("of %d requests %d were sent again, at most %d may be; %d were not", requests, again, most, denied)
	}
	r.waitIdle(t)
}

// TestClientThatLeavesAnHTTP2Replica holds that the replica learns of it, whether
// or not the application bounds the time of its requests.
func TestClientThatLeavesAnHTTP2Replica(t *testing.T) {
	t.Parallel()
	for name, protocols := range clientProtocols() {
		for _, timeout := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprint(name, " ", timeout), func(t *testing.T) {
				t.Parallel()
				began, told := make(chan struct{}), make(chan struct{})
				a := app(1, replicaH2C(t, func(_ http.ResponseWriter, req *http.Request) {
					close(began)
					<-req.Context().Done()
					close(told)
				}))
				a.timeout = timeout
				r := start(t, speaks(viewOf(a), "app", routes.ProtocolH2C))
				ctx, leave := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/app", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				client := clientOf(t, protocols)
				var asking sync.WaitGroup
				asking.Go(func() {
					if res, err := client.Do(req); err == nil {
						res.Body.Close()
					}
				})
				<-began
				leave()
				asking.Wait()
				<-told
				r.waitIdle(t)
			})
		}
	}
}

// replicaH2C starts a replica that speaks HTTP/2 from the first byte.
func replicaH2C(tb testing.TB, h http.HandlerFunc) (address string) {
	tb.Helper()
	l := listen(tb)
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Close
	tb.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// speaks changes what an application's replicas speak.
func speaks(v routes.View, name, protocol string) routes.View {
	d := v.Table[name].Deployments[name]
	d.Protocol = protocol
	v.Table[name].Deployments[name] = d
	return v
}
