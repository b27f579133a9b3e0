package controller_test

import (
	"context"
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
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// elastic is the block of most tests: it scales up at once, on what is now, and
// down after a minute.
func elastic(change func(*appspec.Autoscaling)) *appspec.Autoscaling {
	a := &appspec.Autoscaling{
		Policy: appspec.PolicyRay, MinReplicas: 0, MaxReplicas: 10, TargetOngoingRequests: 2,
		DownscaleDelay: appspec.Duration(time.Minute), DownscaleToZeroDelay: appspec.Duration(time.Minute),
		UpscalingFactor: 1, DownscalingFactor: 1, MetricsInterval: appspec.Duration(time.Second), Aggregation: "mean",
	}
	if change != nil {
		change(a)
	}
	return a
}

// deployElastic deploys the shop with block.
func deployElastic(block *appspec.Autoscaling) raftstate.Command {
	c := deploy("v1")
	c.ID = ""
	spec := c.Deploy.Applications[0].Spec
	spec.Deployments[0].Autoscaling, spec.Deployments[0].NumReplicas = block, block.MinReplicas
	return c
}

// scene is a cluster in which the shop's till scales, with one proxy.
type scene struct {
	*fake
	t     *testing.T
	c     *controller.Controller
	stop  func()
	sent  uint64
	load  loads.Deployment
	quiet bool // the proxy is cut off
}

// play sets the scene: the till is deployed with block and its proxy reports
// every second that there is nothing to do.
func play(t *testing.T, block *appspec.Autoscaling, adjust ...func(*fake)) *scene {
	t.Helper()
	s := &scene{fake: newFake(), t: t}
	for _, a := range adjust {
		a(s.fake)
	}
	s.lead()
	settle()
	s.propose(t, deployElastic(block))
	settle()
	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Second): // fake
				s.report()
			}
		}
	}()
	time.Sleep(time.Minute) // fake
	return s
}

// lead makes another server the leader.
func (s *scene) lead() {
	s.t.Helper()
	if s.stop != nil {
		s.stop()
		synctest.Wait()
	}
	s.stop = s.startWith(s.t, func(c *controller.Controller) {
		s.mu.Lock()
		s.c = c
		s.mu.Unlock()
	})
}

// report tells the leader of the load, as it is since the last report.
func (s *scene) report() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet {
		return
	}
	s.sent++
	r := loads.Report{
		Schema: loads.Schema, Proxy: "n1:8000", Incarnation: 1, Sequence: s.sent, Ready: true,
		Covers: time.Second, Next: time.Second,
	}
	if s.load.Max > 0 {
		r.Deployments = []loads.Deployment{s.load}
	}
	c := s.c
	s.mu.Unlock()
	err := c.TakeLoads(r)
	s.mu.Lock()
	if err != nil && !errors.Is(err, controller.ErrNotLeading) {
		s.t.Errorf("report refused: %v", err)
	}
}

// requests says how many there are from now on, and reports it.
func (s *scene) requests(n int) {
	s.mu.Lock()
	s.load = loads.Deployment{
		Application: "shop", Deployment: "till", Queued: n, Mean: float64(n), Max: float64(n), Min: float64(n),
	}
	s.mu.Unlock()
	s.report()
}

func (s *scene) setQuiet(quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = quiet
}

// count is how many replicas Nomad is told to run.
func (s *scene) count() int {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, job := range s.world.Jobs {
		if !job.Stopped {
			return job.Count
		}
	}
	return -1
}

func (s *scene) want(n int, when string) {
	s.t.Helper()
	if got := s.count(); got != n {
		s.t.Errorf("%s: %d replicas, want %d", when, got, n)
	}
}

// target is how many replicas are wanted.
func (s *scene) target() int {
	synctest.Wait()
	return s.State().Applications["shop"].Target("till")
}

// events returns those of a type, in words.
func (s *scene) events(kind string) []string {
	synctest.Wait()
	s.mu.Lock()
	c := s.c
	s.mu.Unlock()
	var list []string
	for _, e := range append(slices.Clone(c.View().Seen), c.View().State.Events...) {
		if e.Type == kind {
			list = append(list, e.Message)
		}
	}
	return list
}

