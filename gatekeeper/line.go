package gatekeeper

import (
	"net/netip"
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
	// Contested says that others wait for slots of the line's deployment, so
	// that none should be kept unused.
	Contested(l *Line)
	// Changed says that others have more or fewer slots than before.
	Changed(l *Line)
}

// Replica is what a gatekeeper must know of a replica.
type Replica struct {
	ID, Application, Deployment string
	Address                     string // host:port
	Limit                       int    // slots
	Multiplexed                 bool   // one connection carries several requests, as HTTP/2 does
	// Own returns the proxy's connections to the replica, by the address that
	// they come from; nil: it cannot be said. It is called with the
	// Gatekeeper's lock held, and must not call back.
	Own func() []netip.AddrPort `json:"-"`
}

func (r Replica) own() []netip.AddrPort {
	if r.Own == nil {
		return nil
	}
	return r.Own()
}

// Line is one proxy's line in the book of one replica's gatekeeper.
type Line struct {
	g        *Gatekeeper
	replica  Replica
	hearer   Hearer
	others   atomic.Int64 // slots that other proxies have, as last heard
	reckoned atomic.Int64 // of those, what the hearer goes by

	// Guarded by the Gatekeeper's mutex.
	keeper string // the gatekeeper's address
	held   int
	muted  bool
	had    bool // it has been in a book
	party  *party
	page   *slots.Replica // in its own book; nil: the book is kept elsewhere
	link   *link          // nil: the book is kept here, or nowhere any more
	number uint64         // on the link
}

// party is the lines of one deployment, and how many slots it waits for. It is
// there as long as there is either.
type party struct {
	group slots.Group
	lines int
	kept  int // of the lines: in its own book
	away  map[*link]*stand
	want  int
	since time.Time
}

// stand is how a party stands with another gatekeeper.
type stand struct {
	lines  int
	told   int    // slots that the gatekeeper knows to be waited for
	toldAt uint64 // by which of the link's kindWant
	queued int    // requests that wait at other proxies
}

// Open opens a line at the gatekeeper of that address, which is this one or
// another, for a proxy that has as many requests at the replica already. Granted
// lines come back where the deployment waits.
func (g *Gatekeeper) Open(r Replica, keeper string, held int, hearer Hearer) (*Line, []*Line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.partyOf(slots.Group{Application: r.Application, Deployment: r.Deployment})
	l := &Line{g: g, replica: r, keeper: keeper, held: held, hearer: hearer, party: p}
	p.lines++
	return l, g.place(l)
}

// partyOf returns the group's party, made if it is new.
func (g *Gatekeeper) partyOf(group slots.Group) *party {
	p := g.parties[group]
	if p == nil {
		p = &party{group: group, away: map[*link]*stand{}}
		g.parties[group] = p
	}
	return p
}

// drop forgets a party that has no lines, and waits for none.
func (g *Gatekeeper) drop(p *party) {
	if p.lines == 0 && p.want == 0 {
		delete(g.parties, p.group)
	}
}

// place puts the line into the book that it belongs to, with what it holds.
func (g *Gatekeeper) place(l *Line) []*Line {
	g.all[l] = true
	if l.keeper != g.own {
		g.linkTo(l.keeper).open(l)
		return nil
	}
	page, grants := g.openPage(g.self, l.replica, l.held, l.had)
	for _, address := range l.replica.own() {
		grants = append(grants, g.claim(page, address)...)
	}
	l.page, l.link, l.had = page, nil, true
	g.lines[page] = l
	l.party.kept++
	granted := g.deliver(grants)
	if l.muted {
		g.book.Mute(g.self, page, true)
	}
	g.changed(page)
	if l.party.want > 0 {
		granted = append(granted, g.deliver(g.book.Want(g.self, l.party.group, l.party.want, l.party.since))...)
	}
	return granted
}

// leave takes the line out of the book that it is in, which is told that it
// holds nothing.
func (g *Gatekeeper) leave(l *Line) {
	delete(g.all, l)
	if l.link != nil {
		l.link.close(l)
		l.link = nil
		return
	}
	if l.page == nil {
		return
	}
	l.party.kept--
	grants := g.book.Close(g.self, l.page) // first, so that what it releases is not given to it
	grants = append(grants, g.book.Declare(g.self, l.page, 0)...)
	if g.lines[l.page] == l {
		delete(g.lines, l.page)
	}
	l.page = nil
	if l.party.kept == 0 {
		g.book.Want(g.self, l.party.group, 0, time.Time{})
	}
	// None can be for this proxy's own lines: where one of its deployment has
	// a free slot, nobody of it waits.
	g.deliver(grants)
}

