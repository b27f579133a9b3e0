package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
)

// What X-Serve-Error says: which of the proxy's own reasons a response has.
const (
	codeBadPath     = "bad-path"
	codeBadHost     = "bad-host"
	codeBadBody     = "bad-body"
	codeStalled     = "stalled"
	codeTooLarge    = "body-too-large"
	codeNoRoute     = "no-route"
	codeNotReady    = "not-ready"
	codeGone        = "gone"
	codeQueueFull   = "queue-full"
	codeQueueBytes  = "queue-bytes"
	codeTimeout     = "timeout"
	codeUnreachable = "no-replica-reached"
	codeReplicaDied = "replica-died"
	codeBadResponse = "bad-response"
	codeMethod      = "method"
	codeNoGRPC      = "no-grpc"
)

// errorHeader carries the reason of a response that is the proxy's own.
const errorHeader = "X-Serve-Error"

// errorBody is the body of such a response.
type errorBody struct {
	Status    int    `json:"-"`
	Code      string `json:"code"`
	Message   string `json:"error"`
	RequestID string `json:"request_id,omitempty"`
}

func writeError(w http.ResponseWriter, e errorBody) {
	h := w.Header()
	h.Set(errorHeader, e.Code)
	if e.RequestID != "" {
		h.Set("X-Request-Id", e.RequestID)
	}
	writeJSON(w, e.Status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client left, or reads it
}

func setRetryAfter(h http.Header, d time.Duration) {
	h.Set("Retry-After", strconv.Itoa(max(1, int((d+time.Second-1)/time.Second))))
}

// Status is what the proxy knows and does at the moment.
type Status struct {
	Ready       bool               `json:"ready"`
	Reason      string             `json:"reason,omitempty"` // why it is not ready
	Discovery   string             `json:"discovery_error,omitempty"`
	Stale       float64            `json:"discovery_stale_seconds,omitempty"` // for how long discovery_error has been
	Draining    bool               `json:"draining"`
	Lingering   int                `json:"lingering"`             // tunnels, and requests whose client left before the replica finished
	Reporting   *ReportingStatus   `json:"reporting,omitempty"`   // absent: nothing is reported
	Gatekeeper  *gatekeeper.Status `json:"gatekeeper,omitempty"`  // absent: this proxy counts alone
	Ports       any                `json:"ports,omitempty"`       // what Config.Ports says
	Generations []GenerationStatus `json:"generations,omitempty"` // of applications that have several
	Deployments []gate.Status      `json:"deployments"`
}

// Status returns a snapshot.
func (p *Proxy) Status() Status {
	reason := p.notReady()
	s := Status{
		Ready: reason == "", Reason: reason, Draining: p.draining.Load(),
		Lingering: p.busy.count(), Generations: p.routing.Load().rollouts(), Deployments: []gate.Status{},
	}
	if p.reporter != nil {
		s.Reporting = p.reporter.status()
	}
	if p.config.Ports != nil {
		s.Ports = p.config.Ports()
	}
	if p.config.Slots != nil {
		part := p.config.Slots.Status()
		s.Gatekeeper = &part
	}
	p.mu.Lock()
	if s.Discovery = p.viewError; s.Discovery != "" {
		s.Stale = time.Since(p.staleSince).Seconds()
	}
	gates := p.sortedGates()
	p.mu.Unlock()
	for _, g := range gates {
		s.Deployments = append(s.Deployments, g.Status())
	}
	return s
}

// notReady says why the proxy should get no requests; "": it should.
func (p *Proxy) notReady() string {
	switch {
	case p.draining.Load() && !p.succeeded.Load():
		return "this proxy is draining"
	case p.routing.Load() == nil:
		return "this proxy has not seen the routing table yet"
	}
	return ""
}

// AdminHandler serves all that is below /-/, and nothing else.
func (p *Proxy) AdminHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serveControl(w, r, true) })
}

// serveControl answers what is asked of the proxy itself, below /-/; not all of
// it on every port, but health always.
func (p *Proxy) serveControl(w http.ResponseWriter, r *http.Request, all bool) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	// An error means that the connection is dead, which the write says.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.limits.Load().ClientStall))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		writeError(w, errorBody{Status: http.StatusMethodNotAllowed, Code: codeMethod, Message: "only GET and HEAD"})
		return
	}
	switch path := r.URL.Path; {
	case path == "/-/healthz":
		p.serveHealth(w)
	case path == "/-/routes" && all:
		p.serveRoutes(w)
	case path == "/-/status" && all:
		writeJSON(w, http.StatusOK, p.Status())
	case path == "/-/metrics" && all && p.config.Metrics != nil:
		p.config.Metrics.ServeHTTP(w, r)
	case all:
		writeError(w, errorBody{
			Status: http.StatusNotFound, Code: codeNoRoute,
			Message: "below /-/ there are healthz, routes, status and metrics",
		})
	default:
		writeError(w, errorBody{Status: http.StatusNotFound, Code: codeNoRoute, Message: "below /-/ there is healthz on this port"})
	}
}

func (p *Proxy) serveHealth(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	text := "success\n"
	if reason := p.notReady(); reason != "" {
		text = reason + "\n"
		h.Set(errorHeader, codeNotReady)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprint(w, text) // the client left, or reads it
}

func (p *Proxy) serveRoutes(w http.ResponseWriter) {
	prefixes := map[string]string{}
	status := http.StatusServiceUnavailable
	if table := p.routing.Load(); table != nil {
		status = http.StatusOK
		for prefix, a := range table.byPrefix {
			prefixes[prefix] = a.route.Application
		}
	}
	writeJSON(w, status, prefixes)
}

func isControl(decoded string) bool {
	return strings.HasPrefix(decoded, "/-/") || decoded == "/-"
}