func TestScaler(t *testing.T) {
	t.Run("from nothing to what the requests need, at once, and back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil), func(f *fake) { f.slowLook = 3 * time.Second })
			s.want(0, "with nothing to do")
			s.requests(7)
			time.Sleep(time.Millisecond) // fake
			s.want(1, "the first request has come")
			time.Sleep(10 * time.Second) // fake; the look has to find the first replica
			s.want(4, "7 requests at 2 each")
			s.requests(0)
			time.Sleep(50 * time.Second) // fake
			s.want(4, "before the delay is over")
			time.Sleep(30 * time.Second) // fake
			s.want(1, "when it is over")
			time.Sleep(3 * time.Minute) // fake
			s.want(0, "long after")
			if last := s.scales[len(s.scales)-1]; !strings.Contains(last.reason, "0 requests") {
				t.Errorf("Nomad is told %q", last.reason)
			}
			if got := len(s.events("autoscaled")); got != 4 { // 1, 4, 1, 0
				t.Errorf("%d changes: %v", got, s.events("autoscaled"))
			}
		})
	})

	t.Run("the bounds hold whatever the load", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.MinReplicas = 2 }))
			s.want(2, "with nothing to do")
			s.requests(1e9)
			time.Sleep(10 * time.Second) // fake
			s.want(10, "with far too much")
			s.requests(0)
			time.Sleep(time.Hour) // fake
			s.want(2, "with nothing again")
		})
	})

	t.Run("a new leader takes nothing away before it has seen the window", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(func(a *appspec.Autoscaling) {
				a.LookBackPeriod, a.DownscaleDelay = appspec.Duration(40*time.Second), 0
			}))
			s.requests(10)
			time.Sleep(2 * time.Minute) // fake
			s.want(5, "under load")
			s.lead()
			s.requests(0)
			time.Sleep(39 * time.Second) // fake
			s.want(5, "before the window has been seen")
			s.requests(1000)
			time.Sleep(5 * time.Second) // fake
			s.want(10, "under more load, which does not wait")
			s.lead()
			s.requests(0)
			time.Sleep(45 * time.Second) // fake
			s.want(1, "when the window has been seen")
		})
	})

	t.Run("what cannot be recorded changes nothing, and is recorded once when it can", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.MinReplicas, a.UpscaleDelay = 1, appspec.Duration(20*time.Second) }))
			s.mu.Lock()
			s.noCommit = errors.New("no quorum")
			before := len(s.commands)
			s.mu.Unlock()
			s.requests(8)
			time.Sleep(50 * time.Second) // fake
			s.want(1, "while nothing can be recorded")
			s.mu.Lock()
			if tries := len(s.commands) - before; tries < 3 || tries > 30 {
				t.Errorf("%d tries in half a minute", tries)
			}
			s.noCommit = nil
			s.mu.Unlock()
			time.Sleep(6 * time.Second) // fake: the delay is over and does not begin anew
			s.want(4, "when it can be recorded again")
			if got := s.events("autoscaled"); len(got) != 1 {
				t.Errorf("recorded %q", got)
			}
		})
	})

	t.Run("a change that is recorded without an answer ends its delay all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil))
			s.requests(6)
			time.Sleep(10 * time.Second) // fake
			s.want(3, "under load")
			s.mu.Lock()
			s.noAnswer = errors.New("leadership lost while committing the log")
			s.mu.Unlock()
			s.requests(0)
			time.Sleep(62 * time.Second) // fake
			s.want(1, "after downscale_delay")
			time.Sleep(55 * time.Second) // fake
			s.want(1, "before downscale_to_zero_delay is over")
			time.Sleep(10 * time.Second) // fake
			s.want(0, "when it is")
		})
	})

	t.Run("a change that is left out is not proposed again and again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil))
			s.mu.Lock()
			s.leaveOut = true
			before := len(s.commands)
			s.mu.Unlock()
			s.requests(8)
			time.Sleep(20 * time.Second) // fake
			s.mu.Lock()
			if tries := len(s.commands) - before; tries < 10 || tries > 21 {
				t.Errorf("%d tries in 20 s", tries)
			}
			s.leaveOut = false
			s.mu.Unlock()
			time.Sleep(3 * time.Second) // fake
			s.want(4, "when it is taken")
		})
	})

	t.Run("another block starts the delay anew, another deploy does not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slow := elastic(func(a *appspec.Autoscaling) { a.MinReplicas, a.UpscaleDelay = 1, appspec.Duration(20*time.Second) })
			s := play(t, slow)
			s.requests(8)
			time.Sleep(10 * time.Second) // fake
			other := deployElastic(new(*slow))
			other.Deploy.Applications[0].Spec.Deployments[0].MaxQueuedRequests = 77
			s.propose(t, other)
			time.Sleep(9 * time.Second) // fake
			s.want(1, "before the delay is over")
			time.Sleep(2 * time.Second) // fake
			s.want(4, "20 s after the load came")

			s.requests(16)
			time.Sleep(10 * time.Second) // fake
			wider := *slow
			wider.MaxReplicas = 6
			s.propose(t, deployElastic(&wider))
			time.Sleep(12 * time.Second) // fake
			s.want(4, "22 s after the load came, 12 s after the block")
			time.Sleep(10 * time.Second) // fake
			s.want(6, "22 s after the block")
		})
	})

	t.Run("a silent proxy holds everything, and is told of once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil))
			s.requests(10)
			time.Sleep(10 * time.Second) // fake
			s.want(5, "under load")
			s.requests(0)
			s.setQuiet(true)
			time.Sleep(4 * time.Minute) // fake
			s.want(5, "with its proxy silent")
			if got := s.events("proxy-silent"); len(got) != 1 || !strings.Contains(got[0], "n1:8000") {
				t.Errorf("told %q", got)
			}
			s.setQuiet(false)
			time.Sleep(3 * time.Minute) // fake
			s.want(0, "with its proxy back")
			if got := s.events("proxy-back"); len(got) != 1 {
				t.Errorf("told %q", got)
			}
		})
	})

	t.Run("two proxies with one name both count, and it is told of once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil))
			s.requests(6)
			for i := range 60 {
				err := s.c.TakeLoads(loads.Report{
					Schema: loads.Schema, Proxy: "n1:8000", Incarnation: 2, Sequence: uint64(i + 1), Ready: true,
					Covers: time.Second, Next: time.Second,
					Deployments: []loads.Deployment{{Application: "shop", Deployment: "till", Ongoing: 4, Mean: 4, Max: 4, Min: 4}},
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // fake
			}
			s.want(5, "6 requests at one and 4 at the other")
			if got := s.events("proxy-name-taken"); len(got) != 1 || !strings.Contains(got[0], "n1:8000") {
				t.Errorf("told %q", got)
			}
		})
	})

	t.Run("while Nomad is not known nothing is taken away, and the more is added", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(nil))
			s.requests(4)
			time.Sleep(10 * time.Second) // fake
			s.want(2, "under load")
			s.mu.Lock()
			s.blind = errors.New("connection refused")
			s.mu.Unlock()
			s.requests(0)
			time.Sleep(10 * time.Minute) // fake
			if got := s.target(); got != 2 {
				t.Errorf("the target is %d with nothing to do, and Nomad not known", got)
			}
			s.requests(12)
			time.Sleep(time.Second) // fake
			if got := s.target(); got != 6 {
				t.Errorf("the target is %d with 12 requests", got)
			}
			s.mu.Lock()
			s.blind = nil
			s.mu.Unlock()
			time.Sleep(time.Minute) // fake
			s.want(6, "when Nomad is known again")
		})
	})

	t.Run("what scales from outside is left alone, and so is what is deleted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas = appspec.PolicyExternal, 1 }))
			s.requests(100)
			time.Sleep(5 * time.Minute) // fake
			s.want(1, "scaled from outside")
			s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: 3}})
			time.Sleep(5 * time.Minute) // fake
			s.want(3, "set from outside")
			s.propose(t, raftstate.Command{Delete: &raftstate.Delete{Application: "shop"}})
			time.Sleep(5 * time.Minute) // fake
			s.want(-1, "deleted")
		})
	})
}

