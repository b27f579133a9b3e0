// Package gate decides whose turn it is. The gate of a deployment hands out the slots
// of its replicas: a request gets one on the replica that suits it best, or waits
// in the queue until one is free, and gives it back with what there is to say of
// how it was served. It finds out which replicas can be used, from Consul, from
// what requests have met and by asking itself, and counts the load that the
// deployment is scaled by; how a request is forwarded it does not know.
package gate

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/fairqueue"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/routes"
)

var (
	// ErrGone ends the wait for a deployment that is no longer in the table.
	ErrGone = errors.New("the deployment is gone")
	// ErrRedirected ends a wait here, because another gate may serve the request
	// sooner. Whoever finds none comes back with the same ticket.
	ErrRedirected = errors.New("the request is to be served elsewhere")
	// ErrDeadline ends a wait at the request's deadline.
	ErrDeadline = errors.New("request timeout")
)

// Gate hands out the slots of the replicas that one generation of an application
// has of one deployment, of all versions that take requests. It keeps two promises:
// no replica ever has more than limit requests, and no request waits while a
// replica that could take it has a free slot.
//
// The count of a replica is kept for as long as it has requests, whatever
// becomes of its endpoint, its version, the limit or the application: a replica
// that comes back is as busy as it is.
type Gate struct {
	// Never changed.
	Application string
	Generation  int
	Deployment  string

	group string // in place of the application, where gatekeepers are asked

	// As Config has them.
	log            hclog.Logger
	prober         *health.Prober
	slots          *gatekeeper.Gatekeeper
	alarm          chan<- struct{}
	maxQueuedBytes *atomic.Int64
	serves         func(application, deployment, version string) any

	seq     atomic.Uint64
	watched atomic.Bool // how versions serve is counted; changed under mu

	mu       sync.Mutex
	closed   bool // the deployment is not in the table
	limit    int
	maxQueue int    // -1: none
	host     string // of this proxy's own gatekeeper, whose replicas are preferred; "": none
	classed  bool   // requests may say of their place in the queue
	versions map[string]*version
	serving  *version // the newest that takes requests; nil: none does
	http2    bool     // replicas of these speak HTTP/2 and nothing else
	replicas map[string]*Replica
	live     []*Replica  // those that requests may be sent to, see relist
	set      balance.Set // of live, in that order: chooses among them
	budget   balance.Budget
	queue    fairqueue.Queue[*waiter]
	waiters  sync.Pool
	rate     drainRate
	wakeAt   time.Time // when the next replica returns that is left alone
	failing  failing

	checksIgnored bool // see mostFail
	load          load
	probes        probes

	// Of the gatekeepers, see reserve.go.
	keepers []routes.Gatekeeper // those there are
	asked   int                 // slots asked for and not answered
	wanted  int                 // slots that the gatekeepers were told to be waited for; wantedUnknown: it must be said again
	sparing bool                // returnSpares is due
	copies  []*waiter           // of copies, each of which a slot is asked for, see copy.go

	// Of the load reports, see load.go.
	scales      bool // the leader scales the deployment by its load
	alarmAt     int  // as many waiters are a reason for a report at once
	starvedTold bool // the last report said that nobody serves those who wait
}

// Config is what the gates of a proxy have in common.
type Config struct {
	Log            hclog.Logger
	Prober         *health.Prober         // asks replicas whether they can serve; nil: nobody is asked
	Slots          *gatekeeper.Gatekeeper // hands out the slots of replicas over all proxies; nil: this proxy counts alone
	Alarm          chan<- struct{}        // of capacity 1: has the load reported at once; nil: nobody reports it
	MaxQueuedBytes *atomic.Int64          // may change at any time: that a deployment's waiting requests may hold, as near as is known; nil: any number

	// Serves is told of a version that takes traffic now, and returns what each of
	// its replicas carries as Series. It must be fast and must not call the gate.
	// nil: nobody is told.
	Serves func(application, deployment, version string) any
}

// New returns the gate of a deployment, in a generation of its application, of
// which nothing is known: it sends everyone away until Configure.
func New(application string, generation int, deployment string, c Config) *Gate {
	group := application
	if generation != 0 {
		group += "@" + strconv.Itoa(generation) // which no application's name has
	}
	return &Gate{
		Application: application, Generation: generation, Deployment: deployment, group: group,
		log: c.Log, prober: c.Prober, slots: c.Slots, alarm: c.Alarm, maxQueuedBytes: c.MaxQueuedBytes, serves: c.Serves,
		closed: true, versions: map[string]*version{}, replicas: map[string]*Replica{},
		load: newLoad(), alarmAt: 1, probes: probes{wake: make(chan struct{}, 1)},
	}
}

// Ticket is a request's place in the order of arrival, which it keeps when it
// has to be sent again.
type Ticket struct {
	Again bool   // it has been let in before: the queue's limits no longer apply
	Avoid string // replica that failed it: others are preferred; "": none
	Body  int64  // bytes of its body that it holds while it waits

	seq      uint64
	deadline time.Time // zero: none
	back     bool      // it has had a slot here, or was sent to look elsewhere: its place is before those who have come since
	header   http.Header
	key      uint64 // of its session or model, see affinity; 0: none, or not looked for
}

// Ticket returns a place at the end of the order of arrival, for a request with
// that header which waits until the deadline; zero: for ever.
func (g *Gate) Ticket(h http.Header, deadline time.Time) *Ticket {
	return &Ticket{seq: g.seq.Add(1), deadline: deadline, header: h}
}

// Slot is the right to have one request at one replica. Whoever holds it calls
// Release once, when the replica has finished.
type Slot struct {
	Replica *Replica
	Address string // of the replica, as the slot was taken

	gate    *Gate
	since   time.Time
	verdict verdict
}

