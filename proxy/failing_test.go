package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestFailingReplica sends requests to three replicas of which one fails in some
// way: it is found out and left alone.
func TestFailingReplica(t *testing.T) {
	t.Parallel()
	answer := func(text string) func(nc net.Conn) {
		return func(nc net.Conn) { fmt.Fprint(nc, text) }
	}
	for name, tt := range map[string]struct {
		fails   func(nc net.Conn)
		ejected bool
	}{
		"503":       {answer("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), true},
		"502":       {answer("HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), true},
		"no answer": {func(net.Conn) {}, true},
		"not HTTP":  {answer("SSH-2.0-x\r\n\r\n"), true},
		"no time":   {func(nc net.Conn) { _, _ = nc.Read(make([]byte, 1)) }, true},
		"500":       {answer("HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), false},
		"429":       {answer("HTTP/1.1 429 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reached atomic.Int64
			bad := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				if _, _, ok := readRequest(br); ok {
					reached.Add(1)
					tt.fails(nc)
				}
			})
			good := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
			r := start(t, app{ongoing: 5, queued: -1, timeout: 100 * time.Millisecond, addresses: []string{bad, good, good}}.view())
			for range 60 {
				do(t, r.client, http.MethodPost, r.url+"/app", nil)
			}
			d := r.Status().Deployments[0]
			if got := !d.Replicas[0].EjectedUntil.IsZero(); got != tt.ejected || (d.Ejections > 0) != tt.ejected {
				t.Errorf("%d of 60 requests went there; status %+v", reached.Load(), d)
			}
			if tt.ejected && reached.Load() > 10 {
				t.Errorf("%d of 60 requests went there", reached.Load())
			}
		})
	}
}

// TestAffinityHeaders has sessions and models keep to their replicas, on both
// ports.
func TestAffinityHeaders(t *testing.T) {
	t.Parallel()
	var addresses []string
	for i := range 10 {
		addresses = append(addresses, replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, i, r.Header.Get("Serve-Session-Id"), r.Header.Get("Serve-Model-Id"))
		}))
	}
	r := start(t, app{ongoing: 5, queued: -1, addresses: addresses}.view())
	used := map[string]bool{}
	for _, header := range []string{"serve-session-id", "serve-model-id"} {
		for value := range 20 {
			seen := ""
			for i := range 6 {
				url := []string{r.url + "/app", r.handleURL + "/app/main"}[i%2]
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set(header, fmt.Sprint("-", value))
				_, body := send(t, r.client, req)
				if seen != "" && body != seen {
					t.Errorf("%s %d went to %q and to %q", header, value, seen, body)
				}
				seen = body
			}
			used[seen[:1]] = true
		}
	}
	if len(used) < 8 {
		t.Errorf("40 values are spread over %d of 10 replicas", len(used))
	}
}