// A count is set as soon as the State asks for it, whatever the loop does, and
// an older one is never set after it.
func TestWhatScalesFromOutsideFollowsItsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble begins at midnight of 2000-01-01.
		s := play(t, &appspec.Autoscaling{
			Policy: appspec.PolicyExternal, MinReplicas: 1, MaxReplicas: 5,
			Schedules: []*appspec.Schedule{{Name: "noon", Cron: "0 12 * * *", Duration: appspec.Duration(time.Hour), Timezone: "UTC", MinReplicas: new(3)}},
		})
		if n := s.count(); n != 1 {
			t.Errorf("%d replicas before", n)
		}
		time.Sleep(12 * time.Hour) // fake
		if n := s.count(); n != 3 {
			t.Errorf("%d replicas at noon", n)
		}
		time.Sleep(time.Hour) // fake
		if n := s.count(); n != 3 {
			t.Errorf("%d replicas afterwards: that is for whoever scales it to change", n)
		}
	})
}

func TestCountsAreHurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas, a.MaxReplicas = appspec.PolicyExternal, 1, 1000 }),
			func(f *fake) { f.slowLook, f.slow = 700*time.Millisecond, 20*time.Millisecond })
		s.mu.Lock()
		s.scales = nil
		s.mu.Unlock()
		for n := 2; n < 100; n++ {
			s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: n}})
			asked := time.Now()
			time.Sleep(time.Duration(n*7) * time.Millisecond % (310 * time.Millisecond)) // fake
			time.Sleep(50 * time.Millisecond)                                            // fake
			s.want(n, "shortly after it was asked for")
			s.mu.Lock()
			last := s.scales[len(s.scales)-1]
			s.mu.Unlock()
			if last.count != n || last.at.Sub(asked) > 41*time.Millisecond { // one write may be under way
				t.Errorf("%d was asked for: after %s Nomad got %d", n, last.at.Sub(asked), last.count)
			}
		}
		time.Sleep(time.Minute) // fake
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, got := range s.scales {
			if i > 0 && got.count < s.scales[i-1].count {
				t.Errorf("Nomad got %d after %d", got.count, s.scales[i-1].count)
			}
		}
		if len(s.scales) != 98 {
			t.Errorf("98 changes were %d writes", len(s.scales))
		}
	})
}

