package gate

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Configure takes over what the table and Consul say of the deployment.
// endpoints are those of this deployment, of any version; keepers all there are.
func (g *Gate) Configure(d routes.Deployment, endpoints []routes.Endpoint, keepers []routes.Gatekeeper) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keepers = keepers
	g.closed = false
	g.follow(d)
	g.limit, g.maxQueue = max(d.MaxOngoingRequests, 1), d.MaxQueuedRequests
	g.set.SetLimit(g.limit)
	g.classed = d.PriorityHeaders
	if g.slots != nil {
		g.host = hostOf(g.slots.Own())
	}
	g.http2 = d.SpeaksHTTP2()
	g.scales = d.MetricsInterval > 0
	g.probes.follow(d)
	g.observe(endpoints)
	g.prune()
	g.dispatch(time.Now())
	g.keepProbing()
}

// observe brings the replicas in line with the endpoints.
func (g *Gate) observe(endpoints []routes.Endpoint) {
	seen := make(map[string]routes.Endpoint, len(endpoints))
	for _, e := range endpoints {
		if v := g.versions[e.Version]; v == nil || !v.takes || e.Replica == "" || e.Address == "" {
			continue
		}
		// Listed twice, by two Consul agents say: the one that passes counts.
		if other, twice := seen[e.Replica]; !twice || (e.Passing && !other.Passing) {
			seen[e.Replica] = e
		}
	}
	for id, r := range g.replicas {
		if _, ok := seen[id]; ok {
			continue
		}
		r.known, r.passing, r.probe = false, false, nil
		if r.line != nil { // its gatekeeper goes by what was said last
			g.give(r.line.SetLimit(g.limit), time.Now())
		}
		r.Pool.SetOpen(false)
		if r.member.InFlight() == 0 {
			g.forget(r)
		}
	}
	for id, e := range seen {
		g.admit(id, e)
	}
	g.relist()
}

// relist finds anew which replicas are live, and which are to be asked whether
// they could be.
func (g *Gate) relist() {
	g.live, g.probes.open, g.probes.live = g.live[:0], 0, 0
	g.checksIgnored = g.mostFail()
	for _, r := range g.replicas {
		if r.passing || r.probe.isLive() || (g.checksIgnored && r.proven()) {
			g.live = append(g.live, r)
		}
		if r.probe.isOpen() {
			g.probes.open++
		}
		if r.probe.isLive() {
			g.probes.live++
		}
	}
	slices.SortFunc(g.live, func(a, b *Replica) int { return strings.Compare(a.ID, b.ID) })
	members := make([]*balance.Member, 0, len(g.live))
	for _, r := range g.live {
		members = append(members, r.member)
	}
	now := time.Now()
	g.set.Replace(members, now)
	g.wakeWhenDue(now)
	if len(g.live) > 0 {
		g.starvedTold = false
	}
}

// crowd is of how many replicas most must fail their checks at once for the
// checks to be doubted. Of one or two it is no wonder.
const crowd = 3

// mostFail says whether fewer than half of the replicas pass of those that have
// passed before and have nothing against them but their own check. Then it is
// more likely the checks that fail, of replicas that are busy, or for something
// that all of them need, than so many replicas: they are sent requests as
// before, and those that cannot be reached are left alone one by one.
func (g *Gate) mostFail() bool {
	proven, passing := 0, 0
	for _, r := range g.replicas {
		if r.proven() {
			proven++
			if r.passing {
				passing++
			}
		}
	}
	return proven >= crowd && 2*passing < proven
}

func (g *Gate) admit(id string, e routes.Endpoint) {
	r := g.replicas[id]
	if r == nil {
		v := g.versions[e.Version]
		r = &Replica{ID: id, Version: e.Version, Node: e.Node, Series: v.series, HTTP2: g.http2, version: v}
		r.member = balance.NewMember(id)
		g.replicas[id] = r
	}
	g.set.Near(r.member, g.host != "" && hostOf(e.Address) == g.host)
	r.meetProbe(e, g.probes.asks())
	if r.address != e.Address {
		r.Pool.Flush()
	}
	if (e.Passing && !r.passing) || r.address != e.Address {
		g.set.Reach(r.member, time.Now())
	}
	if !r.known {
		r.Pool.SetOpen(true)
	}
	r.address, r.known, r.passing, r.unproven = e.Address, true, e.Passing, e.Unproven
	g.enroll(r, e)
}

// hostOf returns the host of a host:port, or "".
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}

// Close sends everyone who waits away: the deployment is not in the table any
// more. It says whether the gate can be forgotten, which it can only when no
// replica has a request, and nothing is left to report.
func (g *Gate) Close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.follow(routes.Deployment{})
	g.observe(nil)
	g.prune()
	g.keepProbing()
	g.dismiss(ErrGone)
	return len(g.versions) == 0
}

// dismiss ends all waits.
func (g *Gate) dismiss(why error) {
	now := time.Now()
	g.load.add(-g.queue.Len(), now)
	for it := g.queue.First(); it != nil; it = g.queue.First() {
		g.queue.Remove(it)
		it.Value.ready <- grant{err: why}
	}
	g.refuseCopies()
	g.want(now)
}
