package nomaddev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ClusterOptions say what a cluster consists of.
type ClusterOptions struct {
	Dir      string // the run folder
	Agents   Agents
	Dev      bool // the agents keep nothing, and Nomad ends its tasks when it ends
	Consul   ConsulPorts
	Nomad    NomadPorts
	Binary   string        // serve-nomad; needed when there are servers or proxies
	Bind     string        // where APIs and proxies listen; "": 127.0.0.1
	Servers  []ServerPorts // one server each
	Proxies  []ProxyPorts  // one proxy each
	LogLevel string        // of serve-nomad; "": info

	Note func(text string) // told what happens, from any goroutine; nil: nobody is
}

// Cluster is a Consul agent, a Nomad agent, and serve-nomad's servers and
// proxies, all on this machine.
type Cluster struct {
	Dir     string
	Consul  *Consul
	Nomad   *Nomad
	Servers []*Server
	Proxies []*Proxy

	note  func(string)
	block *Block
}

// How long Stop lets each part end by itself.
const (
	proxyStop  = 30 * time.Second // finishes the requests that it has
	serverStop = 15 * time.Second
	nodesStop  = 45 * time.Second // give their tasks back
	nomadStop  = 60 * time.Second // finishes its tasks
	consulStop = 15 * time.Second
)

// StartCluster starts a cluster, each part when those that it needs can be
// used. The cluster that it returns must be stopped also when it returns an
// error: what came up before that still runs.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	c := &Cluster{Dir: o.Dir, note: o.Note}
	if c.note == nil {
		c.note = func(string) {}
	}
	if o.Bind == "" {
		o.Bind = loopback
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	var err error
	if c.Dir, err = absolute(o.Dir); err != nil {
		return c, err
	}
	o.Servers, o.Proxies = slices.Clone(o.Servers), slices.Clone(o.Proxies)
	var given []int
	for _, p := range o.ports() {
		given = append(given, *p)
	}
	if c.block, err = ReserveBlock(ctx, given...); err != nil {
		return c, err
	}
	if err = o.fill(ctx, c.block); err != nil {
		return c, err
	}
	if err = c.startAgents(ctx, o); err != nil {
		return c, err
	}
	if err = c.makeServers(o); err != nil {
		return c, err
	}
	if err = c.makeProxies(o); err != nil {
		return c, err
	}
	return c, c.startServe(ctx)
}

// ports are all that something listens on. Those that are 0 are still to be
// chosen.
func (o *ClusterOptions) ports() []*int {
	list := []*int{&o.Consul.HTTP, &o.Consul.Server, &o.Consul.Serf, &o.Nomad.HTTP, &o.Nomad.RPC, &o.Nomad.Serf}
	for i := range o.Servers {
		list = append(list, &o.Servers[i].API, &o.Servers[i].Raft)
	}
	for i := range o.Proxies {
		list = append(list, &o.Proxies[i].HTTP, &o.Proxies[i].Handle)
	}
	if len(o.Proxies) > 0 {
		list = append(list, &o.Proxies[0].Gatekeeper)
	}
	return list
}

// fill gives a port of the block to everything that has none.
func (o *ClusterOptions) fill(ctx context.Context, b *Block) error {
	for _, p := range o.ports() {
		if *p != 0 {
			continue
		}
		var err error
		if *p, err = b.Port(ctx); err != nil {
			return err
		}
	}
	if !o.Dev && o.Nomad.DynamicLow == 0 {
		o.Nomad.DynamicLow, o.Nomad.DynamicHigh = b.Dynamic()
	}
	return nil
}

func (c *Cluster) startAgents(ctx context.Context, o ClusterOptions) error {
	var err error
	c.note("starting Consul")
	c.Consul, err = StartConsul(ctx, ConsulOptions{RunDir: c.Dir, Path: o.Agents.Consul.Path, Dev: o.Dev, Ports: o.Consul})
	if err != nil {
		return err
	}
	c.note("starting Nomad")
	c.Nomad, err = StartNomad(ctx, NomadOptions{
		RunDir: c.Dir, Path: o.Agents.Nomad.Path, Dev: o.Dev,
		ConsulAddress: c.Consul.Address(), Ports: o.Nomad,
	})
	return err
}

