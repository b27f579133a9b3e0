// Package reconcile decides what to do next: Diff compares what the cluster
// has decided (State) with what is there (World) and gives the Plan that
// brings them together, each step with its reason. Summarise says the same
// comparison to people. Nothing here has an effect or reads a clock.
package reconcile

import (
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// World is what was last seen in Nomad and Consul. A side that did not answer
// is unknown, not empty: Diff takes nothing away on the strength of it.
type World struct {
	NomadKnown  bool
	ConsulKnown bool
	NomadError  string // why Nomad is not known
	ConsulError string // why Consul is not known

	// Since when both have been known to whoever looks, without a break; zero:
	// that is not told. What could not be seen, or not be done, has no delay.
	Since time.Time

	Jobs       map[string]Job // by job id; every job that serve-nomad made, of this cluster or another
	Replicas   []Replica      // of the jobs in Jobs
	CoreMHz    map[string]int // node pool -> MHz of one core on its nodes
	NodesKnown bool           // Nodes and Pools have been looked at: they are only when there are worker groups
	Nodes      []*placement.Node
	Pools      map[string]bool // node pools that there are
	Endpoints  []routes.Endpoint
	Routes     routes.Table      // as written in Consul KV
	RouteIndex map[string]uint64 // application -> ModifyIndex of its KV entry, for check-and-set
	Configs    Configs           // looked at only when some deployment has a reconfigure block

	// How versions serve, by job id, of applications whose route is watched; nil:
	// that is not known.
	Served map[string]analysis.Standing

	// What the queries of gates said last, by application, in the order of its
	// spec: of rollouts whose new version takes requests.
	Queries map[string][]QueryResult
}

// Observation is one whole look at Nomad.
type Observation struct {
	Jobs     map[string]Job // by job id
	Replicas []Replica
	CoreMHz  map[string]int // by node pool

	NodesKnown bool // the rest was asked for
	Nodes      []*placement.Node
	Pools      map[string]bool
}

// Job is a Nomad job that serve-nomad made.
type Job struct {
	ID          string
	ClusterID   string // of the serve-nomad cluster that made it
	Application string // "": it is of a worker group's prefetch block
	Deployment  string // "": it is of a prefetch block, or a gate's check
	Check       string // the name of a gate's check; "": it is none
	Version     string // deployment version, or of the application that is checked
	LiveHash    string // of what may change without a new version, see jobspec
	CoreMHz     int    // MHz per core that it was rendered with
	Count       int
	Stopped     bool // asked to stop; its replicas may still be draining
	ModifyIndex uint64
	Edited      bool           // its replicas run as something else than it was made with: somebody edited it in Nomad
	Unplaced    int            // replicas that Nomad has no room for
	Blocked     string         // why, in words: "2 of 3 nodes: out of memory"; "" when all are placed
	Ask         *placement.Ask // what one replica asks for, as the job has it; Count is not set
}

// Replica is a Nomad allocation of one of our jobs.
type Replica struct {
	ID        string // allocation id
	JobID     string
	Node      string // node name
	Status    ReplicaStatus
	Restarts  int    // of its task, on this allocation
	Reason    string // what Nomad last said about it: "Exit Code: 1", "Failed to pull image"
	CreatedAt time.Time

	// By the clock of its node, when its task last started, and when it was last
	// signalled because a file of it had been rendered again; zero: it was not.
	StartedAt   time.Time
	SignalledAt time.Time
}

// QueryResult is what a gate's query said last.
type QueryResult struct {
	Name   string
	Known  bool      // Value was read, and not too long ago
	Value  float64   // as it was read last
	At     time.Time // when that was; zero: never in this rollout
	Error  string    // why it could not be read the last time; "": it could, or was not tried yet
	Reason string    // why the gate fails: Value is out of bounds; "": it does not
}

// Waits says why a rollout must not go on, though the gate does not fail; "": it
// may.
func (q QueryResult) Waits() string {
	switch {
	case q.Known:
		return ""
	case q.Error == "":
		return "query " + q.Name + " has not been read yet"
	default:
		return "query " + q.Name + " cannot be read: " + q.Error
	}
}

// ReplicaStatus is where a replica is in its life, as Nomad sees it.
type ReplicaStatus string

// The states of a replica.
const (
	ReplicaPending  ReplicaStatus = "pending"  // placed; its task has not started
	ReplicaRunning  ReplicaStatus = "running"  // its task runs; whether it serves is Consul's to say
	ReplicaStopping ReplicaStatus = "stopping" // asked to stop; finishing what it began
	ReplicaFailed   ReplicaStatus = "failed"   // ended by itself
	ReplicaLost     ReplicaStatus = "lost"     // its node is gone
	ReplicaStopped  ReplicaStatus = "stopped"  // ended because it was asked to
)

// sight is a World with its replicas and endpoints sorted by job, so that a
// pass over many jobs reads each once.
type sight struct {
	*World
	replicas  map[string][]Replica                  // by job id
	endpoints map[string]map[string]routes.Endpoint // by job id, by replica
	holders   map[string][]routes.Route             // by route prefix
	surges    map[string]surge                      // by job id, of the State that it is seen for
}

func see(state *raftstate.State, w *World) sight {
	s := sight{World: w, surges: surges(state, w), replicas: map[string][]Replica{}, endpoints: map[string]map[string]routes.Endpoint{}, holders: map[string][]routes.Route{}}
	for _, r := range w.Routes {
		s.holders[r.RoutePrefix] = append(s.holders[r.RoutePrefix], r)
	}
	for _, r := range w.Replicas {
		s.replicas[r.JobID] = append(s.replicas[r.JobID], r)
	}
	for _, e := range w.Endpoints {
		id := jobspec.JobID(e.Application, e.Deployment, e.Version)
		if s.endpoints[id] == nil {
			s.endpoints[id] = map[string]routes.Endpoint{}
		}
		s.endpoints[id][e.Replica] = e
	}
	return s
}

// holder returns the route of another cluster's application that has prefix. A
// second one with the same prefix would be ignored by every reader.
func (w sight) holder(clusterID, application, prefix string) (routes.Route, bool) {
	for _, r := range w.holders[prefix] {
		if r.ClusterID != clusterID && r.Application != application {
			return r, true
		}
	}
	return routes.Route{}, false
}
