package gpuplugin

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-msgpack/v2/codec"
	goplugin "github.com/hashicorp/go-plugin"
	baseproto "github.com/hashicorp/nomad/plugins/base/proto"
	deviceproto "github.com/hashicorp/nomad/plugins/device/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// buildPlugin builds the program as it is installed.
func buildPlugin(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "serve-nomad-gpu")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/serve-nomad-gpu").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// launched is the program as Nomad has it.
type launched struct {
	client *goplugin.Client
	base   baseproto.BasePluginClient
	device deviceproto.DevicePluginClient
}

func launch(t *testing.T, program string, env ...string) launched {
	t.Helper()
	command := exec.Command(program) // the client ends it
	command.Env = append(os.Environ(), env...)
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  handshake(),
		Plugins:          kinds(nil),
		Cmd:              command,
		SkipHostEnv:      true, // it would come last, and win
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	base, err := rpc.Dispense(kindBase)
	if err != nil {
		t.Fatal(err)
	}
	device, err := rpc.Dispense(kindDevice)
	if err != nil {
		t.Fatal(err)
	}
	return launched{client: client, base: base.(baseproto.BasePluginClient), device: device.(deviceproto.DevicePluginClient)}
}

// testConfig is a configuration as Nomad sends it: what is not set is null.
func testConfig(t *testing.T, stateDir, stateFile string, slicesOfEach int) []byte {
	t.Helper()
	var encoded []byte
	err := codec.NewEncoderBytes(&encoded, &codec.MsgpackHandle{}).Encode(map[string]any{
		"mode": "ignored", "slices": nil, "sharing": nil, "nvidia_runtime": nil,
		"fingerprint_period": "10ms", "state_dir": stateDir, "gpu": map[string]any{},
		"make_believe": map[string]any{"NVIDIA H200": map[string]any{
			"mode": "shared", "slices": slicesOfEach, "sharing": "mps",
			"count": 2, "memory": "141GiB", "seed": "test", "state": stateFile,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// next waits for the fingerprint that a condition holds of.
func next(t *testing.T, s deviceproto.DevicePlugin_FingerprintClient, holds func([]*deviceproto.DeviceGroup) bool) []*deviceproto.DeviceGroup {
	t.Helper()
	for {
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if holds(r.GetDeviceGroup()) {
			return r.GetDeviceGroup()
		}
	}
}

func healthy(g *deviceproto.DeviceGroup) bool {
	return !slices.ContainsFunc(g.GetDevices(), func(d *deviceproto.DetectedDevice) bool { return !d.GetHealthy() })
}

// TestProtocol drives the program as Nomad does.
func TestProtocol(t *testing.T) {
	t.Parallel()
	program, dir := buildPlugin(t), t.TempDir()
	state := filepath.Join(dir, "gpus.json")
	p := launch(t, program)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	info, err := p.base.PluginInfo(ctx, &baseproto.PluginInfoRequest{})
	if err != nil || info.GetName() != "serve-nomad-gpu" || info.GetType() != baseproto.PluginType_DEVICE || !slices.Equal(info.GetPluginApiVersions(), []string{"v0.1.0"}) {
		t.Fatalf("got %v, %v", info, err)
	}
	spec, err := p.base.ConfigSchema(ctx, &baseproto.ConfigSchemaRequest{})
	if err != nil || spec.GetSpec().GetObject().GetAttributes()["gpu"].GetBlockMap().GetLabels() == nil {
		t.Fatalf("got %v, %v", spec, err)
	}
	_, err = p.base.SetConfig(ctx, &baseproto.SetConfigRequest{MsgpackConfig: testConfig(t, dir, state, 49)})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "slices is 49: want a number from 1 to 48") {
		t.Fatalf("got %v", err)
	}
	if _, err = p.base.SetConfig(ctx, &baseproto.SetConfigRequest{MsgpackConfig: testConfig(t, dir, state, 4), PluginApiVersion: apiVersion}); err != nil {
		t.Fatal(err)
	}

	listen, hangUp := context.WithCancel(ctx)
	fingerprints, err := p.device.Fingerprint(listen, &deviceproto.FingerprintRequest{})
	if err != nil {
		t.Fatal(err)
	}
	groups := next(t, fingerprints, func(g []*deviceproto.DeviceGroup) bool { return len(g) == 2 })
	g := groups[1]
	if g.GetVendor() != "nvidia" || g.GetDeviceType() != "gpu-share" || !strings.HasPrefix(g.GetDeviceName(), "NVIDIA H200/gpu") || len(g.GetDevices()) != 4 || !healthy(g) {
		t.Fatalf("got %v", g)
	}
	if memory := g.GetAttributes()["memory"]; memory.GetIntVal() != 141*1024 || memory.GetUnit() != "MiB" {
		t.Errorf("got %v", memory)
	}
	if !g.GetAttributes()["make_believe"].GetBoolVal() || g.GetAttributes()["slices"].GetIntVal() != 4 {
		t.Errorf("got %v", g.GetAttributes())
	}

	ids := []string{g.GetDevices()[1].GetID(), g.GetDevices()[3].GetID()}
	reserved, err := p.device.Reserve(ctx, &deviceproto.ReserveRequest{DeviceIds: ids})
	if env := reserved.GetContainerRes().GetEnvs(); err != nil || env["SERVE_GPU_SHARE"] != "0.5" || env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] != "50" || env["SERVE_GPU_MAKE_BELIEVE"] != "1" {
		t.Errorf("got %v, %v", reserved, err)
	}

	// Lost, and back.
	writeState(t, state, `{"1": {"lost": true}}`)
	groups = next(t, fingerprints, func(g []*deviceproto.DeviceGroup) bool { return len(g) == 2 && !healthy(g[1]) })
	if !healthy(groups[0]) || len(groups[1].GetDevices()) != 4 || !strings.Contains(groups[1].GetDevices()[0].GetHealthDescription(), "lost") {
		t.Errorf("got %v", groups)
	}
	if _, err = p.device.Reserve(ctx, &deviceproto.ReserveRequest{DeviceIds: ids}); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("got %v", err)
	}
	writeState(t, state, `{}`)
	next(t, fingerprints, func(g []*deviceproto.DeviceGroup) bool { return len(g) == 2 && healthy(g[1]) })

	// Somebody else listens.
	hangUp()
	again, err := p.device.Fingerprint(ctx, &deviceproto.FingerprintRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next(t, again, func(g []*deviceproto.DeviceGroup) bool { return len(g) == 2 })

	stats, err := p.device.Stats(ctx, &deviceproto.StatsRequest{CollectionInterval: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r, err := stats.Recv()
		if err != nil || len(r.GetGroups()) != 2 || len(r.GetGroups()[0].GetInstanceStats()) != 1 {
			t.Fatalf("got %v, %v", r, err)
		}
	}
	p.client.Kill()
	if !p.client.Exited() {
		t.Error("it goes on")
	}

	// As after a crash: what a task holds is found by its ids.
	p = launch(t, program)
	if _, err = p.base.SetConfig(ctx, &baseproto.SetConfigRequest{MsgpackConfig: testConfig(t, dir, state, 4)}); err != nil {
		t.Fatal(err)
	}
	if _, err = p.device.Reserve(ctx, &deviceproto.ReserveRequest{DeviceIds: ids}); err != nil {
		t.Error(err)
	}
}

// writeState replaces the file as a whole: the plugin reads it all the time.
func writeState(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutConfig holds that Nomad's empty configuration is the default one.
func TestWithoutConfig(t *testing.T) {
	t.Parallel()
	if s, err := decode(nil); err != nil || s.Slices != nil {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := decode([]byte("rubbish")); err == nil {
		t.Error("rubbish was read")
	}
}
