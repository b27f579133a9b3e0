package gatekeeper

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/slots"
)

// A gatekeeper that begins does not know what was held of the replicas before.
// The proxies that are alive say what they hold, and which connections to a
// replica are theirs; one that cannot be reached just now says nothing. So each
// connection that there was to a replica when its page was opened counts as a
// request of somebody unknown, until a proxy says that it is its own or it is
// closed. Once all proxies are here, what is still open belongs to none of them:
// somebody reads metrics from the replica, say. But one whose other end has closed
// it may have been a proxy's, and its request goes on.

// peer is a replica as the sockets of this host have it.
type peer struct {
	address     string
	multiplexed bool
	unclaimed   map[netip.AddrPort]bool // connections of somebody unknown; true: the other end has closed it
	since       time.Time               // when that was first doubted
	handed      bool                    // what somebody unknown holds was handed over as a number
}

// needs is how many slots the unclaimed connections may need, of those held. told
// says that all proxies have claimed theirs.
func (p *peer) needs(held int, told bool) int {
	n := 0
	for _, left := range p.unclaimed {
		if left || !told {
			n++
		}
	}
	if p.multiplexed && n > 0 {
		return held // any number of them on one connection
	}
	return min(n, held)
}

// openPage opens a replica's page for a holder who has that many of its slots.
// had says that the holder has had a line of it before, in whatever book: others
// may have had slots by that.
func (g *Gatekeeper) openPage(h *slots.Holder, r Replica, held int, had bool) (*slots.Replica, []slots.Grant) {
	if g.book.Replica(r.ID) == nil && g.doubts(had) {
		g.doubt(r)
	}
	page, grants := g.book.Open(h, r.ID, slots.Group{Application: r.Application, Deployment: r.Deployment}, r.Limit, held)
	at := g.peers[page]
	if at == nil {
		at = &peer{}
		g.peers[page] = at
	}
	at.address, at.multiplexed = r.Address, r.Multiplexed
	if before := page.Held(g.unknown); at.handed && held > 0 && before > 0 {
		grants = append(grants, g.book.Declare(g.unknown, page, max(before-held, 0))...)
	}
	return page, grants
}

// doubts says whether a replica that is not in the book may have requests.
func (g *Gatekeeper) doubts(had bool) bool {
	beginning := time.Since(g.began) < g.config.Recovery
	return g.config.Look != nil && (had || beginning) && (!g.inherited || !beginning)
}

// glimpse is for how long what was seen of the sockets is good: all lines are
// opened at once to a gatekeeper that begins, and the system takes its time to
// list the connections of a busy host.
const glimpse = 10 * time.Millisecond

// glance returns what is seen of the sockets; nil: nothing can be.
func (g *Gatekeeper) glance() Seen {
	if g.config.Look == nil {
		return nil
	}
	if now := time.Now(); g.seen == nil || now.Sub(g.seenAt) > glimpse {
		seen, err := g.config.Look()
		if err != nil {
			g.log.Warn("the connections of this host cannot be looked at", "error", err)
			return nil
		}
		g.seen, g.seenAt = seen, now
	}
	return g.seen
}

// doubt has each connection to the replica count as a request of somebody
// unknown. Where its connections cannot be seen, it has as many as it takes, until
// those who are alive have had the time to say what they hold.
func (g *Gatekeeper) doubt(r Replica) {
	seen := g.glance()
	if seen == nil {
		return
	}
	limit := max(r.Limit, 1)
	at := &peer{address: r.Address, multiplexed: r.Multiplexed}
	n := limit
	if at.look(seen) {
		n = at.needs(limit, false)
	}
	if n > 0 {
		g.note(r, at, n)
	}
}

// look takes all connections that are seen for unclaimed, and says whether any
// could be seen.
func (p *peer) look(seen Seen) (visible bool) {
	p.unclaimed = map[netip.AddrPort]bool{}
	return seen.EachTo(p.address, func(from netip.AddrPort, left bool) { p.unclaimed[from] = left })
}

// note opens a page of which somebody unknown has that many slots.
func (g *Gatekeeper) note(r Replica, at *peer, held int) {
	page, _ := g.book.Open(g.unknown, r.ID, slots.Group{Application: r.Application, Deployment: r.Deployment}, r.Limit, held)
	_ = g.book.Close(g.unknown, page) // it takes nothing, and nobody else has a line yet
	g.doubted = time.Now()
	at.since = g.doubted
	g.peers[page] = at
}

