package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Metrics reads the numbers that deployments scale on beside requests, and that
// rollouts are held to, as the controller needs it. Each takes as long as ctx lets it.
type Metrics interface {
	// Query returns the number that a PromQL query gives now, to size by.
	Query(ctx context.Context, query string) (float64, error)
	// Number does too, also if no deployment could be sized by it.
	Number(ctx context.Context, query string) (float64, error)
	// Replicas returns the sum of what the replicas at addresses say.
	Replicas(ctx context.Context, addresses []string, path, field string) (float64, error)
}

// maxReads is how many sources of one kind are read at once. A kind that hangs
// does not hold up the other.
const maxReads = 32

// errNobody says that there is no replica to ask, which no one needs to be told
// of: status shows it.
var errNobody = errors.New("no replica passes its health check, so there is none to ask")

// readings asks each metric source again and again, on its own time, so that
// one that hangs holds up nothing.
type readings struct {
	ctx     context.Context // of this leadership
	scaler  *scaler
	turns   map[string]chan struct{} // by kind of source
	reading sync.WaitGroup

	mu       sync.Mutex
	followed map[loads.Key]*source
}

// source is one deployment's metric, and what it said last.
type source struct {
	key    loads.Key
	metric appspec.Metric
	cancel context.CancelFunc

	// Guarded by readings.mu.
	last    *autoscale.Reading // nil: nothing yet
	failing bool               // as told
}

func newReadings(ctx context.Context, s *scaler) *readings {
	return &readings{
		ctx: ctx, scaler: s, followed: map[loads.Key]*source{},
		turns: map[string]chan struct{}{
			appspec.SourcePrometheus: make(chan struct{}, maxReads),
			appspec.SourceReplica:    make(chan struct{}, maxReads),
		},
	}
}

// follow says which sources there are. One that is another than before starts
// with nothing said.
func (r *readings) follow(metrics map[loads.Key]appspec.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, s := range r.followed {
		if metric, still := metrics[key]; !still || metric != s.metric {
			s.cancel()
			delete(r.followed, key)
		}
	}
	for key, metric := range metrics {
		if r.followed[key] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(r.ctx)
		s := &source{key: key, metric: metric, cancel: cancel}
		r.followed[key] = s
		r.reading.Go(func() { r.run(ctx, s) })
	}
}

// wait returns when nothing is read any more, after the end of the leadership.
func (r *readings) wait() { r.reading.Wait() }

// last returns what a deployment's source said last, or nil.
func (r *readings) last(key loads.Key) *autoscale.Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.followed[key]; s != nil {
		return s.last
	}
	return nil
}

// run reads one source until ctx ends.
func (r *readings) run(ctx context.Context, s *source) {
	interval := max(s.metric.Interval.Std(), tickEvery)
	wait := rand.N(min(interval, time.Second)) // so that thousands do not begin at once
	for sleep(ctx, wait) {
		began := time.Now()
		if !r.read(ctx, s) {
			return
		}
		wait = max(0, interval-interval/20+rand.N(interval/10)-time.Since(began))
	}
}

// read reads one source when it is its turn, and says whether ctx is alive.
func (r *readings) read(ctx context.Context, s *source) bool {
	turns := r.turns[s.metric.Source]
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(s.metric.Timeout, s.metric.Interval).Std())
	value, err := r.ask(limited, s)
	cancel()
	<-turns
	if ctx.Err() != nil {
		return false
	}
	r.store(s, value, err)
	return true
}

// ask asks a source once.
func (r *readings) ask(ctx context.Context, s *source) (float64, error) {
	metrics := r.scaler.c.cfg.Metrics
	if metrics == nil {
		return 0, errors.New("this server reads no metrics")
	}
	if s.metric.Source == appspec.SourcePrometheus {
		return metrics.Query(ctx, s.metric.Query)
	}
	addresses, target := r.scaler.replicas(s.key)
	switch {
	case len(addresses) > 0:
		return metrics.Replicas(ctx, addresses, s.metric.Path, s.metric.FieldPath())
	case target == 0:
		return 0, nil // the sum over none
	default:
		return 0, errNobody
	}
}

// store keeps what a source said, and tells when it begins to fail and when it
// is back.
func (r *readings) store(s *source, value float64, err error) {
	now := r.scaler.c.cfg.Now()
	said := &autoscale.Reading{At: now, Value: value}
	if err != nil {
		said.Value, said.Err = 0, err.Error()
	}
	fails := err != nil && !errors.Is(err, errNobody)
	r.mu.Lock()
	told := s.failing
	s.last, s.failing = said, fails
	r.mu.Unlock()
	event := raftstate.Event{At: now.UTC(), Application: s.key.Application, Deployment: s.key.Deployment}
	switch {
	case fails && !told:
		event.Type = "metric-failing"
		event.Message = fmt.Sprintf("the %s metric cannot be read, so it decides nothing: %s", s.metric.Source, err)
	case told && err == nil:
		event.Type, event.Message = "metric-back", fmt.Sprintf("the %s metric is read again", s.metric.Source)
	default:
		return
	}
	r.scaler.c.observed(event)
}

// replicas returns where the replicas of a deployment are that serve, and how
// many are wanted.
func (s *scaler) replicas(key loads.Key) (addresses []string, target int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fleet == nil || s.fleet.members[key] == nil {
		return nil, 0
	}
	m := s.fleet.members[key]
	return s.fleet.addresses(m), m.target
}
