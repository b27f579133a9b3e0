package gpushare

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// drawGPUs draws what a look may see, with all that a driver may get wrong.
func drawGPUs(t *rapid.T) (gpus []GPU) {
	models := []string{"H100", "T4", "T4/gpu1"}
	for i := range rapid.IntRange(0, 8).Draw(t, "gpus") {
		gpu := GPU{
			UUID:        fmt.Sprintf("GPU-%d", rapid.IntRange(0, 9).Draw(t, "uuid")),
			Index:       rapid.SampledFrom([]int{i, i, i, 0, 63, 70}).Draw(t, "index"),
			Minor:       i,
			Model:       rapid.SampledFrom(models).Draw(t, "model"),
			MemoryMiB:   uint64(rapid.IntRange(0, 1<<20).Draw(t, "memory")),
			Cut:         rapid.IntRange(0, 5).Draw(t, "cut") == 0,
			MakeBelieve: rapid.IntRange(0, 3).Draw(t, "make-believe") == 0,
			Trouble:     rapid.SampledFrom([]string{"", "", "XID 79"}).Draw(t, "trouble"),
		}
		if rapid.IntRange(0, 4).Draw(t, "mig") == 0 {
			gpu.UUID, gpu.MIG, gpu.Cut = "MIG-"+gpu.UUID, "1g", false
		}
		gpus = append(gpus, gpu)
	}
	return gpus
}

func drawUse(t *rapid.T) Use {
	return Use{
		Mode:    rapid.SampledFrom([]string{ModeWhole, ModeShared, ModeShared, ModeIgnored}).Draw(t, "mode"),
		Slices:  rapid.IntRange(1, MaxSlices).Draw(t, "slices"),
		Sharing: rapid.SampledFrom([]string{SharingMPS, SharingTimeSlice}).Draw(t, "sharing"),
	}
}

func drawDevices(t *rapid.T) (Config, []Device) {
	c := Config{Use: drawUse(t), GPUs: map[string]Use{}, StateDir: "/run/x", NvidiaRuntime: rapid.Bool().Draw(t, "runtime")}
	for range rapid.IntRange(0, 3).Draw(t, "blocks") {
		c.GPUs[rapid.SampledFrom([]string{"0", "1", "2", "GPU-3", "GPU-4"}).Draw(t, "label")] = drawUse(t)
	}
	var known []GPU
	for range rapid.IntRange(1, 3).Draw(t, "looks") {
		known = Merge(known, Sight{GPUs: drawGPUs(t)})
	}
	devices, _ := Assign(c, known)
	return c, devices
}

// TestGroupLaws holds what Nomad does not check: it silently makes one of two
// groups of one name, and one of two instances with one id.
func TestGroupLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		_, devices := drawDevices(t)
		names, ids := map[string]bool{}, map[string]bool{}
		total := 0
		for _, g := range Groups(devices) {
			name := g.Type + "/" + g.Name
			if names[name] {
				t.Fatalf("two groups are called %s", name)
			}
			names[name] = true
			if n, shared := g.Attributes[AttrSlices].Value.(int64); shared != (g.Type == ShareType) || (shared && int(n) != len(g.Instances)) {
				t.Fatalf("%s has %d instances and says %d slices", name, len(g.Instances), n)
			}
			for _, i := range g.Instances {
				if ids[i.ID] {
					t.Fatalf("two instances have the id %s", i.ID)
				}
				ids[i.ID] = true
				total++
			}
		}
		want := 0
		for _, d := range devices {
			want += len(d.InstanceIDs())
		}
		if total != want {
			t.Fatalf("%d instances of %d are announced", total, want)
		}
	})
}

// TestReserveLaws holds that whoever gets some slices of a GPU gets that GPU and
// the part of it that he asked for.
func TestReserveLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, devices := drawDevices(t)
		if len(devices) == 0 {
			return
		}
		d := rapid.SampledFrom(devices).Draw(t, "device")
		ids := d.InstanceIDs()
		ids = rapid.Permutation(ids).Draw(t, "order")[:rapid.IntRange(1, len(ids)).Draw(t, "count")]
		r, err := Reserve(c, devices, ids)
		if (err != nil) != (d.Trouble != "") {
			t.Fatalf("a GPU with the trouble %q: %v", d.Trouble, err)
		}
		if err != nil {
			return
		}
		if r.Env[EnvVisible] != d.GPU.UUID || r.Env[EnvGPU+strconv.Itoa(d.GPU.Index)] != d.GPU.UUID {
			t.Fatalf("%v is of GPU %s and gets %v", ids, d.GPU.UUID, r.Env)
		}
		share, err := strconv.ParseFloat(r.Env[EnvShare], 64)
		if err != nil {
			t.Fatal(err)
		}
		if d.Use.Mode == ModeShared {
			if n, ok := count(share, d.Use.Slices); !ok || n != len(ids) {
				t.Fatalf("%d of %d slices are the share %v", len(ids), d.Use.Slices, share)
			}
		}
		_, toRuntime := r.Env[EnvNvidiaVisible]
		if d.GPU.MakeBelieve && (toRuntime || len(r.Nodes)+len(r.Mounts) > 0 || r.Env[EnvMakeBelieve] != "1") {
			t.Fatalf("a GPU that there is not is handed in: %+v", r)
		}
		if toRuntime && len(r.Nodes) > 0 {
			t.Fatalf("it is handed in twice: %+v", r)
		}
	})
}

// count is Slices for a share that was rounded to six digits.
func count(share float64, n int) (int, bool) {
	for k := 1; k <= n; k++ {
		if diff := share - float64(k)/float64(n); diff < 1e-6 && diff > -1e-6 {
			return k, true
		}
	}
	return 0, false
}

// TestMergeLaws holds that no GPU is forgotten, that each keeps its index, and
// that no two have one.
func TestMergeLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var known []GPU
		for range rapid.IntRange(1, 4).Draw(t, "looks") {
			before := known
			known = Merge(before, Sight{GPUs: drawGPUs(t), Absent: rapid.SampledFrom([]string{"", "gone"}).Draw(t, "absent")})
			indices := map[int]bool{}
			for _, g := range known {
				if indices[g.Index] {
					t.Fatalf("index %d is given twice", g.Index)
				}
				indices[g.Index] = true
			}
			for _, old := range before {
				at := slices.IndexFunc(known, func(g GPU) bool { return g.UUID == old.UUID })
				if at < 0 && old.MIG == "" {
					t.Fatalf("%s is forgotten", old.UUID)
				}
				if at >= 0 && known[at].Index != old.Index {
					t.Fatalf("%s had index %d and has %d", old.UUID, old.Index, known[at].Index)
				}
			}
		}
	})
}
