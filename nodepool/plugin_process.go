package nodepool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errPluginDied says that the process of a plugin ended while it was called.
var errPluginDied = errors.New("its process ended during the call")

// pluginProcess is a plugin that runs, set up for one worker group.
type pluginProcess struct {
	plugin   string
	settings map[string]string // without what each process is given anew
	config   map[string]string // what it was set up with, and is told with each call
	sockets  string            // folder of its socket, which nobody else may enter

	client *goplugin.Client
	conn   *grpc.ClientConn
	life   context.Context // ends with the process
	kill   context.CancelFunc
	end    func() // kills it and cleans up; once
}

// startPlugin starts a plugin and sets it up with settings and the Nomad that it
// is to see. It takes no longer than ctx.
func startPlugin(ctx context.Context, dir, plugin string, settings map[string]string, view *nomadView, log hclog.Logger) (*pluginProcess, error) {
	path, err := pluginPath(dir, plugin)
	if err != nil {
		return nil, err
	}
	p := &pluginProcess{plugin: plugin, settings: settings, config: maps.Clone(settings)}
	p.config["nomad_address"], p.config["nomad_token"] = view.address, view.secret
	p.end = sync.OnceFunc(p.clean)
	p.life, p.kill = context.WithCancel(context.Background())
	if err = p.start(ctx, path, log); err != nil {
		p.end()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start plugin %s: it was not set up in time: %w", plugin, ctx.Err())
		}
		return nil, fmt.Errorf("start plugin %s: %w", plugin, err)
	}
	return p, nil
}

func (p *pluginProcess) start(ctx context.Context, path string, log hclog.Logger) (err error) {
	if p.sockets, err = os.MkdirTemp("", "serve-nomad-plugin-"); err != nil {
		return err
	}
	command := exec.CommandContext(p.life, path)
	command.Env = append(pluginEnv(os.Environ()), goplugin.EnvUnixSocketDir+"="+p.sockets)
	command.SysProcAttr = endsWithUs()
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  pluginHandshake(),
		Plugins:          goplugin.PluginSet{pluginKind: targetPlugin{}},
		Cmd:              command,
		SkipHostEnv:      true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Logger:           log,
	})
	defer context.AfterFunc(ctx, p.kill)()
	rpc, err := p.client.Client()
	if err != nil {
		return err
	}
	conn, err := rpc.Dispense(pluginKind)
	if err != nil {
		return err
	}
	p.conn, _ = conn.(*grpc.ClientConn) // of targetPlugin
	return p.setUp(ctx)
}

// setUp checks that it is a target plugin and gives it its configuration.
func (p *pluginProcess) setUp(ctx context.Context) error {
	reply, err := p.invoke(ctx, pluginInfoMethod, nil)
	if err != nil {
		return fmt.Errorf("ask what it is: %w", err)
	}
	name, kind, err := decodeInfo(reply)
	if err != nil {
		return err
	}
	if kind != pluginTypeTarget {
		return fmt.Errorf("%q is a plugin of another type: want one of a target", name)
	}
	if _, err = p.invoke(ctx, pluginSetConfigMethod, encodeConfig(p.config)); err != nil {
		return fmt.Errorf("it does not take its configuration (block target, config): %w", err)
	}
	return nil
}

// invoke makes one call. A plugin does not hear of the end of ctx: it goes on
// with what it was asked.
func (p *pluginProcess) invoke(ctx context.Context, method string, request []byte) (reply []byte, err error) {
	err = p.conn.Invoke(ctx, method, request, &reply, grpc.ForceCodec(wireCodec{}))
	code := status.Code(err)
	switch {
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case code == codes.DeadlineExceeded || code == codes.Canceled: // the plugin's side saw the deadline first
		return nil, context.DeadlineExceeded
	case code == codes.Unavailable || p.client.Exited():
		return nil, errPluginDied
	}
	return nil, errors.New(status.Convert(err).Message())
}

func (p *pluginProcess) alive() bool { return p.life.Err() == nil && !p.client.Exited() }

// clean does not ask a plugin to leave: it may hang, and it keeps nothing.
func (p *pluginProcess) clean() {
	p.kill()
	if p.client != nil {
		p.client.Kill()
	}
	if p.sockets != "" {
		os.RemoveAll(p.sockets) //nolint:errcheck // an empty folder that stays does no harm
	}
}

// pluginPath is where a plugin is. Its name comes from a user, who is not to
// choose another folder with it.
func pluginPath(dir, plugin string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("%w: the servers have no folder of plugins: nodes.plugin_dir in their configuration names it", ErrNotSupported)
	}
	if plugin == "" || plugin != filepath.Base(plugin) || plugin == "." || plugin == ".." {
		return "", fmt.Errorf("%q is no name of a plugin: want that of a file in %s", plugin, dir)
	}
	path, err := filepath.Abs(filepath.Join(dir, plugin))
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("there is no plugin %q: put its program there on every server: %w", plugin, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("plugin %q: %s is no program", plugin, path)
	}
	return path, nil
}

// pluginEnv is the environment of a plugin: this server's, where clouds' own
// credentials may be, without the secrets that give access to Nomad, Consul and
// serve-nomad. The allocation that this server runs in stays: a plugin spares
// the node that it is on.
func pluginEnv(env []string) (kept []string) {
	for _, variable := range env {
		name, _, _ := strings.Cut(variable, "=")
		private := strings.HasPrefix(name, "NOMAD_") || strings.HasPrefix(name, "CONSUL_") || strings.HasPrefix(name, "SERVE_NOMAD_")
		if !private || name == "NOMAD_ALLOC_ID" {
			kept = append(kept, variable)
		}
	}
	return kept
}
