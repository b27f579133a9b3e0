package reconcile_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// replaced is the shop just after version 2, a generation of its own, has taken
// over, and its route stands; how version 1 is seen to serve is to be said.
func replaced(t *testing.T) (c *cluster, old *raftstate.Version) {
	t.Helper()
	block := blueGreen()
	block.DrainTimeout = appspec.Duration(time.Minute)
	c = takingOver(t, block)
	old = c.app().Serving
	for range 60 {
		c.waits(t, time.Second)
		if c.world.Served = map[string]analysis.Standing{}; !c.app().RollingOut() && c.world.Routes["shop"].Generation == 2 {
			return c, old
		}
	}
	t.Fatalf("it does not take over: %+v", c.rollout())
	return nil, nil
}

// A generation that takes no more requests stays until it has none, as far as its
// proxies say, or its time is up.
func TestAGenerationThatDrains(t *testing.T) {
	for name, c := range map[string]struct {
		ongoing int
		settled time.Duration // ago; 0: not all proxies say so
		silent  bool          // no proxy has told of it
		after   time.Duration // it stopped taking requests
		stays   bool
		reason  string
	}{
		"it has some":                      {ongoing: 3, after: 50 * time.Second, stays: true, reason: "3 requests have not ended; they have until"},
		"it has some for too long":         {ongoing: 3, after: time.Minute, reason: "3 requests have not ended within 1m0s"},
		"not all proxies have said":        {after: 50 * time.Second, stays: true, reason: "not all proxies have told"},
		"no proxy has said":                {silent: true, after: 50 * time.Second, stays: true, reason: "not all proxies have told"},
		"they have not for too long":       {after: time.Minute, reason: "it had 1m0s"},
		"it has had none for a second":     {settled: time.Second, after: 30 * time.Second, stays: true, reason: "its last request has just ended"},
		"it has had none for two seconds":  {settled: 2 * time.Second, after: 30 * time.Second, reason: "all of its requests have ended"},
		"it has had none for ever":         {settled: time.Hour, after: 2 * time.Second, reason: "all of its requests have ended"},
		"but proxies may not know that it": {settled: time.Hour, after: time.Second, stays: true, reason: "its last request has just ended"},
	} {
		t.Run(name, func(t *testing.T) {
			s, old := replaced(t)
			s.now = s.app().Leaving[0].At.Add(c.after)
			if standing := (analysis.Standing{Ongoing: c.ongoing}); !c.silent {
				if c.settled > 0 {
					standing.Settled = s.now.Add(-c.settled)
				}
				s.world.Served[job(old, "a")] = standing
			}
			waits := s.summary().Leaving[0].Waits
			plan := s.pass(t)
			if stays := len(s.app().Leaving) > 0; stays != c.stays || stays && !strings.Contains(waits, c.reason) || !stays && !strings.Contains(plan.String(), c.reason) {
				t.Errorf("it stays: %v, as %q; %s", stays, waits, plan)
			}
			if have := s.world.Jobs[job(old, "a")]; c.stays && (have.Stopped || have.Count != 10) {
				t.Errorf("its job is %+v", have)
			}
		})
	}
}

// Of a generation that takes no more requests no replica is placed any more: it
// would hold room, or have a node ordered, for nothing.
func TestReplicasWithoutAPlaceOfAGenerationThatDrains(t *testing.T) {
	s, old := replaced(t)
	id := job(old, "a")
	waiting := s.world.Jobs[id]
	waiting.Unplaced = 3
	s.world.Jobs[id] = waiting
	if got := reconcile.JobTargets(s.state, s.world)[id]; got != 7 {
		t.Errorf("%d of 10 replicas stay, of which 3 have no place", got)
	}
	if plan := s.diff().String(); !strings.Contains(plan, "scale job "+id+", count 10 -> 7") {
		t.Errorf("%s", plan)
	}
}

// With the last stage the version that serves has no share of the requests left,
// and may have requests still: whatever the surge allows, its replicas stay until
// these have ended.
func TestReplicasOfWhatHasNoShareAnyMore(t *testing.T) {
	block, surge := canary(), 5
	block.MaxSurge = &surge
	c := takingOver(t, block)
	old := job(c.app().Serving, "a")
	c.reach(t, "50 percent")
	before := c.world.Jobs[old].Count
	for c.app().RollingOut() {
		c.waits(t, time.Second)
		if have := c.world.Jobs[old].Count; have == 0 || have > before {
			t.Fatalf("%d replicas are left of %d: %+v", have, before, c.app().Rollout)
		}
	}
	if app := c.app(); app.Serving.Number != 2 {
		t.Errorf("it ends as %+v", app.Rollout)
	}
}

