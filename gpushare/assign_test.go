package gpushare

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAssign(t *testing.T) {
	t.Parallel()
	shared := Use{Mode: ModeShared, Slices: 8, Sharing: SharingTimeSlice}
	whole, ignored := Use{Mode: ModeWhole}, Use{Mode: ModeIgnored}
	a, b := GPU{UUID: "GPU-a", Index: 0, PCI: "00000000:01:00.0"}, GPU{UUID: "GPU-b", Index: 1}
	cut := GPU{UUID: "GPU-c", Index: 2, Cut: true}
	part := GPU{UUID: "MIG-c", Index: 3, MIG: "1g.10gb", Parent: "GPU-c"}
	for _, test := range []struct {
		name    string
		c       Config
		gpus    []GPU
		want    map[string]string // mode by UUID
		problem string
	}{
		{"by default", Config{Use: shared}, []GPU{a, b}, map[string]string{"GPU-a": "shared", "GPU-b": "shared"}, ""},
		{"by index", Config{Use: shared, GPUs: map[string]Use{"1": whole}}, []GPU{a, b}, map[string]string{"GPU-a": "shared", "GPU-b": "whole"}, ""},
		{"by bus", Config{Use: shared, GPUs: map[string]Use{"01:00.0": ignored}}, []GPU{a, b}, map[string]string{"GPU-b": "shared"}, ""},
		{"UUID before index", Config{Use: shared, GPUs: map[string]Use{"0": ignored, "GPU-a": whole}}, []GPU{a}, map[string]string{"GPU-a": "whole"}, ""},
		{"no such GPU", Config{Use: whole, GPUs: map[string]Use{"7": shared}}, []GPU{a}, map[string]string{"GPU-a": "whole"}, `gpu "7": this node has no such GPU`},
		{"instances are whole", Config{Use: shared}, []GPU{cut, part}, map[string]string{"MIG-c": "whole"}, ""},
		{"a cut GPU is not shared", Config{Use: whole, GPUs: map[string]Use{"2": shared}}, []GPU{cut, part}, map[string]string{"MIG-c": "whole"}, "cut into MIG"},
		{"an instance is not shared", Config{Use: whole, GPUs: map[string]Use{"MIG-c": shared}}, []GPU{cut, part}, map[string]string{"MIG-c": "whole"}, "is a MIG instance"},
		{"an instance is ignored", Config{Use: whole, GPUs: map[string]Use{"MIG-c": ignored}}, []GPU{cut, part}, map[string]string{}, ""},
		{"a cut GPU is ignored", Config{Use: whole, GPUs: map[string]Use{"2": ignored}}, []GPU{a, cut, part}, map[string]string{"GPU-a": "whole"}, ""},
		{"all of it but one", Config{Use: whole, GPUs: map[string]Use{"2": ignored, "MIG-c": whole}}, []GPU{cut, part}, map[string]string{"MIG-c": "whole"}, ""},
		{"too many", Config{Use: whole}, []GPU{a, {UUID: "z", Index: 64}}, map[string]string{"GPU-a": "whole"}, "at most 64"},
		{
			"make-believe",
			Config{Use: whole, Pretences: []Pretence{{Model: "T4", Use: shared}}},
			[]GPU{a, {UUID: "p", Index: 1, Model: "T4", MakeBelieve: true}, {UUID: "t", Index: 2, Model: "T4"}},
			map[string]string{"GPU-a": "whole", "p": "shared", "t": "whole"},
			"",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			devices, problems := Assign(test.c, test.gpus)
			got := map[string]string{}
			for _, d := range devices {
				got[d.GPU.UUID] = d.Use.Mode
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			all := strings.Join(problems, "\n")
			if (test.problem == "") != (all == "") || !strings.Contains(all, test.problem) {
				t.Errorf("got problems %q, want %q", all, test.problem)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	gpu := GPU{
		UUID: "GPU-a", Index: 1, Model: "NVIDIA H100", PCI: "00000000:01:00.0", MemoryMiB: 81559, BAR1MiB: 131072, PowerW: 700,
		CoresClockMHz: 1980, MemoryClockMHz: 2619, PCIBandwidthMBps: 63008, DriverVersion: "550.1", DisplayState: "Disabled", PersistenceMode: "Enabled",
	}
	twin := GPU{UUID: "GPU-b", Index: 2, Model: "NVIDIA H100", Trouble: "XID 79"}
	whole := Use{Mode: ModeWhole}
	own := map[string]Attribute{
		"model": {Value: "NVIDIA H100"}, "memory": {int64(81559), "MiB"}, "bar1": {int64(131072), "MiB"}, "power": {int64(700), "W"},
		"cores_clock": {int64(1980), "MHz"}, "memory_clock": {int64(2619), "MHz"}, "pci_bandwidth": {int64(63008), "MB/s"},
		"driver_version": {Value: "550.1"}, "display_state": {Value: "Disabled"}, "persistence_mode": {Value: "Enabled"},
	}
	got := Groups([]Device{{GPU: gpu, Use: whole}, {GPU: twin, Use: whole, Trouble: "XID 79"}})
	want := []Group{{
		Type: "gpu", Name: "NVIDIA H100", Attributes: own,
		Instances: []Instance{{ID: "GPU-a", PCI: "00000000:01:00.0"}, {ID: "GPU-b", Trouble: "XID 79"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	got = Groups([]Device{{GPU: gpu, Use: Use{Mode: ModeShared, Slices: 2, Sharing: SharingMPS}}})
	own["gpu_index"], own["slices"], own["sharing"], own["unique.uuid"] = Attribute{Value: int64(1)}, Attribute{Value: int64(2)}, Attribute{Value: "mps"}, Attribute{Value: "GPU-a"}
	want = []Group{{
		Type: "gpu-share", Name: "NVIDIA H100/gpu1", Attributes: own,
		Instances: []Instance{{ID: "GPU-a::00", PCI: "00000000:01:00.0"}, {ID: "GPU-a::01", PCI: "00000000:01:00.0"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGroupsOfUnlikeKinds(t *testing.T) {
	t.Parallel()
	whole := Use{Mode: ModeWhole}
	groups := Groups([]Device{
		{GPU: GPU{UUID: "a", Model: "H200"}, Use: whole},
		{GPU: GPU{UUID: "b", Model: "H200", MakeBelieve: true}, Use: whole},
		{GPU: GPU{UUID: "c", Model: "T4", MakeBelieve: true}, Use: whole},
		{GPU: GPU{UUID: "m", Model: "A100", MIG: "1g.10gb"}, Use: whole},
		{GPU: GPU{UUID: "n", Model: "A100", MIG: "1g.10gb"}, Use: whole},
	})
	var got []string
	for _, g := range groups {
		for _, i := range g.Instances {
			got = append(got, g.Name+": "+i.ID)
		}
	}
	want := []string{"H200: a", "H200 (make-believe): b", "T4: c", "A100 MIG 1g.10gb: m", "A100 MIG 1g.10gb: n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if groups[1].Attributes[AttrMakeBelieve].Value != true || groups[0].Attributes[AttrMakeBelieve].Value != nil {
		t.Error("make_believe is of those that there are not")
	}
}

func TestHoldBack(t *testing.T) {
	t.Parallel()
	device := func(mode string, n int) []Device {
		return []Device{{GPU: GPU{UUID: "a"}, Use: Use{Mode: mode, Slices: n}}}
	}
	was := Announced{Boot: "1", GPUs: map[string]Shape{"a": {Mode: ModeShared, Slices: 8}, "b": {Mode: ModeWhole}}}
	for _, test := range []struct {
		name   string
		before Announced
		boot   string
		now    []Device
		held   string
		after  Shape
	}{
		{"new", Announced{}, "1", device(ModeShared, 4), "", Shape{ModeShared, 4}},
		{"the same", was, "1", device(ModeShared, 8), "", Shape{ModeShared, 8}},
		{"other slices", was, "1", device(ModeShared, 4), "changed from 8 slices to 4 slices", Shape{ModeShared, 8}},
		{"whole", was, "1", device(ModeWhole, 8), "changed from 8 slices to one whole GPU", Shape{ModeShared, 8}},
		{"after a boot", was, "2", device(ModeShared, 4), "", Shape{ModeShared, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			after, devices := HoldBack(test.before, test.boot, "/run/announced.json", test.now)
			if !strings.HasPrefix(devices[0].Trouble, test.held) || (test.held == "") != (devices[0].Trouble == "") {
				t.Errorf("got %q, want %q", devices[0].Trouble, test.held)
			}
			if test.held != "" && !strings.Contains(devices[0].Trouble, "drain the node, then remove /run/announced.json") {
				t.Errorf("%q does not say what to do", devices[0].Trouble)
			}
			if after.GPUs["a"] != test.after || after.Boot != test.boot {
				t.Errorf("got %+v, want %+v", after, test.after)
			}
			if _, kept := after.GPUs["b"]; test.name == "the same" && !kept {
				t.Error("a GPU that is ignored now is forgotten")
			}
		})
	}
}
