package telemetry

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	span "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// receiver is a trace collector.
type receiver struct {
	*httptest.Server
	status int

	mu       sync.Mutex
	spans    map[string]*span.Span // by name
	resource string
	paths    map[string]bool
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := &receiver{status: http.StatusOK, spans: map[string]*span.Span{}, paths: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		b, err := io.ReadAll(body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &request)
		}
		if err != nil {
			t.Error(err)
		}
		c.take(r.URL.Path, &request)
		w.WriteHeader(c.status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *receiver) take(path string, request *collector.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[path] = true
	for _, r := range request.GetResourceSpans() {
		c.resource = attributes(r.GetResource().GetAttributes())
		for _, s := range r.GetScopeSpans() {
			for _, one := range s.GetSpans() {
				c.spans[one.GetName()] = one
			}
		}
	}
}

func attributes(list []*common.KeyValue) string {
	var b strings.Builder
	for _, kv := range list {
		v := kv.GetValue().GetStringValue()
		if v == "" {
			v = fmt.Sprint(kv.GetValue().GetIntValue())
		}
		fmt.Fprintf(&b, "%s=%s ", kv.GetKey(), v)
	}
	return b.String()
}

func all() *float64 { one := 1.0; return &one }

func TestSpans(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	c := newReceiver(t)
	tel := newTelemetry(t, Config{Version: "1.2.3", Name: "n1:8000", Tracing: &Tracing{Endpoint: c.URL + "/", Sample: all()}})
	stop := run(t, tel)
	r := record("/app/x")
	r.Trace = proxy.Trace{ID: [16]byte{0xaa}, Parent: [8]byte{0xbb}, Flags: 1}
	tel.Began(r)
	tel.Ended(r)
	unsampled := record("/app/y")
	unsampled.Request.Method = "PUT"
	unsampled.Trace = proxy.Trace{ID: [16]byte{0xcc}, Parent: [8]byte{0xdd}}
	tel.Began(unsampled)
	tel.Ended(unsampled)
	stop()

	if !c.paths["/v1/traces"] || len(c.paths) != 1 {
		t.Errorf("asked for %v", c.paths)
	}
	for _, want := range []string{"service.name=serve-nomad-proxy", "service.version=1.2.3", "service.instance.id=n1:8000", "deployment.environment=test"} {
		if !strings.Contains(c.resource, want) {
			t.Errorf("the resource has no %s: %s", want, c.resource)
		}
	}
	server, wait, client := c.spans["GET /app"], c.spans["wait for a replica"], c.spans["GET"]
	if server == nil || wait == nil || client == nil || len(c.spans) != 3 {
		t.Fatalf("there are %v", c.spans)
	}
	parents := map[*span.Span][8]byte{server: {0xbb}, wait: r.Trace.Span, client: r.Trace.Span}
	for s, parent := range parents {
		if hex.EncodeToString(s.GetTraceId()) != "aa"+strings.Repeat("0", 30) || [8]byte(s.GetParentSpanId()) != parent {
			t.Errorf("%s is of the wrong trace or parent: %v", s.GetName(), s)
		}
	}
	if [8]byte(server.GetSpanId()) != r.Trace.Span || [8]byte(client.GetSpanId()) != r.Trace.Replica {
		t.Error("the spans have other ids than the replica was told")
	}
	if server.GetKind() != span.Span_SPAN_KIND_SERVER || client.GetKind() != span.Span_SPAN_KIND_CLIENT {
		t.Error("the spans are of the wrong kind")
	}
	took := func(s *span.Span) time.Duration {
		return time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano())
	}
	if took(server) != r.Duration || took(wait) != r.Queued || took(client) != r.Duration-r.Queued || server.GetStartTimeUnixNano() != uint64(r.Arrived.UnixNano()) {
		t.Errorf("the spans took %v, %v, %v", took(server), took(wait), took(client))
	}
	has := attributes(server.GetAttributes()) + attributes(client.GetAttributes())
	for _, want := range []string{
		"http.request.method=GET", "url.path=/app/x", "http.response.status_code=200", "http.route=/app", "client.address=192.0.2.7",
		"serve_nomad.application=app", "serve_nomad.deployment=main", "serve_nomad.version=v1", "serve_nomad.replica=r0", "server.address=10.0.0.9", "server.port=2000",
	} {
		if !strings.Contains(has, want+" ") {
			t.Errorf("no span has %s: %s", want, has)
		}
	}
	if strings.Contains(has, "secret") {
		t.Errorf("a span has a secret: %s", has)
	}
}

func TestSpansOfAFailure(t *testing.T) {
	c := newReceiver(t)
	tel := newTelemetry(t, Config{Tracing: &Tracing{Endpoint: c.URL, Sample: all()}})
	stop := run(t, tel)
	r := record("/app/x")
	r.Status, r.Code, r.Replica, r.Granted, r.FirstByte = http.StatusServiceUnavailable, "queue-full", "", time.Time{}, 0
	tel.Began(r)
	tel.Ended(r)
	stop()
	server := c.spans["GET /app"]
	if len(c.spans) != 2 || server.GetStatus().GetCode() != span.Status_STATUS_CODE_ERROR || len(server.GetParentSpanId()) != 0 ||
		!strings.Contains(attributes(server.GetAttributes()), "error.type=queue-full ") {
		t.Errorf("there are %v", c.spans)
	}
}

