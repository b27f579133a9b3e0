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

	"github.com/google/go-cmp/cmp"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// copied is a replica that keeps what it got.
type copied struct {
	mu   sync.Mutex
	got  []string
	serv func(w http.ResponseWriter, r *http.Request)
}

func (c *copied) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	c.got = append(c.got, fmt.Sprintf("%s %s %q shadow=%s id=%s prefix=%s trace=%s", r.Method, r.URL, body,
		r.Header.Get(shadowHeader), r.Header.Get("X-Request-Id"), r.Header.Get("X-Forwarded-Prefix"), r.Header.Get("Traceparent")))
	c.mu.Unlock()
	if c.serv != nil {
		c.serv(w, r)
	}
}

func (c *copied) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got
}

// shadowed starts a proxy whose generation 7 gets copies of so many percent.
func shadowed(t *testing.T, percent int, view gens, primary, copies string, configure ...func(*Config)) (*rig, gens) {
	t.Helper()
	view.weights, view.shadows, view.watched = map[int]int{7: 0}, map[int]int{7: percent}, true
	view.replicas = map[int][]string{0: {primary}, 7: {copies}}
	view.ongoing = max(view.ongoing, 1)
	return start(t, view.view(), append(configure, unheard)...), view
}

// unheard has a proxy count for reports which never arrive, so that a test can
// look at what they would say.
func unheard(c *Config) {
	c.Name, c.Loads = "p", &sink{answer: func(context.Context, loads.Report) error { return errors.New("no leader") }}
}

// compared is what would be told of the copies.
func compared(r *rig) loads.Shadowed {
	for _, s := range r.gates[deploymentKey{"app", 7, "main"}].Served() {
		if s.Shadow != nil {
			return *s.Shadow
		}
	}
	return loads.Shadowed{}
}

func TestCopiesOfRequests(t *testing.T) {
	for _, protocol := range []string{routes.ProtocolHTTP, routes.ProtocolH2C} {
		t.Run(protocol, func(t *testing.T) {
			one, other := &copied{serv: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "one") }}, &copied{
				serv: func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusTeapot)
					_, _ = io.WriteString(w, strings.Repeat("other", 10_000))
				},
			}
			serve := replicaServer
			if protocol == routes.ProtocolH2C {
				serve = func(tb testing.TB, h http.HandlerFunc) string {
					tb.Helper()
					address, _ := h2Replica(tb, h)
					return address
				}
			}
			o := &observer{}
			r, _ := shadowed(t, 100, gens{protocol: protocol}, serve(t, one.ServeHTTP), serve(t, other.ServeHTTP), observed(o))
			ask := func(method, body string, n int) {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, r.url+"/app/x?q=1", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Request-Id", fmt.Sprint("id", n))
				req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
				req.Header.Set("Serve-Shadow", "0") // which is not a client's to say
				if _, body := send(t, r.client, req); body != "one" {
					t.Errorf("the client got %q", body)
				}
				eventually(t, "the copy has been compared", func() bool { return compared(r).Requests == uint64(n) && ongoingIn(r, 7) == 0 })
			}
			large := strings.Repeat("x", upfrontBody-1)
			ask(http.MethodGet, "", 1)
			ask(http.MethodPost, "hello", 2)
			ask(http.MethodPut, large, 3)
			var want, primary []string
			for i, sent := range []string{`GET /x?q=1 ""`, `POST /x?q=1 "hello"`, fmt.Sprintf("PUT /x?q=1 %q", large)} {
				want = append(want, fmt.Sprintf("%s shadow=1 id=id%d prefix=/app trace=", sent, i+1))
				primary = append(primary, fmt.Sprintf("%s shadow= id=id%d prefix=/app trace=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", sent, i+1))
			}
			if d := cmp.Diff(want, other.all()); d != "" {
				t.Errorf("the copies: %s", d)
			}
			if d := cmp.Diff(primary, one.all()); d != "" {
				t.Errorf("the requests: %s", d)
			}
			got := compared(r)
			if got.Differing != 3 || got.Errors != 0 || got.Dropped != 0 || count(got.Latency) != 3 || count(got.Primary) != 3 {
				t.Errorf("%+v", got)
			}
			for range 3 {
				if got := o.next(t); got.Generation != 0 || got.Status != http.StatusOK {
					t.Errorf("the observer was told of %+v", got)
				}
			}
			if len(o.records) != 0 {
				t.Errorf("the observer was told of copies: %+v", o.records)
			}
			if s := r.Status().Generations[1].Copies; s == nil || s.Sent != 3 || s.Dropped != 0 {
				t.Errorf("status says %+v", s)
			}
			eventually(t, "no copy is under way", func() bool { return r.Status().Generations[1].Copies.UnderWay == 0 && ongoingIn(r, 7) == 0 })
		})
	}
}

