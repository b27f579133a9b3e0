package api

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// readMetrics is GET /v1/metrics, for Prometheus. Each server answers for
// itself, and what is of the whole cluster only the leader tells: sums over all
// servers are then right. What is not known is left out, for 0 would be a lie.
func readMetrics(c *call) error {
	if format := c.query.Get("format"); format != "" && format != "prometheus" {
		return fail(CodeInvalid, "format must be prometheus, not %q", format)
	}
	view := c.cluster().View()
	m := &metricSet{families: map[string]*dto.MetricFamily{}}
	leads := c.cluster().IsLeader()
	m.gauge("serve_nomad_build_info", "The release that runs; always 1.", 1, "version", c.server.cfg.Info.Version)
	m.gauge("serve_nomad_leader", "Whether this server leads.", truth(leads))
	m.gauge("serve_nomad_state_index", "Last entry of the log that this server has applied.", float64(view.State.Index))
	if leads {
		c.server.applicationMetrics(m, view)
		c.server.nodeMetrics(m, view.State)
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(m.families)) {
		if _, err := expfmt.MetricFamilyToText(&out, m.families[name]); err != nil {
			return err
		}
	}
	c.w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	_, err := c.w.Write(out.Bytes())
	return err
}

// metricSet is metrics on their way to be written.
type metricSet struct {
	families map[string]*dto.MetricFamily
}

// gauge adds a value that goes up and down, with labels as pairs.
func (m *metricSet) gauge(name, help string, value float64, labels ...string) {
	m.add(name, help, dto.MetricType_GAUGE, &dto.Metric{Gauge: &dto.Gauge{Value: &value}}, labels)
}

// counter adds a value that only goes up.
func (m *metricSet) counter(name, help string, value float64, labels ...string) {
	m.add(name, help, dto.MetricType_COUNTER, &dto.Metric{Counter: &dto.Counter{Value: &value}}, labels)
}

