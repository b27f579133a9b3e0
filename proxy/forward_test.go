package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/routes"
	"github.com/serve-nomad/serve-nomad/upstream"
)

func TestRouting(t *testing.T) {
	t.Parallel()
	name := func(name string) string {
		return replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s prefix=%s", name, r.RequestURI, r.Header.Get("X-Forwarded-Prefix"))
		})
	}
	d := routes.Deployment{Version: "v1", MaxOngoingRequests: 5, MaxQueuedRequests: -1}
	v := routes.View{Known: true, Table: routes.Table{
		"root":   {Application: "root", RoutePrefix: "/", Ingress: "in", Deployments: map[string]routes.Deployment{"in": d}},
		"search": {Application: "search", RoutePrefix: "/search", Ingress: "in", Deployments: map[string]routes.Deployment{"in": d, "rank": d}},
		"broken": {Application: "broken", RoutePrefix: "/broken", Ingress: "nobody"},
	}}
	for _, e := range []routes.Endpoint{
		{Replica: "1", Application: "root", Deployment: "in", Address: name("root")},
		{Replica: "2", Application: "search", Deployment: "in", Address: name("search")},
		{Replica: "3", Application: "search", Deployment: "rank", Address: name("rank")},
	} {
		e.Version, e.Passing = "v1", true
		v.Endpoints = append(v.Endpoints, e)
	}
	r := start(t, v)
	for _, tt := range []struct {
		name, url string
		status    int
		body      string
	}{
		{"the longest prefix takes the request", r.url + "/search/a?q=1", 200, "search /a?q=1 prefix=/search"},
		{"the prefix alone is the application's root", r.url + "/search?q=1", 200, "search /?q=1 prefix=/search"},
		{"the root prefix takes what is left, whole", r.url + "/searching/x", 200, "root /searching/x prefix="},
		{"an empty query stays one", r.url + "/search?", 200, "search /? prefix=/search"},
		{"an ingress that is not there is not ready", r.url + "/broken", 503, ""},
		{"inner deployments are not reached from outside", r.url + "/search/rank", 200, "search /rank prefix=/search"},
		{"a handle names application and deployment", r.handleURL + "/search/rank/a/b?c", 200, "rank /a/b?c prefix=/search/rank"},
		{"a handle without a path is the root", r.handleURL + "/search/rank", 200, "rank / prefix=/search/rank"},
		{"a handle with two slashes is forgiven", r.handleURL + "/search/rank//a", 200, "rank /a prefix=/search/rank"},
		{"a handle of no application is not found", r.handleURL + "/nobody/rank", 404, ""},
		{"a handle of no deployment is not found", r.handleURL + "/search/nobody", 404, ""},
		{"a handle without a deployment is not found", r.handleURL + "/search", 404, ""},
		{"nothing else lives below /-/", r.url + "/-/other", 404, ""},
		{"an encoded way up is refused", r.url + "/search/%2e%2e/admin", 400, ""},
		{"an encoded slash is refused", r.url + "/search%2fadmin", 400, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, body := get(t, r.client, tt.url)
			if res.StatusCode != tt.status || (tt.body != "" && body != tt.body) {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
			}
			if (tt.status >= 400) != (res.Header.Get(errorHeader) != "") {
				t.Errorf("%s is %q", errorHeader, res.Header.Get(errorHeader))
			}
		})
	}
	t.Run("the routes can be read", func(t *testing.T) {
		_, body := get(t, r.client, r.url+"/-/routes")
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"/": "root", "/search": "search", "/broken": "broken"}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a deleted application is not found and the others stay", func(t *testing.T) {
		next := routes.View{Known: true, Table: routes.Table{"search": v.Table["search"]}, Endpoints: v.Endpoints}
		r.discovery.set(next)
		eventually(t, "the root route is gone", func() bool {
			res, _ := get(t, r.client, r.url+"/")
			return res.StatusCode == http.StatusNotFound
		})
		if res, _ := get(t, r.client, r.url+"/search"); res.StatusCode != http.StatusOK {
			t.Errorf("got %d", res.StatusCode)
		}
	})
	t.Run("a view that knows nothing changes nothing", func(t *testing.T) {
		r.discovery.set(routes.View{Error: "consul is away"})
		eventually(t, "the error is shown", func() bool { return r.Status().Discovery != "" })
		if res, _ := get(t, r.client, r.url+"/search"); res.StatusCode != http.StatusOK {
			t.Errorf("got %d", res.StatusCode)
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	r := start(t, routes.View{})
	if res, body := get(t, r.client, r.url+"/-/healthz"); res.StatusCode != 503 || !strings.Contains(body, "routing table") {
		t.Errorf("before a table: %d %q", res.StatusCode, body)
	}
	if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("a request before a table: %d", res.StatusCode)
	}
	r.discovery.set(routes.View{Known: true})
	eventually(t, "healthy", func() bool {
		res, _ := get(t, r.client, r.url+"/-/healthz")
		return res.StatusCode == 200
	})
	if res, _ := do(t, r.client, http.MethodPost, r.url+"/-/healthz", nil); res.StatusCode != 405 {
		t.Errorf("a POST: %d", res.StatusCode)
	}
	if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != 404 {
		t.Errorf("a request with an empty table: %d", res.StatusCode)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Clone(context.Background())
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "secret")
		w.Header().Set("X-Public", "yes")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, "<html>")
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view())
	res, _ := rawRequest(t, r.addr, `GET /app/x HTTP/1.1
Host: example.org
Connection: X-Secret, close
X-Secret: mine
X-Forwarded-For: 1.2.3.4
X_Forwarded_For: 1.2.3.4
X-Forwarded-Host: evil
X-Forwarded-Prefix: /evil
X-Real-Ip: 1.2.3.4
Serve-Config-Hash: 0123abcd
Forwarded: for=1.2.3.4
X-Serve-Internal: 1
Proxy-Authorization: a
Te: trailers
X-Request-Id: abc-123
X-Two: 1
X-Two: 2
Upgrade: h2c

`)
	h := (<-got).Header
	for key, want := range map[string][]string{
		"X-Secret": nil, "X-Forwarded-For": {"127.0.0.1"}, "X_forwarded_for": nil, "X-Forwarded-Host": {"example.org"},
		"X-Forwarded-Proto": {"http"}, "X-Forwarded-Prefix": {"/app"}, "X-Real-Ip": nil, "Forwarded": nil, "Serve-Config-Hash": nil,
		"X-Serve-Internal": nil, "Proxy-Authorization": nil, "Te": {"trailers"}, "X-Request-Id": {"abc-123"},
		"X-Two": {"1", "2"}, "Upgrade": nil, "Connection": {"TE"}, "User-Agent": nil, "Accept-Encoding": nil,
	} {
		if diff := cmp.Diff(want, h[key]); diff != "" {
			t.Errorf("request header %s (-want +got):\n%s", key, diff)
		}
	}
	for key, want := range map[string][]string{
		"X-Private": nil, "Keep-Alive": nil, "X-Public": {"yes"}, "X-Request-Id": {"abc-123"}, "Content-Type": nil,
	} {
		if diff := cmp.Diff(want, res.Header[key]); diff != "" {
			t.Errorf("response header %s (-want +got):\n%s", key, diff)
		}
	}

	for _, id := range []string{"", "has space", strings.Repeat("x", 129)} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
		req.Header.Set("X-Request-Id", id)
		res, _ := send(t, r.client, req)
		<-got
		if made := res.Header.Get("X-Request-Id"); made == id || len(made) != 32 {
			t.Errorf("for the id %q the proxy used %q", id, made)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			t.Errorf("read the body: %v", err)
		}
		w.Header().Set("X-Framing", fmt.Sprint(r.ContentLength, r.TransferEncoding))
		w.Header().Set("X-Trailer", r.Trailer.Get("X-Sum"))
		fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view())
	seed := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 100, 4096, 4097, 32 << 10, 32<<10 + 1, 1 << 20, 5 << 20} {
		b := make([]byte, size)
		_, _ = seed.Read(b)
		want := fmt.Sprintf("%d %x", size, sha256.Sum256(b))
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(b)
			framing := fmt.Sprint(size, []string{})
			if chunked {
				body = struct{ io.Reader }{body}
				framing = fmt.Sprint(-1, []string{"chunked"})
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/app", body)
			if chunked {
				req.Trailer = http.Header{"X-Sum": {"trailed"}}
			}
			res, got := send(t, r.client, req)
			if got != want || res.Header.Get("X-Framing") != framing {
				t.Errorf("%d bytes, chunked %v: got %q framed %q, want %q framed %q", size, chunked, got, res.Header.Get("X-Framing"), want, framing)
			}
			if chunked && res.Header.Get("X-Trailer") != "trailed" {
				t.Errorf("%d bytes: the trailer was lost", size)
			}
		}
	}
	r.waitIdle(t)
}