func count(buckets map[int]uint64) (n uint64) {
	for _, m := range buckets {
		n += m
	}
	return n
}

func TestShareOfCopies(t *testing.T) {
	one, other := &copied{}, &copied{}
	r, view := shadowed(t, 20, gens{ongoing: 50}, replicaServer(t, one.ServeHTTP), replicaServer(t, other.ServeHTTP))
	for range 100 {
		get(t, r.client, r.url+"/app")
	}
	eventually(t, "the copies are there", func() bool { return compared(r).Requests == 20 })
	// Calls by handles are not copied.
	for range 100 {
		get(t, r.client, r.handleURL+"/app/main")
	}
	if got := compared(r); got.Requests != 20 || got.Dropped != 0 || got.Differing != 0 || len(other.all()) != 20 || len(one.all()) != 200 {
		t.Errorf("%+v, %d copies", got, len(other.all()))
	}
	// A generation that takes requests gets no copies.
	view.weights[7] = 50
	r.apply(view.view())
	for range 100 {
		get(t, r.client, r.url+"/app")
	}
	for _, line := range other.all()[20:] {
		if strings.Contains(line, "shadow=1") {
			t.Fatal("a generation that takes requests was sent a copy")
		}
	}
}

// A copy never waits, is no load, and delays nobody: here its replica hangs.
func TestCopiesOfAReplicaThatHangs(t *testing.T) {
	release := make(chan struct{})
	var present, most atomic.Int64
	hangs := replicaServer(t, func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), present.Add(1)))
		defer present.Add(-1)
		<-release
	})
	r, _ := shadowed(t, 100, gens{ongoing: 2, queued: 0}, named(t, "one"), hangs)
	for range 20 {
		if who := from(t, r, r.url+"/app"); who != "one" {
			t.Fatalf("got %q", who)
		}
	}
	eventually(t, "the others are dropped", func() bool { return compared(r).Dropped == 18 })
	if most.Load() > 2 || queuedIn(r, 7) != 0 {
		t.Errorf("%d copies at the replica, %d wait", most.Load(), queuedIn(r, 7))
	}
	if d, had := r.gates[deploymentKey{"app", 7, "main"}].Report(time.Now(), time.Second); had {
		t.Errorf("copies are part of the load: %+v", d)
	}
	// A request that comes for the generation itself waits for its turn, as ever.
	if res, _ := get(t, r.client, r.handleURL+"/app@7/main"); res.Header.Get(errorHeader) != codeQueueFull {
		t.Errorf("got %d", res.StatusCode)
	}
	close(release)
	eventually(t, "all are answered", func() bool { return compared(r).Requests == 2 && ongoingIn(r, 7) == 0 })
}

func TestCopiesThatFail(t *testing.T) {
	closed := rawReplica(t, func(_ net.Conn, br *bufio.Reader) { readRequest(br) })
	for _, test := range []struct {
		name            string
		primary, copies func(w http.ResponseWriter, r *http.Request)
		address         string // of the copies' replica, where it is none of ours
		want            loads.Shadowed
	}{
		{name: "500 beside 200", copies: answers(500), primary: answers(200), want: loads.Shadowed{Requests: 1, Differing: 1, Errors: 1}},
		{name: "500 beside 500", copies: answers(500), primary: answers(500), want: loads.Shadowed{Requests: 1}},
		{name: "200 beside 500", copies: answers(200), primary: answers(500), want: loads.Shadowed{Requests: 1, Differing: 1}},
		{name: "404 beside 200", copies: answers(404), primary: answers(200), want: loads.Shadowed{Requests: 1, Differing: 1}},
		{name: "closed beside 200", address: closed, primary: answers(200), want: loads.Shadowed{Requests: 1, Differing: 1, Errors: 1}},
		{name: "nobody there beside 200", address: "127.0.0.1:1", primary: answers(200), want: loads.Shadowed{Requests: 1, Differing: 1, Errors: 1}},
		{
			name: "late beside 200", primary: answers(200),
			copies: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			want:   loads.Shadowed{Requests: 1, Differing: 1, Errors: 1},
		},
		{
			name: "200 beside late", copies: answers(200),
			primary: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			want:    loads.Shadowed{Requests: 1, Differing: 1},
		},
		{
			name: "broken off beside 200", primary: answers(200),
			copies: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100000")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
			want: loads.Shadowed{Requests: 1, Differing: 1, Errors: 1},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := test.address
			if address == "" {
				address = replicaServer(t, test.copies)
			}
			r, _ := shadowed(t, 100, gens{timeout: 500 * time.Millisecond}, replicaServer(t, test.primary), address)
			get(t, r.client, r.url+"/app")
			eventually(t, "the copy has been compared", func() bool { return compared(r).Requests == 1 })
			got := compared(r)
			got.Latency, got.Primary = nil, nil
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if s := r.gates[deploymentKey{"app", 7, "main"}].Served(); len(s) != 1 || s[0].Requests != 0 || s[0].Errors != 0 {
				t.Errorf("copies count as requests: %+v", s)
			}
		})
	}
}

