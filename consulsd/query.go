package consulsd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// storedEntry is one entry of the routing table as it lies in Consul KV.
type storedEntry struct {
	application string // the rest of its key
	value       []byte
	createIndex uint64
	modifyIndex uint64
}

// slack is what an answer may take over the time that its query asked to wait.
// Consul itself adds up to a sixteenth of the wait.
const slack = 5 * time.Second

// errFiltered is an answer that lacks what the token may not see. It would
// read as "not there", so it is an error.
var errFiltered = errors.New("the token may not see all of it, so that Consul leaves things out (give it key_prefix, service_prefix \"serve-\" and node_prefix \"\" read)")

// routeEntries asks for every entry of the routing table, and waits until the
// index is past the given one, or the wait is over.
func (c *Client) routeEntries(ctx context.Context, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+slack)
	defer cancel()
	folder := c.prefix + "/" + routesFolder
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx)
	pairs, meta, err := c.consul.KV().List(folder, options)
	if err := c.checkAnswer(meta, err); err != nil {
		return nil, 0, fmt.Errorf("read the routing table: %w", err)
	}
	entries := make([]storedEntry, 0, len(pairs))
	for _, pair := range pairs {
		if pair == nil {
			continue
		}
		application, below := strings.CutPrefix(pair.Key, folder)
		if !below || application == "" { // the folder itself, as Consul's UI makes it
			continue
		}
		entries = append(entries, storedEntry{application, pair.Value, pair.CreateIndex, pair.ModifyIndex})
	}
	return entries, meta.LastIndex, nil
}

// instances asks for every instance of a service, whatever its health, and
// waits until the index is past the given one, or the wait is over.
func (c *Client) instances(ctx context.Context, service string, index uint64, wait time.Duration) ([]instance, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+slack)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx)
	entries, meta, err := c.consul.Health().Service(service, "", false, options)
	if err := c.checkAnswer(meta, err); err != nil {
		return nil, 0, fmt.Errorf("read the service %s: %w", service, err)
	}
	return readInstances(entries), meta.LastIndex, nil
}

// checkAnswer says what keeps an answer from being one to go by.
func (c *Client) checkAnswer(meta *api.QueryMeta, err error) error {
	switch {
	case err != nil:
		return c.explain(err)
	case meta.LastIndex == 0:
		return fmt.Errorf("the Consul at %s: %w", c.address, errNoIndex)
	case meta.ResultsFilteredByACLs:
		return fmt.Errorf("the Consul at %s: %w", c.address, errFiltered)
	default:
		return nil
	}
}
