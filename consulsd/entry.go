package consulsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/routes"
)

// Bounds on one entry of the routing table.
const (
	maxName        = 63
	maxPrefix      = 1024
	maxDeployments = 1000 // of one generation
	maxGenerations = 16   // beside the route's own
	maxVersions    = 16   // of one deployment, beside the one that is named first
	maxService     = 200
)

// decodeEntry reads the entry of an application, and refuses whatever a proxy
// could not serve by.
func decodeEntry(application string, value []byte) (routes.Route, error) {
	if len(value) > routes.MaxBytes {
		return routes.Route{}, fmt.Errorf("%d bytes long, over %d", len(value), routes.MaxBytes)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return routes.Route{}, fmt.Errorf("not a route in JSON: %w", err)
	}
	if head.Schema != routes.Schema {
		return routes.Route{}, fmt.Errorf("of schema %d, and only %d is known here", head.Schema, routes.Schema)
	}
	var route routes.Route
	if err := json.Unmarshal(value, &route); err != nil {
		return routes.Route{}, fmt.Errorf("not a route in JSON: %w", err)
	}
	return route, checkRoute(application, route)
}

// encodeEntry writes what decodeEntry reads, and refuses what it would refuse.
func encodeEntry(route routes.Route) ([]byte, error) {
	if err := checkRoute(route.Application, route); err != nil {
		return nil, err
	}
	if route.Schema != routes.Schema {
		return nil, fmt.Errorf("of schema %d, and only %d is known here", route.Schema, routes.Schema)
	}
	value, err := json.Marshal(route)
	if err != nil {
		return nil, err
	}
	if len(value) > routes.MaxBytes {
		return nil, fmt.Errorf("%d bytes long as JSON, and Consul KV takes %d: use fewer deployments, or more applications", len(value), routes.MaxBytes)
	}
	return value, nil
}

// checkRoute says what makes route one that cannot be served by.
func checkRoute(application string, route routes.Route) error {
	switch {
	case !isName(application):
		return fmt.Errorf("application name %q is not 1 to %d of a-z, 0-9 and '-', starting with a letter", clip(application), maxName)
	case route.Application != application:
		return fmt.Errorf("it names application %q", clip(route.Application))
	case route.RequestTimeout < 0:
		return fmt.Errorf("request timeout %s is negative", route.RequestTimeout)
	case route.MaxBodyBytes < 0:
		return fmt.Errorf("max_body_bytes is %d, below 0", route.MaxBodyBytes)
	case len(route.Others) > maxGenerations:
		return fmt.Errorf("%d generations beside its own, over %d", len(route.Others), maxGenerations)
	}
	if err := checkPrefix(route.RoutePrefix); err != nil {
		return err
	}
	return checkGenerations(route)
}

// checkGenerations looks at each generation by itself, and at what they share
// out between them.
func checkGenerations(route routes.Route) error {
	seen, weights := map[int]bool{}, 0
	for i, g := range route.Generations() {
		own := i == 0 // its weight is what the others leave
		switch {
		case g.Number < 0:
			return fmt.Errorf("generation number %d is below 0", g.Number)
		case seen[g.Number]:
			return fmt.Errorf("generation %d is named twice", g.Number)
		case !own && (g.Weight < 0 || g.Weight > 100):
			return fmt.Errorf("generation %d: weight %d is not from 0 to 100", g.Number, g.Weight)
		case g.Shadow < 0 || g.Shadow > 100:
			return fmt.Errorf("generation %d: shadow %d is not from 0 to 100", g.Number, g.Shadow)
		}
		seen[g.Number] = true
		if !own {
			weights += g.Weight
		}
		if err := checkGeneration(g, own); err != nil && own {
			return err
		} else if err != nil {
			return fmt.Errorf("generation %d: %w", g.Number, err)
		}
	}
	if weights > 100 {
		return fmt.Errorf("the weights of its other generations are %d together, over 100", weights)
	}
	return nil
}

