// Package api is the control API: HTTP and JSON under /v1, for the CLI, the
// dashboard and people's own tools. Server answers it from a View and passes
// writes on to the leader; Client speaks it.
package api

import (
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// IndexHeader carries the index of the View that an answer was made from. A
// client that sends it back as ?index= gets the next answer when something
// has changed, or after ?wait= at the latest. An index may go back when the
// leader changes: a client then starts again from 0.
const IndexHeader = "X-Serve-Nomad-Index"

// View is one look at the cluster, as one server sees it. It is never changed
// once it is published.
type View struct {
	Index uint64 // grows with each change of State or World
	State *raftstate.State
	World *reconcile.World  // nil: not known here, because this server does not lead
	Seen  []raftstate.Event // what the leader observed of late, oldest first; not in the log
}

// DeployRequest is the body of PUT /v1/applications.
type DeployRequest struct {
	RequestID       string                 `json:"request_id,omitempty"` // sent again after a lost answer, it is applied once
	Applications    []*appspec.Application `json:"applications,omitempty"`
	WorkerGroups    []*appspec.WorkerGroup `json:"worker_groups,omitempty"`
	CheckIndex      map[string]uint64      `json:"check_index,omitempty"`       // application -> modify_index that it must have; 0: must not exist
	GroupCheckIndex map[string]uint64      `json:"group_check_index,omitempty"` // the same of worker groups
	Message         string                 `json:"message,omitempty"`
	By              string                 `json:"by,omitempty"`
}

// DeployResponse answers a DeployRequest that was accepted.
type DeployResponse struct {
	Index        uint64          `json:"index"`
	Applications []Deployed      `json:"applications"` // also those that move with a worker group
	WorkerGroups []DeployedGroup `json:"worker_groups"`
}

// DeployedGroup is one worker group of a DeployResponse.
type DeployedGroup struct {
	Name        string `json:"name"`
	ModifyIndex uint64 `json:"modify_index"`
	Changed     bool   `json:"changed"` // false: the spec was there already
}

// Deployed is one application of a DeployResponse.
type Deployed struct {
	Name        string `json:"name"`
	Version     int    `json:"version"`
	ModifyIndex uint64 `json:"modify_index"`
	Changed     bool   `json:"changed"` // false: the spec was there already
}

// ScaleRequest is the body of POST /v1/applications/{app}/deployments/{deployment}/scale.
// A deployment with an autoscaling block takes it if the block's policy is
// external, within the block's bounds, and keeps the count at the next deploy.
type ScaleRequest struct {
	RequestID string `json:"request_id,omitempty"`
	Replicas  int    `json:"replicas"`
	Message   string `json:"message,omitempty"`
	By        string `json:"by,omitempty"`
}

// WriteResponse answers any other write.
type WriteResponse struct {
	Index uint64 `json:"index"`
}

// PlanRequest is the body of POST /v1/plan.
type PlanRequest struct {
	Applications []*appspec.Application `json:"applications,omitempty"`
	WorkerGroups []*appspec.WorkerGroup `json:"worker_groups,omitempty"`
	Rollback     *PlanRollback          `json:"rollback,omitempty"` // instead of a deploy
}

// PlanRollback is a rollback that is planned.
type PlanRollback struct {
	Application string `json:"application"`
	Version     int    `json:"version,omitempty"` // 0: as RollbackRequest's
}

// PlanResponse says what deploying would do.
type PlanResponse struct {
	Index        uint64            `json:"index"`
	Applications []ApplicationPlan `json:"applications"`
	WorkerGroups []GroupPlan       `json:"worker_groups"`
	Room         *RoomPlan         `json:"room,omitempty"`     // nil: there is nothing to place, or it cannot be told, which Warnings say
	Warnings     []string          `json:"warnings,omitempty"` // for example: Nomad has no room for all of it now
}

// RoomPlan says whether all replicas find a place, when there are the most of
// them and in the end.
type RoomPlan struct {
	Fits    bool                     `json:"fits"`    // now, or once the worker groups have made the nodes that they may make
	Nodes   []nodescale.GroupOutlook `json:"nodes"`   // worker groups that would get more nodes
	Missing []nodescale.ShortOutlook `json:"missing"` // replicas without a place
}

// Never says whether some of the replicas could not run on any node that there
// is, nor on any that a worker group makes, were all of them empty.
func (p *RoomPlan) Never() bool {
	return p != nil && slices.ContainsFunc(p.Missing, func(s nodescale.ShortOutlook) bool { return s.Never })
}

// GroupPlan is the plan for one worker group. Where it has nodes, new ones take
// their place after a change with EffectNodes.
type GroupPlan struct {
	Name       string           `json:"name"`
	Action     string           `json:"action"`      // create | update | none
	CheckIndex uint64           `json:"check_index"` // for DeployRequest.GroupCheckIndex
	Changes    []appspec.Change `json:"changes"`
	Steps      []string         `json:"steps"`
	Outdated   int              `json:"outdated,omitempty"` // nodes of other shapes that it would have: they go once nothing is left on them
	Note       string           `json:"note,omitempty"`     // what is special about it; "": nothing
}

// ApplicationPlan is the plan for one application.
type ApplicationPlan struct {
	Name       string           `json:"name"`
	Moved      bool             `json:"moved,omitempty"`   // it is not among those to deploy, and moves with its worker group
	Action     string           `json:"action"`            // create | update | none
	CheckIndex uint64           `json:"check_index"`       // for DeployRequest.CheckIndex
	Against    int              `json:"against,omitempty"` // the version that Changes are from: the newest, or what serves when that failed; 0: there is none
	Changes    []appspec.Change `json:"changes"`
	Steps      []string         `json:"steps"` // that the controller would take if all went well, each with its reason

	Version    int                  `json:"version"`                   // that the deploy would make; of none: that there is
	Serving    int                  `json:"serving_version,omitempty"` // that it takes over from; 0: there is none
	Strategy   appspec.Strategy     `json:"strategy,omitempty"`        // "": there is nothing to take over from
	Why        string               `json:"why,omitempty"`             // it is that strategy
	Stages     []StagePlan          `json:"stages"`
	Jobs       []reconcile.JobCount `json:"jobs"`        // whose replicas start, stop or change in number
	UserConfig []string             `json:"user_config"` // deployments whose running replicas take another one
}

// StagePlan is one stage of a rollout.
type StagePlan struct {
	Name   string           `json:"name"`
	Weight int              `json:"weight,omitempty"` // percent of the requests that the new version takes; 0: see Name
	Shadow int              `json:"shadow,omitempty"` // percent of the requests of which the new version gets copies
	Lasts  appspec.Duration `json:"lasts,omitempty"`  // at least
}

// ServerInfo is the answer of GET /v1/agent/self.
type ServerInfo struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	Leader    bool      `json:"leader"`
	ClusterID string    `json:"cluster_id"`
	Nomad     string    `json:"nomad"`           // address
	Consul    string    `json:"consul"`          // address
	Proxy     string    `json:"proxy,omitempty"` // where people reach the proxies, as a base URL; "": not configured
	StartedAt time.Time `json:"started_at"`
}

