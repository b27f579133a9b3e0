package gatekeeper

import (
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/serve-nomad/serve-nomad/slots"
)

// lookEvery is how often it is looked whether the requests of those who have
// vanished have ended.
const lookEvery = 100 * time.Millisecond

// absentee is a holder that has vanished, and whose requests may go on at the
// replicas: many servers finish what they began when nobody waits any more. Its
// slots stay taken until it comes back and says what it holds, or the replicas'
// sockets show that its requests have ended, or patience does.
type absentee struct {
	holder *slots.Holder
	who    identity
	peer   net.IP    // from where its requests came; nil: from anywhere
	ended  bool      // its end was seen, so that all of its connections are closed on its side
	from   time.Time // the sockets show all of its requests then: it may only have been about to connect
	until  time.Time
}

// unknown says that it stands for all of whom nothing is known but what they
// hold.
func (a *absentee) unknown() bool { return a.who.name == "" }

// miss keeps what a proxy holds whose connection is lost.
func (g *Gatekeeper) miss(c *clerk, ended bool) {
	var peer net.IP
	if a, ok := c.nc.RemoteAddr().(*net.TCPAddr); ok {
		peer = a.IP
	}
	now := time.Now()
	from := now
	if !ended {
		from = now.Add(g.config.Recovery) // which it has for saying so itself
	}
	g.lost[&absentee{
		holder: c.holder, who: c.who, peer: peer, ended: ended, from: from, until: now.Add(g.config.Patience),
	}] = true
}

// declared is what a proxy says once it has opened all lines that it had: what
// it held before is what it says now.
func (g *Gatekeeper) declared(c *clerk) []slots.Grant {
	var grants []slots.Grant
	for a := range g.lost {
		if a.who == c.who {
			delete(g.lost, a)
			grants = append(grants, g.book.Leave(a.holder)...)
		}
	}
	return grants
}

// peer is a replica as the sockets of this host have it.
type peer struct {
	address     string
	multiplexed bool
}

// openPage opens a replica's page for a holder who has that many of its slots.
// While this gatekeeper is new it does not know what others hold of the replica,
// and counts its connections.
func (g *Gatekeeper) openPage(h *slots.Holder, r Replica, held int) (*slots.Replica, []slots.Grant) {
	group := slots.Group{Application: r.Application, Deployment: r.Deployment}
	at := peer{r.Address, r.Multiplexed}
	if g.book.Replica(r.ID) == nil && !g.inherited && time.Since(g.began) < g.config.Recovery {
		if n := g.inUse(at, r.Limit); n > 0 {
			page, _ := g.book.Open(g.unknown(), r.ID, group, r.Limit, n)
			_ = g.book.Close(g.unknown(), page) // it takes nothing, and nobody else has a line yet
		}
	}
	page, grants := g.book.Open(h, r.ID, group, r.Limit, held)
	g.peers[page] = at
	return page, append(grants, g.recovered(page, held)...)
}

// unknown is the holder of what cannot be told to be anybody's.
func (g *Gatekeeper) unknown() *slots.Holder {
	for a := range g.lost {
		if a.unknown() {
			return a.holder
		}
	}
	a := &absentee{holder: g.book.Join(""), until: g.began.Add(g.config.Patience)}
	g.lost[a] = true
	return a.holder
}

// glimpse is for how long what was seen of the sockets is good for a gatekeeper
// that is new: all lines are opened to it at once, and the system takes its time
// to list the connections of a busy host.
const glimpse = 10 * time.Millisecond

// inUse is how many requests a replica may have of which nobody has said yet
// that they are theirs: as many as it takes, where its connections are not seen.
func (g *Gatekeeper) inUse(at peer, limit int) int {
	if g.config.Look == nil {
		return 0
	}
	if now := time.Now(); g.seen == nil || now.Sub(g.seenAt) > glimpse {
		seen, err := g.config.Look()
		if err != nil {
			g.log.Warn("the connections of this host cannot be looked at", "error", err)
			return 0
		}
		g.seen, g.seenAt = seen, now
	}
	connections, visible := open(g.seen, at.address, nil, false)
	if !visible || (at.multiplexed && connections > 0) {
		return limit
	}
	return min(connections, limit)
}

