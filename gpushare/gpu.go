package gpushare

import (
	"slices"
	"strconv"
	"strings"
)

// GPU is a GPU of the node, or a part of one that the driver cut off as a MIG
// instance. What is empty or 0 is not known.
type GPU struct {
	UUID  string
	Index int // on the node; the driver's, until GPUs come or go while the plugin lives
	Minor int // of /dev/nvidia<minor>; -1: not known
	Model string
	PCI   string // bus id

	MemoryMiB        uint64
	BAR1MiB          uint64
	PowerW           uint64 // limit
	CoresClockMHz    uint64
	MemoryClockMHz   uint64
	PCIBandwidthMBps uint64
	DriverVersion    string
	DisplayState     string
	PersistenceMode  string
	MIG              string // profile, such as "1g.10gb"; "": a whole GPU
	Parent           string // UUID of the GPU that a MIG instance is of
	Cut              bool   // into MIG instances: they are the devices, and it is none
	MakeBelieve      bool   // there is no such GPU
	Trouble          string // why no task can use it; "": none
}

// Named tells whether the label of a gpu block is of this GPU.
func (g GPU) Named(label string) bool {
	if n, err := strconv.Atoi(label); err == nil {
		return n == g.Index && g.MIG == "" // instances have indices of our making
	}
	return strings.EqualFold(label, g.UUID) || (g.PCI != "" && g.MIG == "" && samePCI(label, g.PCI))
}

// samePCI compares bus ids: NVML writes the domain with eight digits, lspci with
// four or not at all.
func samePCI(a, b string) bool {
	return shortPCI(a) == shortPCI(b)
}

func shortPCI(id string) string {
	id = strings.ToLower(id)
	if strings.Count(id, ":") == 1 {
		id = "0:" + id
	}
	domain, rest, _ := strings.Cut(id, ":")
	return strings.TrimLeft(domain, "0") + ":" + rest
}

// NextIndex returns the lowest index that is above those of all the GPUs.
func NextIndex(lists ...[]GPU) (next int) {
	for _, gpus := range lists {
		for _, gpu := range gpus {
			next = max(next, gpu.Index+1)
		}
	}
	return next
}

// Sight is what one look at the driver saw.
type Sight struct {
	GPUs   []GPU
	Failed map[int]string // by the driver's index: GPUs of which it says nothing but this
	Absent string         // why there is no driver to ask; "": there is one
}

// Merge adds what was seen to the GPUs that are known. A GPU that was there
// once stays listed, as one in trouble: Nomad takes it as one that may come
// back, and whoever looks at the node sees why it has none of its tasks. It
// keeps its index too, since names of devices have it in them.
func Merge(known []GPU, seen Sight) []GPU {
	merged := slices.Clone(known)
	taken := map[int]bool{}
	for i := range merged {
		taken[merged[i].Index] = true
		if !merged[i].MakeBelieve {
			merged[i].Trouble = lossOf(merged[i], seen)
		}
	}
	for _, gpu := range distinct(seen.GPUs) {
		at := slices.IndexFunc(merged, func(k GPU) bool { return k.UUID == gpu.UUID })
		if at >= 0 {
			gpu.Index = merged[at].Index
			merged[at] = gpu
			continue
		}
		for taken[gpu.Index] {
			gpu.Index++
		}
		taken[gpu.Index] = true
		merged = append(merged, gpu)
	}
	merged = slices.DeleteFunc(merged, func(g GPU) bool { return cutAnew(g, seen) })
	slices.SortFunc(merged, func(a, b GPU) int { return a.Index - b.Index })
	return merged
}

// lossOf says why a GPU that is known may not be among those seen.
func lossOf(gpu GPU, seen Sight) string {
	if seen.Absent != "" {
		return "the NVIDIA driver does not answer: " + seen.Absent
	}
	if why := seen.Failed[gpu.Index]; why != "" && gpu.MIG == "" {
		return "the driver no longer reaches it: " + why
	}
	return "the driver no longer lists it"
}

// cutAnew tells of a MIG instance that is gone while its GPU is well: somebody
// cut the GPU in another way, and the instance never comes back.
func cutAnew(gpu GPU, seen Sight) bool {
	if gpu.MIG == "" || gpu.MakeBelieve || seen.Absent != "" {
		return false
	}
	parent := slices.ContainsFunc(seen.GPUs, func(g GPU) bool { return g.UUID == gpu.Parent && g.Trouble == "" })
	return parent && !slices.ContainsFunc(seen.GPUs, func(g GPU) bool { return g.UUID == gpu.UUID })
}

// distinct drops what has no UUID, or one that was there before: Nomad silently
// makes one device of two with the same id.
func distinct(gpus []GPU) (kept []GPU) {
	had := map[string]bool{"": true}
	for _, gpu := range gpus {
		if !had[gpu.UUID] {
			had[gpu.UUID] = true
			kept = append(kept, gpu)
		}
	}
	return kept
}
