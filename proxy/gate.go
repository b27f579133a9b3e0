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

	"github.com/serve-nomad/serve-nomad/routes"
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

	seq atomic.Uint64

	mu       sync.Mutex
	closed   bool // the deployment is not in the table
	limit    int
	maxQueue int // -1: none
	version  string
	replicas map[string]*replica
	live     []*replica // known and passing
	queue    queue
	rate     drainRate
}

func newGate(application, deployment string) *gate {
	return &gate{
		application: application, deployment: deployment,
		closed: true, replicas: map[string]*replica{},
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
	g.queue.insert(w)
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
		return
	}
	if got := <-w.ready; got.slot != nil {
		g.free(got.slot.replica)
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
	g.rate.add(time.Now())
	g.free(s.replica)
	g.dispatch()
}

// unreachable gives the slot back after a dial that failed, and keeps others
// away from the replica for the time that it returns.
func (s *slot) unreachable() time.Duration {
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	d := s.replica.suspect(time.Now())
	time.AfterFunc(d, g.wake)
	g.free(s.replica)
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

func (g *gate) free(r *replica) {
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

// configure takes over what the table and Consul say of the deployment.
// endpoints are those of this deployment, of any version.
func (g *gate) configure(d routes.Deployment, endpoints []routes.Endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	g.limit, g.maxQueue, g.version = max(d.MaxOngoingRequests, 1), d.MaxQueuedRequests, d.Version
	g.observe(endpoints)
	g.dispatch()
}

// observe brings the replicas in line with the endpoints.
func (g *gate) observe(endpoints []routes.Endpoint) {
	seen := make(map[string]routes.Endpoint, len(endpoints))
	for _, e := range endpoints {
		if g.version == "" || e.Version != g.version || e.Replica == "" || e.Address == "" {
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
		r.known, r.passing = false, false
		r.pool.setOpen(false)
		if r.ongoing == 0 {
			g.forget(r)
		}
	}
	g.live = g.live[:0]
	for id, e := range seen {
		if r := g.admit(id, e); r.passing {
			g.live = append(g.live, r)
		}
	}
	slices.SortFunc(g.live, func(a, b *replica) int { return strings.Compare(a.id, b.id) })
}

func (g *gate) admit(id string, e routes.Endpoint) *replica {
	r := g.replicas[id]
	if r == nil {
		r = &replica{id: id}
		g.replicas[id] = r
	}
	if r.address != e.Address {
		r.pool.flush()
	}
	if (e.Passing && !r.passing) || r.address != e.Address {
		r.trust()
	}
	if !r.known {
		r.pool.setOpen(true)
	}
	r.address, r.known, r.passing = e.Address, true, e.Passing
	return r
}

// close sends everyone who waits away: the deployment is not in the table any
// more. It says whether the gate can be forgotten, which it can only when no
// replica has a request.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.version = ""
	g.observe(nil)
	for w := g.queue.first; w != nil; w = g.queue.first {
		g.queue.remove(w)
		w.ready <- grant{err: errGone}
	}
	return len(g.replicas) == 0
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
			Passing: r.passing, Suspect: r.suspectUntil.After(now), Leaving: !r.known,
		})
	}
	slices.SortFunc(s.Replicas, func(a, b ReplicaStatus) int { return strings.Compare(a.Replica, b.Replica) })
	return s
}
