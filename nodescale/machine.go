package nodescale

import (
	"errors"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// ErrNotSupported is of a target that cannot do what it was asked: the call had
// no effect.
var ErrNotSupported = errors.New("the target cannot do this")

// Blueprint is what a target needs to know of a worker group to make its nodes.
type Blueprint struct {
	ClusterID  string            `json:"cluster_id"`
	Group      string            `json:"worker_group"`
	NodePool   string            `json:"node_pool"`
	Datacenter string            `json:"datacenter"`
	Class      string            `json:"node_class,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Spot       bool              `json:"spot,omitempty"`
	CPU        float64           `json:"cpu"`     // cores
	CPUMHz     int               `json:"cpu_mhz"` // of the whole node, as placement counts on it
	MemoryMB   int               `json:"memory_mb"`
	DiskMB     int               `json:"disk_mb,omitempty"`
	GPU        int               `json:"gpu,omitempty"`
	GPUModel   string            `json:"gpu_model,omitempty"`
	Drivers    []string          `json:"drivers,omitempty"`
	Kind       string            `json:"-"` // of target: process | plugin | exec | none
	Plugin     string            `json:"-"`
	Command    []string          `json:"-"`
	Config     map[string]string `json:"config,omitempty"`
}

// Machine is one node as its target is told of it.
type Machine struct {
	ID       string `json:"id"`                  // made once under this id, however often it is asked for
	Instance string `json:"instance,omitempty"`  // what Launch returned; "": nothing, or not known
	NomadID  string `json:"nomad_id,omitempty"`  // "": it has not joined
	Name     string `json:"node_name,omitempty"` // of its Nomad node; "": it has not joined
	Wanted   int    `json:"wanted"`              // machines of the group that there are to be once it is launched or removed: for targets that only count
}

// Instance is one machine that a target says there is.
type Instance struct {
	ID      string    `json:"id"`                 // Machine.ID, or "" where the target does not know it
	Name    string    `json:"instance,omitempty"` // the target's own name for it
	State   string    `json:"state"`              // running | starting | ended
	Message string    `json:"message,omitempty"`  // why it ended
	Since   time.Time `json:"since,omitzero"`
}

// Listing is what a target says of a group.
type Listing struct {
	Instances []Instance
	Count     int  // that the target is set to
	Counted   bool // only Count is known, not which they are
}

// BlueprintOf is a worker group as its target is told of it. A core of its nodes
// is to count for coreMHz.
func BlueprintOf(clusterID string, g *appspec.WorkerGroup, coreMHz int) Blueprint {
	shape, target := g.Node, g.Target
	return Blueprint{
		ClusterID: clusterID, Group: g.Name, NodePool: g.NodePool, Datacenter: shape.Datacenter, Class: shape.Class,
		Labels: g.Labels, Env: g.Env, Spot: g.Spot,
		CPU: shape.CPU, CPUMHz: int(shape.CPU * float64(coreMHz)), MemoryMB: shape.MemoryMB, DiskMB: shape.DiskMB,
		GPU: shape.GPU, GPUModel: shape.GPUModel, Drivers: shape.Drivers,
		Kind: target.Kind, Plugin: target.Plugin, Command: target.Command, Config: target.Config,
	}
}
