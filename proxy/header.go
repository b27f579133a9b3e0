package proxy

import (
	"bufio"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// hop says whether a header is about one connection and never forwarded.
func hop(key string) bool {
	switch key {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// ours says whether a request header is written by the proxy itself, or is not
// believed when a client sends it.
func ours(key string) bool {
	switch key {
	case "Host", "Content-Length", "Expect", "Forwarded", "X-Real-Ip", "X-Request-Id",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
		"X-Forwarded-Port", "X-Forwarded-Server",
		"Serve-Config-Hash": // the leader says it, and to the replica itself
		return true
	}
	return oursAlone(key)
}

// oursAlone says whether a header is what a proxy says of itself, which it does
// not pass on in either direction: a replica that could say that its queue is
// full would be believed to have done nothing.
func oursAlone(key string) bool { return strings.HasPrefix(key, "X-Serve-") }

// imitates says whether a header with an underscore becomes one of ours in a
// server that, as CGI does, takes '-' and '_' for the same.
func imitates(key string) bool {
	if strings.IndexByte(key, '_') < 0 {
		return false
	}
	key = textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(key, "_", "-"))
	return ours(key) || hop(key)
}

// connectionNames returns the headers that Connection says are about this
// connection alone.
func connectionNames(h http.Header) []string {
	values := h["Connection"]
	if len(values) == 0 {
		return nil
	}
	var names []string
	for _, value := range values {
		for token := range strings.SplitSeq(value, ",") {
			if token = textproto.TrimString(token); token != "" {
				names = append(names, textproto.CanonicalMIMEHeaderKey(token))
			}
		}
	}
	return names
}

// upgrade returns the protocol that the sender of h wants to change to, or "".
// h2c is not one of them: the replica's answers would no longer be HTTP/1.1
// requests that are counted one by one.
func upgrade(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	protocol := h.Get("Upgrade")
	for i := range len(protocol) {
		if b := protocol[i]; b <= ' ' || b >= 0x7f || b == ',' {
			return ""
		}
	}
	if strings.EqualFold(protocol, "h2c") {
		return ""
	}
	return protocol
}

// head is what the replica is sent ahead of the body.
type head struct {
	request   *http.Request
	target    string // path and query
	addresses string // of the client, and the proxies between
	scheme    string // that the client used
	prefix    string // what was taken off the path; "": nothing
	id        string // the request's id
	upgrade   string
	body      bool
	inner     bool // it came on the port of the handles, or is a copy

	traceparent string   // in place of the client's; "": the client's stays
	tracestate  []string // with it
}

// append adds the request's head to b. The headers have been checked for stray
// bytes by the server that read them.
func (h *head) append(b []byte) []byte {
	r := h.request
	names := connectionNames(r.Header)
	b = add(b, r.Method, " ", h.target, " HTTP/1.1\r\nHost: ", r.Host, "\r\n")
	for key, values := range r.Header {
		if hop(key) || ours(key) || slices.Contains(names, key) || imitates(key) || h.replaced(key) {
			continue
		}
		for _, v := range values {
			b = add(b, key, ": ", v, "\r\n")
		}
	}
	b = h.appendOwn(b)
	b = h.appendFraming(b)
	return add(b, "\r\n")
}

// replaced says whether a header does not go on as it came: because the proxy
// takes part in the request's trace, or because a client says that its request is
// a copy. Within the application, a replica that has got one may say so.
func (h *head) replaced(key string) bool {
	switch key {
	case "Traceparent", "Tracestate":
		return h.traceparent != ""
	case shadowHeader, "Serve_shadow":
		return !h.inner
	}
	return false
}

func (h *head) appendOwn(b []byte) []byte {
	r := h.request
	b = add(b, "X-Forwarded-For: ", h.addresses, "\r\nX-Forwarded-Host: ", r.Host,
		"\r\nX-Forwarded-Proto: ", h.scheme, "\r\nX-Request-Id: ", h.id, "\r\n")
	if h.prefix != "" {
		b = add(b, "X-Forwarded-Prefix: ", h.prefix, "\r\n")
	}
	if h.traceparent != "" {
		b = add(b, "Traceparent: ", h.traceparent, "\r\n")
		for _, v := range h.tracestate {
			b = add(b, "Tracestate: ", v, "\r\n")
		}
	}
	switch {
	case h.upgrade != "": // the options end there, trailers among them
		b = add(b, "Connection: Upgrade\r\nUpgrade: ", h.upgrade, "\r\n")
	case httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers"):
		b = add(b, "Connection: TE\r\nTe: trailers\r\n")
	}
	return b
}

func (h *head) appendFraming(b []byte) []byte {
	r := h.request
	switch {
	case !h.body:
		if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			b = add(b, "Content-Length: 0\r\n")
		}
		return b
	case r.ContentLength >= 0:
		b = add(b, "Content-Length: ", strconv.FormatInt(r.ContentLength, 10), "\r\n")
	default:
		b = add(b, "Transfer-Encoding: chunked\r\n")
		if len(r.Trailer) > 0 {
			keys := make([]string, 0, len(r.Trailer))
			for key := range r.Trailer {
				keys = append(keys, key)
			}
			b = add(b, "Trailer: ", strings.Join(keys, ", "), "\r\n")
		}
	}
	if expectsContinue(r) {
		b = add(b, "Expect: 100-continue\r\n")
	}
	return b
}

func expectsContinue(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
}

// copyResponseHeader copies what concerns the client of a response's header,
// and names the request's id.
func copyResponseHeader(dst, src http.Header, id string) {
	names := connectionNames(src)
	for key, values := range src {
		if hop(key) || oursAlone(key) || slices.Contains(names, key) {
			continue
		}
		dst[key] = values
	}
	dst["X-Request-Id"] = []string{id}
}

// copyUpgrade copies which protocols the sender of a 426 asks for, which is about
// this connection: an upgrade is passed on by the proxy.
func copyUpgrade(dst, src http.Header) {
	if protocols := src["Upgrade"]; len(protocols) > 0 {
		dst["Upgrade"] = protocols
		dst.Add("Connection", "upgrade")
	}
}

// lines writes to a bufio.Writer, which keeps the first error until Flush.
func lines(w *bufio.Writer, parts ...string) {
	for _, s := range parts {
		_, _ = w.WriteString(s)
	}
}

// add appends the parts to b.
func add(b []byte, parts ...string) []byte {
	for _, s := range parts {
		b = append(b, s...)
	}
	return b
}
