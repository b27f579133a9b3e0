package reconcile_test

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestChecked(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ran := func(status reconcile.ReplicaStatus, reason string, second int) reconcile.Replica {
		return reconcile.Replica{JobID: "c", Status: status, Reason: reason, CreatedAt: at.Add(time.Duration(second) * time.Second)}
	}
	for name, c := range map[string]struct {
		jobs     map[string]reconcile.Job
		replicas []reconcile.Replica
		state    reconcile.CheckState
		reason   string
	}{
		"no job":         {nil, nil, reconcile.CheckMissing, ""},
		"a stopped one":  {map[string]reconcile.Job{"c": {Stopped: true}}, []reconcile.Replica{ran(reconcile.ReplicaStopped, "", 0)}, reconcile.CheckMissing, ""},
		"nothing yet":    {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{{JobID: "d", Status: reconcile.ReplicaFailed}}, reconcile.CheckRunning, ""},
		"no room":        {map[string]reconcile.Job{"c": {Blocked: "out of memory"}}, nil, reconcile.CheckRunning, "out of memory"},
		"it starts":      {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaPending, "downloading", 0)}, reconcile.CheckRunning, "downloading"},
		"it runs":        {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaRunning, "", 0)}, reconcile.CheckRunning, ""},
		"it ended well":  {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaStopped, "", 0)}, reconcile.CheckPassed, ""},
		"it ended badly": {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaFailed, "exited with code 1", 0)}, reconcile.CheckFailed, "exited with code 1"},
		"without a word": {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaFailed, "", 0)}, reconcile.CheckFailed, "Nomad does not say why"},
		"its node went":  {map[string]reconcile.Job{"c": {}}, []reconcile.Replica{ran(reconcile.ReplicaLost, "", 0)}, reconcile.CheckFailed, "the node that it ran on is gone"},
		"and it runs on another": {
			map[string]reconcile.Job{"c": {}},
			[]reconcile.Replica{ran(reconcile.ReplicaRunning, "", 1), ran(reconcile.ReplicaLost, "", 0)},
			reconcile.CheckRunning, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := reconcile.World{Jobs: c.jobs, Replicas: c.replicas}
			if state, reason := w.Checked("c"); state != c.state || reason != c.reason {
				t.Errorf("got %s, %q; want %s, %q", state, reason, c.state, c.reason)
			}
		})
	}
}
