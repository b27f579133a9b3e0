package nomadjobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// heldAlloc is an allocation as Nomad tells of it, as far as it matters what it
// holds. The list of them is the largest that is read, so no more is decoded.
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

// heldRoom is what an allocation of anybody holds, and where.
type heldRoom struct {
	nodeID string
	alive  bool
	alloc  placement.Alloc // whether it is ours is known only when the jobs have been seen
}

// listHeld lists the allocations of every namespace that hold room on a node.
// They are decoded one by one: all of them as text are a few times larger.
func (c *Client) listHeld(ctx context.Context) ([]heldRoom, error) {
	const what = "list the allocations of all namespaces"
	q, cancel := query(ctx)
	defer cancel()
	q.Namespace, q.Filter = api.AllNamespacesNamespace, holding
	q.Params = map[string]string{"resources": "true", "task_states": "false"}
	body, err := c.nomad.Raw().Response("/v1/allocations", q)
	if err != nil {
		return nil, needing(readAllJobs, c.fault(what, err))
	}
	defer body.Close()
	list, err := decodeHeld(json.NewDecoder(body))
	if wrong, ok := errors.AsType[wrongAnswer](err); ok {
		return nil, fmt.Errorf("%s: nomad at %s %w", what, c.address, wrong)
	}
	return list, c.fault(what, err)
}

// wrongAnswer is what is wrong with an answer that came whole.
type wrongAnswer string

func (w wrongAnswer) Error() string { return string(w) }

func decodeHeld(from *json.Decoder) ([]heldRoom, error) {
	if begin, err := from.Token(); err != nil || begin != json.Delim('[') {
		return nil, cmp.Or(err, error(wrongAnswer("answered with something else than a list")))
	}
	var list []heldRoom
	for from.More() {
		var a heldAlloc
		if err := from.Decode(&a); err != nil {
			return nil, err
		}
		if a.AllocatedResources == nil {
			return nil, wrongAnswer("does not say what allocation " + a.ID + " holds")
		}
		list = append(list, heldRoom{a.NodeID, alive(a.DesiredStatus, a.ClientStatus), a.placed()})
	}
	_, err := from.Token() // an answer that is cut short has no end
	return list, err
}

// placed turns an allocation into words of placement.
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