// startServe starts serve-nomad's processes. The servers are started together,
// because they elect a leader among them, and the proxies when there is one.
func (c *Cluster) startServe(ctx context.Context) error {
	if len(c.Servers) > 0 {
		c.note("starting the serve-nomad server")
	}
	for _, s := range c.Servers {
		if err := s.Launch(ctx); err != nil {
			return err
		}
	}
	for _, s := range c.Servers {
		if err := s.WaitReady(ctx); err != nil {
			return err
		}
	}
	if len(c.Proxies) > 0 {
		c.note("starting the proxy")
	}
	for _, p := range c.Proxies {
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops what runs: the proxies first, so that they finish the requests that
// they have, then the servers, the nodes that these have made, Nomad with its
// tasks, and Consul. When ctx ends, the rest is killed. Nothing of the run is
// left in either case.
func (c *Cluster) Stop(ctx context.Context) error {
	var errs []error
	if n := running(c.Proxies); n > 0 {
		c.note("stopping the proxy")
	}
	errs = append(errs, stopAll(ctx, c.Proxies, proxyStop))
	if n := running(c.Servers); n > 0 {
		c.note("stopping the serve-nomad server")
	}
	errs = append(errs, stopAll(ctx, c.Servers, serverStop))
	errs = append(errs, c.stopNodes(ctx))
	if c.Nomad != nil && c.Nomad.Running() {
		c.note("stopping Nomad and its tasks")
		errs = append(errs, stopAll(ctx, []*Nomad{c.Nomad}, nomadStop))
	}
	if c.Consul != nil && c.Consul.Running() {
		c.note("stopping Consul")
		errs = append(errs, stopAll(ctx, []*Consul{c.Consul}, consulStop))
	}
	cleaned, err := Cleanup(ctx, c.Dir)
	for _, p := range cleaned.Processes {
		c.note("ended " + p)
	}
	if c.block != nil {
		errs = append(errs, c.block.Release())
		c.block = nil
	}
	return errors.Join(append(errs, err)...)
}

type daemon interface {
	Running() bool
	Stop(ctx context.Context) error
}

func running[D daemon](all []D) int {
	n := 0
	for _, d := range all {
		if d.Running() {
			n++
		}
	}
	return n
}

// stopAll stops daemons of one kind, all at once.
func stopAll[D daemon](ctx context.Context, all []D, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	errs := make([]error, len(all))
	var stopping sync.WaitGroup
	for i, d := range all {
		stopping.Go(func() { errs[i] = d.Stop(ctx) })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// Supervise starts servers and proxies again when they end by themselves. It
// returns nil when ctx ends, and an error when an agent ends, because what that
// knew and ran is lost.
func (c *Cluster) Supervise(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer cancel()
	for _, s := range c.Servers {
		keeping.Go(func() { c.keep(ctx, s.Daemon) })
	}
	for _, p := range c.Proxies {
		keeping.Go(func() { c.keep(ctx, p.Daemon) })
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.Consul.Done():
		return errors.New(c.Consul.Ended())
	case <-c.Nomad.Done():
		return errors.New(c.Nomad.Ended())
	}
}

// How long keep waits before it starts a process again. A process that has run
// for keepSteady is taken to have started well.
const (
	keepFirst  = 500 * time.Millisecond
	keepMost   = 30 * time.Second
	keepSteady = time.Minute
)

// keep starts a daemon again whenever it ends, until ctx ends.
func (c *Cluster) keep(ctx context.Context, d *Daemon) {
	pause := keepFirst
	for {
		since := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-d.Done():
		}
		if time.Since(since) > keepSteady {
			pause = keepFirst
		}
		c.note(fmt.Sprintf("%s\n  it is started again in %s", d.Ended(), pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, keepMost)
		err := d.Launch(ctx)
		if err == nil {
			err = d.WaitReady(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			c.note(fmt.Sprintf("%s is back (pid %d)", d.Name(), d.Pid()))
		case d.Running():
			c.note(err.Error()) // it may yet get there
		}
	}
}
