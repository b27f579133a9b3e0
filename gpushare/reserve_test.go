package gpushare

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReserve(t *testing.T) {
	t.Parallel()
	eight := Use{Mode: ModeShared, Slices: 8, Sharing: SharingTimeSlice}
	mps := Use{Mode: ModeShared, Slices: 8, Sharing: SharingMPS}
	whole := Use{Mode: ModeWhole, Slices: 8, Sharing: SharingMPS}
	devices := []Device{
		{GPU: GPU{UUID: "GPU-0", Index: 0, Minor: 3, MemoryMiB: 80000}, Use: eight},
		{GPU: GPU{UUID: "GPU-1", Index: 1, Minor: 1, MemoryMiB: 80000}, Use: mps},
		{GPU: GPU{UUID: "GPU-2", Index: 2, Minor: 2, MemoryMiB: 40000}, Use: whole},
		{GPU: GPU{UUID: "GPU-3", Index: 3, Minor: 0, MemoryMiB: 80000}, Use: whole},
		{GPU: GPU{UUID: "GPU-4", Index: 4, Minor: -1, MemoryMiB: 80000, MakeBelieve: true}, Use: mps},
		{GPU: GPU{UUID: "GPU-5", Index: 5}, Use: eight, Trouble: "XID 79"},
		{GPU: GPU{UUID: "MIG-6", Index: 6, Minor: 4, MemoryMiB: 10000, MIG: "1g.10gb"}, Use: whole},
		{GPU: GPU{UUID: "GPU-7", Index: 7, MemoryMiB: 1000, MakeBelieve: true}, Use: Use{Mode: ModeShared, Slices: 48, Sharing: SharingMPS}},
	}
	nodes := func(list ...string) []string {
		return append([]string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}, list...)
	}
	pipe := "/run/x/mps/GPU-1/pipe"
	for _, test := range []struct {
		name    string
		runtime bool
		ids     []string
		want    Reservation
		err     string
	}{
		{name: "a quarter", ids: []string{"GPU-0::03", "GPU-0::07"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-0", "SERVE_GPU_0": "GPU-0", "SERVE_GPU_SHARE": "0.25", "SERVE_GPU_MEMORY_MB": "20000", "SERVE_GPU_SHARING": "time-slice",
		}, Nodes: nodes("/dev/nvidia3")}},
		{name: "with Docker's runtime", runtime: true, ids: []string{"GPU-0::00"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-0", "SERVE_GPU_0": "GPU-0", "SERVE_GPU_SHARE": "0.125", "SERVE_GPU_MEMORY_MB": "10000", "SERVE_GPU_SHARING": "time-slice",
			"NVIDIA_VISIBLE_DEVICES": "GPU-0",
		}}},
		{name: "MPS", ids: []string{"GPU-1::00", "GPU-1::01", "GPU-1::02"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-1", "SERVE_GPU_1": "GPU-1", "SERVE_GPU_SHARE": "0.375", "SERVE_GPU_MEMORY_MB": "30000", "SERVE_GPU_SHARING": "mps",
			"CUDA_MPS_PIPE_DIRECTORY": pipe, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "37", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=30000M",
		}, Mounts: []string{pipe}, Nodes: nodes("/dev/nvidia1")}},
		{name: "make-believe MPS", runtime: true, ids: slicesOf("GPU-4", 8), want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-4", "SERVE_GPU_4": "GPU-4", "SERVE_GPU_SHARE": "1", "SERVE_GPU_MEMORY_MB": "80000", "SERVE_GPU_SHARING": "mps", "SERVE_GPU_MAKE_BELIEVE": "1",
			"CUDA_MPS_PIPE_DIRECTORY": "/run/x/mps/GPU-4/pipe", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=80000M",
		}}},
		{name: "a slice of 48", ids: []string{"GPU-7::47"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-7", "SERVE_GPU_7": "GPU-7", "SERVE_GPU_SHARE": "0.020833", "SERVE_GPU_MEMORY_MB": "20", "SERVE_GPU_SHARING": "mps", "SERVE_GPU_MAKE_BELIEVE": "1",
			"CUDA_MPS_PIPE_DIRECTORY": "/run/x/mps/GPU-7/pipe", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "2", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20M",
		}}},
		{name: "two whole ones", ids: []string{"GPU-3", "GPU-2"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-2,GPU-3", "SERVE_GPU_2": "GPU-2", "SERVE_GPU_3": "GPU-3", "SERVE_GPU_SHARE": "1", "SERVE_GPU_MEMORY_MB": "40000",
		}, Nodes: nodes("/dev/nvidia0", "/dev/nvidia2")}},
		{name: "a MIG instance", ids: []string{"MIG-6"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "MIG-6", "SERVE_GPU_6": "MIG-6", "SERVE_GPU_SHARE": "1", "SERVE_GPU_MEMORY_MB": "10000",
		}, Nodes: nodes("/dev/nvidia4")}},
		{name: "one id twice", ids: []string{"GPU-0::03", "GPU-0::03"}, want: Reservation{Env: map[string]string{
			"CUDA_VISIBLE_DEVICES": "GPU-0", "SERVE_GPU_0": "GPU-0", "SERVE_GPU_SHARE": "0.125", "SERVE_GPU_MEMORY_MB": "10000", "SERVE_GPU_SHARING": "time-slice",
		}, Nodes: nodes("/dev/nvidia3")}},
		{name: "nothing", err: "no device ids"},
		{name: "unknown", ids: []string{"GPU-9::00"}, err: `no device "GPU-9::00"`},
		{name: "a slice too high", ids: []string{"GPU-0::08"}, err: `no device "GPU-0::08"`},
		{name: "a whole one by a slice", ids: []string{"GPU-2::00"}, err: `no device "GPU-2::00"`},
		{name: "a shared one as a whole", ids: []string{"GPU-0"}, err: `no device "GPU-0"`},
		{name: "unhealthy", ids: []string{"GPU-5::00"}, err: "XID 79"},
		{name: "two daemons", ids: []string{"GPU-1::00", "GPU-4::00"}, err: "one such GPU only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Reserve(Config{StateDir: "/run/x", NvidiaRuntime: test.runtime}, devices, test.ids)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %v, want an error that says %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func slicesOf(uuid string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, SliceID(uuid, i))
	}
	return ids
}

func TestDaemons(t *testing.T) {
	t.Parallel()
	mps := Use{Mode: ModeShared, Slices: 8, Sharing: SharingMPS}
	got := Daemons("/run/x", []Device{
		{GPU: GPU{UUID: "a"}, Use: mps},
		{GPU: GPU{UUID: "held"}, Use: mps, Trouble: "shared in another way before"},
		{GPU: GPU{UUID: "lost", Trouble: "gone"}, Use: mps, Trouble: "gone"},
		{GPU: GPU{UUID: "none", MakeBelieve: true}, Use: mps},
		{GPU: GPU{UUID: "slice"}, Use: Use{Mode: ModeShared, Slices: 8, Sharing: SharingTimeSlice}},
		{GPU: GPU{UUID: "whole"}, Use: Use{Mode: ModeWhole, Sharing: SharingMPS}},
	})
	want := []Daemon{
		{UUID: "a", Pipe: "/run/x/mps/a/pipe", Log: "/run/x/mps/a/log"},
		{UUID: "held", Pipe: "/run/x/mps/held/pipe", Log: "/run/x/mps/held/log"}, // tasks may be attached to it
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
