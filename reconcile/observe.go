package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Observe says in events what changed between two looks at the world: the
// happenings that nobody decided. They are for people and never enter the log.
func Observe(before, after *World, now time.Time) []raftstate.Event {
	o := observer{now: now}
	o.sides(before, after)
	if before == nil || !before.NomadKnown || !after.NomadKnown {
		return o.events
	}
	o.replicas(before, after)
	o.health(before, after)
	o.nodes(before, after)
	for _, id := range slices.Sorted(maps.Keys(after.Jobs)) {
		was, is := before.Jobs[id], after.Jobs[id]
		if is.Unplaced > 0 && (was.Unplaced != is.Unplaced || was.Blocked != is.Blocked) {
			what := "1 replica cannot"
			if is.Unplaced > 1 {
				what = fmt.Sprintf("%d replicas cannot", is.Unplaced)
			}
			o.add("unplaced", is, what+" be placed: "+is.Blocked)
		}
	}
	return o.events
}

type observer struct {
	now    time.Time
	events []raftstate.Event
}

func (o *observer) add(kind string, job Job, message string) {
	o.events = append(o.events, raftstate.Event{
		At: o.now, Type: kind, Application: job.Application, Deployment: job.Deployment, Message: message,
	})
}

// sides reports Nomad or Consul going away and coming back.
func (o *observer) sides(before, after *World) {
	if before == nil {
		before = &World{NomadKnown: true, ConsulKnown: true}
	}
	for _, side := range []struct {
		name    string
		was, is bool
		err     string
	}{
		{"nomad", before.NomadKnown, after.NomadKnown, after.NomadError},
		{"consul", before.ConsulKnown, after.ConsulKnown, after.ConsulError},
	} {
		switch {
		case side.was && !side.is:
			o.add(side.name+"-away", Job{}, side.err)
		case !side.was && side.is:
			o.add(side.name+"-back", Job{}, "answers again")
		}
	}
}

func (o *observer) replicas(before, after *World) {
	was := map[string]Replica{}
	for _, r := range before.Replicas {
		was[r.ID] = r
	}
	for _, r := range after.Replicas {
		old, known := was[r.ID]
		job := after.Jobs[r.JobID]
		if job.Application == "" || job.Check != "" {
			continue // it ends by itself
		}
		switch {
		case !known && r.Status.live():
			o.add("replica-placed", job, fmt.Sprintf("replica %s on node %s", short(r.ID), r.Node))
		case r.Restarts > old.Restarts:
			o.add("replica-restarted", job, fmt.Sprintf("replica %s, restart %d: %s", short(r.ID), r.Restarts, r.Reason))
		}
		if r.Status == old.Status || !known && r.Status.live() {
			continue
		}
		switch r.Status {
		case ReplicaFailed, ReplicaLost:
			o.add("replica-"+string(r.Status), job, fmt.Sprintf("replica %s on node %s: %s", short(r.ID), r.Node, r.Reason))
		case ReplicaStopping:
			o.add("replica-stopping", job, fmt.Sprintf("replica %s finishes what it has begun", short(r.ID)))
		case ReplicaStopped:
			o.add("replica-stopped", job, fmt.Sprintf("replica %s", short(r.ID)))
		case ReplicaPending, ReplicaRunning:
		}
	}
}

// health reports replicas that begin or cease to pass their checks. Both looks
// must have seen Consul.
func (o *observer) health(before, after *World) {
	if !before.ConsulKnown || !after.ConsulKnown {
		return
	}
	was := map[string]bool{}
	for _, e := range before.Endpoints {
		was[e.Replica] = e.Passing
	}
	for _, e := range after.Endpoints {
		job := Job{Application: e.Application, Deployment: e.Deployment}
		passed, known := was[e.Replica]
		switch {
		case e.Passing && !passed:
			o.add("replica-healthy", job, fmt.Sprintf("replica %s passes its health check", short(e.Replica)))
		case !e.Passing && passed && known && running(after, e):
			o.add("replica-unhealthy", job, fmt.Sprintf("replica %s fails its health check", short(e.Replica)))
		}
	}
}

func running(w *World, e routes.Endpoint) bool {
	return slices.ContainsFunc(w.Replicas, func(r Replica) bool {
		return r.ID == e.Replica && r.Status == ReplicaRunning
	})
}
