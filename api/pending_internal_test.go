package api

import (
	"testing"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Replicas that wait for a node which is on its way are no fault: the
// application scales.
func TestWhatWaitsForANodeScales(t *testing.T) {
	for name, c := range map[string]struct {
		was    reconcile.Health
		grows  bool
		coming int
		other  reconcile.Health // of another deployment
		want   reconcile.Health // of the application
		reason string
	}{
		"more were asked for":      {reconcile.Degraded, true, 2, reconcile.Healthy, reconcile.Scaling, "web: 2 wait"},
		"the first were asked for": {reconcile.Unhealthy, true, 2, reconcile.Healthy, reconcile.Scaling, "web: 2 wait"},
		"one has no place":         {reconcile.Degraded, true, 1, reconcile.Healthy, reconcile.Degraded, "web: 2 wait"},
		"one was lost":             {reconcile.Degraded, false, 2, reconcile.Healthy, reconcile.Degraded, "web: 2 wait"},
		"a rollout is under way":   {reconcile.Deploying, true, 2, reconcile.Healthy, reconcile.Deploying, "web: 2 wait"},
		"another is in trouble":    {reconcile.Unhealthy, true, 2, reconcile.Degraded, reconcile.Degraded, "db: it fails"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &reconcile.ApplicationStatus{Name: "shop", Status: c.was, Reason: "web: no room", Deployments: []reconcile.DeploymentStatus{
				{Name: "web", JobID: "web-1", Status: c.was, Reason: "no room", Target: 3, Unplaced: 2, Grows: c.grows},
				{Name: "db", JobID: "db-1", Status: c.other, Reason: "it fails", Target: 1},
			}}
			tellPending(s, map[string]nodescale.PendingReport{"web-1": {Job: "web-1", Count: 2, Coming: c.coming, Reason: "2 wait"}})
			if s.Status != c.want || s.Reason != c.reason || s.Deployments[0].Reason != "2 wait" {
				t.Errorf("got %s, %q: %+v", s.Status, s.Reason, s.Deployments[0])
			}
		})
	}
}
