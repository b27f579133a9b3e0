package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Configs is where the user_configs are that replicas take while they run, as
// the controller needs it: Nomad, beside each job.
type Configs interface {
	Configs(ctx context.Context) (map[string]reconcile.Config, error)
	WriteConfig(ctx context.Context, w reconcile.WriteConfig) error
	DropConfig(ctx context.Context, d reconcile.DropConfig) error
}

// Replicas is how replicas are called, as the controller needs it.
type Replicas interface {
	// Reconfigure posts a user_config and returns why the replica does not take
	// it, "" when it does; an error when it could not be asked.
	Reconfigure(ctx context.Context, http2 bool, address, path, config, hash string) (refused string, err error)
}

// Bounds on telling replicas of another user_config.
const (
	maxTelling   = 64 // at once
	minTellPause = 100 * time.Millisecond
	maxTellPause = 5 * time.Second
)

// configurer sees to it that running replicas take the user_config that is
// written for them, and remembers which have. A new leader asks them again.
type configurer struct {
	c       *Controller
	ctx     context.Context // of this leadership
	turns   chan struct{}
	telling sync.WaitGroup

	// The loop's own.
	left   bool              // configs may be there that nobody asks for any more
	faults map[string]string // by job: why its config could not be written
	next   *time.Timer       // wakes the loop when only time can bring something on

	mu   sync.Mutex
	told map[string]*told // by replica
}

func newConfigurer(c *Controller) *configurer {
	return &configurer{c: c, turns: make(chan struct{}, maxTelling)}
}

// begin forgets what was true while this server led before. ctx is the new
// leadership's.
func (g *configurer) begin(ctx context.Context) {
	g.ctx, g.left, g.faults = ctx, true, map[string]string{}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = map[string]*told{}
}

// end returns when no replica is called any more, after the end of the
// leadership.
func (g *configurer) end() {
	if g.next != nil {
		g.next.Stop()
	}
	g.telling.Wait()
}

// look returns what there is of user_configs, looking into Nomad if it is to be
// whole, and tells the replicas that have not taken theirs.
func (g *configurer) look(ctx context.Context, state *raftstate.State, before, world *reconcile.World, whole bool) reconcile.Configs {
	asked := reconcile.TakesConfigs(state)
	if !asked && !g.left {
		return reconcile.Configs{}
	}
	var found reconcile.Configs
	if before != nil {
		found.Written, found.Error = before.Configs.Written, before.Configs.Error
	}
	if !world.NomadKnown {
		found.Error = world.NomadError
	} else if whole || before == nil {
		written, err := g.written(ctx)
		switch {
		case err != nil && !asked:
			return reconcile.Configs{} // it may not be allowed, and nobody needs it
		case err != nil:
			found.Error = err.Error()
		default:
			found.Written, found.Error, g.left = written, "", false
			for _, config := range written {
				g.left = g.left || config.ClusterID == state.ClusterID
			}
		}
	}
	found.Faults = maps.Clone(g.faults)
	world.Configs = found
	if found.Error == "" && world.ConsulKnown {
		g.tell(state, world)
	}
	found.Confirmed, found.Refused = g.said(found.Written)
	return found
}

func (g *configurer) written(ctx context.Context) (map[string]reconcile.Config, error) {
	if g.c.cfg.Configs == nil {
		return nil, errors.New("this server writes no user_configs")
	}
	ctx, cancel := context.WithTimeout(ctx, g.c.cfg.ObserveLimit)
	defer cancel()
	return g.c.cfg.Configs.Configs(ctx)
}

// write does a WriteConfig, and remembers why it could not be done.
func (g *configurer) write(ctx context.Context, w reconcile.WriteConfig) error {
	if g.c.cfg.Configs == nil {
		return errors.New("this server writes no user_configs")
	}
	err := g.c.cfg.Configs.WriteConfig(ctx, w)
	if err != nil {
		g.faults[w.JobID] = err.Error()
		return err
	}
	delete(g.faults, w.JobID)
	g.left = true
	g.c.poke()
	return nil
}

// drop does a DropConfig.
func (g *configurer) drop(ctx context.Context, d reconcile.DropConfig) error {
	defer g.c.poke()
	return g.c.cfg.Configs.DropConfig(ctx, d)
}

