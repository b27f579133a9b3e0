package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

const (
	defaultQueryInterval = 5 * time.Second
	queryLimit           = 10 * time.Second // that an answer may take
	// queryHolds is how long at least an answer holds: a Prometheus that is
	// started again stops no rollout.
	queryHolds = 30 * time.Second
)

// queries asks the queries of gates, each again and again on its own time, while
// requests reach the version that they are to judge.
type queries struct {
	c       *Controller
	turns   chan struct{} // of those that ask
	reading sync.WaitGroup

	mu   sync.Mutex
	ctx  context.Context // of this leadership
	asks map[queryKey]*ask
}

// queryKey names a query of one rollout: another rollout asks anew.
type queryKey struct {
	application string
	version     int
	name        string
}

// ask is one query, and what it said last.
type ask struct {
	key    queryKey
	query  appspec.Query
	cancel context.CancelFunc

	// Guarded by queries.mu.
	value float64
	at    time.Time // when it was read last; zero: never
	fault string    // why it could not be, the last time
}

func newQueries(c *Controller) *queries {
	return &queries{c: c, turns: make(chan struct{}, maxReads), asks: map[queryKey]*ask{}}
}

// begin lets queries be asked until ctx ends, which is when this server no longer
// leads.
func (q *queries) begin(ctx context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ctx = ctx
}

// end forgets all, after the end of the leadership.
func (q *queries) end() {
	q.reading.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.asks)
}

// look takes in the State and returns what the queries said last, by application;
// nil: there are none.
func (q *queries) look(state *raftstate.State, now time.Time) map[string][]reconcile.QueryResult {
	q.mu.Lock()
	defer q.mu.Unlock()
	var results map[string][]reconcile.QueryResult
	wanted := map[queryKey]bool{}
	for name, app := range state.Applications {
		if !takesRequests(app) {
			continue
		}
		var list []reconcile.QueryResult
		for _, query := range app.Wanted.Spec.Rollout.Gates.Queries {
			key := queryKey{name, app.Wanted.Number, query.Name}
			wanted[key] = true
			list = append(list, q.follow(key, query).result(now))
		}
		if list != nil && results == nil {
			results = map[string][]reconcile.QueryResult{}
		}
		if list != nil {
			results[name] = list
		}
	}
	for key, a := range q.asks {
		if !wanted[key] {
			a.cancel()
			delete(q.asks, key)
		}
	}
	return results
}

// takesRequests says whether app rolls out a version that has gates with queries
// and gets requests by now.
func takesRequests(app *raftstate.Application) bool {
	r := app.Wanted.Spec.Rollout
	switch {
	case r == nil || r.Gates == nil || app.Deleting || !app.RollingOut():
		return false
	case app.Rollout.Strategy.Generations():
		return app.Stage().Weight > 0
	default:
		return app.Rollout.Stage > 0
	}
}

// follow returns the ask of a query, and begins it if it is new. The caller holds
// q.mu.
func (q *queries) follow(key queryKey, query *appspec.Query) *ask {
	if a := q.asks[key]; a != nil {
		return a
	}
	ctx, cancel := context.WithCancel(q.ctx)
	a := &ask{key: key, query: *query, cancel: cancel}
	q.asks[key] = a
	q.reading.Go(func() { q.read(ctx, a) })
	return a
}

// read asks a query until ctx ends.
func (q *queries) read(ctx context.Context, a *ask) {
	interval := a.interval()
	for wait := time.Duration(0); sleep(ctx, wait); {
		began := time.Now()
		select {
		case q.turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		value, err := q.number(ctx, a)
		<-q.turns
		if ctx.Err() != nil {
			return
		}
		q.store(a, value, err)
		wait = max(0, interval-interval/20+rand.N(interval/10)-time.Since(began))
	}
}

func (q *queries) number(ctx context.Context, a *ask) (float64, error) {
	if q.c.cfg.Metrics == nil {
		return 0, errors.New("this server reads no metrics")
	}
	ctx, cancel := context.WithTimeout(ctx, min(queryLimit, max(time.Second, a.interval())))
	defer cancel()
	return q.c.cfg.Metrics.Number(ctx, a.query.Query)
}

// store keeps what a query said, and tells when it begins to fail and when it is
// back.
func (q *queries) store(a *ask, value float64, err error) {
	now := q.c.cfg.Now()
	q.mu.Lock()
	before := a.fault
	if err != nil {
		a.fault = err.Error()
	} else {
		a.value, a.at, a.fault = value, now, ""
	}
	q.mu.Unlock()
	event := raftstate.Event{At: now.UTC(), Application: a.key.application}
	switch {
	case err != nil && before == "":
		event.Type = "query-failing"
		event.Message = fmt.Sprintf("query %s cannot be read: %s", a.key.name, err)
	case err == nil && before != "":
		event.Type, event.Message = "query-back", fmt.Sprintf("query %s is read again", a.key.name)
	default:
		return
	}
	q.c.observed(event)
}

func (a *ask) interval() time.Duration {
	if a.query.Interval > 0 {
		return a.query.Interval.Std()
	}
	return defaultQueryInterval
}

// result says what is known. A number that is too old says nothing any more.
func (a *ask) result(now time.Time) reconcile.QueryResult {
	r := reconcile.QueryResult{Name: a.key.name, Value: a.value, At: a.at.UTC().Round(0), Error: a.fault}
	r.Known = !a.at.IsZero() && now.Sub(a.at) <= max(queryHolds, 2*a.interval())
	switch least, most := a.query.Min, a.query.Max; {
	case !r.Known:
	case least != nil && a.value < *least:
		r.Reason = fmt.Sprintf("%.6g is below its min, which is %.6g", a.value, *least)
	case most != nil && a.value > *most:
		r.Reason = fmt.Sprintf("%.6g is above its max, which is %.6g", a.value, *most)
	}
	return r
}
