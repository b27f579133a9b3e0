package consulsd

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/serve-nomad/serve-nomad/routes"
)

// routesFolder is where the entries of the routing table lie, below the prefix.
const routesFolder = "routes/"

// WriteRoute puts an application's route into the table. It must replace the
// entry of modifyIndex, or make a new one when that is 0: ErrConflict says
// that the entry is another by now. Any other error leaves open whether the
// route was written.
func (c *Client) WriteRoute(ctx context.Context, route routes.Route, modifyIndex uint64) error {
	value, err := encodeEntry(route)
	if err != nil {
		return fmt.Errorf("write the route of application %s: %w", clip(route.Application), err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	pair := &api.KVPair{Key: c.key(route.Application), Value: value, ModifyIndex: modifyIndex}
	written, _, err := c.consul.KV().CAS(pair, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("write the route of application %s: %w", route.Application, c.explain(err))
	}
	if !written {
		return fmt.Errorf("write the route of application %s: %w", route.Application, ErrConflict)
	}
	return nil
}

// DropRoute takes an application's route out of the table, if its entry is
// still the one of modifyIndex: ErrConflict says that it is another. An entry
// that is gone already is no error.
func (c *Client) DropRoute(ctx context.Context, application string, modifyIndex uint64) error {
	if !isName(application) {
		return fmt.Errorf("drop the route of application %q: no such name can be", clip(application))
	}
	if modifyIndex == 0 {
		// Consul takes a delete with index 0 and does nothing.
		return fmt.Errorf("drop the route of application %s: which entry is not said (index 0): %w", application, ErrConflict)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	pair := &api.KVPair{Key: c.key(application), ModifyIndex: modifyIndex}
	dropped, _, err := c.consul.KV().DeleteCAS(pair, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("drop the route of application %s: %w", application, c.explain(err))
	}
	if !dropped {
		return fmt.Errorf("drop the route of application %s: %w", application, ErrConflict)
	}
	return nil
}

func (c *Client) key(application string) string {
	return c.prefix + "/" + routesFolder + application
}