// A count that goes up and down while the loop looks, so that what it sees is
// not what it has set, is the last that was asked for all the same.
func TestCountsAreHurriedBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas, a.MaxReplicas = appspec.PolicyExternal, 1, 1000 }),
			func(f *fake) { f.slowLook, f.slow = 3*time.Second, 20*time.Millisecond })
		for i, n := range []int{5, 1, 7, 7, 5, 1, 2, 1, 2, 3, 2, 1, 9, 1} {
			s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: n}})
			time.Sleep(50*time.Millisecond + time.Duration(i*i*37%900)*time.Millisecond) // fake
			s.want(n, fmt.Sprintf("shortly after %d were asked for", n))
		}
		time.Sleep(time.Minute) // fake
		s.want(1, "in the end")
	})
}

// byHand sets the count of the shop's job past the controller.
func (s *scene) byHand(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := maps.Clone(s.world.Jobs)
	for id, job := range jobs {
		job.Count = n
		jobs[id] = job
	}
	s.world = new(*s.world)
	s.world.Jobs = jobs
	s.scales = nil
}

func TestACountSetByHandIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas = appspec.PolicyExternal, 1 }))
		s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: 5}})
		for range 2 {
			time.Sleep(time.Minute) // fake
			s.want(5, "as it was asked for")
			s.byHand(7)
		}
		time.Sleep(time.Minute) // fake
		s.want(5, "after it was 7 by hand")
	})
}

// A long plan does not hold up a count.
func TestCountsAreHurriedThroughAPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas = appspec.PolicyExternal, 1 }),
			func(f *fake) { f.slow = time.Second })
		many := deploy("v1")
		first := many.Deploy.Applications[0]
		many.Deploy.Applications = nil
		for i := range 20 {
			spec := *first.Spec
			spec.Name, spec.RoutePrefix = fmt.Sprintf("app-%02d", i), fmt.Sprintf("/app-%02d", i)
			many.Deploy.Applications = append(many.Deploy.Applications, raftstate.DeployApplication{Spec: &spec, Hashes: first.Hashes})
		}
		s.propose(t, many)
		time.Sleep(3500 * time.Millisecond) // fake
		s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: 8}})
		time.Sleep(1600 * time.Millisecond) // fake: the write that is under way, and its own
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.scales) != 1 || s.scales[0].count != 8 {
			t.Errorf("Nomad got %+v", s.scales)
		}
	})
}

