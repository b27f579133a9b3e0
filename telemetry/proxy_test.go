package telemetry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/routes"
)

// fixed is a routing table that does not change.
type fixed struct{ view routes.View }

func (f fixed) View() routes.View        { return f.view }
func (f fixed) Updates() <-chan struct{} { return nil }

// A request through a real proxy is counted, logged and traced under one trace,
// which is the one that the replica is told of.
func TestARequestThroughAProxy(t *testing.T) {
	var told http.Header
	replica := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = r.Header.Clone()
		_, _ = io.WriteString(w, "hello")
	}))
	defer replica.Close()
	collector, log := newReceiver(t), &output{}
	tel := newTelemetry(t, Config{
		AccessLog: &AccessLog{Writer: log, Format: JSON, Sample: 1},
		Tracing:   &Tracing{Endpoint: collector.URL, Sample: all()},
	})
	p := proxy.New(proxy.Config{
		Observer: tel, Metrics: tel.Handler(),
		Discovery: fixed{viewOf(replica.Listener.Addr().String())},
	}, hclog.NewNullLogger())
	tel.Watch(p)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	stop := run(t, tel)
	front := httptest.NewServer(p.Handler())
	defer front.Close()
	eventually(t, "the proxy knows its routes", func() bool { return p.Status().Ready })

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL+"/app/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	res, err := front.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	count := func() float64 {
		return value(families(t, tel), "requests_total", "application=app", "deployment=main", "version=v1", "code=200")
	}
	eventually(t, "the request is counted", func() bool { return count() == 1 })
	cancel()
	running.Wait()
	stop()

	var line struct {
		TraceID  string `json:"trace_id"`
		Node     string
		BytesIn  int `json:"bytes_in"`
		BytesOut int `json:"bytes_out"`
	}
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	if line.TraceID != "0af7651916cd43dd8448eb211c80319c" || line.Node != "n1" || line.BytesIn != 4 || line.BytesOut != 5 {
		t.Errorf("the line is %s", log)
	}
	client := collector.spans["POST"]
	if want := "00-" + line.TraceID + "-" + hex.EncodeToString(client.GetSpanId()) + "-01"; told.Get("Traceparent") != want {
		t.Errorf("the replica was told %q, want %q", told.Get("Traceparent"), want)
	}
	if server := collector.spans["POST /app"]; hex.EncodeToString(server.GetParentSpanId()) != "b7ad6b7169203331" {
		t.Errorf("the span's parent is %x", server.GetParentSpanId())
	}
}
