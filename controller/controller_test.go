package controller_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

func TestLead(t *testing.T) {
	t.Run("a deploy becomes jobs, a route and a successful rollout, and stays so", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			f.propose(t, deploy("v1"))
			settle()
			if got := f.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
			calls := f.calls()
			time.Sleep(time.Hour) // fake
			if got := f.calls(); got != calls {
				t.Errorf("%d more writes with nothing to do", got-calls)
			}
			if v := c.View(); v.World == nil || len(v.World.Replicas) != 2 {
				t.Errorf("the view does not show the replicas: %+v", v.World)
			}
		})
	})

	t.Run("a Nomad that is away loses nothing, and is made up for when it is back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			f.propose(t, deploy("v1"))
			settle()
			f.setDown(errors.New("connection refused"))
			f.propose(t, deploy("v2"))
			settle()
			if w := c.View().World; w.NomadKnown || w.NomadError == "" || len(w.Replicas) != 2 {
				t.Errorf("the view does not say that Nomad is away: %+v", w)
			}
			if got := len(f.world.Jobs); got != 1 {
				t.Errorf("%d jobs while Nomad is away", got)
			}
			f.setDown(nil)
			time.Sleep(time.Minute) // fake
			if got := f.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
		})
	})

	t.Run("a rollout does not fail for the time that Nomad was away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			f.setDown(errors.New("connection refused"))
			f.propose(t, deploy("v1"))
			time.Sleep(time.Hour) // fake
			f.setDown(nil)
			time.Sleep(time.Minute) // fake
			if got := f.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
		})
	})

	t.Run("how long the world is known does not begin anew with each look", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := lead(t)
			since := c.View().World.Since
			time.Sleep(time.Hour) // fake
			if got := c.View().World.Since; since.IsZero() || !got.Equal(since) {
				t.Errorf("since %s, then since %s", since, got)
			}
		})
	})

	t.Run("a long plan is not carried out on what has become old", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			f.mu.Lock()
			f.slow = time.Second // each write
			f.mu.Unlock()
			many := deploy("v1")
			spec, hashes := *many.Deploy.Applications[0].Spec, many.Deploy.Applications[0].Hashes
			for i := range 20 {
				other := spec
				other.Name, other.RoutePrefix = fmt.Sprintf("app-%02d", i), fmt.Sprintf("/app-%02d", i)
				many.Deploy.Applications = append(many.Deploy.Applications, raftstate.DeployApplication{Spec: &other, Hashes: hashes})
			}
			f.propose(t, many)
			time.Sleep(5 * time.Second) // fake
			f.propose(t, raftstate.Command{ID: "s", Delete: &raftstate.Delete{Application: "shop"}})
			time.Sleep(5 * time.Minute) // fake
			synctest.Wait()
			for id, job := range f.world.Jobs {
				if job.Application == "shop" {
					t.Errorf("job %s was made long after its application was deleted", id)
				}
			}
			if n := len(f.world.Jobs); n != 20 {
				t.Errorf("%d jobs", n)
			}
		})
	})

	t.Run("a step that does not last is not done without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			f.mu.Lock()
			f.deaf = true
			f.mu.Unlock()
			f.propose(t, deploy("v1"))
			time.Sleep(time.Hour) // fake
			if n := f.calls(); n < 60 || n > 200 {
				t.Errorf("%d writes in an hour of two steps that have no effect", n)
			}
			f.mu.Lock()
			f.deaf = false
			f.mu.Unlock()
			time.Sleep(2 * time.Minute) // fake
			synctest.Wait()
			if len(f.world.Jobs) != 1 || len(f.world.Routes) != 1 {
				t.Errorf("%d jobs and %d routes once writes have an effect", len(f.world.Jobs), len(f.world.Routes))
			}
		})
	})

	t.Run("a storm of events does not keep Nomad busy with lists", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			f.mu.Lock()
			f.slowLook = time.Second
			f.mu.Unlock()
			looks := f.lookCount()
			storm := time.NewTicker(10 * time.Millisecond)
			defer storm.Stop()
			for end := time.After(time.Minute); ; { // fake
				select {
				case <-storm.C:
					f.tick(f.wake)
					continue
				case <-end:
				}
				break
			}
			if n := f.lookCount() - looks; n < 10 || n > 32 {
				t.Errorf("%d looks of a second each in a minute", n)
			}
		})
	})

	t.Run("who no longer leads does nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			settle()
			f.mu.Lock()
			f.deposed = true
			f.mu.Unlock()
			calls := f.calls()
			f.propose(t, deploy("v1"))
			settle()
			if got := f.calls(); got != calls {
				t.Errorf("%d writes by a server that does not lead", got-calls)
			}
		})
	})

	t.Run("a step that fails is tried again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := lead(t)
			f.mu.Lock()
			f.failNext = 3
			f.mu.Unlock()
			f.propose(t, deploy("v1"))
			time.Sleep(time.Minute) // fake
			if got := f.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
		})
	})

	t.Run("a waiter wakes with what it waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			settle()
			index := c.View().Index
			woken := make(chan *controller.View, 1)
			go func() { woken <- c.Wait(t.Context(), index) }()
			synctest.Wait()
			f.propose(t, deploy("v1"))
			if v := <-woken; v.Index <= index || v.State.Applications["shop"] == nil {
				t.Errorf("woken with %+v", v)
			}
		})
	})
}