// Acquire takes a slot on the replica that suits best, and waits in the queue
// if none has one. It ends with ErrGone, ErrDeadline, a *FullError or the
// cause of ctx.
func (g *Gate) Acquire(ctx context.Context, t *Ticket) (*Slot, error) {
	if t.key == 0 {
		t.key = affinity(t.header)
	}
	now := time.Now()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, ErrGone
	}
	if !t.Again {
		g.budget.Request(now)
		g.dispatch(now) // those who wait come first
	}
	if g.queue.Len() == 0 {
		if r, taken := g.seize(now, t.key, t.Avoid); taken {
			g.load.add(1, now)
			s := g.take(r, now)
			g.mu.Unlock()
			t.Again, t.back = true, true
			return s, nil
		}
	}
	w, err := g.enter(t, now)
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s, err := g.wait(ctx, t, w)
	g.waiters.Put(w) // it is neither queued nor granted any more
	t.back = t.back || s != nil || errors.Is(err, ErrRedirected)
	return s, err
}

func (g *Gate) wait(ctx context.Context, t *Ticket, w *waiter) (*Slot, error) {
	var late <-chan time.Time
	if !t.deadline.IsZero() {
		timer := time.NewTimer(time.Until(t.deadline))
		defer timer.Stop()
		late = timer.C
	}
	var err error
	select {
	case got := <-w.ready:
		return got.slot, got.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
		err = ErrDeadline
	}
	g.abandon(w)
	return nil, err
}

// abandon takes w out of the queue. A slot that it was given in the same moment
// goes to the next in line.
func (g *Gate) abandon(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if w.item.Queued() {
		g.queue.Remove(&w.item)
		g.load.add(-1, now)
		g.want(now)
		return
	}
	if got := <-w.ready; got.slot != nil {
		g.load.add(-1, now)
		g.free(got.slot.Replica, now)
		g.dispatch(now)
	}
}

// take counts one request more at r.
func (g *Gate) take(r *Replica, now time.Time) *Slot {
	g.set.Take(r.member)
	return &Slot{gate: g, Replica: r, Address: r.address, since: now, verdict: verdict{trial: r.member.Trial()}}
}

// Release gives the slot back, because the replica has finished.
func (s *Slot) Release() {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	s.end(now)
	g.dispatch(now)
}

// end takes in what a request was like that has ended, and counts it no more.
func (s *Slot) end(now time.Time) {
	g := s.gate
	if s.verdict.copied {
		s.Replica.copies--
		g.free(s.Replica, now)
		return
	}
	if !s.verdict.known {
		s.count(false)
	}
	g.rate.add(now)
	s.judge(now)
	g.load.add(-1, now)
	g.free(s.Replica, now)
}

// Unreachable gives the slot back after a dial that failed, and keeps others
// away from the replica for the time that it returns.
func (s *Slot) Unreachable() time.Duration {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	d := g.set.Miss(s.Replica.member, now)
	g.wakeWhenDue(now)
	g.distrustProbe(s.Replica, now)
	if s.verdict.copied {
		s.Replica.copies--
	} else {
		s.count(true)
		g.load.add(-1, now)
	}
	g.free(s.Replica, now)
	g.dispatch(now)
	return d
}

// Reached ends a suspicion: the replica took a connection.
func (s *Slot) Reached() {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	now := time.Now()
	s.gate.set.Reach(s.Replica.member, now)
	s.gate.give(s.gate.mute(s.Replica), now)
	s.gate.dispatch(now)
}

// wakeWhenDue has the gate look again when the next replica returns that is
// left alone.
func (g *Gate) wakeWhenDue(now time.Time) {
	g.muteAll(now)
	due := g.set.Due()
	if due.IsZero() || due.Equal(g.wakeAt) {
		return
	}
	g.wakeAt = due
	time.AfterFunc(due.Sub(now), g.wake)
}

// wake hands out the slots of replicas that return.
func (g *Gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.set.Refresh(now)
	g.wakeWhenDue(now)
	g.dispatch(now)
}

// free counts one request less at r.
func (g *Gate) free(r *Replica, now time.Time) {
	g.set.Free(r.member)
	g.giveBack(r, now)
	if r.member.InFlight() == 0 && !r.known {
		g.forget(r)
	}
}

func (g *Gate) forget(r *Replica) {
	delete(g.replicas, r.ID)
	r.Pool.SetOpen(false)
	if r.line != nil {
		g.forgetAsked(r)
		r.line.Close()
	}
}

// dispatch gives the free slots to those who wait, in the queue's order, and
// asks for those that other gatekeepers have.
func (g *Gate) dispatch(now time.Time) {
	for it := g.queue.First(); it != nil; it = g.queue.First() {
		w := it.Value
		r, taken := g.seize(now, w.key, w.avoid)
		switch {
		case taken:
			g.queue.Pop()
			w.ready <- grant{slot: g.take(r, now)}
			continue
		case r != nil && g.asked < g.queue.Len():
			g.ask(r)
			continue
		}
		break
	}
	g.refuseCopies()
	g.want(now)
}

// pick returns the live replica that suits a request best and has a free slot,
// or nil.
func (g *Gate) pick(now time.Time, key uint64, avoid string) *Replica {
	want := balance.Want{Key: key}
	if avoid != "" {
		if r := g.replicas[avoid]; r != nil {
			want.Avoid = r.member
		}
	}
	i := g.set.Pick(now, rand.Uint64(), want)
	if i < 0 {
		return nil
	}
	return g.live[i]
}

// Sweep closes the connections that have been idle since before cutoff.
func (g *Gate) Sweep(cutoff time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.replicas {
		r.Pool.Sweep(cutoff)
	}
}
