package proxy

import (
	"cmp"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/routes"
)

// generation is one generation of an application, with its deployments' gates at
// hand.
type generation struct {
	number      int
	weight      int // percent of the requests to the application
	shadow      int // percent of the requests of which it gets a copy
	ingress     string
	deployments map[string]routes.Deployment
	gates       map[string]*gate.Gate
}

// front is the gate of the ingress, nil if there is none.
func (g *generation) front() *gate.Gate { return g.gates[g.ingress] }

// speaksGRPC says whether gRPC can get to the generation from outside.
func (g *generation) speaksGRPC() bool { return g.deployments[g.ingress].SpeaksHTTP2() }

// generations returns those of a route, the newest first, and the route's own.
// Weights that make no sense are cut down, so that they are 100 together.
func generations(route routes.Route) (all []*generation, own *generation) {
	for i, g := range route.Generations() {
		next := &generation{
			number: g.Number, weight: g.Weight, shadow: g.Shadow, ingress: g.Ingress,
			deployments: g.Deployments, gates: make(map[string]*gate.Gate, len(g.Deployments)),
		}
		switch {
		case i == 0:
			own = next
		case slices.ContainsFunc(all, func(other *generation) bool { return other.number == g.Number }):
			continue // its gates would be the other's
		}
		all = append(all, next)
	}
	slices.SortFunc(all, func(a, b *generation) int { return cmp.Compare(b.number, a.number) })
	left := 100
	for _, g := range all {
		if g != own {
			g.weight = min(max(g.weight, 0), left)
			left -= g.weight
		}
	}
	own.weight = left
	return all, own
}

// draws is what a proxy keeps of an application from one table to the next.
type draws struct {
	requests atomic.Uint64 // of which the generation was drawn, from some number on
	shadows  atomic.Uint64 // which could have been copied, as well
	copies   copies
}

func newDraws() *draws {
	d := &draws{}
	// Not the same request of each hundred at every proxy.
	d.requests.Store(rand.Uint64N(100))
	d.shadows.Store(rand.Uint64N(100))
	return d
}

// stride has places that follow each other lie far apart: each comes once in a
// hundred, and a generation's requests do not come all together.
const stride = 61

// place counts one more, and returns its place among a hundred.
func place(counter *atomic.Uint64) uint8 {
	return uint8(counter.Add(1) % 100 * stride % 100) //nolint:gosec // below 100
}

// stickyKey is the kind of key that binds a client to a generation.
const stickyKey = 'g'

// stickyPlace is the client's place among a hundred, the same at all proxies and
// for as long as it says that it is the same one.
func (t *transit) stickyPlace(application string) uint8 {
	client := ""
	if session := t.r.Header[sessionHeader]; len(session) > 0 && session[0] != "" {
		client = session[0]
	} else if host, _, err := net.SplitHostPort(t.r.RemoteAddr); err == nil {
		client = host
	} else {
		client = t.r.RemoteAddr
	}
	return uint8(balance.Key(stickyKey, application+"\x00"+client) >> 32 % 100) //nolint:gosec // below 100
}

// sessionHeader says which session a request belongs to.
const sessionHeader = "Serve-Session-Id"

// at returns the generation that has a place. The newest has the first ones, so
// that whoever has got to it stays there as its weight grows.
func (a *application) at(place uint8) *generation {
	left := int(place)
	for _, g := range a.generations {
		if left -= g.weight; left < 0 {
			return g
		}
	}
	return a.own
}

// draw returns the generation that is to have a request which came on the public
// port. A request that is drawn again keeps its place.
func (a *application) draw(t *transit) *generation {
	if len(a.generations) == 1 {
		return a.own
	}
	if !t.placed {
		t.placed = true
		if a.route.Sticky {
			t.place = t.stickyPlace(a.route.Application)
		} else {
			t.place = place(&a.draws.requests)
		}
	}
	drawn := a.at(t.place)
	if a.takes(drawn, t.grpc) {
		return drawn
	}
	for _, g := range append([]*generation{a.own}, a.generations...) {
		if a.mayStandIn(g) && a.takes(g, t.grpc) {
			return g
		}
	}
	if t.grpc && !drawn.speaksGRPC() && a.own.speaksGRPC() {
		return a.own
	}
	return drawn
}

// takes says whether a generation's ingress has somebody to serve requests. The
// application's own may have been scaled down to nobody, and is woken by those that
// wait.
func (a *application) takes(g *generation, grpc bool) bool {
	front := g.front()
	if front == nil || (grpc && !g.speaksGRPC()) {
		return false
	}
	switch front.Readiness() {
	case gate.Awake:
		return true
	case gate.Asleep:
		return g == a.own
	default:
		return false
	}
}

// mayStandIn says whether a generation may have requests that are another's: not
// one that is new and has none of its own yet.
func (a *application) mayStandIn(g *generation) bool {
	return g.weight > 0 || g.number <= a.own.number
}

// redirect has requests that wait for a generation which has nobody to serve them
// drawn again, where another could.
func (a *application) redirect() {
	if len(a.generations) == 1 {
		return
	}
	elsewhere := slices.ContainsFunc(a.generations, func(g *generation) bool { return a.mayStandIn(g) && a.takes(g, false) })
	for _, g := range a.generations {
		if front := g.front(); elsewhere && front != nil && !a.takes(g, false) {
			front.Redirect()
		}
	}
}

// handled returns the application that a handle names, and which of its
// generations: "search" is generation 0, "search@7" generation 7. One that is not
// there stands for the route's own, so that a replica which has outlived its
// generation can still finish.
func (t *table) handled(name string) (*application, *generation) {
	number := 0
	if application, digits, ok := strings.Cut(name, "@"); ok {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return nil, nil
		}
		name, number = application, int(n)
	}
	a := t.byName[name]
	if a == nil {
		return nil, nil
	}
	for _, g := range a.generations {
		if g.number == number {
			return a, g
		}
	}
	return a, a.own
}

// GenerationStatus is one generation of an application that has several.
type GenerationStatus struct {
	Application string `json:"application"`
	Generation  int    `json:"generation"`
	Own         bool   `json:"own,omitempty"`    // of the route: it takes what the others leave
	Weight      int    `json:"weight"`           // percent of the requests
	Shadow      int    `json:"shadow,omitempty"` // percent of the requests of which it gets a copy
	Ingress     string `json:"ingress"`
	Takes       bool   `json:"takes"` // there is somebody to serve them; else others get its requests

	Copies *CopiesStatus `json:"copies,omitempty"` // absent: it gets none
}

// CopiesStatus is what has become of the copies that an application's requests
// were to have, since the proxy began.
type CopiesStatus struct {
	UnderWay int64  `json:"under_way"`
	Sent     uint64 `json:"sent"`
	Dropped  uint64 `json:"dropped"` // not sent, for want of room or of a free slot, or because of what the request is
}

// rollouts returns the status of all generations of applications that have
// several.
func (t *table) rollouts() []GenerationStatus {
	var list []GenerationStatus
	if t == nil {
		return nil
	}
	for name, a := range t.byName {
		if len(a.generations) == 1 {
			continue
		}
		for _, g := range a.generations {
			s := GenerationStatus{
				Application: name, Generation: g.number, Own: g == a.own, Weight: g.weight, Shadow: g.shadow,
				Ingress: g.ingress, Takes: a.takes(g, false),
			}
			if g == a.shadowed {
				s.Copies = a.draws.copies.status()
			}
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b GenerationStatus) int {
		return cmp.Or(strings.Compare(a.Application, b.Application), cmp.Compare(a.Generation, b.Generation))
	})
	return list
}
