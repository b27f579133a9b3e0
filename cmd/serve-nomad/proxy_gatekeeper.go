package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/consulsd"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/proctable"
	"github.com/serve-nomad/serve-nomad/routes"
)

// gatekeeperOff as gatekeeper_address has the proxy count alone.
const gatekeeperOff = "off"

// gatekeeperPort is that of gatekeeper_address where the file does not name it.
const gatekeeperPort = 8002

// completeGatekeeper fills in gatekeeper_address, and says what is wrong with it.
func (c *proxyConfig) completeGatekeeper() error {
	host, _, err := net.SplitHostPort(c.Address)
	switch {
	case c.GatekeeperAddress == gatekeeperOff:
	case c.GatekeeperAddress == "" && err == nil:
		c.GatekeeperAddress = net.JoinHostPort(host, strconv.Itoa(gatekeeperPort))
	case c.GatekeeperAddress != "" && !hostPort(c.GatekeeperAddress):
		return fmt.Errorf("proxy.gatekeeper_address = %q: want host:port, such as 0.0.0.0:8002, or %q", c.GatekeeperAddress, gatekeeperOff)
	}
	return nil
}

// slotKeeper is the proxy's part in keeping the limits of replicas.
type slotKeeper struct {
	*gatekeeper.Gatekeeper
	address string
	listen  func(context.Context) (net.Listener, error) // on the address
	consul  *consulsd.Client
	watcher *consulsd.Watcher // of those whom Consul names; nil: they are not looked at
	name    string
	log     hclog.Logger
	retry   time.Duration // until the port is tried again that another proxy of this machine has

	announcing sync.WaitGroup
	announced  atomic.Bool // Consul has known of it
}

// newSlotKeeper returns nil where the proxy counts alone.
func newSlotKeeper(cfg *config, consul *consulsd.Client, began time.Time, log hclog.Logger) *slotKeeper {
	if cfg.Proxy.GatekeeperAddress == gatekeeperOff {
		return nil
	}
	name := proxyName(cfg)
	log = log.Named("gatekeeper")
	return &slotKeeper{
		Gatekeeper: gatekeeper.New(gatekeeper.Config{Name: name, Incarnation: began.UnixNano(), Look: lookAtSockets}, log),
		address:    cfg.Proxy.GatekeeperAddress, consul: consul, name: name, log: log, retry: 250 * time.Millisecond,
	}
}

// slots is what the proxy is told; nil: it counts alone.
func (k *slotKeeper) slots() *gatekeeper.Gatekeeper {
	if k == nil {
		return nil
	}
	return k.Gatekeeper
}

// run keeps the slots of this machine's replicas, as soon as no other proxy of
// the machine does, until ctx ends.
func (k *slotKeeper) run(ctx context.Context) {
	own := k.ownAddress(ctx)
	for told := false; ctx.Err() == nil; told = true {
		l, err := k.listen(ctx)
		if err == nil {
			k.log.Info("keeps the slots of this machine's replicas", "address", k.address, "as", own)
			err = k.keep(ctx, l, own)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case told:
		case errors.Is(err, syscall.EADDRINUSE):
			k.log.Info("another proxy of this machine keeps the slots of its replicas", "address", k.address)
		default:
			k.log.Error("the slots of this machine's replicas are not kept here", "address", k.address, "error", err,
				"hint", "set proxy.gatekeeper_address to an address of this machine")
		}
		pause(ctx, k.retry)
	}
}

// keep keeps them on an open port, and has other proxies know.
func (k *slotKeeper) keep(ctx context.Context, l net.Listener, own string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.announcing.Go(func() { k.consul.Announce(ctx, own, k.name, func() { k.announced.Store(true) }) })
	if k.watcher != nil {
		k.announcing.Go(func() { k.warnOfAnother(ctx, own) })
	}
	return k.Keep(l, own)
}

// warnOfAnother tells of a gatekeeper that Consul names for this machine on
// another port: its replicas have one only, which this one does not stand in for.
func (k *slotKeeper) warnOfAnother(ctx context.Context, own string) {
	updates, unsubscribe := k.watcher.Subscribe()
	defer unsubscribe()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-updates:
		}
		other := anotherOf(own, k.watcher.View().Gatekeepers)
		if other != "" && other != told {
			k.log.Warn("Consul names two gatekeepers of this machine: the other one has the slots of its replicas, and this one does not stand in for it",
				"other", other, "own", own, "hint", "give all proxies of a machine the same proxy.gatekeeper_address; "+
					"one that is gone for good: consul services deregister -id=serve-nomad-gatekeeper-"+other)
		}
		told = other
	}
}

// anotherOf returns the gatekeeper that the replicas of own's host have instead
// of own; "": none.
func anotherOf(own string, all []routes.Gatekeeper) string {
	other := routes.GatekeeperOf(routes.Endpoint{Address: own}, all)
	host, _, _ := net.SplitHostPort(own)
	if at, _, err := net.SplitHostPort(other); err != nil || at != host || other == own {
		return ""
	}
	return other
}

// ownAddress is how proxies elsewhere know the port: where it is open on all
// addresses, by that of the machine's node in Consul.
func (k *slotKeeper) ownAddress(ctx context.Context) string {
	host, port, err := net.SplitHostPort(k.address)
	ip := net.ParseIP(host)
	if err != nil || (host != "" && (ip == nil || !ip.IsUnspecified())) {
		return k.address
	}
	for {
		address, err := k.consul.NodeAddress(ctx)
		if err == nil {
			return net.JoinHostPort(address, port)
		}
		if ctx.Err() != nil {
			return k.address
		}
		k.log.Warn("the address of this machine's node is not known yet", "error", err)
		pause(ctx, time.Second)
	}
}

// leave ends the part of a proxy whose requests have ended, as has run's context.
func (k *slotKeeper) leave() {
	if k == nil {
		return
	}
	k.announcing.Wait()
	if own := k.Own(); own != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		// Also where this process has not announced it: one before may have.
		if err := k.consul.Withdraw(ctx, own); err != nil && k.announced.Load() {
			k.log.Warn("Consul still names this gatekeeper", "error", err)
		}
	}
	k.Close()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lookAtSockets looks at the connections of this machine.
func lookAtSockets() (gatekeeper.Seen, error) { return proctable.LookAtSockets() }
