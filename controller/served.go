package controller

import (
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// watchEvery is how often the loop looks at least while an application is
// watched: what proxies report, and time, change what is to be done then, and
// neither wakes it.
const watchEvery = time.Second

// idle is how long the loop waits when nothing wakes it.
func (c *Controller) idle() time.Duration {
	if len(watched(c.cfg.Raft.State(), c.view.current().World)) > 0 {
		return min(watchEvery, c.cfg.FullPass)
	}
	return c.cfg.FullPass
}

// seenLately says whether what was last seen of Nomad will do for a pass that
// nothing woke: Nomad tells of what changes, a look at it is dear, and what was
// done since may not have been told yet.
func (c *Controller) seenLately(before *reconcile.World, now time.Time) bool {
	age := now.Sub(time.Unix(0, c.fresh.Load())) // below 0: a clock was set
	return before != nil && before.NomadKnown && !c.acted && age >= 0 && age < c.cfg.FullPass
}

// watched returns the applications of which it matters how each version serves:
// that roll out, have versions on the way out, or whose proxies still tell.
func watched(state *raftstate.State, world *reconcile.World) map[string]bool {
	names := map[string]bool{}
	for name, app := range state.Applications {
		if app.RollingOut() || len(app.Leaving) > 0 || world != nil && world.Routes[name].Watched {
			names[name] = true
		}
	}
	return names
}

// service is how versions serve, of the applications that are watched, while
// this server leads. The scaler's lock guards it.
type service struct {
	ledger  *analysis.Ledger
	state   *raftstate.State // as followed last
	world   *reconcile.World // the same
	watched map[string]bool  // applications
}

func newService(now time.Time) *service { return &service{ledger: analysis.NewLedger(now)} }

// follow takes in the State and the World, which may be nil, as they are.
func (s *service) follow(state *raftstate.State, world *reconcile.World) {
	if state == s.state && world == s.world {
		return
	}
	s.state, s.world = state, world
	s.watched = watched(state, world)
	s.ledger.Follow(s.watched)
}

// served returns how versions serve, by job, of the applications that are
// watched; nil: that is not known, or there are none.
func (s *scaler) served(world *reconcile.World) map[string]analysis.Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		return nil
	}
	s.service.follow(s.c.cfg.Raft.State(), world)
	var versions []loads.Version
	for _, job := range world.Jobs {
		if s.service.watched[job.Application] {
			versions = append(versions, loads.Version{Application: job.Application, Deployment: job.Deployment, Version: job.Version})
		}
	}
	if len(versions) == 0 {
		return nil
	}
	jobs := make(map[string]analysis.Standing, len(versions))
	for v, standing := range s.service.ledger.Standings(s.c.cfg.Now(), versions) {
		jobs[jobspec.JobID(v.Application, v.Deployment, v.Version)] = standing
	}
	return jobs
}