func TestACollectorThatRefuses(t *testing.T) {
	c := newReceiver(t)
	c.status = http.StatusBadRequest
	log := &output{}
	tel, err := New(t.Context(), Config{Tracing: &Tracing{Endpoint: c.URL, Sample: all()}}, hclog.New(&hclog.LoggerOptions{Output: log}))
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, tel)
	for range 3 {
		r := record("/app")
		tel.Began(r)
		tel.Ended(r)
	}
	stop()
	if got := value(families(t, tel), "traced_requests_total", "outcome=failed"); got != 3 {
		t.Errorf("%v are counted as failed", got)
	}
	if n := strings.Count(log.String(), "spans cannot be sent"); n != 1 {
		t.Errorf("the log says so %d times: %s", n, log)
	}
}

func TestACollectorThatHangsHoldsNobodyUp(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	tel := newTelemetry(t, Config{Tracing: &Tracing{Endpoint: server.URL, Sample: all()}})
	stop := run(t, tel)
	const requests = 4 * maxEntries
	for range requests {
		r := record("/app")
		tel.Began(r)
		tel.Ended(r)
	}
	taken, dropped := tel.traced.kept.Load(), tel.traced.dropped.Load()
	if taken+dropped != requests || dropped == 0 {
		t.Errorf("%d are taken and %d dropped", taken, dropped)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > 2*closeTimeout {
		t.Errorf("its end took %v", took)
	}
}

func TestSamplerFromTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, arg string
		want      Sampler
		bad       bool
	}{
		{"", "", Sampler{1, true}, false},
		{"always_on", "", Sampler{1, false}, false},
		{"always_off", "", Sampler{0, false}, false},
		{"traceidratio", "0.25", Sampler{0.25, false}, false},
		{"traceidratio", "", Sampler{1, false}, false},
		{"parentbased_always_on", "", Sampler{1, true}, false},
		{"parentbased_always_off", "", Sampler{0, true}, false},
		{"ParentBased_TraceIDRatio", " 0.5 ", Sampler{0.5, true}, false},
		{"traceidratio", "2", Sampler{}, true},
		{"traceidratio", "NaN", Sampler{}, true},
		{"traceidratio", "half", Sampler{}, true},
		{"jaeger_remote", "", Sampler{}, true},
	} {
		got, err := SamplerFrom(func(key string) string {
			return map[string]string{"OTEL_TRACES_SAMPLER": c.name, "OTEL_TRACES_SAMPLER_ARG": c.arg}[key]
		})
		if (err != nil) != c.bad || (err == nil && got != c.want) {
			t.Errorf("%s %s: %+v, %v", c.name, c.arg, got, err)
		}
	}
}

func TestAClientsChoiceStandsOnlyWhenParentBased(t *testing.T) {
	for _, c := range []struct {
		sampler Sampler
		flags   byte
		sampled bool
	}{
		{Sampler{0, true}, 1, true},
		{Sampler{1, true}, 0, false},
		{Sampler{0, false}, 1, false},
		{Sampler{1, false}, 0, true},
	} {
		r := record("/")
		r.Trace = proxy.Trace{ID: [16]byte{1}, Parent: [8]byte{2}, Flags: c.flags}
		(&tracer{sampler: c.sampler}).join(r)
		if r.Trace.Sampled() != c.sampled {
			t.Errorf("%+v makes %v of flags %d", c.sampler, r.Trace.Sampled(), c.flags)
		}
	}
}

// What a lower ratio keeps, a higher one keeps as well, and of many traces the
// part that is kept is the ratio.
func TestSamplerLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ratio := rapid.Float64Range(0, 1)
		low, high := ratio.Draw(t, "a"), ratio.Draw(t, "b")
		if low > high {
			low, high = high, low
		}
		kept := 0
		for range 1000 {
			var r proxy.Trace
			r.Join(func([16]byte) bool { return true })
			if (Sampler{Ratio: low}).Keeps(r.ID) {
				kept++
				if !(Sampler{Ratio: high}).Keeps(r.ID) {
					t.Fatal("the higher ratio keeps less")
				}
			}
		}
		if part := float64(kept) / 1000; part < low-0.1 || part > low+0.1 {
			t.Fatalf("%g of the traces are kept at %g", part, low)
		}
	})
}

// BenchmarkSpans is what the spans of a request cost the goroutine that makes
// them, without sending them.
func BenchmarkSpans(b *testing.B) {
	t := newTelemetry(b, Config{Tracing: &Tracing{Endpoint: "http://127.0.0.1:1", Sample: all()}})
	defer run(b, t)()
	var requests batch
	r, tracer := record("/app"), t.tracer.Load()
	t.Began(r)
	requests.add(r, []string{"User-Agent"})
	b.ReportAllocs()
	for b.Loop() {
		tracer.spans(&requests, &requests.entries[0])
		tracer.ended.take()
	}
}
