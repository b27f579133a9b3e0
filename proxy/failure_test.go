package proxy

import (
	"bufio"
	"context"
	"errors"
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

// deadAddress returns an address at which nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestUnreachableReplicaIsPassedOver(t *testing.T) {
	t.Parallel()
	good := replicaServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{deadAddress(t), good}}.view())
	for range 20 { // a POST too: nothing was sent
		if res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("x")); res.StatusCode != 200 || body != "x" {
			t.Fatalf("got %d %q", res.StatusCode, body)
		}
	}
	for _, d := range r.Status().Deployments[0].Replicas {
		if d.Suspect != (d.Replica == "r0") {
			t.Errorf("suspect: %+v", d)
		}
	}
}

func TestNoReplicaReachable(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{deadAddress(t), deadAddress(t), deadAddress(t)}}.view())
	res, _ := get(t, r.client, r.url+"/app")
	if res.StatusCode != 502 || res.Header.Get(errorHeader) != codeUnreachable {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	r.waitIdle(t)
}

// TestDeath has a replica die over a request in every way, and counts how often
// the request is sent.
func TestDeath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		warm   bool // the connection has been used before
		method string
		body   string
		answer string // before it closes
		status int
		sent   int32
	}{
		{"a GET is sent once more", false, "GET", "", "", 502, 2},
		{"a GET on a kept connection is sent once more", true, "GET", "", "", 502, 2},
		{"a POST is sent once", false, "POST", "x", "", 502, 1},
		{"a POST without a body is sent once", false, "POST", "", "", 502, 1},
		{"a POST on a kept connection is sent once", true, "POST", "x", "", 502, 1},
		{"half an answer is not asked for again", false, "GET", "", "HTTP/1.1 2", 502, 1},
		{"something else than HTTP is a bad answer", false, "GET", "", "SSH-2.0\r\n\r\n", 502, 1},
		{"two lengths are a bad answer", false, "GET", "", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502, 1},
		{"an endless header is a bad answer", false, "GET", "", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 20000) + "\r\n\r\n", 502, 1},
		{"a change of protocol that nobody asked for is a bad answer", false, "GET", "", "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 502, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int32
			var first atomic.Bool
			first.Store(tt.warm)
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				for {
					if _, _, ok := readRequest(br); !ok {
						return
					}
					if !first.Swap(false) {
						sent.Add(1)
						fmt.Fprint(nc, tt.answer)
						return
					}
					fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.MaxResponseHeader = 10000 })
			if tt.warm {
				get(t, r.client, r.url+"/app")
			}
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			res, _ := do(t, r.client, tt.method, r.url+"/app", body)
			if res.StatusCode != tt.status || sent.Load() != tt.sent {
				t.Errorf("got %d %s, sent %d times, want %d, %d times", res.StatusCode, res.Header.Get(errorHeader), sent.Load(), tt.status, tt.sent)
			}
			r.waitIdle(t)
		})
	}
}

func TestKeptConnectionThatTheReplicaClosedIsNotUsed(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	closed := make(chan struct{}, 100)
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		accepted.Add(1)
		if _, _, ok := readRequest(br); !ok {
			return
		}
		fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		nc.Close() // without having said so
		closed <- struct{}{}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	for range 20 { // POSTs, which could not be sent again
		if res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("x")); res.StatusCode != 200 || body != "ok" {
			t.Fatalf("got %d %q", res.StatusCode, body)
		}
		<-closed
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		accepted.Add(1)
		for {
			_, body, ok := readRequest(br)
			if !ok {
				return
			}
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body)+1, body+"!")
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}, timeout: time.Minute}.view())
	for i := range 50 {
		var body io.Reader
		if i%2 == 0 {
			body = struct{ io.Reader }{strings.NewReader("abc")}
		}
		if res, _ := do(t, r.client, http.MethodPost, r.url+"/app", body); res.StatusCode != 200 {
			t.Fatalf("got %d", res.StatusCode)
		}
	}
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d connections for 50 requests in a row", n)
	}
}