// moveLines places the lines of that gatekeeper's address anew, because this
// proxy has become it or is it no more. The caller holds the mutex, and calls
// what is returned when it does not.
func (g *Gatekeeper) moveLines(keeper string) (say func()) {
	var moved, granted []*Line
	for l := range g.all {
		if l.keeper == keeper {
			moved = append(moved, l)
		}
	}
	for _, l := range moved {
		g.leave(l)
	}
	if g.own != keeper {
		g.empty()
	}
	for _, l := range moved {
		granted = append(granted, g.place(l)...)
	}
	kept := g.own == keeper
	return func() {
		for _, l := range moved {
			l.hearer.Lost(l) // what was asked of the other has no answer
			if kept {
				l.hearer.Found(l)
			}
		}
		tell(granted)
	}
}

// Move has another gatekeeper keep the line's replica from now on. It says
// whether that is a change: then what was asked has no answer.
func (l *Line) Move(keeper string) (granted []*Line, moved bool) {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.keeper == keeper {
		return nil, false
	}
	g.leave(l)
	l.keeper = keeper
	return g.place(l), true
}

// Close ends the line. What it holds is taken back.
func (l *Line) Close() {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.all[l] {
		return
	}
	g.leave(l)
	l.held = 0
	l.party.lines--
	g.drop(l.party)
}

// Replica returns what the line is about.
func (l *Line) Replica() Replica { return l.replica }

// Others is how many slots of the replica other proxies have, as last heard.
func (l *Line) Others() int { return int(l.others.Load()) }

// ReckonWith is Others, for a hearer that goes by it until it hears of a change.
func (l *Line) ReckonWith() int {
	n := l.others.Load()
	l.reckoned.Store(n)
	return int(n)
}

// Take takes a slot at once. It fails where none is free, and where the book is
// kept elsewhere.
func (l *Line) Take() bool {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.page == nil {
		return false
	}
	granted := l.g.book.Take(l.g.self, l.page)
	l.g.here.note(granted)
	if !granted {
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
	if l.link == nil || !l.link.ready {
		return false
	}
	l.g.away.Asked++
	l.link.send(message{kind: kindAsk, numbers: [4]uint64{l.number}})
	return true
}

// Way is how a line's slots are had.
type Way int

// The ways.
const (
	Here  Way = iota // by Take, at once
	Away             // by Ask
	Never            // not now: the gatekeeper cannot be reached
)

// Way returns how slots are had now. contested says that others wait for slots
// of the deployment, so that one that is free should be released rather than
// used again.
func (l *Line) Way() (way Way, contested bool) {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	switch {
	case l.page != nil:
		return Here, l.g.book.Wanted(l.party.group, l.g.self) > 0
	case l.link != nil && l.link.ready:
		return Away, l.party.away[l.link].queued > 0
	}
	return Never, true
}

// Release gives a slot back. The lines that are returned have been given one
// instead, for those who wait.
func (l *Line) Release() []*Line {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.held == 0 {
		return nil // the line was closed
	}
	l.held--
	if l.link != nil {
		l.link.send(message{kind: kindRelease, numbers: [4]uint64{l.number}})
		return nil
	}
	return g.deliver(g.book.Release(g.self, l.page))
}

// Mute says whether the proxy can use no slot of the replica for now. It is
// then given none that it does not ask for.
func (l *Line) Mute(mute bool) []*Line {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.muted == mute {
		return nil
	}
	l.muted = mute
	if l.page != nil {
		return g.deliver(g.book.Mute(g.self, l.page, mute))
	}
	if l.link != nil {
		l.link.send(l.muting())
	}
	return nil
}

func (l *Line) muting() message {
	return message{kind: kindMute, numbers: [4]uint64{l.number, flag(l.muted)}}
}

// SetLimit says that the replica has another number of slots.
func (l *Line) SetLimit(limit int) []*Line {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.replica.Limit == limit {
		return nil
	}
	l.replica.Limit = limit
	if l.page != nil {
		_, grants := g.book.Open(g.self, l.replica.ID, l.party.group, limit, 0)
		g.book.Mute(g.self, l.page, l.muted)
		return g.deliver(grants)
	}
	if l.link != nil {
		l.link.send(message{kind: kindLimit, numbers: [4]uint64{l.number, uint64(max(limit, 1))}})
	}
	return nil
}

// Want says how many slots of the deployment this proxy waits for, and since
// when the first of its requests waits. Lines that have been given one come
// back; others hear of it.
func (g *Gatekeeper) Want(application, deployment string, want int, since time.Time) []*Line {
	g.mu.Lock()
	defer g.mu.Unlock()
	group := slots.Group{Application: application, Deployment: deployment}
	p := g.partyOf(group) // which may have no line yet
	before := p.want
	p.want, p.since = want, since
	g.drop(p)
	for l, s := range p.away {
		l.want(p, s)
	}
	if p.kept == 0 {
		return nil
	}
	granted := g.deliver(g.book.Want(g.self, group, want, since))
	if (before == 0) != (want == 0) {
		g.tellQueued(group)
	}
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
	for _, s := range p.away {
		most = max(most, s.queued)
	}
	return most
}
