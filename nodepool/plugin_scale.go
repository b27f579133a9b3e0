package nodepool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// launchBatch is launches that are done as one: the highest count holds. A
// launch counts the machines that were there when it was asked for, and those
// that go while it waits for its turn are not to be made again: counts are kept
// together with all machines that were removed before.
type launchBatch struct {
	wanted int
	done   chan struct{}

	// Set when done is closed.
	reached int
	err     error // why that is not wanted
	left    bool  // its maker left before anything came of it
}

// launch brings the count to wanted, together with the launches that wait too.
func (g *pluginGroup) launch(ctx context.Context, b nodescale.Blueprint, wanted int) error {
	wanted += g.removed()
	for {
		batch, maker := g.join(wanted)
		if maker {
			g.lead(ctx, b, batch)
		} else {
			select {
			case <-batch.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if batch.reached >= wanted {
			return nil
		}
		if maker || !batch.left {
			return batch.err
		}
	}
}

func (g *pluginGroup) removed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

func (g *pluginGroup) join(wanted int) (batch *launchBatch, maker bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if maker = g.next == nil; maker {
		g.next = &launchBatch{done: make(chan struct{})}
	}
	g.next.wanted = max(g.next.wanted, wanted)
	return g.next, maker
}

// lead does a batch once it is its turn.
func (g *pluginGroup) lead(ctx context.Context, b nodescale.Blueprint, batch *launchBatch) {
	defer close(batch.done)
	err := lock(ctx, g.turn)
	g.mu.Lock()
	g.next = nil // who comes now does not know what this one finds
	wanted, gone := batch.wanted, g.gone
	g.mu.Unlock()
	if err != nil {
		batch.err, batch.left = err, true
		return
	}
	defer unlock(g.turn)
	count, err := g.grow(ctx, b, wanted-gone)
	batch.reached, batch.err = count+gone, err
	batch.left = errors.Is(ctx.Err(), context.Canceled)
}

// grow brings the count to wanted and returns what it is then. That a plugin
// fails after the count is set does not matter: it failed to see nodes come.
func (g *pluginGroup) grow(ctx context.Context, b nodescale.Blueprint, wanted int) (int, error) {
	before, err := g.status(ctx, b)
	if err != nil || before.count >= wanted {
		return before.count, err
	}
	failed := g.scale(ctx, b, wanted, scaleUp, fmt.Sprintf("worker group %s is to have %d nodes", b.Group, wanted))
	after, err := g.status(ctx, b)
	switch {
	case err == nil && after.count >= wanted:
		return after.count, nil
	case failed != nil:
		return after.count, failed
	case err != nil:
		return 0, err
	}
	return after.count, fmt.Errorf("plugin %s says that it scaled worker group %s to %d, but its count is %d: look at the limits and the state of the group at its provider",
		b.Plugin, b.Group, wanted, after.count)
}

// remove removes the machine of m's Nomad node.
func (g *pluginGroup) remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	if err := lock(ctx, g.turn); err != nil {
		return err
	}
	defer unlock(g.turn)
	if err := g.removeOne(ctx, b, m); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone++
	return nil
}

func (g *pluginGroup) removeOne(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	before, err := g.status(ctx, b)
	if err != nil {
		return err
	}
	node, err := g.find(ctx, b, m)
	if err != nil {
		return err
	}
	if node == nil {
		return g.unjoined(b, m, before)
	}
	if err = g.mayRemove(b, before); err != nil {
		return err
	}
	return g.take(ctx, b, node, before)
}

// find returns the machine's Nomad node, or nil when there is none. It refuses
// one that is not this group's, or that is still in use.
func (g *pluginGroup) find(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (*nomadNode, error) {
	if m.NomadID == "" {
		return nil, nil //nolint:nilnil // known to be absent
	}
	node, err := g.nomad.node(ctx, m.NomadID)
	if err != nil || node == nil {
		return nil, err
	}
	if node.NodePool != b.NodePool || b.Class != "" && node.NodeClass != b.Class {
		return nil, fmt.Errorf("node %s is in pool %q with class %q, and not a node of worker group %s (pool %q, class %q): it is not removed",
			node.ID, node.NodePool, node.NodeClass, b.Group, b.NodePool, b.Class)
	}
	if node.Status == "ready" && node.SchedulingEligibility != "ineligible" {
		return nil, fmt.Errorf("node %s still takes allocations: it is removed once it is drained", node.ID)
	}
	return node, nil
}

// unjoined is the removal of a machine that Nomad does not know. Plugins find
// machines only by their Nomad nodes, so that there is nothing to do but to see
// whether it is there at all: then the count is above what the others make.
func (g *pluginGroup) unjoined(b nodescale.Blueprint, m nodescale.Machine, s pluginStatus) error {
	if s.known() && s.count <= m.Wanted || s.ready && s.count == 0 {
		return nil
	}
	whose := "never joined Nomad"
	if m.NomadID != "" {
		whose = "is no longer known to Nomad as node " + m.NomadID
	}
	return fmt.Errorf("%w: machine %s %s, and plugin %s removes only machines whose Nomad node it sees; worker group %s has a count of %d where %d would do: end the machine at its provider and lower the count there",
		ErrNotSupported, m.ID, whose, b.Plugin, b.Group, s.count, m.Wanted)
}

// mayRemove says why a plugin is not asked to remove a node.
func (g *pluginGroup) mayRemove(b nodescale.Blueprint, s pluginStatus) error {
	g.mu.Lock()
	wrong := g.wrong
	g.mu.Unlock()
	switch {
	case wrong != "":
		return fmt.Errorf("%w: %s", ErrNotSupported, wrong)
	case !g.view.looksAtNodes():
		return fmt.Errorf("%w: plugin %s told its count without a look at Nomad's nodes: it leaves it to the provider which machine goes, and that may be another than the drained one",
			ErrNotSupported, b.Plugin)
	case s.count == 0 && !s.ready:
		return fmt.Errorf("plugin %s: its group is not ready, and it does not tell how many nodes that has", b.Plugin)
	}
	return nil
}

// take has the plugin lower the count by one while it sees only this node.
func (g *pluginGroup) take(ctx context.Context, b nodescale.Blueprint, node *nomadNode, before pluginStatus) error {
	if before.count == 0 {
		return notThere(b, node, errors.New("its count is 0"))
	}
	g.view.show(node)
	failed := g.scale(ctx, b, before.count-1, scaleDown, fmt.Sprintf("node %s of worker group %s is drained", node.ID, b.Group))
	chosen := g.view.hide()
	after, err := g.status(ctx, b)
	lower := err == nil && after.known() && after.count < before.count
	switch {
	case chosen && lower:
		return nil
	case !chosen && failed != nil && strings.Contains(failed.Error(), "no nodes identified"):
		return notThere(b, node, failed)
	case !chosen && lower:
		return g.distrust(fmt.Sprintf("plugin %s lowered the count of worker group %s from %d to %d without draining node %s, which it was to remove: it may have removed another; it is asked to remove nothing more until the server restarts",
			b.Plugin, b.Group, before.count, after.count, node.ID))
	case failed != nil:
		return failed
	case !chosen || err == nil && after.known():
		return fmt.Errorf("plugin %s says that it removed node %s, but the count of worker group %s is %d as before: look at the limits and the state of the group at its provider",
			b.Plugin, node.ID, b.Group, before.count)
	}
	return nil // it says that it did, it chose the right one, and nothing is known against it
}

func (g *pluginGroup) distrust(why string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wrong = why
	return errors.New(why)
}

// notThere is what a removal comes to when the group of a plugin does not have
// the node's machine: it is gone if Nomad has lost it too.
func notThere(b nodescale.Blueprint, node *nomadNode, failed error) error {
	if node.Status == "down" {
		return nil
	}
	return fmt.Errorf("plugin %s does not find the machine of node %s in its group, while Nomad says that the node is %s: it is on its way out, or another group's: %w",
		b.Plugin, node.ID, node.Status, failed)
}
