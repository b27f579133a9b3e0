package raftstate

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// CommandVersion is the version of Command's JSON that this code writes.
const CommandVersion = 1

// Command is one entry of the log. Time and ids come in with it, so that Apply
// gives the same State on every server. Exactly one of the pointers is set.
type Command struct {
	V  int       `json:"v"`
	ID string    `json:"id"` // unique to the request, the same when it is sent again
	At time.Time `json:"at"`
	By string    `json:"by,omitempty"`

	InitCluster *InitCluster `json:"init_cluster,omitempty"`
	Deploy      *Deploy      `json:"deploy,omitempty"`
	Scale       *Scale       `json:"scale,omitempty"`
	Autoscale   *Autoscale   `json:"autoscale,omitempty"`
	Delete      *Delete      `json:"delete,omitempty"`
	EndRollout  *EndRollout  `json:"end_rollout,omitempty"`
	Forget      *Forget      `json:"forget,omitempty"`

	AdvanceRollout *AdvanceRollout `json:"advance_rollout,omitempty"`
	SteerRollout   *SteerRollout   `json:"steer_rollout,omitempty"`
	Rollback       *Rollback       `json:"rollback,omitempty"`
	ForgetVersion  *ForgetVersion  `json:"forget_version,omitempty"`
	RefuseConfig   *RefuseConfig   `json:"refuse_config,omitempty"`

	DeleteWorkerGroup *DeleteWorkerGroup `json:"delete_worker_group,omitempty"`
	ForgetWorkerGroup *ForgetWorkerGroup `json:"forget_worker_group,omitempty"`
	ChangeNodes       *ChangeNodes       `json:"change_nodes,omitempty"`
}

// Versioned returns the applications that the command names to get another
// version.
func (c *Command) Versioned() (applications []string) {
	switch {
	case c.Rollback != nil:
		applications = append(applications, c.Rollback.Application)
	case c.Deploy != nil:
		for _, in := range c.Deploy.Applications {
			applications = append(applications, in.Spec.Name)
		}
	}
	return applications
}

// InitCluster names a new cluster. A second one is refused.
type InitCluster struct {
	ClusterID string `json:"cluster_id"`
}

// Deploy makes these specs the wanted versions of their applications, all or
// none of them.
type Deploy struct {
	Applications []DeployApplication `json:"applications"`
	WorkerGroups []DeployWorkerGroup `json:"worker_groups,omitempty"`
	Message      string              `json:"message,omitempty"`
	// RolloutsOfNodes, or what the command's writer knew less of: 1: rollouts have
	// strategies, and no shape of nodes changes while there are some; 0: a new
	// version takes over all at once.
	Rollouts int `json:"rollouts,omitempty"`
}

// RolloutsOfNodes is Deploy.Rollouts of commands by which another shape of a
// worker group's nodes is rolled out.
const RolloutsOfNodes = 2

// DeployApplication is one application of a Deploy.
type DeployApplication struct {
	Spec       *appspec.Application `json:"spec"`
	Hashes     map[string]string    `json:"hashes"`                // deployment -> appspec.VersionOf, computed by the proposer
	CheckIndex *uint64              `json:"check_index,omitempty"` // refuse unless ModifyIndex is this; 0: must not exist
}

// Scale sets the number of replicas of one deployment.
type Scale struct {
	Application string `json:"application"`
	Deployment  string `json:"deployment"`
	Replicas    int    `json:"replicas"`
	Message     string `json:"message,omitempty"`
}

// Autoscale sets the targets that the autoscaler has decided on. Each change is
// made only if the target and the version still are what it was decided from,
// and within the bounds of the spec as it is by now; the others are left out.
type Autoscale struct {
	Changes []AutoscaleChange `json:"changes"`
}

// AutoscaleChange is one deployment's.
type AutoscaleChange struct {
	Application string `json:"application"`
	Deployment  string `json:"deployment"`
	Version     int    `json:"version,omitempty"` // the newest that the application had; 0: whichever it has
	From        int    `json:"from"`
	To          int    `json:"to"`
	Reason      string `json:"reason"`
}

// Delete begins the end of an application: no more traffic, then no more jobs.
type Delete struct {
	Application string `json:"application"`
	Message     string `json:"message,omitempty"`
}

