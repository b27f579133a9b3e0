// Package controller is the leader's loop: it looks at Nomad and Consul, asks
// reconcile what to do, does it, and looks again. It holds no intent of its
// own: that is in the replicated State, so a new leader simply goes on.
package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Raft is the replicated state, as the controller needs it.
type Raft interface {
	State() *raftstate.State
	Changed() <-chan struct{} // closed at the next change of State
	Propose(ctx context.Context, c raftstate.Command) (raftstate.Result, error)
	VerifyLeader(ctx context.Context) error
}

// Jobs is Nomad, as the controller needs it.
type Jobs interface {
	Observe(ctx context.Context, nodes bool) (reconcile.Observation, error)
	Wake(ctx context.Context) <-chan struct{} // ticks when something of ours may have changed
	Register(ctx context.Context, job *api.Job, modifyIndex uint64) error
	Update(ctx context.Context, u reconcile.Update) error
	Scale(ctx context.Context, jobID, group string, count int, reason string) error
	Stop(ctx context.Context, jobID string, modifyIndex uint64) error
	Plan(ctx context.Context, job *api.Job) (problem string, err error)
	WritePool(ctx context.Context, p reconcile.WritePool) error
	SetEligible(ctx context.Context, nodeID string, eligible bool) error
	Drain(ctx context.Context, nodeID string, deadline time.Duration, reason string) error
	Purge(ctx context.Context, nodeID string) error
}

// Discovery is Consul, as the controller needs it.
type Discovery interface {
	View() routes.View
	Updates() <-chan struct{} // ticks when View changed
	WriteRoute(ctx context.Context, r routes.Route, modifyIndex uint64) error
	DropRoute(ctx context.Context, application string, modifyIndex uint64) error
}

// Config is what a Controller is made of.
type Config struct {
	Raft         Raft
	Jobs         Jobs
	Discovery    Discovery
	Machines     Machines // how nodes are made; nil: worker groups have none
	NodesDryRun  bool     // decide of nodes and tell, but make and remove none
	Configs      Configs  // where the user_configs are that running replicas take; nil: nowhere
	Replicas     Replicas // how replicas are called; nil: they are not
	Metrics      Metrics  // what deployments scale on beside requests, and rollouts are held to; nil: nothing can be read
	AskOf        AskOf    // nil: it is not told whether there is room for what is not in Nomad yet
	Settings     reconcile.Settings
	NewID        func() string        // a fresh unique id
	Now          func() time.Time     // nil: time.Now
	Conflict     func(err error) bool // whether err says that the world moved since it was seen
	Logger       hclog.Logger         // nil: none
	FullPass     time.Duration        // how long without a wake before it looks anyway; 0: 15 s
	ObserveLimit time.Duration        // how long Nomad may take to answer; 0: 10 s
}

// Controller runs the loop while this server leads, and publishes what it
// sees all the time.
type Controller struct {
	cfg     Config
	log     hclog.Logger
	view    *viewer
	scaler  *scaler
	noder   *noder
	configs *configurer
	queries *queries
	poked   chan struct{} // something was done in Nomad beside the loop, which is to look at it
	fresh   atomic.Int64  // when the last look at Nomad that went well began, Unix nanoseconds

	// The loop's own.
	looked  time.Time // when it last looked
	acted   bool      // something was done since the last look at Nomad began
	repeats repeats
	counts  counts
	hands   hands
}

// Pauses of the loop. After a pass it waits at least minPause, so that a burst
// of events is one pass, and as long as it took to look, up to maxPause, so
// that a storm of events does not keep a large Nomad busy with lists; after a
// fault at least retryPause, doubled up to maxRetryPause.
const (
	minPause            = 50 * time.Millisecond
	maxPause            = 5 * time.Second
	retryPause          = 500 * time.Millisecond
	maxRetryPause       = 15 * time.Second
	defaultFullPass     = 15 * time.Second
	defaultObserveLimit = 10 * time.Second
	stepLimit           = 15 * time.Second
	planLimit           = 10 * time.Second // how old may be what a step was decided on
)

// New returns a Controller. Run and Lead make it work.
func New(cfg Config) *Controller {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.FullPass == 0 {
		cfg.FullPass = defaultFullPass
	}
	if cfg.ObserveLimit == 0 {
		cfg.ObserveLimit = defaultObserveLimit
	}
	if cfg.Conflict == nil {
		cfg.Conflict = func(error) bool { return false }
	}
	c := &Controller{
		cfg: cfg, log: cfg.Logger.Named("controller"), view: newViewer(cfg.Raft.State()),
		poked: make(chan struct{}, 1), repeats: repeats{}, counts: counts{set: map[string]countSet{}}, hands: hands{},
	}
	c.scaler, c.noder, c.configs, c.queries = newScaler(c), newNoder(c), newConfigurer(c), newQueries(c)
	return c
}

