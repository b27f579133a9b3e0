package consulsd

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/serve-nomad/serve-nomad/routes"
)

// The keys of a service's meta that say whose replica it is.
const (
	metaApplication = "serve_application"
	metaDeployment  = "serve_deployment"
	metaVersion     = "serve_version"
	metaReplica     = "serve_replica"
)

// instance is one instance of a service: the replica that it is, or why it is
// none.
type instance struct {
	id       string // of the node and the service, for the log
	endpoint routes.Endpoint
	fault    string // "": it is a replica
	untested bool   // only its own checks do not pass, and none of those has run yet
}

// readInstances reads what Consul says of a service's instances. Of those that
// claim to be the same replica the one that came first is it.
func readInstances(entries []*api.ServiceEntry) []instance {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *api.ServiceEntry) bool {
		return e == nil || e.Service == nil || e.Node == nil
	})
	slices.SortFunc(entries, func(a, b *api.ServiceEntry) int {
		return cmp.Or(
			cmp.Compare(a.Service.CreateIndex, b.Service.CreateIndex),
			cmp.Compare(a.Service.ID, b.Service.ID),
			cmp.Compare(a.Node.Node, b.Node.Node),
		)
	})
	for _, e := range entries {
		e.Checks = slices.DeleteFunc(e.Checks, func(c *api.HealthCheck) bool { return c == nil })
	}
	seen := map[string]bool{}
	instances := make([]instance, 0, len(entries))
	for _, e := range entries {
		in := instance{id: clip(e.Node.Node) + "/" + clip(e.Service.ID), untested: untested(e)}
		var err error
		in.endpoint, err = readEndpoint(e)
		switch {
		case err != nil:
			in.fault = err.Error()
		case seen[in.endpoint.Replica]:
			in.fault = fmt.Sprintf("another instance is replica %s already", clip(in.endpoint.Replica))
		default:
			seen[in.endpoint.Replica] = true
		}
		instances = append(instances, in)
	}
	return instances
}

func readEndpoint(e *api.ServiceEntry) (routes.Endpoint, error) {
	meta := e.Service.Meta
	endpoint := routes.Endpoint{
		Replica:     meta[metaReplica],
		Application: meta[metaApplication],
		Deployment:  meta[metaDeployment],
		Version:     meta[metaVersion],
		Node:        e.Node.Node,
		Passing:     passing(e),
		Unproven:    unproven(e),
	}
	for _, key := range []string{metaReplica, metaApplication, metaDeployment, metaVersion} {
		if value := meta[key]; value == "" || len(value) > maxName {
			return endpoint, fmt.Errorf("its meta %s is %q", key, clip(value))
		}
	}
	var err error
	endpoint.Address, err = address(cmp.Or(e.Service.Address, e.Node.Address), e.Service.Port)
	return endpoint, err
}

// passing says whether every check of the instance and of its node passes.
// Nomad registers a service a moment before the service's checks, so an
// instance with no check of its own is not known to pass.
func passing(e *api.ServiceEntry) bool {
	own := slices.ContainsFunc(e.Checks, func(c *api.HealthCheck) bool { return c.ServiceID == e.Service.ID })
	return own && e.Checks.AggregatedStatus() == api.HealthPassing
}

// unproven says whether the instance does not pass and nothing but its own
// health check stands in the way. A maintenance that an operator asked for is a
// check of the instance or of its node, and no health check.
func unproven(e *api.ServiceEntry) bool {
	if passing(e) {
		return false
	}
	for _, c := range e.Checks {
		if c.Status != api.HealthPassing && (c.ServiceID != e.Service.ID || strings.HasPrefix(c.CheckID, api.ServiceMaintPrefix)) {
			return false
		}
	}
	return true
}

// untested says whether the instance could pass but for checks of its own that
// have not run yet: Consul starts a check as critical, without output.
func untested(e *api.ServiceEntry) bool {
	for _, c := range e.Checks {
		if c.Status != api.HealthPassing && (c.ServiceID != e.Service.ID || c.Output != "") {
			return false
		}
	}
	return true
}

// address joins a host and a port that a replica can have. Link-local
// addresses are refused because clouds answer questions about themselves there.
func address(host string, port int) (string, error) {
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("its port is %d", port)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if !isHostname(host) {
			return "", fmt.Errorf("its address %q is neither an IP address nor a host name", clip(host))
		}
		return net.JoinHostPort(host, strconv.Itoa(port)), nil
	}
	plain := ip.Unmap()
	if plain.IsUnspecified() || plain.IsMulticast() || plain.IsLinkLocalUnicast() || plain == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return "", fmt.Errorf("its address %s is none that a replica can have", clip(host))
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// isHostname says whether s has the form of a DNS name.
func isHostname(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	digits := true // a name of digits and dots alone is a broken IP address
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			digit := r >= '0' && r <= '9'
			letter := (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || r == '_' || r == '-'
			if !digit && !letter {
				return false
			}
			digits = digits && digit
		}
	}
	return !digits
}
