package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// configFake is the fake with user_configs, and replicas that take them.
type configFake struct {
	*fake

	more   sync.Mutex // guards what follows
	steps  []string   // what was done of jobs and configs, in order
	lists  int
	deny   error                                                                 // of writes
	answer func(ctx context.Context, replica string) (refused string, err error) // to {"a":2}; nil: all take it
	posts  []string                                                              // "address path config hash"
}

func (f *configFake) Configs(context.Context) (map[string]reconcile.Config, error) {
	f.more.Lock()
	f.lists++
	f.more.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.world.Configs.Written), errors.Join(f.down, f.blind)
}

func (f *configFake) WriteConfig(ctx context.Context, w reconcile.WriteConfig) error {
	f.more.Lock()
	deny := f.deny
	f.steps = append(f.steps, "write "+w.Config)
	f.more.Unlock()
	if deny != nil {
		return deny
	}
	return f.write(ctx, reconcile.Step{WriteConfig: &w})
}

func (f *configFake) DropConfig(ctx context.Context, d reconcile.DropConfig) error {
	f.more.Lock()
	f.steps = append(f.steps, "drop")
	f.more.Unlock()
	return f.write(ctx, reconcile.Step{DropConfig: &d})
}

func (f *configFake) Reconfigure(ctx context.Context, http2 bool, address, path, config, hash string) (string, error) {
	f.more.Lock()
	f.posts = append(f.posts, fmt.Sprintf("%s%s %s %s %v", address, path, config, hash, http2))
	answer := f.answer
	f.more.Unlock()
	if answer == nil || config != `{"a":2}` {
		return "", nil
	}
	return answer(ctx, address)
}

func (f *configFake) set(change func()) {
	f.more.Lock()
	defer f.more.Unlock()
	change()
}

func (f *configFake) posted() []string {
	f.more.Lock()
	defer f.more.Unlock()
	list := slices.Clone(f.posts)
	slices.Sort(list)
	return list
}

// listen gives the replicas addresses.
func (f *configFake) listen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	world := *f.world
	world.Endpoints = slices.Clone(world.Endpoints)
	for i := range world.Endpoints {
		world.Endpoints[i].Address = world.Endpoints[i].Replica
	}
	f.world = &world
}

// pass lets all replicas pass their checks, or fail them.
func (f *configFake) pass(passing bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	world := *f.world
	world.Endpoints = slices.Clone(world.Endpoints)
	for i := range world.Endpoints {
		world.Endpoints[i].Passing = passing
	}
	f.world = &world
	f.tick(f.updates)
}

// now returns the world as it is.
func (f *configFake) now() *reconcile.World {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.world
}

// change makes a change of the world's replicas, of which Nomad tells.
func (f *configFake) change(change func(*reconcile.Replica)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	world := *f.world
	world.Replicas = slices.Clone(world.Replicas)
	for i := range world.Replicas {
		change(&world.Replicas[i])
	}
	f.world = &world
	f.tick(f.wake)
}

