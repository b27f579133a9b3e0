package telemetry

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/serve-nomad/serve-nomad/proxy"
)

const namespace = "serve_nomad_proxy"

// forgetAfter is how long the series of a version that is gone are still told
// of, so that their last values are read before they end.
const forgetAfter = 5 * time.Minute

// native is the resolution of native histograms: a bucket is at most a tenth
// wider than the one before, and a series has so many of them at most.
const (
	nativeFactor  = 1.1
	nativeBuckets = 160
)

// metrics is what Prometheus reads. Requests are counted as they end; what goes
// on at the moment is read from the source.
type metrics struct {
	registry *prometheus.Registry
	source   Source // nil until watch

	requests, grpc, rejected, aborted, retried, dialled, unmet, received, sent *prometheus.CounterVec
	duration, queued, firstByte                                                *prometheus.HistogramVec

	classes  [1000]uint8 // of a status: its place among the codes
	codes    []string
	unrouted *series // of requests that no deployment was found for

	mu       sync.Mutex
	versions map[version]*series
}

// version names one version of a deployment.
type version struct{ application, deployment, version string }

func (v version) labels() []string { return []string{v.application, v.deployment, v.version} }

// series is what is counted of one version, found once so that a request's end
// looks nothing up by its labels.
type series struct {
	version   version
	goneSince time.Time // zero: it is there; guarded by metrics.mu
	forgotten bool      // guarded by metrics.mu

	codes                                  []atomic.Pointer[prometheus.Counter]
	grpc, rejected, aborted                reasons
	retried, dialled, unmet, sent, arrived prometheus.Counter
	duration, queued, firstByte            prometheus.Observer
}

// reasons is the counters of a few reasons, which grow as reasons come up.
type reasons struct {
	known atomic.Pointer[map[string]prometheus.Counter]
}

func newMetrics(c Config, t *Telemetry) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), versions: map[version]*series{}}
	m.codes, m.classes = statusCodes()
	m.define()
	m.unrouted = m.newSeries(version{})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1; says which build this is.",
		ConstLabels: prometheus.Labels{"version": c.Version, "revision": c.Revision, "goversion": runtime.Version()},
	})
	info.Set(1)
	m.registry.MustRegister(
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.grpc, m.rejected, m.aborted, m.retried, m.dialled, m.unmet, m.received, m.sent,
		m.duration, m.queued, m.firstByte, newMoment(m), newAround(c), newOutputs(t),
	)
	return m
}

// define makes the metrics that requests are counted by.
func (m *metrics) define() {
	labels := []string{"application", "deployment", "version"}
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, slices.Concat(labels, more))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeBuckets,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels)
	}
	// From a cached answer to a long generation.
	seconds := []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}

	m.requests = counter("requests_total", "Requests that have ended, by HTTP status; 499: the client left before it was answered.", "code")
	m.grpc = counter("grpc_requests_total", "Requests of gRPC that were answered, by gRPC's status.", "grpc_status")
	m.rejected = counter("rejected_total", "Requests that the proxy answered itself, by what X-Serve-Error said.", "reason")
	m.aborted = counter("aborted_total", "Requests whose client did not get a whole response, by the reason.", "reason")
	m.retried = counter("retried_total", "Further replicas that requests were given to after the first.")
	m.dialled = counter("replica_connections_opened_total", "Connections made to replicas.")
	m.unmet = counter("replica_connections_failed_total", "Tries at a replica that ended before anything was sent.")
	m.received = counter("received_bytes_total", "Bytes of requests' bodies, and of tunnels from clients.")
	m.sent = counter("sent_bytes_total", "Bytes of responses' bodies, and of tunnels to clients.")
	m.duration = histogram("request_duration_seconds", "From a request's arrival to its end.", seconds)
	m.queued = histogram("queue_wait_seconds", "From a request's arrival until it first got a replica, or gave up.", seconds)
	m.firstByte = histogram("first_byte_seconds", "From a request's arrival to the head of the replica's response.", seconds)
}

// statusCodes returns the values of the label code, and which of them each
// status has. One that HTTP does not know has that of its class, so that a
// replica cannot make series at will.
func statusCodes() (codes []string, of [1000]uint8) {
	codes = []string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}
	for status := range of {
		switch {
		case http.StatusText(status) != "" || status == proxy.StatusClientGone:
			of[status] = uint8(len(codes))
			codes = append(codes, strconv.Itoa(status))
		case status >= 100 && status < 600:
			of[status] = uint8(status / 100)
		}
	}
	return codes, of
}

