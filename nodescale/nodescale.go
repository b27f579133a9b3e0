// Package nodescale is the node autoscaler's mind: from the worker groups, the
// nodes that there are, those that were ordered and the replicas that have no
// place, it decides which nodes to order, which to drain and remove, and says
// of every node and every waiting replica why. It has no effect and reads no
// clock; what is remembered from one decision to the next is a value.
package nodescale

import (
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Input is all that a decision is made from.
type Input struct {
	Now    time.Time
	Seen   time.Time // when the look at Nomad began that Nodes and Jobs are of
	Hold   string    // why nothing may be taken away on it, "Consul is not known: ..."; "": it may
	DryRun bool      // decide and tell, but order and remove nothing
	Blind  string    // why nothing may be ordered on it either, "Nomad is not known: ..."; "": it may

	Groups  map[string]*raftstate.WorkerGroup
	Records map[string]*raftstate.Node
	CoreMHz map[string]int    // worker group -> what a core of its nodes counts for, until one is there
	Nodes   []*placement.Node // all of Nomad's
	Asks    []placement.Ask   // replicas without a place, by job
	Jobs    map[string]Job    // every job that may have replicas on the nodes, by id
	Ahead   []placement.Ask   // replicas that will soon be asked for, by schedules and forecasts
	Lists   map[string]Listed // worker group -> what its target last said there is
	Calls   map[string]Call   // record id -> the last call of the target for it
}

// Job is one of our Nomad jobs.
type Job struct {
	Application string
	Deployment  string
	Target      int    // replicas that are intended, without those that run beside them while a node drains
	Passing     int    // replicas that serve
	Group       string // worker group that the deployment names; "": none
	Shape       int    // of the group's nodes that its version is to run on
	Blocked     string // why Nomad places no more of it, in its words
	Ask         placement.Ask
}

// Call is what came of the last call of a target for a record.
type Call struct {
	What     string // launch | remove
	Running  bool
	Waits    bool      // while it runs: for its turn, and the target was not called yet
	At       time.Time // when it began
	Error    string    // "": it went well, if it is not running
	NoEffect bool      // it failed, and certainly did nothing
	Instance string
}

// Decision is what is to be recorded and done.
type Decision struct {
	Changes []raftstate.NodeChange // to be proposed; what they lead to comes with the next decision
	Acts    []Act                  // to be done now, each idempotent
	Forget  []string               // worker groups that are deleted and have no node left
	Report  Report
	Again   time.Time // when something is due even if nothing changes; zero: nothing
}

// Act is one call of Nomad or of a target. Exactly one field but Reason is set.
type Act struct {
	Reason   string
	Launch   string        // record id
	Wanted   int           // with Launch and Remove: machines of the group that there are to be by then
	Remove   string        // record id
	Cordon   string        // Nomad node id: no new allocations
	Uncordon string        // Nomad node id
	Drain    string        // Nomad node id
	Deadline time.Duration // with Drain
	Purge    string        // Nomad node id
}

// Report says why, for people. It is never decided from.
type Report struct {
	At      time.Time       `json:"at"`
	Hold    string          `json:"hold,omitempty"`
	Groups  []GroupReport   `json:"worker_groups"`
	Nodes   []NodeReport    `json:"nodes"`
	Pending []PendingReport `json:"pending"`
}

// GroupReport is one worker group's.
type GroupReport struct {
	Name      string    `json:"name"`
	NodePool  string    `json:"node_pool"`
	Target    string    `json:"target"`
	DryRun    bool      `json:"dry_run,omitempty"`
	Deleting  bool      `json:"deleting,omitempty"`
	Ready     int       `json:"ready"`
	Launching int       `json:"launching"`
	Draining  int       `json:"draining"`           // and terminating
	Outdated  int       `json:"outdated,omitempty"` // nodes of an earlier shape, which go: in none of the other numbers
	ByHand    int       `json:"by_hand"`            // nodes of its pool that it has not ordered: used, never removed
	MinNodes  int       `json:"min_nodes"`
	MaxNodes  int       `json:"max_nodes"`
	Wants     int       `json:"wants"` // nodes that it would have, by demand and bounds
	Reason    string    `json:"reason"`
	Backoff   time.Time `json:"backoff_until,omitzero"` // no launch before
	Failure   string    `json:"failure,omitempty"`      // of the last launch
	Price     float64   `json:"price,omitempty"`
	Cost      Cost      `json:"cost"`
	StartTime float64   `json:"start_time_s,omitempty"` // seconds that its nodes take from order to ready, typically
	Notes     []string  `json:"notes,omitempty"`        // contradictions and doubts, each a sentence
}

// Cost is what a group costs, in the currency of its price; zero where there is
// none.
type Cost struct {
	NodeHours float64 `json:"node_hours"`         // since the group was made
	PerHour   float64 `json:"per_hour,omitempty"` // now
	Total     float64 `json:"total,omitempty"`    // since the group was made
	IdleShare float64 `json:"idle_share"`         // of the nodes there now: those without a replica
}

// NodeReport is one node's: what is to become of it, and why.
type NodeReport struct {
	ID       string              `json:"id"` // record id, or Nomad's where nobody ordered it
	Name     string              `json:"name,omitempty"`
	NomadID  string              `json:"nomad_id,omitempty"`
	Group    string              `json:"worker_group,omitempty"`
	Pool     string              `json:"node_pool,omitempty"`
	Phase    raftstate.NodePhase `json:"phase"`            // "" of a node that nobody ordered
	Status   string              `json:"status,omitempty"` // of Nomad
	Replicas int                 `json:"replicas"`
	Others   int                 `json:"others"` // allocations that are not ours and no system job's
	CPU      Share               `json:"cpu_mhz"`
	MemoryMB Share               `json:"memory_mb"`
	GPU      Share               `json:"gpu"`
	Since    time.Time           `json:"since,omitzero"`
	Verdict  string              `json:"verdict"` // keep | remove | wait
	Reason   string              `json:"reason"`
	Due      time.Time           `json:"due,omitzero"` // when it goes if nothing changes
}

// Share is how much of something is in use.
type Share struct {
	Used  int `json:"used"`
	Total int `json:"total"`
}

// PendingReport is the replicas of one deployment version that have no place.
type PendingReport struct {
	Job         string            `json:"job"`
	Application string            `json:"application"`
	Deployment  string            `json:"deployment"`
	Count       int               `json:"count"`
	Since       time.Time         `json:"since"`
	Never       int               `json:"never"`     // of these, those that no worker group can hold
	Coming      int               `json:"coming"`    // those with a place on a node that is on its way
	Placeable   int               `json:"placeable"` // those that fit on a node which is there: Nomad is about to place them
	Reason      string            `json:"reason"`
	Groups      map[string]string `json:"worker_groups,omitempty"` // why each takes none, or what it does
}

// Memory is what one decision leaves for the next. It is the leader's own: a
// new leader begins with none, and then takes nothing away for as long as it
// has not itself seen it to be unneeded.
type Memory struct {
	Known     time.Time                  // since when Nomad has been known without a break
	Empty     map[string]time.Time       // record id -> since when nothing runs on it or is to
	Fits      map[string]time.Time       // record id -> since when all that is on it would fit elsewhere
	Missing   map[string]time.Time       // record id -> since when its Nomad node is gone or down
	Kept      map[string]time.Time       // record id -> when a removal was given up: not again for a while
	Pending   map[string]time.Time       // ask key -> since when it has no place
	Placeable map[string]time.Time       // ask key -> since when there is room that Nomad does not use
	Patterns  map[string]*placement.Node // worker group -> its newest node, as a pattern
	Demand    string                     // what there was to launch for
	DemandAt  time.Time                  // since when it is that
	WantAt    time.Time                  // since when there is something to launch at all
}

// Listed is a Listing, or why there is none.
type Listed struct {
	At      time.Time // when it was asked for
	Error   string    // "": it is known
	Never   bool      // with Error: the target cannot say it at all
	Listing Listing
}
