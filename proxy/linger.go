package proxy

import (
	"io"
	"net/http"
	"sync"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// linger holds the slot of a request that nobody waits for any more until the
// replica has finished with it: many servers do not notice that their client
// has left, and a slot given away too early would be one request too many.
type linger struct {
	slot    *gate.Slot
	conn    *upstream.Conn
	rest    io.Reader // nil: the response has not begun
	method  string
	buffers *buffers
}

func (l *linger) run() {
	defer l.slot.Release()
	defer l.conn.Close()
	rest := l.rest
	for rest == nil {
		res, err := l.conn.ReadResponse(l.method) //nolint:bodyclose // its body is the connection, which is closed
		if err != nil {
			return
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			rest = res.Body
		}
	}
	// However it ends, the replica has finished or its time is over.
	_ = discard(rest, l.buffers)
}

// discard reads to the end of r.
func discard(r io.Reader, b *buffers) error {
	buf := b.get()
	defer b.put(buf)
	for {
		if _, err := r.Read(*buf); err != nil {
			return err
		}
	}
}

// busy is what goes on outside of the handlers: lingers and tunnels.
type busy struct {
	mu    sync.Mutex
	ends  map[int]func()
	next  int
	empty chan struct{} // closed when ends becomes empty; nil: nobody waits
}

// add notes something that goes on; end breaks it off. The function returned is
// to be called when it is over.
func (b *busy) add(end func()) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ends == nil {
		b.ends = map[int]func(){}
	}
	id := b.next
	b.next++
	b.ends[id] = end
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.ends, id)
		if len(b.ends) == 0 && b.empty != nil {
			close(b.empty)
			b.empty = nil
		}
	}
}

// wait returns a channel that is closed when nothing goes on.
func (b *busy) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ends) == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if b.empty == nil {
		b.empty = make(chan struct{})
	}
	return b.empty
}

// count says how much goes on.
func (b *busy) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ends)
}

// cut breaks everything off.
func (b *busy) cut() {
	b.mu.Lock()
	ends := make([]func(), 0, len(b.ends))
	for _, end := range b.ends {
		ends = append(ends, end)
	}
	b.mu.Unlock()
	for _, end := range ends {
		end()
	}
}