// Run publishes a new View after each change of State, until ctx ends.
func (c *Controller) Run(ctx context.Context) {
	for {
		changed := c.cfg.Raft.Changed()
		c.view.publish(func(v *View) { v.State = c.cfg.Raft.State() })
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Lead runs the loop, and the scaler beside it, until ctx ends, which is when
// this server no longer leads. An error is one that keeps this server from
// leading at all.
func (c *Controller) Lead(ctx context.Context) error {
	c.log.Info("leading")
	defer c.log.Info("no longer leading")
	defer c.view.publish(func(v *View) { v.World = nil })

	if err := c.initCluster(ctx); err != nil {
		return err
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { c.scaler.run(ctx) })
	beside.Go(func() { c.noder.run(ctx) })
	c.queries.begin(ctx)
	defer c.queries.end()
	c.configs.begin(ctx)
	defer c.configs.end()
	c.loop(ctx)
	return nil
}

// loop looks, decides and does until ctx ends.
func (c *Controller) loop(ctx context.Context) {
	c.counts.planned = nil
	wake := c.cfg.Jobs.Wake(ctx)
	retry, whole := retryPause, true
	for {
		changed := c.cfg.Raft.Changed()
		took, err := c.pass(ctx, whole)
		idle := c.idle()
		switch {
		case errors.Is(err, errPlanOld):
			idle = 0
		case err != nil:
			idle, retry = retry, min(2*retry, maxRetryPause)
		default:
			retry = retryPause
		}
		if !c.rest(ctx, min(max(minPause, took), maxPause)) {
			return
		}
		timer := time.NewTimer(idle)
		whole = true
		select {
		case <-ctx.Done():
		case <-changed:
		case <-wake:
		case <-c.poked:
		case <-c.cfg.Discovery.Updates():
		case <-timer.C:
			whole = err != nil
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// poke makes the loop look again: not all that is done in Nomad comes back as
// an event.
func (c *Controller) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

// initCluster gives a new cluster its id.
func (c *Controller) initCluster(ctx context.Context) error {
	if c.cfg.Raft.State().ClusterID != "" {
		return nil
	}
	return c.propose(ctx, raftstate.Command{InitCluster: &raftstate.InitCluster{ClusterID: c.cfg.NewID()}})
}

// errPlanOld ends a pass whose plan is too old to go on with.
var errPlanOld = errors.New("the plan is old; looking again")

// errNotLasting is a step that is not done now because it did not last.
var errNotLasting = errors.New("the step did not last and waits")

// pass looks once, does what is due, and says how long the look took. An error
// means that something is to be tried again soon.
func (c *Controller) pass(ctx context.Context, whole bool) (took time.Duration, err error) {
	before, began, at := c.view.current().World, time.Now(), c.cfg.Now()
	whole = whole || !c.seenLately(before, at)
	world, err := c.look(ctx, before, whole)
	took = time.Since(began)
	if ctx.Err() != nil {
		return took, ctx.Err()
	}
	now := c.cfg.Now()
	c.publish(before, world, now)
	if whole && world.NomadKnown {
		c.fresh.Store(at.UnixNano()) // after the World that it is of
		c.noder.nudge()
	}
	if whole {
		c.counts.looked(began)
		if world.NomadKnown {
			c.hands.looked(began)
		}
	}

	state := c.cfg.Raft.State()
	plan := reconcile.Diff(state, c.counts.over(world), now, c.cfg.Settings)
	c.counts.planned = state
	c.repeats.keep(plan)
	for i, step := range plan.Steps {
		c.hurry(ctx)
		if c.overtaken(step, state, world) {
			err = errors.Join(err, errPlanOld)
			continue
		}
		if i > 0 && time.Since(began) > planLimit {
			// Thousands of steps, or some that hang: by now people may have
			// decided otherwise, and Nomad may look different.
			return took, errors.Join(err, errPlanOld)
		}
		if stepErr := c.execute(ctx, step); stepErr != nil {
			err = errors.Join(err, stepErr)
		}
	}
	return took, err
}

// look returns the world as it is now, what is in Nomad only if it is to be
// whole. A side that does not answer keeps what was last seen of it, and is
// marked as not known.
func (c *Controller) look(ctx context.Context, before *reconcile.World, whole bool) (world *reconcile.World, err error) {
	world = &reconcile.World{NomadKnown: true, ConsulKnown: true}
	var seen reconcile.Observation
	if whole {
		seen, err = c.observe(ctx)
	}
	if err != nil {
		world.NomadKnown, world.NomadError = false, err.Error()
		if before != nil && before.NomadError != world.NomadError {
			c.log.Warn("nomad does not answer", "error", err)
		}
	}
	if before != nil && (!whole || err != nil) {
		seen = reconcile.Observation{
			Jobs: before.Jobs, Replicas: before.Replicas, CoreMHz: before.CoreMHz,
			NodesKnown: before.NodesKnown, Nodes: before.Nodes, Pools: before.Pools,
		}
	}
	world.Jobs, world.Replicas, world.CoreMHz = seen.Jobs, seen.Replicas, seen.CoreMHz
	world.NodesKnown, world.Nodes, world.Pools = seen.NodesKnown, seen.Nodes, seen.Pools
	table := c.cfg.Discovery.View()
	world.Routes, world.RouteIndex, world.Endpoints = table.Written(), table.Index, table.Endpoints
	if !table.Known || table.Error != "" {
		world.ConsulKnown, world.ConsulError = false, table.Error
		if world.ConsulError == "" {
			world.ConsulError = "consul has not answered yet"
		}
	}
	world.Since = c.since(before, world)
	world.Served = c.scaler.served(world)
	world.Queries = c.queries.look(c.cfg.Raft.State(), c.cfg.Now())
	world.Configs = c.configs.look(ctx, c.cfg.Raft.State(), before, world, whole)
	return world, err
}

// since says from when on the world has been known without a break.
func (c *Controller) since(before, world *reconcile.World) time.Time {
	// Without the monotonic part, which stands still while a machine sleeps.
	now := c.cfg.Now().UTC().Round(0)
	gap := now.Sub(c.looked)
	c.looked = now
	switch {
	case !world.NomadKnown || !world.ConsulKnown:
		return time.Time{}
	case before == nil || before.Since.IsZero() || gap > 4*c.cfg.FullPass: // it slept, or something hung
		return now
	default:
		return before.Since
	}
}

// execute does one step, if this server still leads.
func (c *Controller) execute(ctx context.Context, step reconcile.Step) error {
	name := step.String()
	if c.repeats.wait(name, time.Now()) {
		return errNotLasting
	}
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	if err := c.cfg.Raft.VerifyLeader(ctx); err != nil {
		return err
	}
	c.acted = true
	err := c.act(ctx, step)
	c.hands.wrote(step, time.Now(), err)
	switch {
	case err == nil:
		c.log.Info("step done", "step", name)
		if gap := c.repeats.done(name, time.Now()); gap > 0 {
			c.log.Warn("a step does not last: something undoes it, or does not take it", "step", name, "not_before", gap)
		}
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
	case c.cfg.Conflict(err):
		c.log.Debug("the world moved since it was seen; looking again", "step", name, "error", err)
	default:
		c.log.Warn("step not done; it is tried again", "step", name, "error", err)
	}
	return err
}

func (c *Controller) act(ctx context.Context, step reconcile.Step) error {
	switch {
	case step.Register != nil:
		return c.cfg.Jobs.Register(ctx, step.Register.Job, step.Register.ModifyIndex)
	case step.Update != nil:
		return c.cfg.Jobs.Update(ctx, *step.Update)
	case step.Scale != nil:
		return c.scale(ctx, step)
	case step.Stop != nil:
		return c.cfg.Jobs.Stop(ctx, step.Stop.JobID, step.Stop.ModifyIndex)
	case step.WriteRoute != nil:
		return c.cfg.Discovery.WriteRoute(ctx, step.WriteRoute.Route, step.WriteRoute.ModifyIndex)
	case step.DropRoute != nil:
		return c.cfg.Discovery.DropRoute(ctx, step.DropRoute.Application, step.DropRoute.ModifyIndex)
	case step.WritePool != nil:
		return c.cfg.Jobs.WritePool(ctx, *step.WritePool)
	case step.WriteConfig != nil:
		return c.configs.write(ctx, *step.WriteConfig)
	case step.DropConfig != nil:
		return c.configs.drop(ctx, *step.DropConfig)
	case step.Propose != nil:
		return c.propose(ctx, *step.Propose)
	default:
		return errors.New("a step with nothing to do")
	}
}

// propose commits a command of the controller's own. A refusal is not an
// error: the state moved on, and the next pass sees where to.
func (c *Controller) propose(ctx context.Context, command raftstate.Command) error {
	command.ID, command.At, command.By = c.cfg.NewID(), c.cfg.Now().UTC(), "controller"
	result, err := c.cfg.Raft.Propose(ctx, command)
	if err != nil {
		return err
	}
	if refusal := result.Err(); refusal != nil {
		c.log.Debug("command refused", "error", refusal)
	}
	return nil
}

// applied waits until this server's State has a command.
func (c *Controller) applied(ctx context.Context, index uint64) error {
	for {
		changed := c.cfg.Raft.Changed()
		if c.cfg.Raft.State().Index >= index {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the command to be applied: %w", ctx.Err())
		case <-changed:
		}
	}
}
