package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEveryKeptConnectionIsDead has a replica close all of its connections while
// they are idle: nobody notices, not even who sends what must not be sent twice.
func TestEveryKeptConnectionIsDead(t *testing.T) {
	t.Parallel()
	const kept = 5
	var arrived sync.WaitGroup
	arrived.Add(kept)
	release := make(chan struct{})
	var seen sync.Map
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			req, body, ok := readRequest(br)
			if !ok {
				return
			}
			seen.Store(req.Header.Get("X-Request-Id"), body)
			if req.URL.Path == "/together" {
				arrived.Done()
				<-release
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if req.URL.Path == "/together" {
				return // without a word
			}
		}
	})
	r := start(t, app{ongoing: kept, queued: -1, addresses: []string{address}}.view())
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		var all sync.WaitGroup
		for range kept {
			all.Go(func() { get(t, r.client, r.url+"/app/together") })
		}
		arrived.Wait()
		close(release)
		all.Wait()
		eventually(t, "connections are kept, and closed by the replica", func() bool { return deadConnections(t, r) == kept })
		var content io.Reader
		if method == http.MethodPost {
			content = strings.NewReader("once")
		}
		if res, body := do(t, r.client, method, r.url+"/app/alone", content); res.StatusCode != http.StatusOK || body != "ok" {
			t.Errorf("%s: got %d %q", method, res.StatusCode, body)
		}
		if n := idleConnections(r); n != 1 {
			t.Errorf("%s: %d connections are kept, want the new one alone", method, n)
		}
		arrived.Add(kept)
		release = make(chan struct{})
	}
}

// deadConnections says how many of the kept connections the replica has closed.
func deadConnections(t *testing.T, r *rig) (n int) {
	t.Helper()
	g := r.allGates()[0]
	s, err := g.Acquire(t.Context(), g.Ticket(nil, time.Time{}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	pool := &s.Replica.Pool
	for range pool.Count() {
		c := pool.Take(time.Now(), time.Hour)
		if c.Stale() {
			n++
		}
		defer pool.Put(c, time.Now())
	}
	return n
}

func idleConnections(r *rig) (n int) {
	for _, d := range r.Status().Deployments {
		for _, replica := range d.Replicas {
			n += replica.Idle
		}
	}
	return n
}