// undone is the shop in a canary of version 2 that takes half of the requests,
// with replicas for half of them left of version 1.
func undone(t *testing.T) *cluster {
	t.Helper()
	block, surge := canary(), 50
	block.MaxSurge = &surge
	c := takingOver(t, block)
	c.reach(t, "50 percent")
	if n := c.world.Jobs[job(c.app().Serving, "a")].Count; n != 5 {
		t.Fatalf("version 1 has %d replicas", n)
	}
	return c
}

// route writes the route that is due, and does nothing else of the plan.
func (c *cluster) route(t *testing.T) (weight, own int) {
	t.Helper()
	for _, s := range c.diff().Steps {
		if s.WriteRoute != nil {
			c.state, c.world = reconcile.Simulate(c.state, c.world, c.now, s)
		}
	}
	for _, g := range c.world.Routes["shop"].Others {
		weight += g.Weight
	}
	return weight, c.world.Jobs[job(c.app().Serving, "a")].Count
}

// What is taken back keeps the requests that nobody else has the replicas for,
// unless it was bad.
func TestRequestsOfWhatIsUndone(t *testing.T) {
	for name, c := range map[string]struct {
		how    func(t *testing.T, c *cluster)
		weight int // at first
	}{
		"an abort":      {func(t *testing.T, c *cluster) { t.Helper(); c.steer(t, raftstate.ActionAbort) }, 50},
		"the old again": {func(t *testing.T, c *cluster) { t.Helper(); c.must(t, deploy(tenOf("v1", nil, "a"))) }, 50},
		"a third version": {func(t *testing.T, c *cluster) {
			t.Helper()
			c.must(t, deploy(tenOf("v3", canary(), "a")))
		}, 50},
		"an abort and the same again": {func(t *testing.T, c *cluster) {
			t.Helper()
			c.steer(t, raftstate.ActionAbort)
			c.must(t, deploy(tenOf("v2", canary(), "a")))
		}, 50},
		"a failure": {func(t *testing.T, c *cluster) {
			t.Helper()
			c.must(t, raftstate.Command{EndRollout: &raftstate.EndRollout{Application: "shop", Version: 2, Status: raftstate.RolloutFailed, Reason: "bad"}})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := undone(t)
			c.how(t, s)
			if weight, own := s.route(t); weight != c.weight || own != 5 {
				t.Errorf("it has %d percent of the requests, beside %d replicas; want %d", weight, own, c.weight)
			}
			s.settle(t)
			if app := s.app(); len(app.Leaving) > 0 || app.RollingOut() || len(s.world.Routes["shop"].Others) > 0 {
				t.Errorf("it ends as %+v, %+v", app.Rollout, s.world.Routes["shop"])
			}
		})
	}
}

// Of a rolling change what was good fills in until the others are back, what was
// bad only for half of them, and what a third version takes over from goes on.
func TestReplicasOfARollingChangeThatIsUndone(t *testing.T) {
	for name, c := range map[string]struct {
		command raftstate.Command
		want    []int // replicas of versions 1 and 2
	}{
		"as somebody asks":   {raftstate.Command{SteerRollout: &raftstate.SteerRollout{Application: "shop", Action: raftstate.ActionAbort}}, []int{10, 3}},
		"as it is bad":       {raftstate.Command{EndRollout: &raftstate.EndRollout{Application: "shop", Version: 2, Status: raftstate.RolloutFailed}}, []int{10, 0}},
		"by a third version": {deploy(tenOf("v3", nil, "a")), []int{4, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			s := takingOver(t, nil)
			old, fresh := job(s.app().Serving, "a"), job(s.app().Wanted, "a")
			for range 60 {
				if s.waits(t, time.Second); s.world.Jobs[fresh].Count == 6 {
					break
				}
			}
			if have := s.world.Jobs[old].Count; have != 7 {
				t.Fatalf("there are %d and %d replicas", have, s.world.Jobs[fresh].Count)
			}
			s.must(t, c.command)
			targets := reconcile.JobTargets(s.state, s.world)
			if got := []int{targets[old], targets[fresh]}; !slices.Equal(got, c.want) {
				t.Errorf("there are to be %d, want %d", got, c.want)
			}
		})
	}
}
