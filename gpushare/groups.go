package gpushare

import "slices"

// Group is a device group as Nomad knows it: of its devices, a task gets those
// of one group only.
type Group struct {
	Type, Name string
	Instances  []Instance
	Attributes map[string]Attribute
}

// Instance is what one task can be given.
type Instance struct {
	ID      string
	Trouble string // "": healthy
	PCI     string // bus id, by which Nomad knows which cores are near; "": not known
}

// Attribute is a value that requests are held against: a string, an int64 or a
// bool, and its unit if it is a number with one.
type Attribute struct {
	Value any
	Unit  string
}

// Groups are the groups of devices. No two have one name, and no two instances
// one id: Nomad would silently make one of them.
func Groups(devices []Device) []Group {
	var groups []Group
	for _, d := range devices {
		if d.Use.Mode == ModeShared {
			groups = append(groups, newGroup(d, ShareType, GroupName(d.GPU.Model, d.GPU.Index)))
			continue
		}
		name := wholeName(d.GPU, devices)
		at := slices.IndexFunc(groups, func(g Group) bool { return g.Type == WholeType && g.Name == name })
		if at < 0 {
			groups = append(groups, newGroup(d, WholeType, name))
			continue
		}
		groups[at].Instances = append(groups[at].Instances, instances(d)...)
	}
	return groups
}

// wholeName is what a whole GPU's group is called, as in Nomad's own plugin. One
// that there is not gets no place among those that there are.
func wholeName(g GPU, devices []Device) string {
	if g.MIG != "" {
		return g.Model + " MIG " + g.MIG
	}
	twin := slices.ContainsFunc(devices, func(d Device) bool {
		return !d.GPU.MakeBelieve && d.GPU.Model == g.Model && d.Use.Mode != ModeShared
	})
	if g.MakeBelieve && twin {
		return g.Model + " (make-believe)"
	}
	return g.Model
}

func newGroup(d Device, kind, name string) Group {
	return Group{Type: kind, Name: name, Instances: instances(d), Attributes: attributes(d)}
}

func instances(d Device) (list []Instance) {
	for _, id := range d.InstanceIDs() {
		list = append(list, Instance{ID: id, Trouble: d.Trouble, PCI: d.GPU.PCI})
	}
	return list
}

// attributes are those of Nomad's own plugin and ours. A group of several GPUs
// has those of the first.
func attributes(d Device) map[string]Attribute {
	g := d.GPU
	a := map[string]Attribute{AttrModel: {Value: g.Model}}
	number := func(name string, n uint64, unit string) {
		if n > 0 {
			a[name] = Attribute{Value: int64(n), Unit: unit}
		}
	}
	text := func(name, value string) {
		if value != "" {
			a[name] = Attribute{Value: value}
		}
	}
	number(AttrMemory, g.MemoryMiB, "MiB")
	number("bar1", g.BAR1MiB, "MiB")
	number("power", g.PowerW, "W")
	number("cores_clock", g.CoresClockMHz, "MHz")
	number("memory_clock", g.MemoryClockMHz, "MHz")
	number("pci_bandwidth", g.PCIBandwidthMBps, "MB/s")
	text("driver_version", g.DriverVersion)
	text("display_state", g.DisplayState)
	text("persistence_mode", g.PersistenceMode)
	if g.MakeBelieve {
		a[AttrMakeBelieve] = Attribute{Value: true}
	}
	if d.Use.Mode == ModeShared {
		a[AttrIndex] = Attribute{Value: int64(g.Index)}
		a[AttrSlices] = Attribute{Value: int64(d.Use.Slices)}
		a[AttrSharing] = Attribute{Value: d.Use.Sharing}
		a[AttrUUID] = Attribute{Value: g.UUID}
	}
	return a
}
