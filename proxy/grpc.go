package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/routes"
)

// Status codes of gRPC (https://grpc.io/docs/guides/status-codes/).
const (
	grpcCancelled         = 1
	grpcDeadlineExceeded  = 4
	grpcNotFound          = 5
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// Metadata by which a gRPC request says whom it is for, and labels of the
// authority that say the same. The first is what Ray Serve takes.
const (
	applicationMetadata = "Application"
	deploymentMetadata  = "Deployment"
)

// maxTimeout is the longest time that a client can say it waits; what is longer
// means for ever.
const maxTimeout = time.Duration(1 << 62)

// isGRPC says whether a request is one of gRPC. gRPC-Web is not: it is HTTP like
// any other.
func isGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost {
		return false
	}
	kind := r.Header["Content-Type"]
	if len(kind) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(kind[0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// grpcByRoute finds the target of a gRPC request, whose path names a service and
// not an application: /package.Service/Method. It is the application that
// metadata names, or else the authority, or else a route prefix, or else the only
// one that there is.
func grpcByRoute(from *table, t *transit) (target, *errorBody) {
	if name := t.r.Header.Get(applicationMetadata); name != "" {
		a := from.byName[name]
		if a == nil {
			return target{}, noRoute("there is no such application as the metadata application names")
		}
		return grpcTarget(a, nil, "", t)
	}
	if a := from.named(t.r.Host); a != nil {
		return grpcTarget(a, nil, "", t)
	}
	for prefix := range routes.Prefixes(t.at.decoded) {
		if a := from.byPrefix[prefix]; a != nil && a.speaksGRPC() {
			return grpcTarget(a, nil, "", t)
		}
	}
	switch {
	case from.grpcOnly != nil:
		return grpcTarget(from.grpcOnly, nil, "", t)
	case from.grpcCount == 0:
		return target{}, noGRPC(`no application speaks gRPC: set protocol = "grpc" on its ingress deployment`)
	}
	return target{}, noRoute("several applications speak gRPC: name one by the metadata application, or as the first label of the authority")
}

// grpcByHandle finds the deployment that the metadata application and deployment
// name, or the authority <deployment>.<application>. The application is named as
// in the path of HTTP, with the generation; an authority, which has no '@', has
// that as a third label: <deployment>.<application>.<generation>.
func grpcByHandle(from *table, t *transit) (target, *errorBody) {
	application, deployment := t.r.Header.Get(applicationMetadata), t.r.Header.Get(deploymentMetadata)
	if application == "" && deployment == "" {
		labels := strings.SplitN(hostOnly(t.r.Host), ".", 4)
		if deployment = labels[0]; len(labels) > 1 {
			application = labels[1]
		}
		if len(labels) > 2 && isNumber(labels[2]) {
			application += "@" + labels[2]
		}
	}
	a, of := from.handled(application)
	if a == nil || of.gates[deployment] == nil {
		return target{}, noRoute("there is no such deployment: name one by the metadata application and deployment, or by the authority <deployment>.<application>")
	}
	return grpcTarget(a, of, deployment, t)
}

func isNumber(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// grpcTarget sends a request to a deployment of a generation, with its path as
// it is; nil: to the ingress of the one that is drawn.
func grpcTarget(a *application, of *generation, deployment string, t *transit) (target, *errorBody) {
	if of == nil && a.route.Closed {
		return target{}, noRoute("the application is being deleted")
	}
	if of == nil {
		of = a.draw(t)
		deployment = of.ingress
	}
	g := of.gates[deployment]
	switch {
	case g == nil:
		return target{}, &errorBody{
			Status: http.StatusServiceUnavailable, Code: codeNotReady,
			Message: "the application's ingress deployment is not in the routing table",
		}
	case !of.deployments[deployment].SpeaksHTTP2():
		return target{}, noGRPC(`the deployment does not speak gRPC: set protocol = "grpc" on it`)
	}
	return target{application: a, gate: g, rest: t.at.escaped}, nil
}

func noGRPC(message string) *errorBody {
	return &errorBody{Status: http.StatusNotFound, Code: codeNoGRPC, Message: message}
}

// named returns the application that speaks gRPC and is the first label of an
// authority, or nil.
func (t *table) named(authority string) *application {
	label, _, _ := strings.Cut(hostOnly(authority), ".")
	if a := t.byName[label]; a != nil && a.speaksGRPC() {
		return a
	}
	return nil
}

// speaksGRPC says whether gRPC can get to the application from outside.
func (a *application) speaksGRPC() bool {
	return !a.route.Closed && slices.ContainsFunc(a.generations, (*generation).speaksGRPC)
}

// countGRPC notes whether there is one application alone that speaks gRPC.
func (t *table) countGRPC() {
	for _, a := range t.byName {
		if !a.speaksGRPC() {
			continue
		}
		if t.grpcCount++; t.grpcCount == 1 {
			t.grpcOnly = a
		} else {
			t.grpcOnly = nil
		}
	}
}

// hostOnly returns an authority without its port.
func hostOnly(authority string) string {
	host, _, _ := strings.Cut(authority, ":")
	return host
}

// grpcTimeout returns how long a gRPC client waits, and whether it has said so.
// What is not well formed is the replica's to refuse.
func grpcTimeout(h http.Header) (time.Duration, bool) {
	values := h["Grpc-Timeout"]
	if len(values) != 1 || len(values[0]) < 2 || len(values[0]) > 9 {
		return 0, false
	}
	digits, unit := values[0][:len(values[0])-1], values[0][len(values[0])-1]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, false
	}
	scale := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[unit]
	// Eight digits of hours are more than a Duration holds.
	if scale > 0 && n > uint64(maxTimeout/scale) {
		return maxTimeout, true
	}
	return time.Duration(n) * scale, scale > 0
}

// limitByClient makes the client's own time the request's, if that ends sooner.
func (t *transit) limitByClient() {
	d, ok := grpcTimeout(t.r.Header)
	if !ok {
		return
	}
	if end := t.arrived.Add(d); t.deadline.IsZero() || end.Before(t.deadline) {
		t.deadline, t.hurried = end, true
	}
}

// setTimeout tells the replica how much is left of the request's time, which has
// run while it waited, and which the application may limit further.
func (t *transit) setTimeout(h http.Header) {
	if _, ok := grpcTimeout(t.r.Header); t.deadline.IsZero() || (!ok && len(h["Grpc-Timeout"]) > 0) {
		return
	}
	h["Grpc-Timeout"] = []string{formatGRPCTimeout(time.Until(t.deadline))}
}

// formatGRPCTimeout writes a duration in the finest unit in which it has no more
// than eight digits.
func formatGRPCTimeout(d time.Duration) string {
	const most = 99_999_999
	d = max(d, time.Microsecond)
	for _, u := range []struct {
		scale time.Duration
		name  string
	}{{time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}} {
		if n := d / u.scale; n <= most {
			return strconv.FormatInt(int64(n), 10) + u.name
		}
	}
	return strconv.FormatInt(most, 10) + "M"
}

// grpcStatus is the gRPC status of one of the proxy's own reasons.
//
// A full queue is RESOURCE_EXHAUSTED and not UNAVAILABLE, as in Ray Serve: the
// latter is what clients are commonly set to try again at once, and that is the
// last thing which an overloaded deployment needs. Those that try again after
// the former are told when, as HTTP clients are by Retry-After.
func grpcStatus(code string) int {
	switch code {
	case codeQueueFull, codeQueueBytes, codeTooLarge:
		return grpcResourceExhausted
	case codeTimeout, codeStalled:
		return grpcDeadlineExceeded
	case codeNoRoute:
		return grpcNotFound
	case codeNoGRPC, codeMethod, codeBadPath:
		return grpcUnimplemented
	case codeClientGone:
		return grpcCancelled
	case codeBadResponse, codeBadBody, codeInternal:
		return grpcInternal
	}
	return grpcUnavailable
}

// resetStatus is the gRPC status of a stream that a replica has reset
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors).
func resetStatus(reset http2.StreamError) (code int, message string) {
	message = "the replica reset the stream: " + reset.Code.String()
	switch reset.Code {
	case http2.ErrCodeRefusedStream:
		return grpcUnavailable, message
	case http2.ErrCodeCancel:
		return grpcCancelled, message
	case http2.ErrCodeEnhanceYourCalm:
		return grpcResourceExhausted, message
	case http2.ErrCodeInadequateSecurity:
		return grpcPermissionDenied, message
	default:
		return grpcInternal, message
	}
}

// httpStatus is what the end of a gRPC response says of its replica, in words of
// HTTP: its own refusals are no fault.
func httpStatus(res *http.Response) int {
	if res.StatusCode != http.StatusOK {
		return res.StatusCode
	}
	switch grpcStatusOf(res) {
	case "2", "13", "15": // UNKNOWN, INTERNAL, DATA_LOSS
		return http.StatusInternalServerError
	case "14": // UNAVAILABLE
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// grpcStatusOf is the gRPC status of a response that has been read to its end.
func grpcStatusOf(res *http.Response) string {
	if status := res.Trailer.Get("Grpc-Status"); status != "" {
		return status
	}
	return res.Header.Get("Grpc-Status") // the response is nothing else
}

// failGRPC answers with a gRPC status, in a response that has nothing else.
func (t *transit) failGRPC(code string, status int, message string) {
	if t.begun {
		return
	}
	t.begun = true
	t.record.Status, t.record.Code, t.record.GRPC = http.StatusOK, code, strconv.Itoa(status)
	h := t.w.Header()
	if seconds := h.Get("Retry-After"); seconds != "" {
		// For clients that try again: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
		h.Del("Retry-After")
		h["Grpc-Retry-Pushback-Ms"] = []string{seconds + "000"}
	}
	h["X-Request-Id"], h[errorHeader] = []string{t.head.id}, []string{code}
	writeGRPC(h, status, message)
	t.w.WriteHeader(http.StatusOK)
}

// writeGRPC makes h the header of a response without messages.
func writeGRPC(h http.Header, status int, message string) {
	h["Content-Type"], h["Content-Length"] = []string{"application/grpc"}, nil
	h["Grpc-Status"], h["Grpc-Message"] = []string{strconv.Itoa(status)}, []string{encodeGRPCMessage(message)}
}

// trailGRPC ends a response that has begun with a gRPC status. Where it is not
// one of gRPC, the client's stream or connection is aborted.
func (x *stream) trailGRPC(status int, message string) {
	if !x.grpc {
		panic(http.ErrAbortHandler)
	}
	x.record.GRPC = strconv.Itoa(status)
	h := x.w.Header()
	h[http.TrailerPrefix+"Grpc-Status"] = []string{x.record.GRPC}
	h[http.TrailerPrefix+"Grpc-Message"] = []string{encodeGRPCMessage(message)}
}

// encodeGRPCMessage percent-encodes what a header cannot hold.
func encodeGRPCMessage(s string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b == '%' {
			out.Write([]byte{'%', digits[b>>4], digits[b&15]})
		} else {
			out.WriteByte(b)
		}
	}
	return out.String()
}
