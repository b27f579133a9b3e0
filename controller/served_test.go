package controller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// takeover is the shop with a proxy that reports each second how each version of
// its till serves, as long as the route says that this is to be told.
type takeover struct {
	*scene
	serves func(version string) loads.Served // in a second
}

// rollsOut deploys v1, and v2 with a rollout block.
func rollsOut(t *testing.T, block *appspec.Rollout, serves func(version string) loads.Served, adjust ...func(*fake)) *takeover {
	t.Helper()
	s := &takeover{scene: &scene{fake: newFake(), t: t}, serves: serves}
	for _, a := range adjust {
		a(s.fake)
	}
	s.lead()
	settle()
	s.propose(t, deploy("v1"))
	settle()
	go s.reports(t.Context())
	time.Sleep(time.Minute) // fake
	if _, known := s.standing("v1"); known {
		t.Error("how it serves is known before there is anything to compare")
	}
	s.propose(t, deployWith("v2", block))
	return s
}

func deployWith(command string, block *appspec.Rollout) raftstate.Command {
	c := deploy(command)
	c.Deploy.Applications[0].Spec.Rollout = block
	return c
}

func (s *takeover) reports(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second): // fake
		}
		if err := s.current().TakeLoads(s.next()); err != nil && !errors.Is(err, controller.ErrNotLeading) {
			s.t.Errorf("report refused: %v", err)
		}
	}
}

func (s *takeover) current() *controller.Controller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c
}

// next is the proxy's next report.
func (s *takeover) next() loads.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	r := loads.Report{
		Schema: loads.Schema, Proxy: "n1:8000", Incarnation: 1, Sequence: s.sent, After: s.sent - 1, Ready: true,
		Covers: time.Second, Next: time.Second,
	}
	route := s.world.Routes["shop"]
	for _, version := range route.Deployments["till"].Versions() {
		if !route.Watched {
			break
		}
		served := s.serves(version)
		served.Application, served.Deployment, served.Version = "shop", "till", version
		r.Served = append(r.Served, served)
	}
	return r
}

// version returns the deployment version of the till that runs command.
func version(command string) string {
	return deploy(command).Deploy.Applications[0].Hashes["till"]
}

// standing returns how the till that runs command is seen to serve.
func (s *takeover) standing(command string) (analysis.Standing, bool) {
	synctest.Wait()
	world := s.current().View().World
	if world == nil {
		return analysis.Standing{}, false
	}
	standing, known := world.Served[jobspec.JobID("shop", "till", version(command))]
	return standing, known
}

// well is ten requests a second that all go well.
func well(string) loads.Served {
	return loads.Served{Requests: 10, Latency: map[int]uint64{80: 10}}
}

func TestServed(t *testing.T) {
	long := appspec.Duration(time.Hour)
	bake := &appspec.Rollout{BakeTime: &long}

	t.Run("how versions serve is known while one takes over, and not after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, nil, well)
			time.Sleep(8 * time.Second) // fake
			for _, command := range []string{"v1", "v2"} {
				standing, known := s.standing(command)
				if !known || standing.Recent.Requests < 50 || standing.Recent.Requests > 80 {
					t.Errorf("%s: %+v", command, standing)
				}
			}
			time.Sleep(10 * time.Minute) // fake
			if got := s.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
			if world := s.current().View().World; world.Served != nil {
				t.Errorf("it is known when all is over: %+v", world.Served)
			}
		})
	})

	t.Run("it is looked at each second, without asking Nomad what it has told already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, bake, well)
			time.Sleep(20 * time.Second) // fake
			before, looks := uint64(0), s.lookCount()
			for range 30 {
				standing, _ := s.standing("v2")
				if standing.Recent.Requests <= before {
					t.Errorf("%d requests after %d", standing.Recent.Requests, before)
				}
				before = standing.Recent.Requests
				time.Sleep(1100 * time.Millisecond) // fake
			}
			if n := s.lookCount() - looks; n > 3 {
				t.Errorf("Nomad was looked at %d times in half a minute", n)
			}
		})
	})

	t.Run("a fault in Nomad is seen though nothing is to be asked there", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, bake, well)
			time.Sleep(20 * time.Second) // fake
			s.setDown(errors.New("connection refused"))
			time.Sleep(20 * time.Second) // fake
			if w := s.current().View().World; w.NomadKnown {
				t.Error("it is held to be known")
			}
			s.setDown(nil)
			time.Sleep(20 * time.Second) // fake
			if w := s.current().View().World; !w.NomadKnown {
				t.Error("it is held to be away")
			}
		})
	})

	t.Run("a new leader begins anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, bake, well)
			time.Sleep(40 * time.Second) // fake
			old := s.current()
			s.lead()
			if err := old.TakeLoads(s.next()); !errors.Is(err, controller.ErrNotLeading) {
				t.Errorf("the one before: %v", err)
			}
			time.Sleep(5 * time.Second) // fake
			standing, known := s.standing("v2")
			if n := standing.Recent.Requests; !known || n < 20 || n > 60 {
				t.Errorf("%d requests within five seconds, known: %v", n, known)
			}
		})
	})

	t.Run("a version that fails one request in ten is rolled back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, bake, func(of string) loads.Served {
				served := well(of)
				if of == version("v2") {
					served.Errors, served.Latency = 1, map[int]uint64{80: 9}
				}
				return served
			})
			time.Sleep(30 * time.Second) // fake
			rollout := s.State().Applications["shop"].Rollout
			if rollout.Status != raftstate.RolloutFailed || !strings.Contains(rollout.Reason, "requests failed (10.0 percent), of the old version 0 of") {
				t.Errorf("rollout is %+v", rollout)
			}
		})
	})

	t.Run("after a report that was refused nothing is held to have ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, bake, func(string) loads.Served { return loads.Served{} })
			time.Sleep(20 * time.Second) // fake
			if standing, _ := s.standing("v1"); standing.Settled.IsZero() {
				t.Errorf("it has requests: %+v", standing)
			}
			if s.current().TakeLoads(loads.Report{Schema: 99}) == nil {
				t.Error("a report of another schema was taken")
			}
			time.Sleep(1500 * time.Millisecond) // fake
			if standing, _ := s.standing("v1"); !standing.Settled.IsZero() {
				t.Errorf("it has none: %+v", standing)
			}
			time.Sleep(11 * time.Second) // fake
			if standing, _ := s.standing("v1"); standing.Settled.IsZero() {
				t.Errorf("it is not known for ever: %+v", standing)
			}
		})
	})
}