// tell brings what each replica was told up to date.
func (g *configurer) tell(state *raftstate.State, world *reconcile.World) {
	var events []raftstate.Event
	defer func() { g.c.observed(events...) }()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.review(world)
	now := g.c.cfg.Now()
	var next time.Time
	for _, t := range reconcile.ConfigTargets(state, world) {
		k := g.told[t.Replica.ID]
		if k == nil || k.hash != t.Hash || k.missed(t) {
			k = begun(k, t, now)
			g.told[t.Replica.ID] = k
		}
		if due := k.judge(t, now); !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
		if !k.settled() && k.cancel == nil && t.Deployment.Reconfigure.Path != "" && t.Address != "" && g.c.cfg.Replicas != nil {
			g.call(k, t)
		}
	}
	events = g.refusals(now)
	g.wakeAt(next, now)
}

// review forgets replicas that are gone, and finds those that ended when they
// were told.
func (g *configurer) review(world *reconcile.World) {
	there := make(map[string]bool, len(g.told))
	for _, r := range world.Replicas {
		k := g.told[r.ID]
		if k == nil {
			continue
		}
		runs := r.Status == reconcile.ReplicaRunning || r.Status == reconcile.ReplicaPending
		there[r.ID] = runs || k.hash == world.Configs.Written[r.JobID].Hash
		if ended := r.Status == reconcile.ReplicaFailed || r.Restarts > k.restarts; ended && !k.settled() {
			k.refused = "it ended when it was told: " + r.Reason
		}
	}
	for id, k := range g.told {
		if !there[id] {
			k.hangUp()
			delete(g.told, id)
		}
	}
}

// refusals tells of the replicas that refuse, each once.
func (g *configurer) refusals(now time.Time) (events []raftstate.Event) {
	for _, id := range slices.Sorted(maps.Keys(g.told)) {
		k := g.told[id]
		if k.refused == "" || k.reported {
			continue
		}
		k.reported = true
		k.hangUp()
		events = append(events, raftstate.Event{
			At: now.UTC(), Type: "config-refused", Application: k.application, Deployment: k.deployment,
			Message: fmt.Sprintf("replica %.8s did not take the user_config: %s", id, k.refused),
		})
	}
	return events
}

// said returns what replicas have made of the configs that are written.
func (g *configurer) said(written map[string]reconcile.Config) (confirmed, refused map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	confirmed, refused = map[string]string{}, map[string]string{}
	for id, k := range g.told {
		switch {
		case k.hash != written[k.job].Hash:
		case k.confirmed:
			confirmed[id] = k.hash
		case k.refused != "":
			refused[id] = k.refused
		}
	}
	return confirmed, refused
}

// wakeAt makes the loop look again at a time, if there is one.
func (g *configurer) wakeAt(at, now time.Time) {
	if g.next != nil {
		g.next.Stop()
		g.next = nil
	}
	if !at.IsZero() {
		g.next = time.AfterFunc(max(0, at.Sub(now)), g.c.poke)
	}
}

// call posts a config to a replica until it answers.
func (g *configurer) call(k *told, t reconcile.ConfigTarget) {
	ctx, cancel := context.WithCancel(g.ctx)
	k.cancel = cancel
	g.telling.Go(func() {
		defer cancel()
		for pause := minTellPause; ; pause = min(2*pause, maxTellPause) {
			refused, err := g.ask(ctx, t)
			if ctx.Err() != nil || g.heard(k, refused, err) || !sleep(ctx, pause) {
				return
			}
		}
	})
}

// ask posts a config to a replica once, when it is its turn.
func (g *configurer) ask(ctx context.Context, t reconcile.ConfigTarget) (refused string, err error) {
	select {
	case g.turns <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-g.turns }()
	ctx, cancel := context.WithTimeout(ctx, t.Deployment.Reconfigure.Within())
	defer cancel()
	http2 := t.Deployment.EffectiveProtocol() != appspec.ProtocolHTTP
	return g.c.cfg.Replicas.Reconfigure(ctx, http2, t.Address, t.Deployment.Reconfigure.Path, t.Config, t.Hash)
}

// heard notes what a replica answered, and says whether it did.
func (g *configurer) heard(k *told, refused string, err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		k.fault = err.Error()
		return false
	}
	k.answered, k.answer = true, refused
	g.c.poke()
	return true
}