func (m *metricSet) add(name, help string, kind dto.MetricType, metric *dto.Metric, labels []string) {
	family := m.families[name]
	if family == nil {
		family = &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
		m.families[name] = family
	}
	for pair := range slices.Chunk(labels, 2) {
		metric.Label = append(metric.Label, &dto.LabelPair{Name: &pair[0], Value: &pair[1]})
	}
	family.Metric = append(family.Metric, metric)
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// applicationMetrics tells of applications and their replicas.
func (s *Server) applicationMetrics(m *metricSet, view *View) {
	known := view.World != nil && view.World.NomadKnown && view.World.ConsulKnown
	if view.World != nil {
		m.gauge("serve_nomad_nomad_up", "Whether Nomad answers the leader.", truth(view.World.NomadKnown))
		m.gauge("serve_nomad_consul_up", "Whether Consul answers the leader.", truth(view.World.ConsulKnown))
	}
	for _, a := range reconcile.SummariseAll(view.State, view.World, s.cfg.Now(), s.cfg.Settings) {
		m.gauge("serve_nomad_application_version", "The newest version of the application.", float64(a.Version), "application", a.Name)
		m.gauge("serve_nomad_application_serving_version", "The version that takes the traffic.", float64(a.ServingVersion), "application", a.Name)
		m.gauge("serve_nomad_application_status", "1 for the status that the application has.", 1, "application", a.Name, "status", string(a.Status))
		for _, d := range a.Deployments {
			labels := []string{"application", a.Name, "deployment", d.Name, "version", d.Version}
			m.gauge("serve_nomad_deployment_target_replicas", "Replicas that are wanted.", float64(d.Target), labels...)
			if !known {
				continue
			}
			for _, state := range []struct {
				name  string
				count int
			}{{"healthy", d.Healthy}, {"starting", d.Starting}, {"unplaced", d.Unplaced}, {"failed", d.Failed}} {
				m.gauge("serve_nomad_deployment_replicas", "Replicas that there are, by state.", float64(state.count),
					append(slices.Clone(labels), "state", state.name)...)
			}
		}
	}
}

// phases are those of a node, in order.
func phases() []raftstate.NodePhase {
	return []raftstate.NodePhase{
		raftstate.NodeLaunching, raftstate.NodeReady, raftstate.NodeRetiring, raftstate.NodeDraining, raftstate.NodeReturning, raftstate.NodeTerminating,
	}
}

// nodeMetrics tells of worker groups, and of replicas without a place.
func (s *Server) nodeMetrics(m *metricSet, state *raftstate.State) {
	report, unknown := s.report(state)
	for _, name := range slices.Sorted(maps.Keys(state.WorkerGroups)) {
		g := groupStatus(state, state.WorkerGroups[name], report, unknown)
		for _, phase := range phases() {
			m.gauge("serve_nomad_worker_group_nodes", "Nodes that the group has ordered, by phase.", float64(g.Phases[phase]),
				"worker_group", name, "phase", string(phase))
		}
		m.counter("serve_nomad_worker_group_launches_total", "Nodes that were ordered.", float64(g.Usage.Launched), "worker_group", name)
		m.counter("serve_nomad_worker_group_launch_failures_total", "Of these, those that never joined.", float64(g.Usage.Failed), "worker_group", name)
		m.counter("serve_nomad_worker_group_removals_total", "Of these, those that joined and are gone.", float64(g.Usage.Removed), "worker_group", name)
		if g.Report != nil {
			groupMetrics(m, name, g.Report)
		}
	}
	m.gauge("serve_nomad_node_autoscaler_up", "Whether the node autoscaler has decided since this server leads.", truth(unknown == nil))
	if unknown != nil {
		return
	}
	m.gauge("serve_nomad_node_autoscaler_hold", "Whether no node is taken away anywhere, because something is not known.", truth(report.Hold != ""))
	m.gauge("serve_nomad_node_autoscaler_decided_seconds", "When it decided last, in seconds since 1970.", float64(report.At.UnixMilli())/1000)
	for _, p := range report.Pending {
		for _, state := range []struct {
			name  string
			count int
		}{
			{"never", p.Never},
			{"coming", p.Coming},
			{"placeable", p.Placeable},
			{"waiting", max(0, p.Count-p.Never-p.Coming-p.Placeable)},
		} {
			m.gauge("serve_nomad_pending_replicas", "Replicas without a place: no group can hold them, a node for them is on its way, they fit on one that is there, or none of these.",
				float64(state.count), "application", p.Application, "deployment", p.Deployment, "job", cmp.Or(p.Job, p.Deployment), "state", state.name)
		}
	}
}

func groupMetrics(m *metricSet, name string, g *nodescale.GroupReport) {
	label := []string{"worker_group", name}
	m.gauge("serve_nomad_worker_group_min_nodes", "Least nodes by now, schedules among it.", float64(g.MinNodes), label...)
	m.gauge("serve_nomad_worker_group_max_nodes", "Most nodes by now, schedules among it.", float64(g.MaxNodes), label...)
	m.gauge("serve_nomad_worker_group_wanted_nodes", "Nodes that it would have, by demand and bounds.", float64(g.Wants), label...)
	m.gauge("serve_nomad_worker_group_foreign_nodes", "Nodes of its pool that it has not ordered.", float64(g.ByHand), label...)
	m.gauge("serve_nomad_worker_group_idle_ratio", "Of its nodes, the share without a replica.", g.Cost.IdleShare, label...)
	m.counter("serve_nomad_worker_group_node_seconds_total", "Time for which it has had nodes, of all of them together.", g.Cost.NodeHours*3600, label...)
	if g.StartTime > 0 {
		m.gauge("serve_nomad_worker_group_start_seconds", "From the order of a node until it is ready, typically.", g.StartTime, label...)
	}
	if g.Price > 0 {
		m.gauge("serve_nomad_worker_group_cost_per_hour", "What its nodes cost now, in the currency of its price.", g.Cost.PerHour, label...)
		m.counter("serve_nomad_worker_group_cost_total", "What its nodes have cost, in the currency of its price.", g.Cost.Total, label...)
	}
}
