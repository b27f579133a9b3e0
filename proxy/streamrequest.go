package proxy

import (
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/net/http/httpguts"
)

// request is what the replica is sent.
func (x *stream) request() *http.Request {
	out := &http.Request{
		Method: x.r.Method, Host: x.r.Host, Header: x.head.header(),
		// Opaque goes out as it is.
		URL:   &url.URL{Scheme: "http", Host: x.conn.Address, Opaque: x.head.target},
		Proto: "HTTP/2.0", ProtoMajor: 2,
	}
	if x.grpc {
		x.setTimeout(out.Header)
	}
	if x.sending != nil {
		out.Body, out.ContentLength = x.sending, x.r.ContentLength
		if out.ContentLength < 0 {
			out.Trailer = trailersFor(x.r.Trailer)
			x.sending.trailer = out.Trailer
		}
	}
	return out.WithContext(x.ctx)
}

// trailersFor returns the trailers that a replica is promised, without values.
func trailersFor(t http.Header) http.Header {
	var out http.Header
	for key := range t {
		if hop(key) || ours(key) || imitates(key) || !httpguts.ValidHeaderFieldName(key) {
			continue
		}
		if out == nil {
			out = http.Header{}
		}
		out[key] = nil
	}
	return out
}

// header is what write puts on an HTTP/1.1 connection, as HTTP/2 wants it.
func (h *head) header() http.Header {
	r := h.request
	names := connectionNames(r.Header)
	out := make(http.Header, len(r.Header)+8)
	kept := keptValues(r)
	for key, values := range r.Header {
		if hop(key) || ours(key) || slices.Contains(names, key) || imitates(key) || h.replaced(key) {
			continue
		}
		out[key] = kept(values)
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // else it would be ours
	}
	out["X-Forwarded-For"], out["X-Forwarded-Host"] = []string{h.addresses}, []string{r.Host}
	out["X-Forwarded-Proto"], out["X-Request-Id"] = []string{h.scheme}, []string{h.id}
	if h.prefix != "" {
		out["X-Forwarded-Prefix"] = []string{h.prefix}
	}
	if h.traceparent != "" {
		out["Traceparent"] = []string{h.traceparent}
		if len(h.tracestate) > 0 {
			out["Tracestate"] = kept(h.tracestate)
		}
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	return out
}

// keptValues returns what makes a header's values last for longer than the
// request: a stream that is given up may still be about to send them, while our
// own server of HTTP/1.1 uses them for the next request.
func keptValues(r *http.Request) func(values []string) []string {
	if r.ProtoMajor != 1 {
		return func(values []string) []string { return values }
	}
	all := make([]string, 0, len(r.Header)+4)
	return func(values []string) []string {
		start := len(all)
		all = append(all, values...)
		return all[start:len(all):len(all)]
	}
}
