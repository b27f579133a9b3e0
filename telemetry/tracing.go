package telemetry

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
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
	sendInterval = time.Second
	sendTimeout  = 10 * time.Second // of one batch, with what is tried again
	closeTimeout = 3 * time.Second
	sendAtOnce   = 1024 // requests whose spans are sent together
	failedTell   = time.Minute
)

// tracer makes spans of records, after the fact, and sends them, on a goroutine
// of its own.
type tracer struct {
	sampler Sampler
	log     hclog.Logger
	queue   *queue // of requests whose spans are to be made

	// Of the goroutine that sends.
	client   *otlptrace.Exporter
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	ended    *ended
	told     time.Time // that sending fails; zero: it does not
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

func newTracer(ctx context.Context, c Config, count *outcomes, log hclog.Logger) (*tracer, error) {
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
	t := &tracer{
		sampler: sampler, log: log, queue: newQueue([]string{"User-Agent"}, sendInterval, count),
		client: client, ended: &ended{},
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // it has been decided
		sdktrace.WithIDGenerator(givenIDs{}),
		sdktrace.WithSpanProcessor(t.ended),
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

// note has spans made of the request, if its trace is kept and it took part in
// it from its beginning. false says that another tracer has taken this one's
// place.
func (t *tracer) note(r *proxy.Record) bool {
	if r.Trace.Sampled() && r.Trace.Span != [8]byte{} {
		return t.queue.put(r)
	}
	return true
}

// run makes and sends spans until ctx ends or the tracer retires, and then what
// is left, for a few seconds at most.
func (t *tracer) run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		select {
		case <-ctx.Done():
		case <-t.queue.retired:
		case <-sending.Done():
			return
		}
		time.AfterFunc(closeTimeout, cancel)
	}()
	t.queue.run(ctx, func(b *batch) {
		for part := range slices.Chunk(b.entries, sendAtOnce) {
			for i := range part {
				if sending.Err() != nil {
					break // it is too late for these
				}
				t.spans(b, &part[i])
			}
			t.send(sending, len(part))
		}
	})
	// Nothing is left, and nothing can be done about a client that does not end.
	_ = t.provider.Shutdown(sending)
	_ = t.client.Shutdown(sending)
}

// send sends the spans of so many requests. A collector that is away is no
// reason to fill the log.
func (t *tracer) send(ctx context.Context, requests int) {
	limit, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	err := t.client.ExportSpans(limit, t.ended.take())
	if err == nil {
		t.told = time.Time{}
		return
	}
	t.queue.count.failed.Add(uint64(requests))
	if time.Since(t.told) >= failedTell {
		t.told = time.Now()
		t.log.Warn("tracing: spans cannot be sent; they are lost until they can", "error", err)
	}
}

// ended keeps the spans that have ended until they are sent. One goroutine makes
// them and sends them.
type ended struct{ spans []sdktrace.ReadOnlySpan }

func (e *ended) take() []sdktrace.ReadOnlySpan {
	spans := e.spans
	e.spans = nil
	return spans
}

// OnStart implements sdktrace.SpanProcessor.
func (e *ended) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (e *ended) OnEnd(s sdktrace.ReadOnlySpan) { e.spans = append(e.spans, s) }

// Shutdown implements sdktrace.SpanProcessor.
func (e *ended) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (e *ended) ForceFlush(context.Context) error { return nil }
