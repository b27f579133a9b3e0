package telemetry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/proxy"
)

// families parses what Prometheus would.
func families(tb testing.TB, t *Telemetry) map[string]*dto.MetricFamily {
	tb.Helper()
	res := scrape(tb, t, "")
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	f, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// value returns that of the metric with the labels, "a=b" each, or -1.
func value(f map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range f["serve_nomad_proxy_"+name].GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		match := true
		for _, l := range labels {
			match = match && have[l]
		}
		if match {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

func busyStatus() proxy.Status {
	return proxy.Status{
		Ready: true, Discovery: "no answer", Stale: 7, Lingering: 2, Reporting: &proxy.ReportingStatus{Age: 3, Error: "refused"},
		Generations: []proxy.GenerationStatus{
			{Application: "app", Weight: 90, Own: true, Takes: true},
			{Application: "app", Generation: 7, Weight: 10, Copies: &proxy.CopiesStatus{Sent: 11, Dropped: 12}},
		},
		Deployments: []gate.Status{{
			Application: "app", Deployment: "main", Version: "v2", MaxOngoingRequests: 5, MaxQueuedRequests: -1, Ongoing: 4, Queued: 6,
			QueuedBytes: 4096, EjectionIgnored: true, Ejections: 8, ResendsDenied: 9,
			Replicas: []gate.ReplicaStatus{
				{Replica: "a", Version: "v2", Ongoing: 1, Idle: 2, Passing: true},
				{Replica: "b", Version: "v2", Ongoing: 2, Idle: 1, Probed: true},
				{Replica: "c", Version: "v2", Passing: true, Suspect: true},
				{Replica: "d", Version: "v1", Ongoing: 1, Leaving: true},
				{Replica: "e", Version: "v2"},
				{Replica: "f", Version: "v2", Passing: true, EjectedUntil: time.Unix(1, 0)},
			},
		}, {
			Application: "app", Generation: 7, Deployment: "main", Version: "v2-g7", Also: []string{"v3-g7"}, MaxOngoingRequests: 3, Queued: 2,
			Replicas: []gate.ReplicaStatus{{Replica: "g", Version: "v2-g7", Ongoing: 1, Passing: true}, {Replica: "h", Version: "v2", Ongoing: 2, Passing: true}},
		}},
	}
}

func TestMetrics(t *testing.T) {
	tel := newTelemetry(t, Config{Version: "1.2.3"})
	tel.Watch(&source{busyStatus()})
	r := record("/app/x")
	r.Series = tel.Serves("app", "main", "v1")
	r.Tries, r.Unmet = 2, 1
	tel.Ended(r)
	full := record("/app/x")
	full.Series, full.Status, full.Code, full.FirstByte = r.Series, http.StatusServiceUnavailable, "queue-full", 0
	tel.Ended(full)
	left := record("/app/x")
	left.Series, left.Status, left.Code = r.Series, proxy.StatusClientGone, "client-gone"
	tel.Ended(left)
	call := record("/app/x")
	call.Series, call.GRPC = r.Series, "14"
	tel.Ended(call)
	call.GRPC = "four hundred"
	tel.Ended(call)
	call.GRPC, call.Code, call.FirstByte = "8", "queue-full", 0
	tel.Ended(call)
	nowhere := record("/x")
	nowhere.Application, nowhere.Series, nowhere.FirstByte = "", nil, 0
	nowhere.Status, nowhere.Code = http.StatusNotFound, "no-route"
	tel.Ended(nowhere)

	f := families(t, tel)
	of := []string{"application=app", "deployment=main", "version=v1"}
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"requests_total", append(of, "code=200"), 4},
		{"grpc_requests_total", append(of, "grpc_status=14"), 1},
		{"grpc_requests_total", append(of, "grpc_status=8"), 1},
		{"grpc_requests_total", append(of, "grpc_status=other"), 1},
		{"requests_total", append(of, "code=503"), 1},
		{"requests_total", append(of, "code=499"), 1},
		{"requests_total", []string{"application=", "code=404"}, 1},
		{"rejected_total", append(of, "reason=queue-full"), 2},
		{"rejected_total", []string{"application=", "reason=no-route"}, 1},
		{"rejected_total", append(of, "reason=client-gone"), -1},
		{"aborted_total", append(of, "reason=client-gone"), 1},
		{"retried_total", of, 1},
		{"replica_connections_opened_total", of, 6},
		{"replica_connections_failed_total", of, 1},
		{"sent_bytes_total", of, 90},
		{"received_bytes_total", of, 18},
		{"request_duration_seconds", of, 6},
		{"queue_wait_seconds", of, 6},
		{"first_byte_seconds", of, 4},
		{"ready", nil, 1},
		{"draining", nil, 0},
		{"lingering_requests", nil, 2},
		{"discovery_stale_seconds", nil, 7},
		{"load_report_failing", nil, 1},
		{"load_report_age_seconds", nil, 3},
		{"queued_requests", []string{"application=app", "deployment=main", "generation=0"}, 6},
		{"queued_requests", []string{"application=app", "deployment=main", "generation=7"}, 2},
		{"generation_weight", []string{"application=app", "generation=0"}, 90},
		{"generation_weight", []string{"application=app", "generation=7"}, 10},
		{"shadow_copies_total", []string{"application=app", "generation=7", "outcome=sent"}, 11},
		{"shadow_copies_total", []string{"application=app", "generation=7", "outcome=dropped"}, 12},
		{"replicas", []string{"version=v2-g7", "state=serving"}, 1},
		{"replicas", []string{"version=v3-g7", "state=serving"}, 0},
		{"ongoing_requests", of, 1},
		{"ongoing_requests", []string{"version=v2"}, 5}, // of both generations
		{"replica_connections_idle", []string{"version=v2"}, 3},
		{"max_queued_requests", []string{"generation=0"}, -1},
		{"replicas", []string{"version=v2", "state=serving"}, 3},
		{"replicas", []string{"version=v2", "state=suspect"}, 1},
		{"replicas", []string{"version=v2", "state=starting"}, 1},
		{"replicas", []string{"version=v2", "state=leaving"}, 0},
		{"replicas", []string{"version=v1", "state=leaving"}, 1},
		{"replicas", []string{"version=v2", "state=ejected"}, 1},
		{"queued_bytes", []string{"generation=0"}, 4096},
		{"ejected_total", []string{"generation=0"}, 8},
		{"ejection_ignored", []string{"generation=0"}, 1},
		{"resends_denied_total", []string{"generation=0"}, 9},
		{"build_info", []string{"version=1.2.3"}, 1},
	} {
		if got := value(f, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if f["go_goroutines"] == nil || f["process_open_fds"] == nil {
		t.Error("the runtime's own metrics are missing")
	}
}

func TestMetricsKeepPrometheusConventions(t *testing.T) {
	res := scrape(t, everything(t), "")
	defer res.Body.Close()
	problems, err := promlint.New(res.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestNativeHistograms(t *testing.T) {
	tel := newTelemetry(t, Config{})
	r := record("/app")
	r.Series = tel.Serves("app", "main", "v1")
	tel.Ended(r)
	res := scrape(t, tel, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	defer res.Body.Close()
	dec := expfmt.NewDecoder(bufio.NewReader(res.Body), expfmt.ResponseFormat(res.Header))
	found := false
	for {
		var f dto.MetricFamily
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.GetName() == "serve_nomad_proxy_request_duration_seconds" {
			for _, m := range f.GetMetric() {
				found = found || len(m.GetHistogram().GetPositiveSpan()) > 0 && len(m.GetHistogram().GetBucket()) > 0
			}
		}
	}
	if !found {
		t.Error("the histogram has no native buckets beside its classic ones")
	}
}

func TestSeriesOfAVersionThatIsGoneEnd(t *testing.T) {
	tel := newTelemetry(t, Config{})
	src := &source{busyStatus()}
	tel.Watch(src)
	old, next := tel.Serves("app", "main", "v1"), tel.Serves("app", "main", "v2")
	ended := func(s proxy.Series) {
		r := record("/app")
		r.Series = s
		tel.Ended(r)
	}
	ended(old)
	ended(next)
	count := func() float64 { return value(families(t, tel), "requests_total", "version=v1") }
	now := time.Now()
	prune := func(after time.Duration) { now = now.Add(after); tel.metrics.prune(now) }

	prune(time.Hour)
	prune(time.Hour)
	if count() != 1 {
		t.Error("the series of a version that has a replica which leaves has ended")
	}
	src.status.Deployments[0].Replicas = src.status.Deployments[0].Replicas[:3]
	prune(0)
	prune(forgetAfter - time.Second)
	if count() != 1 {
		t.Error("the series ended before its last values could be read")
	}
	tel.Serves("app", "main", "v1") // it is rolled back to, for a moment
	prune(time.Second)
	prune(forgetAfter - time.Second)
	if count() != 1 {
		t.Error("the series of a version that came back has ended")
	}
	prune(time.Second)
	if count() != -1 {
		t.Error("the series of a version that is gone has not ended")
	}
	ended(old) // a straggler brings nothing back
	r := record("/app")
	r.Series, r.Status, r.Code = old, 418, "queue-full"
	tel.Ended(r)
	if count() != -1 {
		t.Error("a request of a version that is gone has made its series anew")
	}
	if value(families(t, tel), "requests_total", "version=v2") != 1 {
		t.Error("the other version's series has ended as well")
	}
}

func TestAReplicaCannotMakeSeriesAtWill(t *testing.T) {
	tel := newTelemetry(t, Config{})
	s := tel.Serves("app", "main", "v1")
	for status := range 2000 {
		r := record("/app")
		r.Series, r.Status = s, status-500
		tel.Ended(r)
	}
	f := families(t, tel)
	if n := len(f["serve_nomad_proxy_requests_total"].GetMetric()); n > 75 {
		t.Errorf("there are %d series", n)
	}
	if got := value(f, "requests_total", "code=2xx"); got < 80 {
		t.Errorf("of statuses that HTTP does not know %v are counted as 2xx", got)
	}
}

func TestCountingAndForgettingAtOnce(t *testing.T) {
	tel := newTelemetry(t, Config{})
	tel.Watch(&source{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 200 {
				r := record("/app")
				r.Series = tel.Serves("app", "main", fmt.Sprint("v", n%7))
				r.Status, r.Code = 200+100*(n%4), []string{"", "queue-full", "timeout"}[n%3]
				tel.Ended(r)
				if i == 0 {
					tel.metrics.prune(time.Now().Add(time.Duration(n) * forgetAfter))
					families(t, tel)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkEnded is what telemetry costs a request, on its own goroutine.
func BenchmarkEnded(b *testing.B) {
	percent := 0.01
	stuck := &AccessLog{Writer: io.Discard, Format: JSON, Sample: 1, Headers: []string{"User-Agent"}}
	for _, c := range []struct {
		name string
		Config
	}{
		{"metrics", Config{}},
		{"metrics and a log line each", Config{AccessLog: stuck}},
		{"metrics, a log line each and spans of one percent", Config{AccessLog: stuck, Tracing: &Tracing{Endpoint: "http://127.0.0.1:1", Sample: &percent}}},
		{"metrics and a log line for one of a hundred", Config{AccessLog: &AccessLog{Writer: io.Discard, Format: JSON, Sample: 0.01}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := newTelemetry(b, c.Config)
			defer run(b, t)()
			series := t.Serves("app", "main", "v1")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := record("/app/" + strings.Repeat("x", 30))
				r.Series = series
				for pb.Next() {
					r.Trace = proxy.Trace{}
					t.Began(r)
					t.Ended(r)
				}
			})
		})
	}
}
