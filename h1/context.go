package h1

import (
	"context"
	"slices"
	"sync"
	"time"
)

// requestContext is a request's context. It is used for one request after the
// other as long as nobody has asked to be told of its end: what was told may
// still be looked at after the request.
type requestContext struct {
	values context.Context // of the connection

	mu     sync.Mutex
	done   chan struct{} // nil: nobody has asked
	ended  bool
	shared bool // somebody outside may still look at it
	after  []*afterEnd
}

// Deadline says that there is none.
func (c *requestContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// Done is closed when the client has left or the handler has returned.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared = true
	if c.done == nil {
		c.done = make(chan struct{})
		if c.ended {
			close(c.done)
		}
	}
	return c.done
}

// awaited says whether anybody has asked for Done.
func (c *requestContext) awaited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done != nil
}

// Err is context.Canceled after the end.
func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	return nil
}

// Value is the connection's.
func (c *requestContext) Value(key any) any { return c.values.Value(key) }

// AfterFunc is what context.AfterFunc does, without a channel; package context
// uses it too, and then needs no goroutine for the contexts below this one.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	a := &afterEnd{of: c, f: f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		go f()
	} else {
		c.after = append(c.after, a)
	}
	return a.stop
}

// afterEnd is a function that is to be called at a context's end.
type afterEnd struct {
	of *requestContext
	f  func()
}

// stop says whether it has kept the function from being called.
func (a *afterEnd) stop() bool {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	i := slices.Index(a.of.after, a)
	if i < 0 {
		return false
	}
	a.of.after = slices.Delete(a.of.after, i, i+1)
	return true
}

// end ends the context. The first call decides.
func (c *requestContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	if c.done != nil {
		close(c.done)
	}
	for _, a := range c.after {
		c.shared = true
		go a.f()
	}
	c.after = c.after[:0]
}

// again makes an ended context ready for the next request, and says whether it
// may be used for that.
func (c *requestContext) again() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shared {
		return false
	}
	c.ended = false
	return true
}