// deadlines is a ResponseWriter that notes that its connection was cut.
type deadlines struct {
	http.ResponseWriter
	cut atomic.Bool
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.cut.Store(true)
	return nil
}

// TestStopPump ends a pump while it waits for the replica and while it waits
// for the client. In the first case the client's connection may already carry
// the next request and must not be touched.
func TestStopPump(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		length int64 // of which 5 bytes come
		cut    bool  // the client is to be cut off
	}{
		{"a body that was read whole leaves the client alone", 5, false},
		{"a body that is not whole cuts the client off", 10, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe() // takes nothing until it is read from
			defer near.Close()
			defer far.Close()
			w := &deadlines{}
			c := upstream.NewConn(near, 1<<20)
			body := iotest.DataErrReader(strings.NewReader("hello"))
			if tt.cut {
				body = io.MultiReader(strings.NewReader("hello"), until(w.cut.Load))
			}
			x := &exchange{conn: c, pump: &pump{
				conn: c, request: &http.Request{Body: io.NopCloser(body), ContentLength: tt.length}, buffers: &buffers{},
				stopped: make(chan struct{}), done: make(chan struct{}), limit: bodyLimit{control: http.NewResponseController(w)},
			}}
			go x.pump.run()
			if tt.cut {
				if got := readString(t, far, 5); got != "hello" {
					t.Errorf("the replica got %q", got)
				}
			} else {
				eventually(t, "the body is read, and waits for the replica", x.pump.whole.Load)
			}
			x.stopPump()
			if !x.pump.finished() || w.cut.Load() != tt.cut {
				t.Errorf("finished %v, the client cut off %v, want %v", x.pump.finished(), w.cut.Load(), tt.cut)
			}
		})
	}
}

