package gpushare

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseDefaults(t *testing.T) {
	t.Parallel()
	got, err := Parse(Settings{}, "host")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Use:  Use{Mode: ModeWhole, Slices: 8, Sharing: SharingTimeSlice},
		GPUs: map[string]Use{}, Period: 30 * time.Second, StateDir: "/run/serve-nomad-gpu",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse(Settings{
		Slices: new(4), FingerprintPeriod: "5s", StateDir: "/var/gpu/", NvidiaRuntime: true,
		GPUs: map[string]GPUSettings{
			"0": {Mode: "shared", Slices: new(6), Sharing: "mps"},
			"1": {Sharing: "mps"}, // who says how it is cut wants it shared
			"2": {},
		},
		MakeBelieve: map[string]PretenceSettings{
			"NVIDIA T4":   {Count: new(2), Seed: "s", Mode: "ignored", State: "/s.json"},
			"NVIDIA H200": {Memory: "141GiB", Slices: new(2)},
		},
	}, "host")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Use: Use{Mode: ModeWhole, Slices: 4, Sharing: SharingTimeSlice},
		GPUs: map[string]Use{
			"0": {Mode: ModeShared, Slices: 6, Sharing: SharingMPS},
			"1": {Mode: ModeShared, Slices: 4, Sharing: SharingMPS},
			"2": {Mode: ModeWhole, Slices: 4, Sharing: SharingTimeSlice},
		},
		Pretences: []Pretence{
			{Model: "NVIDIA H200", Use: Use{Mode: ModeShared, Slices: 2, Sharing: SharingTimeSlice}, Count: 1, MemoryMiB: 141 * 1024, Seed: "host"},
			{Model: "NVIDIA T4", Use: Use{Mode: ModeIgnored, Slices: 4, Sharing: SharingTimeSlice}, Count: 2, MemoryMiB: 80 * 1024, Seed: "s", State: "/s.json"},
		},
		NvidiaRuntime: true, Period: 5 * time.Second, StateDir: "/var/gpu",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		s    Settings
		want []string // in the error
	}{
		{"no slices", Settings{Slices: new(0)}, []string{"slices is 0", "from 1 to 48"}},
		{"too many", Settings{Slices: new(49)}, []string{"slices is 49", "from 1 to 48"}},
		{"mode", Settings{Mode: "half"}, []string{`mode is "half"`, `"whole", "shared" or "ignored"`}},
		{"sharing", Settings{Sharing: "mig"}, []string{`sharing is "mig"`, `"time-slice" or "mps"`}},
		{"a GPU's", Settings{GPUs: map[string]GPUSettings{"3": {Slices: new(49)}}}, []string{`gpu "3": slices is 49`}},
		{"no GPU", Settings{GPUs: map[string]GPUSettings{"": {}}}, []string{"UUID or PCI bus id"}},
		{"period", Settings{FingerprintPeriod: "30"}, []string{`fingerprint_period is "30"`, `"30s"`}},
		{"relative", Settings{StateDir: "run"}, []string{`state_dir is "run"`, "absolute"}},
		{"count", Settings{MakeBelieve: map[string]PretenceSettings{"X": {Count: new(65)}}}, []string{`make_believe "X": count is 65`, "0 to 64"}},
		{"memory", Settings{MakeBelieve: map[string]PretenceSettings{"X": {Memory: "much"}}}, []string{`memory is "much"`, "80GiB"}},
		{"state", Settings{MakeBelieve: map[string]PretenceSettings{"X": {State: "s.json"}}}, []string{`state is "s.json"`}},
		{"no model", Settings{MakeBelieve: map[string]PretenceSettings{" ": {}}}, []string{"want the model's name"}},
		{"all at once", Settings{Mode: "a", Slices: new(99)}, []string{"mode is", "slices is"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.s, "host")
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}
