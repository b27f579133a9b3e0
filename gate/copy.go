package gate

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/loads"
)

// ErrNoSpare says that no slot is free that nobody else could use.
var ErrNoSpare = errors.New("no slot is free")

// TakeSpare takes a slot for a copy of a request, if one is free that nobody
// waits for. A copy never waits for a turn, only for the gatekeeper that is asked,
// and whoever comes meanwhile gets the slot before it. It counts towards the
// limit of its replica and in nothing else: not in the load, and not in how the
// version serves.
func (g *Gate) TakeSpare(ctx context.Context, h http.Header) (*Slot, error) {
	key := affinity(h)
	g.mu.Lock()
	if g.closed || g.queue.Len() > 0 {
		g.mu.Unlock()
		return nil, ErrNoSpare
	}
	now := time.Now()
	r, taken := g.seize(now, key, "")
	switch {
	case taken:
		s := g.takeCopy(r, now)
		g.mu.Unlock()
		return s, nil
	case r == nil:
		g.mu.Unlock()
		return nil, ErrNoSpare
	}
	if way, _ := r.line.Way(); way != gatekeeper.Away {
		g.mu.Unlock()
		return nil, ErrNoSpare
	}
	w := &waiter{ready: make(chan grant, 1)}
	g.copies = append(g.copies, w)
	g.ask(r)
	g.refuseCopies() // it could not be asked
	g.mu.Unlock()
	select {
	case got := <-w.ready:
		return got.slot, got.err
	case <-ctx.Done():
		g.withdraw(w)
		return nil, context.Cause(ctx)
	}
}

// withdraw has a copy wait no longer. The slot that was asked for it goes to whoever
// comes, or back.
func (g *Gate) withdraw(w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.copies, w); i >= 0 {
		g.copies = slices.Delete(g.copies, i, i+1)
		return
	}
	if got := <-w.ready; got.slot != nil {
		now := time.Now()
		got.slot.end(now)
		g.dispatch(now)
	}
}

// takeCopy counts one copy more at r.
func (g *Gate) takeCopy(r *Replica, now time.Time) *Slot {
	s := g.take(r, now)
	s.verdict.copied = true
	r.copies++
	return s
}

// refuseCopies sends those copies away for which no slot is being asked any more.
func (g *Gate) refuseCopies() {
	for len(g.copies) > max(g.asked-g.queue.Len(), 0) {
		last := len(g.copies) - 1
		g.copies[last].ready <- grant{err: ErrNoSpare}
		g.copies = g.copies[:last]
	}
}

// Comparison is how a copy was answered beside the request itself.
type Comparison struct {
	Version       string // whose replica had the copy
	Primary, Copy int    // status; 0 of Copy: it failed
	// From the slot to the head of the answer; 0: there was none.
	PrimaryTook, CopyTook time.Duration
}

// Compared counts a copy that was sent.
func (g *Gate) Compared(c Comparison) {
	failed := c.Copy == 0 || c.Copy >= http.StatusInternalServerError
	g.countShadow(c.Version, func(s *loads.Shadowed) {
		s.Requests++
		if c.Copy != c.Primary {
			s.Differing++
		}
		if failed && c.Primary < http.StatusInternalServerError {
			s.Errors++
		}
		if c.CopyTook > 0 {
			s.Latency = count(s.Latency, c.CopyTook)
		}
		if c.PrimaryTook > 0 {
			s.Primary = count(s.Primary, c.PrimaryTook)
		}
	})
}

// CopyDropped counts a copy that was not sent.
func (g *Gate) CopyDropped() {
	name, _ := g.Serving()
	g.countShadow(name, func(s *loads.Shadowed) { s.Dropped++ })
}

func (g *Gate) countShadow(name string, add func(*loads.Shadowed)) {
	if !g.watched.Load() {
		return
	}
	g.mu.Lock()
	v := g.versions[name]
	g.mu.Unlock()
	if v == nil {
		return
	}
	v.served.mu.Lock()
	defer v.served.mu.Unlock()
	if s := &v.served.open.shadow; max(s.Requests, s.Dropped) < loads.MaxRequests {
		add(s)
	}
}
