package telemetry

import "github.com/prometheus/client_golang/prometheus"

// outputs is the metrics of the access log and of tracing themselves.
type outputs struct {
	telemetry    *Telemetry
	lines, spans *prometheus.Desc
}

func newOutputs(t *Telemetry) *outputs {
	define := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, []string{"outcome"}, nil)
	}
	return &outputs{
		telemetry: t,
		lines:     define("access_log_lines_total", "Lines of the access log: taken; of these, failed to be written; and dropped before."),
		spans:     define("traced_requests_total", "Requests with spans: taken; of these, in spans that failed to be sent; and dropped before."),
	}
}

// Describe implements prometheus.Collector.
func (c *outputs) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.lines
	ch <- c.spans
}

// Collect implements prometheus.Collector.
func (c *outputs) Collect(ch chan<- prometheus.Metric) {
	collect := func(d *prometheus.Desc, t *outcomes) {
		for outcome, n := range map[string]uint64{"taken": t.kept.Load(), "failed": t.failed.Load(), "dropped": t.dropped.Load()} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), outcome)
		}
	}
	collect(c.lines, &c.telemetry.lines)
	collect(c.spans, &c.telemetry.traced)
}
