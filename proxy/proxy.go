// Package proxy is the data plane: it takes requests over HTTP, finds the
// deployment that each belongs to, and passes request and response on as they
// come, through a slot that the deployment's gate has given.
//
// A request's way: Handler and HandleHandler find the deployment (target.go)
// from the routing table (table.go), for gRPC by rules of its own (grpc.go);
// the deployment's gate (package gate) gives it a slot on a replica, now or when
// it is its turn; a transit (transit.go) sends it over a connection of package
// upstream, again elsewhere where that is safe; and the slot goes back when the
// replica has finished, also when nobody waits for it any more (linger.go).
//
// One attempt over HTTP/1.1 is an exchange (exchange.go): header.go, upfront.go
// and pump.go send, respond.go receives, tunnel.go does both. One over HTTP/2 is a
// stream (stream.go, streamrequest.go, streambody.go). Clients are bounded by
// limits.go and stall.go, and believed as origin.go says.
//
// The leader is told of the load (report.go), for it scales by that; an observer
// of each request (record.go); whoever asks, of the whole (control.go).
package proxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/h1"
	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/routes"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// Discovery is where the proxy learns the routes and the replicas from.
type Discovery interface {
	// View returns what is known now. Its maps and slices are not changed any
	// more.
	View() routes.View
	// Updates returns a channel that brings something after each change of
	// the view; several changes may come as one.
	Updates() <-chan struct{}
}

// Config is what a proxy can be told. Zero values stand for the defaults.
type Config struct {
	Discovery Discovery
	Slots     *gatekeeper.Gatekeeper // hands out the slots of replicas over all proxies; nil: this proxy counts alone
	Loads     LoadSink               // is told how many requests each deployment has; nil: nobody is
	Name      string                 // this proxy's name in what Loads is told: its own, and the same after a restart
	Observer  Observer               // is told of each request; nil: nobody is
	Metrics   http.Handler           // serves /-/metrics; nil: there is none
	Ports     func() any             // what /-/status says of the ports; nil: nothing
	HideAdmin bool                   // of what is below /-/, the ports serve only healthz: the rest is AdminHandler's

	DialTimeout       time.Duration // to connect to a replica; default 3s
	IdleTimeout       time.Duration // for which an unused connection to a replica is kept; below what servers keep; default 4s
	ContinueTimeout   time.Duration // for which a replica is asked before a body that the client holds back; default 1s
	Linger            time.Duration // for which a replica is waited for whose client has left; request_timeout if longer; default 60s
	DrainNotice       time.Duration // for which Drain only says that it drains, so that load balancers send no more; default none
	MaxResponseHeader int64         // bytes; default 1 MiB

	Limits // as the proxy begins; SetLimits changes them
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&c.DialTimeout, 3 * time.Second},
		{&c.IdleTimeout, 4 * time.Second},
		{&c.ContinueTimeout, time.Second},
		{&c.Linger, time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	if c.MaxResponseHeader <= 0 {
		c.MaxResponseHeader = 1 << 20
	}
	return c
}

// Proxy forwards requests to replicas.
type Proxy struct {
	config         Config
	log            hclog.Logger
	limits         atomic.Pointer[Limits]
	maxQueuedBytes atomic.Int64          // of limits, for the gates
	known          chan struct{}         // closed when the first table has been seen
	routing        atomic.Pointer[table] // nil: no table has been seen
	draining       atomic.Bool
	succeeded      atomic.Bool // another process has the ports: that one is asked whether it is ready
	buffers        buffers
	busy           busy
	copying        busy      // copies of requests that are under way, see shadow.go
	reporter       *reporter // nil: nobody is told of the load
	prober         *health.Prober
	dialer         *upstream.Dialer

	mu         sync.Mutex
	gates      map[deploymentKey]*gate.Gate // also of deployments that are gone and still have requests
	viewError  string
	staleSince time.Time // when viewError began to be said
	public     []*h1.Server
	handle     []*h1.Server
}

// New returns a proxy that knows no routes yet: Run reads them.
func New(config Config, log hclog.Logger) *Proxy {
	p := &Proxy{config: config.withDefaults(), log: log, known: make(chan struct{}), prober: health.NewProber(health.NewAsker()), gates: map[deploymentKey]*gate.Gate{}}
	p.SetLimits(config.Limits)
	p.dialer = upstream.NewDialer(p.config.DialTimeout, p.config.DialTimeout, p.config.MaxResponseHeader)
	if config.Loads != nil {
		p.reporter = newReporter(p, config.Loads)
	}
	return p
}

// Run follows the discovery, and reports the load, until ctx ends. Connections
// to replicas that are idle then are closed; requests under way are not touched.
func (p *Proxy) Run(ctx context.Context) {
	var reporting sync.WaitGroup
	defer reporting.Wait()
	if p.reporter != nil {
		reporting.Go(func() { p.reporter.run(ctx) })
	}
	defer p.prober.Stop()
	ticker := time.NewTicker(p.config.IdleTimeout)
	defer ticker.Stop()
	defer func() { p.sweep(time.Now().Add(time.Second)) }()
	updates := p.config.Discovery.Updates()
	p.apply(p.config.Discovery.View())
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-updates:
			if !open {
				updates = nil
			}
			p.apply(p.config.Discovery.View())
		case now := <-ticker.C:
			p.sweep(now.Add(-p.config.IdleTimeout))
		}
	}
}

// sweep closes the connections that have been idle since before cutoff, and
// forgets deployments that are gone and have finished.
func (p *Proxy) sweep(cutoff time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	table := p.routing.Load()
	for key, g := range p.gates {
		g.Sweep(cutoff)
		if table != nil && table.gates[key] == nil && g.Close() {
			delete(p.gates, key)
		}
	}
}

// Ready returns a channel that is closed when the proxy has its first table.
func (p *Proxy) Ready() <-chan struct{} { return p.known }

// Server returns a server for the public port, to be started by the caller. It
// has the limits that a port needs that anybody may connect to; Drain ends it.
func (p *Proxy) Server(addr string) *h1.Server {
	s := p.server(addr, p.Handler())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.public = append(p.public, s)
	return s
}

// HandleServer returns a server for the port of the handles, to be started by
// the caller; Drain ends it, after the public ones.
func (p *Proxy) HandleServer(addr string) *h1.Server {
	s := p.server(addr, p.HandleHandler())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handle = append(p.handle, s)
	return s
}

// AdminServer returns a server for the port of those who watch the proxy, to be
// started and ended by the caller: it goes on while the proxy drains.
func (p *Proxy) AdminServer(addr string) *h1.Server { return p.server(addr, p.AdminHandler()) }

// server returns a server for HTTP/1.1, and behind it net/http's for HTTP/2.
func (p *Proxy) server(addr string, h http.Handler) *h1.Server {
	limits := p.limits.Load()
	log := p.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &h1.Server{
		Handler:           h,
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.KeepAlive,
		MaxHeaderBytes:    limits.MaxHeader,
		ErrorLog:          log,
		Fallback: &http.Server{
			Addr:              addr,
			Handler:           h,
			ReadHeaderTimeout: limits.HeaderTimeout,
			IdleTimeout:       limits.KeepAlive,
			MaxHeaderBytes:    limits.MaxHeader,
			Protocols:         protocols,
			HTTP2:             frontHTTP2(),
			ErrorLog:          log,
		},
	}
}
