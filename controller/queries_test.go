package controller_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// held is a rollout block with a query that may give 1 to 3.
func held(bake time.Duration) *appspec.Rollout {
	least, most, lasts := 1.0, 3.0, appspec.Duration(bake)
	return &appspec.Rollout{BakeTime: &lasts, Gates: &appspec.Gates{
		Queries: []*appspec.Query{{Name: "depth", Query: "queue", Min: &least, Max: &most}},
	}}
}

// result returns what the one query of the shop said last.
func (s *takeover) result() (reconcile.QueryResult, bool) {
	synctest.Wait()
	list := s.current().View().World.Queries["shop"]
	if len(list) != 1 {
		return reconcile.QueryResult{}, false
	}
	return list[0], true
}

func TestQueries(t *testing.T) {
	t.Run("one is asked every few seconds while the new version takes requests, and no longer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 2}
			s := rollsOut(t, held(30*time.Second), well, func(f *fake) { f.metrics = g })
			time.Sleep(20 * time.Second) // fake
			if r, there := s.result(); !there || !r.Known || r.Value != 2 || r.Reason != "" || r.Waits() != "" || r.Name != "depth" {
				t.Errorf("the result is %+v", r)
			}
			if asked := g.times(); asked < 3 || asked > 6 {
				t.Errorf("asked %d times within 20 s", asked)
			}
			time.Sleep(10 * time.Minute) // fake
			if got := s.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
			asked := g.times()
			time.Sleep(time.Hour) // fake
			if again := g.times(); again != asked {
				t.Errorf("asked %d times more with nothing to judge", again-asked)
			}
			if r, there := s.result(); there {
				t.Errorf("there still is %+v", r)
			}
		})
	})

	for _, c := range []struct {
		name, reason string
		value        float64
	}{
		{"one that gives too much ends the rollout", "3.5 is above its max, which is 3", 3.5},
		{"one that gives too little ends the rollout", "-1 is below its min, which is 1", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gauge{value: 2}
				s := rollsOut(t, held(time.Hour), well, func(f *fake) { f.metrics = g })
				time.Sleep(20 * time.Second) // fake
				g.set(c.value, nil, false)
				time.Sleep(10 * time.Second) // fake
				rollout := s.State().Applications["shop"].Rollout
				if rollout.Status != raftstate.RolloutFailed || !strings.Contains(rollout.Reason, c.reason) {
					t.Errorf("rollout is %+v", rollout)
				}
			})
		})
	}

	t.Run("one that cannot be read stops nothing for half a minute, and then keeps the rollout where it is", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 2}
			s := rollsOut(t, held(2*time.Minute), well, func(f *fake) { f.metrics = g })
			time.Sleep(20 * time.Second) // fake
			g.set(0, errors.New("prometheus is away"), false)
			time.Sleep(25 * time.Second) // fake
			if r, _ := s.result(); !r.Known || r.Error != "prometheus is away" || r.Waits() != "" {
				t.Errorf("too early, the result is %+v", r)
			}
			time.Sleep(4 * time.Minute) // fake
			if r, _ := s.result(); r.Known || !strings.Contains(r.Waits(), "cannot be read: prometheus is away") {
				t.Errorf("the result is %+v", r)
			}
			if got := s.rollout(); got != raftstate.RolloutRunning {
				t.Errorf("rollout is %q", got)
			}
			if got := s.events("query-failing"); len(got) != 1 || got[0] != "query depth cannot be read: prometheus is away" {
				t.Errorf("told %q", got)
			}
			g.set(2, nil, false)
			time.Sleep(time.Minute) // fake
			if got := s.events("query-back"); len(got) != 1 {
				t.Errorf("told %q", got)
			}
			if got := s.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
		})
	})

	t.Run("one that hangs is left, and one that was never read keeps the rollout where it is", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{hang: true}
			s := rollsOut(t, held(20*time.Second), well, func(f *fake) { f.metrics = g })
			time.Sleep(2 * time.Minute) // fake
			if r, _ := s.result(); r.Known || !r.At.IsZero() || !strings.Contains(r.Error, "deadline") {
				t.Errorf("the result is %+v", r)
			}
			if got := s.rollout(); got != raftstate.RolloutRunning {
				t.Errorf("rollout is %q", got)
			}
			g.set(2, nil, false)
			time.Sleep(time.Minute) // fake
			if got := s.rollout(); got != raftstate.RolloutSuccessful {
				t.Errorf("rollout is %q", got)
			}
		})
	})

	t.Run("another rollout asks its own, and a new leader does too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &gauge{value: 2}
			s := rollsOut(t, held(time.Hour), well, func(f *fake) { f.metrics = g })
			time.Sleep(20 * time.Second) // fake
			g.set(0, errors.New("prometheus is away"), false)
			s.propose(t, deployWith("v3", held(time.Hour)))
			time.Sleep(20 * time.Second) // fake
			if r, there := s.result(); there && r.Known {
				t.Errorf("the result is that of the version before: %+v", r)
			}
			g.set(2, nil, false)
			s.lead()
			time.Sleep(10 * time.Second) // fake
			if r, there := s.result(); !there || !r.Known {
				t.Errorf("the result is %+v", r)
			}
		})
	})

	t.Run("where no Prometheus is configured that is said", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := rollsOut(t, held(time.Hour), well)
			time.Sleep(20 * time.Second) // fake
			if r, _ := s.result(); !strings.Contains(r.Waits(), "this server reads no metrics") {
				t.Errorf("the result is %+v", r)
			}
		})
	})
}
