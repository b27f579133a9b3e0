package telemetry

import (
	"strconv"

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
	weight, copies                                            *prometheus.Desc
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
	// A generation has a queue of its own; and beside its number there is at most
	// one more during a rollout, so that series end as those of versions do.
	deployment := []string{"application", "deployment", "generation"}
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
		weight:      define("generation_weight", "Percent of the application's requests that the generation takes; only of applications that have several.", "application", "generation"),
		copies:      define("shadow_copies_total", "Copies of requests for the generation, by whether they were sent to it.", "application", "generation", "outcome"),
		slots:       newSlotMetrics(define),
	}
}

// Describe implements prometheus.Collector.
func (c *moment) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.ready, c.draining, c.lingering, c.stale, c.reportAge, c.reportFails,
		c.ongoing, c.queued, c.limit, c.queueLimit, c.replicas, c.idle,
		c.queuedBytes, c.ejected, c.panicking, c.denied, c.weight, c.copies,
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
	for _, g := range s.Generations {
		labels := []string{g.Application, strconv.Itoa(g.Generation)}
		gauge(c.weight, float64(g.Weight), labels...)
		if g.Copies != nil {
			counter(c.copies, float64(g.Copies.Sent), append(labels, "sent")...)
			counter(c.copies, float64(g.Copies.Dropped), append(labels, "dropped")...)
		}
	}
	for _, d := range s.Deployments {
		labels := []string{d.Application, d.Deployment, strconv.Itoa(d.Generation)}
		gauge(c.queued, float64(d.Queued), labels...)
		gauge(c.limit, float64(d.MaxOngoingRequests), labels...)
		gauge(c.queueLimit, float64(d.MaxQueuedRequests), labels...)
		gauge(c.queuedBytes, float64(d.QueuedBytes), labels...)
		gauge(c.panicking, one(d.EjectionIgnored), labels...)
		counter(c.ejected, float64(d.Ejections), labels...)
		counter(c.denied, float64(d.ResendsDenied), labels...)
	}
	c.collectVersions(s.Deployments, gauge)
}

// tally is what the replicas of one version have together.
type tally struct {
	ongoing, idle int
	states        map[string]int
}

// collectVersions adds up over the generations: one that has the same version as
// another must not bring the same series twice, which Prometheus would refuse.
func (c *moment) collectVersions(deployments []gate.Status, gauge func(*prometheus.Desc, float64, ...string)) {
	versions := map[version]*tally{}
	of := func(d gate.Status, name string) *tally {
		v := version{d.Application, d.Deployment, name}
		if versions[v] == nil {
			versions[v] = &tally{states: map[string]int{stateServing: 0, stateSuspect: 0, stateEjected: 0, stateStarting: 0, stateLeaving: 0}}
		}
		return versions[v]
	}
	for _, d := range deployments {
		for _, name := range taking(d) {
			of(d, name) // with no replica at all it is told of as well
		}
		for _, r := range d.Replicas {
			t := of(d, r.Version)
			t.ongoing += r.Ongoing
			t.idle += r.Idle
			t.states[state(r)]++
		}
	}
	for v, t := range versions {
		gauge(c.ongoing, float64(t.ongoing), v.labels()...)
		gauge(c.idle, float64(t.idle), v.labels()...)
		for state, n := range t.states {
			gauge(c.replicas, float64(n), append(v.labels(), state)...)
		}
	}
}

// taking is the versions of a deployment that take requests.
func taking(d gate.Status) []string {
	if d.Version == "" {
		return d.Also
	}
	return append([]string{d.Version}, d.Also...)
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
