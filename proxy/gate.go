package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/fairqueue"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/routes"
)

var (
	// errGone ends the wait for a deployment that is no longer in the table.
	errGone = errors.New("the deployment is gone")
	// errDeadline ends a wait at the request's deadline.
	errDeadline = errors.New("request timeout")
)

// gate hands out the slots of one deployment's replicas. It keeps two promises:
// no replica ever has more than limit requests, and no request waits while a
// replica that could take it has a free slot.
//
// The count of a replica is kept for as long as it has requests, whatever
// becomes of its endpoint, its version, the limit or the application: a replica
// that comes back is as busy as it is.
type gate struct {
	application, deployment string
	observer                Observer // nil: there is none
	log                     hclog.Logger

	seq atomic.Uint64

	mu       sync.Mutex
	closed   bool // the deployment is not in the table
	limit    int
	maxQueue int    // -1: none
	host     string // of this proxy's own gatekeeper, whose replicas are preferred; "": none
	classed  bool   // requests may say of their place in the queue
	version  string
	http2    bool   // replicas of that version speak HTTP/2 and nothing else
	series   Series // the observer's, of that version
	replicas map[string]*replica
	live     []*replica  // those that requests may be sent to, see relist
	set      balance.Set // of live, in that order: chooses among them
	budget   balance.Budget
	queue    fairqueue.Queue[*waiter]
	waiters  sync.Pool
	limits   *atomic.Pointer[Limits] // the proxy's; nil: there are none
	rate     drainRate
	wakeAt   time.Time // when the next replica returns that is left alone
	failing  failing

	checksIgnored bool // see mostFail
	load          load
	probes        probes

	// Of the gatekeepers, see reserve.go.
	slots   *gatekeeper.Gatekeeper // nil: this proxy counts alone
	keepers []routes.Gatekeeper    // those there are
	asked   int                    // slots asked for and not answered
	wanted  int                    // slots that the gatekeepers were told to be waited for; wantedUnknown: it must be said again
	sparing bool                   // returnSpares is due

	// Of the load reports, see load.go.
	alarm       chan<- struct{} // has a report made at once; nil: nobody reports
	scales      bool            // the leader scales the deployment by its load
	alarmAt     int             // as many waiters are a reason for a report at once
	starvedTold bool            // the last report said that nobody serves those who wait
}

func newGate(application, deployment string) *gate {
	return &gate{
		application: application, deployment: deployment,
		log: hclog.NewNullLogger(), closed: true, replicas: map[string]*replica{},
		load: newLoad(), alarmAt: 1, probes: probes{wake: make(chan struct{}, 1)},
	}
}

// ticket is a request's place in the order of arrival, which it keeps when it
// has to be sent again.
type ticket struct {
	seq      uint64
	deadline time.Time // zero: none
	again    bool      // it has been let in before: the queue's limits no longer apply
	granted  bool      // it has had a slot here: its place is before those who have come since
	avoid    string    // replica that failed it
	key      uint64    // of its session or model, see affinity; 0: none
	header   http.Header
}

func (g *gate) ticket(deadline time.Time) *ticket {
	return &ticket{seq: g.seq.Add(1), deadline: deadline}
}

// slot is the right to have one request at one replica. Whoever holds it calls
// release once, when the replica has finished.
type slot struct {
	gate    *gate
	replica *replica
	address string
	since   time.Time

	verdict verdict
}

// acquire takes a slot on the replica that suits best, and waits in the queue
// if none has one. It ends with errGone, errDeadline, a *queueFullError or the
// cause of ctx.
func (g *gate) acquire(ctx context.Context, t *ticket) (*slot, error) {
	now := time.Now()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, errGone
	}
	if !t.again {
		g.budget.Request(now)
		g.dispatch(now) // those who wait come first
	}
	if g.queue.Len() == 0 {
		if r, taken := g.seize(now, t.key, t.avoid); taken {
			g.load.add(1, now)
			s := g.take(r, now)
			g.mu.Unlock()
			t.again, t.granted = true, true
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
	t.granted = t.granted || s != nil
	return s, err
}

func (g *gate) wait(ctx context.Context, t *ticket, w *waiter) (*slot, error) {
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
		err = errDeadline
	}
	g.abandon(w)
	return nil, err
}

// abandon takes w out of the queue. A slot that it was given in the same moment
// goes to the next in line.
func (g *gate) abandon(w *waiter) {
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
		g.free(got.slot.replica, now)
		g.dispatch(now)
	}
}

// take counts one request more at r.
func (g *gate) take(r *replica, now time.Time) *slot {
	g.set.Take(r.member)
	return &slot{gate: g, replica: r, address: r.address, since: now, verdict: verdict{trial: r.member.Trial()}}
}

// release gives the slot back, because the replica has finished.
func (s *slot) release() {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.rate.add(now)
	s.judge(now)
	g.free(s.replica, now)
	g.dispatch(now)
}

// unreachable gives the slot back after a dial that failed, and keeps others
// away from the replica for the time that it returns.
func (s *slot) unreachable() time.Duration {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	d := g.set.Miss(s.replica.member, now)
	g.wakeWhenDue(now)
	g.distrustProbe(s.replica, now)
	g.free(s.replica, now)
	g.dispatch(now)
	return d
}

// reached ends a suspicion: the replica took a connection.
func (s *slot) reached() {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	now := time.Now()
	s.gate.set.Reach(s.replica.member, now)
	s.gate.give(s.gate.mute(s.replica), now)
	s.gate.dispatch(now)
}

// wakeWhenDue has the gate look again when the next replica returns that is
// left alone.
func (g *gate) wakeWhenDue(now time.Time) {
	g.muteAll(now)
	due := g.set.Due()
	if due.IsZero() || due.Equal(g.wakeAt) {
		return
	}
	g.wakeAt = due
	time.AfterFunc(due.Sub(now), g.wake)
}

// wake hands out the slots of replicas that return.
func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.set.Refresh(now)
	g.wakeWhenDue(now)
	g.dispatch(now)
}

// free counts one request less at r.
func (g *gate) free(r *replica, now time.Time) {
	g.load.add(-1, now)
	g.set.Free(r.member)
	g.giveBack(r, now)
	if r.member.InFlight() == 0 && !r.known {
		g.forget(r)
	}
}

func (g *gate) forget(r *replica) {
	delete(g.replicas, r.id)
	r.pool.SetOpen(false)
	if r.line != nil {
		g.forgetAsked(r)
		r.line.Close()
	}
}

// dispatch gives the free slots to those who wait, in the queue's order, and
// asks for those that other gatekeepers have.
func (g *gate) dispatch(now time.Time) {
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
	g.want(now)
}

// pick returns the live replica that suits a request best and has a free slot,
// or nil.
func (g *gate) pick(now time.Time, key uint64, avoid string) *replica {
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

// sweep closes the connections that have been idle since before cutoff.
func (g *gate) sweep(cutoff time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.replicas {
		r.pool.Sweep(cutoff)
	}
}