func (f *configFake) lead(t *testing.T) (*controller.Controller, func()) {
	t.Helper()
	c := controller.New(controller.Config{
		Raft: f, Jobs: f, Discovery: f, Configs: f, Replicas: f, NewID: f.newID,
		Settings: reconcile.Settings{Placement: jobspec.Placement{NodePool: "default"}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go c.Run(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Lead(ctx); err != nil {
			t.Errorf("lead: %v", err)
		}
	}()
	settle()
	return c, func() { cancel(); <-ended }
}

// configured deploys the shop with a reconfigure block and a user_config.
func configured(r appspec.Reconfigure, config string) raftstate.Command {
	command := deploy("v1")
	command.ID, command.Deploy.Rollouts = "d"+config, 1
	d := command.Deploy.Applications[0].Spec.Deployments[0]
	d.Reconfigure, d.UserConfig = &r, json.RawMessage(config)
	d.HealthCheck.Period = appspec.Duration(2 * time.Second)
	command.Deploy.Applications[0].Hashes["till"] = appspec.VersionOf(command.Deploy.Applications[0].Spec, d)
	return command
}

func hashOf(config string) string {
	return appspec.ConfigOf(&appspec.Deployment{UserConfig: json.RawMessage(config), Reconfigure: &appspec.Reconfigure{}})
}

// live runs a test with two replicas that run with {"a":1}, in a world in which
// one more second has gone by.
func live(t *testing.T, r appspec.Reconfigure, test func(t *testing.T, f *configFake, c *controller.Controller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &configFake{fake: newFake()}
		c, _ := f.lead(t)
		f.propose(t, configured(r, `{"a":1}`))
		settle()
		f.listen()
		time.Sleep(time.Second) // fake
		test(t, f, c)
	})
}

// soon lets what is due within a second happen.
func soon() {
	time.Sleep(time.Second) // fake
	synctest.Wait()
}

// expect holds how many replicas have confirmed a config, and that none refuses
// it.
func expect(t *testing.T, c *controller.Controller, config string, confirmed int) {
	t.Helper()
	configs := c.View().World.Configs
	n := 0
	for _, hash := range configs.Confirmed {
		if hash == hashOf(config) {
			n++
		}
	}
	if n != confirmed {
		t.Errorf("%d replicas have confirmed %s, want %d: %+v", n, config, confirmed, configs)
	}
	if told := refusals(c); len(told) > 0 {
		t.Errorf("refused: %q", told)
	}
}

func refusals(c *controller.Controller) (told []string) {
	for _, e := range c.View().Seen {
		if e.Type == "config-refused" && e.Application == "shop" && e.Deployment == "till" {
			told = append(told, e.Message)
		}
	}
	return told
}

// told holds that as many replicas refused {"a":2} as they say.
func told(t *testing.T, c *controller.Controller, replicas int, why string) {
	t.Helper()
	told := refusals(c)
	if len(told) != replicas {
		t.Errorf("told: %q", told)
	}
	for _, message := range told {
		if !strings.Contains(message, why) {
			t.Errorf("told: %q, want %q", message, why)
		}
	}
}

// refused holds that as many replicas refused {"a":2} as they say, and that new
// ones then took over with it.
func (f *configFake) refused(t *testing.T, c *controller.Controller, r appspec.Reconfigure, replicas int, why string) {
	t.Helper()
	told(t, c, replicas, why)
	time.Sleep(time.Minute) // fake
	spec := configured(r, `{"a":2}`).Deploy.Applications[0].Spec
	id := jobspec.JobID("shop", "till", appspec.VersionWithConfig(spec, spec.Deployments[0]))
	world := f.now()
	if world.Configs.Written[id].Hash != hashOf(`{"a":2}`) || world.Jobs[id].Count != 2 || f.rollout() != raftstate.RolloutSuccessful {
		t.Errorf("after the refusal the rollout is %q, the jobs %v, the configs %v", f.rollout(), world.Jobs, world.Configs.Written)
	}
	if len(world.Configs.Written) != 1 {
		t.Errorf("a config is left of the job that has ended: %v", world.Configs.Written)
	}
}

func TestConfigByPath(t *testing.T) {
	path := appspec.Reconfigure{Path: "/config"}
	t.Run("it is written before the job is made, and new replicas are not called", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			expect(t, c, `{"a":1}`, 2)
			if len(f.posted()) > 0 {
				t.Errorf("called: %v", f.posted())
			}
		})
	})
	t.Run("running replicas are called once, and no job changes", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			jobs := maps.Clone(f.now().Jobs)
			f.propose(t, configured(path, `{"a":2}`))
			soon()
			expect(t, c, `{"a":2}`, 2)
			var want []string
			for i := range 2 {
				want = append(want, fmt.Sprintf(`%s-%d/config {"a":2} %s false`, slices.Collect(maps.Keys(jobs))[0], i, hashOf(`{"a":2}`)))
			}
			time.Sleep(time.Hour) // fake
			if !slices.Equal(f.posted(), want) {
				t.Errorf("called: %v\nwant: %v", f.posted(), want)
			}
			if !maps.Equal(jobs, f.now().Jobs) {
				t.Errorf("jobs were %v, are %v", jobs, f.now().Jobs)
			}
		})
	})
	t.Run("a refusal is told once", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() {
				f.answer = func(_ context.Context, replica string) (string, error) {
					if strings.HasSuffix(replica, "-1") {
						return "answered with 422: no such a", nil
					}
					return "", nil
				}
			})
			f.propose(t, configured(path, `{"a":2}`))
			soon()
			f.refused(t, c, path, 1, "answered with 422: no such a")
		})
	})
	t.Run("a replica that cannot be reached is called again", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() {
				f.answer = func(context.Context, string) (string, error) { return "", errors.New("connection refused") }
			})
			f.propose(t, configured(path, `{"a":2}`))
			time.Sleep(5 * time.Second) // fake
			expect(t, c, `{"a":2}`, 0)
			f.set(func() { f.answer = nil })
			time.Sleep(4 * time.Second) // fake
			expect(t, c, `{"a":2}`, 2)
		})
	})
	t.Run("until its time is up", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() {
				f.answer = func(context.Context, string) (string, error) { return "", errors.New("connection refused") }
			})
			f.propose(t, configured(path, `{"a":2}`))
			time.Sleep(9 * time.Second) // fake
			expect(t, c, `{"a":2}`, 0)
			time.Sleep(2 * time.Second) // fake
			f.refused(t, c, path, 2, "not answered within 10s: connection refused")
		})
	})
	t.Run("the time of one that does not pass does not count", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() {
				f.answer = func(context.Context, string) (string, error) { return "", errors.New("connection refused") }
			})
			f.pass(false)
			f.propose(t, configured(path, `{"a":2}`))
			time.Sleep(time.Minute) // fake
			expect(t, c, `{"a":2}`, 0)
			f.set(func() { f.answer = nil })
			f.pass(true)
			time.Sleep(6 * time.Second) // fake
			expect(t, c, `{"a":2}`, 2)
		})
	})
	t.Run("one that hangs refuses when its time is up", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() {
				f.answer = func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() }
			})
			f.propose(t, configured(path, `{"a":2}`))
			time.Sleep(11 * time.Second) // fake
			f.refused(t, c, path, 2, "not answered within 10s")
		})
	})
	t.Run("one that ends when it is called refuses", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.set(func() { f.answer = func(context.Context, string) (string, error) { return "", errors.New("EOF") } })
			f.propose(t, configured(path, `{"a":2}`))
			soon()
			f.change(func(r *reconcile.Replica) { r.Restarts, r.Reason = 1, "exited with code 2" })
			soon()
			f.refused(t, c, path, 2, "ended when it was told: exited with code 2")
		})
	})
	t.Run("one that starts again after it was called is called again", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.propose(t, configured(path, `{"a":2}`))
			soon()
			f.change(func(r *reconcile.Replica) { r.Restarts++ })
			soon()
			expect(t, c, `{"a":2}`, 2)
			if n := len(f.posted()); n != 4 {
				t.Errorf("called %d times", n)
			}
		})
	})
	t.Run("a new leader calls again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &configFake{fake: newFake()}
			_, stop := f.lead(t)
			f.propose(t, configured(path, `{"a":1}`))
			soon()
			f.listen()
			time.Sleep(time.Second) // fake
			f.propose(t, configured(path, `{"a":2}`))
			soon()
			stop()
			c, _ := f.lead(t)
			expect(t, c, `{"a":2}`, 2)
			if n := len(f.posted()); n != 4 {
				t.Errorf("called %d times", n)
			}
		})
	})
}

