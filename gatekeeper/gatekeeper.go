// Package gatekeeper keeps the limit of each replica over all proxies together.
//
// One proxy on each host is the gatekeeper of the replicas there: it alone hands
// out their slots, by the book of package slots. The proxy that it is part of
// takes slots in memory. A proxy elsewhere asks for them over a connection that
// it keeps, and then sends its request to the replica directly. Which proxy of a
// host is its gatekeeper is decided by who listens on the gatekeeper's address.
//
// A Gatekeeper is both sides in one: clerk.go is what it answers to others,
// link.go how it asks others, line.go what its own proxy sees of either, and
// lost.go how slots are kept whose holders have vanished, and unknown.go what a
// gatekeeper that begins must find out.
package gatekeeper

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/slots"
)

// Config is what a Gatekeeper can be told. Zero durations stand for the
// defaults.
type Config struct {
	Name        string // of its proxy, the same after a restart
	Incarnation int64  // when its process began, ns since 1970
	// Look looks at the connections of this host; nil: nobody can, and a
	// gatekeeper that begins takes what it is told to be all that is held.
	Look func() (Seen, error)

	// Patience is how long a slot stays taken whose holder has vanished, where
	// nothing shows that its request has ended; default 60s.
	Patience time.Duration
	// Recovery is how long a gatekeeper that begins gives others to say what
	// they hold; default 2s.
	Recovery time.Duration
	// Silence is how long a connection between proxies may bring nothing
	// before it counts as lost; default 5s.
	Silence time.Duration
	// Retry is how long it takes until a lost connection is tried again, and
	// longer each time up to five times as much; default 50ms.
	Retry time.Duration
}

// Seen is what a look at this host's connections has shown.
type Seen interface {
	// EachTo tells of every connection to the address where it comes from, and
	// whether that side has closed it and the listener has not. It says
	// whether anything listens there that can be seen.
	EachTo(address string, visit func(from netip.AddrPort, left bool)) (listening bool)
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&c.Patience, time.Minute},
		{&c.Recovery, 2 * time.Second},
		{&c.Silence, 5 * time.Second},
		{&c.Retry, 50 * time.Millisecond},
	} {
		if *d.field <= 0 {
			*d.field = d.standard
		}
	}
	return c
}

// Gatekeeper is one proxy's part in keeping the limits.
type Gatekeeper struct {
	config Config
	log    hclog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu          sync.Mutex
	closed      bool
	watching    bool   // watchLost goes on
	own         string // the address whose replicas it keeps itself; "": none
	book        *slots.Book
	self        *slots.Holder
	began       time.Time                // when it began to keep the book
	inherited   bool                     // the book was handed over: nothing is held that it does not say
	peers       map[*slots.Replica]*peer // the replicas in its book, as the sockets have them
	lines       map[*slots.Replica]*Line // of its own proxy, in its own book
	all         map[*Line]bool           // of its own proxy, anywhere
	parties     map[slots.Group]*party
	links       map[string]*link // to other gatekeepers, by address
	clerks      map[*clerk]bool  // of other proxies, connected here
	holders     map[*slots.Holder]*clerk
	lost        map[*absentee]bool
	expected    []string      // addresses of the gatekeepers that there are
	unknown     *slots.Holder // has what cannot be told to be anybody's
	toldVersion time.Time     // when it was told last that a proxy speaks another version
	doubted     time.Time     // when that was last more than before
	seen        Seen          // of the sockets, while it is new; nil: nothing yet
	seenAt      time.Time

	here, served, away Counts // as Status has them
}

// New returns a Gatekeeper that keeps no book yet, and has asked nobody.
func New(config Config, log hclog.Logger) *Gatekeeper {
	ctx, cancel := context.WithCancel(context.Background())
	g := &Gatekeeper{
		config: config.withDefaults(), log: log, ctx: ctx, cancel: cancel,
		parties: map[slots.Group]*party{}, all: map[*Line]bool{}, links: map[string]*link{}, clerks: map[*clerk]bool{}, holders: map[*slots.Holder]*clerk{},
	}
	g.empty()
	return g
}

// empty begins a new book.
func (g *Gatekeeper) empty() {
	g.book = slots.NewBook()
	g.self, g.unknown = g.book.Join(g.config.Name), g.book.Join("")
	g.lines = map[*slots.Replica]*Line{}
	g.peers = map[*slots.Replica]*peer{}
	g.lost = map[*absentee]bool{}
	g.inherited = false
}

// Keep makes this proxy the gatekeeper of the replicas whose gatekeeper's
// address is own, and answers others on l until l or the Gatekeeper is closed.
func (g *Gatekeeper) Keep(l net.Listener, own string) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return l.Close()
	}
	g.own, g.began = own, time.Now()
	say := g.moveLines(own)
	if !g.watching {
		g.watching = true
		g.work.Go(g.watchLost)
	}
	g.mu.Unlock()
	say()
	stop := context.AfterFunc(g.ctx, func() { _ = l.Close() }) // which Accept tells of
	defer stop()
	err := g.accept(l)
	if g.ctx.Err() != nil {
		return nil
	}
	// Whoever opens the address next keeps the book.
	g.mu.Lock()
	say = func() {}
	if g.own == own {
		say = g.resign()
	}
	g.mu.Unlock()
	say()
	return err
}

