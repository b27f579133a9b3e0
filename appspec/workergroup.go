package appspec

import (
	"time"

	"github.com/hashicorp/nomad/api"
)

// WorkerGroup is nodes of one kind that are made and removed by need. They are
// the Nomad clients of one node pool; two groups share a pool only if the class
// of their nodes tells them apart.
type WorkerGroup struct {
	Name          string            `json:"name"`
	NodePool      string            `json:"node_pool"` // default: the group's name; made if there is none
	Node          NodeShape         `json:"node"`
	MinNodes      int               `json:"min_nodes"`
	MaxNodes      int               `json:"max_nodes"`
	IdleTimeout   Duration          `json:"idle_timeout"`       // an empty node goes after it
	Priority      int               `json:"priority,omitempty"` // of groups that fit equally well the highest is taken
	Price         float64           `json:"price,omitempty"`    // of one node for an hour, in any currency; 0: not known
	Spot          bool              `json:"spot,omitempty"`     // its nodes may be taken away at any time
	Labels        map[string]string `json:"labels,omitempty"`   // meta of its nodes, for constraints: ${meta.<name>}
	Env           map[string]string `json:"env,omitempty"`      // environment of its nodes' Nomad agent, which its drivers and tasks inherit
	LaunchTimeout Duration          `json:"launch_timeout"`     // from the call of the target until the node is ready in Nomad
	DrainTimeout  Duration          `json:"drain_timeout"`      // for replacements to find a place, again to start, and again for replicas to finish
	DryRun        bool              `json:"dry_run,omitempty"`  // decide and tell, but make and remove nothing
	Target        NodeTarget        `json:"target"`
	ScaleDown     *ScaleDown        `json:"scale_down,omitempty"` // nil: defaults, see EffectiveScaleDown
	Buffer        *Buffer           `json:"buffer,omitempty"`     // nil: none
	Schedules     []*NodeSchedule   `json:"schedule,omitempty"`
	Prefetch      []*Prefetch       `json:"prefetch,omitempty"`
}

// NodeShape is what one node of a group has before there is one to look at.
// What a node that has joined says of itself counts from then on.
type NodeShape struct {
	CPU         float64           `json:"cpu"`                     // cores
	CoreMHz     int               `json:"core_mhz,omitempty"`      // of one core; 0: as the nodes that there are
	MemoryMB    int               `json:"memory_mb"`               // MiB
	DiskMB      int               `json:"disk_mb,omitempty"`       // MiB for allocations; 0: not looked at
	GPU         int               `json:"gpu,omitempty"`           // whole GPUs
	GPUModel    string            `json:"gpu_model,omitempty"`     // as its device plugin names the device
	GPUMemoryMB int               `json:"gpu_memory_mb,omitempty"` // of one GPU, MiB
	Datacenter  string            `json:"datacenter,omitempty"`    // default: dc1
	Class       string            `json:"class,omitempty"`         // node_class of its Nomad clients
	Drivers     []string          `json:"drivers,omitempty"`       // task drivers; empty: as the nodes that there are, or any
	Attributes  map[string]string `json:"attributes,omitempty"`    // for constraints, without "attr.": "cpu.arch"
}

// NodeTarget says how nodes are made and removed.
type NodeTarget struct {
	Kind    string            `json:"kind"`              // process | plugin | exec | none
	Plugin  string            `json:"plugin,omitempty"`  // of plugin: name of a Nomad Autoscaler target plugin, such as aws-asg
	Command []string          `json:"command,omitempty"` // of exec: program and arguments
	Config  map[string]string `json:"config,omitempty"`  // of plugin: as the plugin's documentation has it; of the others: passed on
}

// The kinds of target.
const (
	TargetProcess = "process" // Nomad clients on the leader's own machine
	TargetPlugin  = "plugin"  // a target plugin of the Nomad Autoscaler
	TargetExec    = "exec"    // a command of the user
	TargetNone    = "none"    // tells what it would do
)