// until is a reader that blocks until a condition holds.
type until func() bool

func (u until) Read([]byte) (int, error) {
	for !u() {
		runtime.Gosched()
	}
	return 0, os.ErrDeadlineExceeded
}

func TestStatus(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	address := replicaServer(t, func(http.ResponseWriter, *http.Request) { <-free })
	r := start(t, app{ongoing: 1, queued: 7, addresses: []string{address}}.view())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { get(t, r.client, r.url+"/app") })
	}
	eventually(t, "two are queued", func() bool { _, queued := r.load(); return queued == 2 })
	_, body := get(t, r.client, r.handleURL+"/-/status")
	close(free)
	wg.Wait()
	var got Status
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if d := &got.Deployments[0]; d.QueuedBytes < 32<<10 || d.QueuedBytes > 48<<10 { // each holds 16 KiB and its header
		t.Errorf("two that wait hold %d bytes", d.QueuedBytes)
	} else {
		d.QueuedBytes = 0
	}
	want := Status{Ready: true, Deployments: []gate.Status{{
		Application: "app", Deployment: "main", Version: "v1", MaxOngoingRequests: 1, MaxQueuedRequests: 7,
		Ongoing: 1, Queued: 2, Replicas: []gate.ReplicaStatus{{Replica: "r0", Address: address, Version: "v1", Ongoing: 1, Passing: true}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestH2C(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-After")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-After", fmt.Sprint(n, " ", r.Proto, " ", r.Host))
	})
	r := start(t, app{ongoing: 100, queued: -1, addresses: []string{address}}.view())
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	b := bytes.Repeat([]byte("0123456789"), 50_000)
	for range 5 {
		res, body := do(t, client, http.MethodPost, r.url+"/app", struct{ io.Reader }{bytes.NewReader(b)})
		if res.ProtoMajor != 2 || body != string(b) {
			t.Fatalf("%s, %d bytes", res.Proto, len(body))
		}
		if got, want := res.Trailer.Get("X-After"), fmt.Sprint(len(b), " HTTP/1.1 ", r.addr); got != want {
			t.Errorf("trailer %q, want %q", got, want)
		}
	}
	t.Run("a stream that its client resets frees the slot", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		pr, pw := io.Pipe()
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/app", pr)
		done := make(chan error, 1)
		go func() {
			res, err := client.Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			done <- err
		}()
		fmt.Fprint(pw, "first")
		eventually(t, "it runs", func() bool { n, _ := r.load(); return n == 1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		pw.Close()
		r.waitIdle(t)
	})
}

func TestServerSentEventsComeAtOnce(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
	res, err := r.client.Do(req) // returns although no event has been sent
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 20 {
		next <- fmt.Sprint(i)
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) { // blocks for ever if it is held back
			t.Fatalf("event %d: %q %v", i, lines.Text(), lines.Err())
		}
		lines.Scan()
	}
	close(next)
	if lines.Scan() {
		t.Errorf("more than was sent: %q", lines.Text())
	}
	r.waitIdle(t)
}

func TestDuplex(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "echo", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/app", pr)
	go fmt.Fprintln(pw, 0)
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 10 {
		if i > 0 {
			fmt.Fprintln(pw, i)
		}
		if !lines.Scan() || lines.Text() != fmt.Sprint("echo ", i) {
			t.Fatalf("line %d: %q %v", i, lines.Text(), lines.Err())
		}
	}
	pw.Close()
	if lines.Scan() {
		t.Error("more than was sent")
	}
	r.waitIdle(t)
}

func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		accepted.Add(1)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprint(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
		_, _ = br.ReadByte()
		_, _ = io.Copy(io.Discard, io.LimitReader(br, 1000))
		// and reads no more, so that the body's writer blocks
		<-t.Context().Done()
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	nc := dial(t, r.addr)
	fmt.Fprintf(nc, "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
	go func() { _, _ = io.Copy(nc, endless{}) }()
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 413 || string(b) != "big" || !res.Close {
		t.Errorf("got %d %q, close %v", res.StatusCode, b, res.Close)
	}
	r.waitIdle(t)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "100-continue" {
				t.Error("the replica was not asked")
			}
			if s := status.Load(); s != 100 {
				fmt.Fprintf(nc, "HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", s)
				return
			}
			fmt.Fprint(nc, "HTTP/1.1 100 Continue\r\n\r\n")
			b, _ := io.ReadAll(req.Body)
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.ContinueTimeout = time.Minute })

	status.Store(100)
	nc := dial(t, r.addr)
	br := bufio.NewReader(nc)
	for range 3 { // on one connection
		fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		if line, err := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("not asked for the body: %q %v", line, err)
		}
		_, _ = br.ReadString('\n')
		fmt.Fprint(nc, "hello")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(b) != "hello" {
			t.Errorf("got %d %q", res.StatusCode, b)
		}
		res.Body.Close()
	}

	status.Store(417)
	res, _ := rawRequest(t, r.addr, "POST /app HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 5\n\n")
	if res.StatusCode != 417 {
		t.Errorf("got %d, want the replica's refusal before the body", res.StatusCode)
	}
	r.waitIdle(t)
}

