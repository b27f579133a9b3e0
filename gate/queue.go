package gate

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/fairqueue"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
)

// waiter is one request that waits for a slot. The gate's mutex guards it, but
// for ready, which the waiting goroutine reads.
type waiter struct {
	item  fairqueue.Item[*waiter]
	key   uint64 // of its session or model; 0: none
	avoid string // replica to take only when no other has a free slot
	since time.Time
	ready chan grant
}

// grant is what ends a wait: a slot, or the reason why there will be none.
type grant struct {
	slot *Slot
	err  error
}

// newWaiter puts down what the gate needs to know of t while it waits. Waiters
// are used again: when many wait, each request needs one.
func (g *Gate) newWaiter(t *Ticket, now time.Time) *waiter {
	w, ok := g.waiters.Get().(*waiter)
	if !ok {
		w = &waiter{ready: make(chan grant, 1)}
	}
	w.key, w.avoid, w.since = t.key, t.Avoid, now
	w.item = fairqueue.Item[*waiter]{
		Value: w, Order: t.seq, Back: t.back,
		Bytes: waitingBytes(t.header) + t.Body,
	}
	if g.classed {
		w.item.Class, w.item.Key = priority(t.header), fairnessKey(t.header)
	}
	return w
}

// enter has t wait, if the queue has room for it. The caller holds the gate's
// mutex.
func (g *Gate) enter(t *Ticket, now time.Time) (*waiter, error) {
	w := g.newWaiter(t, now)
	if !t.Again {
		limits := fairqueue.Limits{Items: g.mayQueue(t, now)}
		if g.maxQueuedBytes != nil {
			limits.Bytes = g.maxQueuedBytes.Load()
		}
		if full := g.queue.Fits(w.item.Bytes, limits); full != fairqueue.Room {
			g.waiters.Put(w)
			return nil, g.full(full, now)
		}
	}
	t.Again = true
	g.load.add(1, now)
	g.queue.Push(&w.item)
	g.raiseAlarm()
	g.probeForWaiters()
	if t.back || g.slots != nil {
		g.dispatch(now) // its old place may be the first, or a slot must be asked for
	}
	return w, nil
}

// mayQueue is how many requests may wait here when t is one of them, so that all
// proxies together keep the deployment's bound; negative: any number. Those for
// whom a slot is asked do not count: they wait for an answer, and not for
// another request to end.
func (g *Gate) mayQueue(t *Ticket, now time.Time) int {
	if g.maxQueue < 0 || g.slots == nil {
		return g.maxQueue
	}
	n := max(g.asked-len(g.copies), 0)
	if g.maxQueue > 0 {
		n += max(g.maxQueue-g.slots.Queued(g.group, g.Deployment), 0)
	}
	if g.queue.Len() == n && g.mayAsk(t, now) {
		n++
	}
	return n
}

// mayAsk says whether there is a replica of which a slot can be asked for t.
func (g *Gate) mayAsk(t *Ticket, now time.Time) bool {
	r := g.pick(now, t.key, t.Avoid)
	if r == nil || r.line == nil {
		return false
	}
	way, _ := r.line.Way()
	return way == gatekeeper.Away
}

// FullError ends what would be a wait, because enough requests wait already.
type FullError struct {
	Queued     int
	Bytes      int64         // about what those hold
	OfBytes    bool          // it is their bytes that are too many
	RetryAfter time.Duration // when to come back
}

func (e *FullError) Error() string {
	if e.OfBytes {
		return fmt.Sprintf("%d requests are queued already, which hold %d bytes", e.Queued, e.Bytes)
	}
	return fmt.Sprintf("%d requests are queued already", e.Queued)
}

func (g *Gate) full(full fairqueue.Fullness, now time.Time) error {
	queued := g.queue.Len()
	return &FullError{
		Queued: queued, Bytes: g.queue.Bytes(), OfBytes: full == fairqueue.TooLarge,
		RetryAfter: g.rate.retryAfter(now, queued+1, rand.Float64()),
	}
}

// What a request says of its place in the queue, which is believed where the
// deployment's priority_headers says so, and of its replica. It is data: no more
// of it is looked at than is compared.
const (
	priorityHeader = "Serve-Priority"     // high, normal or low
	fairnessHeader = "Serve-Fairness-Key" // whoever has the same one shares
	sessionHeader  = "Serve-Session-Id"
	modelHeader    = "Serve-Model-Id"

	maxFairnessKey = 64 // bytes
)

// waitingFixed is what a request holds while it waits, besides its header and body: the
// goroutine, the connection's buffers and the gate's own notes.
const waitingFixed = 16 << 10

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// affinity is the key of the replica that a request would like to have; 0: any.
// A model that must be loaded matters more than what a session left behind.
func affinity(h http.Header) uint64 {
	if name := first(h[modelHeader]); name != "" {
		return balance.Key(balance.Model, name)
	}
	if name := first(h[sessionHeader]); name != "" {
		return balance.Key(balance.Session, name)
	}
	return 0
}

func priority(h http.Header) fairqueue.Class {
	switch first(h[priorityHeader]) {
	case "high":
		return fairqueue.High
	case "low":
		return fairqueue.Low
	}
	return fairqueue.Normal
}

func fairnessKey(h http.Header) string {
	key := first(h[fairnessHeader])
	return key[:min(len(key), maxFairnessKey)]
}

// waitingBytes is about what a request holds while it waits, but for its body.
func waitingBytes(h http.Header) int64 {
	n := int64(waitingFixed)
	for key, values := range h {
		n += int64(len(key))
		for _, v := range values {
			n += int64(len(v))
		}
	}
	return n
}
