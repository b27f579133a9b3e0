// Package fairqueue decides in which order those who wait are served.
//
// Where nobody says more, it is the order of arrival. An Item may have a class
// of priority and a key. The classes share by weight, so that a lower one goes
// on being served, and within a class each key has the same share, however many
// requests it has: start-time fair queueing (Goyal, Vin and Cheng 1996), once
// over the classes and once over the keys of each. Within a key it is the order
// of arrival again. An Item that was served in vain and comes back is ahead of
// everybody who has waited since.
//
// Every call is O(log keys) or better. The caller guards a Queue by a lock.
package fairqueue

// Class is a priority.
type Class int

// The classes. Normal is the zero value.
const (
	Normal Class = iota
	High
	Low
	classes
)

// cost is what serving one request charges its class: the shares of high,
// normal and low are as 16 to 4 to 1.
func (c Class) cost() uint64 {
	switch c {
	case High:
		return 1
	case Low:
		return 16
	default:
		return 4
	}
}

// maxKeys is how many keys a class tells apart at once. What comes with yet
// another one shares with those that have none.
const maxKeys = 1024

// Item is one that waits. Value is the caller's.
type Item[T any] struct {
	Value T
	Order uint64 // of arrival
	Class Class
	Key   string // "": none
	Bytes int64  // what it holds while it waits
	Back  bool   // it has been served in vain

	flow       *flow[T]
	at         int // in the heap of those that are back
	prev, next *Item[T]
	queued     bool
}

// Queued says whether the item is in a Queue.
func (it *Item[T]) Queued() bool { return it.queued }

// Limits bound a Queue.
type Limits struct {
	Items int   // negative: no limit
	Bytes int64 // 0: no limit
}

// Fullness says which limit has no room.
type Fullness int

// The kinds of Fullness.
const (
	Room Fullness = iota
	TooMany
	TooLarge
)

// Queue is those who wait. The zero Queue is empty.
type Queue[T any] struct {
	length  int
	bytes   int64
	back    heap[*Item[T]]
	classes [classes]class[T]
	now     uint64 // virtual time over the classes: where the one served last began
}

// Len returns how many wait, and Bytes what they hold.
func (q *Queue[T]) Len() int { return q.length }

// Bytes returns what those who wait hold together.
func (q *Queue[T]) Bytes() int64 { return q.bytes }

// Fits says whether one more of so many bytes has room.
func (q *Queue[T]) Fits(bytes int64, limits Limits) Fullness {
	switch {
	case limits.Items >= 0 && q.length >= limits.Items:
		return TooMany
	case limits.Bytes > 0 && q.bytes+bytes > limits.Bytes:
		return TooLarge
	}
	return Room
}

// Push adds it, which must not be queued.
func (q *Queue[T]) Push(it *Item[T]) {
	q.length++
	q.bytes += it.Bytes
	it.queued = true
	if it.Back {
		q.back.push(it)
		return
	}
	c := &q.classes[it.Class.valid()]
	if c.length == 0 {
		c.start = max(q.now, c.finish)
	}
	c.push(it)
}

// valid takes a class that there is not for Normal.
func (c Class) valid() Class {
	if c < 0 || c >= classes {
		return Normal
	}
	return c
}

// First returns who is next, or nil.
func (q *Queue[T]) First() *Item[T] {
	if len(q.back) > 0 {
		return q.back[0]
	}
	if c := q.turn(); c >= 0 {
		return q.classes[c].first().head
	}
	return nil
}

// turn returns the class that is next, or -1.
func (q *Queue[T]) turn() Class {
	best := Class(-1)
	for _, c := range [...]Class{High, Normal, Low} {
		if q.classes[c].length > 0 && (best < 0 || q.classes[c].start < q.classes[best].start) {
			best = c
		}
	}
	return best
}

// Pop takes out who is next, who is served, and returns it, or nil.
func (q *Queue[T]) Pop() *Item[T] {
	it := q.First()
	if it == nil {
		return nil
	}
	if !it.Back {
		class := it.Class.valid()
		c := &q.classes[class]
		q.now = c.start
		c.start += class.cost()
		c.finish = c.start
		c.charge()
	}
	q.Remove(it)
	return it
}

// Remove takes it out of the queue, which it must be in. Its key is not charged.
func (q *Queue[T]) Remove(it *Item[T]) {
	q.length--
	q.bytes -= it.Bytes
	it.queued = false
	if it.Back {
		q.back.remove(it.at)
		return
	}
	q.classes[it.Class.valid()].remove(it)
}

func (it *Item[T]) before(other *Item[T]) bool { return it.Order < other.Order }

func (it *Item[T]) put(i int) { it.at = i }
