package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// LoadSink takes the load reports to the leader.
type LoadSink interface {
	// SendLoads returns nil once the leader has taken r. It returns soon after
	// ctx has ended.
	SendLoads(ctx context.Context, r loads.Report) error
}

// Pace of the reports.
const (
	reportIdle    = 5 * time.Second        // between reports while nothing scales by them
	reportWatched = time.Second            // between reports while an application is watched
	reportLeast   = 100 * time.Millisecond // between reports, whatever a table asks for
	reportMost    = loads.MaxCovers / 2    // so that one that is lost does not make the next too long
	reportUrgent  = 50 * time.Millisecond  // between urgent ones
	reportEach    = 50 * time.Microsecond  // between urgent ones for each deployment and version in them: the leader reads them all
	sendLeast     = 2 * time.Second        // that an urgent report may take to arrive; another may until the next, if that is longer
	sendMost      = 10 * time.Second       // that it may take in any case
	sendYields    = 300 * time.Millisecond // that a report may still take when an urgent one is due after it
	sendLast      = time.Second            // that the last one may take
	retryFirst    = 100 * time.Millisecond // until a report that is urgent, or that requests without a replica wait for, is tried again
	retryLonger   = time.Second            // the same, after several failures
)

// reporter tells the leader of the load, again and again. One report is on its
// way at a time.
type reporter struct {
	proxy       *Proxy
	sink        LoadSink
	incarnation int64
	interval    atomic.Int64  // ns between reports, as the table asks for
	size        atomic.Int64  // deployments and versions in the last report
	alarms      chan struct{} // of capacity 1: a report is to be made at once
	shorter     chan struct{} // of capacity 1: the interval has become shorter

	sending  chan struct{} // of capacity 1: holds something while a report is on its way; guards the next four
	name     string        // of this proxy
	sequence uint64
	arrived  uint64    // sequence of the last report that arrived
	since    time.Time // of that; before the first, the beginning

	mu        sync.Mutex // guards what follows
	leaving   bool
	cancel    context.CancelFunc // breaks off the report that is on its way
	delivered uint64
	last      time.Time // as since
	err       error     // why the last one did not arrive
}

func newReporter(p *Proxy, sink LoadSink) *reporter {
	now := time.Now()
	r := &reporter{
		proxy: p, sink: sink, name: p.config.Name, incarnation: now.UnixNano(), since: now, last: now,
		alarms: make(chan struct{}, 1), shorter: make(chan struct{}, 1), sending: make(chan struct{}, 1),
	}
	r.interval.Store(int64(reportIdle))
	return r
}

// follow takes the interval from the table.
func (r *reporter) follow(t routes.Table) {
	next := reportInterval(t)
	if before := r.interval.Swap(int64(next)); int64(next) < before {
		select {
		case r.shorter <- struct{}{}:
		default:
		}
	}
}

// reportInterval returns the shortest interval that a deployment of the table
// asks for, or an application that is watched.
func reportInterval(t routes.Table) time.Duration {
	shortest := time.Duration(0)
	asks := func(d time.Duration) {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	for _, route := range t {
		if route.Watched {
			asks(reportWatched)
		}
		for _, g := range route.Generations() {
			for _, d := range g.Deployments {
				asks(d.MetricsInterval)
			}
		}
	}
	if shortest == 0 {
		return reportIdle
	}
	return min(max(shortest, reportLeast), reportMost)
}

// alarm has a report made at once.
func (r *reporter) alarm() {
	select {
	case r.alarms <- struct{}{}:
	default:
	}
}

// run reports until ctx ends.
func (r *reporter) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	now := time.Now()
	t := timetable{due: now, made: now}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.shorter:
			t.due = earlier(t.due, t.made.Add(r.every()))
		case <-r.alarms:
			t.hurry(time.Now(), r.spacing())
		case <-timer.C:
			r.serve(ctx, &t)
		}
		timer.Reset(time.Until(t.due))
	}
}

// timetable is when the next report is due.
type timetable struct {
	due      time.Time
	made     time.Time // the last report
	urgent   bool      // the next report was asked for
	asked    time.Time // when the last one was made that was
	failed   int       // reports in a row that did not arrive
	pressing bool      // one of those was asked for
}

// hurry asks for a report at once, or a little after the last that was asked
// for: many requests come together, and one report tells of them all.
func (t *timetable) hurry(now time.Time, spacing time.Duration) {
	if t.urgent {
		return
	}
	t.urgent = true
	if next := t.asked.Add(spacing); next.After(now) {
		now = next
	}
	t.due = earlier(t.due, now)
}

// spacing is the time between urgent reports.
func (r *reporter) spacing() time.Duration {
	return max(reportUrgent, time.Duration(r.size.Load())*reportEach)
}

// serve makes the report that is due.
func (r *reporter) serve(ctx context.Context, t *timetable) {
	select {
	case <-r.alarms: // whoever asked is in this report already
		t.urgent = true
	default:
	}
	urgent := t.urgent
	t.made = time.Now()
	if urgent {
		t.urgent, t.asked = false, t.made
	}
	arrived, asked := r.carry(ctx, urgent)
	if arrived {
		t.failed, t.pressing = 0, false
	} else {
		t.failed++
		t.pressing = t.pressing || urgent
	}
	r.plan(t)
	if asked {
		t.hurry(time.Now(), r.spacing())
	}
}

// plan says when the report after one that has just been tried is due.
func (r *reporter) plan(t *timetable) {
	t.due = t.made.Add(r.every())
	if t.failed == 0 {
		return
	}
	now := time.Now()
	if r.waitedFor(t.pressing) {
		wait := retryLonger
		if t.failed < 5 {
			wait = min(wait, retryFirst<<(t.failed-1))
		}
		t.due = earlier(t.due, now.Add(wait))
	}
	if least := now.Add(reportUrgent); t.due.Before(least) {
		t.due = least
	}
}