func answers(status int) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// What cannot be copied is not, and counted.
func TestRequestsThatAreNotCopied(t *testing.T) {
	one, other := &copied{}, &copied{}
	r, _ := shadowed(t, 100, gens{ongoing: 5}, replicaServer(t, one.ServeHTTP), replicaServer(t, other.ServeHTTP))
	for i, body := range []io.Reader{
		strings.NewReader(strings.Repeat("x", upfrontBody)), // too long
		io.MultiReader(strings.NewReader("of unknown length")),
	} {
		do(t, r.client, http.MethodPost, r.url+"/app", body)
		if got := compared(r); got.Dropped != uint64(i+1) {
			t.Errorf("%d were dropped, want %d", got.Dropped, i+1)
		}
	}
	rawRequest(t, r.addr, "GET /app HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n\n")
	rawRequest(t, r.addr, "POST /app HTTP/1.1\nHost: x\nContent-Length: 1\nExpect: 100-continue\n\nx")
	eventually(t, "all have come", func() bool { return len(one.all()) == 4 })
	if got := compared(r); got.Dropped != 4 || len(other.all()) != 0 {
		t.Errorf("%+v, %d copies, %d requests", got, len(other.all()), len(one.all()))
	}

	address, _ := grpcReplica(t, &service{})
	r, _ = shadowed(t, 100, gens{protocol: routes.ProtocolGRPC}, address, address)
	if _, err := newTestClient(t, r.addr).UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := compared(r); got.Dropped != 1 {
		t.Errorf("of gRPC %d were dropped, want 1", got.Dropped)
	}
}

// The copies of an application have a budget of their own.
func TestBudgetOfCopies(t *testing.T) {
	var c copies
	for range mostCopies {
		if !c.reserve(1) {
			t.Fatal("refused")
		}
	}
	if c.reserve(1) {
		t.Error("one copy too many")
	}
	c.free(1)
	if c.reserve(mostCopied) {
		t.Error("too many bytes")
	}
	if !c.reserve(mostCopied-mostCopies+1) || c.bytes.Load() != mostCopied || c.count.Load() != mostCopies {
		t.Errorf("%d bytes, %d copies", c.bytes.Load(), c.count.Load())
	}
}

// A client that leaves says nothing of its request, and nothing of the copy.
func TestCopyOfARequestWhoseClientLeaves(t *testing.T) {
	entered := make(chan struct{})
	hangs := func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() }
	r, _ := shadowed(t, 100, gens{}, replicaServer(t, hangs), replicaServer(t, answers(500)))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/app", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-entered; cancel() }()
	if _, err := r.client.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, "both have ended", func() bool { return ongoingIn(r, 0) == 0 && r.Status().Generations[1].Copies.UnderWay == 0 })
	if got := compared(r); got.Requests != 0 {
		t.Errorf("%+v", got)
	}
}

// A drain does not wait for copies.
func TestDrainBreaksCopiesOff(t *testing.T) {
	entered := make(chan struct{})
	hangs := func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() }
	r, _ := shadowed(t, 100, gens{}, named(t, "one"), replicaServer(t, hangs))
	from(t, r, r.url+"/app")
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		t.Error(err)
	}
	if got := compared(r); got.Requests != 0 {
		t.Errorf("what was broken off has been compared: %+v", got)
	}
}
