package gatekeeper

import (
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/slots"
)

// Hearer is told what happens to a line. It is called with no lock held, from
// any goroutine.
type Hearer interface {
	// Granted says that the proxy has one slot more: the answer to Ask.
	Granted(l *Line)
	// Offered says that the proxy has one slot more, because it wants some.
	Offered(l *Line)
	// Refused answers Ask: no slot is free.
	Refused(l *Line)
	// Lost says that the gatekeeper cannot be reached: what was asked will
	// have no answer. What is held stays held.
	Lost(l *Line)
	// Found says that the gatekeeper can be asked.
	Found(l *Line)
}

// Replica is what a gatekeeper must know of a replica.
type Replica struct {
	ID, Application, Deployment string
	Address                     string // host:port
	Limit                       int    // slots
}

// Line is one proxy's line in the book of one replica's gatekeeper.
type Line struct {
	g       *Gatekeeper
	replica Replica
	keeper  string // the gatekeeper's address
	hearer  Hearer
	others  atomic.Int64 // slots that other proxies have, as last heard

	// Guarded by the Gatekeeper's mutex.
	held   int
	asked  int
	muted  bool
	closed bool
	party  *party
	page   *slots.Replica // in its own book; nil: the book is kept elsewhere
	link   *link          // nil: the book is kept here
	number uint64         // on the link
}

// party is the lines of one deployment, and how many slots it waits for.
type party struct {
	group slots.Group
	lines map[*Line]bool
	want  int
	since time.Time
	// Requests that wait at other proxies, as the gatekeepers say it.
	queued map[*link]int
}

// Open opens a line at the gatekeeper of that address, which is this one or
// another. Granted lines come back where the deployment already waits.
func (g *Gatekeeper) Open(r Replica, keeper string, hearer Hearer) (*Line, []*Line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := slots.Group{Application: r.Application, Deployment: r.Deployment}
	p := g.parties[group]
	if p == nil {
		p = &party{group: group, lines: map[*Line]bool{}, queued: map[*link]int{}}
		g.parties[group] = p
	}
	l := &Line{g: g, replica: r, keeper: keeper, hearer: hearer, party: p}
	p.lines[l] = true
	return l, g.place(l)
}

// place puts the line into the book that it belongs to, with what it holds.
func (g *Gatekeeper) place(l *Line) []*Line {
	if l.keeper != g.own {
		l.page, l.asked = nil, 0
		l.link = g.linkTo(l.keeper)
		l.link.open(l)
		return nil
	}
	l.link = nil
	page, grants := g.openPage(g.self, l.replica)
	l.page, l.asked = page, 0
	if other := g.lines[page]; other == nil || !l.closed {
		g.lines[page] = l
	}
	if l.held > 0 {
		g.book.Declare(g.self, page, page.Held(g.self)+l.held)
		g.recovered(page, l.held)
	}
	granted := g.deliver(grants)
	if l.muted {
		g.book.Mute(g.self, page, true)
	}
	g.changed(page)
	if l.closed {
		g.closePage(l)
		return granted
	}
	if l.party.want > 0 {
		granted = append(granted, g.deliver(g.book.Want(g.self, l.party.group, l.party.want, l.party.since))...)
	}
	return granted
}

// moveLines places the lines of that gatekeeper's address anew, because this
// proxy has become it or is it no more.
func (g *Gatekeeper) moveLines(keeper string) {
	g.mu.Lock()
	if g.own != keeper {
		g.empty()
	} else if old := g.links[keeper]; old != nil {
		old.finish()
		delete(g.links, keeper)
	}
	var moved, granted []*Line
	for _, p := range g.parties {
		for l := range p.lines {
			if l.keeper == keeper {
				moved = append(moved, l)
				granted = append(granted, g.place(l)...)
			}
		}
	}
	g.mu.Unlock()
	for _, l := range moved {
		l.hearer.Lost(l) // what was asked of the other has no answer
	}
	tell(granted)
	if g.Own() == keeper {
		for _, l := range moved {
			l.hearer.Found(l)
		}
	}
}

// Replica returns what the line is about.
func (l *Line) Replica() Replica { return l.replica }

// Keeper returns the address of the gatekeeper.
func (l *Line) Keeper() string { return l.keeper }

