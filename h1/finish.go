package h1

import (
	"net/http"
	"strconv"
	"strings"
)

// decide settles how the body ends, and whether the connection does, and ends
// the head. complete says that all of the body is pending. The rules are those
// of net/http's server.
func (r *response) decide(complete bool) {
	l, h := &r.work.line, &r.work.headers
	isHead := l.method == http.MethodHead
	if complete && r.length < 0 && !r.pseudo && !r.coded && bodyAllowed(r.status) && (!isHead || len(r.pending) > 0) {
		r.length, r.hasLength = int64(len(r.pending)), true
	}
	keeps := r.c.server.keepsAlive()
	asked := l.minor == 0 && h.keepAlive && !h.close
	canKeep := isHead || r.length >= 0 || !bodyAllowed(r.status)
	r.closes = !keeps || h.close || (l.minor == 0 && (!asked || !canKeep)) ||
		r.hasConnection && hasToken(r.connection, "close") || r.work.tooMuchLeft() ||
		r.status == http.StatusSwitchingProtocols
	switch {
	case isHead || !bodyAllowed(r.status):
		r.framing = bodiless
	case r.length >= 0:
		r.framing = counted
	case l.minor == 1 && !r.identity:
		r.framing = inChunks
		r.out = append(r.out, "Transfer-Encoding: chunked\r\n"...)
	default:
		r.framing, r.closes = toTheEnd, true
	}
	if r.hasLength && bodyAllowed(r.status) {
		r.out = append(r.out, "Content-Length: "...)
		r.out = strconv.AppendInt(r.out, r.length, 10)
		r.out = append(r.out, "\r\n"...)
	}
	if !r.hasDate {
		r.out = append(r.out, r.c.server.date()...)
	}
	r.connectionField(asked)
	r.out = append(r.out, "\r\n"...)
	r.passPending()
}

// connectionField says what becomes of the connection.
func (r *response) connectionField(asked bool) {
	switch {
	case r.status == http.StatusSwitchingProtocols && r.hasConnection:
		r.field("Connection", []string{r.connection})
	case r.closes && (r.work.line.minor == 1 || hasToken(r.connection, "close")):
		r.out = append(r.out, "Connection: close\r\n"...)
	case r.closes:
	case r.hasConnection:
		r.field("Connection", []string{r.connection})
	case asked:
		r.out = append(r.out, "Connection: keep-alive\r\n"...)
	}
}

// passPending frames what was held back while the framing was not decided.
func (r *response) passPending() {
	switch r.framing {
	case undecided, inChunks:
	case bodiless:
		r.pending = r.pending[:0]
	case counted, toTheEnd:
		r.out = append(r.out, r.pending...)
		r.pending = r.pending[:0]
	}
}

// finish sends what is left of the response, and says whether the connection can
// be kept.
func (r *response) finish() (keep bool) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.framing == undecided {
		r.decide(true)
	}
	if r.framing == inChunks {
		r.chunk()
		r.out = append(r.out, "0\r\n"...)
		r.sendTrailers()
		r.out = append(r.out, "\r\n"...)
	}
	r.send()
	short := r.framing == counted && r.written != r.length
	return r.err == nil && !r.closes && !short
}

func (r *response) sendTrailers() {
	if !r.pseudo && len(r.header) == 0 {
		return
	}
	for name, values := range r.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			r.field(name, values)
		}
	}
	for _, name := range r.trailers {
		r.field(name, r.header[name])
	}
}

// passesAsTrailer says whether a response may have the trailer: not one that
// concerns framing, routing, control or the body's meaning, by RFC 9110,
// section 6.5.1.
func passesAsTrailer(name string) bool {
	switch name {
	case "", "Authorization", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
		"Content-Type", "Expect", "Host", "Keep-Alive", "Max-Forwards", "Pragma", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Connection", "Range", "Realm", "Te", "Trailer", "Transfer-Encoding", "Www-Authenticate":
		return false
	}
	return !strings.HasPrefix(name, "If-")
}