// A plan does not set a count that the State no longer asks for.
func TestAPlanIsOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.Policy, a.MinReplicas = appspec.PolicyExternal, 1 }),
			func(f *fake) { f.slow = time.Second })
		s.byHand(7)
		other := deploy("v1")
		spec := other.Deploy.Applications[0].Spec
		spec.Name, spec.RoutePrefix = "another", "/another" // comes first in the plan
		s.propose(t, other)
		time.Sleep(500 * time.Millisecond) // fake: its job is being registered
		s.propose(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: 8}})
		time.Sleep(time.Minute) // fake
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.scales) != 1 || s.scales[0].count != 8 {
			t.Errorf("Nomad got %+v", s.scales)
		}
	})
}

func TestWhoDoesNotLeadTakesNoLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := controller.New(controller.Config{Raft: f, Jobs: f, Discovery: f})
		if err := c.TakeLoads(loads.Report{}); !errors.Is(err, controller.ErrNotLeading) {
			t.Errorf("loads: %v", err)
		}
		if _, err := c.Explain("shop", "till"); !errors.Is(err, controller.ErrNotLeading) {
			t.Errorf("explain: %v", err)
		}
		if _, err := c.Proxies(); !errors.Is(err, controller.ErrNotLeading) {
			t.Errorf("proxies: %v", err)
		}
		s := play(t, elastic(nil))
		s.stop()
		synctest.Wait()
		if err := s.c.TakeLoads(loads.Report{}); !errors.Is(err, controller.ErrNotLeading) {
			t.Errorf("after the leadership: %v", err)
		}
	})
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, elastic(func(a *appspec.Autoscaling) { a.UpscaleDelay, a.MinReplicas = appspec.Duration(30*time.Second), 1 }))
		s.requests(8)
		time.Sleep(12 * time.Second) // fake
		synctest.Wait()
		for range 2 { // it changes nothing
			got, err := s.c.Explain("shop", "till")
			if err != nil {
				t.Fatal(err)
			}
			if got.Policy != "ray" || got.Target != 1 || got.Running != 1 || got.Min != 1 || got.Max != 10 ||
				got.Queued != 8 || got.Load == nil || got.Load.Present != 8 || len(got.Proxies.Proxies) != 1 || got.Hold != "" {
				t.Errorf("got %+v", got)
			}
			if p := got.Decision.Pending; p == nil || p.Target != 4 || len(got.Decision.Rules) == 0 {
				t.Errorf("decision %+v", got.Decision)
			} else if wait := p.At.Sub(got.At); wait < 17*time.Second || wait > 19*time.Second {
				t.Errorf("in %s", wait)
			}
		}
		time.Sleep(30 * time.Second) // fake
		got, err := s.c.Explain("shop", "till")
		if err != nil || got.Target != 4 || got.Last == nil || got.Last.From != 1 || got.Last.To != 4 || got.Last.By != raftstate.ByAutoscaler {
			t.Errorf("got %+v, last %+v, error %v", got, got.Last, err)
		}
		s.setQuiet(true)
		time.Sleep(time.Minute) // fake
		if got, err = s.c.Explain("shop", "till"); err != nil || !strings.Contains(got.Hold, "silent") || !got.Proxies.Proxies[0].Silent {
			t.Errorf("got %+v, error %v", got, err)
		}

		s.propose(t, deploy("v2"))
		for _, c := range []struct {
			app, deployment string
			code            raftstate.ErrorCode
			says            string
		}{
			{"nope", "till", raftstate.CodeNotFound, "nope"},
			{"shop", "nope", raftstate.CodeNotFound, "it has till"},
			{"shop", "till", raftstate.CodeConflict, "no autoscaling block"},
		} {
			_, err := s.c.Explain(c.app, c.deployment)
			var refusal *raftstate.Refusal
			if !errors.As(err, &refusal) || refusal.Code != c.code || !strings.Contains(refusal.Message, c.says) {
				t.Errorf("%s/%s: %v", c.app, c.deployment, err)
			}
		}
	})
}

// gauge is a metric source that says what it is told to.
type gauge struct {
	mu     sync.Mutex
	value  float64
	err    error
	hang   bool
	asked  int
	places []string
}

