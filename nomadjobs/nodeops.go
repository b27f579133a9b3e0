package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// SetEligible opens a node to new allocations, or closes it to them; what runs
// there stays. Opening a node also ends its drain.
func (c *Client) SetEligible(ctx context.Context, nodeID string, eligible bool) error {
	node, err := c.drained(ctx, nodeID)
	if err != nil {
		return err
	}
	what := "close node " + nodeID
	if eligible {
		what = "open node " + nodeID
	}
	q, cancel := write(ctx)
	defer cancel()
	switch {
	case eligible && node.DrainStrategy != nil: // Nomad refuses to open a node that drains
		_, err = c.nomad.Nodes().UpdateDrainOpts(nodeID, &api.DrainOptions{MarkEligible: true}, q)
	case eligible != (node.SchedulingEligibility == api.NodeSchedulingEligible):
		_, err = c.nomad.Nodes().ToggleEligibility(nodeID, eligible, q)
	}
	return needing(writeNodes, c.fault(what, err))
}

// Drain closes a node and has Nomad move what runs there: replicas of services
// elsewhere, one by one as their jobs' migrate blocks say, and the rest is
// stopped, that of system jobs last. What still runs after deadline is stopped
// as well; 0: nothing is, however long it takes; below 0: everything at once. A
// drain under way is only ever given a shorter deadline, so that asking again
// does not put its end off.
func (c *Client) Drain(ctx context.Context, nodeID string, deadline time.Duration, reason string) error {
	node, err := c.drained(ctx, nodeID)
	if err != nil {
		return err
	}
	if s := node.DrainStrategy; s != nil && !sooner(deadline, s.Deadline) {
		return nil
	}
	q, cancel := write(ctx)
	defer cancel()
	_, err = c.nomad.Nodes().UpdateDrainOpts(nodeID, &api.DrainOptions{
		DrainSpec: &api.DrainSpec{Deadline: deadline},
		Meta:      map[string]string{"drained_by": "serve-nomad", "message": "serve-nomad: " + reason},
	}, q)
	return needing(writeNodes, c.fault("drain node "+nodeID, err))
}

// sooner says whether a drain with deadline a ends before one with b.
func sooner(a, b time.Duration) bool {
	switch {
	case a == 0 || b < 0:
		return false
	case b == 0:
		return true
	default:
		return a < b
	}
}

// drained reads a node as far as its drain and eligibility go.
func (c *Client) drained(ctx context.Context, nodeID string) (*api.Node, error) {
	if nodeID == "" {
		return nil, errors.New("a node needs an id")
	}
	q, cancel := query(ctx)
	defer cancel()
	node, _, err := c.nomad.Nodes().Info(nodeID, q)
	if err != nil {
		return nil, needing(readNodes, c.fault("read node "+nodeID, err))
	}
	return node, nil
}

// Purge makes Nomad forget a node. It is for one whose machine is gone: a client
// that still runs registers again. A node that is not there is no error.
func (c *Client) Purge(ctx context.Context, nodeID string) error {
	if nodeID == "" {
		return errors.New("a node needs an id")
	}
	q, cancel := query(ctx)
	defer cancel()
	_, _, err := c.nomad.Nodes().Purge(nodeID, q)
	if err = c.fault("purge node "+nodeID, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return needing(writeNodes, err)
}

// WritePool makes a node pool, or describes one that is there, and leaves what
// else it holds as it is. Nothing is written that is so already, and nothing to
// the pools that Nomad makes itself.
func (c *Client) WritePool(ctx context.Context, w reconcile.WritePool) error {
	if w.Name == api.NodePoolDefault || w.Name == api.NodePoolAll {
		return nil
	}
	what := "write node pool " + w.Name
	q, cancel := query(ctx)
	defer cancel()
	pool, _, err := c.nomad.NodePools().Info(w.Name, q)
	switch err = c.fault(what, err); {
	case errors.Is(err, ErrNotFound):
		pool = &api.NodePool{Name: w.Name}
	case err != nil:
		return needing(writePools, err)
	case pool.Name != w.Name:
		return fmt.Errorf("%s: nomad at %s answered with something else than a node pool", what, c.address)
	}
	meta := maps.Clone(pool.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	maps.Copy(meta, w.Meta)
	if err == nil && pool.Description == w.Description && maps.Equal(meta, pool.Meta) {
		return nil
	}
	pool.Description, pool.Meta = w.Description, meta
	o, done := write(ctx)
	defer done()
	_, err = c.nomad.NodePools().Register(pool, o)
	return needing(writePools, c.fault(what, err))
}
