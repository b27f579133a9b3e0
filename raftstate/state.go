// Package raftstate is what the cluster has decided: the State that every
// server holds, the Commands that change it, and Apply, which is the only way
// from one State to the next. It holds intent alone (specs, targets, who, why,
// when), never loads or health.
package raftstate

import (
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// State is everything that the cluster has decided. A State is never changed
// once it is published: Apply copies what it touches.
type State struct {
	Index        uint64                  `json:"index"`                // of the last command applied
	ClusterID    string                  `json:"cluster_id,omitempty"` // made by the first leader; marks the Nomad jobs that are ours
	Applications map[string]*Application `json:"applications,omitempty"`
	WorkerGroups map[string]*WorkerGroup `json:"worker_groups,omitempty"`
	Nodes        map[string]*Node        `json:"nodes,omitempty"`  // by id: those that the node autoscaler has ordered and not yet got rid of
	Events       []Event                 `json:"events,omitempty"` // oldest first, at most maxEvents
	Recent       []Receipt               `json:"recent,omitempty"` // oldest first, at most maxReceipts
}

// Application is what has been decided of one application.
//
// Serving takes the traffic and Wanted is the newest deployed version. They
// are the same version when nothing is rolling out and from the start on a
// first deploy, where requests wait in the proxies' queues for the first
// replica. Otherwise Serving stays until every deployment of Wanted is
// healthy, and for good when the rollout fails.
type Application struct {
	Name        string    `json:"name"`
	Serving     *Version  `json:"serving"` // never nil
	Wanted      *Version  `json:"wanted"`  // never nil
	Rollout     Rollout   `json:"rollout"`
	Deleting    bool      `json:"deleting,omitempty"`
	History     []History `json:"history,omitempty"` // oldest first, at most maxHistory, without Wanted
	CreateIndex uint64    `json:"create_index"`
	ModifyIndex uint64    `json:"modify_index"` // of the last change that a deploy could undo unawares: not the autoscaler's

	// Versions that are neither Serving nor Wanted and may still have replicas,
	// oldest first, at most maxLeaving.
	Leaving []Leaving `json:"leaving,omitempty"`

	// Why each deployment's target is what it is, where somebody or the
	// autoscaler has set it and no deploy has set it since.
	Scalings map[string]Scaling `json:"scalings,omitempty"`
}

// Scaling is the last change of a deployment's target.
type Scaling struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"` // ByAutoscaler, or whoever scaled it; at most maxScalingBy bytes
	From   int       `json:"from"`
	To     int       `json:"to"`
	Reason string    `json:"reason,omitempty"` // at most maxScalingReason bytes
}

// RollingOut says whether a version is on its way to take over from Serving.
func (a *Application) RollingOut() bool {
	return a.Rollout.Status == RolloutRunning && a.Wanted.Number != a.Serving.Number
}

// Version is one deployed version of an application.
type Version struct {
	Number   int                  `json:"number"` // 1, 2, 3 ... within the application
	Spec     *appspec.Application `json:"spec"`
	Hashes   map[string]string    `json:"hashes"`   // deployment -> deployment version, see appspec.VersionOf
	Replicas map[string]int       `json:"replicas"` // deployment -> target count
	// Deployment versions instead of those in Hashes: running replicas did not
	// take the user_config, so others have it.
	Replaced map[string]string `json:"replaced,omitempty"`
	// It has not been healthy yet, so there is nothing to go back to.
	Unproven bool `json:"unproven,omitempty"`
	// Versions of one generation share the jobs of deployments that are alike in
	// them, and their replicas call each other. 0: the first one.
	Generation int `json:"generation,omitempty"`
	// Worker group -> number of the shape that its nodes are to have. One that is
	// not there has its first, 0.
	Shapes  map[string]int `json:"shapes,omitempty"`
	By      string         `json:"by,omitempty"`
	Message string         `json:"message,omitempty"`
	At      time.Time      `json:"at"`
}

// DeploymentVersion returns the deployment version that a deployment's replicas
// have in v: what they are made of, and in later generations which one they are
// of, so that no two generations share a replica.
func (v *Version) DeploymentVersion(deployment string) string {
	hash := v.Hashes[deployment]
	if replaced, ok := v.Replaced[deployment]; ok {
		hash = replaced
	}
	if v.Generation == 0 || hash == "" {
		return hash
	}
	return hash + "-g" + strconv.Itoa(v.Generation)
}

