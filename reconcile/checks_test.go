package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// A generation gets no request before its checks have ended well.
func TestAVersionThatIsChecked(t *testing.T) {
	id := jobspec.CheckID("shop", "smoke", 2)
	checked := func(block *appspec.Rollout) *appspec.Rollout {
		block.Gates = &appspec.Gates{Checks: []*appspec.Check{{Name: "smoke", Timeout: appspec.Duration(time.Minute)}}}
		return block
	}
	for name, c := range map[string]struct {
		found  reconcile.ReplicaStatus
		after  time.Duration // it began
		status raftstate.RolloutStatus
		says   string // why it failed, or what it waits for
	}{
		"it runs":            {reconcile.ReplicaRunning, 50 * time.Second, raftstate.RolloutRunning, `check "smoke": it runs: out of memory`},
		"it runs too long":   {reconcile.ReplicaRunning, 70 * time.Second, raftstate.RolloutFailed, `check "smoke" has not ended within 1m0s`},
		"it fails":           {reconcile.ReplicaFailed, 2 * time.Second, raftstate.RolloutFailed, `check "smoke" failed: out of memory`},
		"its node is gone":   {reconcile.ReplicaLost, 2 * time.Second, raftstate.RolloutFailed, `the node that it ran on is gone`},
		"it has no place":    {"", 50 * time.Second, raftstate.RolloutRunning, `check "smoke": it runs`},
		"it has ended well":  {reconcile.ReplicaStopped, 2 * time.Second, raftstate.RolloutRunning, `"10 percent" lasts until`},
		"and long ago":       {reconcile.ReplicaStopped, 50 * time.Second, raftstate.RolloutRunning, `"10 percent" lasts until`},
		"without any report": {reconcile.ReplicaPending, 50 * time.Second, raftstate.RolloutRunning, `check "smoke": it runs`},
	} {
		t.Run(name, func(t *testing.T) {
			s := takingOver(t, checked(canary()))
			for range 10 {
				if _, begun := s.world.Jobs[id]; begun {
					break
				}
				s.pass(t)
			}
			if _, begun := s.world.Jobs[id]; !begun || s.app().Rollout.Stage > 0 || s.world.Routes["shop"].Others[0].Weight > 0 {
				t.Fatalf("begun: %v, in %+v", begun, s.rollout())
			}
			s.world.Replicas = slices.Clone(s.world.Replicas)
			at := slices.IndexFunc(s.world.Replicas, func(r reconcile.Replica) bool { return r.JobID == id })
			s.world.Replicas[at].Status, s.world.Replicas[at].Reason = c.found, "out of memory"
			if c.found == "" {
				s.world.Replicas = slices.Delete(s.world.Replicas, at, at+1)
			}
			s.waits(t, c.after)
			if c.status == raftstate.RolloutFailed {
				s.wantRollout(t, c.status, c.says)
				return
			}
			s.wantStage(t, s.app().Stage().Name, c.says)
		})
	}
	t.Run("it waits for the first replicas", func(t *testing.T) {
		s := takingOver(t, checked(canary()))
		s.pass(t)
		s.fail()
		s.waits(t, time.Minute)
		if _, begun := s.world.Jobs[id]; begun {
			t.Error("it has begun")
		}
	})
	t.Run("it goes with the rollout", func(t *testing.T) {
		s := takingOver(t, checked(blueGreen()))
		s.waits(t, time.Second)
		s.settle(t)
		s.wantRollout(t, raftstate.RolloutSuccessful, "pass")
		if is, begun := s.world.Jobs[id]; !begun || !is.Stopped {
			t.Errorf("it is %+v", is)
		}
	})
}
