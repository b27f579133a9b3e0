package telemetry

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a writer that a test reads.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// source is a proxy's status that a test sets.
type source struct{ status proxy.Status }

func (s *source) Status() proxy.Status { return s.status }

func newTelemetry(tb testing.TB, c Config) *Telemetry {
	tb.Helper()
	t, err := New(tb.Context(), c, hclog.NewNullLogger())
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// run runs t until stop is called, which waits for its end.
func run(tb testing.TB, t *Telemetry) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.Run(ctx)
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	tb.Cleanup(stop)
	return stop
}

// record is that of an ordinary request.
func record(path string) *proxy.Record {
	req := &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", Host: "example.com", RemoteAddr: "192.0.2.7:4711",
		URL:    &url.URL{Path: path, RawQuery: "token=secret"},
		Header: http.Header{"User-Agent": {"test/1"}, "Authorization": {"Bearer secret"}},
	}
	return &proxy.Record{
		Request: req, ID: "id-1", Application: "app", Deployment: "main", Prefix: "/app", Version: "v1", Replica: "r0", Node: "n1", Address: "10.0.0.9:2000",
		Status: http.StatusOK, Received: 3, Sent: 15, Arrived: time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.UTC),
		Granted: time.Date(2026, 5, 6, 7, 8, 9, 124456789, time.UTC), Queued: time.Millisecond, FirstByte: 20 * time.Millisecond, Duration: 30 * time.Millisecond,
		Tries: 1, Dialled: 1,
	}
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			tb.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

// scrape asks for the metrics as Prometheus does.
func scrape(tb testing.TB, t *Telemetry, accept string) *http.Response {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodGet, "/-/metrics", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	t.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Result()
}