func TestBodyIsNotReadBeforeASlotIsHeld(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1}.view())
	nc := dial(t, r.addr)
	fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	eventually(t, "it is queued", func() bool { _, queued := r.load(); return queued == 1 })
	if err := nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := nc.Read(make([]byte, 1)); n != 0 || !timedOut(err) {
		t.Errorf("the body was asked for without a slot: %d %v", n, err)
	}
}

func TestInformational(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprint(w, "done")
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		},
	})
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/app", nil)
	res, body := send(t, r.client, req)
	if diff := cmp.Diff([]string{"103 </style.css>; rel=preload"}, hints); diff != "" {
		t.Error(diff)
	}
	if res.Header.Get("Link") != "" || body != "done" {
		t.Errorf("final response: %v %q", res.Header, body)
	}
}

func TestQueueing(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	var now, most atomic.Int32
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		most.Store(max(most.Load(), n))
		<-free
		fmt.Fprint(w, "ok")
	})
	r := start(t, app{ongoing: 2, queued: 3, addresses: []string{address}}.view())
	results := make(chan int, 5)
	for i := range 5 {
		go func() {
			res, _ := get(t, r.client, r.url+"/app")
			results <- res.StatusCode
		}()
		eventually(t, "it has come", func() bool { ongoing, queued := r.load(); return ongoing+queued == i+1 })
	}
	res, body := get(t, r.client, r.url+"/app")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get(errorHeader) != codeQueueFull {
		t.Errorf("past the queue: %d %v %s", res.StatusCode, res.Header, body)
	}
	close(free)
	for range 5 {
		if got := <-results; got != 200 {
			t.Errorf("got %d", got)
		}
	}
	if most.Load() > 2 {
		t.Errorf("the replica had %d requests at once", most.Load())
	}
	r.waitIdle(t)
}