func (g *gauge) set(value float64, err error, hang bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.value, g.err, g.hang = value, err, hang
}

func (g *gauge) read(ctx context.Context) (float64, error) {
	g.mu.Lock()
	value, err, hang := g.value, g.err, g.hang
	g.asked++
	g.mu.Unlock()
	if hang {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return value, err
}

// times is how often it was read.
func (g *gauge) times() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func (g *gauge) Query(ctx context.Context, _ string) (float64, error) { return g.read(ctx) }

func (g *gauge) Number(ctx context.Context, _ string) (float64, error) { return g.read(ctx) }

func (g *gauge) Replicas(ctx context.Context, addresses []string, path, field string) (float64, error) {
	g.mu.Lock()
	g.places = append(slices.Clone(addresses), path, field)
	g.mu.Unlock()
	return g.read(ctx)
}

func metric(source string) *appspec.Metric {
	return &appspec.Metric{
		Source: source, Query: "queue", Path: "/load", Field: "models[0].queue", Target: 10, Combine: appspec.CombineReplace,
		Interval: appspec.Duration(5 * time.Second), Timeout: appspec.Duration(2 * time.Second),
	}
}

func TestMetricSources(t *testing.T) {
	t.Run("a query sets the target, and one that fails decides nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 35}
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.MinReplicas, a.Metric = 1, metric("prometheus") }), func(f *fake) { f.metrics = g })
			s.want(4, "a metric of 35 at 10 each")
			g.set(0, errors.New("prometheus is away"), false)
			time.Sleep(time.Hour) // fake
			s.want(4, "the source fails")
			if got := s.events("metric-failing"); len(got) != 1 || !strings.Contains(got[0], "prometheus is away") {
				t.Errorf("told %q", got)
			}
			if got, err := s.c.Explain("shop", "till"); err != nil || got.Metric == nil || got.Metric.Error != "prometheus is away" {
				t.Errorf("explained: %+v, error %v", got.Metric, err)
			}
			g.set(0, nil, true)
			time.Sleep(time.Hour) // fake
			s.want(4, "the source hangs")
			g.set(11, nil, false)
			time.Sleep(5 * time.Minute) // fake
			s.want(2, "the source says 11")
			if got := s.events("metric-back"); len(got) != 1 {
				t.Errorf("told %q", got)
			}
		})
	})

	t.Run("what goes by a metric alone waits for no proxy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, combine := range []string{appspec.CombineReplace, appspec.CombineMax} {
				g := &gauge{value: 35}
				s := play(t, elastic(func(a *appspec.Autoscaling) {
					a.MinReplicas, a.Metric = 1, metric("prometheus")
					a.Metric.Combine = combine
				}), func(f *fake) { f.metrics = g })
				s.want(4, "a metric of 35 at 10 each")
				s.setQuiet(true)
				g.set(11, nil, false)
				time.Sleep(3 * time.Minute) // fake
				if combine == appspec.CombineReplace {
					s.want(2, "the metric says 11, and the proxy is silent")
				} else {
					s.want(4, "the metric says 11, and the requests are not known")
				}
			}
		})
	})

	t.Run("a source that hangs holds up nothing else", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{hang: true}
			s := play(t, elastic(func(a *appspec.Autoscaling) {
				a.Metric = metric("prometheus")
				a.Metric.Combine = appspec.CombineMax
			}), func(f *fake) { f.metrics = g })
			s.requests(6)
			time.Sleep(time.Second) // fake
			s.want(3, "requests come")
		})
	})

	t.Run("replicas are asked where they are, at the field", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 25}
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.MinReplicas, a.Metric = 2, metric("replica") }), func(f *fake) { f.metrics = g })
			s.want(3, "25 at 10 each")
			g.mu.Lock()
			defer g.mu.Unlock()
			if n := len(g.places); n != 5 || g.places[3] != "/load" || g.places[4] != "models.0.queue" {
				t.Errorf("asked %q", g.places)
			}
		})
	})

	t.Run("each is asked at its interval, and the old one no more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 5}
			s := play(t, elastic(func(a *appspec.Autoscaling) { a.MinReplicas, a.Metric = 1, metric("prometheus") }), func(f *fake) { f.metrics = g })
			for _, block := range []*appspec.Autoscaling{
				nil,
				elastic(func(a *appspec.Autoscaling) {
					a.MinReplicas, a.Metric = 1, metric("prometheus")
					a.Metric.Query = "another"
				}),
			} {
				if block != nil {
					s.propose(t, deployElastic(block))
					settle()
				}
				g.mu.Lock()
				before := g.asked
				g.mu.Unlock()
				time.Sleep(500 * time.Second) // fake
				g.mu.Lock()
				if n := g.asked - before; n < 90 || n > 112 {
					t.Errorf("asked %d times in 500 s, every 5 s", n)
				}
				g.mu.Unlock()
			}
			s.propose(t, deployElastic(elastic(nil)))
			settle()
			g.mu.Lock()
			before := g.asked
			g.mu.Unlock()
			time.Sleep(time.Hour) // fake
			if g.asked != before {
				t.Errorf("asked %d times after the block was gone", g.asked-before)
			}
		})
	})

	t.Run("at zero nobody is asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 25}
			s := play(t, elastic(func(a *appspec.Autoscaling) {
				a.Metric = metric("replica")
				a.Metric.Combine = appspec.CombineMax
			}), func(f *fake) { f.metrics = g })
			s.want(0, "nothing to do")
			if got := s.events("metric-failing"); len(got) > 0 || g.asked > 0 {
				t.Errorf("told %q, asked %d times", got, g.asked)
			}
			s.requests(1)
			time.Sleep(20 * time.Second) // fake
			s.want(3, "a request has come, and replicas say 25")
		})
	})
}

