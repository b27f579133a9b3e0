package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// observer keeps the records that it is told of.
type observer struct {
	join    bool
	sampled bool

	mu      sync.Mutex
	records []Record
	served  []string
}

func (o *observer) Serves(application, deployment, version string) Series {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := application + "/" + deployment + "/" + version
	o.served = append(o.served, name)
	return name
}

func (o *observer) Began(r *Record) {
	if o.join {
		r.Trace.Join(func([16]byte) bool { return o.sampled })
	}
}

func (o *observer) Ended(r *Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.records = append(o.records, *r)
}

// next waits for a record, and takes it.
func (o *observer) next(tb testing.TB) Record {
	tb.Helper()
	eventually(tb, "a record", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.records) > 0
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.records[0]
	o.records = o.records[1:]
	return r
}

func observed(o *observer) func(*Config) {
	return func(c *Config) { c.Observer = o }
}

func TestRecordOfAnAnswer(t *testing.T) {
	o := &observer{}
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), observed(o))
	do(t, r.client, http.MethodPost, r.url+"/app/x?secret", strings.NewReader("hello"))
	got := o.next(t)
	want := Record{
		Application: "app", Deployment: "main", Version: "v1", Prefix: "/app", Series: "app/main/v1", Replica: "r0", Address: address,
		Status: http.StatusTeapot, Received: 5, Sent: 15, Tries: 1, Dialled: 1,
	}
	compare(t, got, want)
	if got.ID == "" || got.FirstByte <= 0 || got.Duration < got.FirstByte || got.FirstByte < got.Queued || got.Granted.Before(got.Arrived) {
		t.Errorf("its times or its id are wrong: %+v", got)
	}
	get(t, r.client, r.handleURL+"/app/main/x")
	if got := o.next(t); !got.Handle || got.Prefix != "/app/main" || got.Dialled != 0 {
		t.Errorf("of a call by a handle: %+v", got)
	}
	get(t, r.client, r.url+"/-/healthz")
	get(t, r.client, r.url+"/elsewhere")
	if got := o.next(t); got.Status != http.StatusNotFound || got.Code != codeNoRoute || got.Application != "" || got.Series != nil {
		t.Errorf("of a request without a route, after one to the proxy itself: %+v", got)
	}
}

// compare holds what a test can foresee of a record.
func compare(t *testing.T, got, want Record) {
	t.Helper()
	got.Request, got.ID, got.Arrived, got.Granted = nil, "", time.Time{}, time.Time{}
	got.Queued, got.FirstByte, got.Duration = 0, 0, 0
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRecordOfAFullQueue(t *testing.T) {
	o := &observer{}
	release := make(chan struct{})
	address := replicaServer(t, func(http.ResponseWriter, *http.Request) { <-release })
	r := start(t, app{ongoing: 1, queued: 0, addresses: []string{address}}.view(), observed(o))
	first := make(chan struct{})
	go func() {
		defer close(first)
		get(t, r.client, r.url+"/app")
	}()
	eventually(t, "the replica is busy", func() bool { ongoing, _ := r.load(); return ongoing == 1 })
	get(t, r.client, r.url+"/app")
	compare(t, o.next(t), Record{
		Application: "app", Deployment: "main", Version: "v1", Prefix: "/app", Series: "app/main/v1",
		Status: http.StatusServiceUnavailable, Code: codeQueueFull,
	})
	close(release)
	<-first
}

func TestRecordOfAClientThatLeft(t *testing.T) {
	o := &observer{}
	entered := make(chan struct{})
	// The slot, and the request with it, is held until the replica has finished.
	address := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) { close(entered); <-r.Context().Done() })
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), observed(o))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/app", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-entered; cancel() }()
	if _, err := r.client.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := o.next(t); got.Status != StatusClientGone || got.Code != codeClientGone || got.Replica != "r0" {
		t.Errorf("%+v", got)
	}
}

func TestRecordOfAResponseThatBrokeOff(t *testing.T) {
	o := &observer{}
	address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10000")
		_, _ = io.WriteString(w, strings.Repeat("half", 1250))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), observed(o))
	res, err := r.client.Get(r.url + "/app")
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the client took half a response for a whole one")
	}
	if got := o.next(t); got.Status != http.StatusOK || got.Code != codeBrokeOff || got.Sent != 5000 {
		t.Errorf("%+v", got)
	}
}