// waitedFor says whether requests wait where only a report can help, or, if it
// is pressing, wait at all.
func (r *reporter) waitedFor(pressing bool) bool {
	return slices.ContainsFunc(r.proxy.allGates(), func(g *gate.Gate) bool { return g.WaitsForReport(pressing) })
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (r *reporter) every() time.Duration { return time.Duration(r.interval.Load()) }

// errGivesWay ends a report that another is more urgent than.
var errGivesWay = errors.New("an urgent report is due")

// carry makes a report and says whether it arrived, and whether an urgent one
// was asked for meanwhile. Unless it is urgent itself it gives way to that soon:
// what holds it up may be a server that hangs, and another may lead by now.
func (r *reporter) carry(ctx context.Context, urgent bool) (arrived, asked bool) {
	limit := sendLeast
	if !urgent {
		limit = min(max(sendLeast, r.every()), sendMost)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan bool, 1)
	go func() { done <- r.send(ctx, limit) }()
	if urgent {
		return <-done, false
	}
	select {
	case arrived = <-done:
		return arrived, false
	case <-r.alarms:
		yield := time.AfterFunc(sendYields, func() { cancel(errGivesWay) })
		defer yield.Stop()
		return <-done, true
	}
}

// send makes a report and says whether it arrived.
func (r *reporter) send(ctx context.Context, limit time.Duration) bool {
	r.sending <- struct{}{}
	defer func() { <-r.sending }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.mu.Lock()
	leaving := r.leaving
	r.cancel = cancel
	r.mu.Unlock()
	if leaving {
		return true // the last one has been made
	}
	return r.attempt(ctx, false)
}

// rename goes on under a name that no other process has. The requests that are
// here count from now on under that name, and no longer under the one before.
func (r *reporter) rename() {
	r.sending <- struct{}{}
	defer func() { <-r.sending }()
	now, gates := time.Now(), r.proxy.allGates()
	r.report(now, gates) // whose loads are not sent: those of the next one begin here
	for _, g := range gates {
		g.ReportArrived()
	}
	const shown = loads.MaxName / 2
	r.name = fmt.Sprintf("%s (begun %s)", r.name[:min(len(r.name), shown)], time.Unix(0, r.incarnation).UTC().Format(time.RFC3339Nano))
	r.sequence, r.arrived, r.since = 0, 0, now
	r.alarm()
}

// leave makes the last report, when nothing goes on here any more.
func (r *reporter) leave() {
	r.mu.Lock()
	again := r.leaving
	r.leaving = true
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	if again {
		return
	}
	r.sending <- struct{}{}
	defer func() { <-r.sending }()
	// The drain's own time may be over, and the leader should know even so.
	ctx, cancel := context.WithTimeout(context.Background(), sendLast)
	defer cancel()
	r.attempt(ctx, true)
}

// attempt makes a report and sends it. What did not arrive is in the next one.
// The caller has filled r.sending.
func (r *reporter) attempt(ctx context.Context, leaving bool) bool {
	r.sequence++
	now := time.Now()
	gates := r.proxy.allGates()
	report := r.report(now, gates)
	report.Leaving = leaving
	r.size.Store(int64(len(report.Deployments) + len(report.Served)))
	err := r.sink.SendLoads(ctx, report)
	if err == nil {
		r.since, r.arrived = now, r.sequence
		for _, g := range gates {
			g.ReportArrived()
			g.ServedArrived()
		}
	}
	r.note(ctx, now, err, leaving)
	return err == nil
}

func (r *reporter) report(now time.Time, gates []*gate.Gate) loads.Report {
	covers := now.Sub(r.since)
	report := loads.Report{
		Schema: loads.Schema, Proxy: r.name, Incarnation: r.incarnation, Sequence: r.sequence, After: r.arrived,
		Ready:  r.proxy.routing.Load() != nil,
		Covers: min(covers, loads.MaxCovers), Next: r.every(),
		Deployments: []loads.Deployment{},
	}
	for _, g := range gates {
		if d, had := g.Report(now, covers); had {
			report.Deployments = append(report.Deployments, d)
		}
		report.Served = append(report.Served, g.Served()...)
	}
	report.Deployments, report.Served = overGenerations(report.Deployments), overGates(report.Served)
	return report
}

// note keeps how a report went, and logs when they begin to fail and when they
// arrive again.
func (r *reporter) note(ctx context.Context, made time.Time, err error, leaving bool) {
	r.mu.Lock()
	before := r.err
	// By leave, or for another report, which is no failure.
	broken := err != nil && ((r.leaving && !leaving) || errors.Is(context.Cause(ctx), errGivesWay))
	if !broken {
		r.err = err
	}
	if err == nil {
		r.delivered++
		r.last = made
	}
	r.mu.Unlock()
	log := r.proxy.log
	switch {
	case broken:
	case err != nil && before == nil:
		log.Warn("load reports do not reach the leader, which scales without knowing of the requests here; they are tried again", "error", err)
	case err == nil && before != nil:
		log.Info("load reports reach the leader again")
	}
}

// ReportingStatus is how the proxy's load reports arrive.
type ReportingStatus struct {
	Delivered uint64  `json:"delivered"`       // reports that have arrived
	Age       float64 `json:"age_seconds"`     // since the last one that arrived was made, or since the start
	Error     string  `json:"error,omitempty"` // why the last one did not arrive
}

func (r *reporter) status() *ReportingStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &ReportingStatus{Delivered: r.delivered, Age: time.Since(r.last).Seconds()}
	if r.err != nil {
		s.Error = fmt.Sprint(r.err)
	}
	return s
}
