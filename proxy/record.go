package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
)

// Reasons of the proxy's own that a client never reads, because it has left or
// its response broke off. They are in a Record beside those of X-Serve-Error.
const (
	// codeClientGone: the client left before it had the whole response.
	codeClientGone = "client-gone"
	// codeBrokeOff: the replica ended its response before it was complete.
	codeBrokeOff = "response-broke-off"
	// codeInternal: a fault of the proxy.
	codeInternal = "internal"
)

// StatusClientGone is the status in the Record of a request whose client left
// before it was answered. No such response is ever sent; nginx writes the same.
const StatusClientGone = 499

// Observer is told of requests. Its methods are called on the request's own
// goroutine, by many at once: they must be fast, must not wait, and must not
// call the proxy.
type Observer interface {
	// Serves says that requests go to a version of a deployment now. What it
	// returns is in the Record of each request of that version, so that the
	// observer need not look anything up. It is called again when the same
	// version comes back.
	Serves(application, deployment, version string) Series
	// Began is told of a request before it is routed; what the record has is
	// arrived, id, request and what the client said of its trace. It may write
	// Trace.
	Began(r *Record)
	// Ended is told of a request that has ended, however it did. The record
	// and its request are valid until Ended returns.
	Ended(r *Record)
}

// Series is what an Observer keeps of one version of a deployment; the proxy
// does not look into it.
type Series any

// Record is what is known of one request when it has ended.
type Record struct {
	Request *http.Request
	ID      string // X-Request-Id
	Handle  bool   // it came on the port of the handles
	Trace   Trace

	Application string // "": none was found
	Generation  int    // of the application
	Deployment  string
	Prefix      string // taken off the path; "": nothing
	Version     string // deployment version of the replica, or where none was reached the one that takes traffic
	Series      Series // of that version; nil: none was found
	Replica     string // the last that it was sent to; "": none
	Node        string // of that replica
	Address     string // of that replica

	Status   int    // of HTTP, as sent; StatusClientGone: none was
	Code     string // of X-Serve-Error, or client-gone, response-broke-off, internal; "": the replica's answer in full
	GRPC     string // gRPC's own status, a number, as sent; "": it is not gRPC, or none was
	Received int64  // bytes of the request's body, or of a tunnel's way up
	Sent     int64  // bytes of the response's body, or of a tunnel's way down

	Arrived   time.Time
	Granted   time.Time // when it last got a replica; zero: never
	Queued    time.Duration
	FirstByte time.Duration // from arrival to the head of the response; 0: there was none
	Duration  time.Duration // from arrival to the end

	Tries   int // replicas that it was given to
	Unmet   int // of these, those that could not be connected to
	Resent  int // of these, those that followed a replica that died over it
	Dialled int // connections made for it
}

// Trace is a request's place in a trace, as W3C Trace Context has it
// (https://www.w3.org/TR/trace-context/).
type Trace struct {
	ID      [16]byte // zero: there is none
	Parent  [8]byte  // the client's span; zero: the client has none
	Span    [8]byte  // of the request in this proxy
	Replica [8]byte  // of the request at a replica, which the replica is told; zero: it is told what the client said
	Flags   byte     // bit 0: sampled
}

// Aborted says whether the client did not get a whole response, rather than one
// of the proxy's own.
func (r *Record) Aborted() bool {
	return r.Code == codeClientGone || r.Code == codeBrokeOff || (r.Code != "" && r.FirstByte > 0)
}

// Sampled says whether spans of the trace are kept.
func (t *Trace) Sampled() bool { return t.Flags&1 != 0 }

// Join takes part in the trace, or begins one: the replica is told of a span of
// its own. sampled says of a new trace whether its spans are kept.
func (t *Trace) Join(sampled func(id [16]byte) bool) {
	for t.ID == [16]byte{} {
		fillRandom(t.ID[:8])
		fillRandom(t.ID[8:])
		t.Flags = 2 // its low bits are random
		if sampled(t.ID) {
			t.Flags |= 1
		}
	}
	fillRandom(t.Span[:])
	fillRandom(t.Replica[:])
}