// EndRollout is the leader's finding on the rollout of one version. It is
// ignored when that rollout is no longer the running one.
type EndRollout struct {
	Application string        `json:"application"`
	Version     int           `json:"version"`
	Status      RolloutStatus `json:"status"` // successful or failed
	Reason      string        `json:"reason"`
}

// AdvanceRollout is the leader's finding that a rollout can go on to its next
// stage. It is ignored when the rollout is another, or elsewhere, by now.
type AdvanceRollout struct {
	Application string `json:"application"`
	Version     int    `json:"version"`
	From        int    `json:"from"` // stage
	To          int    `json:"to"`   // stage
	Reason      string `json:"reason"`
}

// SteerRollout is what a person, or a gate that may not roll back, does to a
// running rollout.
type SteerRollout struct {
	Application string        `json:"application"`
	Version     int           `json:"version,omitempty"` // that rolls out; 0: whichever does
	Action      RolloutAction `json:"action"`
	Message     string        `json:"message,omitempty"`
}

// RolloutAction is what is done to a running rollout.
type RolloutAction string

// The actions.
const (
	ActionPause   RolloutAction = "pause"   // it stays in its stage
	ActionResume  RolloutAction = "resume"  // it goes on
	ActionPromote RolloutAction = "promote" // it goes to the end without waiting for the stages' times, and without its gates
	ActionAbort   RolloutAction = "abort"   // the version before goes on serving
)

// Rollback makes the spec of an earlier version the wanted one again, as a new
// version.
type Rollback struct {
	Application string  `json:"application"`
	Version     int     `json:"version,omitempty"` // 0: the last one that served before the one that does
	Message     string  `json:"message,omitempty"`
	CheckIndex  *uint64 `json:"check_index,omitempty"` // as DeployApplication's
}

// ForgetVersion is the leader's finding that a version which was leaving has
// nothing more to do. It is ignored when the version is not leaving.
type ForgetVersion struct {
	Application string `json:"application"`
	Version     int    `json:"version"`
	Reason      string `json:"reason"`
}

// RefuseConfig is the leader's finding that running replicas did not take
// another user_config: new replicas must. It is ignored when the version is not
// the one that rolls out, or does so in another way.
type RefuseConfig struct {
	Application string            `json:"application"`
	Version     int               `json:"version"`
	Hashes      map[string]string `json:"hashes"` // deployment -> deployment version with the config in it, of those that must be replaced
	Reason      string            `json:"reason"`
}

// Forget ends a deletion: nothing of the application is left in Nomad or
// Consul. It is ignored when the application is not being deleted.
type Forget struct {
	Application string `json:"application"`
}

// Result is what Apply says of one command.
type Result struct {
	Index uint64    `json:"index"`
	Code  ErrorCode `json:"code,omitempty"` // "": applied
	Error string    `json:"error,omitempty"`
}

// Err returns the refusal as an error, or nil.
func (r Result) Err() error {
	if r.Code == "" {
		return nil
	}
	return &Refusal{Code: r.Code, Message: r.Error}
}

// ErrorCode says what kind of refusal a Result is.
type ErrorCode string

// The kinds of refusal.
const (
	CodeInvalid  ErrorCode = "invalid"
	CodeNotFound ErrorCode = "not_found"
	CodeConflict ErrorCode = "conflict"
)

// Refusal is a command that Apply did not accept. State is as it was.
type Refusal struct {
	Code    ErrorCode
	Message string
}

func (e *Refusal) Error() string { return e.Message }

// Encode writes c for the log.
func Encode(c Command) ([]byte, error) {
	c.V = CommandVersion
	return json.Marshal(c)
}

// Decode reads what Encode wrote. An error is a fault of the log entry, not of
// this server: every server finds the same.
func Decode(data []byte) (Command, error) {
	var c Command
	if err := json.Unmarshal(data, &c); err != nil {
		return Command{}, fmt.Errorf("decode command: %w", err)
	}
	if c.V != CommandVersion {
		return Command{}, fmt.Errorf("decode command: version %d is not known here (this server writes %d)", c.V, CommandVersion)
	}
	return c, nil
}
