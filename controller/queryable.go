package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// askLimit bounds how long the queries of one command are asked for its plan.
const askLimit = 3 * time.Second

// Unreadable says which queries of gates cannot be read now, of the versions that
// a command makes: a rollout that is held to one would wait for it, and fail at
// its progress deadline.
func (c *Controller) Unreadable(ctx context.Context, command raftstate.Command) []string {
	state := c.cfg.Raft.State()
	next, result := state.Apply(state.Index+1, command)
	if result.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var faults []string
	for _, name := range command.Versioned() {
		app := next.Applications[name]
		if app == nil || !app.RollingOut() || app.Wanted.Spec.Rollout == nil || app.Wanted.Spec.Rollout.Gates == nil {
			continue
		}
		for _, query := range app.Wanted.Spec.Rollout.Gates.Queries {
			if _, err := c.queries.number(ctx, &ask{query: *query}); err != nil {
				faults = append(faults, fmt.Sprintf("application %q: query %q of its gates cannot be read now, and its rollout would wait for that: %s", name, query.Name, err))
			}
		}
	}
	return faults
}