func TestConfigBySignal(t *testing.T) {
	signal := appspec.Reconfigure{Signal: "SIGHUP", Timeout: appspec.Duration(5 * time.Second)}
	began := func(f *configFake, behind time.Duration) { // by the node's clock
		f.change(func(r *reconcile.Replica) { r.StartedAt = r.CreatedAt.Add(-behind) })
	}
	signalled := func(f *configFake, behind time.Duration) {
		f.change(func(r *reconcile.Replica) { r.SignalledAt = time.Now().Add(-behind) })
	}
	t.Run("one that goes on after the signal has taken it", func(t *testing.T) {
		live(t, signal, func(t *testing.T, f *configFake, c *controller.Controller) {
			began(f, 0)
			soon()
			expect(t, c, `{"a":1}`, 2)
			f.propose(t, configured(signal, `{"a":2}`))
			soon()
			signalled(f, 0)
			time.Sleep(1500 * time.Millisecond) // fake
			expect(t, c, `{"a":2}`, 0)
			time.Sleep(time.Second) // fake
			expect(t, c, `{"a":2}`, 2)
			if len(f.posted()) > 0 {
				t.Errorf("called: %v", f.posted())
			}
		})
	})
	t.Run("one that fails its check after the signal has not", func(t *testing.T) {
		live(t, signal, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.propose(t, configured(signal, `{"a":2}`))
			soon()
			signalled(f, 0)
			soon()
			f.pass(false)
			time.Sleep(time.Minute) // fake
			expect(t, c, `{"a":2}`, 0)
			f.pass(true)
			time.Sleep(4 * time.Second) // fake
			expect(t, c, `{"a":2}`, 2)
		})
	})
	t.Run("also on a node whose clock is behind", func(t *testing.T) {
		live(t, signal, func(t *testing.T, f *configFake, c *controller.Controller) {
			began(f, time.Hour)
			soon()
			f.propose(t, configured(signal, `{"a":2}`))
			soon()
			signalled(f, time.Hour-time.Second)
			time.Sleep(3 * time.Second) // fake
			expect(t, c, `{"a":2}`, 2)
		})
	})
	t.Run("a signal of before does not count", func(t *testing.T) {
		live(t, signal, func(t *testing.T, f *configFake, c *controller.Controller) {
			signalled(f, -time.Hour) // its clock is ahead
			soon()
			f.propose(t, configured(signal, `{"a":2}`))
			time.Sleep(4 * time.Second) // fake
			expect(t, c, `{"a":2}`, 0)
			time.Sleep(2 * time.Second) // fake
			f.refused(t, c, signal, 2, "Nomad has not sent it SIGHUP within 5s")
		})
	})
	t.Run("one that ends at the signal refuses", func(t *testing.T) {
		for name, end := range map[string]func(*reconcile.Replica){
			"and starts again": func(r *reconcile.Replica) { r.Restarts, r.StartedAt = 1, time.Now() },
			"for good":         func(r *reconcile.Replica) { r.Status = reconcile.ReplicaFailed },
		} {
			t.Run(name, func(t *testing.T) {
				live(t, signal, func(t *testing.T, f *configFake, c *controller.Controller) {
					f.propose(t, configured(signal, `{"a":2}`))
					soon()
					signalled(f, 0)
					soon()
					f.change(func(r *reconcile.Replica) { end(r); r.Reason = "ended by signal 1 (SIGHUP)" })
					soon()
					told(t, c, 2, "ended when it was told: ended by signal 1 (SIGHUP)")
				})
			})
		}
	})
	t.Run("a new leader goes by the time of the signal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, signal := &configFake{fake: newFake()}, appspec.Reconfigure{Signal: "SIGHUP", Timeout: appspec.Duration(time.Minute)}
			_, stop := f.lead(t)
			f.propose(t, configured(signal, `{"a":1}`))
			soon()
			time.Sleep(time.Second) // fake
			f.propose(t, configured(signal, `{"a":2}`))
			soon()
			stop()
			i := 0
			f.change(func(r *reconcile.Replica) {
				if i++; i == 1 {
					r.SignalledAt = time.Now()
				}
			})
			c, _ := f.lead(t)
			expect(t, c, `{"a":2}`, 1)
		})
	})
}

