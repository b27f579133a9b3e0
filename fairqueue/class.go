package fairqueue

// class is the items of one priority: a flow for each key, the one that is next
// at the top of a heap.
type class[T any] struct {
	length        int
	start, finish uint64 // virtual times of this class's next and last service
	now           uint64 // virtual time over the flows
	ranks         uint64
	flows         heap[*flow[T]]
	plain         flow[T]             // of those without a key
	keyed         map[string]*flow[T] // nil: no key has come yet
	idle          []*flow[T]          // empty ones of keyed that have had a service ahead of their time
}

// flow is the items of one key, in order of arrival.
type flow[T any] struct {
	key           string
	head, tail    *Item[T]
	start, finish uint64
	rank          uint64 // tells apart flows of the same start: the same way each time, so that none comes twice in a row
	at            int    // in the heap
	resting       bool   // it is in idle
}

func (f *flow[T]) before(other *flow[T]) bool {
	if f.start != other.start {
		return f.start < other.start
	}
	return f.rank < other.rank
}

func (f *flow[T]) put(i int) { f.at = i }

func (c *class[T]) first() *flow[T] { return c.flows[0] }

func (c *class[T]) push(it *Item[T]) {
	c.length++
	f := c.flow(it.Key)
	it.flow = f
	it.prev, it.next = f.tail, nil
	f.tail = it
	if it.prev != nil {
		it.prev.next = it
		return
	}
	f.head = it
	if f.start = f.finish; f.finish <= c.now { // else it has its turn where it had it last
		f.start = c.now
		c.ranks++
		f.rank = c.ranks
	}
	c.flows.push(f)
}

// flow returns the key's flow. One that is empty is remembered only as long as
// it has had more than its share: else whoever sends one at a time would always
// be next.
func (c *class[T]) flow(key string) *flow[T] {
	if key == "" {
		return &c.plain
	}
	if f := c.keyed[key]; f != nil {
		return f
	}
	c.forget()
	if len(c.keyed) >= maxKeys {
		return &c.plain
	}
	if c.keyed == nil {
		c.keyed = map[string]*flow[T]{}
	}
	f := &flow[T]{key: key}
	c.keyed[key] = f
	return f
}

// charge counts one service of the flow that is next.
func (c *class[T]) charge() {
	f := c.first()
	c.now = f.start
	f.start++
	f.finish = f.start
	c.flows.fix(0)
}

func (c *class[T]) remove(it *Item[T]) {
	c.length--
	f := it.flow
	if it.prev == nil {
		f.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		f.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.flow, it.prev, it.next = nil, nil, nil
	if f.head != nil {
		return
	}
	c.flows.remove(f.at)
	if f != &c.plain && !f.resting {
		f.resting = true
		c.idle = append(c.idle, f)
	}
	if c.length == 0 {
		c.now++ // nobody is ahead of nobody
	}
	c.forget()
}

// forget drops the empty flows that have no service ahead of the others any
// more. They lie in the order in which that comes to be, nearly.
func (c *class[T]) forget() {
	n := 0
	for n < len(c.idle) && (c.idle[n].head != nil || c.idle[n].finish <= c.now) {
		f := c.idle[n]
		f.resting = false
		if f.head == nil {
			delete(c.keyed, f.key)
		}
		n++
	}
	if n == 0 {
		return
	}
	rest := copy(c.idle, c.idle[n:])
	clear(c.idle[rest:])
	c.idle = c.idle[:rest]
}

// placed is what can be in a heap: it knows its place.
type placed[E any] interface {
	before(other E) bool
	put(index int)
}

var (
	_ placed[*flow[int]] = (*flow[int])(nil)
	_ placed[*Item[int]] = (*Item[int])(nil)
)

// heap is a binary heap.
type heap[E placed[E]] []E

func (h *heap[E]) push(e E) {
	*h = append(*h, e)
	e.put(len(*h) - 1)
	h.up(len(*h) - 1)
}

func (h *heap[E]) remove(i int) {
	last := len(*h) - 1
	h.swap(i, last)
	var none E
	(*h)[last] = none
	*h = (*h)[:last]
	if i < last {
		h.fix(i)
	}
}

// fix finds the place of the element at i anew.
func (h *heap[E]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *heap[E]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !(*h)[i].before((*h)[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[E]) down(i int) (moved bool) {
	for {
		child := 2*i + 1
		if child >= len(*h) {
			return moved
		}
		if child+1 < len(*h) && (*h)[child+1].before((*h)[child]) {
			child++
		}
		if !(*h)[child].before((*h)[i]) {
			return moved
		}
		h.swap(i, child)
		i, moved = child, true
	}
}

func (h *heap[E]) swap(i, j int) {
	(*h)[i], (*h)[j] = (*h)[j], (*h)[i]
	(*h)[i].put(i)
	(*h)[j].put(j)
}
