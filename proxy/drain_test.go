package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestDrain(t *testing.T) {
	t.Parallel()
	t.Run("finishes what is under way, with what it calls through handles", func(t *testing.T) {
		t.Parallel()
		free := make(chan struct{})
		var handleURL string
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/inner" {
				fmt.Fprint(w, "inner")
				return
			}
			<-free
			_, body := get(t, client, handleURL+"/app/main/inner")
			fmt.Fprint(w, "outer ", body)
		})
		r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view())
		handleURL = r.handleURL
		got := make(chan string, 1)
		go func() {
			res, body := get(t, r.client, r.url+"/app")
			got <- fmt.Sprint(body, " ", res.Close)
		}()
		eventually(t, "it runs", func() bool { n, _ := r.load(); return n == 1 })
		kept := dial(t, r.addr) // a connection that was there before
		fmt.Fprint(kept, "GET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		br := bufio.NewReader(kept)
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 200 {
			t.Fatalf("before: %v", err)
		}
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(context.Background()) }()
		eventually(t, "it drains", func() bool { return r.Status().Draining })
		if res, body := get(t, client, handleURL+"/-/healthz"); res.StatusCode != 503 || !res.Close {
			t.Errorf("health while draining: %d %q, close %v", res.StatusCode, body, res.Close)
		}
		eventually(t, "no new connections", func() bool {
			nc, err := net.Dial("tcp", r.addr)
			if err == nil {
				nc.Close()
			}
			return err != nil
		})
		select {
		case err := <-drained:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		close(free)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if body := <-got; body != "outer inner true" {
			t.Errorf("got %q", body)
		}
	})
	t.Run("gives notice before it closes anything", func(t *testing.T) {
		t.Parallel()
		address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.DrainNotice = time.Hour })
		kept := dial(t, r.addr)
		fmt.Fprint(kept, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
		br := bufio.NewReader(kept)
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 204 || res.Close {
			t.Fatalf("before: %v %v", res, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(ctx) }()
		eventually(t, "it drains", func() bool { return r.Status().Draining })
		fmt.Fprint(kept, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 204 || !res.Close {
			t.Errorf("on a kept connection: %v %v", res, err)
		}
		for path, status := range map[string]int{"/app": 204, "/nowhere": 404, "/-/healthz": 503} {
			if res, _ := rawRequest(t, r.addr, "GET "+path+" HTTP/1.1\nHost: a\n\n"); res.StatusCode != status || !res.Close {
				t.Errorf("%s: %d, close %v", path, res.StatusCode, res.Close)
			}
		}
		// The connections are answered, but the server takes a moment to close
		// them, which is no longer given to it.
		cancel()
		if err := <-drained; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("cuts off what takes too long and says so", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 5, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			_, _ = br.ReadByte()
		})}}.view())
		open(t, r, "")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		r.waitIdle(t)
	})
}
