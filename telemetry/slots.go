package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/proxy"
)

// slotMetrics tells of the proxy's part in keeping the limits of replicas over
// all proxies. Nothing is by replica or by proxy.
type slotMetrics struct {
	keeping, askers, missing, links, asked, granted, refused *prometheus.Desc
}

func newSlotMetrics(define func(name, help string, labels ...string) *prometheus.Desc) slotMetrics {
	return slotMetrics{
		keeping: define("gatekeeper_keeping", "1: this proxy hands out the slots of the replicas on its machine; absent: it counts alone."),
		askers:  define("gatekeeper_proxies", "Other proxies that are connected, to ask for those slots."),
		missing: define("gatekeeper_missing_slots", "Slots of proxies that have vanished, which stay taken until their requests have surely ended."),
		links:   define("gatekeeper_links", "Gatekeepers that this proxy asks for slots, by whether they can be reached.", "state"),
		asked:   define("gatekeeper_slots_asked_total", "Slots asked for, by who asks whom.", "side"),
		granted: define("gatekeeper_slots_granted_total", "Slots granted, at once or later to those who wait, by who asked whom.", "side"),
		refused: define("gatekeeper_slots_refused_total", "Slots asked for when none was free, by who asked whom.", "side"),
	}
}

func (m slotMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.keeping, m.askers, m.missing, m.links, m.asked, m.granted, m.refused} {
		ch <- d
	}
}

func (m slotMetrics) collect(s proxy.Status, gauge, counter func(*prometheus.Desc, float64, ...string)) {
	g := s.Gatekeeper
	if g == nil {
		return
	}
	links := map[string]int{"up": 0, "down": 0}
	for _, l := range g.Asks {
		if l.Connected {
			links["up"]++
		} else {
			links["down"]++
		}
	}
	gauge(m.keeping, one(g.Address != ""))
	gauge(m.askers, float64(len(g.Proxies)))
	gauge(m.missing, float64(g.Missing))
	for state, n := range links {
		gauge(m.links, float64(n), state)
	}
	for side, n := range map[string]gatekeeper.Counts{"here": g.Here, "served": g.Served, "away": g.Away} {
		counter(m.asked, float64(n.Asked), side)
		counter(m.granted, float64(n.Granted), side)
		counter(m.refused, float64(n.Refused), side)
	}
}
