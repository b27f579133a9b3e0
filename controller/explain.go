package controller

import (
	"fmt"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Explain says how a deployment scales, and what would come of it now. It
// changes nothing. The error is ErrNotLeading, ErrWorldUnknown, or a
// raftstate.Refusal of a deployment that is not there or does not scale.
func (c *Controller) Explain(application, deployment string) (autoscale.Explanation, error) {
	s := c.scaler
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil {
		return autoscale.Explanation{}, ErrNotLeading
	}
	s.look()
	key := loads.Key{Application: application, Deployment: deployment}
	m := s.fleet.members[key]
	switch {
	case m == nil:
		return autoscale.Explanation{}, c.notScaling(application, deployment)
	case m.policy == nil:
		return autoscale.Explanation{}, refused(raftstate.CodeConflict, "deployment %q of application %q cannot scale: %s", deployment, application, m.fault)
	case s.fleet.world == nil:
		return autoscale.Explanation{}, ErrWorldUnknown
	}
	return s.explain(m, c.cfg.Now()), nil
}

// explain is for a member that has a policy. The caller holds s.mu.
func (s *scaler) explain(m *member, now time.Time) autoscale.Explanation {
	m.recall()
	in := s.input(m, now, map[time.Duration]string{})
	in.Explain = true
	decision, _ := m.policy.Decide(in, m.state)
	out := autoscale.Explanation{
		Application: m.key.Application, Deployment: m.key.Deployment, At: now.UTC(), Policy: m.block.EffectivePolicy(),
		Target: m.target, Running: m.running, StartTime: in.StartTime, Hold: in.Hold,
		Decision: decision, State: m.state, Proxies: s.proxies(now),
	}
	out.Min, out.Max = m.policy.Bounds(now)
	out.Ongoing, out.Queued = s.ledger.Present(now, m.key)
	if in.Load != nil {
		window := m.policy.HoldWindow()
		out.Load = &autoscale.LoadSummary{
			Window: window, Known: min(window, in.Load.Since(now)), Present: in.Load.Present(),
			Mean: in.Load.Over(now, window, "mean"), Max: in.Load.Over(now, window, "max"), Min: in.Load.Over(now, window, "min"),
		}
	}
	if in.Metric != nil {
		out.Metric = &autoscale.MetricSeen{
			Source: m.block.Metric.Source, At: in.Metric.At.UTC(), Value: in.Metric.Value, Error: in.Metric.Err,
		}
	}
	if last, set := s.fleet.state.Applications[m.key.Application].Scalings[m.key.Deployment]; set {
		out.Last = &autoscale.LastScaling{At: last.At, By: last.By, From: last.From, To: last.To, Reason: last.Reason}
	}
	return out
}

// Proxies says what is known of the proxies' reports, or ErrNotLeading.
func (c *Controller) Proxies() (autoscale.ProxyList, error) {
	s := c.scaler
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil {
		return autoscale.ProxyList{}, ErrNotLeading
	}
	return s.proxies(c.cfg.Now()), nil
}

// proxies needs s.mu.
func (s *scaler) proxies(now time.Time) autoscale.ProxyList {
	list := autoscale.ProxyList{Proxies: s.ledger.Proxies(now)}
	if list.Proxies == nil {
		list.Proxies = []autoscale.ProxyReport{}
	}
	list.Refused, list.LastRefusal = s.ledger.Refused()
	return list
}

// notScaling says why there is nothing to explain.
func (c *Controller) notScaling(application, deployment string) error {
	app := c.cfg.Raft.State().Applications[application]
	switch {
	case app == nil || app.Deleting:
		return refused(raftstate.CodeNotFound, "no application %q", application)
	case app.Deployment(deployment) == nil:
		var names []string
		for _, d := range app.Wanted.Spec.Deployments {
			names = append(names, d.Name)
		}
		return refused(raftstate.CodeNotFound, "application %q has no deployment %q; it has %s", application, deployment, strings.Join(names, ", "))
	default:
		return refused(raftstate.CodeConflict, "deployment %q of application %q does not scale by itself: it has no autoscaling block", deployment, application)
	}
}

func refused(code raftstate.ErrorCode, format string, args ...any) error {
	return &raftstate.Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}
