package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/consulsd"
	"github.com/serve-nomad/serve-nomad/h1"
	"github.com/serve-nomad/serve-nomad/listeners"
	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/telemetry"
)

const (
	// certificatesEvery is how often the files of certificates are looked at.
	certificatesEvery = 10 * time.Second
	// readyWithin is how long a process that takes over may take to learn the
	// routes; the one before it serves meanwhile.
	readyWithin = 30 * time.Second
	// orphanWaits is how long a proxy whose supervisor has died serves on at
	// most, so that the next supervisor's proxy can take over.
	orphanWaits = 20 * time.Second
)

// proxyProcess is one process of a proxy, plugged together.
type proxyProcess struct {
	command *proxyCommand
	cfg     *config
	log     hclog.Logger
	sink    *loadSink
	watcher *consulsd.Watcher
	proxy   *proxy.Proxy
	seen    *telemetry.Telemetry
	keeper  *slotKeeper // nil: this proxy counts alone

	certificates *listeners.Certificates // nil: no port speaks TLS
	before       *listeners.Inheritance  // the process before this one
	public       *port
	handles      *port
	admin        *port // nil: there is none

	slotsMu   sync.Mutex
	slotsPort *listeners.Listener   // of the keeper; nil: another process has it
	slotsUsed *listeners.Attachment // as the keeper has it

	working context.Context // of what goes on while requests drain
	stop    context.CancelFunc
	parts   sync.WaitGroup
	failed  chan error

	orphaned chan struct{} // closed when the supervisor has died
}

// open takes the ports, and all else that can fail.
func (c *proxyCommand) open(ctx context.Context, cfg *config) (p *proxyProcess, err error) {
	p = &proxyProcess{command: c, cfg: cfg, log: newLogger(c.base, cfg), failed: make(chan error, 4)}
	consul, err := openConsul(cfg, p.log)
	if err != nil {
		return nil, err
	}
	if p.sink, err = newLoadSink(cfg.Proxy.Servers, c.getenv("SERVE_NOMAD_TOKEN")); err != nil {
		return nil, err
	}
	if p.certificates, err = openCertificates(cfg, p.log); err != nil {
		return nil, err
	}
	p.before = &listeners.Inheritance{}
	if c.upgrade && cfg.Proxy.UpgradeSocket == "" {
		return nil, errors.New("-upgrade: proxy.data_dir is not set in the configuration: the running proxy cannot be found")
	}
	if c.upgrade {
		if p.before, err = listeners.TakeOver(ctx, cfg.Proxy.UpgradeSocket); err != nil {
			return nil, err
		}
	}
	p.watcher = consulsd.NewWatcher(consul)
	if cfg.Proxy.DataDir != "" {
		p.watcher.KeepIn(filepath.Join(cfg.Proxy.DataDir, "table"), consul)
	}
	if p.keeper = newSlotKeeper(cfg, consul, time.Now(), p.log); p.keeper != nil {
		p.keeper.listen = p.listenForSlots
		p.watcher.FollowGatekeepers(consul)
	}
	if err := p.assemble(ctx); err != nil {
		p.before.Fail(err)
		return nil, errors.Join(err, p.before.Close())
	}
	// What goes on while requests drain outlives ctx.
	p.working, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	return p, nil
}

// assemble makes the proxy, with those who watch it, and opens its ports.
func (p *proxyProcess) assemble(ctx context.Context) (err error) {
	if err = p.openTelemetry(ctx); err != nil {
		return err
	}
	p.proxy = proxy.New(proxy.Config{
		Discovery: p.watcher, Slots: p.keeper.slots(), Loads: p.sink, Name: proxyName(p.cfg), DrainNotice: p.command.notice, Limits: p.cfg.Proxy.limits,
		Observer: p.seen, Metrics: p.seen.Handler(), Ports: func() any { return p.allPorts() }, HideAdmin: p.cfg.Proxy.AdminAddress != "",
	}, p.log.Named("proxy"))
	return p.listen(ctx)
}

func (p *proxyProcess) listen(ctx context.Context) (err error) {
	c, files := p.cfg.Proxy, maxOpenFiles()
	p.public, err = p.openPort(ctx, "public", c.Address, "proxy.address", c.portOptions(p.certificates, files), p.proxy.Server)
	if err != nil {
		return err
	}
	p.handles, err = p.openPort(ctx, "handle", c.HandleAddress, "proxy.handle_address", c.handleOptions(p.certificates, files), p.proxy.HandleServer)
	if err != nil {
		return err
	}
	p.openSlots(ctx)
	if c.AdminAddress == "" {
		return nil
	}
	p.admin, err = p.openPort(ctx, "admin", c.AdminAddress, "proxy.admin_address", listeners.Options{}, p.proxy.AdminServer)
	return err
}

// openPort opens a port, or takes it over. field names it in the configuration.
func (p *proxyProcess) openPort(ctx context.Context, name, address, field string, options listeners.Options, server func(string) *h1.Server) (*port, error) {
	listener, err := p.before.Open(ctx, name, address, options, p.log)
	if err != nil {
		return nil, listenFault(err, address, field)
	}
	return &port{listener: listener, make: func() *h1.Server { return server(address) }}, nil
}