func checkGeneration(g routes.Generation, own bool) error {
	if len(g.Deployments) > maxDeployments {
		return fmt.Errorf("%d deployments, over %d", len(g.Deployments), maxDeployments)
	}
	// One that takes no requests may be there for those that still call it.
	onlyCalled := g.Ingress == "" && !own && g.Weight == 0 && g.Shadow == 0 && len(g.Deployments) > 0
	if _, ok := g.Deployments[g.Ingress]; !ok && !onlyCalled {
		return fmt.Errorf("its ingress %q is none of its deployments", clip(g.Ingress))
	}
	for _, name := range slices.Sorted(maps.Keys(g.Deployments)) {
		if err := checkDeployment(name, g.Deployments[name]); err != nil {
			return fmt.Errorf("deployment %q: %w", clip(name), err)
		}
	}
	return nil
}

func checkDeployment(name string, d routes.Deployment) error {
	if err := checkVersions(d); err != nil {
		return err
	}
	switch {
	case !isName(name):
		return fmt.Errorf("its name is not 1 to %d of a-z, 0-9 and '-', starting with a letter", maxName)
	case !isName(d.Service):
		return fmt.Errorf("service %q is not a service name", clip(d.Service))
	case d.MaxOngoingRequests < 1:
		return fmt.Errorf("max_ongoing_requests is %d, below 1", d.MaxOngoingRequests)
	case d.MaxQueuedRequests < -1:
		return fmt.Errorf("max_queued_requests is %d, below -1", d.MaxQueuedRequests)
	case d.Protocol != "" && d.Protocol != routes.ProtocolHTTP && !d.SpeaksHTTP2():
		return fmt.Errorf("protocol %q is none that is known here: http, h2c and grpc are", clip(d.Protocol))
	case len(d.HealthService) > maxService || strings.ContainsFunc(d.HealthService, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("health service %q is not a service's name", clip(d.HealthService))
	}
	return nil
}

func checkVersions(d routes.Deployment) error {
	if len(d.Also) > maxVersions {
		return fmt.Errorf("%d versions beside its own, over %d", len(d.Also), maxVersions)
	}
	versions := d.Versions()
	for i, version := range versions {
		if len(version) > maxName || version == "" || strings.ContainsFunc(version, func(r rune) bool { return !isNameRune(r) }) {
			return fmt.Errorf("version %q is not a version", clip(version))
		}
		if slices.Contains(versions[:i], version) {
			return fmt.Errorf("version %q is named twice", clip(version))
		}
	}
	return nil
}

// checkPrefix says what keeps a route prefix from being one path, spelt in one
// way, that is not one of the proxy's own.
func checkPrefix(prefix string) error {
	if prefix == "/" {
		return nil
	}
	if len(prefix) > maxPrefix {
		return fmt.Errorf("route prefix of %d bytes, over %d", len(prefix), maxPrefix)
	}
	if !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("route prefix %q does not start with '/', or ends with one", clip(prefix))
	}
	for i, segment := range strings.Split(prefix[1:], "/") {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return fmt.Errorf("route prefix %q has the segment %q", clip(prefix), segment)
		case i == 0 && segment == "-":
			return fmt.Errorf("route prefix %q: what is below /- is the proxy's own", clip(prefix))
		case strings.ContainsFunc(segment, func(r rune) bool { return !isPathRune(r) }):
			return fmt.Errorf("route prefix %q has a character that a path must escape", clip(prefix))
		}
	}
	return nil
}

// isPathRune says whether r stands for itself in a path segment (RFC 3986, pchar).
func isPathRune(r rune) bool {
	return isNameRune(r) || (r >= 'A' && r <= 'Z') || strings.ContainsRune("._~!$&'()*+,;=:@", r)
}

func isNameRune(r rune) bool {
	return (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') || r == '-'
}

// isName says whether s is a name as DNS and the spec know them.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && s[0] >= 'a' && s[0] <= 'z' &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isNameRune(r) })
}

// clip keeps what a stranger wrote from filling a log line.
func clip(s string) string {
	const shown = 80
	if len(s) <= shown {
		return s
	}
	return s[:shown] + "..."
}

// errNoIndex is an answer without the index that each of Consul's carries.
var errNoIndex = errors.New("the answer carries no X-Consul-Index, so that it is not one of Consul's")