// claim says that a connection to the replica is a proxy's own, which counts the
// requests on it itself.
func (g *Gatekeeper) claim(page *slots.Replica, address netip.AddrPort) []slots.Grant {
	at := g.peers[page]
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	if at == nil {
		return nil
	}
	if _, counts := at.unclaimed[address]; !counts {
		return nil
	}
	delete(at.unclaimed, address)
	if at.handed {
		return nil // what it holds has been taken off the number
	}
	return g.lower(page, at.needs(page.Held(g.unknown), false))
}

// lower has somebody unknown hold no more than that.
func (g *Gatekeeper) lower(page *slots.Replica, n int) []slots.Grant {
	if n >= page.Held(g.unknown) {
		return nil
	}
	grants := g.book.Declare(g.unknown, page, n)
	g.changed(page)
	return grants
}

// find takes back what nobody unknown can have any more, by what was seen.
func (g *Gatekeeper) find(seen Seen, now time.Time) []slots.Grant {
	var grants []slots.Grant
	awaits := g.awaits()
	for page, held := range held(g.unknown) {
		at := g.peers[page]
		recovered := now.Sub(at.since) > g.config.Recovery // which those who are alive had to say what they hold
		told := recovered && !awaits
		switch {
		case now.Sub(g.doubted) > g.config.Patience:
			grants = append(grants, g.lower(page, 0)...)
		case seen == nil:
		case at.watch(seen):
			if recovered || !at.handed {
				grants = append(grants, g.lower(page, at.needs(held, told))...)
			}
		case recovered:
			grants = append(grants, g.lower(page, 0)...)
		}
	}
	return grants
}

// awaits says whether a proxy that should be here is not.
func (g *Gatekeeper) awaits() bool {
	here := map[string]bool{g.own: true}
	for c := range g.clerks {
		here[c.own] = true
	}
	return slices.ContainsFunc(g.expected, func(address string) bool { return !here[address] })
}

// watch forgets the connections that have been closed on both sides, and says
// whether any could be seen.
func (p *peer) watch(seen Seen) (visible bool) {
	still := map[netip.AddrPort]bool{}
	visible = seen.EachTo(p.address, func(from netip.AddrPort, left bool) {
		if _, ok := p.unclaimed[from]; ok {
			still[from] = left
		}
	})
	if visible {
		p.unclaimed = still
	}
	return visible
}

// handover is what a gatekeeper says to the process that takes its place.
type handover struct {
	Replicas []handedReplica `json:"replicas"`
}

type handedReplica struct {
	Replica
	Held int `json:"held"` // by all
}

// encodeBook writes the book down. The caller holds the mutex.
func (g *Gatekeeper) encodeBook() []byte {
	var h handover
	g.book.Replicas(func(r *slots.Replica) bool {
		if r.Busy() > 0 {
			h.Replicas = append(h.Replicas, handedReplica{Replica: Replica{
				ID: r.ID, Application: r.Group().Application, Deployment: r.Group().Deployment,
				Address: g.peers[r].address, Limit: r.Limit(), Multiplexed: g.peers[r].multiplexed,
			}, Held: r.Busy()})
		}
		return true
	})
	b, err := json.Marshal(h)
	if err != nil {
		return nil // a struct of strings and numbers can be marshalled
	}
	return b
}

// Inherit takes over, before Keep, what the process before said by Yield. Those
// who hold the slots will say so again; what nobody claims is kept as after any
// other end of a gatekeeper.
func (g *Gatekeeper) Inherit(state []byte) error {
	if len(state) == 0 {
		return nil
	}
	var h handover
	if err := json.Unmarshal(state, &h); err != nil {
		return fmt.Errorf("read the slots that the process before has handed over: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.began, g.inherited = time.Now(), true
	for _, r := range h.Replicas {
		at := &peer{address: r.Address, multiplexed: r.Multiplexed, handed: true}
		g.note(r.Replica, at, r.Held)
		if seen := g.glance(); seen != nil {
			at.look(seen)
		}
	}
	return nil
}