// Peer is one server of GET /v1/status/peers.
type Peer struct {
	ID      string `json:"id"`
	Address string `json:"address"` // of its Raft port
	Leader  bool   `json:"leader"`
	Voter   bool   `json:"voter"`
}

// AgentHealth is the answer of GET /v1/agent/health: this server is alive.
type AgentHealth struct {
	OK        bool `json:"ok"`
	HasLeader bool `json:"has_leader"` // false: reads only, and only with ?stale
}

// VersionInfo is one version of an application, for
// GET /v1/applications/{app}/history.
type VersionInfo struct {
	Version  int               `json:"version"`
	Serving  bool              `json:"serving"` // takes traffic
	Wanted   bool              `json:"wanted"`  // is the newest
	Rollout  raftstate.Rollout `json:"rollout"`
	By       string            `json:"by,omitempty"`
	Message  string            `json:"message,omitempty"`
	At       time.Time         `json:"at"`
	Replicas map[string]int    `json:"replicas"` // deployment -> target count
	Hashes   map[string]string `json:"hashes"`   // deployment -> deployment version

	Generation int                    `json:"generation,omitempty"`
	Leaving    raftstate.LeavingCause `json:"leaving,omitempty"` // why it is on its way out; "": it is not, or is gone
}

// RollbackRequest is the body of POST /v1/applications/{app}/rollback.
type RollbackRequest struct {
	RequestID  string  `json:"request_id,omitempty"`
	Version    int     `json:"version,omitempty"`     // whose spec is to be the wanted one again; 0: the last one that served before the one that does
	CheckIndex *uint64 `json:"check_index,omitempty"` // modify_index that the application must have
	Message    string  `json:"message,omitempty"`
	By         string  `json:"by,omitempty"`
}

// RollbackResponse answers a RollbackRequest that was accepted. Version is the
// new one.
type RollbackResponse struct {
	Index uint64 `json:"index"`
	Deployed
}

// SteerRequest is the body of POST /v1/applications/{app}/rollout/{action}. The
// actions are those of raftstate.
type SteerRequest struct {
	RequestID string `json:"request_id,omitempty"`
	Version   int    `json:"version,omitempty"` // that must be the one which rolls out; 0: any
	Message   string `json:"message,omitempty"`
	By        string `json:"by,omitempty"`
}

// SteerResponse answers a SteerRequest that was accepted.
type SteerResponse struct {
	Index   uint64            `json:"index"`
	Version int               `json:"version"` // that rolls out
	Rollout raftstate.Rollout `json:"rollout"` // as it is after it
}

// EventBatch is one line of GET /v1/event/stream. An empty object is a
// heartbeat.
type EventBatch struct {
	Index  uint64            `json:"index,omitempty"` // sent back as ?index=, the stream goes on behind this line
	Events []raftstate.Event `json:"events,omitempty"`
}

// ErrorResponse is the body of every answer of 400 and above.
type ErrorResponse struct {
	Error     string          `json:"error"`
	Code      Code            `json:"code"`
	Faults    []appspec.Fault `json:"faults,omitempty"`
	RequestID string          `json:"request_id,omitempty"` // of a write whose outcome is not known: send it again with this one
}
