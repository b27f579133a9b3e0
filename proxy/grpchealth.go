package proxy

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// gRPC's health service, which replicas have, and the proxy itself
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
const (
	healthService   = "/grpc.health.v1.Health/"
	healthCheckPath = healthService + "Check"

	healthServing    = 1
	healthNotServing = 2

	maxHealthRequest = 4 << 10 // bytes
)

// asksProxy says whether a request is for the health service and for no
// application: then it is about the proxy itself.
func (t *transit) asksProxy(handle bool) bool {
	if !strings.HasPrefix(t.at.decoded, healthService) {
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
		_, fault := grpcByHandle(table, t.at, t.r)
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
	if r.URL.Path != healthCheckPath {
		writeGRPC(h, grpcUnimplemented, "the proxy's own health service has Check alone")
		return
	}
	service, ok := readHealthRequest(r.Body)
	if !ok {
		writeGRPC(h, grpcInternal, "this is not a HealthCheckRequest")
		return
	}
	if table := p.routing.Load(); service != "" && (table == nil || table.byName[service] == nil) {
		writeGRPC(h, grpcNotFound, "there is no such application")
		return
	}
	status := byte(healthServing)
	if p.notReady() != "" {
		status = healthNotServing
	}
	h["Content-Type"] = []string{"application/grpc"}
	h[http.TrailerPrefix+"Grpc-Status"] = []string{"0"}
	_, _ = w.Write(grpcMessage([]byte{1 << 3, status})) // the client left, or reads it
}

// grpcMessage frames a message that is not compressed.
func grpcMessage(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

func healthRequest(service string) []byte {
	var b []byte
	if service != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), service)
	}
	return grpcMessage(b)
}

// readHealthRequest returns the service that is asked for.
func readHealthRequest(body io.Reader) (service string, ok bool) {
	b, err := io.ReadAll(io.LimitReader(body, maxHealthRequest))
	if err != nil {
		return "", false
	}
	message, ok := unframe(b)
	for ok && len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", false
		}
		message = message[n:]
		if number == 1 && kind == protowire.BytesType {
			value, n := protowire.ConsumeString(message)
			if n < 0 {
				return "", false
			}
			service, message = value, message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return "", false
		}
		message = message[n:]
	}
	return service, ok
}

// unframe returns the one message of a body, if it is not compressed.
func unframe(b []byte) (message []byte, ok bool) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return nil, false
	}
	return b[5:], true
}

// saysServing says whether the answer of a health service is SERVING.
func saysServing(body []byte) bool {
	message, ok := unframe(body)
	serving := false
	for ok && len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		message = message[n:]
		if number == 1 && kind == protowire.VarintType {
			value, n := protowire.ConsumeVarint(message)
			serving, ok = value == healthServing, n >= 0
			message = message[max(n, 0):]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return false
		}
		message = message[n:]
	}
	return ok && serving
}
