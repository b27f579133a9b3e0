package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/serve-nomad/serve-nomad/listeners"
)

// Discovery says when the proxy last heard of its routes and replicas; the zero
// Time: never.
type Discovery interface {
	Answered() time.Time // by Consul, whether or not anything was new
	Changed() time.Time  // what is known
}

// around is the metrics of what the proxy stands on: its ports, and what it hears
// from Consul. They are read when Prometheus asks.
type around struct {
	ports     func() map[string]listeners.Stats // by name; nil: none are told of
	discovery Discovery                         // nil: as ports

	open, accepted, refused, failed, answered, changed *prometheus.Desc
}

func newAround(c Config) *around {
	define := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &around{
		ports: c.Ports, discovery: c.Discovery,
		open:     define("client_connections", "Connections that are open on the port.", "port"),
		accepted: define("client_connections_accepted_total", "Connections accepted in all, with those that were closed at once.", "port"),
		refused:  define("client_connections_refused_total", "Connections closed at once, by the bound that was reached.", "port", "bound"),
		failed:   define("client_connections_failed_total", "Connections that ended before a request could come, by what they failed at.", "port", "at"),
		answered: define("discovery_answered_timestamp_seconds", "When Consul last said what the routes are; absent: never."),
		changed:  define("discovery_changed_timestamp_seconds", "When the routes or the replicas that are known last changed; absent: never."),
	}
}

// Describe implements prometheus.Collector.
func (c *around) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.open, c.accepted, c.refused, c.failed, c.answered, c.changed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *around) Collect(ch chan<- prometheus.Metric) {
	if c.ports != nil {
		for port, s := range c.ports() {
			ch <- prometheus.MustNewConstMetric(c.open, prometheus.GaugeValue, float64(s.Open), port)
			for _, n := range []struct {
				of     *prometheus.Desc
				count  uint64
				labels []string
			}{
				{c.accepted, s.Accepted, []string{port}},
				{c.refused, s.Full, []string{port, "max_connections"}},
				{c.refused, s.ClientFull, []string{port, "max_connections_per_client"}},
				{c.failed, s.BadHeader, []string{port, "proxy_protocol"}},
				{c.failed, s.BadHandshake, []string{port, "tls_handshake"}},
			} {
				ch <- prometheus.MustNewConstMetric(n.of, prometheus.CounterValue, float64(n.count), n.labels...)
			}
		}
	}
	if c.discovery != nil {
		timestamp(ch, c.answered, c.discovery.Answered())
		timestamp(ch, c.changed, c.discovery.Changed())
	}
}

// timestamp tells of a time that there was.
func timestamp(ch chan<- prometheus.Metric, d *prometheus.Desc, at time.Time) {
	if !at.IsZero() {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(at.UnixMilli())/1000)
	}
}