// recovered says that a proxy has come back with slots of the page that were
// counted as unknown.
func (g *Gatekeeper) recovered(page *slots.Replica, held int) (grants []slots.Grant) {
	for a := range g.lost {
		if before := page.Held(a.holder); held > 0 && a.unknown() && before > 0 {
			grants = append(grants, g.book.Declare(a.holder, page, max(before-held, 0))...)
		}
	}
	return grants
}

// watchLost takes back the slots of those who have vanished, as their requests
// end, and tells others how busy the replicas are, while a book is kept.
func (g *Gatekeeper) watchLost() {
	ticker := time.NewTicker(min(lookEvery, busyEvery))
	defer ticker.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case now := <-ticker.C:
			if g.Own() != "" {
				g.look(now)
				g.report()
			}
		}
	}
}

// look lowers what vanished holders have to what the sockets show.
func (g *Gatekeeper) look(now time.Time) {
	if !g.misses() || g.config.Look == nil {
		g.settleAll(nil, now)
		return
	}
	seen, err := g.config.Look()
	if err != nil {
		g.log.Debug("the connections of this host cannot be looked at", "error", err)
	}
	g.settleAll(seen, now)
}

// misses says whether anybody has vanished with a slot.
func (g *Gatekeeper) misses() (some bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := range g.lost {
		a.holder.Holds(func(*slots.Replica, int) { some = true })
	}
	return some
}

// settleAll takes back what nobody has any more, by what was seen; nil: nothing
// was.
func (g *Gatekeeper) settleAll(seen Seen, now time.Time) {
	g.mu.Lock()
	var granted []*Line
	for a := range g.lost {
		granted = append(granted, g.settle(a, seen, now)...)
	}
	g.mu.Unlock()
	tell(granted)
}

// settle takes back what an absentee surely has no more.
func (g *Gatekeeper) settle(a *absentee, seen Seen, now time.Time) []*Line {
	var grants []slots.Grant
	if !now.Before(a.until) {
		grants = g.book.Leave(a.holder)
	}
	// Until then those who are alive have not all said what they hold.
	ended := a.ended || (a.peer == nil && now.Sub(g.began) > g.config.Recovery)
	type page struct {
		replica *slots.Replica
		held    int
	}
	var pages []page
	a.holder.Holds(func(r *slots.Replica, held int) { pages = append(pages, page{r, held}) })
	for _, p := range pages {
		n, known := g.left(a, p.replica, p.held, seen, now, ended)
		if known && n < p.held {
			grants = append(grants, g.book.Declare(a.holder, p.replica, n)...)
		}
		g.changed(p.replica)
	}
	left := 0
	a.holder.Holds(func(_ *slots.Replica, held int) { left += held })
	if left == 0 && (a.ended || a.peer == nil || !now.Before(a.until)) && now.Sub(g.began) > g.config.Recovery {
		delete(g.lost, a)
	}
	return g.deliver(grants)
}

// left is how many of its slots of a replica an absentee may still need; known
// is false where that cannot be told.
func (g *Gatekeeper) left(a *absentee, r *slots.Replica, held int, seen Seen, now time.Time, ended bool) (n int, known bool) {
	if seen == nil {
		return held, false
	}
	at := g.peers[r]
	n, visible := open(seen, at.address, a.peer, ended)
	switch {
	case visible && now.After(a.from):
		if at.multiplexed && n > 0 {
			n = held // any number of them on one connection
		}
		return n, true
	case a.unknown() && ended:
		// Nobody can see its connections: those who are alive have had
		// the time to say what they hold.
		return 0, true
	}
	return held, false
}

// open counts the connections of a peer that may have a request: of one whose
// end was seen those that the replica has not closed yet. It says whether
// anything listens at the address that can be seen.
func open(seen Seen, address string, peer net.IP, ended bool) (n int, visible bool) {
	visible = seen.EachTo(address, func(from net.IP, left bool) {
		if (peer == nil || from.Equal(peer)) && (!ended || left) {
			n++
		}
	})
	return n, visible
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
	unknown := g.unknown()
	for _, r := range h.Replicas {
		page, _ := g.book.Open(unknown, r.ID, slots.Group{Application: r.Application, Deployment: r.Deployment}, r.Limit, r.Held)
		g.peers[page] = peer{r.Address, r.Multiplexed}
		_ = g.book.Close(unknown, page) // it takes nothing, and nobody else has a line yet
	}
	return nil
}
