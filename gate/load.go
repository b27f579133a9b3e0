package gate

import (
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// load is how many requests a deployment has here, now and over the time that
// the next report covers. A request counts from its arrival at the gate until
// its replica has finished: while it waits, while it holds a slot, also at a
// replica that leaves, and also when its client has left. The gate's mutex
// guards it.
type load struct {
	present int       // requests that wait or hold a slot
	at      time.Time // up to when open.sum is reckoned
	open    window    // since the last report was made
	kept    window    // before that, of reports that did not arrive
}

// window is the load over some time.
type window struct {
	sum      float64 // requests times nanoseconds
	max, min int
}

// unseen is a window of no time: it changes nothing that it is added to.
func unseen() window { return window{min: math.MaxInt} }

func newLoad() load { return load{kept: unseen()} }

// add counts n requests more, or fewer.
func (l *load) add(n int, now time.Time) {
	l.reckon(now)
	l.present += n
	l.open.max, l.open.min = max(l.open.max, l.present), min(l.open.min, l.present)
}

// reckon brings the sum up to date. Whoever read the clock before another, and
// got the lock after it, comes with a time that has been reckoned already.
func (l *load) reckon(now time.Time) {
	if d := now.Sub(l.at); d > 0 {
		l.open.sum += float64(l.present) * float64(d)
		l.at = now
	}
}

// cut begins a new window, and returns the load since the last report that
// arrived.
func (l *load) cut(now time.Time) window {
	l.reckon(now)
	l.kept.sum += l.open.sum
	l.kept.max, l.kept.min = max(l.kept.max, l.open.max), min(l.kept.min, l.open.min)
	l.open = window{max: l.present, min: l.present}
	return l.kept
}

// arrived says that what cut returned last need not be said again.
func (l *load) arrived() { l.kept = unseen() }

// Report returns what the next report says of the deployment, and whether it had a
// request at all since covers ago.
func (g *Gate) Report(now time.Time, covers time.Duration) (d loads.Deployment, had bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.load.cut(now)
	g.alarmAt = max(1, 2*g.queue.Len())
	g.starvedTold = g.starved()
	if w.max == 0 {
		return d, false
	}
	// Between reading the clock and coming to this gate a request may have
	// been reckoned, so that the mean could pass its bounds by a hair.
	mean := float64(w.min)
	if covers > 0 {
		mean = min(max(w.sum/float64(covers), float64(w.min)), float64(w.max))
	}
	return loads.Deployment{
		Application: g.Application, Deployment: g.Deployment,
		Ongoing: g.load.present - g.queue.Len(), Queued: g.queue.Len(),
		Mean: mean, Max: float64(w.max), Min: float64(w.min),
	}, true
}

// ReportArrived says that what Report returned last has arrived.
func (g *Gate) ReportArrived() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.load.arrived()
}

// starved says whether requests wait for a deployment that scales and has no
// replica that could take them.
func (g *Gate) starved() bool {
	return g.scales && g.queue.Len() > 0 && len(g.live) == 0
}

// WaitsForReport says whether requests wait for a deployment that scales, and
// that has no replica which could take them, unless any that wait count.
func (g *Gate) WaitsForReport(anyWaiter bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.starved() || (anyWaiter && g.scales && g.queue.Len() > 0)
}

// raiseAlarm has a report made at once when the leader should hear of the
// waiter that has just come: where there is nobody to serve it, where the queue
// was empty as the last report was made, and where it has doubled since.
func (g *Gate) raiseAlarm() {
	if !g.scales || g.alarm == nil {
		return
	}
	if g.queue.Len() < g.alarmAt && (len(g.live) > 0 || g.starvedTold) {
		return
	}
	select {
	case g.alarm <- struct{}{}:
	default: // one is on its way, which is made after this
	}
}
