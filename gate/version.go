package gate

import (
	"slices"

	"github.com/serve-nomad/serve-nomad/routes"
)

// version is one version of the deployment, as its gate sees it. It is there as
// long as it takes requests, has replicas here, or has something to report.
type version struct {
	name   string
	takes  bool // requests are sent to its replicas
	series any  // see Config.Serves
	served served
}

// follow takes over which versions take requests.
func (g *Gate) follow(d routes.Deployment) {
	taking := d.Versions()
	for _, name := range taking {
		v := g.versions[name]
		if v == nil {
			v = &version{name: name}
			g.versions[name] = v
		}
		if !v.takes && g.serves != nil {
			v.series = g.serves(g.Application, g.Deployment, name)
		}
		v.takes = true
	}
	for name, v := range g.versions {
		if v.takes && !slices.Contains(taking, name) {
			v.takes = false
		}
	}
	g.serving = nil
	if len(taking) > 0 {
		g.serving = g.versions[taking[0]]
	}
}

// prune forgets the versions that nothing is left of.
func (g *Gate) prune() {
	for name, v := range g.versions {
		if !v.takes && !g.hasReplicas(v) && !v.served.untold() {
			delete(g.versions, name)
		}
	}
}

func (g *Gate) hasReplicas(v *version) bool {
	for _, r := range g.replicas {
		if r.version == v {
			return true
		}
	}
	return false
}

// Serving returns the version that takes requests, of several the newest one, and
// its series.
func (g *Gate) Serving() (version string, series any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving == nil {
		return "", nil
	}
	return g.serving.name, g.serving.series
}

// Readiness is whether a gate has somebody to send requests to.
type Readiness int

// Readiness, the worst first.
const (
	Away   Readiness = iota // nobody takes requests: there is no replica, or none that can be reached
	Asleep                  // it has been scaled down to no replica, and a request that waits brings one back
	Awake                   // a replica takes requests, now or when it has a free slot
)

// Readiness says whether there is a replica that requests can be sent to.
func (g *Gate) Readiness() Readiness {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.serving == nil {
		return Away
	}
	for _, r := range g.live {
		if g.set.Usable(r.member) {
			return Awake
		}
	}
	if !g.scales {
		return Away
	}
	for _, r := range g.replicas {
		if r.known {
			return Away
		}
	}
	return Asleep
}

// Redirect has everyone who waits look for another gate: there is one that has
// somebody to serve them, and this one has nobody.
func (g *Gate) Redirect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dismiss(ErrRedirected)
}
