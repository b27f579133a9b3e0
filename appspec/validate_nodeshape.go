package appspec

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// nodeWord holds the datacenter and the class of a node.
func (v *validator) nodeWord(path, what, word string) {
	if word == "" {
		return
	}
	if len(word) > maxEntry || wordProblem("_"+word[:min(len(word), maxEntry-1)], "_.-") != "" {
		v.addf(path, "%s is no %s's name: use 1 to %d letters, digits, '-', '_' and '.'.", quote(word), what, maxEntry)
	}
}

func (v *validator) nodeShape(path string, n NodeShape) {
	v.resources(path, Resources{CPU: n.CPU, MemoryMB: n.MemoryMB})
	v.within(path+".gpu", n.GPU, 0, maxGPU)
	v.within(path+".core_mhz", n.CoreMHz, 0, maxCoreMHz)
	v.amount(path+".disk", n.DiskMB)
	v.amount(path+".gpu_memory", n.GPUMemoryMB)
	if problem := valueProblem(n.GPUModel); problem != "" || len(n.GPUModel) > maxEntry {
		v.addf(path+".gpu_model", "The name of a device is needed, as its device plugin has it, of at most %d printable characters.", maxEntry)
	}
	if n.GPU == 0 && n.GPUModel != "" {
		v.addf(path+".gpu_model", "gpu_model says what kind of GPU a node has, and this one has none: set gpu, or leave it out.")
	}
	if n.GPU == 0 && n.GPUMemoryMB != 0 {
		v.addf(path+".gpu_memory", "gpu_memory says how large a GPU is, and this node has none: set gpu, or leave it out.")
	}
	v.nodeWord(path+".datacenter", "datacenter", n.Datacenter)
	v.nodeWord(path+".class", "node class", n.Class)
	if len(n.Drivers) > maxEntries {
		v.addf(path+".drivers", "At most %d are allowed; these are %d.", maxEntries, len(n.Drivers))
	} else {
		for i, driver := range n.Drivers {
			if problem := wordProblem(driver, "_-"); problem != "" {
				v.addf(fmt.Sprintf("%s.drivers[%d]", path, i), "%s is no task driver's name: %s", quote(driver), problem)
			}
		}
	}
	v.entries(path+".attributes", "attribute", n.Attributes, attributeProblem)
}

// amount is of MiB, and may be 0: not known.
func (v *validator) amount(path string, mb int) {
	if mb < 0 || mb > maxMemoryMB {
		v.addf(path, "An amount up to %s is needed; this is %dMiB.", memoryText(maxMemoryMB), mb)
	}
}

// fits says what of a replica a node of the shape cannot hold.
func (v *validator) fits(path string, n NodeShape, r Resources) {
	for _, f := range n.lacks(r) {
		v.addf(path+"."+f.Path, "%s", f.Message)
	}
}

// lacks says what of a replica a node of the shape cannot hold, by field of the
// resources block. What is not sound in either has its own fault.
func (n NodeShape) lacks(r Resources) []Fault {
	var faults []Fault
	add := func(field, format string, args ...any) {
		faults = append(faults, Fault{Path: field, Message: fmt.Sprintf(format, args...)})
	}
	if n.CPU > 0 && r.CPU > n.CPU && r.CPU <= maxCPU {
		add("cpu", "A node of the group has %s cores; this asks for %s.", numberText(n.CPU), numberText(r.CPU))
	}
	if n.MemoryMB > 0 && r.MemoryMB > n.MemoryMB && r.MemoryMB <= maxMemoryMB {
		add("memory", "A node of the group has %s of memory; this asks for %s.", memoryText(n.MemoryMB), memoryText(r.MemoryMB))
	}
	if n.GPU >= 0 && r.GPU > float64(n.GPU) && r.GPU <= maxGPU {
		add("gpu", "A node of the group has %s; this asks for %s.", gpusText(n.GPU), numberText(r.GPU))
	}
	return faults
}

func gpusText(n int) string {
	switch n {
	case 0:
		return "no GPU"
	case 1:
		return "1 GPU"
	default:
		return fmt.Sprintf("%d GPUs", n)
	}
}

// holds is how many replicas fit on an empty node of the shape at most.
func (n NodeShape) holds(r Resources) int {
	most := float64(maxReplicas)
	if r.CPU > 0 {
		most = min(most, n.CPU/r.CPU+1e-9) // 0.1 times 10 is a little more than 1
	}
	if r.MemoryMB > 0 {
		most = min(most, float64(n.MemoryMB/r.MemoryMB))
	}
	if r.GPU > 0 {
		most = min(most, float64(n.GPU)/r.GPU)
	}
	return int(max(0, math.Floor(most)))
}

// driverProblem says why a task of a driver cannot run on a node of the shape.
func (n NodeShape) driverProblem(driver string) string {
	if driver == "" || len(n.Drivers) == 0 || slices.Contains(n.Drivers, driver) {
		return ""
	}
	return fmt.Sprintf("A node of the group has no task driver %s; its drivers are %s.",
		quote(driver), clipTo(strings.Join(n.Drivers, ", "), 400))
}
