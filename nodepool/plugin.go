package nodepool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// PluginConfig says where the target plugins of the Nomad Autoscaler are, and
// how their removals find a node in Nomad.
type PluginConfig struct {
	Dir          string       // folder of their programs, each named as worker groups name it
	NomadAddress string       // "http://127.0.0.1:4646"
	NomadToken   string       // "": none; it must be allowed to read nodes
	NomadRegion  string       // "": the agent's own
	NomadHTTP    *http.Client // for TLS; nil: Go's default client
}

// How long things may take.
const (
	pluginStartLimit  = 30 * time.Second // until a plugin is set up; that may ask its cloud for a token
	pluginStatusLimit = time.Minute
	pluginScaleLimit  = 15 * time.Minute // a plugin may wait for its cloud
	pluginIdleLimit   = time.Hour        // after which a plugin that nobody asks is ended: longer than any call
)

// pluginTarget makes and removes nodes by target plugins of the Nomad Autoscaler.
// Such a plugin knows one number, how many nodes its group is to have, so that
// Machine.Wanted has to count every machine of the group that is not yet removed.
type pluginTarget struct {
	cfg    PluginConfig
	log    hclog.Logger
	limits pluginLimits

	mu     sync.Mutex
	groups map[string]*pluginGroup // worker group -> its plugin
	closed bool
}

type pluginLimits struct {
	start, status, scale, idle time.Duration
}

var (
	_ Target = (*pluginTarget)(nil)

	errClosed = errors.New("the server is stopping")
)

func newPlugin(cfg PluginConfig, log hclog.Logger) *pluginTarget {
	return &pluginTarget{
		cfg: cfg, log: log, groups: map[string]*pluginGroup{},
		limits: pluginLimits{start: pluginStartLimit, status: pluginStatusLimit, scale: pluginScaleLimit, idle: pluginIdleLimit},
	}
}

// Launch has the group's plugin count up to m.Wanted, if it is below. It cannot
// name the machine that comes of it.
func (t *pluginTarget) Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (string, error) {
	g, err := t.group(b.Group)
	if err != nil {
		return "", err
	}
	if m.Wanted < 1 || m.Wanted > maxPluginCount {
		return "", fmt.Errorf("plugin %s: worker group %s cannot be brought to %d nodes", b.Plugin, b.Group, m.Wanted)
	}
	return "", g.launch(ctx, b, m.Wanted)
}

// Remove removes the machine of one drained Nomad node, and no other.
func (t *pluginTarget) Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	g, err := t.group(b.Group)
	if err != nil {
		return err
	}
	return g.remove(ctx, b, m)
}

// List returns the count that the group's plugin tells.
func (t *pluginTarget) List(ctx context.Context, b nodescale.Blueprint) (nodescale.Listing, error) {
	g, err := t.group(b.Group)
	if err != nil {
		return nodescale.Listing{}, err
	}
	s, err := g.status(ctx, b)
	if err != nil {
		return nodescale.Listing{}, err
	}
	if !s.known() {
		return nodescale.Listing{}, fmt.Errorf("plugin %s: its group is not ready, and it does not tell how many nodes that has", b.Plugin)
	}
	return nodescale.Listing{Count: s.count, Counted: true}, nil
}

// Close ends every plugin. Calls that are under way fail.
func (t *pluginTarget) Close() error {
	t.mu.Lock()
	t.closed = true
	groups := t.groups
	t.groups = map[string]*pluginGroup{}
	t.mu.Unlock()
	for _, g := range groups {
		g.close()
	}
	return nil
}

func (t *pluginTarget) group(name string) (*pluginGroup, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	if g := t.groups[name]; g != nil {
		return g, nil
	}
	g, err := newPluginGroup(t.cfg, t.limits, t.log.With("worker_group", name))
	if err != nil {
		return nil, err
	}
	t.groups[name] = g
	return g, nil
}
