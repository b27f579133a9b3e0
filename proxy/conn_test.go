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
	"testing/synctest"
	"time"
)

// TestDeadlineIsTheExchanges has a connection keep the deadline of an earlier
// exchange, which nobody must notice.
func TestDeadlineIsTheExchanges(t *testing.T) {
	t.Parallel()
	type step struct {
		at    time.Duration // since the beginning
		do    func(c *conn, far net.Conn)
		armed time.Duration // nc's deadline afterwards; 0: none
	}
	begin := func(left time.Duration) func(*conn, net.Conn) {
		return func(c *conn, _ net.Conn) {
			now := time.Now()
			deadline := now.Add(left)
			if left == 0 {
				deadline = time.Time{}
			}
			if err := c.begin(now, deadline); err != nil {
				t.Error(err)
			}
		}
	}
	// Reads until a byte comes or the time is over.
	reads := func(begun time.Time, until time.Duration, comes bool) func(*conn, net.Conn) {
		return func(c *conn, _ net.Conn) {
			_, err := c.br.ReadByte()
			if took := time.Since(begun); took != until || (err == nil) != comes || (err != nil && !timedOut(err)) {
				t.Errorf("read returned %v after %s, want %s", err, took, until)
			}
		}
	}
	synctest.Test(t, func(*testing.T) {
		begun := time.Now()
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		c := newConn(near, 1<<20)
		for _, s := range []step{
			{do: begin(0)},
			{at: 0, do: begin(100), armed: 100},
			{at: 40, do: begin(100), armed: 100}, // until 140: more than half is left
			{at: 41, do: func(*conn, net.Conn) { sendAt(far, begun.Add(120)) }, armed: 100}, // a byte
			{at: 41, do: reads(begun, 120, true), armed: 140},
			{at: 120, do: reads(begun, 140, false), armed: 140},
			{at: 150, do: begin(100), armed: 250},
			{at: 210, do: begin(100), armed: 310}, // less than half is left
			{at: 220, do: begin(10), armed: 230},  // which is earlier
			{at: 225, do: begin(0)},
			{at: 226, do: begin(1000), armed: 1226},
			{at: 230, do: begin(990), armed: 1220},
			{at: 240, do: func(c *conn, _ net.Conn) { c.halfClose(5) }, armed: 1220},
			{at: 240, do: reads(begun, 245, false), armed: 1220},
		} {
			time.Sleep(time.Until(begun.Add(s.at)))
			s.do(c, far)
			want := begun.Add(s.armed)
			if s.armed == 0 {
				want = time.Time{}
			}
			if !c.armed.Equal(want) {
				t.Errorf("at %s: armed for %s, want %s", s.at, c.armed.Sub(begun), s.armed)
			}
		}
		if c.reusable() {
			t.Error("a connection that was half closed would be used again")
		}
	})
}

// sendAt writes a byte at that time.
func sendAt(w io.Writer, at time.Time) {
	go func() {
		time.Sleep(time.Until(at))
		_, _ = w.Write([]byte{'x'})
	}()
}

// TestWokenReaderDoesNotReadOn has somebody end a read whose deadline is an
// earlier exchange's.
func TestWokenReaderDoesNotReadOn(t *testing.T) {
	t.Parallel()
	for name, wake := range map[string]func(*conn){
		"reader": (*conn).wakeReader, "writer": (*conn).wakeWriter, "nobody waits": func(c *conn) { c.halfClose(0) },
	} {
		synctest.Test(t, func(*testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			c := newConn(near, 1<<20)
			now := time.Now()
			if err := c.begin(now, now.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			var both sync.WaitGroup
			if name != "writer" {
				both.Go(func() {
					if _, err := c.br.ReadByte(); !timedOut(err) {
						t.Errorf("%s: read got %v", name, err)
					}
				})
			}
			if name != "reader" {
				both.Go(func() {
					if _, err := (connWriter{c}).Write([]byte("x")); !timedOut(err) {
						t.Errorf("%s: write got %v", name, err)
					}
				})
			}
			synctest.Wait()
			wake(c)
			both.Wait()
			if took := time.Since(now); took != 0 || c.reusable() {
				t.Errorf("%s: after %s", name, took)
			}
		})
	}
}

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
		eventually(t, "connections are kept, and closed by the replica", func() bool { return deadConnections(r) == kept })
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
func deadConnections(r *rig) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.sortedGates() {
		g.mu.Lock()
		for _, replica := range g.replicas {
			replica.pool.mu.Lock()
			for _, c := range replica.pool.idle {
				if c.stale() {
					n++
				}
			}
			replica.pool.mu.Unlock()
		}
		g.mu.Unlock()
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
