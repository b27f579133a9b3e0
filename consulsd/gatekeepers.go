package consulsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serve-nomad/serve-nomad/routes"
)

// gatekeeperService is the Consul service of the proxies that hand out slots.
const gatekeeperService = "serve-nomad-gatekeeper"

// Pace of an announcement, and of the check that Consul makes of it.
const (
	announceEvery = 10 * time.Second // an agent may have lost what it was told
	announceCheck = "5s"
	// announceForget is when Consul forgets a gatekeeper that it cannot reach, so
	// that its replicas are given to another: not before slots are taken back
	// whose holders have vanished, see gatekeeper.Config.
	announceForget = "1m"
)

// gatekeepers is what was last read of the gatekeepers.
type gatekeepers struct {
	poll  *poll[[]routes.Gatekeeper]
	tried bool
	err   error
	last  []routes.Gatekeeper
	held  map[string]time.Time // missing since Consul lost data, until when
}

// FollowGatekeepers has the view tell of the gatekeepers. It is called before
// Run.
func (w *Watcher) FollowGatekeepers(c *Client) { w.gatekeepers = c.gatekeepers }

func (r *run) startGatekeepers(ctx context.Context) {
	if r.gatekeepers == nil {
		return
	}
	g := &gatekeepers{held: map[string]time.Time{}}
	g.poll = &poll[[]routes.Gatekeeper]{
		ask: func(ctx context.Context, index uint64) ([]routes.Gatekeeper, uint64, error) {
			return r.gatekeepers(ctx, index, jitter(routesWait))
		},
		report: func(ctx context.Context, o outcome[[]routes.Gatekeeper]) {
			r.send(ctx, func(now time.Time) { g.read(o, now) })
		},
		kicked: make(chan struct{}, 1),
	}
	r.keepers = g
	r.polls.Go(func() { g.poll.run(ctx) })
}

// read takes in an answer. One that Consul may have lost data before, does not
// take a gatekeeper away at once: it will announce itself anew.
func (g *gatekeepers) read(o outcome[[]routes.Gatekeeper], now time.Time) {
	g.tried, g.err = true, o.err
	if o.err != nil {
		return
	}
	next := o.value
	for _, before := range g.last {
		if slices.ContainsFunc(o.value, func(k routes.Gatekeeper) bool { return k.Address == before.Address }) {
			delete(g.held, before.Address)
			continue
		}
		if o.lost || (o.again && len(o.value) == 0) {
			g.held[before.Address] = now.Add(holdFor)
		}
		if until, held := g.held[before.Address]; held && now.Before(until) {
			next = append(next, before)
		}
	}
	slices.SortFunc(next, func(a, b routes.Gatekeeper) int { return cmp.Compare(a.Address, b.Address) })
	g.last = next
}

// expire lets go of what was held for long enough, and says whether anything was.
func (g *gatekeepers) expire(now time.Time) bool {
	if g == nil {
		return false
	}
	before := len(g.last)
	for address, until := range g.held {
		if !now.Before(until) {
			delete(g.held, address)
			g.last = slices.DeleteFunc(slices.Clone(g.last), func(k routes.Gatekeeper) bool { return k.Address == address })
		}
	}
	return len(g.last) != before
}

// gatekeepers asks for every gatekeeper, whatever its health, and waits until
// the index is past the given one, or the wait is over.
func (c *Client) gatekeepers(ctx context.Context, index uint64, wait time.Duration) ([]routes.Gatekeeper, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+slack)
	defer cancel()
	options := (&api.QueryOptions{WaitIndex: index, WaitTime: wait}).WithContext(ctx)
	entries, meta, err := c.consul.Health().Service(gatekeeperService, "", false, options)
	if err := c.checkAnswer(meta, err); err != nil {
		return nil, 0, fmt.Errorf("read the gatekeepers: %w", err)
	}
	known := map[string]bool{}
	found := make([]routes.Gatekeeper, 0, len(entries))
	for _, e := range entries {
		if e == nil || e.Service == nil || e.Node == nil {
			continue
		}
		at, err := address(cmp.Or(e.Service.Address, e.Node.Address), e.Service.Port)
		if err != nil || known[at] {
			continue
		}
		known[at] = true
		found = append(found, routes.Gatekeeper{Address: at, Passing: e.Checks.AggregatedStatus() == api.HealthPassing})
	}
	return found, meta.LastIndex, nil
}

// Announce tells the Consul agent, until ctx ends, that the gatekeeper of a proxy
// answers at an address, an IP and a port. It calls taken each time that the
// agent has that. Withdraw takes it back.
func (c *Client) Announce(ctx context.Context, at, proxy string, taken func()) {
	host, text, _ := net.SplitHostPort(at)
	port, err := strconv.Atoi(text)
	if err != nil || net.ParseIP(host) == nil {
		c.log.Error("the gatekeeper cannot be announced: its address must be an IP and a port", "address", at)
		return
	}
	c.announce(ctx, taken, &api.AgentServiceRegistration{
		ID: gatekeeperService + "-" + at, Name: gatekeeperService, Address: host, Port: port,
		Meta: map[string]string{"proxy": proxy},
		Check: &api.AgentServiceCheck{
			TCP: at, Interval: announceCheck, Timeout: announceCheck, Status: api.HealthPassing,
			DeregisterCriticalServiceAfter: announceForget,
		},
	})
}

// Withdraw has Consul forget the gatekeeper at an address. One that Consul does
// not know is no error.
func (c *Client) Withdraw(ctx context.Context, at string) error {
	err := c.consul.Agent().ServiceDeregisterOpts(gatekeeperService+"-"+at, (&api.QueryOptions{}).WithContext(ctx))
	if status, ok := errors.AsType[api.StatusError](err); err == nil || ok && status.Code == http.StatusNotFound {
		return nil
	}
	return fmt.Errorf("take the gatekeeper out of Consul: %w", c.explain(err))
}

// announce says it again and again, because an agent may have lost it.
func (c *Client) announce(ctx context.Context, taken func(), service *api.AgentServiceRegistration) {
	failing := false
	for ctx.Err() == nil {
		pause := announceEvery
		err := c.announceOnce(ctx, service)
		switch {
		case err == nil:
			failing = false
			taken()
		case ctx.Err() == nil:
			pause = time.Second
			if !failing {
				c.log.Warn("the gatekeeper is not announced: proxies elsewhere do not know that it keeps the limits of replicas here", "error", err)
			}
			failing = true
		}
		sleep(ctx, pause)
	}
}

func (c *Client) announceOnce(ctx context.Context, service *api.AgentServiceRegistration) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if _, _, err := c.consul.Agent().Service(service.ID, (&api.QueryOptions{}).WithContext(ctx)); err == nil {
		return nil // to register it again would begin its check anew
	}
	if err := c.consul.Agent().ServiceRegisterOpts(service, api.ServiceRegisterOpts{}.WithContext(ctx)); err != nil {
		return fmt.Errorf("register %s: %w", service.ID, c.explain(err))
	}
	return nil
}

// NodeAddress returns the address by which the agent's node is known to others.
func (c *Client) NodeAddress(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var self struct{ Member struct{ Addr string } }
	if _, err := c.consul.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", c.explain(err)
	}
	return self.Member.Addr, nil
}
