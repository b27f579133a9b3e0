// Package placement says where replicas would run: on nodes that are there, on
// those that are on their way, and on imagined ones of each worker group. It
// follows Nomad's own rules of what fits (feasible: node pool, datacenter,
// drivers, constraints, volumes, devices; then room: cpu, memory, disk, ports,
// device instances), and says of all that it refuses why. It has no effect and
// reads no clock.
package placement

import "time"

// Node is a place for allocations: a Nomad client node, one that is on its way,
// or the pattern of one that could be made.
type Node struct {
	ID         string // of Nomad; of one on its way, the id that it was ordered under
	Name       string
	Group      string // worker group; "": of none
	Pool       string
	Datacenter string
	Class      string
	Attributes map[string]string // as Nomad has them, "cpu.arch"; never changed, may be shared between nodes
	Meta       map[string]string // the same
	Drivers    map[string]bool   // task driver -> detected and healthy; nil: not known, every driver is taken to be there
	Volumes    map[string]Volume // host volumes by name
	Room       Resources         // for allocations: what Nomad itself and the operator reserve is taken off
	DiskKnown  bool              // Room.DiskMB means something; false: disk is not looked at
	Devices    []Device
	Ports      Ports
	Closed     string  // why Nomad puts nothing here: "draining", "not eligible", "down"; "": it does
	Allocs     []Alloc // those that still hold resources
	Imagined   bool    // it is a pattern: an attribute that it does not have is not known, rather than absent
	Said       Said    // what Nomad says of it beside its room; zero for one that is not there
}

// Keys of the meta of nodes that were ordered, which their targets give them.
const (
	NodeMeta  = "serve_node"         // the id that it was ordered under
	GroupMeta = "serve_worker_group" // the worker group that it is of
)

// Said is the state of a node in Nomad.
type Said struct {
	Status   string // ready | initializing | down | disconnected
	Eligible bool
	Draining bool
	Launch   string    // the id that it was ordered under, from its meta or name; "": it does not say
	Since    time.Time // of its last change of status
}

// Resources is an amount of what a node has.
type Resources struct {
	CPU      int // MHz
	MemoryMB int
	DiskMB   int
	Cores    int // reserved whole cores
}

// Volume is a host volume of a node.
type Volume struct{ ReadOnly bool }

// Device is one group of like devices of a node: instances of one model.
type Device struct {
	Vendor, Type, Name string
	Attributes         map[string]string // in base units where they have one: "memory" in MiB as "24576 MiB"
	Instances          []string          // ids of the healthy ones
}

// Ports is which ports of a node tasks may get.
type Ports struct {
	Low, High int          // range of dynamic ports; 0: Nomad's 20000 to 32000
	Reserved  map[int]bool // by the operator
}

// Alloc is an allocation that holds resources of a node.
type Alloc struct {
	ID        string
	Job       string // id
	Namespace string
	Group     string // task group
	Index     int    // of its name: "job.group[2]"
	Uses      Resources
	Devices   map[string][]string // "vendor/type/name" -> instance ids
	Ports     []int
	Ours      bool // a replica of this serve-nomad cluster
	Movable   bool // a service that Nomad starts elsewhere when its node drains
	System    bool // of a system or sysbatch job: it is wherever nodes are, and keeps none
}

// Ask is room for Count like replicas: what a Nomad task group asks for.
type Ask struct {
	Key           string // names it in results: a job id, or "buffer of worker group gpu"
	Job           string // job id; "" for a buffer
	Namespace     string
	TaskGroup     string
	Count         int
	Pool          string   // "": default; "all": any
	Datacenters   []string // with '*' as Nomad has it; nil: any
	Uses          Resources
	Drivers       []string
	Devices       []DeviceAsk
	DynamicPorts  int
	StaticPorts   []int
	Volumes       map[string]bool // host volume -> written to
	Constraints   []Constraint    // of job, group and tasks, those that distinct_hosts and distinct_property are not
	DistinctHosts bool
	Distinct      []DistinctProperty
	Affinities    []Affinity
	Spreads       []Spread
	Priority      int // of the job; the higher is placed first
}

// DeviceAsk is a device request of a task. It is filled from one Device of one
// node.
type DeviceAsk struct {
	Name        string // "type", "vendor/type" or "vendor/type/name"
	Count       int
	Constraints []Constraint // on ${device.attr.x}, ${device.model} and the like
	Affinities  []Affinity
}

// Constraint is Nomad's.
type Constraint struct{ Left, Operand, Right string }

// DistinctProperty is Nomad's distinct_property: at most Limit allocations of
// the group on nodes with one value.
type DistinctProperty struct {
	Property string
	Limit    int
}

// Affinity is Nomad's.
type Affinity struct {
	Constraint
	Weight int
}

// Spread is Nomad's, without targets.
type Spread struct {
	Attribute string
	Weight    int
}

// Shape is a kind of node that could be made, and how many more.
type Shape struct {
	Node             // the pattern; Group is the worker group that it is of
	Most     int     // how many more may be made; 0: none, for the reason in Refused
	Refused  string  // why none may be made now: "max_nodes is 8", "launches fail: ..."
	Priority int     // of shapes that are equally good the highest is taken
	Price    float64 // of a node and hour; 0: not known
}

// Input is what Pack places.
type Input struct {
	Nodes  []*Node // existing and on their way; never changed
	Shapes []Shape
	Asks   []Ask
}

// Result is what Pack found.
type Result struct {
	New    []NewNode // in the order in which they were opened
	Placed []Placed
	Short  []Short // what has no place, by ask
}

// NewNode is a node to be made.
type NewNode struct {
	Shape int            // index in Input.Shapes
	Holds map[string]int // ask key -> replicas
}

// Placed is replicas of one ask on one existing node.
type Placed struct {
	Ask   int // index in Input.Asks
	Node  int // index in Input.Nodes
	Count int
}

// Short is the replicas of one ask that have no place.
type Short struct {
	Ask      int
	Count    int
	Never    bool              // no shape could hold one, were it empty and allowed: no node is worth buying
	Nodes    map[string]int    // reason -> existing nodes that refuse for it: "out of memory: 512 of 1024 MiB free"
	Shapes   map[string]string // worker group -> why it takes none
	Headline string            // the whole in one line
}
