package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/serve-nomad/serve-nomad/gate"
)

// moment is the metrics of what goes on at the moment Prometheus asks: they are
// read from the proxy's Status then, and cost nothing in between.
type moment struct {
	metrics *metrics

	ready, draining, lingering, stale, reportAge, reportFails *prometheus.Desc
	ongoing, queued, limit, queueLimit, replicas, idle        *prometheus.Desc
	queuedBytes, ejected, panicking, denied                   *prometheus.Desc
	slots                                                     slotMetrics
}

// Of a replica: what keeps it from being sent requests, or that nothing does.
const (
	stateServing  = "serving"
	stateSuspect  = "suspect"
	stateEjected  = "ejected"
	stateStarting = "starting"
	stateLeaving  = "leaving"
)

func newMoment(m *metrics) *moment {
	define := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	deployment := []string{"application", "deployment"}
	version := []string{"application", "deployment", "version"}
	return &moment{
		metrics:     m,
		ready:       define("ready", "1: the proxy takes requests; 0: it drains, or has not seen the routing table yet."),
		draining:    define("draining", "1: the proxy drains."),
		lingering:   define("lingering_requests", "Tunnels, and requests whose client left before the replica finished."),
		stale:       define("discovery_stale_seconds", "For how long Consul has not answered, so that the routing table may be old; 0: it answers."),
		reportAge:   define("load_report_age_seconds", "Since the last report of the load that reached the leader, or since the start; absent: none is made."),
		reportFails: define("load_report_failing", "1: the last report of the load did not reach the leader."),
		ongoing:     define("ongoing_requests", "Requests that replicas work on.", version...),
		queued:      define("queued_requests", "Requests that wait for a replica.", deployment...),
		queuedBytes: define("queued_bytes", "About what the requests hold that wait for a replica.", deployment...),
		ejected:     define("ejected_total", "Times that a replica was left alone because it served badly.", deployment...),
		panicking:   define("ejection_ignored", "1: so many replicas are ejected that these are used as well.", deployment...),
		denied:      define("resends_denied_total", "Requests that were not sent again because too many were.", deployment...),
		limit:       define("max_ongoing_requests", "Of the deployment, for each replica.", deployment...),
		queueLimit:  define("max_queued_requests", "Of the deployment; -1: no limit.", deployment...),
		replicas:    define("replicas", "Replicas, by whether they are sent requests.", "application", "deployment", "version", "state"),
		idle:        define("replica_connections_idle", "Connections to replicas that are kept for the next request.", version...),
		slots:       newSlotMetrics(define),
	}
}

// Describe implements prometheus.Collector.
func (c *moment) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.ready, c.draining, c.lingering, c.stale, c.reportAge, c.reportFails,
		c.ongoing, c.queued, c.limit, c.queueLimit, c.replicas, c.idle,
		c.queuedBytes, c.ejected, c.panicking, c.denied,
	} {
		ch <- d
	}
	c.slots.describe(ch)
}

// Collect implements prometheus.Collector.
func (c *moment) Collect(ch chan<- prometheus.Metric) {
	c.metrics.mu.Lock()
	source := c.metrics.source
	c.metrics.mu.Unlock()
	if source == nil {
		return
	}
	s := source.Status()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	gauge(c.ready, one(s.Ready))
	gauge(c.draining, one(s.Draining))
	gauge(c.lingering, float64(s.Lingering))
	gauge(c.stale, s.Stale)
	if r := s.Reporting; r != nil {
		gauge(c.reportFails, one(r.Error != ""))
		gauge(c.reportAge, r.Age)
	}
	c.slots.collect(s, gauge, counter)
	for _, d := range s.Deployments {
		gauge(c.queued, float64(d.Queued), d.Application, d.Deployment)
		gauge(c.limit, float64(d.MaxOngoingRequests), d.Application, d.Deployment)
		gauge(c.queueLimit, float64(d.MaxQueuedRequests), d.Application, d.Deployment)
		gauge(c.queuedBytes, float64(d.QueuedBytes), d.Application, d.Deployment)
		gauge(c.panicking, one(d.EjectionIgnored), d.Application, d.Deployment)
		counter(c.ejected, float64(d.Ejections), d.Application, d.Deployment)
		counter(c.denied, float64(d.ResendsDenied), d.Application, d.Deployment)
		c.collectVersions(d, gauge)
	}
}

// tally is what the replicas of one version have together.
type tally struct {
	ongoing, idle int
	states        map[string]int
}

func (c *moment) collectVersions(d gate.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	versions := map[string]*tally{}
	of := func(version string) *tally {
		if versions[version] == nil {
			versions[version] = &tally{states: map[string]int{stateServing: 0, stateSuspect: 0, stateEjected: 0, stateStarting: 0, stateLeaving: 0}}
		}
		return versions[version]
	}
	if d.Version != "" {
		of(d.Version) // with no replica at all it is told of as well
	}
	for _, r := range d.Replicas {
		t := of(r.Version)
		t.ongoing += r.Ongoing
		t.idle += r.Idle
		t.states[state(r)]++
	}
	for version, t := range versions {
		gauge(c.ongoing, float64(t.ongoing), d.Application, d.Deployment, version)
		gauge(c.idle, float64(t.idle), d.Application, d.Deployment, version)
		for state, n := range t.states {
			gauge(c.replicas, float64(n), d.Application, d.Deployment, version, state)
		}
	}
}

func state(r gate.ReplicaStatus) string {
	switch {
	case r.Leaving:
		return stateLeaving
	case r.Suspect:
		return stateSuspect
	case !r.EjectedUntil.IsZero():
		return stateEjected
	case r.Passing || r.Probed:
		return stateServing
	}
	return stateStarting
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
