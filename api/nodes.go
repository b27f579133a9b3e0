package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Nodes says what the node autoscaler has decided last, and why.
type Nodes interface {
	// Report returns ErrNoLeader when this server does not decide of nodes, and
	// ErrUnavailable when nothing has been decided yet.
	Report() (nodescale.Report, error)
}

// WorkerGroupStatus is one worker group: what was asked for, what was decided,
// and what the node autoscaler says of it.
type WorkerGroupStatus struct {
	Name        string               `json:"name"`
	Spec        *appspec.WorkerGroup `json:"spec"`
	By          string               `json:"by,omitempty"`
	Message     string               `json:"message,omitempty"`
	DeployedAt  time.Time            `json:"deployed_at"`
	Deleting    bool                 `json:"deleting,omitempty"`
	ModifyIndex uint64               `json:"modify_index"`

	Phases      map[raftstate.NodePhase]int `json:"nodes_by_phase"` // of the nodes that it has ordered
	Failures    raftstate.Failures          `json:"failures,omitzero"`
	Usage       raftstate.Usage             `json:"usage,omitzero"`
	Report      *nodescale.GroupReport      `json:"report,omitempty"`       // absent: not known, for the reason in ReportError
	ReportError string                      `json:"report_error,omitempty"` // why there is no Report
}

// WorkerGroupDetail is the answer of GET /v1/worker-groups/{group}.
type WorkerGroupDetail struct {
	WorkerGroupStatus
	Hold    string                    `json:"hold,omitempty"` // why nothing is taken away anywhere
	Nodes   []nodescale.NodeReport    `json:"nodes"`
	Pending []nodescale.PendingReport `json:"pending"` // replicas without a place, of which it has something to say
	Events  []raftstate.Event         `json:"events"`  // oldest first
}

// NodeList is the answer of GET /v1/nodes.
type NodeList struct {
	At    time.Time              `json:"at"`             // when it was decided
	Hold  string                 `json:"hold,omitempty"` // why nothing is taken away
	Nodes []nodescale.NodeReport `json:"nodes"`
}

// NodeDetail is the answer of GET /v1/nodes/{node}.
type NodeDetail struct {
	nodescale.NodeReport
	At     time.Time         `json:"at"`
	Hold   string            `json:"hold,omitempty"`
	Record *raftstate.Node   `json:"record,omitempty"` // what was decided of it; absent: nobody ordered it
	Events []raftstate.Event `json:"events"`           // oldest first
}

// PendingList is the answer of GET /v1/pending.
type PendingList struct {
	At      time.Time                 `json:"at"`
	Pending []nodescale.PendingReport `json:"pending"`
}

// report returns what the node autoscaler says. Its error is fit for an answer.
func (s *Server) report(state *raftstate.State) (nodescale.Report, error) {
	if s.cfg.Nodes == nil {
		return nodescale.Report{}, fail(CodeUnavailable, "this server decides nothing of nodes: nodes { enabled = false } in its configuration")
	}
	report, err := s.cfg.Nodes.Report()
	switch {
	case err == nil:
		return report, nil
	case errors.Is(err, ErrUnavailable) && len(state.WorkerGroups) == 0 && len(state.Nodes) == 0:
		return nodescale.Report{At: s.cfg.Now().UTC()}, nil // there is nothing to decide
	default:
		return nodescale.Report{}, err
	}
}

// pending is the replicas that have no place, by job id; nil when that is not
// known.
func (s *Server) pending(state *raftstate.State) map[string]nodescale.PendingReport {
	report, err := s.report(state)
	if err != nil {
		return nil
	}
	byJob := map[string]nodescale.PendingReport{}
	for _, p := range report.Pending {
		byJob[p.Job] = p
	}
	return byJob
}

// tellPending lets the node autoscaler say why replicas have no place: it knows
// what is done about it, where Nomad only knows of the nodes that there are. Its
// report may be older than what Nomad has placed since.
func tellPending(s *reconcile.ApplicationStatus, pending map[string]nodescale.PendingReport) {
	for i := range s.Deployments {
		d := &s.Deployments[i]
		p, waits := pending[d.JobID]
		if !waits || p.Reason == "" || d.Unplaced == 0 || d.Healthy >= d.Target || d.Status == reconcile.Unknown || d.Status == reconcile.Deleting {
			continue
		}
		if d.Grows && p.Coming+p.Placeable >= p.Count && (d.Status == reconcile.Degraded || d.Status == reconcile.Unhealthy) {
			d.Status = reconcile.Scaling
		}
		ofIt := s.Reason == d.Name+": "+d.Reason
		d.Reason = p.Reason
		switch {
		case ofIt && (s.Status == reconcile.Degraded || s.Status == reconcile.Unhealthy):
			s.Status, s.Reason = reconcile.Worst(s.Deployments)
		case ofIt:
			s.Reason = d.Name + ": " + d.Reason
		}
	}
}

