package telemetry

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// queueSpanFrom is from when on a wait for a replica has a span of its own.
const queueSpanFrom = time.Millisecond

// spans makes the spans of a request: of the request as a whole; of its wait
// for a replica, if it was one; and of the request at the replica, which is the
// parent of what the replica itself tells. Names and attributes are those of
// OpenTelemetry's conventions for HTTP
// (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
func (t *tracer) spans(b *batch, e *entry) {
	fields, ctx := b.fields(e), context.Background()
	end := e.Arrived.Add(e.Duration)
	if e.Trace.Parent != [8]byte{} {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: e.Trace.ID, SpanID: e.Trace.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	method := string(fields[fieldMethod])
	name := method
	if e.Application != "" {
		name += " " + route(e)
	}
	ctx, server := t.tracer.Start(withID(ctx, e.Trace.ID, e.Trace.Span), name,
		trace.WithTimestamp(e.Arrived), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(serverAttributes(e, fields[:], method)...))
	if e.Queued >= queueSpanFrom {
		_, wait := t.tracer.Start(withID(ctx, e.Trace.ID, randomID()), "wait for a replica", trace.WithTimestamp(e.Arrived))
		wait.End(trace.WithTimestamp(e.Arrived.Add(e.Queued)))
	}
	if !e.Granted.IsZero() {
		_, client := t.tracer.Start(withID(ctx, e.Trace.ID, e.Trace.Replica), method,
			trace.WithTimestamp(e.Granted), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(clientAttributes(e, method)...))
		if e.Status >= http.StatusBadRequest || e.Code != "" || failed(&e.Record) {
			client.SetStatus(codes.Error, e.Code)
		}
		if e.FirstByte > 0 {
			client.AddEvent("first byte", trace.WithTimestamp(e.Arrived.Add(e.FirstByte)))
		}
		client.End(trace.WithTimestamp(end))
	}
	if failed(&e.Record) {
		server.SetStatus(codes.Error, e.Code)
	}
	server.End(trace.WithTimestamp(end))
}

// route is the low-cardinality name of where the request went.
func route(e *entry) string {
	if e.Prefix == "" {
		return "/"
	}
	return e.Prefix
}

func serverAttributes(e *entry, fields [][]byte, method string) []attribute.KeyValue {
	list := append(make([]attribute.KeyValue, 0, 20),
		attribute.String("http.request.method", method),
		attribute.String("url.path", escapedPath(fields)),
		attribute.String("url.scheme", e.scheme()),
		attribute.String("server.address", string(fields[fieldHost])),
		attribute.String("network.protocol.version", protocolVersion(string(fields[fieldProtocol]))),
		attribute.Int("http.response.status_code", e.Status),
		attribute.Int64("http.request.body.size", e.Received),
		attribute.Int64("http.response.body.size", e.Sent),
		attribute.String("serve_nomad.request_id", string(fields[fieldID])),
	)
	if host, port, err := net.SplitHostPort(string(fields[fieldClient])); err == nil {
		list = append(list, attribute.String("client.address", host))
		list = appendPort(list, "client.port", port)
	}
	if agent := fields[fieldHeaders]; len(agent) > 0 {
		list = append(list, attribute.String("user_agent.original", string(agent)))
	}
	if e.Application != "" {
		list = append(list,
			attribute.String("http.route", route(e)),
			attribute.String("serve_nomad.application", e.Application),
			attribute.Int("serve_nomad.generation", e.Generation),
			attribute.String("serve_nomad.deployment", e.Deployment),
			attribute.String("serve_nomad.version", e.Version))
	}
	if code, err := strconv.Atoi(e.GRPC); err == nil {
		list = append(list, attribute.Int("rpc.grpc.status_code", code))
	}
	return appendErrorType(list, e)
}

func clientAttributes(e *entry, method string) []attribute.KeyValue {
	list := append(make([]attribute.KeyValue, 0, 8),
		attribute.String("http.request.method", method),
		attribute.String("serve_nomad.replica", e.Replica),
		attribute.Int("serve_nomad.tries", e.Tries),
	)
	if e.Node != "" {
		list = append(list, attribute.String("serve_nomad.node", e.Node))
	}
	if host, port, err := net.SplitHostPort(e.Address); err == nil {
		list = append(list, attribute.String("server.address", host))
		list = appendPort(list, "server.port", port)
	}
	if e.FirstByte > 0 {
		list = append(list, attribute.Int("http.response.status_code", e.Status))
	}
	return appendErrorType(list, e)
}

func appendPort(list []attribute.KeyValue, key, port string) []attribute.KeyValue {
	if n, err := strconv.Atoi(port); err == nil {
		list = append(list, attribute.Int(key, n))
	}
	return list
}

func appendErrorType(list []attribute.KeyValue, e *entry) []attribute.KeyValue {
	switch {
	case e.Code != "":
		return append(list, attribute.String("error.type", e.Code))
	case e.GRPC != "" && failed(&e.Record):
		return append(list, attribute.String("error.type", e.GRPC))
	case e.Status >= http.StatusInternalServerError:
		return append(list, attribute.String("error.type", strconv.Itoa(e.Status)))
	}
	return list
}

// protocolVersion is "1.1" of "HTTP/1.1", and "2" of "HTTP/2.0".
func protocolVersion(proto string) string {
	switch proto {
	case "HTTP/2.0":
		return "2"
	case "HTTP/1.0":
		return "1.0"
	}
	return "1.1"
}

// givenIDs has a span bear the id that its request was forwarded under.
type givenIDs struct{}

type idsKey struct{}

type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

func withID(ctx context.Context, traceID [16]byte, spanID [8]byte) context.Context {
	return context.WithValue(ctx, idsKey{}, ids{traceID, spanID})
}

// NewIDs implements sdktrace.IDGenerator.
func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	given, _ := ctx.Value(idsKey{}).(ids)
	return given.trace, given.span
}

// NewSpanID implements sdktrace.IDGenerator.
func (givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	given, _ := ctx.Value(idsKey{}).(ids)
	return given.span
}

func randomID() (id [8]byte) {
	for id == [8]byte{} {
		for i, n := 0, rand.Uint64(); i < len(id); i, n = i+1, n>>8 {
			id[i] = byte(n)
		}
	}
	return id
}