func TestRecordOfAReplicaThatCannotBeReached(t *testing.T) {
	o := &observer{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	r := start(t, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond, addresses: []string{dead}}.view(), observed(o))
	get(t, r.client, r.url+"/app")
	if got := o.next(t); got.Status != http.StatusGatewayTimeout || got.Unmet != 1 || got.Tries != 1 || got.Dialled != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTraceOfTheClient(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	heard := make(chan http.Header, 1)
	address := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) { heard <- r.Header })
	for _, c := range []struct {
		name         string
		join         bool
		traceparent  string
		sameTrace    bool
		sameParent   bool
		keepsState   bool
		sampled      string
		everyRequest bool
	}{
		{name: "is passed on as it is", traceparent: parent, sameTrace: true, sameParent: true, keepsState: true, sampled: "01"},
		{name: "is passed on as it is, also when it means nothing", traceparent: "hello", sameParent: true, keepsState: true},
		{name: "goes on with a span of the proxy", join: true, traceparent: parent, sameTrace: true, keepsState: true, sampled: "01"},
		{name: "is replaced when it means nothing", join: true, traceparent: "hello", sampled: "02"},
		{name: "begins here", join: true, sampled: "02"},
		{name: "begins here and is kept", join: true, everyRequest: true, sampled: "03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &observer{join: c.join, sampled: c.everyRequest}
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), observed(o))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.traceparent != "" {
				req.Header.Set("Traceparent", c.traceparent)
			}
			req.Header.Set("Tracestate", "vendor=1")
			send(t, r.client, req)
			h := <-heard
			got := h.Get("Traceparent")
			if (got == c.traceparent) != c.sameParent || strings.HasPrefix(got, parent[:35]) != c.sameTrace || len(h["Traceparent"]) > 1 {
				t.Errorf("the replica was told %q", h["Traceparent"])
			}
			if (h.Get("Tracestate") == "vendor=1") != c.keepsState {
				t.Errorf("the replica was told the state %q", h["Tracestate"])
			}
			if c.sampled != "" && !strings.HasSuffix(got, "-"+c.sampled) {
				t.Errorf("the replica was told %q, want flags %s", got, c.sampled)
			}
			record := o.next(t)
			if c.join && record.Trace.traceparent() != got {
				t.Errorf("the record has %q, the replica was told %q", record.Trace.traceparent(), got)
			}
			if back := readTrace(h); got != "hello" && back.ID != record.Trace.ID {
				t.Errorf("the record has another trace than the replica: %x", record.Trace.ID)
			}
		})
	}
}

func TestReadTrace(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for value, ok := range map[string]bool{
		"00-" + id + "-" + span + "-01":                           true,
		"00-" + id + "-" + span + "-00":                           true,
		"cc-" + id + "-" + span + "-01-what-comes-later":          true,
		"cc-" + id + "-" + span + "-01":                           true,
		"cc-" + id + "-" + span + "-01.what-comes-later":          false,
		"00-" + id + "-" + span + "-01-":                          false,
		"ff-" + id + "-" + span + "-01":                           false,
		"00-" + strings.ToUpper(id) + "-" + span + "-01":          false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":      false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":        false,
		"00-" + id + "-" + span + "-0":                            false,
		"00-" + id + "-" + span + "-0x":                           false,
		"0x-" + id + "-" + span + "-01":                           false,
		"00_" + id + "-" + span + "-01":                           false,
		"":                                                        false,
		"00-" + strings.Repeat("\x00", 32) + "-" + span + "-\x00": false,
	} {
		got := readTrace(http.Header{"Traceparent": {value}})
		if (got != Trace{}) != ok {
			t.Errorf("%q: got %+v, want it read: %v", value, got, ok)
		}
	}
	two := http.Header{"Traceparent": {"00-" + id + "-" + span + "-01", "00-" + id + "-" + span + "-01"}}
	if readTrace(two) != (Trace{}) {
		t.Error("of two, neither is believed")
	}
}

// What the replica is told is read back as the same trace, with the proxy's
// span for its parent.
func TestTraceparentLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sampled := rapid.Bool().Draw(t, "sampled")
		var trace Trace
		trace.Join(func([16]byte) bool { return sampled })
		back := readTrace(http.Header{"Traceparent": {trace.traceparent()}})
		if back.ID != trace.ID || back.Parent != trace.Replica || back.Sampled() != sampled {
			t.Fatalf("%+v was read back as %+v", trace, back)
		}
		if trace.Span == trace.Replica {
			t.Fatal("two spans have one id")
		}
	})
}