// listWorkerGroups is GET /v1/worker-groups.
func listWorkerGroups(c *call) error {
	return c.watch(func(v *View) (any, error) {
		report, err := c.server.report(v.State)
		list := []WorkerGroupStatus{}
		for _, name := range slices.Sorted(maps.Keys(v.State.WorkerGroups)) {
			list = append(list, groupStatus(v.State, v.State.WorkerGroups[name], report, err))
		}
		return list, nil
	})
}

// readWorkerGroup is GET /v1/worker-groups/{group}.
func readWorkerGroup(c *call) error {
	return c.watch(func(v *View) (any, error) {
		name := c.params["group"]
		group := v.State.WorkerGroups[name]
		if group == nil {
			return nil, fail(CodeNotFound, "no worker group %q%s", name, known(slices.Sorted(maps.Keys(v.State.WorkerGroups))))
		}
		report, err := c.server.report(v.State)
		out := WorkerGroupDetail{
			WorkerGroupStatus: groupStatus(v.State, group, report, err), Hold: report.Hold,
			Nodes: []nodescale.NodeReport{}, Pending: []nodescale.PendingReport{}, Events: []raftstate.Event{},
		}
		for _, n := range report.Nodes {
			if n.Group == name {
				out.Nodes = append(out.Nodes, n)
			}
		}
		for _, p := range report.Pending {
			if _, says := p.Groups[name]; says {
				out.Pending = append(out.Pending, p)
			}
		}
		for _, e := range c.events(v.State.Events, v.Seen) {
			if e.WorkerGroup == name {
				out.Events = append(out.Events, e)
			}
		}
		return out, nil
	})
}

func groupStatus(state *raftstate.State, group *raftstate.WorkerGroup, report nodescale.Report, unknown error) WorkerGroupStatus {
	s := WorkerGroupStatus{
		Name: group.Name, Spec: group.Spec, By: group.By, Message: group.Message, DeployedAt: group.At,
		Deleting: group.Deleting, ModifyIndex: group.ModifyIndex,
		Phases: map[raftstate.NodePhase]int{}, Failures: group.Failures, Usage: group.Usage,
	}
	for _, n := range state.Nodes {
		if n.Group == group.Name {
			s.Phases[n.Phase]++
		}
	}
	for _, g := range report.Groups {
		if g.Name == group.Name {
			s.Report = &g
		}
	}
	switch {
	case s.Report != nil:
	case errors.Is(unknown, ErrNoLeader):
		s.ReportError = "this server does not lead and does not know"
	case unknown != nil:
		s.ReportError = unknown.Error()
	default:
		s.ReportError = "the node autoscaler has not looked at it yet"
	}
	return s
}

// known lists names behind "no such thing", a few of them.
func known(names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return ": there are none"
	case len(names) > most:
		return fmt.Sprintf(": there are %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	default:
		return ": there are " + strings.Join(names, ", ")
	}
}

// deleteWorkerGroup is DELETE /v1/worker-groups/{group}.
func deleteWorkerGroup(c *call) error {
	message := c.query.Get("message")
	o := order{c.query.Get("request_id"), c.query.Get("by"), message, []byte(c.query.Encode())}
	result, _, err := c.commit(o, raftstate.Command{
		DeleteWorkerGroup: &raftstate.DeleteWorkerGroup{WorkerGroup: c.params["group"], Message: message},
	})
	if err != nil {
		return err
	}
	return c.answer(WriteResponse{Index: result.Index})
}

// listNodes is GET /v1/nodes.
func listNodes(c *call) error {
	report, err := c.server.report(c.look().State)
	if err != nil {
		return err
	}
	list := NodeList{At: report.At, Hold: report.Hold, Nodes: report.Nodes}
	if list.Nodes == nil {
		list.Nodes = []nodescale.NodeReport{}
	}
	return c.answer(list)
}

