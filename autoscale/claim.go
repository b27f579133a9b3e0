package autoscale

import (
	"fmt"
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// claim is how many replicas the load asks for, before anything is made of it.
type claim struct {
	known     bool
	why       string  // it is not known, or not all of it
	replicas  float64 // that it asks for
	total     float64 // the requests, or what the metric says
	byMetric  bool    // it is the metric that asks
	raiseOnly bool    // a part of what counts is not known: what is known may add, not take away
}

// staleReadings is how many intervals a metric's reading holds, and
// staleReading how long at least.
const (
	staleReadings = 3
	staleReading  = 10 * time.Second
)

// claim returns what the requests want, or the metric source, or the larger of
// the two, as the block says.
func (d *decider) claim() claim {
	requests := d.requests()
	m := d.policy.block.Metric
	if m == nil {
		return requests
	}
	metric := d.metric(m)
	if m.Combine != appspec.CombineMax {
		return metric
	}
	larger, other := requests, metric
	if !larger.known || (other.known && other.replicas > larger.replicas) {
		larger, other = other, larger
	}
	if !other.known {
		larger.raiseOnly, larger.why = true, other.why
	}
	return larger
}

func (d *decider) requests() claim {
	if d.in.Load == nil {
		return claim{why: "no proxy has said how many requests there are"}
	}
	b := &d.policy.block
	total := d.in.Load.Over(d.in.Now, b.LookBackPeriod.Std(), b.Aggregation)
	return claim{known: true, total: total, replicas: d.snapped(total / b.TargetOngoingRequests)}
}

// text is what a claim is made of, and what it comes to.
func (d *decider) text(c claim) string {
	b := &d.policy.block
	if c.byMetric {
		return fmt.Sprintf("the metric is %s, at %s each wants %s", number(c.total), number(b.Metric.Target), number(c.replicas))
	}
	return fmt.Sprintf("%s at %s each want %s", d.loadText(c.total), number(b.TargetOngoingRequests), number(c.replicas))
}

// loadText is the load that decides, and what it was taken over.
func (d *decider) loadText(total float64) string {
	b := &d.policy.block
	if b.LookBackPeriod == 0 {
		return requestsText(total) + " now"
	}
	return fmt.Sprintf("%s (%s of %s)", requestsText(total), b.Aggregation, b.LookBackPeriod.Std())
}

func (d *decider) metric(m *appspec.Metric) claim {
	r := d.in.Metric
	holds := max(staleReadings*m.Interval.Std(), staleReading)
	switch {
	case r == nil:
		return claim{why: "the metric has not been read yet"}
	case r.Err != "":
		return claim{why: "the metric cannot be read: " + r.Err}
	case d.in.Now.Sub(r.At) > holds:
		return claim{why: "the metric was last read " + d.in.Now.Sub(r.At).Round(time.Second).String() + " ago"}
	case !(r.Value >= 0 && r.Value < mostLoad): // of NaN too; nothing that can be counted comes to so much
		return claim{why: "the metric is " + number(r.Value)}
	}
	return claim{known: true, total: r.Value, replicas: r.Value / m.Target, byMetric: true}
}

// snapped is a number of replicas without the noise of the load: 6 requests that
// are reported as 6.0004 are no reason for one replica more.
func (d *decider) snapped(replicas float64) float64 {
	if whole := math.Round(replicas); whole > 0 && math.Abs(replicas-whole) <= d.in.Noise*replicas {
		return whole
	}
	return replicas
}
