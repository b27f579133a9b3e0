package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// errGone ends the wait for a deployment that is no longer in the table.
	errGone = errors.New("the deployment is gone")
	// errDeadline ends a wait at the request's deadline.
	errDeadline = errors.New("request timeout")
)

// queueFullError refuses a request because enough of them wait already.
type queueFullError struct {
	queued     int
	retryAfter time.Duration
}

func (e *queueFullError) Error() string {
	return fmt.Sprintf("%d requests are queued already", e.queued)
}

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

	seq atomic.Uint64

	mu       sync.Mutex
	closed   bool // the deployment is not in the table
	limit    int
	maxQueue int // -1: none
	version  string
	series   Series // the observer's, of that version
	replicas map[string]*replica
	live     []*replica // those that requests may be sent to, see relist
	queue    queue
	rate     drainRate
	load     load
	probes   probes

	// Of the load reports, see load.go.
	alarm       chan<- struct{} // has a report made at once; nil: nobody reports
	scales      bool            // the leader scales the deployment by its load
	alarmAt     int             // as many waiters are a reason for a report at once
	starvedTold bool            // the last report said that nobody serves those who wait
}

func newGate(application, deployment string) *gate {
	return &gate{
		application: application, deployment: deployment,
		closed: true, replicas: map[string]*replica{},
		load: newLoad(), alarmAt: 1, probes: probes{wake: make(chan struct{}, 1)},
	}
}

// ticket is a request's place in the order of arrival, which it keeps when it
// has to be sent again.
type ticket struct {
	seq      uint64
	deadline time.Time // zero: none
	again    bool      // it has been let in before: the queue's limit no longer applies
	avoid    string    // replica that failed it
	client   net.Conn  // looked at now and then while it waits: the client may have left; nil: ctx says it all
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
}

// acquire takes a slot on the replica with the fewest requests, and waits for
// one in order of arrival if there is none. It ends with errGone, errDeadline,
// a *queueFullError or the cause of ctx.
func (g *gate) acquire(ctx context.Context, t *ticket) (*slot, error) {
	now := time.Now()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, errGone
	}
	if r := g.pick(now, t.avoid); r != nil && g.mayPass(t) {
		g.load.add(1, now)
		s := g.take(r)
		g.mu.Unlock()
		t.again = true
		return s, nil
	}
	if !t.again && g.maxQueue >= 0 && g.queue.length >= g.maxQueue {
		err := &queueFullError{queued: g.queue.length, retryAfter: g.rate.retryAfter(now, g.queue.length+1)}
		g.mu.Unlock()
		return nil, err
	}
	t.again = true
	w := &waiter{seq: t.seq, avoid: t.avoid, ready: make(chan grant, 1)}
	g.load.add(1, now)
	g.queue.insert(w)
	g.raiseAlarm()
	g.probeForWaiters()
	g.mu.Unlock()
	return g.wait(ctx, t, w)
}

// mayPass says whether t may take a slot that is free now. Free slots and
// waiters do not exist together, except between a suspicion's end and its
// timer; then the waiters come first.
func (g *gate) mayPass(t *ticket) bool {
	return g.queue.first == nil || t.seq < g.queue.first.seq
}

func (g *gate) wait(ctx context.Context, t *ticket, w *waiter) (*slot, error) {
	var late, look <-chan time.Time
	if !t.deadline.IsZero() {
		timer := time.NewTimer(time.Until(t.deadline))
		defer timer.Stop()
		late = timer.C
	}
	if t.client != nil {
		ticker := time.NewTicker(clientCheckInterval)
		defer ticker.Stop()
		look = ticker.C
	}
	var err error
	for err == nil {
		select {
		case got := <-w.ready:
			return got.slot, got.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-late:
			err = errDeadline
		case <-look:
			if clientGone(t.client) {
				err = errClientGone
			}
		}
	}
	g.abandon(w)
	return nil, err
}

// abandon takes w out of the queue. A slot that it was given in the same moment
// goes to the next in line.
func (g *gate) abandon(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.queued {
		g.queue.remove(w)
		g.load.add(-1, time.Now())
		return
	}
	if got := <-w.ready; got.slot != nil {
		g.free(got.slot.replica, time.Now())
		g.dispatch()
	}
}

// take counts one request more at r.
func (g *gate) take(r *replica) *slot {
	r.ongoing++
	return &slot{gate: g, replica: r, address: r.address}
}

// release gives the slot back, because the replica has finished.
func (s *slot) release() {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.rate.add(now)
	g.free(s.replica, now)
	g.dispatch()
}

// unreachable gives the slot back after a dial that failed, and keeps others
// away from the replica for the time that it returns.
func (s *slot) unreachable() time.Duration {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	d := s.replica.suspect(now)
	time.AfterFunc(d, g.wake)
	g.distrustProbe(s.replica, now)
	g.free(s.replica, now)
	g.dispatch()
	return d
}

// reached ends a suspicion: the replica took a connection.
func (s *slot) reached() {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	s.replica.trust()
	s.gate.dispatch()
}

// wake hands out the slots of replicas whose suspicion has ended.
func (g *gate) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dispatch()
}

// free counts one request less at r.
func (g *gate) free(r *replica, now time.Time) {
	g.load.add(-1, now)
	r.ongoing--
	if r.ongoing == 0 && !r.known {
		g.forget(r)
	}
}

func (g *gate) forget(r *replica) {
	delete(g.replicas, r.id)
	r.pool.setOpen(false)
}

// dispatch gives the free slots to those who wait, first come first served.
func (g *gate) dispatch() {
	if g.queue.first == nil {
		return
	}
	now := time.Now()
	for w := g.queue.first; w != nil; w = g.queue.first {
		r := g.pick(now, w.avoid)
		if r == nil {
			return
		}
		g.queue.remove(w)
		w.ready <- grant{slot: g.take(r)}
	}
}

// pick returns the live replica with the fewest requests that has a free slot,
// one of them at random on a tie, or nil. It takes the replica to avoid only
// when there is no other.
func (g *gate) pick(now time.Time, avoid string) *replica {
	var best, last *replica
	ties := 0
	for _, r := range g.live {
		if r.ongoing >= g.limit || r.suspectUntil.After(now) {
			continue
		}
		if r.id == avoid {
			last = r
			continue
		}
		switch {
		case best == nil || r.ongoing < best.ongoing:
			best, ties = r, 1
		case r.ongoing == best.ongoing:
			if ties++; rand.IntN(ties) == 0 {
				best = r
			}
		}
	}
	if best == nil {
		return last
	}
	return best
}

// sweep closes the connections that have been idle since before cutoff.
func (g *gate) sweep(cutoff time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.replicas {
		r.pool.sweep(cutoff)
	}
}

// status is what /-/status shows of the deployment.
func (g *gate) status() DeploymentStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := DeploymentStatus{
		Application: g.application, Deployment: g.deployment, Version: g.version,
		MaxOngoingRequests: g.limit, MaxQueuedRequests: g.maxQueue, Queued: g.queue.length,
		Replicas: make([]ReplicaStatus, 0, len(g.replicas)),
	}
	now := time.Now()
	for _, r := range g.replicas {
		s.Ongoing += r.ongoing
		s.Replicas = append(s.Replicas, ReplicaStatus{
			Replica: r.id, Address: r.address, Ongoing: r.ongoing,
			Passing: r.passing, Probed: r.probe.isLive(), Suspect: r.suspectUntil.After(now), Leaving: !r.known,
		})
	}
	slices.SortFunc(s.Replicas, func(a, b ReplicaStatus) int { return strings.Compare(a.Replica, b.Replica) })
	return s
}
