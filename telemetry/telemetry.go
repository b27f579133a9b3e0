// Package telemetry is the door to those who watch the data plane: Prometheus,
// which reads its metrics; the access log; and a trace collector, which is told
// of spans by OTLP over HTTP.
//
// It observes a proxy: it counts each request as it ends, at once, and leaves
// what takes longer to goroutines of its own. A request never waits for a log
// or a collector; what these cannot take is dropped and counted. What Prometheus
// can ask for at any time, such as how many requests wait, is read from the
// proxy's Status when it asks.
package telemetry

import (
	"context"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/listeners"
	"github.com/serve-nomad/serve-nomad/proxy"
)

// Config is what telemetry can be told.
type Config struct {
	Version   string     // of this build
	Revision  string     // of its source; "": not known
	Name      string     // of this proxy
	AccessLog *AccessLog // nil: there is none
	Tracing   *Tracing   // nil: no spans are made, and a client's trace is passed on as it is

	Ports     func() map[string]listeners.Stats // of the proxy, by name; nil: the metrics do not tell of them
	Discovery Discovery                         // nil: as Ports
}

// Source is the proxy that is watched.
type Source interface {
	Status() proxy.Status
}

// Telemetry observes one proxy. It implements proxy.Observer.
type Telemetry struct {
	log     hclog.Logger
	metrics *metrics
	access  atomic.Pointer[accessLog] // nil: there is none
	tracer  atomic.Pointer[tracer]    // nil: no spans are made
	lines   outcomes                  // of the access log
	traced  outcomes                  // requests

	mu      sync.Mutex // of changes
	config  Config
	waiting []func(context.Context) // what Run is to run
	running context.Context         // of Run; nil: it has not begun
	over    bool                    // Run ends
	parts   sync.WaitGroup          // of Run
}

// tellInterval is how often series of versions that are gone are looked for, and
// how often at most the log says what was dropped.
const tellInterval = 10 * time.Second

// New returns a Telemetry. It opens the access log's file; nothing is written
// before Run.
func New(ctx context.Context, c Config, log hclog.Logger) (*Telemetry, error) {
	t := &Telemetry{log: log, config: Config{Version: c.Version, Name: c.Name}}
	if err := t.Reload(ctx, c.AccessLog, c.Tracing); err != nil {
		return nil, err
	}
	t.metrics = newMetrics(c, t)
	return t, nil
}

// Reload changes where requests are told of; nil: nowhere. A file that stays is
// opened anew. An error changes nothing. Of a request that ends meanwhile either
// the old output tells or the new one; what the old one has is still written.
func (t *Telemetry) Reload(ctx context.Context, access *AccessLog, tracing *Tracing) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.config
	next.AccessLog, next.Tracing = access, tracing
	sameLog, sameTracing := reflect.DeepEqual(access, t.config.AccessLog), reflect.DeepEqual(tracing, t.config.Tracing)
	tracer, err := t.tracer.Load(), error(nil)
	if !sameTracing {
		if tracer, err = t.newTracer(ctx, next); err != nil {
			return err
		}
	}
	switch {
	case sameLog:
		err = t.Reopen()
	default:
		err = t.changeLog(access)
	}
	if err != nil {
		return err
	}
	if !sameTracing {
		t.changeTracer(tracer)
	}
	t.config = next
	return nil
}

func (t *Telemetry) newTracer(ctx context.Context, c Config) (*tracer, error) {
	if c.Tracing == nil {
		return nil, nil
	}
	return newTracer(ctx, c, &t.traced, t.log)
}

func (t *Telemetry) changeTracer(next *tracer) {
	if next != nil {
		t.begin(next.run)
	}
	if old := t.tracer.Swap(next); old != nil {
		old.queue.retire()
	}
}

func (t *Telemetry) changeLog(c *AccessLog) (err error) {
	var next *accessLog
	if c != nil {
		if next, err = newAccessLog(*c, &t.lines, t.log); err != nil {
			return err
		}
		t.begin(next.run)
	}
	if old := t.access.Swap(next); old != nil {
		old.queue.retire() // after the swap: whom it turns away finds the new one
	}
	return nil
}

// begin has Run run a part. The caller holds the mutex.
func (t *Telemetry) begin(part func(context.Context)) {
	switch ctx := t.running; {
	case t.over: // nothing is told any more
	case ctx == nil:
		t.waiting = append(t.waiting, part)
	default:
		t.parts.Go(func() { part(ctx) })
	}
}

// Watch has the metrics tell of source, from which they know what goes on at
// the moment they are asked for. It is called once, before Handler serves.
func (t *Telemetry) Watch(source Source) { t.metrics.watch(source) }

// Handler serves the metrics to Prometheus.
func (t *Telemetry) Handler() http.Handler { return t.metrics.handler() }

// Reopen opens the access log's file anew, under the same name, because the old
// one has been moved away. When that fails the old one stays in use.
func (t *Telemetry) Reopen() error {
	if access := t.access.Load(); access != nil {
		return access.reopen()
	}
	return nil
}

// Run writes the log and sends spans until ctx ends, and then what is left of
// them, for a few seconds at most. It is called once.
func (t *Telemetry) Run(ctx context.Context) {
	t.mu.Lock()
	t.running = ctx
	for _, part := range t.waiting {
		t.begin(part)
	}
	t.waiting = nil
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.over = true
		t.mu.Unlock()
		t.parts.Wait()
	}()
	ticker := time.NewTicker(tellInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.metrics.prune(now)
			t.tell()
		}
	}
}

// tell logs what was dropped since it was called last.
func (t *Telemetry) tell() {
	if n := t.lines.untold(); n > 0 {
		t.log.Warn("access log: lines dropped, because its output does not take them fast enough", "lines", n)
	}
	if n := t.traced.untold(); n > 0 {
		t.log.Warn("tracing: requests dropped, because the collector does not take them fast enough", "requests", n)
	}
}

// Serves implements proxy.Observer.
func (t *Telemetry) Serves(application, deployment, version string) proxy.Series {
	return t.metrics.series(application, deployment, version)
}

// Began implements proxy.Observer.
func (t *Telemetry) Began(r *proxy.Record) {
	if tracer := t.tracer.Load(); tracer != nil {
		tracer.join(r)
	}
}

// Ended implements proxy.Observer.
func (t *Telemetry) Ended(r *proxy.Record) {
	t.metrics.count(r)
	for a := t.access.Load(); a != nil && !a.note(r); {
		a = t.access.Load()
	}
	for tracer := t.tracer.Load(); tracer != nil && !tracer.note(r); {
		tracer = t.tracer.Load()
	}
}
