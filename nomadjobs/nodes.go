package nomadjobs

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
)

// seenNode is a node as last read.
type seenNode struct {
	node       placement.Node // without allocations; its maps and slices are shared by every look
	coreMHz    int            // of a core; 0: not known
	mostAllocs int            // allocations that it takes, by its own configuration; 0: any number
}

// wholeNode is a node as Nomad answers for it. Nomad's client library leaves
// out what is needed of its networks and reserved cores.
type wholeNode struct {
	ID, Name, Datacenter, NodeClass, NodePool string

	Attributes, Meta      map[string]string
	Drivers               map[string]*struct{ Detected, Healthy bool }
	HostVolumes           map[string]*struct{ ReadOnly bool }
	NodeResources         *nodeResources
	ReservedResources     *reservedResources
	DrainStrategy         *struct{}
	SchedulingEligibility string
	Status                string
	StatusUpdatedAt       int64
	NodeMaxAllocs         int
	ModifyIndex           uint64
}

type nodeResources struct {
	CPU            api.NodeCpuResources `json:"Cpu"`
	Memory         api.NodeMemoryResources
	Disk           api.NodeDiskResources
	Devices        []*api.NodeDeviceResource
	NodeNetworks   []*struct{ Addresses []hostAddress }
	MinDynamicPort int
	MaxDynamicPort int
}

type hostAddress struct{ Alias, ReservedPorts string }

type reservedResources struct {
	CPU struct {
		Shares int      `json:"CpuShares"`
		Cores  []uint16 `json:"ReservedCpuCores"`
	} `json:"Cpu"`
	Memory   struct{ MemoryMB int }
	Disk     struct{ DiskMB int }
	Networks struct{ ReservedHostPorts string }
}

// lookAtNodes returns every node, whatever its state, in the order of ids,
// reading those that changed since the last look.
func (c *Client) lookAtNodes(ctx context.Context) ([]seenNode, error) {
	q, cancel := query(ctx)
	defer cancel()
	stubs, _, err := c.nomad.Nodes().List(q)
	if err != nil {
		return nil, needing(readNodes, c.fault("list Nomad's nodes", err))
	}
	listed := make(map[string]uint64, len(stubs))
	for _, stub := range stubs {
		listed[stub.ID] = stub.ModifyIndex
	}
	nodes, err := c.nodes.read(ctx, listed, c.readNode)
	if err != nil {
		return nil, err
	}
	list := make([]seenNode, 0, len(nodes))
	for _, stub := range stubs {
		if node, there := nodes[stub.ID]; there {
			list = append(list, node)
		}
	}
	return list, nil
}

func (c *Client) readNode(ctx context.Context, id string) (seenNode, uint64, error) {
	whole, err := c.node(ctx, id)
	if err != nil {
		return seenNode{}, 0, err
	}
	return observedNode(whole), whole.ModifyIndex, nil
}

// node fetches one whole node. Its resources are never nil.
func (c *Client) node(ctx context.Context, id string) (*wholeNode, error) {
	if id == "" {
		return nil, fmt.Errorf("read node: %w: it has no id", ErrNotFound)
	}
	q, cancel := query(ctx)
	defer cancel()
	var node wholeNode
	if _, err := c.nomad.Raw().Query("/v1/node/"+url.PathEscape(id), &node, q); err != nil {
		return nil, needing(readNodes, c.fault("read node "+id, err))
	}
	if node.ID != id || node.NodeResources == nil {
		return nil, fmt.Errorf("read node %s: nomad at %s answered with something else than a node", id, c.address)
	}
	if node.ReservedResources == nil {
		node.ReservedResources = &reservedResources{}
	}
	return &node, nil
}

// observedNode turns a node into words of placement.
func observedNode(n *wholeNode) seenNode {
	has, kept := n.NodeResources, n.ReservedResources
	ports, portsErr := portsOf(n)
	node := placement.Node{
		ID: n.ID, Name: n.Name, Pool: n.NodePool, Datacenter: n.Datacenter, Class: n.NodeClass,
		Attributes: n.Attributes, Meta: n.Meta,
		Drivers: map[string]bool{}, Volumes: map[string]placement.Volume{},
		Room: placement.Resources{
			CPU:      int(has.CPU.CpuShares) - kept.CPU.Shares,
			MemoryMB: int(has.Memory.MemoryMB) - kept.Memory.MemoryMB,
			DiskMB:   int(has.Disk.DiskMB) - kept.Disk.DiskMB,
		},
		DiskKnown: true, Devices: devicesOf(has.Devices), Ports: ports,
		Said: placement.Said{
			Status: n.Status, Eligible: n.SchedulingEligibility == api.NodeSchedulingEligible,
			Draining: n.DrainStrategy != nil, Launch: n.Meta[placement.NodeMeta], Since: time.Unix(n.StatusUpdatedAt, 0).UTC(),
		},
	}
	for _, core := range has.CPU.ReservableCpuCores {
		if !slices.Contains(kept.CPU.Cores, core) {
			node.Room.Cores++
		}
	}
	for name, driver := range n.Drivers {
		node.Drivers[name] = driver != nil && driver.Detected && driver.Healthy
	}
	for name, volume := range n.HostVolumes {
		node.Volumes[name] = placement.Volume{ReadOnly: volume != nil && volume.ReadOnly}
	}
	if node.Closed = closed(node.Said); node.Closed == "" && portsErr != nil {
		node.Closed = portsErr.Error() // Nomad's scheduler passes such a node over
	}
	return seenNode{node: node, coreMHz: mhzOf(has.CPU), mostAllocs: n.NodeMaxAllocs}
}

