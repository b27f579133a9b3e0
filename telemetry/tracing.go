package telemetry

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// Tracing is what tracing can be told. What is empty comes from OpenTelemetry's
// own environment variables.
type Tracing struct {
	Endpoint string   // base URL of the collector's OTLP over HTTP; "": OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318
	Sample   *float64 // of the traces that begin here, 0 to 1; a client's own choice stands. nil: OTEL_TRACES_SAMPLER, or all
}

// Sampler is the rule by which a trace's spans are kept: those of a trace that
// began elsewhere by what its beginner said, or not.
type Sampler struct {
	Ratio       float64 // of traces
	ParentBased bool    // a client's own choice stands
}

// Bounds on sending spans.
const (
	closeTimeout = 3 * time.Second
	failedTell   = time.Minute
)

// tracer makes spans of records, after the fact, on a goroutine of its own.
type tracer struct {
	sampler  Sampler
	queue    *queue
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	failed   *atomic.Uint64 // requests whose spans could not be sent
}

// Disabled says whether OpenTelemetry's environment variables forbid spans.
func Disabled(getenv func(string) string) bool {
	return strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || strings.EqualFold(getenv("OTEL_TRACES_EXPORTER"), "none")
}

// SamplerFrom reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
func SamplerFrom(getenv func(string) string) (Sampler, error) {
	name := strings.ToLower(strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER")))
	kind, parentBased := strings.CutPrefix(name, "parentbased_")
	s := Sampler{Ratio: 1, ParentBased: parentBased || name == ""}
	switch kind {
	case "", "always_on":
	case "always_off":
		s.Ratio = 0
	case "traceidratio":
		arg := strings.TrimSpace(getenv("OTEL_TRACES_SAMPLER_ARG"))
		if arg == "" {
			break
		}
		ratio, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) {
			return s, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG = %q: want a number from 0 to 1", arg)
		}
		s.Ratio = ratio
	default:
		return s, fmt.Errorf("OTEL_TRACES_SAMPLER = %q: want always_on, always_off or traceidratio, or one of these after parentbased_", name)
	}
	return s, nil
}

// Keeps says whether the spans of a new trace are kept. Every process that
// samples at a ratio keeps the same traces, for it goes by the id.
func (s Sampler) Keeps(id [16]byte) bool {
	const bits = 63
	return s.Ratio >= 1 || binary.BigEndian.Uint64(id[8:])>>1 < uint64(max(s.Ratio, 0)*(1<<bits))
}

func newTracer(ctx context.Context, c Config, log hclog.Logger) (*tracer, error) {
	sampler := Sampler{ParentBased: true}
	if c.Tracing.Sample != nil {
		sampler.Ratio = *c.Tracing.Sample
	} else {
		var err error
		if sampler, err = SamplerFrom(os.Getenv); err != nil {
			return nil, fmt.Errorf("tracing: %w", err)
		}
	}
	var options []otlptracehttp.Option
	if c.Tracing.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(strings.TrimSuffix(c.Tracing.Endpoint, "/")+"/v1/traces"))
	}
	client, err := otlptrace.New(ctx, otlptracehttp.NewClient(options...))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// What is detected last counts: the environment has the last word.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "serve-nomad-proxy"),
		attribute.String("service.version", c.Version),
		attribute.String("service.instance.id", c.Name),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &tracer{sampler: sampler, queue: newQueue([]string{"User-Agent"}), failed: &atomic.Uint64{}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // it has been decided
		sdktrace.WithIDGenerator(givenIDs{}),
		sdktrace.WithBatcher(&exporter{SpanExporter: client, log: log, failed: t.failed},
			sdktrace.WithBlocking()), // the queue is what drops
	)
	t.tracer = t.provider.Tracer("github.com/serve-nomad/serve-nomad/telemetry", trace.WithInstrumentationVersion(c.Version))
	return t, nil
}

// join has the proxy take part in a request's trace.
func (t *tracer) join(r *proxy.Record) {
	r.Trace.Join(t.sampler.Keeps)
	if !t.sampler.ParentBased {
		r.Trace.Flags &^= 1
		if t.sampler.Keeps(r.Trace.ID) {
			r.Trace.Flags |= 1
		}
	}
}

func (t *tracer) note(r *proxy.Record) {
	if r.Trace.Sampled() {
		t.queue.put(r)
	}
}

// run makes and sends spans until ctx ends, and then what is left.
func (t *tracer) run(ctx context.Context) {
	stop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.queue.run(ctx, func(b *batch) {
			for i := range b.entries {
				t.spans(stop, b, &b.entries[i])
			}
		})
	}()
	<-ctx.Done()
	limit, over := context.WithTimeout(stop, closeTimeout)
	defer over()
	select {
	case <-done:
	case <-limit.Done():
	}
	// What cannot be sent by then is lost; the exporter has said so.
	_ = t.provider.Shutdown(limit)
	<-done
}

// exporter counts what cannot be sent, and tells of it now and then: a
// collector that is away is no reason to fill the log.
type exporter struct {
	sdktrace.SpanExporter
	log    hclog.Logger
	failed *atomic.Uint64
	told   time.Time // only one goroutine exports
}

// ExportSpans implements sdktrace.SpanExporter. It reports no error: whoever
// calls it would print it.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.told = time.Time{}
		return nil
	}
	for _, s := range spans {
		if s.SpanKind() == trace.SpanKindServer {
			e.failed.Add(1)
		}
	}
	if time.Since(e.told) >= failedTell {
		e.told = time.Now()
		e.log.Warn("tracing: spans cannot be sent; they are lost until they can", "error", err)
	}
	return nil
}