// TestCrashAnywhere stops the leader after each of its writes in turn and lets
// another go on: the end must be the same.
func TestCrashAnywhere(t *testing.T) {
	for k := 1; k <= 12; k++ {
		t.Run(fmt.Sprintf("after write %d", k), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				stop := f.start(t)
				f.propose(t, deploy("v1"))
				settle()
				f.crashAfter(k, stop)
				f.propose(t, deploy("v2"))
				settle()
				f.propose(t, raftstate.Command{ID: "d", Delete: &raftstate.Delete{Application: "shop"}})
				settle()
				f.start(t)
				settle()
				if n := len(f.State().Applications); n != 0 {
					t.Errorf("%d applications left", n)
				}
				for id, job := range f.world.Jobs {
					if !job.Stopped {
						t.Errorf("job %s is left over", id)
					}
				}
				if len(f.world.Routes) != 0 {
					t.Errorf("routes are left over: %v", f.world.Routes)
				}
			})
		})
	}
}

// settle lets the loop come to rest on the bubble's fake clock.
func settle() {
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

// fake is Raft, Nomad and Consul in one, and says so: writes take effect at
// once, by the same rules as a preview's.
type fake struct {
	mu       sync.Mutex
	state    *raftstate.State
	world    *reconcile.World
	changed  chan struct{}
	wake     chan struct{}
	updates  chan struct{}
	down     error
	deposed  bool
	failNext int
	writes   int
	crashAt  int
	crash    func()
	ids      int
	deaf     bool          // writes to Nomad and Consul have no effect
	slow     time.Duration // how long a write to Nomad or Consul takes
	slowLook time.Duration // how long a look at Nomad takes
	looks    int
	blind    error               // why Nomad does not show what there is, though it takes writes
	leaveOut bool                // Apply makes none of the autoscaler's changes
	noCommit error               // why the log takes nothing
	noAnswer error               // why nobody hears that the log took the next of the autoscaler's commands
	commands []raftstate.Command // that were proposed, also in vain
	scales   []scaled            // that Nomad got
	metrics  controller.Metrics  // of the next controller
}

// scaled is a count that Nomad got.
type scaled struct {
	at     time.Time
	count  int
	reason string
}

func newFake() *fake {
	return &fake{
		state:   &raftstate.State{},
		changed: make(chan struct{}), wake: make(chan struct{}, 1), updates: make(chan struct{}, 1),
		world: &reconcile.World{
			NomadKnown: true, ConsulKnown: true, CoreMHz: map[string]int{"default": 1000},
			Jobs: map[string]reconcile.Job{}, Routes: routes.Table{}, RouteIndex: map[string]uint64{},
		},
	}
}

func lead(t *testing.T) (*fake, *controller.Controller) {
	t.Helper()
	f := newFake()
	var c *controller.Controller
	f.startWith(t, func(made *controller.Controller) { c = made })
	settle()
	return f, c
}

func (f *fake) start(t *testing.T) (stop func()) {
	t.Helper()
	return f.startWith(t, func(*controller.Controller) {})
}

func (f *fake) startWith(t *testing.T, made func(*controller.Controller)) (stop func()) {
	t.Helper()
	c := controller.New(controller.Config{
		Raft: f, Jobs: f, Discovery: f,
		Settings: reconcile.Settings{Placement: jobspec.Placement{NodePool: "default"}},
		NewID:    f.newID,
		Metrics:  f.metrics,
	})
	made(c)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go c.Run(ctx)
	go func() {
		if err := c.Lead(ctx); err != nil {
			t.Errorf("lead: %v", err)
		}
	}()
	return cancel
}

func (f *fake) newID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids++
	return fmt.Sprintf("id-%d", f.ids)
}

func (f *fake) crashAfter(k int, stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt, f.crash = f.writes+k, stop
}

func (f *fake) setDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *fake) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

func (f *fake) rollout() raftstate.RolloutStatus {
	return f.State().Applications["shop"].Rollout.Status
}

func (f *fake) propose(t *testing.T, c raftstate.Command) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	c.At = time.Now()
	f.apply(c)
}

func (f *fake) apply(c raftstate.Command) raftstate.Result {
	next, result := f.state.Apply(f.state.Index+1, c)
	f.state = next
	close(f.changed)
	f.changed = make(chan struct{})
	return result
}

func (f *fake) State() *raftstate.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) VerifyLeader(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deposed {
		return errors.New("deposed")
	}
	return nil
}