// run serves until ctx ends, a part fails, or another process has taken over.
func (p *proxyProcess) run(ctx context.Context) error {
	defer p.parts.Wait()
	defer p.stop()
	p.parts.Go(func() { p.watcher.Run(p.working) })
	p.parts.Go(func() { p.proxy.Run(p.working) })
	p.parts.Go(func() { watch(p.working, p.proxy, p.seen, p.log) })
	if p.command.getenv("GOGC") == "" {
		p.parts.Go(func() { proxy.PaceCollector(p.working) })
	}
	defer p.closeAdmin()
	if err := p.begin(ctx); err != nil {
		return err
	}
	p.sink.open.Store(true)
	if p.keeper != nil {
		p.parts.Go(func() { p.keeper.run(p.working) })
		defer p.keeper.leave()
		defer p.stop()
	}
	for _, port := range p.ports() {
		p.parts.Go(port.listener.Run)
		p.serveOn(port)
	}
	offering, withdraw := context.WithCancel(ctx)
	defer withdraw()
	taken := p.offer(offering)
	p.log.Info("serving", "requests", p.public.listener.Addr(), "handles", p.handles.listener.Addr(), "process", os.Getpid())
	tellServing(p.command.getenv)
	signals, ignore := notifySignals()
	defer ignore()
	certificates := time.NewTicker(certificatesEvery)
	defer certificates.Stop()
	orphaned, alone := p.orphaned, (<-chan time.Time)(nil)
	for {
		select {
		case <-ctx.Done():
			return p.drain(nil)
		case <-orphaned:
			wait := min(orphanWaits, p.command.drain)
			p.log.Warn("the supervisor has died; another one has time to take over", "time", wait)
			orphaned, alone = nil, time.After(wait)
		case <-alone:
			withdraw()
			return p.drain(errors.New("the supervisor has died"))
		case err := <-p.failed:
			withdraw()
			return p.drain(err)
		case <-taken:
			return p.handOver(ctx)
		case <-certificates.C:
			p.checkCertificates()
		case s := <-signals:
			if s == reloadSignal {
				p.reload()
			} else {
				p.askForUpgrade()
			}
		}
	}
}

func (p *proxyProcess) ports() []*port {
	if p.admin == nil {
		return []*port{p.public, p.handles}
	}
	return []*port{p.public, p.handles, p.admin}
}

// closeAdmin closes the port of those who watch the proxy, last of all.
func (p *proxyProcess) closeAdmin() {
	if p.admin != nil && p.admin.server != nil {
		_ = p.admin.server.Close() // nobody waits for an answer there
	}
}

// begin waits until this process may serve: at once, or when it is ready and the
// process before it has stopped.
func (p *proxyProcess) begin(ctx context.Context) error {
	if !p.before.Found() {
		return nil
	}
	err := p.takeOver(ctx)
	if err != nil {
		p.before.Fail(err)
		err = errors.Join(fmt.Errorf("the running proxy goes on: %w", err), p.before.Close())
	}
	return err
}

func (p *proxyProcess) takeOver(ctx context.Context) error {
	timer := time.NewTimer(readyWithin)
	defer timer.Stop()
	select {
	case <-p.proxy.Ready():
	case <-timer.C:
		return fmt.Errorf("no routing table within %s: %s", readyWithin, p.watcher.View().Error)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	state, err := p.before.Ready()
	if err != nil {
		return err
	}
	if p.keeper != nil && len(state) > 0 {
		if err := p.keeper.Inherit(state); err != nil {
			return fmt.Errorf("take over the book of slots: %w", err)
		}
	}
	return p.before.Serving()
}

// offer waits for a process that takes over. The channel brings something when
// one has.
func (p *proxyProcess) offer(ctx context.Context) <-chan struct{} {
	taken := make(chan struct{}, 1)
	path := p.cfg.Proxy.UpgradeSocket
	if path == "" {
		return taken
	}
	offer := &listeners.Offer{Path: path, Listeners: p.listeners, Log: p.log}
	if p.keeper != nil {
		offer.State, offer.Resume = p.keeper.Yield, p.keepSlotsAgain
	}
	unable := func(err error) {
		p.log.Warn("this process cannot be upgraded without a restart", "error", err)
	}
	if err := offer.Bind(); err != nil {
		unable(err)
		return taken
	}
	p.parts.Go(func() {
		err := offer.Serve(ctx)
		switch {
		case err == nil:
			taken <- struct{}{}
		case ctx.Err() == nil:
			unable(err)
		}
	})
	return taken
}

// drain ends everything in order. cause is why, where it is a fault.
func (p *proxyProcess) drain(cause error) error {
	p.log.Info("draining", "at_most", p.command.drain, "notice", p.command.notice)
	limit, done := context.WithTimeout(p.working, p.command.drain)
	defer done()
	return errors.Join(cause, p.proxy.Drain(limit))
}

// handOver finishes what has begun here; another process has the ports. Being
// told to stop meanwhile shortens that.
func (p *proxyProcess) handOver(ctx context.Context) error {
	p.log.Info("another process has taken over; finishing what has begun", "at_most", p.cfg.Proxy.upgradeTimeout)
	limit, done := context.WithTimeout(p.working, p.cfg.Proxy.upgradeTimeout)
	defer done()
	hurry := context.AfterFunc(ctx, func() { time.AfterFunc(p.command.drain, done) })
	defer hurry()
	quiet := make(chan struct{})
	p.parts.Go(func() {
		defer close(quiet)
		for _, port := range []*port{p.public, p.handles} {
			select {
			case <-port.listener.Quiet():
			case <-p.working.Done():
			}
		}
	})
	return p.proxy.HandOver(limit, quiet)
}

// port is one port with the server that takes its connections.
type port struct {
	listener *listeners.Listener
	current  *listeners.Attachment
	server   *h1.Server // that has it
	make     func() *h1.Server
}

// serveOn has a new server take the port's connections from here on. One that
// had them goes on with those that it has.
func (p *proxyProcess) serveOn(port *port) {
	server, attachment := port.make(), port.listener.Attach()
	p.parts.Go(func() {
		err := server.Serve(attachment)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			p.failed <- fmt.Errorf("serve on %s: %w", port.listener.Addr(), err)
		}
	})
	if port.current != nil {
		port.current.Detach()
	}
	port.current, port.server = attachment, server
}