func fillRandom(b []byte) {
	for n := uint64(0); n == 0; { // an id of zeros is none
		n = rand.Uint64()
		for i := range b {
			b[i] = byte(n >> (8 * i))
		}
	}
}

// readTrace returns what a client says of its trace; nothing when that is not
// well formed, which ends the trace rather than the request.
func readTrace(h http.Header) (t Trace) {
	values := h["Traceparent"]
	if len(values) != 1 {
		return t
	}
	v := values[0]
	// version "-" trace-id "-" parent-id "-" flags; a later version may go on.
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || strings.HasPrefix(v, "ff") ||
		(len(v) > 55 && (strings.HasPrefix(v, "00") || v[55] != '-')) {
		return t
	}
	var version, flags [1]byte
	if !unhex(version[:], v[:2]) || !unhex(t.ID[:], v[3:35]) || !unhex(t.Parent[:], v[36:52]) || !unhex(flags[:], v[53:55]) ||
		t.ID == [16]byte{} || t.Parent == [8]byte{} {
		return Trace{}
	}
	t.Flags = flags[0] & 3 // the others mean nothing yet
	return t
}

// unhex reads lower-case hexadecimal, which is all that the header may have.
func unhex(dst []byte, s string) bool {
	for i := range dst {
		high, low := nibble(s[2*i]), nibble(s[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func nibble(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	}
	return 0xff
}

// traceparent is the header that the replica is sent; "": what the client sent.
func (t *Trace) traceparent() string {
	if t.Replica == [8]byte{} {
		return ""
	}
	b := make([]byte, 0, 55)
	b = hex.AppendEncode(append(b, "00-"...), t.ID[:])
	b = hex.AppendEncode(append(b, '-'), t.Replica[:])
	b = hex.AppendEncode(append(b, '-'), []byte{t.Flags})
	return string(b)
}

// observed says whether anybody is told of the request.
func (t *transit) observed() bool { return t.proxy.config.Observer != nil }

// observe begins the record.
func (t *transit) observe() {
	r := &t.record
	r.Request, r.ID, r.Arrived = t.r, t.head.id, t.arrived
	r.Trace = readTrace(t.r.Header)
	t.proxy.config.Observer.Began(r)
	t.head.traceparent = r.Trace.traceparent()
	if r.Trace.Parent != [8]byte{} {
		t.head.tracestate = t.r.Header["Tracestate"]
	}
}

// granted notes that the request has got a replica.
func (t *transit) granted(s *gate.Slot) {
	t.last = s
	if !t.observed() {
		return
	}
	r := &t.record
	r.Granted = time.Now()
	if r.Tries == 0 {
		r.Queued = r.Granted.Sub(r.Arrived)
	}
	r.Tries++
}

// answered notes that the head of the response has come, before it is sent.
func (t *transit) answered(status int) {
	t.compare(status)
	if !t.observed() {
		return
	}
	r := &t.record
	r.Status, r.FirstByte = status, time.Since(r.Arrived)
	if t.ctx.Err() != nil {
		r.Status, r.Code = StatusClientGone, codeClientGone
	}
}

// ended completes the record and hands it over.
func (t *transit) ended() {
	r := &t.record
	r.Duration = time.Since(r.Arrived)
	r.Unmet, r.Resent = t.dials, t.resends
	if t.gate != nil {
		r.Application, r.Generation, r.Deployment, r.Prefix = t.gate.Application, t.gate.Generation, t.gate.Deployment, t.head.prefix
	}
	switch {
	case t.last != nil:
		r.Replica, r.Address = t.last.Replica.ID, t.last.Address
		r.Node, r.Version, r.Series = t.last.Replica.Node, t.last.Replica.Version, t.last.Replica.Series
	case t.gate != nil:
		r.Queued = r.Duration
		r.Version, r.Series = t.gate.Serving()
	}
	r.Received = t.upfront.read
	if t.upload != nil && t.upload.finished() {
		r.Received += t.upload.received
	}
	if t.sending != nil {
		r.Received = t.sending.received()
	}
	if r.Status == 0 {
		r.Status, r.Code = http.StatusInternalServerError, codeInternal
	}
	t.proxy.config.Observer.Ended(r)
}
