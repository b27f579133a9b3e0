package proxy

// waiter is one request that waits for a slot. The gate's mutex guards it, but
// for ready, which the waiting goroutine reads.
type waiter struct {
	seq        uint64 // order of arrival
	avoid      string // replica to take only when no other has a free slot
	ready      chan grant
	queued     bool
	prev, next *waiter
}

// grant is what ends a wait: a slot, or the reason why there will be none.
type grant struct {
	slot *slot
	err  error
}

// queue is the waiters of a deployment in order of arrival.
type queue struct {
	first, last *waiter
	length      int
}

// insert puts w behind everyone who arrived before it. A request that comes
// back, because its replica could not be reached, gets its old place.
func (q *queue) insert(w *waiter) {
	after := q.last
	for after != nil && after.seq > w.seq {
		after = after.prev
	}
	w.prev, w.queued = after, true
	if after == nil {
		w.next, q.first = q.first, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		q.last = w
	} else {
		w.next.prev = w
	}
	q.length++
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.length--
}
