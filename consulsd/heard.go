package consulsd

import (
	"sync/atomic"
	"time"
)

// Answered returns when Consul last said what the routes are, which it does
// every few seconds; the zero Time: never.
func (w *Watcher) Answered() time.Time { return timeOf(&w.answered) }

// Changed returns when the routes or the replicas that are known last changed,
// also by what was read from disk; the zero Time: never.
func (w *Watcher) Changed() time.Time { return timeOf(&w.changed) }

func timeOf(p *atomic.Pointer[time.Time]) (t time.Time) {
	if at := p.Load(); at != nil {
		t = *at
	}
	return t
}
