package raftstate

import (
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// WorkerGroup is what has been decided of one worker group.
type WorkerGroup struct {
	Name        string               `json:"name"`
	Spec        *appspec.WorkerGroup `json:"spec"`
	By          string               `json:"by,omitempty"`
	Message     string               `json:"message,omitempty"`
	At          time.Time            `json:"at"`
	Deleting    bool                 `json:"deleting,omitempty"` // its nodes go, then it is forgotten
	CreateIndex uint64               `json:"create_index"`
	ModifyIndex uint64               `json:"modify_index"` // of the last change that people made

	// Nodes have the shape that the group had when they were ordered. Shapes are
	// numbered from 0; a spec without nodes changes, and its shape keeps its number.
	Shape     int     `json:"shape,omitempty"`      // of nodes that are ordered now
	LastShape int     `json:"last_shape,omitempty"` // the largest number so far
	Former    []Shape `json:"former,omitempty"`     // earlier shapes, the one that was left last at the end

	Failures Failures `json:"failures,omitzero"` // a change of the spec forgets them: it may be what mends them
	Usage    Usage    `json:"usage,omitzero"`
}

// Failures is the launches of a group that failed in a row. A node that joins
// ends the row.
type Failures struct {
	Count  int       `json:"count"` // tries, however many nodes each was of
	LastAt time.Time `json:"last_at"`
	Reason string    `json:"reason,omitempty"`
}

// Usage is what a group has used since it was made, for the report of costs.
// Nodes that are there still are not in Seconds: their own JoinedAt says it.
type Usage struct {
	Launched int     `json:"launched"`         // nodes ordered
	Failed   int     `json:"failed"`           // of these, those whose launch failed: they never joined
	Removed  int     `json:"removed"`          // of these, those that joined and are gone
	Seconds  float64 `json:"seconds"`          // that nodes which are gone were ordered for, launch to end
	Starts   []int   `json:"starts,omitempty"` // milliseconds from order to ready, of the last few, oldest first
}

// Node is one node that the node autoscaler has ordered: the intent to have it,
// or to be rid of it. Whether it is there is for Nomad to say.
type Node struct {
	ID       string         `json:"id"` // "<group>-<8 hex digits>"; the target makes the machine under it, once
	Group    string         `json:"group"`
	Shape    int            `json:"shape,omitempty"` // number of the group's shape when it was ordered
	Phase    NodePhase      `json:"phase"`
	Reason   string         `json:"reason"` // why it is in this phase
	At       time.Time      `json:"at"`     // when it was ordered
	PhaseAt  time.Time      `json:"phase_at"`
	JoinedAt time.Time      `json:"joined_at,omitzero"` // when it was first ready in Nomad
	NomadID  string         `json:"nomad_id,omitempty"` // of the Nomad node that it became
	Instance string         `json:"instance,omitempty"` // the target's own name for it, where that is another
	Surge    map[string]int `json:"surge,omitempty"`    // while it drains: job id -> replicas that run beside its own until they have moved
}

// NodePhase is where a node is in its life.
type NodePhase string

// The phases of a node. It goes from one to the next, from draining and retiring
// also back by way of returning, and from any of them to terminating. After
// terminating there is no Node.
const (
	NodeLaunching   NodePhase = "launching"   // the target is to make it, and it is to join Nomad
	NodeReady       NodePhase = "ready"       // it joined
	NodeRetiring    NodePhase = "retiring"    // its group has another shape now: closed to new replicas, its own go on until others have taken over
	NodeDraining    NodePhase = "draining"    // closed to new replicas; replacements start, then its own finish
	NodeReturning   NodePhase = "returning"   // it is needed after all: to be opened again
	NodeTerminating NodePhase = "terminating" // the target is to remove it, and Nomad to forget it
)

// DeployWorkerGroup is one worker group of a Deploy.
type DeployWorkerGroup struct {
	Spec       *appspec.WorkerGroup `json:"spec"`
	CheckIndex *uint64              `json:"check_index,omitempty"` // refuse unless ModifyIndex is this; 0: must not exist
}

// DeleteWorkerGroup begins the end of a group. It is refused while a deployment
// names the group.
type DeleteWorkerGroup struct {
	WorkerGroup string `json:"worker_group"`
	Message     string `json:"message,omitempty"`
}

// ForgetWorkerGroup ends a deletion: the group has no Node left. It is ignored
// when the group is not being deleted.
type ForgetWorkerGroup struct {
	WorkerGroup string `json:"worker_group"`
}

// ChangeNodes moves nodes from phase to phase, as the node autoscaler has
// decided. Each change is made only if the node still is in the phase that it
// was decided from, one retires only if it is of an earlier shape, and a launch
// is only within max_nodes of the spec as it is by now, the largest that a
// schedule may set: so many nodes of its present shape; the others are left out.
// It is never refused and has no receipt.
type ChangeNodes struct {
	Changes []NodeChange `json:"changes"`
}

// NodeChange is one node's.
type NodeChange struct {
	ID       string         `json:"id"`
	Group    string         `json:"group"`
	From     NodePhase      `json:"from,omitempty"` // "": there is no such node yet
	To       NodePhase      `json:"to,omitempty"`   // "": it is gone
	Reason   string         `json:"reason"`
	NomadID  string         `json:"nomad_id,omitempty"` // with ready
	Instance string         `json:"instance,omitempty"` // "": as it was
	Surge    map[string]int `json:"surge,omitempty"`    // with draining
	Failed   bool           `json:"failed,omitempty"`   // with terminating, of a node that never joined: counts as a failure of the group
}

// SurgeOf is how many replicas of a job run beside its target because nodes
// that have replicas of it are draining. A job whose target is 0 has none all
// the same.
func (s *State) SurgeOf(jobID string) int { return SurgeOf(s.Nodes, jobID) }

// SurgeOf is State.SurgeOf of these nodes.
func SurgeOf(nodes map[string]*Node, jobID string) int {
	n := 0
	for _, node := range nodes {
		if node.Phase == NodeDraining {
			n += node.Surge[jobID]
		}
	}
	return n
}
