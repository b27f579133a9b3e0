package consulsd

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Pace of the blocking queries.
const (
	routesWait  = 10 * time.Second // short: it is also how a silent Consul is noticed
	serviceWait = 60 * time.Second
	rotateWait  = time.Second            // of a service's query while there are more services than queries at once
	minInterval = 100 * time.Millisecond // between queries of one thing that keeps changing
	minBackoff  = 250 * time.Millisecond
	maxBackoff  = 5 * time.Second
)

// outcome is what came of one blocking query.
type outcome[T any] struct {
	value T
	err   error // set: value means nothing

	// lost says that the index is lower than that of the answer before, so
	// that Consul may have lost or restored its data.
	lost bool
	// again says that the query before this one failed, or lost its connection.
	again bool
}

// poll asks for one thing again and again, each time waiting for a change.
type poll[T any] struct {
	ask    func(ctx context.Context, index uint64) (T, uint64, error)
	report func(ctx context.Context, o outcome[T])
	kicked chan struct{} // of capacity 1: what it waits for may have been lost, ask anew
}

// run polls until ctx ends. It keeps to Consul's rules for blocking queries:
// an index that goes backwards is forgotten, as is any index after an error,
// because a Consul that has lost its data would let a query with the old
// index wait for its whole length.
func (p *poll[T]) run(ctx context.Context) {
	var index, last uint64
	failures, again := 0, false
	for ctx.Err() == nil {
		started := time.Now()
		value, next, kicked, err := p.once(ctx, index)
		switch {
		case ctx.Err() != nil:
			return
		case kicked && err != nil:
			index = 0
		case errors.Is(err, errReconnected):
			index, again = 0, true
		case err != nil:
			failures++
			index, again = 0, true
			p.report(ctx, outcome[T]{err: err})
			p.pause(ctx, backoff(failures))
		default:
			o := outcome[T]{value: value, lost: next < last, again: again}
			failures, again = 0, false
			index, last = next, next
			if o.lost || kicked {
				index = 0
			}
			p.report(ctx, o)
			sleep(ctx, jitter(minInterval-time.Since(started)))
		}
	}
}

// once asks once. A kick ends the question early.
func (p *poll[T]) once(ctx context.Context, index uint64) (value T, next uint64, kicked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan bool)
	go func() {
		select {
		case <-p.kicked:
			cancel()
			watched <- true
		case <-ctx.Done():
			watched <- false
		}
	}()
	value, next, err = p.ask(ctx, index)
	cancel()
	return value, next, <-watched, err
}

// pause waits after an error, but not past a kick.
func (p *poll[T]) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.kicked:
	}
}

// kick makes the poll ask anew, at once.
func (p *poll[T]) kick() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// backoff returns how long to wait after so many failures in a row: doubling,
// capped, and spread so that many clients do not return at the same moment.
func backoff(failures int) time.Duration {
	d := maxBackoff
	if failures < 16 {
		d = min(maxBackoff, minBackoff<<(failures-1))
	}
	return d/2 + rand.N(d/2)
}

// jitter returns d, lengthened by up to a tenth.
func jitter(d time.Duration) time.Duration {
	if d <= 10 {
		return d
	}
	return d + rand.N(d/10)
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