func TestResponseThatBreaksOffIsNotTakenForTheWhole(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("half", 2000) // more than is held back
	for name, answer := range map[string]string{
		"with a length": "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + half,
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"a bad chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f40\r\n" + half + "\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				if _, _, ok := readRequest(br); ok {
					fmt.Fprint(nc, answer)
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
			res, err := r.client.Do(req)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			if err == nil {
				t.Error("the client took a part for the whole")
			}
			r.waitIdle(t)
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	t.Run("in the queue", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond}.view())
		res, _ := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("x"))
		if res.StatusCode != 504 || res.Header.Get(errorHeader) != codeTimeout {
			t.Errorf("got %d", res.StatusCode)
		}
		r.waitIdle(t)
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run("at the replica, which keeps its slot until it has finished: "+method, func(t *testing.T) {
			t.Parallel()
			free := make(chan struct{})
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				for {
					if _, _, ok := readRequest(br); !ok {
						return
					}
					<-free
					fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond, addresses: []string{address}}.view())
			res, _ := do(t, r.client, method, r.url+"/app", strings.NewReader(""))
			if res.StatusCode != 504 {
				t.Errorf("got %d", res.StatusCode)
			}
			if ongoing, _ := r.load(); ongoing != 1 {
				t.Errorf("%d ongoing while the replica works", ongoing)
			}
			close(free)
			r.waitIdle(t)
			if res, body := get(t, r.client, r.url+"/app"); res.StatusCode != 200 || body != "ok" {
				t.Errorf("afterwards: %d %q", res.StatusCode, body)
			}
		})
	}
	t.Run("while the client sends its body", func(t *testing.T) {
		t.Parallel()
		address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		r := start(t, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond, addresses: []string{address}}.view())
		res, _ := rawRequest(t, r.addr, "POST /app HTTP/1.1\nHost: a\nContent-Length: 10\n\nhalf")
		if res.StatusCode != 504 || !res.Close {
			t.Errorf("got %d, close %v", res.StatusCode, res.Close)
		}
		r.waitIdle(t)
	})
	t.Run("in the middle of the response", func(t *testing.T) {
		t.Parallel()
		address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "begun")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // it notices the half-close
		})
		r := start(t, app{ongoing: 1, queued: -1, timeout: 100 * time.Millisecond, addresses: []string{address}}.view())
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err == nil || string(b) != "begun" {
			t.Errorf("got %q, %v, want an aborted response", b, err)
		}
		r.waitIdle(t)
	})
}

