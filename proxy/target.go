package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/serve-nomad/serve-nomad/gate"
)

// target is where a request goes.
type target struct {
	application *application
	gate        *gate.Gate
	prefix      string // taken off the path; "": nothing
	rest        string // what the replica sees of the path, escaped
}

// finder finds a request's target in a table, or says why it has none.
type finder func(from *table, t *transit) (target, *errorBody)

// Handler serves the public port: a request goes to the ingress deployment of
// the application with the longest route prefix, which is taken off the path.
func (p *Proxy) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, byRoute, false) })
}

// HandleHandler serves the port of the handles: a request for
// /<application>/<deployment>/rest, or of another generation than 0
// /<application>@<generation>/<deployment>/rest, goes to that deployment as /rest.
func (p *Proxy) HandleHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, byName, true) })
}

func byRoute(from *table, t *transit) (target, *errorBody) {
	a := from.match(t.at.decoded)
	if a == nil {
		return target{}, noRoute("no application has a route for this path")
	}
	g := a.draw(t).front()
	if g == nil {
		return target{}, &errorBody{
			Status: http.StatusServiceUnavailable, Code: codeNotReady,
			Message: "the application's ingress deployment is not in the routing table",
		}
	}
	return target{application: a, gate: g, prefix: a.prefix, rest: t.at.without(a.segments)}, nil
}

func byName(from *table, t *transit) (target, *errorBody) {
	name, rest, _ := strings.Cut(t.at.decoded[1:], "/")
	deployment, _, _ := strings.Cut(rest, "/")
	a, of := from.handled(name)
	if a == nil {
		return target{}, noRoute("there is no such application")
	}
	g := of.gates[deployment]
	if g == nil {
		return target{}, noRoute("the application has no such deployment")
	}
	// As the caller has it: what the replica makes of it leads to its generation.
	return target{application: a, gate: g, prefix: "/" + name + "/" + deployment, rest: t.at.without(2)}, nil
}

func noRoute(message string) *errorBody {
	return &errorBody{Status: http.StatusNotFound, Code: codeNoRoute, Message: message}
}

// serve answers what is asked of the proxy itself, and forwards the rest.
// handle says that it came on the port of the handles.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, find finder, handle bool) {
	arrived := time.Now()
	p.lastOnConnection(w.Header())
	at, err := parsePath(r.URL)
	if err == nil && isControl(at.decoded) && r.Method != http.MethodConnect {
		p.serveControl(w, r, !p.config.HideAdmin)
		return
	}
	t := p.transit(w, r, requestID(r.Header), arrived)
	t.find, t.at, t.head.inner = find, at, handle
	if t.grpc {
		if t.asksProxy(handle) {
			p.serveGRPCHealth(w, r)
			return
		}
		if t.find = grpcByRoute; handle {
			t.find = grpcByHandle
		}
	}
	if t.observed() {
		t.record.Handle = handle
		t.observe()
		defer t.ended()
	}
	if fault := t.route(err); fault != nil {
		t.fail(fault.Status, fault.Code, fault.Message)
		return
	}
	t.run()
}

// route finds the request's target. badPath is what is wrong with its path.
func (t *transit) route(badPath error) *errorBody {
	switch {
	// HTTP/2 carries any method, and the server does not look: one with spaces
	// would be a request line of its own when it is written to a replica.
	case !httpguts.ValidHeaderFieldName(t.r.Method):
		return &errorBody{Status: http.StatusBadRequest, Code: codeMethod, Message: "the method is not a word"}
	case t.r.Method == http.MethodConnect:
		return &errorBody{Status: http.StatusMethodNotAllowed, Code: codeMethod, Message: "CONNECT is not served here"}
	case badPath != nil:
		return &errorBody{Status: http.StatusBadRequest, Code: codeBadPath, Message: badPath.Error()}
	case t.r.ProtoMajor == 2:
		if fault := checkHTTP2(t.r); fault != nil {
			return fault
		}
	}
	table := t.proxy.routing.Load()
	if table == nil {
		t.w.Header().Set("Retry-After", "1")
		return &errorBody{Status: http.StatusServiceUnavailable, Code: codeNotReady, Message: t.proxy.notReady()}
	}
	to, fault := t.find(table, t)
	if fault != nil {
		return fault
	}
	t.aim(to)
	return t.boundBody(to.application.route.MaxBodyBytes)
}

// transit prepares a request's way, but for where it leads.
func (p *Proxy) transit(w http.ResponseWriter, r *http.Request, id string, arrived time.Time) *transit {
	t := &transit{proxy: p, w: w, control: *http.NewResponseController(w), r: r, arrived: arrived}
	t.head = head{request: r, id: id, body: hasBody(r)}
	t.head.addresses, t.head.scheme = p.origin(r)
	t.grpc = isGRPC(r)
	if t.head.body {
		t.body = r
	} else if r.ProtoMajor == 1 && r.ProtoMinor == 1 { // HTTP/1.0 has no such thing
		t.head.upgrade = upgrade(r.Header)
	}
	return t
}

// aim sends the request to a target.
func (t *transit) aim(to target) {
	timeout := to.application.route.RequestTimeout
	t.application, t.gate = to.application, to.gate
	t.patience, t.deadline = max(t.proxy.config.Linger, timeout), time.Time{}
	if timeout > 0 {
		t.deadline = t.arrived.Add(timeout)
	}
	if t.grpc {
		t.limitByClient()
	}
	t.head.prefix, t.head.target = to.prefix, to.rest
	if t.r.URL.RawQuery != "" || t.r.URL.ForceQuery {
		t.head.target += "?" + t.r.URL.RawQuery
	}
}

// aimAgain finds the request's target in the table of now, because the one that
// it waited for is no longer there: a new version of an application may have
// another ingress, a generation may have gone, and a route may have gone to
// another application.
func (t *transit) aimAgain() bool {
	to, fault := t.find(t.proxy.routing.Load(), t)
	if fault != nil || t.moves >= maxMoves {
		return false
	}
	t.moves++
	t.aim(to)
	return true
}

// redirect aims the request at another generation, where there is one that can
// serve it. The ticket is for where it goes.
func (t *transit) redirect(ticket *gate.Ticket) *gate.Ticket {
	to, fault := t.find(t.proxy.routing.Load(), t)
	if fault != nil || to.gate == t.gate || t.sending != nil {
		return ticket
	}
	t.aim(to)
	ticket = t.ticket()
	ticket.Again = true
	return ticket
}

func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// requestID returns the client's own id for the request, if it is one that can
// be passed on and logged, else a new one.
func requestID(h http.Header) string {
	id := h.Get("X-Request-Id")
	ok := id != "" && len(id) <= 128
	for i := 0; ok && i < len(id); i++ {
		ok = id[i] > ' ' && id[i] < 0x7f
	}
	if ok {
		return id
	}
	var b [16]byte
	high, low := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	return hex.EncodeToString(b[:])
}