// ScaleDown says when nodes that are not empty go, and how many at once.
type ScaleDown struct {
	Consolidate      bool           `json:"consolidate"`       // move replicas off a node when they fit on others, and remove it
	ConsolidateAfter Duration       `json:"consolidate_after"` // for which they must have fitted
	Budget           string         `json:"budget"`            // nodes of the group that may be going at once: "10%" (at least one) or "2"
	Windows          []*ScaleWindow `json:"window,omitempty"`  // other budgets for a while
}

// ScaleWindow is another budget for a while, again and again. Of several that
// are in force the smallest counts.
type ScaleWindow struct {
	Name     string   `json:"name"`
	Cron     string   `json:"cron"`
	Duration Duration `json:"duration"`
	Timezone string   `json:"timezone"`
	Budget   string   `json:"budget"` // "0": nothing goes
}

// Buffer is room that is kept free, so that new replicas need not wait for a
// node. It is bought and counted like replicas that wait.
type Buffer struct {
	Nodes     int        `json:"nodes,omitempty"`     // empty nodes
	Replicas  int        `json:"replicas,omitempty"`  // room for so many replicas of Resources
	Resources *Resources `json:"resources,omitempty"` // needed with Replicas
}

// NodeSchedule sets other bounds for a while, again and again. Nodes are
// started ahead of it, so that they are there when it begins.
type NodeSchedule struct {
	Name     string   `json:"name"`
	Cron     string   `json:"cron"`
	Duration Duration `json:"duration"`
	Timezone string   `json:"timezone"`
	MinNodes *int     `json:"min_nodes,omitempty"`
	MaxNodes *int     `json:"max_nodes,omitempty"`
}

// Prefetch is a task that runs once on each node of the group when it joins, as
// a Nomad sysbatch job: it pulls an image, or fetches an artifact, before a
// replica needs it.
type Prefetch struct {
	Name      string    `json:"name"`
	Task      *api.Task `json:"task"`
	Resources Resources `json:"resources"`
}

// EffectiveScaleDown returns the block with defaults for what is absent.
func (g *WorkerGroup) EffectiveScaleDown() ScaleDown {
	if g.ScaleDown != nil {
		return *g.ScaleDown
	}
	return DefaultScaleDown()
}

// Reshaped says which fields differ between two specs of one group that only new
// nodes can have, such as node.memory and env: new nodes take the place of those
// that it has.
func (g *WorkerGroup) Reshaped(to *WorkerGroup) []string {
	return g.changed(to, func(path string) bool { return !identifies(path) })
}

// Remade says which fields differ between two specs of one group that tell its
// nodes from others, or who makes and removes them, such as node_pool: they do not
// change while there are nodes.
func (g *WorkerGroup) Remade(to *WorkerGroup) []string { return g.changed(to, identifies) }

// changed lists the paths of changes that only new nodes can have.
func (g *WorkerGroup) changed(to *WorkerGroup, counts func(path string) bool) []string {
	var paths []string
	for _, c := range DiffWorkerGroup(g, to) {
		if c.Effect == EffectNodes && counts(c.Path) {
			paths = append(paths, c.Path)
		}
	}
	return paths
}

// WithShapeOf returns the group with all in which Reshaped finds that another spec
// of it differs as that has it.
func (g *WorkerGroup) WithShapeOf(other *WorkerGroup) *WorkerGroup {
	out := *g
	class := g.Node.Class
	out.Node, out.Labels, out.Env, out.Spot = other.Node, other.Labels, other.Env, other.Spot
	out.Node.Class = class
	return &out
}

// DefaultScaleDown is the scale_down block of a group that has none.
func DefaultScaleDown() ScaleDown {
	return ScaleDown{Consolidate: true, ConsolidateAfter: Duration(5 * time.Minute), Budget: "10%"}
}