// TestSlotIsHeldUntilTheReplicaHasFinished has clients leave while a replica
// works that does not notice.
func TestSlotIsHeldUntilTheReplicaHasFinished(t *testing.T) {
	t.Parallel()
	// deaf takes note of the end of its input, and works on all the same.
	deaf := func(t *testing.T) (address string, begun, ended, free chan struct{}) {
		t.Helper()
		begun, ended, free = make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{}, 10)
		address = rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			begun <- struct{}{}
			go func() {
				_, _ = io.Copy(io.Discard, br)
				ended <- struct{}{}
			}()
			select {
			case <-free:
			case <-t.Context().Done():
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		})
		return address, begun, ended, free
	}
	for name, request := range map[string]string{
		"after a GET":                "GET /app HTTP/1.1\nHost: a\n\n",
		"after a POST":               "POST /app HTTP/1.1\nHost: a\nContent-Length: 2\n\nab",
		"in the middle of its body":  "POST /app HTTP/1.1\nHost: a\nContent-Length: 100000\n\nab",
		"in the middle of its chunk": "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nab",
	} {
		t.Run("a client that leaves "+name, func(t *testing.T) {
			t.Parallel()
			address, begun, ended, free := deaf(t)
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			nc := dial(t, r.addr)
			fmt.Fprint(nc, strings.ReplaceAll(request, "\n", "\r\n"))
			<-begun
			nc.Close()
			got := make(chan int, 1)
			go func() {
				res, _ := get(t, r.client, r.url+"/app")
				got <- res.StatusCode
			}()
			eventually(t, "the next is queued", func() bool { _, queued := r.load(); return queued == 1 })
			<-ended // the replica could know
			select {
			case <-begun:
				t.Fatal("the replica got a second request while it worked on the first")
			default:
			}
			free <- struct{}{}
			<-begun
			free <- struct{}{}
			if status := <-got; status != 200 {
				t.Errorf("the next got %d", status)
			}
			r.waitIdle(t)
		})
	}
	t.Run("not for ever", func(t *testing.T) {
		t.Parallel()
		address, begun, _, _ := deaf(t)
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.Linger = 50 * time.Millisecond })
		nc := dial(t, r.addr)
		fmt.Fprint(nc, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
		<-begun
		nc.Close()
		r.waitIdle(t)
	})
	t.Run("a replica that notices frees its slot at once", func(t *testing.T) {
		t.Parallel()
		begun := make(chan struct{}, 1)
		address := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) {
			begun <- struct{}{}
			<-r.Context().Done()
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/app", nil)
		done := make(chan error, 1)
		go func() {
			res, err := r.client.Do(req)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		<-begun
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		r.waitIdle(t)
	})
	t.Run("a client that leaves in the middle of a stream", func(t *testing.T) {
		t.Parallel()
		free := make(chan struct{})
		address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
			if _, _, ok := readRequest(br); !ok {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 100 {
				fmt.Fprint(nc, "1\r\nx\r\n")
			}
			<-free
			fmt.Fprint(nc, "0\r\n\r\n")
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		nc := dial(t, r.addr)
		fmt.Fprint(nc, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := nc.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		if ongoing, _ := r.load(); ongoing != 1 {
			t.Errorf("%d ongoing while the replica works", ongoing)
		}
		close(free)
		r.waitIdle(t)
	})
}

func TestClientThatLeavesTheQueue(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"with a GET":           "GET /app HTTP/1.1\r\nHost: a\r\n\r\n",
		"after its next":       "GET /app HTTP/1.1\r\nHost: a\r\n\r\n",
		"with an unread body":  "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"with half of a body":  "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc",
		"with a chunked body":  "POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
		"with a large request": "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, app{ongoing: 1, queued: -1}.view())
			nc := dial(t, r.addr)
			fmt.Fprint(nc, request)
			eventually(t, "it is queued", func() bool { _, queued := r.load(); return queued == 1 })
			if name == "after its next" {
				fmt.Fprint(nc, request)
			}
			nc.Close()
			eventually(t, "it is no longer queued", func() bool { _, queued := r.load(); return queued == 0 })
		})
	}
}

func TestSlowReaderDoesNotKeepTheSlot(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, endless{}, 100<<20)
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), func(c *Config) {
		c.ClientStall = 1200 * time.Millisecond
	})
	nc := dial(t, r.addr)
	fmt.Fprint(nc, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "it runs", func() bool { n, _ := r.load(); return n == 1 })
	r.waitIdle(t)
}

func TestBadBodyIsTheClientsFault(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("the replica took a part of the body for the whole")
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	res, _ := rawRequest(t, r.addr, "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nzz\n")
	if res.StatusCode != 400 || res.Header.Get(errorHeader) != codeBadBody || !res.Close {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
	r.waitIdle(t)
}

// TestAmbiguousFraming sends what proxies and servers have been known to read
// in different ways. It is refused, or reaches the replica in one clear form.
func TestAmbiguousFraming(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			req, body, ok := readRequest(br)
			if !ok {
				return
			}
			requests.Add(1)
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Seen: %s %s %d %v\r\n\r\n%s",
				len(body), req.Method, req.RequestURI, req.ContentLength, req.TransferEncoding, body)
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	for _, tt := range []struct{ name, request, seen string }{
		{"both framings", "POST /app HTTP/1.1\nHost: a\nContent-Length: 3\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n", ""},
		{"chunked alone", "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n", "POST / -1 [chunked]"},
		{"two lengths", "POST /app HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 4\n\nabcd", ""},
		{"a signed length", "POST /app HTTP/1.1\nHost: a\nContent-Length: +3\n\nabc", ""},
		{"an unknown coding", "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n1\nx\n0\n\n", ""},
		{"two codings", "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n1\nx\n0\n\n", ""},
		{"a space before the colon", "POST /app HTTP/1.1\nHost: a\nContent-Length : 3\n\nabc", ""},
		{"no host", "GET /app HTTP/1.1\n\n", ""},
		{"two hosts", "GET /app HTTP/1.1\nHost: a\nHost: b\n\n", ""},
		{"a tunnel", "CONNECT a:1 HTTP/1.1\nHost: a\n\n", ""},
		{"a way up", "GET /app/../x HTTP/1.1\nHost: a\n\n", ""},
		{"h2c by upgrade is an ordinary request", "GET /app HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n", "GET / 0 []"},
	} {
		before := requests.Load()
		res, _ := rawRequest(t, r.addr, tt.request)
		if got := res.Header.Get("X-Seen"); got != tt.seen || (tt.seen == "" && res.StatusCode/100 != 4 && res.StatusCode != 501) {
			t.Errorf("%s: status %d, the replica saw %q, want %q", tt.name, res.StatusCode, got, tt.seen)
		}
		if n := requests.Load() - before; (n == 1) != (tt.seen != "") {
			t.Errorf("%s: the replica saw %d requests", tt.name, n)
		}
	}
}

