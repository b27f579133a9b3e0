package proxy

import (
	"net/http"
	"strings"

	"github.com/serve-nomad/serve-nomad/health"
)

// asksProxy says whether a request is for the health service and for no
// application: then it is about the proxy itself.
func (t *transit) asksProxy(handle bool) bool {
	if !strings.HasPrefix(t.at.decoded, health.ServicePath) {
		return false
	}
	for _, name := range []string{applicationMetadata, deploymentMetadata} {
		if t.r.Header.Get(name) != "" {
			return false
		}
	}
	table := t.proxy.routing.Load()
	if table == nil {
		return true
	}
	if handle {
		_, fault := grpcByHandle(table, t)
		return fault != nil
	}
	return table.named(t.r.Host) == nil
}

// serveGRPCHealth answers by the proxy's readiness: with no service named, or
// with an application in its place, which then must be in the routing table.
// Only Check is there. A client that would rather Watch takes UNIMPLEMENTED for
// good health, by the service's own rules.
func (p *Proxy) serveGRPCHealth(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.URL.Path != health.CheckPath {
		writeGRPC(h, grpcUnimplemented, "the proxy's own health service has Check alone")
		return
	}
	service, ok := health.ReadRequest(r.Body)
	if !ok {
		writeGRPC(h, grpcInternal, "this is not a HealthCheckRequest")
		return
	}
	if table := p.routing.Load(); service != "" && (table == nil || table.byName[service] == nil) {
		writeGRPC(h, grpcNotFound, "there is no such application")
		return
	}
	h["Content-Type"] = []string{"application/grpc"}
	h[http.TrailerPrefix+"Grpc-Status"] = []string{"0"}
	_, _ = w.Write(health.Answer(p.notReady() == "")) // the client left, or reads it
}