// Rollout is the state of the newest version's way to traffic.
type Rollout struct {
	Status    RolloutStatus `json:"status"`
	Reason    string        `json:"reason,omitempty"`
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`

	Strategy appspec.Strategy `json:"strategy,omitempty"` // "": there is nothing to take over from, or the log is from before there was a choice
	Why      string           `json:"why,omitempty"`      // it is that strategy
	Stage    int              `json:"stage,omitempty"`    // see Stages
	StageAt  time.Time        `json:"stage_at,omitzero"`  // when it began, the pauses left out
	Weight   int              `json:"weight,omitempty"`   // percent of the requests that its generation had already, for another version alike; it keeps what nobody else could take
	Promoted bool             `json:"promoted,omitempty"` // it is to go to the end without waiting
	Paused   *Pause           `json:"paused,omitempty"`   // nil: it goes on
}

// Pause is who has stopped a rollout from going on, and why.
type Pause struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// Leaving is a version that is on its way out.
type Leaving struct {
	Version *Version     `json:"version"`
	At      time.Time    `json:"at"`
	Cause   LeavingCause `json:"cause"`
	Weight  int          `json:"weight,omitempty"` // percent of the requests that its generation had until then
}

// LeavingCause is why a version leaves.
type LeavingCause string

// The causes.
const (
	LeavingReplaced   LeavingCause = "replaced"   // it served, and another one does now
	LeavingSuperseded LeavingCause = "superseded" // a newer one was deployed before it served: what it has goes on until that takes over
	LeavingAborted    LeavingCause = "aborted"    // somebody ended its rollout
	LeavingFailed     LeavingCause = "failed"     // it was not good enough, and rolled back
)

// RolloutStatus is where a rollout stands.
type RolloutStatus string

// The states of a rollout.
const (
	RolloutRunning    RolloutStatus = "running"
	RolloutSuccessful RolloutStatus = "successful"
	RolloutFailed     RolloutStatus = "failed"
)

// History is a version that is no longer wanted, and how its rollout ended.
type History struct {
	Version *Version `json:"version"`
	Rollout Rollout  `json:"rollout"`
}

// Event is one decision, for people to read.
type Event struct {
	Index       uint64    `json:"index"`
	At          time.Time `json:"at"`
	By          string    `json:"by,omitempty"`
	Type        string    `json:"type"` // deployed | scaled | autoscaled | deleting | deleted | rollout-advanced | rollout-paused | rollout-resumed | rollout-promoted | rollout-successful | rollout-failed | config-refused | version-gone | group-deployed | group-rolled-back | group-deleting | group-deleted | node-launching | node-ready | node-retiring | node-draining | node-kept | node-terminating | node-gone | launch-failed
	Application string    `json:"application,omitempty"`
	Deployment  string    `json:"deployment,omitempty"`
	WorkerGroup string    `json:"worker_group,omitempty"`
	Node        string    `json:"node,omitempty"` // id of a State.Nodes entry, or a Nomad node's name
	Message     string    `json:"message"`
}

// Receipt remembers the outcome of a command, so that a client that lost the
// answer can send the same command again and have it applied once.
type Receipt struct {
	ID     string `json:"id"`
	Result Result `json:"result"`
}

// Bounds on what a State remembers.
const (
	maxEvents   = 256
	maxReceipts = 512
	maxHistory  = 20
	maxLeaving  = 8
	maxReason   = 1024 // bytes, of what people and the leader say of a rollout

	maxUnasked       = maxEvents / 2 // of the events, those of the autoscalers
	maxScalingBy     = 128           // bytes
	maxScalingReason = 320           // bytes

	maxNodeName   = 256     // bytes, of a node's id, a Nomad node's and a job's
	maxInstance   = 1024    // bytes; some clouds' names are whole paths
	maxNodeReason = 320     // bytes
	maxStarts     = 16      // of Usage.Starts
	maxSurgeJobs  = 4096    // of Node.Surge
	maxSurge      = 100_000 // replicas of one job on one node
)
