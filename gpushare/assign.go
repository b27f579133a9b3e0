package gpushare

import (
	"fmt"
	"maps"
	"slices"
)

// Device is a GPU and what is made of it: a device of Nomad's, or several.
type Device struct {
	GPU     GPU
	Use     Use
	Trouble string // why no task can be given any of it; "": none
}

// Assign says what is made of each GPU, with what is to be said of the
// configuration. What cannot be carried out never takes the other GPUs with it.
func Assign(c Config, gpus []GPU) (devices []Device, problems []string) {
	for _, gpu := range gpus {
		use, problem := useOf(c, gpu)
		if ignoredWhole(c, gpu, gpus) {
			use, problem = Use{Mode: ModeIgnored}, ""
		}
		if problem != "" {
			problems = append(problems, problem)
		}
		if use.Mode != ModeIgnored {
			devices = append(devices, Device{GPU: gpu, Use: use, Trouble: gpu.Trouble})
		}
	}
	for _, label := range slices.Sorted(maps.Keys(c.GPUs)) {
		if !slices.ContainsFunc(gpus, func(g GPU) bool { return g.Named(label) }) {
			problems = append(problems, fmt.Sprintf("gpu %q: this node has no such GPU, of %d: name one by its index, UUID or PCI bus id, as nvidia-smi -L and -q show them", label, len(gpus)))
		}
	}
	return devices, problems
}

// useOf says what is made of one GPU.
func useOf(c Config, gpu GPU) (use Use, problem string) {
	use = c.Use
	for _, p := range c.Pretences {
		if gpu.MakeBelieve && gpu.Model == p.Model {
			use = p.Use
		}
	}
	label, named := blockOf(c, gpu)
	if named {
		use = c.GPUs[label]
	}
	switch {
	case gpu.Index > MaxIndex:
		return Use{Mode: ModeIgnored}, fmt.Sprintf("GPU %s is left out: a node has at most %d", gpu.UUID, MaxIndex+1)
	case gpu.Cut && named && use.Mode == ModeShared:
		return Use{Mode: ModeIgnored}, fmt.Sprintf("gpu %q is not shared: it is cut into MIG instances, which are devices of their own", label)
	case gpu.Cut:
		return Use{Mode: ModeIgnored}, ""
	case gpu.MIG != "" && use.Mode == ModeShared:
		use.Mode = ModeWhole
		if named {
			problem = fmt.Sprintf("gpu %q is not shared: it is a MIG instance, which is a part of a GPU as it is", label)
		}
	}
	return use, problem
}

// ignoredWhole tells of a MIG instance that its GPU is to be ignored, and that
// no block names itself.
func ignoredWhole(c Config, gpu GPU, gpus []GPU) bool {
	if _, named := blockOf(c, gpu); gpu.MIG == "" || named {
		return false
	}
	return slices.ContainsFunc(gpus, func(g GPU) bool {
		label, named := blockOf(c, g)
		return g.UUID == gpu.Parent && named && c.GPUs[label].Mode == ModeIgnored
	})
}

// blockOf finds the block that names a GPU. A UUID or bus id counts for more
// than an index, which may be another GPU's after the next boot.
func blockOf(c Config, gpu GPU) (label string, found bool) {
	for _, name := range slices.Sorted(maps.Keys(c.GPUs)) {
		if gpu.Named(name) && (!found || len(name) > len(label)) {
			label, found = name, true
		}
	}
	return label, found
}

// InstanceIDs are the ids of the devices that a GPU is to Nomad.
func (d Device) InstanceIDs() []string {
	if d.Use.Mode != ModeShared {
		return []string{d.GPU.UUID}
	}
	ids := make([]string, d.Use.Slices)
	for n := range ids {
		ids[n] = SliceID(d.GPU.UUID, n)
	}
	return ids
}
