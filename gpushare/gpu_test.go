package gpushare

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamed(t *testing.T) {
	t.Parallel()
	gpu := GPU{UUID: "GPU-aa", Index: 1, PCI: "00000000:3B:00.0"}
	mig := GPU{UUID: "MIG-aa", Index: 1, PCI: "00000000:3B:00.0", MIG: "1g.10gb", Parent: "GPU-aa"}
	for label, want := range map[string]bool{
		"1": true, "0": false, "GPU-aa": true, "gpu-AA": true, "GPU-bb": false,
		"00000000:3b:00.0": true, "0000:3B:00.0": true, "3b:00.0": true, "3c:00.0": false, "0001:3b:00.0": false, "": false,
	} {
		if gpu.Named(label) != want {
			t.Errorf("%q: want %v", label, want)
		}
	}
	for label, want := range map[string]bool{"MIG-aa": true, "1": false, "3b:00.0": false} {
		if mig.Named(label) != want {
			t.Errorf("instance, %q: want %v", label, want)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := GPU{UUID: "a", Index: 0}, GPU{UUID: "b", Index: 1}
	pretence := GPU{UUID: "p", Index: 2, MakeBelieve: true}
	inTrouble := func(g GPU, why string) GPU { g.Trouble = why; return g }
	at := func(g GPU, index int) GPU { g.Index = index; return g }
	part := GPU{UUID: "m", Index: 2, MIG: "1g", Parent: "a"}
	for _, test := range []struct {
		name  string
		known []GPU
		seen  Sight
		want  []GPU
	}{
		{"nothing", nil, Sight{}, nil},
		{"first look", nil, Sight{GPUs: []GPU{b, a}}, []GPU{a, b}},
		{"one is lost", []GPU{a, b}, Sight{GPUs: []GPU{b}}, []GPU{inTrouble(a, "the driver no longer lists it"), b}},
		{
			"one fails",
			[]GPU{a, b},
			Sight{GPUs: []GPU{b}, Failed: map[int]string{0: "fell off"}},
			[]GPU{inTrouble(a, "the driver no longer reaches it: fell off"), b},
		},
		{"one comes back", []GPU{inTrouble(a, "gone"), b}, Sight{GPUs: []GPU{a, b}}, []GPU{a, b}},
		{"the driver goes", []GPU{a, pretence}, Sight{Absent: "gone", GPUs: []GPU{pretence}}, []GPU{inTrouble(a, "the NVIDIA driver does not answer: gone"), pretence}},
		{"indices move", []GPU{a, b}, Sight{GPUs: []GPU{at(b, 0)}}, []GPU{inTrouble(a, "the driver no longer lists it"), b}},
		{"a new one finds its index taken", []GPU{a, pretence}, Sight{GPUs: []GPU{a, at(b, 2), pretence}}, []GPU{a, pretence, at(b, 3)}},
		{"one UUID twice", nil, Sight{GPUs: []GPU{a, at(a, 1), {Index: 2}}}, []GPU{a}},
		{"cut anew", []GPU{a, part}, Sight{GPUs: []GPU{a}}, []GPU{a}},
		{"a part of a lost one", []GPU{a, part}, Sight{}, []GPU{inTrouble(a, "the driver no longer lists it"), inTrouble(part, "the driver no longer lists it")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, Merge(test.known, test.seen)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPretend(t *testing.T) {
	t.Parallel()
	p := Pretence{Model: "NVIDIA H200", Count: 3, MemoryMiB: 1024, Seed: "node-1"}
	gpus := Pretend(p, 2, map[string]Happening{"0": {Lost: true}, "2": {Unhealthy: "XID 79"}, "9": {Lost: true}})
	if len(gpus) != 3 || gpus[0].Index != 2 || gpus[2].Index != 4 {
		t.Fatalf("got %+v", gpus)
	}
	if gpus[0].Trouble == "" || gpus[1].Trouble != "" || gpus[2].Trouble != "XID 79" {
		t.Errorf("got troubles %q, %q, %q", gpus[0].Trouble, gpus[1].Trouble, gpus[2].Trouble)
	}
	if !strings.HasPrefix(gpus[0].UUID, "GPU-make-believe-") || gpus[0].UUID == gpus[1].UUID {
		t.Errorf("got UUIDs %s, %s", gpus[0].UUID, gpus[1].UUID)
	}
	if again := Pretend(p, 0, nil); again[0].UUID != gpus[0].UUID {
		t.Error("a UUID depends on more than its seed")
	}
	p.Seed = "node-2"
	if other := Pretend(p, 2, nil); other[0].UUID == gpus[0].UUID {
		t.Error("two nodes have one UUID")
	}
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	if XIDTrouble(31) != "" || !strings.Contains(XIDTrouble(79), "XID 79") {
		t.Error("a program's fault is none of the GPU, and 79 is")
	}
	if ECCTrouble(0) != "" || !strings.Contains(ECCTrouble(2), "2 uncorrected") {
		t.Error("uncorrected errors are trouble")
	}
}
