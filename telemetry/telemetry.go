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
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// Config is what telemetry can be told.
type Config struct {
	Version   string     // of this build
	Name      string     // of this proxy
	AccessLog *AccessLog // nil: there is none
	Tracing   *Tracing   // nil: no spans are made, and a client's trace is passed on as it is
}

// Source is the proxy that is watched.
type Source interface {
	Status() proxy.Status
}

// Telemetry observes one proxy. It implements proxy.Observer.
type Telemetry struct {
	log     hclog.Logger
	metrics *metrics
	access  *accessLog // nil: there is none
	tracer  *tracer    // nil: no spans are made
}

// tellInterval is how often series of versions that are gone are looked for, and
// how often at most the log says what was dropped.
const tellInterval = 10 * time.Second

// New returns a Telemetry. It opens the access log's file; nothing is written
// before Run.
func New(ctx context.Context, c Config, log hclog.Logger) (*Telemetry, error) {
	t := &Telemetry{log: log}
	var err error
	if c.AccessLog != nil {
		if t.access, err = newAccessLog(*c.AccessLog, log); err != nil {
			return nil, err
		}
	}
	if c.Tracing != nil {
		if t.tracer, err = newTracer(ctx, c, log); err != nil {
			return nil, err
		}
	}
	t.metrics = newMetrics(c.Version, t)
	return t, nil
}

// Watch has the metrics tell of source, from which they know what goes on at
// the moment they are asked for. It is called once, before Handler serves.
func (t *Telemetry) Watch(source Source) { t.metrics.watch(source) }

// Handler serves the metrics to Prometheus.
func (t *Telemetry) Handler() http.Handler { return t.metrics.handler() }

// Reopen opens the access log's file anew, under the same name, because the old
// one has been moved away. When that fails the old one stays in use.
func (t *Telemetry) Reopen() error {
	if t.access == nil {
		return nil
	}
	return t.access.reopen()
}

// Run writes the log and sends spans until ctx ends, and then what is left of
// them, for a few seconds at most.
func (t *Telemetry) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	if t.access != nil {
		parts.Go(func() { t.access.run(ctx) })
	}
	if t.tracer != nil {
		parts.Go(func() { t.tracer.run(ctx) })
	}
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
	if t.access != nil {
		if n := t.access.queue.untold(); n > 0 {
			t.log.Warn("access log: lines dropped, because its output does not take them fast enough", "lines", n)
		}
	}
	if t.tracer != nil {
		if n := t.tracer.queue.untold(); n > 0 {
			t.log.Warn("tracing: requests dropped, because the collector does not take them fast enough", "requests", n)
		}
	}
}

// Serves implements proxy.Observer.
func (t *Telemetry) Serves(application, deployment, version string) proxy.Series {
	return t.metrics.series(application, deployment, version)
}

// Began implements proxy.Observer.
func (t *Telemetry) Began(r *proxy.Record) {
	if t.tracer != nil {
		t.tracer.join(r)
	}
}

// Ended implements proxy.Observer.
func (t *Telemetry) Ended(r *proxy.Record) {
	t.metrics.count(r)
	if t.access != nil {
		t.access.note(r)
	}
	if t.tracer != nil {
		t.tracer.note(r)
	}
}
