package gpuplugin

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	baseproto "github.com/hashicorp/nomad/plugins/base/proto"
	deviceproto "github.com/hashicorp/nomad/plugins/device/proto"
	"google.golang.org/grpc"

	"github.com/serve-nomad/serve-nomad/gpudevice"
)

// What Nomad and its plugins know each other by.
const (
	protocolVersion = 2
	cookieKey       = "NOMAD_PLUGIN_MAGIC_COOKIE"
	cookieValue     = "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255"

	kindBase   = "base"
	kindDevice = "device"
	apiVersion = "v0.1.0"
)

// Launched tells whether it was Nomad that started this process.
func Launched() bool { return os.Getenv(cookieKey) == cookieValue }

// Serve serves Nomad until it has the plugin end. The version is the program's,
// such as "0.3.0".
func Serve(version string) error {
	if !Launched() {
		return errors.New("it is not Nomad that started this: put the program into Nomad's plugin_dir")
	}
	log := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true}) // Nomad picks by level
	host, err := os.Hostname()
	if err != nil {
		log.Warn("the machine has no name: make-believe GPUs are the same on all of those", "error", err)
	}
	driver := gpudevice.NewDriver(log)
	defer driver.Close()
	go endWithParent(log, os.Getppid, os.Exit)
	p := newPlugin(semantic(version), host, gpudevice.BootID(), driver, gpudevice.NewMPS(log), log)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake(),
		Plugins:         kinds(p),
		GRPCServer:      goplugin.DefaultGRPCServer,
		Logger:          log,
	})
	return nil
}

// semantic is a version as Nomad takes it: it loads no plugin that has another
// kind.
func semantic(version string) string {
	if number := strings.TrimPrefix(version, "v"); number != "" && number[0] >= '0' && number[0] <= '9' {
		return number
	}
	return "0.0.0-dev"
}

func handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{ProtocolVersion: protocolVersion, MagicCookieKey: cookieKey, MagicCookieValue: cookieValue}
}

// kind is one of the services that make a plugin, as go-plugin takes it.
type kind struct {
	goplugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
	client   func(grpc.ClientConnInterface) any
}

func (k kind) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	k.register(s)
	return nil
}

func (k kind) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return k.client(conn), nil
}

// kinds are what every plugin of Nomad's has, and what device plugins have
// beside.
func kinds(p *plugin) goplugin.PluginSet {
	return goplugin.PluginSet{
		kindBase: kind{
			register: func(s *grpc.Server) { baseproto.RegisterBasePluginServer(s, &baseService{p: p}) },
			client:   func(c grpc.ClientConnInterface) any { return baseproto.NewBasePluginClient(c) },
		},
		kindDevice: kind{
			register: func(s *grpc.Server) { deviceproto.RegisterDevicePluginServer(s, &deviceService{p: p}) },
			client:   func(c grpc.ClientConnInterface) any { return deviceproto.NewDevicePluginClient(c) },
		},
	}
}