func TestWaitsForTheFirstReplica(t *testing.T) {
	t.Parallel()
	a := app{ongoing: 1, queued: -1}
	r := start(t, a.view())
	got := make(chan string, 1)
	go func() {
		_, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("body"))
		got <- body
	}()
	eventually(t, "it is queued", func() bool { _, queued := r.load(); return queued == 1 })
	a.addresses = []string{replicaServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	r.discovery.set(a.view())
	if body := <-got; body != "body" {
		t.Errorf("got %q", body)
	}
}

func TestDeletedApplicationSendsItsWaitersAway(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1}.view())
	got := make(chan int, 1)
	go func() {
		res, _ := get(t, r.client, r.url+"/app")
		got <- res.StatusCode
	}()
	eventually(t, "it is queued", func() bool { _, queued := r.load(); return queued == 1 })
	r.discovery.set(routes.View{Known: true})
	if status := <-got; status != 404 {
		t.Errorf("got %d", status)
	}
	eventually(t, "the gate is forgotten", func() bool { return len(r.Status().Deployments) == 0 })
}

// TestWaitersFollowTheRoute has a new version put another deployment behind a
// route while requests wait for the old one.
func TestWaitersFollowTheRoute(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: 1}.view())
	got := make(chan string, 1)
	go func() {
		_, body := do(t, r.client, http.MethodPost, r.url+"/app/x", strings.NewReader("body"))
		got <- body
	}()
	eventually(t, "it is queued", func() bool { _, queued := r.load(); return queued == 1 })

	next := app{addresses: []string{replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, " ")
		_, _ = io.Copy(w, r.Body)
	})}}.view()
	route := next.Table["app"]
	route.Ingress, route.RoutePrefix = "front", "/app/x"
	route.Deployments = map[string]routes.Deployment{"front": {Version: "v1", MaxOngoingRequests: 1}}
	next.Table["app"] = route
	next.Endpoints[0].Deployment = "front"
	r.discovery.set(next)
	if body := <-got; body != "/ body" {
		t.Errorf("got %q", body)
	}
	eventually(t, "the old gate is forgotten", func() bool { return len(r.Status().Deployments) == 1 })
}