// Others is how many slots of the replica other proxies have, as last heard.
func (l *Line) Others() int { return int(l.others.Load()) }

// Take takes a slot at once. It fails where none is free, and where the book is
// kept elsewhere.
func (l *Line) Take() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.page == nil || !l.g.book.Take(l.g.self, l.page) {
		return false
	}
	l.held++
	return true
}

// Ask asks another gatekeeper for a slot, and says whether there will be an
// answer.
func (l *Line) Ask() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.link == nil || !l.link.ready || l.closed {
		return false
	}
	l.asked++
	l.link.send(message{kind: kindAsk, numbers: [3]uint64{l.number}})
	return true
}

// Reachable says whether a slot can be had: the book is kept here, or there is a
// connection to where it is.
func (l *Line) Reachable() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	return l.link == nil || l.link.ready
}

// Kept says whether the book is kept here.
func (l *Line) Kept() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	return l.link == nil
}

// Contested says whether others wait for slots of the deployment, so that one
// that is free must go through the book.
func (l *Line) Contested() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.link == nil {
		return true // the book knows best, and costs nothing
	}
	return l.party.queued[l.link] > 0 || l.closed || l.muted
}

// Release gives a slot back. The lines that are returned have been given one
// instead, for those who wait.
func (l *Line) Release() []*Line {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	l.held--
	if l.link != nil {
		l.link.send(message{kind: kindRelease, numbers: [3]uint64{l.number}})
		l.link.forget(l)
		return nil
	}
	page := l.page
	granted := g.deliver(g.book.Release(g.self, page))
	g.forget(l)
	return granted
}

// Mute says whether the proxy can use no slot of the replica for now. It is
// then given none that it does not ask for.
func (l *Line) Mute(mute bool) []*Line {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.muted == mute || l.closed {
		return nil
	}
	l.muted = mute
	if l.link != nil {
		flag := uint64(0)
		if mute {
			flag = 1
		}
		l.link.send(message{kind: kindMute, numbers: [3]uint64{l.number, flag}})
		return nil
	}
	return g.deliver(g.book.Mute(g.self, l.page, mute))
}

// Close ends the line. Slots that it holds are released as always.
func (l *Line) Close() {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if l.link != nil {
		l.link.send(message{kind: kindClose, numbers: [3]uint64{l.number}})
		l.link.forget(l)
		return
	}
	g.closePage(l)
}

// closePage ends a line of the own book.
func (g *Gatekeeper) closePage(l *Line) {
	if g.lines[l.page] == l { // else it has been opened anew
		g.book.Close(g.self, l.page)
	}
	g.forget(l)
}

// forget drops a line of the own book that is closed and holds nothing.
func (g *Gatekeeper) forget(l *Line) {
	if !l.closed || l.held > 0 {
		return
	}
	if g.lines[l.page] == l {
		delete(g.lines, l.page)
	}
	g.leaveParty(l)
}

func (g *Gatekeeper) leaveParty(l *Line) {
	delete(l.party.lines, l)
	if len(l.party.lines) == 0 && g.parties[l.party.group] == l.party {
		delete(g.parties, l.party.group)
	}
}

// Want says how many slots of the deployment this proxy waits for, and since
// when the first of its requests waits. Lines that have been given one come
// back; others hear of it.
func (g *Gatekeeper) Want(application, deployment string, want int, since time.Time) []*Line {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := slots.Group{Application: application, Deployment: deployment}
	p := g.parties[group]
	if p == nil {
		return nil
	}
	p.want, p.since = want, since
	told := map[*link]bool{}
	kept := false
	for l := range p.lines {
		switch {
		case l.link == nil:
			kept = true
		case !told[l.link]:
			told[l.link] = true
			l.link.want(p)
		}
	}
	if !kept {
		return nil
	}
	granted := g.deliver(g.book.Want(g.self, group, want, since))
	g.tellQueued(group)
	return granted
}

// Queued is how many requests for the deployment wait at other proxies, as far
// as the gatekeepers of its replicas have said.
func (g *Gatekeeper) Queued(application, deployment string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := slots.Group{Application: application, Deployment: deployment}
	p := g.parties[group]
	if p == nil {
		return 0
	}
	most := g.book.Wanted(group, g.self)
	for _, n := range p.queued {
		most = max(most, n)
	}
	return most
}