func TestConfigsInNomad(t *testing.T) {
	path := appspec.Reconfigure{Path: "/config"}
	t.Run("one is dropped when its job has ended", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, _ *controller.Controller) {
			f.propose(t, raftstate.Command{ID: "x", Delete: &raftstate.Delete{Application: "shop"}})
			time.Sleep(time.Minute) // fake
			if len(f.now().Configs.Written) > 0 {
				t.Errorf("left: %v", f.now().Configs.Written)
			}
		})
	})
	t.Run("what an earlier leader left is dropped, what is another cluster's is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &configFake{fake: newFake()}
			_, stop := f.lead(t)
			stop()
			f.mu.Lock()
			f.world.Configs.Written = map[string]reconcile.Config{"serve-a": {ClusterID: f.state.ClusterID}, "serve-b": {ClusterID: "another"}}
			f.mu.Unlock()
			f.lead(t)
			if left := slices.Collect(maps.Keys(f.now().Configs.Written)); !slices.Equal(left, []string{"serve-b"}) {
				t.Errorf("left: %v", left)
			}
		})
	})
	t.Run("they are looked at only where somebody asks for them", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &configFake{fake: newFake()}
			f.lead(t)
			f.propose(t, deploy("v1"))
			time.Sleep(time.Hour) // fake
			f.set(func() {
				if f.lists != 1 {
					t.Errorf("looked %d times", f.lists)
				}
			})
		})
	})
	t.Run("one that cannot be written is said, and no job starts without it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &configFake{fake: newFake(), deny: errors.New("Permission denied")}
			c, _ := f.lead(t)
			f.propose(t, configured(path, `{"a":1}`))
			soon()
			faults := slices.Collect(maps.Values(c.View().World.Configs.Faults))
			if len(f.now().Jobs) > 0 || !slices.Equal(faults, []string{"Permission denied"}) {
				t.Errorf("jobs %v, faults %q", f.now().Jobs, faults)
			}
			f.set(func() { f.deny = nil })
			time.Sleep(time.Minute) // fake
			if w := c.View().World; len(w.Jobs) != 1 || len(w.Configs.Faults) > 0 {
				t.Errorf("jobs %v, faults %q", w.Jobs, w.Configs.Faults)
			}
		})
	})
	t.Run("a Nomad that is away confirms nothing and loses nothing", func(t *testing.T) {
		live(t, path, func(t *testing.T, f *configFake, c *controller.Controller) {
			f.setDown(errors.New("no answer"))
			f.propose(t, configured(path, `{"a":2}`))
			time.Sleep(time.Minute) // fake
			if configs := c.View().World.Configs; configs.Error == "" || len(configs.Written) != 1 {
				t.Errorf("%+v", configs)
			}
			f.setDown(nil)
			time.Sleep(time.Minute) // fake
			expect(t, c, `{"a":2}`, 2)
		})
	})
}