// readNode is GET /v1/nodes/{node}.
func readNode(c *call) error {
	view := c.look()
	report, err := c.server.report(view.State)
	if err != nil {
		return err
	}
	node, err := findNode(report.Nodes, c.params["node"])
	if err != nil {
		return err
	}
	detail := NodeDetail{
		NodeReport: node, At: report.At, Hold: report.Hold, Record: view.State.Nodes[node.ID], Events: []raftstate.Event{},
	}
	for _, e := range c.events(view.State.Events, view.Seen) {
		if e.Node != "" && (e.Node == node.ID || e.Node == node.Name || e.Node == node.NomadID) {
			detail.Events = append(detail.Events, e)
		}
	}
	return c.answer(detail)
}

// leastPrefix is how much of an id says which node is meant.
const leastPrefix = 4

// findNode finds a node by one of its ids or its name, or by the beginning of
// an id when only one begins so, as Nomad's own tools do.
func findNode(nodes []nodescale.NodeReport, wanted string) (nodescale.NodeReport, error) {
	var near []nodescale.NodeReport
	var names []string
	for _, n := range nodes {
		if n.ID == wanted || n.NomadID == wanted {
			return n, nil
		}
		begins := len(wanted) >= leastPrefix && (strings.HasPrefix(n.ID, wanted) || strings.HasPrefix(n.NomadID, wanted))
		if n.Name == wanted || begins {
			near, names = append(near, n), append(names, n.ID)
		}
	}
	switch len(near) {
	case 0:
		return nodescale.NodeReport{}, fail(CodeNotFound, "no node %q is known: serve-nomad nodes lists them", wanted)
	case 1:
		return near[0], nil
	default:
		return nodescale.NodeReport{}, fail(CodeInvalid, "%q may be %d nodes: say more of the id%s", wanted, len(near), known(names))
	}
}

// listPending is GET /v1/pending: what the node autoscaler says, and what Nomad
// says of replicas of which the autoscaler says nothing.
func listPending(c *call) error {
	view := c.look()
	if !view.World.NomadKnown {
		return fail(CodeUnavailable, "which replicas have a place is not known: %s", view.World.NomadError)
	}
	list := PendingList{At: c.server.cfg.Now().UTC(), Pending: []nodescale.PendingReport{}}
	report, err := c.server.report(view.State)
	if err == nil {
		list.At, list.Pending = report.At, append(list.Pending, report.Pending...)
	}
	told := c.server.pending(view.State)
	for _, id := range slices.Sorted(maps.Keys(view.World.Jobs)) {
		job := view.World.Jobs[id]
		if _, known := told[id]; known || job.Unplaced == 0 || job.Stopped || job.ClusterID != view.State.ClusterID {
			continue
		}
		list.Pending = append(list.Pending, nodescale.PendingReport{
			Job: id, Application: job.Application, Deployment: job.Deployment, Count: job.Unplaced,
			Reason: "no room: " + cmp.Or(job.Blocked, "Nomad does not say why"),
		})
	}
	return c.answer(list)
}

// WorkerGroups lists the worker groups, by name. The index is for Query.Index.
func (c *Client) WorkerGroups(ctx context.Context, q Query) (list []WorkerGroupStatus, index uint64, err error) {
	index, err = c.blocking(ctx, &list, q, "v1", "worker-groups")
	return list, index, err
}

// WorkerGroup says all that is known of one worker group.
func (c *Client) WorkerGroup(ctx context.Context, name string, q Query) (detail WorkerGroupDetail, index uint64, err error) {
	index, err = c.blocking(ctx, &detail, q, "v1", "worker-groups", name)
	return detail, index, err
}

// DeleteWorkerGroup begins the end of a worker group: its nodes go.
func (c *Client) DeleteWorkerGroup(ctx context.Context, name string, req DeleteRequest) (answer WriteResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	_, err = c.do(ctx, request{
		method: http.MethodDelete, path: []string{"v1", "worker-groups", name}, query: req.values(), write: true,
	}, &answer)
	return answer, err
}

// Nodes lists the nodes that the node autoscaler looks at.
func (c *Client) Nodes(ctx context.Context) (list NodeList, err error) {
	err = c.get(ctx, &list, nil, "v1", "nodes")
	return list, err
}

// Node says all that is known of one node, by one of its ids, the beginning of
// one, or its name.
func (c *Client) Node(ctx context.Context, node string) (detail NodeDetail, err error) {
	err = c.get(ctx, &detail, nil, "v1", "nodes", node)
	return detail, err
}

// Pending lists the replicas that have no place.
func (c *Client) Pending(ctx context.Context) (list PendingList, err error) {
	err = c.get(ctx, &list, nil, "v1", "pending")
	return list, err
}