// grpcStatus is a value of the label grpc_status: one that gRPC knows, as in
// statusCodes.
func grpcStatus(status string) string {
	if n, err := strconv.Atoi(status); err != nil || n < 0 || n > 16 || len(status) > 2 {
		return "other"
	}
	return status
}

func (m *metrics) newSeries(v version) *series {
	labels := v.labels()
	return &series{
		version: v, codes: make([]atomic.Pointer[prometheus.Counter], len(m.codes)),
		retried: m.retried.WithLabelValues(labels...), dialled: m.dialled.WithLabelValues(labels...),
		unmet: m.unmet.WithLabelValues(labels...), sent: m.sent.WithLabelValues(labels...),
		arrived: m.received.WithLabelValues(labels...), duration: m.duration.WithLabelValues(labels...),
		queued: m.queued.WithLabelValues(labels...), firstByte: m.firstByte.WithLabelValues(labels...),
	}
}

// series returns that of a version, which is there now.
func (m *metrics) series(application, deployment, name string) *series {
	v := version{application, deployment, name}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.versions[v]
	if s == nil {
		s = m.newSeries(v)
		m.versions[v] = s
	}
	s.goneSince = time.Time{}
	return s
}

// count counts a request that has ended.
func (m *metrics) count(r *proxy.Record) {
	s, ok := r.Series.(*series)
	if !ok || s == nil {
		s = m.unrouted
	}
	m.inc(s, r.Status)
	s.duration.Observe(r.Duration.Seconds())
	if s != m.unrouted {
		s.queued.Observe(r.Queued.Seconds())
	}
	if r.FirstByte > 0 {
		s.firstByte.Observe(r.FirstByte.Seconds())
	}
	if r.Sent > 0 {
		s.sent.Add(float64(r.Sent))
	}
	if r.Received > 0 {
		s.arrived.Add(float64(r.Received))
	}
	if r.Dialled > 0 {
		s.dialled.Add(float64(r.Dialled))
	}
	if r.Unmet > 0 {
		s.unmet.Add(float64(r.Unmet))
	}
	if r.Tries > 1 {
		s.retried.Add(float64(r.Tries - 1))
	}
	if r.GRPC != "" {
		m.reason(s, &s.grpc, m.grpc, grpcStatus(r.GRPC))
	}
	switch {
	case r.Code == "":
	case r.Aborted():
		m.reason(s, &s.aborted, m.aborted, r.Code)
	default:
		m.reason(s, &s.rejected, m.rejected, r.Code)
	}
}

// inc counts a status.
func (m *metrics) inc(s *series, status int) {
	if status < 0 || status >= len(m.classes) {
		status = 0
	}
	at := m.classes[status]
	if c := s.codes[at].Load(); c != nil {
		(*c).Inc()
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.forgotten {
		return
	}
	c := m.requests.WithLabelValues(append(s.version.labels(), m.codes[at])...)
	c.Inc()
	s.codes[at].Store(&c)
}

// reason counts a reason.
func (m *metrics) reason(s *series, of *reasons, vec *prometheus.CounterVec, reason string) {
	known := of.known.Load()
	if known != nil {
		if c := (*known)[reason]; c != nil {
			c.Inc()
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.forgotten {
		return
	}
	next := map[string]prometheus.Counter{}
	if known = of.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	c := vec.WithLabelValues(append(s.version.labels(), reason)...)
	c.Inc()
	next[reason] = c
	of.known.Store(&next)
}

// prune forgets the series of versions that the proxy has not known for a
// while. One that has a request yet is known.
func (m *metrics) prune(now time.Time) {
	if m.source == nil {
		return
	}
	known := map[version]bool{}
	for _, d := range m.source.Status().Deployments {
		for _, name := range taking(d) {
			known[version{d.Application, d.Deployment, name}] = true
		}
		for _, r := range d.Replicas {
			known[version{d.Application, d.Deployment, r.Version}] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for v, s := range m.versions {
		switch {
		case known[v]:
			s.goneSince = time.Time{}
		case s.goneSince.IsZero():
			s.goneSince = now
		case now.Sub(s.goneSince) >= forgetAfter:
			m.forget(s)
		}
	}
}

func (m *metrics) forget(s *series) {
	delete(m.versions, s.version)
	s.forgotten = true
	labels := prometheus.Labels{"application": s.version.application, "deployment": s.version.deployment, "version": s.version.version}
	for _, vec := range []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{
		m.requests, m.grpc, m.rejected, m.aborted, m.retried, m.dialled, m.unmet, m.received, m.sent,
		m.duration, m.queued, m.firstByte,
	} {
		vec.DeletePartialMatch(labels)
	}
}

func (m *metrics) watch(source Source) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.source = source
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