// accept takes connections until the listener is closed. Other errors pass, too
// many open files say.
func (g *Gatekeeper) accept(l net.Listener) error {
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			g.log.Warn("connections of other proxies cannot be taken", "error", err)
			select {
			case <-time.After(g.config.Retry):
			case <-g.ctx.Done():
				return err
			}
			continue
		}
		g.mu.Lock()
		if g.closed {
			_ = nc.Close()
		} else {
			g.work.Go(func() { g.serve(nc) })
		}
		g.mu.Unlock()
	}
}

// resign ends this proxy's part as a gatekeeper. The caller holds the mutex, and
// calls what is returned when it does not.
func (g *Gatekeeper) resign() (say func()) {
	own := g.own
	g.own = ""
	for c := range g.clerks {
		c.end()
	}
	clear(g.clerks)
	clear(g.holders)
	return g.moveLines(own)
}

// Yield ends Keep's part for this process, because another takes over the same
// address: it says what it keeps, and asks the other from now on.
func (g *Gatekeeper) Yield() []byte {
	g.mu.Lock()
	if g.own == "" {
		g.mu.Unlock()
		return nil
	}
	state := g.encodeBook()
	say := g.resign()
	g.mu.Unlock()
	say()
	return state
}

// Expect says which gatekeepers there are, by the addresses that they keep. Each
// is a proxy that may have slots here.
func (g *Gatekeeper) Expect(addresses []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expected = addresses
}

// Own returns the address whose replicas this proxy keeps itself, "" if none.
func (g *Gatekeeper) Own() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own
}

// Close says goodbye to other gatekeepers, and ends. Slots that are still held
// are taken back by them: the proxy's requests have ended.
func (g *Gatekeeper) Close() {
	g.mu.Lock()
	g.closed = true
	for _, l := range g.links {
		l.send(message{kind: kindBye})
		l.finish()
	}
	for c := range g.clerks {
		c.end()
	}
	g.mu.Unlock()
	g.cancel()
	g.work.Wait()
}

// deliver passes on what the book has granted, to others at once, and returns
// the lines of this proxy that were given a slot.
func (g *Gatekeeper) deliver(grants []slots.Grant) []*Line {
	var mine []*Line
	for _, grant := range grants {
		if grant.Holder == g.self {
			if l := g.lines[grant.Replica]; l != nil {
				g.here.Granted++
				l.held++
				mine = append(mine, l)
			}
			continue
		}
		if c := g.holders[grant.Holder]; c != nil {
			g.served.Granted++
			c.grant(grant.Replica)
		}
		g.changed(grant.Replica)
	}
	return mine
}

// tell has the lines' proxy hear of slots that it did not ask for just now. No
// lock is held.
func tell(granted []*Line) {
	for _, l := range granted {
		l.hearer.Offered(l)
	}
}

// changed notes on this proxy's line how many slots of a replica others have.
func (g *Gatekeeper) changed(r *slots.Replica) {
	if l := g.lines[r]; l != nil {
		l.others.Store(int64(r.Busy() - r.Held(g.self)))
	}
}

// Counts is what became of asking for slots, since the Gatekeeper began.
type Counts struct {
	Asked   uint64 `json:"asked"`
	Granted uint64 `json:"granted"` // at once, or later to those who wait
	Refused uint64 `json:"refused"` // none was free
}

// note counts a question that was answered at once.
func (c *Counts) note(granted bool) {
	c.Asked++
	if granted {
		c.Granted++
	} else {
		c.Refused++
	}
}

// Status is what a Gatekeeper does at the moment.
type Status struct {
	Address string       `json:"address,omitempty"` // of which it keeps the replicas' slots; "": of none
	Proxies []string     `json:"proxies,omitempty"` // who asks here, by name
	Missing int          `json:"missing,omitempty"` // slots of those that have vanished, whose requests may go on
	Asks    []LinkStatus `json:"asks,omitempty"`    // the gatekeepers that are asked

	Here   Counts `json:"here"`   // this proxy's own, in the book that it keeps
	Served Counts `json:"served"` // other proxies', in that book
	Away   Counts `json:"away"`   // this proxy's own, at other gatekeepers
}

// LinkStatus is how another gatekeeper is reached.
type LinkStatus struct {
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Replicas  int    `json:"replicas"` // whose slots it keeps, of those that this proxy uses
}

// Status returns a snapshot.
func (g *Gatekeeper) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Status{Address: g.own, Here: g.here, Served: g.served, Away: g.away}
	for c := range g.clerks {
		s.Proxies = append(s.Proxies, c.who.name)
	}
	count := func(_ *slots.Replica, held int) { s.Missing += held }
	g.unknown.Holds(count)
	for a := range g.lost {
		a.holder.Holds(count)
	}
	for _, l := range g.links {
		s.Asks = append(s.Asks, LinkStatus{Address: l.address, Connected: l.ready, Replicas: len(l.lines)})
	}
	slices.Sort(s.Proxies)
	slices.SortFunc(s.Asks, func(a, b LinkStatus) int { return strings.Compare(a.Address, b.Address) })
	return s
}
