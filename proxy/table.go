package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// deploymentKey names a gate.
type deploymentKey struct {
	application string
	generation  int
	deployment  string
}

// table is what requests are routed by. It is never changed once published.
type table struct {
	byPrefix map[string]*application
	byName   map[string]*application
	gates    map[deploymentKey]*gate.Gate

	grpcCount int          // applications that speak gRPC
	grpcOnly  *application // that, if it is one
}

// application is one application's entry.
type application struct {
	route       routes.Route
	prefix      string        // what is taken off the path; "": nothing
	segments    int           // of the prefix
	generations []*generation // the newest first
	own         *generation   // that of the route, one of these
	shadowed    *generation   // gets copies of requests, and none itself; nil: there is none
	draws       *draws
}

// match returns the application with the longest prefix of the path, or nil.
func (t *table) match(path string) *application {
	for prefix := range routes.Prefixes(path) {
		if a := t.byPrefix[prefix]; a != nil {
			return a
		}
	}
	return nil
}

// apply takes over a view. A view that knows nothing changes nothing: what was
// seen last stays in force.
func (p *Proxy) apply(v routes.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.Error != p.viewError {
		if p.viewError == "" {
			p.staleSince = time.Now()
		}
		p.viewError = v.Error // which whoever has found it has logged
	}
	if !v.Known {
		return
	}
	endpoints := map[loads.Key][]routes.Endpoint{}
	for _, e := range v.Endpoints {
		key := loads.Key{Application: e.Application, Deployment: e.Deployment}
		endpoints[key] = append(endpoints[key], e)
	}
	next := p.build(v, endpoints)
	first := p.routing.Swap(next) == nil
	if p.reporter != nil {
		p.reporter.follow(v.Table)
		if first {
			p.reporter.alarm() // that this proxy knows of the deployments now
		}
	}
	if first {
		close(p.known)
		p.log.Info("routing table seen", "applications", len(next.byName), "endpoints", len(v.Endpoints))
	}
	// After the swap: whoever is sent away here finds the new table.
	for key, g := range p.gates {
		if next.gates[key] != nil {
			continue
		}
		g.Watch(p.watches(v.Table[key.application]))
		if g.Close() {
			delete(p.gates, key)
		}
	}
	for _, a := range next.byName {
		a.redirect()
	}
}

// watches says whether the gates of an application count how its versions serve.
func (p *Proxy) watches(route routes.Route) bool { return p.reporter != nil && route.Watched }

func (p *Proxy) build(v routes.View, endpoints map[loads.Key][]routes.Endpoint) *table {
	t, keepers := v.Table, p.gatekeepers(v)
	before := p.routing.Load()
	next := &table{
		byPrefix: map[string]*application{},
		byName:   make(map[string]*application, len(t)),
		gates:    map[deploymentKey]*gate.Gate{},
	}
	for name, route := range t {
		a := newApplication(route, before)
		for _, of := range a.generations {
			for deployment, d := range of.deployments {
				key := deploymentKey{name, of.number, deployment}
				g := p.gates[key]
				if g == nil {
					g = p.newGate(key)
					p.gates[key] = g
				}
				g.ConsulRead(v.Error == "")
				g.Watch(p.watches(route))
				g.Configure(d, endpoints[loads.Key{Application: name, Deployment: deployment}], keepers)
				of.gates[deployment], next.gates[key] = g, g
			}
		}
		next.byName[name] = a
	}
	for prefix, route := range t.ByPrefix() {
		a := next.byName[route.Application]
		if a == nil {
			continue
		}
		if prefix != "/" {
			a.prefix, a.segments = prefix, strings.Count(prefix, "/")
		}
		next.byPrefix[prefix] = a
	}
	next.countGRPC()
	return next
}

// newApplication returns the entry of a route, that has no gates yet.
func newApplication(route routes.Route, before *table) *application {
	a := &application{route: route}
	a.generations, a.own = generations(route)
	for _, g := range a.generations {
		if g.shadow > 0 && g.weight == 0 && a.shadowed == nil {
			a.shadowed = g
		}
	}
	if before != nil && before.byName[route.Application] != nil {
		a.draws = before.byName[route.Application].draws
	} else {
		a.draws = newDraws()
	}
	return a
}

// gatekeepers returns those that there are, and this proxy among them also where
// Consul does not know of it yet.
func (p *Proxy) gatekeepers(v routes.View) []routes.Gatekeeper {
	if p.config.Slots == nil {
		return nil
	}
	all := v.Gatekeepers
	own := p.config.Slots.Own()
	if own != "" && !slices.ContainsFunc(all, func(k routes.Gatekeeper) bool { return k.Address == own }) {
		all = append(slices.Clone(all), routes.Gatekeeper{Address: own, Passing: true})
	}
	addresses := make([]string, 0, len(all))
	for _, k := range all {
		addresses = append(addresses, k.Address)
	}
	p.config.Slots.Expect(addresses)
	return all
}

// newGate returns a gate that asks and reports by this proxy.
func (p *Proxy) newGate(key deploymentKey) *gate.Gate {
	c := gate.Config{Log: p.log, Prober: p.prober, Slots: p.config.Slots, MaxQueuedBytes: &p.maxQueuedBytes}
	if p.reporter != nil {
		c.Alarm = p.reporter.alarms
	}
	if o := p.config.Observer; o != nil {
		c.Serves = func(application, deployment, version string) any { return o.Serves(application, deployment, version) }
	}
	return gate.New(key.application, key.generation, key.deployment, c)
}

// allGates returns the gates in any order.
func (p *Proxy) allGates() []*gate.Gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.gates))
}

// sortedGates returns the gates by name. The caller holds p.mu.
func (p *Proxy) sortedGates() []*gate.Gate {
	gates := make([]*gate.Gate, 0, len(p.gates))
	for _, g := range p.gates {
		gates = append(gates, g)
	}
	slices.SortFunc(gates, func(a, b *gate.Gate) int {
		return cmp.Or(strings.Compare(a.Application, b.Application), strings.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Generation, b.Generation))
	})
	return gates
}
