// Package health asks replicas whether they can serve, by the health check of their
// deployment: over HTTP/1.1 as Consul's own check does, over HTTP/2, or by gRPC's
// health service, whose messages it has for the proxy's own answers too. It asks
// once; when to ask, and what follows from an answer, is the caller's to know.
package health

import (
	"net/http"
	"strings"

	"github.com/serve-nomad/serve-nomad/routes"
)

// maxPath bounds the path that is asked for, in bytes.
const maxPath = 1024

// Check is how replicas are asked whether they can serve. The zero value:
// they are not.
type Check struct {
	Protocol string // "": HTTP/1.1
	Path     string // of h2c, "": its greeting is an answer
	Service  string // of gRPC
}

// CheckOf takes over what the routing table says, as far as it can be asked.
func CheckOf(d routes.Deployment) Check {
	c := Check{Protocol: d.Protocol, Path: d.HealthPath}
	switch {
	case d.Protocol == routes.ProtocolGRPC:
		return Check{Protocol: d.Protocol, Service: d.HealthService}
	case d.Protocol != routes.ProtocolH2C:
		c.Protocol = ""
	}
	if c.Path != "" && !isPath(c.Path) {
		return Check{}
	}
	return c
}

// isPath says whether path can stand in a request line: whoever may write
// to the table must not make requests of his own out of it.
func isPath(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= maxPath &&
		!strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isServing says whether a health check's status means that a replica can
// serve: the same as Consul's own HTTP check takes for it.
func isServing(status int) bool {
	return status >= http.StatusOK && status < http.StatusMultipleChoices
}