// TestManyDeploymentsAtOnce has every one of a thousand scale in one tick: they
// are recorded together.
func TestManyDeploymentsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var c *controller.Controller
		f.startWith(t, func(made *controller.Controller) { c = made })
		settle()
		command := deployElastic(elastic(func(a *appspec.Autoscaling) { a.MinReplicas = 1 }))
		first := command.Deploy.Applications[0]
		command.Deploy.Applications = nil
		r := loads.Report{Schema: loads.Schema, Proxy: "n1", Incarnation: 1, Sequence: 1, Ready: true, Covers: time.Second, Next: time.Second}
		for i := range 1000 {
			spec := *first.Spec
			spec.Name = fmt.Sprintf("app-%03d", i)
			spec.RoutePrefix = "/" + spec.Name
			command.Deploy.Applications = append(command.Deploy.Applications, raftstate.DeployApplication{Spec: &spec, Hashes: first.Hashes})
			r.Deployments = append(r.Deployments, loads.Deployment{
				Application: spec.Name, Deployment: "till", Queued: 6, Mean: 6, Max: 6, Min: 6,
			})
		}
		f.propose(t, command)
		time.Sleep(5 * time.Minute) // fake
		f.mu.Lock()
		f.commands = nil
		f.mu.Unlock()
		if err := c.TakeLoads(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // fake
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.commands) != 1 || len(f.commands[0].Autoscale.Changes) != 1000 || f.commands[0].ID != "" {
			t.Errorf("%d commands", len(f.commands))
		}
		for id, job := range f.world.Jobs {
			if job.Count != 3 {
				t.Errorf("job %s has %d replicas", id, job.Count)
				break
			}
		}
	})
}

// TestScalerIsSafeForAll has everybody at once at a leader that comes and goes.
func TestScalerIsSafeForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{value: 30}
		s := play(t, elastic(func(a *appspec.Autoscaling) {
			a.Metric = metric("replica")
			a.Metric.Combine = appspec.CombineMax
		}), func(f *fake) { f.metrics = g })
		c := s.c
		ended := make(chan struct{})
		var busy sync.WaitGroup
		for n := range 4 {
			busy.Go(func() {
				for i := range 200 {
					select {
					case <-ended:
						return
					case <-time.After(time.Duration(1+(i+n)%7) * 10 * time.Millisecond): // fake
					}
					s.requests(i % 30)
					_, _ = c.Explain("shop", "till") // it may not lead
					_, _ = c.Proxies()
				}
			})
		}
		for i := range 10 {
			time.Sleep(time.Second) // fake
			s.propose(t, deployElastic(elastic(func(a *appspec.Autoscaling) { a.MaxReplicas = 5 + i })))
			if i == 5 {
				s.lead()
			}
		}
		close(ended)
		busy.Wait()
	})
}