func (f *fake) Propose(_ context.Context, c raftstate.Command) (raftstate.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, c)
	if f.noCommit != nil {
		return raftstate.Result{}, f.noCommit
	}
	if c.Autoscale != nil && f.leaveOut {
		c.Autoscale = &raftstate.Autoscale{}
	}
	if err := f.count(); err != nil {
		return raftstate.Result{}, err
	}
	result := f.apply(c)
	if err := f.noAnswer; err != nil && c.Autoscale != nil {
		f.noAnswer = nil
		return raftstate.Result{}, err
	}
	return result, nil
}

// count notes a write, and crashes the leader when it is that one's turn.
func (f *fake) count() error {
	if f.down != nil {
		return f.down
	}
	if f.failNext > 0 {
		f.failNext--
		return errors.New("failed for the test")
	}
	f.writes++
	if f.crash != nil && f.writes == f.crashAt {
		f.crash()
	}
	return nil
}

func (f *fake) write(ctx context.Context, s reconcile.Step) error {
	f.pause(ctx, &f.slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := f.count(); err != nil {
		return err
	}
	if !f.deaf {
		_, f.world = reconcile.Simulate(f.state, f.world, time.Now(), s)
	}
	f.tick(f.wake)
	f.tick(f.updates)
	return nil
}

func (f *fake) tick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause takes the time that a call is to take.
func (f *fake) pause(ctx context.Context, length *time.Duration) {
	f.mu.Lock()
	d := *length
	f.mu.Unlock()
	select {
	case <-time.After(d): // fake
	case <-ctx.Done():
	}
}

func (f *fake) lookCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

func (f *fake) Observe(ctx context.Context, _ bool) (reconcile.Observation, error) {
	f.mu.Lock()
	world, err := f.world, errors.Join(f.down, f.blind)
	f.looks++
	f.mu.Unlock()
	f.pause(ctx, &f.slowLook) // what comes meanwhile is not in the answer
	return reconcile.Observation{Jobs: world.Jobs, Replicas: world.Replicas, CoreMHz: world.CoreMHz}, err
}

func (f *fake) Wake(context.Context) <-chan struct{} { return f.wake }

func (f *fake) Register(ctx context.Context, job *api.Job, index uint64) error {
	return f.write(ctx, reconcile.Step{Register: &reconcile.Register{Job: job, ModifyIndex: index}})
}

func (f *fake) Update(ctx context.Context, u reconcile.Update) error {
	return f.write(ctx, reconcile.Step{Update: &u})
}

func (f *fake) Scale(ctx context.Context, id, group string, count int, reason string) error {
	f.mu.Lock()
	f.scales = append(f.scales, scaled{time.Now(), count, reason})
	f.mu.Unlock()
	return f.write(ctx, reconcile.Step{Scale: &reconcile.Scale{JobID: id, Group: group, Count: count}})
}

func (f *fake) Stop(ctx context.Context, id string, index uint64) error {
	return f.write(ctx, reconcile.Step{Stop: &reconcile.Stop{JobID: id, ModifyIndex: index}})
}

func (f *fake) Plan(context.Context, *api.Job) (string, error) { return "", nil }

func (f *fake) WritePool(ctx context.Context, p reconcile.WritePool) error {
	return f.write(ctx, reconcile.Step{WritePool: &p})
}

func (f *fake) SetEligible(context.Context, string, bool) error { return nil }

func (f *fake) Drain(context.Context, string, time.Duration, string) error { return nil }

func (f *fake) Purge(context.Context, string) error { return nil }

func (f *fake) View() routes.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return routes.View{Known: true, Table: f.world.Routes, Index: f.world.RouteIndex, Endpoints: f.world.Endpoints}
}

func (f *fake) Updates() <-chan struct{} { return f.updates }

func (f *fake) WriteRoute(ctx context.Context, r routes.Route, index uint64) error {
	return f.write(ctx, reconcile.Step{WriteRoute: &reconcile.WriteRoute{Route: r, ModifyIndex: index}})
}

func (f *fake) DropRoute(ctx context.Context, application string, index uint64) error {
	return f.write(ctx, reconcile.Step{DropRoute: &reconcile.DropRoute{Application: application, ModifyIndex: index}})
}

// deploy returns a command that deploys the shop, whose replicas run command.
func deploy(command string) raftstate.Command {
	spec := &appspec.Application{
		Name: "shop", RoutePrefix: "/shop", Ingress: "till",
		Deployments: []*appspec.Deployment{{
			Name: "till", NumReplicas: 2, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Task: &api.Task{Driver: "raw_exec", Config: map[string]any{"command": command}},
		}},
	}
	return raftstate.Command{
		ID: command,
		Deploy: &raftstate.Deploy{Applications: []raftstate.DeployApplication{{
			Spec: spec, Hashes: map[string]string{"till": appspec.VersionOf(spec, spec.Deployments[0])},
		}}},
	}
}
