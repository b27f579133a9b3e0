package nodepool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// pluginGroup is one worker group's plugin. Its process starts with the first
// call, and again when it has died, was killed because it hung, or is to have
// another configuration.
type pluginGroup struct {
	dir    string
	nomad  *nomadAPI
	view   *nomadView // what the plugin sees of it
	limits pluginLimits
	log    hclog.Logger

	turn     chan struct{} // held while the count is changed
	scaling  atomic.Bool   // the plugin is changing it
	starting chan struct{} // held while process, used and closed are

	process *pluginProcess
	used    time.Time
	idle    *time.Timer
	closed  bool
	stop    context.Context // ends with close
	cancel  context.CancelFunc

	mu    sync.Mutex
	next  *launchBatch // of launches that wait for their turn
	gone  int          // machines removed so far
	wrong string       // why this plugin is asked to remove nothing more
}

func newPluginGroup(cfg PluginConfig, limits pluginLimits, log hclog.Logger) (*pluginGroup, error) {
	nomad, err := newNomadAPI(cfg)
	if err != nil {
		return nil, err
	}
	view, err := newNomadView(nomad, log)
	if err != nil {
		return nil, err
	}
	g := &pluginGroup{
		dir: cfg.Dir, nomad: nomad, view: view, limits: limits, log: log,
		turn: make(chan struct{}, 1), starting: make(chan struct{}, 1),
	}
	g.stop, g.cancel = context.WithCancel(context.Background())
	return g, nil
}

// running returns the group's plugin, and starts it if needed.
func (g *pluginGroup) running(ctx context.Context, b nodescale.Blueprint) (*pluginProcess, error) {
	if err := lock(ctx, g.starting); err != nil {
		return nil, err
	}
	defer unlock(g.starting)
	if g.closed {
		return nil, errClosed
	}
	settings := pluginSettings(b)
	g.used = time.Now()
	if p := g.process; p != nil {
		if p.alive() && p.plugin == b.Plugin && maps.Equal(p.settings, settings) {
			return p, nil
		}
		p.end()
		g.process = nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.limits.start)
	defer cancel()
	defer context.AfterFunc(g.stop, cancel)()
	g.view.fresh()
	p, err := startPlugin(ctx, g.dir, b.Plugin, settings, g.view, g.log.Named(b.Plugin))
	if err != nil {
		return nil, err
	}
	g.process = p
	if g.idle == nil {
		g.idle = time.AfterFunc(g.limits.idle, g.rest)
	}
	return p, nil
}

// rest ends a plugin that nobody asks any more: its worker group is gone, or
// another server leads now.
func (g *pluginGroup) rest() {
	g.starting <- struct{}{}
	defer unlock(g.starting)
	if g.closed {
		return
	}
	if left := g.limits.idle - time.Since(g.used); left > 0 {
		g.idle.Reset(left)
		return
	}
	g.idle = nil
	if g.process != nil {
		g.process.end()
		g.process = nil
	}
}

func (g *pluginGroup) close() {
	g.cancel()
	g.starting <- struct{}{}
	defer unlock(g.starting)
	g.closed = true
	if g.idle != nil {
		g.idle.Stop()
	}
	if g.process != nil {
		g.process.end()
		g.process = nil
	}
	g.view.close()
}

// status asks for the count. It has no effect, so it is tried again when the
// process has died since the last call.
func (g *pluginGroup) status(ctx context.Context, b nodescale.Blueprint) (pluginStatus, error) {
	reply, err := g.call(ctx, b, pluginStatusMethod, encodeConfig)
	if errors.Is(err, errPluginDied) {
		reply, err = g.call(ctx, b, pluginStatusMethod, encodeConfig)
	}
	if err != nil {
		return pluginStatus{}, fmt.Errorf("ask plugin %s for its count: %w", b.Plugin, err)
	}
	s, err := decodeStatus(reply)
	if err != nil {
		return pluginStatus{}, fmt.Errorf("ask plugin %s for its count: %w", b.Plugin, err)
	}
	return s, nil
}

// scale asks for another count. The caller holds the turn.
func (g *pluginGroup) scale(ctx context.Context, b nodescale.Blueprint, count int, direction scaleDirection, reason string) error {
	g.log.Info("scale", "plugin", b.Plugin, "direction", direction, "count", count, "reason", reason)
	_, err := g.call(ctx, b, pluginScaleMethod, func(config map[string]string) []byte {
		return encodeScale(count, direction, "serve-nomad: "+reason, config)
	})
	if err != nil {
		return fmt.Errorf("scale %s to %d by plugin %s: %w", direction, count, b.Plugin, err)
	}
	return nil
}

// call makes one call of the plugin. Since a plugin goes on with a call whose
// caller has left, one that hangs is killed, and so is one that would still
// scale while the next call does.
func (g *pluginGroup) call(ctx context.Context, b nodescale.Blueprint, method string, request func(config map[string]string) []byte) ([]byte, error) {
	limit, scales := g.limits.status, method == pluginScaleMethod
	if scales {
		limit = g.limits.scale
	}
	p, err := g.running(ctx, b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if scales {
		g.scaling.Store(true)
		defer g.scaling.Store(false)
	}
	reply, err := p.invoke(ctx, method, request(p.config))
	left := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case errors.Is(err, errPluginDied):
		p.end()
	case left && scales, errors.Is(err, context.DeadlineExceeded) && !g.scaling.Load():
		p.end()
		return nil, fmt.Errorf("it did not answer in time and was killed; the next call starts it again: %w", err)
	}
	return reply, err
}

// pluginSettings is what a plugin is set up with and told with each call, in the
// Nomad Autoscaler once in the agent's block target and once in the policy's.
func pluginSettings(b nodescale.Blueprint) map[string]string {
	settings := map[string]string{
		// That the count is set is enough: whether nodes come of it, Nomad tells.
		// A plugin that waits for its cloud would keep other changes waiting.
		"retry_attempts": "1",
		"node_pool":      b.NodePool,
	}
	if b.Class != "" {
		settings["node_class"] = b.Class
	}
	maps.Copy(settings, b.Config)
	maps.DeleteFunc(settings, func(key, _ string) bool { return strings.HasPrefix(key, "nomad_") })
	// It sees one node at most, which is drained, and removed from Nomad by us.
	maps.Copy(settings, map[string]string{
		"node_selector_strategy":        "newest_create_index",
		"node_filter_ignore_init":       "true",
		"node_filter_ignore_drain":      "true",
		"node_filter_ignore_ineligible": "true",
		"node_purge":                    "false",
	})
	return settings
}

func lock(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func unlock(c chan struct{}) { <-c }