// closed says why Nomad's scheduler passes a node over; "": it does not.
func closed(s placement.Said) string {
	switch {
	case s.Status != api.NodeStatusReady:
		return s.Status
	case s.Draining:
		return "draining"
	case !s.Eligible:
		return "not eligible"
	default:
		return ""
	}
}

// devicesOf returns groups of devices with the instances that work. An attribute
// is told as it would be written in a constraint.
func devicesOf(groups []*api.NodeDeviceResource) (devices []placement.Device) {
	for _, g := range groups {
		d := placement.Device{Vendor: g.Vendor, Type: g.Type, Name: g.Name, Attributes: make(map[string]string, len(g.Attributes))}
		for _, instance := range g.Instances {
			if instance.Healthy {
				d.Instances = append(d.Instances, instance.ID)
			}
		}
		for name, a := range g.Attributes {
			if a != nil {
				d.Attributes[name] = attribute(a)
			}
		}
		devices = append(devices, d)
	}
	return devices
}

func attribute(a *api.Attribute) string {
	text := ""
	switch {
	case a.FloatVal != nil:
		text = strconv.FormatFloat(*a.FloatVal, 'f', -1, 64) // its own String rounds
	case a.IntVal != nil:
		text = strconv.FormatInt(*a.IntVal, 10)
	case a.StringVal != nil:
		return *a.StringVal
	case a.BoolVal != nil:
		return strconv.FormatBool(*a.BoolVal)
	}
	if a.Unit != "" {
		text += " " + a.Unit
	}
	return text
}

// portsOf returns the ports of a node's default network: those that the operator
// reserves there, and everywhere.
func portsOf(n *wholeNode) (placement.Ports, error) {
	p := placement.Ports{Low: n.NodeResources.MinDynamicPort, High: n.NodeResources.MaxDynamicPort, Reserved: map[int]bool{}}
	ranges := []string{n.ReservedResources.Networks.ReservedHostPorts}
	for _, network := range n.NodeResources.NodeNetworks {
		for _, address := range network.Addresses {
			if address.Alias == "default" {
				ranges = append(ranges, address.ReservedPorts)
			}
		}
	}
	for _, r := range ranges {
		if err := addPortRanges(p.Reserved, r); err != nil {
			return p, err
		}
	}
	return p, nil
}

// addPortRanges adds the ports of a list such as "22,8000-8010".
func addPortRanges(ports map[int]bool, list string) error {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
		if err != nil {
			return fmt.Errorf("reserved ports %q: %w", list, err)
		}
		to, err := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
		if err != nil {
			return fmt.Errorf("reserved ports %q: %w", list, err)
		}
		for port := from; port <= to; port++ {
			ports[int(port)] = true //nolint:gosec // G115: it has 16 bits
		}
	}
	return nil
}

// mhzOf returns what one core of a node counts for; 0: it is not known.
func mhzOf(cpu api.NodeCpuResources) int {
	if cpu.TotalCpuCores == 0 || cpu.CpuShares <= 0 {
		return 0
	}
	return max(1, int(cpu.CpuShares)/int(cpu.TotalCpuCores))
}

// lookAtPools returns the names of the node pools that there are.
func (c *Client) lookAtPools(ctx context.Context) (map[string]bool, error) {
	q, cancel := query(ctx)
	defer cancel()
	pools, _, err := c.nomad.NodePools().List(q)
	if err != nil {
		return nil, needing(readPools, c.fault("list Nomad's node pools", err))
	}
	names := make(map[string]bool, len(pools))
	for _, pool := range pools {
		names[pool.Name] = true
	}
	// Pools that the token may not read are left out without a word. This one
	// is always there.
	if !names[api.NodePoolDefault] {
		return nil, needing(readPools, fmt.Errorf("list Nomad's node pools: %w", ErrForbidden))
	}
	return names, nil
}
