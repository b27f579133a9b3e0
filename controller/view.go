package controller

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// View is one look at the cluster, as this server sees it. It is never changed
// once it is published.
type View struct {
	Index uint64 // grows with each change; at least State.Index
	State *raftstate.State
	World *reconcile.World  // nil while this server does not lead
	Seen  []raftstate.Event // what was observed of late, oldest first
}

// maxSeen bounds what is remembered of observations.
const maxSeen = 512

// viewer holds the newest View and wakes those who wait for the next.
type viewer struct {
	mu      sync.Mutex
	view    *View
	changed chan struct{} // closed at the next publish
}

func newViewer(state *raftstate.State) *viewer {
	return &viewer{view: &View{Index: state.Index, State: state}, changed: make(chan struct{})}
}

func (v *viewer) current() *View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.view
}

// changes returns a channel that is closed at the next publish.
func (v *viewer) changes() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// publish makes a new View out of the present one.
func (v *viewer) publish(change func(*View)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := *v.view
	change(&next)
	next.Index = max(v.view.Index+1, next.State.Index)
	v.view = &next
	close(v.changed)
	v.changed = make(chan struct{})
}

// View returns the newest View.
func (c *Controller) View() *View { return c.view.current() }

// Wait returns the first View whose index is above the given one, or the
// newest when ctx ends before there is one. An index that is from the future,
// as one from another leader may be, does not wait.
func (c *Controller) Wait(ctx context.Context, index uint64) *View {
	for {
		c.view.mu.Lock()
		view, changed := c.view.view, c.view.changed
		c.view.mu.Unlock()
		if view.Index != index {
			return view
		}
		select {
		case <-ctx.Done():
			return view
		case <-changed:
		}
	}
}

// publish makes world the one that is seen, if it differs from the last.
func (c *Controller) publish(before, world *reconcile.World, now time.Time) {
	if reflect.DeepEqual(before, world) {
		return
	}
	events := reconcile.Observe(before, world, now)
	events = append(events, reconcile.ByOthers(c.cfg.Raft.State().ClusterID, before, world, c.hands.may, now)...)
	c.view.publish(func(v *View) {
		v.World = world
		c.remember(v, unintended(v.State, events))
	})
}

// unintended leaves out that nodes went down which were to go.
func unintended(state *raftstate.State, events []raftstate.Event) []raftstate.Event {
	return slices.DeleteFunc(events, func(e raftstate.Event) bool {
		node := state.Nodes[e.Node]
		return e.Type == "node-down" && node != nil && node.Phase == raftstate.NodeTerminating
	})
}

// observed tells of what was seen beside the world.
func (c *Controller) observed(events ...raftstate.Event) {
	if len(events) > 0 {
		c.view.publish(func(v *View) { c.remember(v, events) })
	}
}

// remember adds events to a View that is being made.
func (c *Controller) remember(v *View, events []raftstate.Event) {
	if len(events) == 0 {
		return
	}
	for i := range events {
		events[i].Index = v.Index + 1
		c.log.Info("observed", "type", events[i].Type, "application", events[i].Application,
			"deployment", events[i].Deployment, "message", events[i].Message)
	}
	seen := append([]raftstate.Event{}, v.Seen...)
	seen = append(seen, events...)
	v.Seen = seen[max(0, len(seen)-maxSeen):]
}
