package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// listEvents is GET /v1/events: what was decided and what was observed, oldest
// first.
func listEvents(c *call) error {
	return c.watch(func(v *View) (any, error) { return c.events(v.State.Events, v.Seen), nil })
}

// events merges decisions and observations by time.
func (c *call) events(lists ...[]raftstate.Event) []raftstate.Event {
	merged := []raftstate.Event{}
	application := c.query.Get("application")
	for _, e := range slices.Concat(lists...) {
		if application == "" || e.Application == application {
			merged = append(merged, e)
		}
	}
	slices.SortStableFunc(merged, func(a, b raftstate.Event) int { return a.At.Compare(b.At) })
	return merged
}

// streamEvents is GET /v1/event/stream: a JSON object a line, {} when there
// was nothing for a while. Without ?index= it begins with what happens next,
// with ?index=0 with all that is remembered, and with the index of the last
// line that a client has got, behind that line; observations around that line
// may then come twice.
func streamEvents(c *call) error {
	index, err := c.number("index")
	if err != nil {
		return err
	}
	done, err := c.startWatch()
	if err != nil {
		return err
	}
	defer done()
	view := c.cluster().View()
	var events []raftstate.Event
	if c.query.Get("index") != "" {
		events = c.events(behind(view, index))
	}
	c.w.Header().Set("Content-Type", "application/x-ndjson; charset=utf-8")
	for {
		if err := c.sendBatch(view, events); err != nil {
			return err
		}
		before := view
		view = c.nextView(before)
		if c.r.Context().Err() != nil || !c.maySee() {
			return nil // the stream ends; the client comes back and finds the leader
		}
		events = c.events(since(before, view))
	}
}

// nextView waits for a View that brings events, or for the time of a heartbeat.
func (c *call) nextView(before *View) *View {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.server.cfg.Heartbeat)
	defer cancel()
	view := before
	for ctx.Err() == nil && c.maySee() && len(c.events(since(before, view))) == 0 {
		view = c.cluster().Wait(ctx, view.Index)
	}
	return view
}

// maySee says whether this server's own View is what the caller asked for.
func (c *call) maySee() bool { return c.stale || c.cluster().IsLeader() }

// sendBatch writes one line: a heartbeat when there is no event.
func (c *call) sendBatch(view *View, events []raftstate.Event) error {
	var batch EventBatch
	if len(events) > 0 {
		batch = EventBatch{Index: view.State.Index, Events: events}
	}
	line, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	if _, err := c.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return http.NewResponseController(c.w).Flush()
}

// behind returns the events after the decision at index. Observations have no
// place in the log, so time decides which of them come after it.
func behind(view *View, index uint64) []raftstate.Event {
	var at time.Time
	var list []raftstate.Event
	for _, e := range view.State.Events {
		if e.Index > index {
			list = append(list, e)
		} else {
			at = e.At
		}
	}
	for _, e := range view.Seen {
		if !e.At.Before(at) {
			list = append(list, e)
		}
	}
	return list
}

// since returns the events that are in view and were not in before.
func since(before, view *View) []raftstate.Event {
	var list []raftstate.Event
	for _, e := range view.State.Events {
		if e.Index > before.State.Index {
			list = append(list, e)
		}
	}
	for _, e := range view.Seen {
		if e.Index > before.Index {
			list = append(list, e)
		}
	}
	return list
}
