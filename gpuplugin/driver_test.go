//go:build cgo && linux

package gpuplugin

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	baseproto "github.com/hashicorp/nomad/plugins/base/proto"
	deviceproto "github.com/hashicorp/nomad/plugins/device/proto"
)

// mpsScript stands for nvidia-cuda-mps-control: its daemon is a file.
const mpsScript = `#!/bin/sh
if [ "$1" = -d ]; then echo "$CUDA_VISIBLE_DEVICES" >> "$CUDA_MPS_PIPE_DIRECTORY/up"; exit; fi
read command; [ -e "$CUDA_MPS_PIPE_DIRECTORY/up" ]
`

// TestDriverLibrary runs the program as it is installed with a stand-in for the
// driver's library, which it loads as it loads the driver's own.
func TestDriverLibrary(t *testing.T) {
	t.Parallel()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no C compiler")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "testdata/nvml.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err = os.WriteFile(filepath.Join(dir, "nvidia-cuda-mps-control"), []byte(mpsScript), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := launch(t, buildPlugin(t), "LD_LIBRARY_PATH="+dir, "FAKE_NVML="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
	if _, err = p.base.SetConfig(ctx, &baseproto.SetConfigRequest{MsgpackConfig: driverConfig(t, dir)}); err != nil {
		t.Fatal(err)
	}
	stream, err := p.device.Fingerprint(ctx, &deviceproto.FingerprintRequest{})
	if err != nil {
		t.Fatal(err)
	}
	groups := next(t, stream, func(g []*deviceproto.DeviceGroup) bool { return len(g) == 2 })
	shared, whole := groups[0], groups[1]
	if shared.GetDeviceName() != "NVIDIA H100 80GB HBM3/gpu0" || len(shared.GetDevices()) != 8 || !healthy(shared) {
		t.Errorf("got %v", shared)
	}
	if whole.GetDeviceName() != "NVIDIA H100 80GB HBM3" || whole.GetDevices()[0].GetID() != "GPU-bbbb" || whole.GetDevices()[0].GetHwLocality().GetPciBusId() != "00000000:20:00.0" {
		t.Errorf("got %v", whole)
	}
	pipe := filepath.Join(dir, "state", "mps", "GPU-aaaa", "pipe")
	if started, err := os.ReadFile(filepath.Join(pipe, "up")); err != nil || string(started) != "GPU-aaaa\n" {
		t.Errorf("its daemon was started for %q, %v", started, err)
	}
	r, err := p.device.Reserve(ctx, &deviceproto.ReserveRequest{DeviceIds: []string{"GPU-aaaa::00", "GPU-aaaa::05"}})
	if mounts := r.GetContainerRes().GetMounts(); err != nil || len(mounts) != 1 || mounts[0].GetHostPath() != pipe || r.GetContainerRes().GetEnvs()["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] != "0=20389M" {
		t.Errorf("got %v, %v", r, err)
	}

	// The reasons for which a GPU is not healthy, by the group that it is in.
	trouble := func(file, text string, group int, want string) {
		t.Helper()
		writeState(t, filepath.Join(dir, file), text)
		next(t, stream, func(g []*deviceproto.DeviceGroup) bool {
			return strings.Contains(g[group].GetDevices()[0].GetHealthDescription(), want)
		})
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	trouble("ecc", "", 0, "2 uncorrected memory errors")
	next(t, stream, func(g []*deviceproto.DeviceGroup) bool { return healthy(g[0]) })
	trouble("lost", "", 1, "GPU is lost")
	next(t, stream, func(g []*deviceproto.DeviceGroup) bool { return healthy(g[1]) })
	trouble("xid", "79", 1, "XID 79")
	trouble("gone", "", 0, "not loaded")
	next(t, stream, func(g []*deviceproto.DeviceGroup) bool { return healthy(g[0]) && healthy(g[1]) }) // loaded anew
}

// driverConfig shares one GPU by MPS and leaves the other whole.
func driverConfig(t *testing.T, dir string) (encoded []byte) {
	t.Helper()
	err := codec.NewEncoderBytes(&encoded, &codec.MsgpackHandle{}).Encode(map[string]any{
		"mode": "shared", "sharing": "mps", "fingerprint_period": "20ms", "state_dir": filepath.Join(dir, "state"),
		"gpu": map[string]any{"20:00.0": map[string]any{"mode": "whole", "slices": nil, "sharing": nil}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