// TestReplicaKilledUnderLoad kills one of three replicas while requests that
// may be repeated run; none of them is lost.
func TestReplicaKilledUnderLoad(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		fmt.Fprint(w, r.URL.Query().Get("n"))
	}
	var victims []*http.Server
	a := app{ongoing: 4, queued: -1}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(handler)}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close(); <-done })
		victims = append(victims, s)
		a.addresses = append(a.addresses, l.Addr().String())
	}
	r := start(t, a.view())
	var wg sync.WaitGroup
	var lost atomic.Int64
	for worker := range 16 {
		wg.Go(func() {
			for i := range 150 {
				n := fmt.Sprint(worker, ".", i)
				if res, body := get(t, r.client, r.url+"/app?n="+strings.ReplaceAll(n, " ", "_")); res.StatusCode != 200 {
					lost.Add(1)
					t.Errorf("%s: %d %s %s", n, res.StatusCode, res.Header.Get(errorHeader), body)
				}
			}
		})
	}
	eventually(t, "the load runs", func() bool { return served.Load() > 300 })
	victims[0].Close() // connections and all, in the middle
	eventually(t, "the load runs on", func() bool { return served.Load() > 900 })
	victims[1].Close()
	wg.Wait()
	if lost.Load() > 0 {
		t.Errorf("%d requests lost", lost.Load())
	}
	r.waitIdle(t)
}

// TestManyAtOnce has 2,000 requests under way at once while endpoints come and
// go, and counts at the replicas.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const limit, replicas, requests = 5, 4, 2000
	a := app{ongoing: limit, queued: -1}
	for range replicas {
		var now atomic.Int32
		a.addresses = append(a.addresses, replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			if n := now.Add(1); n > limit {
				t.Errorf("a replica has %d requests, the limit is %d", n, limit)
			}
			b, _ := io.ReadAll(r.Body)
			now.Add(-1)
			_, _ = w.Write(b)
		}))
	}
	r := start(t, app{ongoing: limit, queued: -1}.view()) // none yet: all of them queue
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			want := fmt.Sprint("request ", i)
			res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader(want))
			if res.StatusCode != 200 || body != want {
				t.Errorf("got %d %q, want %q", res.StatusCode, body, want)
			}
		})
	}
	eventually(t, "all are queued", func() bool { _, queued := r.load(); return queued == requests })
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			v := a.view()
			if i%2 == 0 {
				v.Endpoints = append([]routes.Endpoint(nil), v.Endpoints[i%replicas:]...)
			}
			r.discovery.set(v)
			eventually(t, "the view is read", func() bool { return len(r.discovery.updates) == 0 })
		}
	})
	wg.Wait()
	close(stop)
	churn.Wait()
	r.waitIdle(t)
}

// TestKilledReplicaIsNotAskedTwice has one of two replicas die with connections that
// are kept to it, and go on to take new ones for a moment, as a process that is
// being killed does: requests that met it are answered by the other.
func TestKilledReplicaIsNotAskedTwice(t *testing.T) {
	t.Parallel()
	var killed atomic.Bool
	dying := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			if _, _, ok := readRequest(br); !ok || killed.Load() {
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	other := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{dying, other}}.view())
	for range 10 { // so that a connection to each is kept
		do(t, r.client, http.MethodGet, r.url+"/app", nil)
	}
	killed.Store(true)
	for range 6 {
		if res, body := do(t, r.client, http.MethodGet, r.url+"/app", nil); res.StatusCode != http.StatusOK {
			t.Errorf("%s %q", res.Status, body)
		}
	}
}
