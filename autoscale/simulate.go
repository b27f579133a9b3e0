package autoscale

import (
	minheap "container/heap"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// QueueOptions says what a simulated trace's requests meet: one queue, first
// come first served, before all replicas together.
type QueueOptions struct {
	MaxOngoing int    // requests that a replica takes at once
	MaxQueued  int    // past which requests are rejected; -1: no limit
	Seed       uint64 // of chance; the same one gives the same requests whatever the policy does
	Uniform    bool   // requests come evenly and need the same time each; else both are random, exponentially
}

func (o QueueOptions) check(trace *Trace, until time.Duration) error {
	if o.MaxOngoing < 1 || o.MaxQueued < -1 {
		return errors.New("a simulated queue needs max_ongoing_requests of at least 1 and max_queued_requests of at least -1")
	}
	requests := 0.0
	for i := range trace.lines {
		line := &trace.lines[i]
		if line.At < until {
			requests += line.Rate * (endOf(trace.lines, i, until) - line.At).Seconds()
		}
	}
	if requests > MaxReplayRequests {
		return fmt.Errorf("the trace has about %.0f requests, and at most %d can be simulated: take lower rates or a shorter run",
			requests, MaxReplayRequests)
	}
	return nil
}

// endOf is until when a line holds.
func endOf(lines []TraceLine, i int, until time.Duration) time.Duration {
	if i+1 < len(lines) {
		return min(until, lines[i+1].At)
	}
	return until
}

// request is one that has come.
type request struct{ at, needs time.Duration }

// never is after every run.
const never = time.Duration(math.MaxInt64)

// queue is the traffic of a simulated trace.
type queue struct {
	options  QueueOptions
	arrivals *arrivals
	now      time.Duration
	next     request // to come
	waiting  []request
	ongoing  endings
	waits    []time.Duration
	requests int
	rejected int
	reports  reports
}

func newQueue(policy *Policy, trace *Trace, options ReplayOptions) *queue {
	q := &queue{
		options:  options.Queue,
		arrivals: newArrivals(trace.lines, options.Queue, options.Until),
		reports:  newReports(options.Start, policy.block.MetricsInterval.Std(), policy.Window()),
	}
	q.next = q.arrivals.next()
	return q
}

func (q *queue) load() float64 { return float64(len(q.waiting) + len(q.ongoing)) }

func (q *queue) present() float64 { return q.load() }

func (q *queue) series() *Series { return q.reports.series(q.load(), len(q.waiting)) }

// pass runs the queue up to a moment, that moment's events included.
func (q *queue) pass(to time.Duration, running int, stretch func(time.Duration, float64)) {
	q.begin(running)
	for {
		event := min(to, q.next.at)
		if len(q.ongoing) > 0 {
			event = min(event, q.ongoing[0])
		}
		stretch(event-q.now, q.load())
		q.reports.pass(event, q.load(), len(q.waiting))
		q.now = event
		switch {
		case len(q.ongoing) > 0 && q.ongoing[0] == event:
			minheap.Pop(&q.ongoing)
			q.begin(running)
		case q.next.at == event:
			q.arrive(running)
		default:
			return
		}
	}
}

// begin gives the oldest requests to the replicas that have room. Replicas that
// are gone have finished what they had begun.
func (q *queue) begin(running int) {
	for len(q.waiting) > 0 && q.room(running) {
		oldest := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.take(oldest)
	}
}

func (q *queue) room(running int) bool { return len(q.ongoing) < running*q.options.MaxOngoing }

func (q *queue) take(r request) {
	q.waits = append(q.waits, q.now-r.at)
	minheap.Push(&q.ongoing, q.now+r.needs)
}

func (q *queue) arrive(running int) {
	r := q.next
	q.next = q.arrivals.next()
	q.requests++
	switch {
	case q.room(running): // then none waits
		q.take(r)
	case q.options.MaxQueued >= 0 && len(q.waiting) >= q.options.MaxQueued:
		q.rejected++
	default:
		q.waiting = append(q.waiting, r)
	}
}

func (q *queue) summary() *QueueSummary {
	waits := slices.Clone(q.waits)
	for _, r := range q.waiting {
		waits = append(waits, q.now-r.at)
	}
	slices.Sort(waits)
	return &QueueSummary{
		Requests: q.requests, Rejected: q.rejected, Waiting: len(q.waiting),
		WaitP50: quantile(waits, 0.50), WaitP99: quantile(waits, 0.99),
	}
}

// quantile is, in seconds, the least wait that a share of the sorted waits does
// not exceed.
func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)].Seconds()
}

// endings is a heap of the times at which ongoing requests end.
type endings []time.Duration

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i] < e[j] }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }

// Push is for heap.Interface.
func (e *endings) Push(x any) {
	if end, ok := x.(time.Duration); ok {
		*e = append(*e, end)
	}
}

// Pop is for heap.Interface.
func (e *endings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// arrivals makes the requests of a trace, one after the other.
type arrivals struct {
	lines   []TraceLine
	uniform bool
	chance  *rand.Rand
	until   time.Duration
	now     time.Duration
	line    int
	part    float64 // of the next request has come, if they come evenly
}

func newArrivals(lines []TraceLine, options QueueOptions, until time.Duration) *arrivals {
	return &arrivals{
		lines: lines, uniform: options.Uniform, until: until, now: lines[0].At,
		chance: rand.New(rand.NewPCG(options.Seed, 0)),
	}
}

// next returns the next request; at never, when no more come.
func (a *arrivals) next() request {
	for a.line < len(a.lines) && a.now < a.until {
		line, end := &a.lines[a.line], endOf(a.lines, a.line, a.until)
		gap := a.gap() / line.Rate // seconds; without a rate, infinite
		if left := (end - a.now).Seconds(); !(gap < left) {
			// Chance has no memory: past a change of the rate it is asked again.
			a.part += left * line.Rate
			a.now = end
			a.line++
			continue
		}
		a.now += time.Duration(gap * float64(time.Second))
		a.part = 0
		return request{at: a.now, needs: a.needs(line.ServiceTime)}
	}
	return request{at: never}
}

// gap is the time until the next request at a rate of 1, in seconds.
func (a *arrivals) gap() float64 {
	if a.uniform {
		return max(0, 1-a.part)
	}
	return a.chance.ExpFloat64()
}

func (a *arrivals) needs(mean time.Duration) time.Duration {
	if a.uniform {
		return mean
	}
	return max(1, time.Duration(a.chance.ExpFloat64()*float64(mean)))
}
