package nodescale

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/serve-nomad/serve-nomad/placement"
)

// patterns finds what a new node of each group would be like: as the newest one
// that joined, for that is what its target makes, or as its block says.
func (d *decider) patterns() {
	newest := map[*group]*placement.Node{}
	for _, n := range d.in.Nodes {
		g := d.groupOf(n)
		if r := d.owner[n.ID]; g == nil || n.Said.Status != "ready" || r == nil || r.outdated() {
			continue
		}
		if newest[g] == nil || n.Said.Since.After(newest[g].Said.Since) {
			newest[g] = n
		}
	}
	var common map[string]string
	for _, g := range d.groups {
		key := fmt.Sprintf("%s@%d", g.Name, g.ModifyIndex)
		switch known := d.mem.Patterns[key]; {
		case newest[g] != nil:
			g.pattern = placement.Pattern(newest[g])
			d.compare(g, newest[g])
		case known != nil:
			g.pattern = known
		default:
			if common == nil {
				common = d.common()
			}
			g.pattern = d.declared(g, common)
			continue // not remembered: it was not seen
		}
		g.pattern.Group = g.Name
		d.next.Patterns[key] = g.pattern
	}
}

func notUnique(attributes map[string]string) map[string]string {
	kept := make(map[string]string, len(attributes))
	for name, value := range attributes {
		if !strings.HasPrefix(name, "unique.") {
			kept[name] = value
		}
	}
	return kept
}

// coreMHz is what a core of the group's nodes counts for.
func (d *decider) coreMHz(g *group) int {
	if g.Spec.Node.CoreMHz > 0 {
		return g.Spec.Node.CoreMHz
	}
	return max(1, d.in.CoreMHz[g.Name])
}

// declared makes a pattern of the group's node block. What all nodes of the
// cluster have in common, a new one is taken to have.
func (d *decider) declared(g *group, common map[string]string) *placement.Node {
	shape := g.Spec.Node
	n := &placement.Node{
		Group: g.Name, Pool: g.Spec.NodePool, Datacenter: shape.Datacenter, Class: shape.Class, Imagined: true,
		Attributes: maps.Clone(common), Meta: map[string]string{placement.GroupMeta: g.Name},
		Room:      placement.Resources{CPU: int(shape.CPU * float64(d.coreMHz(g))), MemoryMB: shape.MemoryMB, DiskMB: shape.DiskMB},
		DiskKnown: shape.DiskMB > 0,
	}
	maps.Copy(n.Attributes, shape.Attributes)
	maps.Copy(n.Meta, g.Spec.Labels)
	if len(shape.Drivers) > 0 {
		n.Drivers = map[string]bool{}
		for _, driver := range shape.Drivers {
			n.Drivers[driver] = true
		}
	}
	if shape.GPU > 0 {
		n.Devices = []placement.Device{gpus(shape.GPU, shape.GPUModel, shape.GPUMemoryMB)}
	}
	return n
}

// gpus is what Nomad's device plugin for NVIDIA's GPUs would report.
func gpus(count int, model string, memoryMB int) placement.Device {
	device := placement.Device{Vendor: "nvidia", Type: "gpu", Name: model, Attributes: map[string]string{}}
	if memoryMB > 0 {
		device.Attributes["memory"] = strconv.Itoa(memoryMB) + " MiB"
	}
	for i := range count {
		device.Instances = append(device.Instances, "gpu-"+strconv.Itoa(i))
	}
	return device
}

// common is what all nodes of the cluster that are ready say alike of
// themselves. A few are enough to see what differs.
func (d *decider) common() map[string]string {
	const enough = 50
	var common map[string]string
	seen := 0
	for _, n := range d.in.Nodes {
		if n.Said.Status != "ready" {
			continue
		}
		if common == nil {
			common = notUnique(n.Attributes)
		}
		maps.DeleteFunc(common, func(name, value string) bool {
			return n.Attributes[name] != value
		})
		if seen++; seen == enough {
			break
		}
	}
	if common == nil {
		common = map[string]string{}
	}
	return common
}

// compare tells of nodes that have less than their group's block promises.
func (d *decider) compare(g *group, n *placement.Node) {
	shape := g.Spec.Node
	count := 0
	for _, device := range n.Devices {
		if device.Type == "gpu" {
			count += len(device.Instances)
		}
	}
	for _, less := range []struct {
		what              string
		have, want, slack int
	}{
		{"MiB of memory", n.Room.MemoryMB, shape.MemoryMB, shape.MemoryMB / 10},
		{"GPUs", count, shape.GPU, 0},
		{"MHz", n.Room.CPU, int(shape.CPU) * shape.CoreMHz, int(shape.CPU) * shape.CoreMHz / 10},
	} {
		if less.have < less.want-less.slack {
			g.note(fmt.Sprintf("node %s has %d %s for replicas, the group's node block promises %d: placement goes by the node", n.Name, less.have, less.what, less.want))
		}
	}
}
