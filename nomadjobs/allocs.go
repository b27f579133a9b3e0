package nomadjobs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
)

// holding selects the allocations whose room is taken. The scheduler counts one
// until its client says that it has ended: also while it is being stopped.
const holding = `ClientStatus != "` + api.AllocClientStatusComplete + `" and ClientStatus != "` +
	api.AllocClientStatusFailed + `" and ClientStatus != "` + api.AllocClientStatusLost + `"`

// jobTypeSysbatch is a name that Nomad's client library does not export.
const jobTypeSysbatch = "sysbatch"

// heldAlloc is an allocation of anybody, as far as it matters what it holds. The
// list of them is the largest that is read, so it is decoded into no more than
// this.
type heldAlloc struct {
	ID, Name, Namespace, NodeID, JobID, JobType, TaskGroup, DesiredStatus, ClientStatus string

	AllocatedResources *struct {
		Tasks          map[string]heldTask
		TaskLifecycles map[string]*struct {
			Hook    string
			Sidecar bool
		}
		Shared struct {
			DiskMB   int
			Networks []heldNetwork
			Ports    []heldPort
		}
	}
}

type heldTask struct {
	CPU struct {
		Shares        int `json:"CpuShares"`
		ReservedCores []uint16
	} `json:"Cpu"`
	Memory   struct{ MemoryMB int }
	Networks []heldNetwork
	Devices  []struct {
		Vendor, Type, Name string
		DeviceIDs          []string
	}
}

type heldNetwork struct{ ReservedPorts, DynamicPorts []heldPort }

type heldPort struct{ Value int }

// listHeld lists the allocations of every namespace that hold room on a node.
func (c *Client) listHeld(ctx context.Context) ([]heldAlloc, error) {
	q, cancel := query(ctx)
	defer cancel()
	q.Namespace, q.Filter = api.AllNamespacesNamespace, holding
	q.Params = map[string]string{"resources": "true", "task_states": "false"}
	var allocs []heldAlloc
	if _, err := c.nomad.Raw().Query("/v1/allocations", &allocs, q); err != nil {
		return nil, needing(readAllJobs, c.fault("list the allocations of all namespaces", err))
	}
	for i := range allocs {
		if allocs[i].AllocatedResources == nil {
			return nil, fmt.Errorf("list the allocations of all namespaces: nomad at %s does not say what allocation %s holds", c.address, allocs[i].ID)
		}
	}
	return allocs, nil
}

// placed turns an allocation into words of placement. Whether it is ours is
// known only when the jobs have been seen.
func (a *heldAlloc) placed() placement.Alloc {
	system := a.JobType == api.JobTypeSystem || a.JobType == jobTypeSysbatch
	held := a.AllocatedResources
	p := placement.Alloc{
		ID: a.ID, Job: a.JobID, Namespace: a.Namespace, Group: a.TaskGroup, Index: indexOf(a.Name),
		System: system, Movable: a.JobType == api.JobTypeService,
	}
	uses := make([]taskUse, 0, len(held.Tasks))
	networks := slices.Clone(held.Shared.Networks)
	for name, task := range held.Tasks {
		use := taskUse{cpu: task.CPU.Shares, cores: len(task.CPU.ReservedCores), memory: task.Memory.MemoryMB}
		if l := held.TaskLifecycles[name]; l != nil {
			use.hook, use.sidecar = l.Hook, l.Sidecar
		}
		uses = append(uses, use)
		networks = append(networks, task.Networks...)
		for _, d := range task.Devices {
			if p.Devices == nil {
				p.Devices = map[string][]string{}
			}
			key := d.Vendor + "/" + d.Type + "/" + d.Name
			p.Devices[key] = append(p.Devices[key], d.DeviceIDs...)
		}
	}
	p.Uses = together(uses)
	p.Uses.DiskMB = held.Shared.DiskMB
	p.Ports = portsHeld(held.Shared.Ports, networks)
	return p
}

// portsHeld returns the ports of an allocation, each once: Nomad tells those of
// a group both as ports and as part of its network.
func portsHeld(ports []heldPort, networks []heldNetwork) []int {
	var all []int
	add := func(list []heldPort) {
		for _, p := range list {
			if p.Value > 0 && !slices.Contains(all, p.Value) {
				all = append(all, p.Value)
			}
		}
	}
	add(ports)
	for _, n := range networks {
		add(n.ReservedPorts)
		add(n.DynamicPorts)
	}
	return all
}

// indexOf reads the index off an allocation's name, "job.group[2]".
func indexOf(name string) int {
	index, err := strconv.Atoi(strings.TrimSuffix(name[strings.LastIndexByte(name, '[')+1:], "]"))
	if err != nil {
		return 0
	}
	return index
}

// alive says whether an allocation stands for one replica of the count that its
// job asks for: neither over nor asked to stop, and on a node that answers.
func alive(desired, client string) bool {
	return desired == api.AllocDesiredStatusRun &&
		(client == api.AllocClientStatusPending || client == api.AllocClientStatusRunning)
}
