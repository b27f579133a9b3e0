package gatekeeper

import (
	"net"
	"net/netip"
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
	peer   netip.Addr // from where its requests came; invalid: from anywhere
	ended  bool       // its end was seen, so that all of its connections are closed on its side
	from   time.Time  // the sockets show all of its requests then: it may only have been about to connect
	until  time.Time
	seen   map[*slots.Replica]int // slots that the last look has shown it to need
}

// miss keeps what a proxy holds whose connection is lost.
func (g *Gatekeeper) miss(c *clerk, ended bool) {
	var peer netip.Addr
	if a, ok := c.nc.RemoteAddr().(*net.TCPAddr); ok {
		peer = a.AddrPort().Addr().Unmap()
	}
	now := time.Now()
	from := now
	if !ended {
		from = now.Add(g.config.Recovery) // which it has for saying so itself
	}
	g.lost[&absentee{
		holder: c.holder, who: c.who, peer: peer, ended: ended, from: from, until: now.Add(g.config.Patience),
		seen: map[*slots.Replica]int{},
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
		seen = nil // what could not be read shows nothing
	}
	g.settleAll(seen, now)
}

// misses says whether any slot is held by somebody who is not there.
func (g *Gatekeeper) misses() (some bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	see := func(*slots.Replica, int) { some = true }
	g.unknown.Holds(see)
	for a := range g.lost {
		a.holder.Holds(see)
	}
	return some
}

// settleAll takes back what nobody has any more, by what was seen; nil: nothing
// was.
func (g *Gatekeeper) settleAll(seen Seen, now time.Time) {
	g.mu.Lock()
	granted := g.deliver(g.find(seen, now))
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
	left := 0
	for r, held := range held(a.holder) {
		n := min(a.needs(r, held, g.peers[r], seen, now), held)
		if n < held {
			grants = append(grants, g.book.Declare(a.holder, r, n)...)
		}
		left += n
		g.changed(r)
	}
	if left == 0 && (a.ended || !now.Before(a.until)) {
		delete(g.lost, a)
	}
	return g.deliver(grants)
}

// held is what the holder has of each replica.
func held(h *slots.Holder) map[*slots.Replica]int {
	all := map[*slots.Replica]int{}
	h.Holds(func(r *slots.Replica, n int) { all[r] = n })
	return all
}

// needs is how many of its slots of a replica an absentee may still need.
//
// One whose end was not seen may be alive, and replace a connection: so it takes
// two looks to show that it needs fewer.
func (a *absentee) needs(r *slots.Replica, held int, at *peer, seen Seen, now time.Time) int {
	if seen == nil || !now.After(a.from) {
		return held
	}
	n := 0
	visible := seen.EachTo(at.address, func(from netip.AddrPort, left bool) {
		if (!a.peer.IsValid() || from.Addr() == a.peer) && (!a.ended || left) {
			n++
		}
	})
	switch {
	case !visible:
		return held
	case at.multiplexed && n > 0:
		n = held // any number of them on one connection
	}
	before, looked := a.seen[r]
	a.seen[r] = n
	switch {
	case a.ended:
		return n
	case !looked:
		return held
	}
	return max(n, before)
}
