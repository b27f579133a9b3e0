package main

import (
	"testing"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Which replicas get requests while version 2 takes over from version 1.
func TestTrafficCell(t *testing.T) {
	before := reconcile.DeploymentStatus{Serving: true, Healthy: 2}
	starts := reconcile.DeploymentStatus{Wanted: true}
	passes := reconcile.DeploymentStatus{Wanted: true, Healthy: 1}
	stays := reconcile.DeploymentStatus{Wanted: true, Serving: true, Healthy: 2}
	gone := reconcile.DeploymentStatus{Healthy: 2}
	rollout := func(strategy appspec.Strategy, status raftstate.RolloutStatus, weight int) reconcile.ApplicationStatus {
		return reconcile.ApplicationStatus{
			Version: 2, ServingVersion: 1, Weight: weight, Rollout: raftstate.Rollout{Strategy: strategy, Status: status},
		}
	}
	rolling := rollout(appspec.StrategyRolling, raftstate.RolloutRunning, 0)
	starting := rollout(appspec.StrategyCanary, raftstate.RolloutRunning, 0)
	tenth := rollout(appspec.StrategyCanary, raftstate.RolloutRunning, 10)
	switched := rollout(appspec.StrategyBlueGreen, raftstate.RolloutRunning, 100)
	failed := rollout(appspec.StrategyRolling, raftstate.RolloutFailed, 0)
	over := reconcile.ApplicationStatus{Version: 2, ServingVersion: 2, Rollout: raftstate.Rollout{Strategy: appspec.StrategyCanary, Status: raftstate.RolloutSuccessful}}
	first := reconcile.ApplicationStatus{Version: 1, Rollout: raftstate.Rollout{Status: raftstate.RolloutFailed}}
	for _, c := range []struct {
		name       string
		app        reconcile.ApplicationStatus
		deployment reconcile.DeploymentStatus
		want       string
	}{
		{"rolling, the old one", rolling, before, "yes"},
		{"rolling, the new one before it passes", rolling, starts, "not yet"},
		{"rolling, the new one", rolling, passes, "yes"},
		{"rolling, what does not change", rolling, stays, "yes"},
		{"canary, the old one at first", starting, before, "yes"},
		{"canary, the new one at first", starting, passes, "not yet"},
		{"canary, the old one", tenth, before, "90 %"},
		{"canary, the new one", tenth, passes, "10 %"},
		{"canary, the one before the last", tenth, gone, "no longer"},
		{"blue/green, the old one after the switch", switched, before, "0 %"},
		{"blue/green, the new one after the switch", switched, passes, "100 %"},
		{"it failed, the old one", failed, before, "yes"},
		{"it failed, the new one", failed, passes, "no longer"},
		{"it is over, the old one", over, gone, "no longer"},
		{"it is over, the new one", over, stays, "yes"},
		{"the first one failed", first, passes, "not yet"},
	} {
		if got := trafficCell(c.app, c.deployment); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
