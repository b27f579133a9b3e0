package appspec

import (
	"cmp"
	"strings"
)

// What a replica may speak on its port, none of it over TLS.
const (
	ProtocolHTTP = "http" // HTTP/1.1
	ProtocolH2C  = "h2c"  // HTTP/2 from the first byte
	ProtocolGRPC = "grpc" // gRPC over h2c, with the health service grpc.health.v1.Health
)

// maxHealthService bounds the name of a service that is asked for, in bytes.
const maxHealthService = 200

// EffectiveProtocol returns what the replicas speak: http where nothing is
// said, as in specs from before there was a choice.
func (d *Deployment) EffectiveProtocol() string {
	return cmp.Or(d.Protocol, ProtocolHTTP)
}

func (v *validator) protocol(path string, d *Deployment) {
	protocol := d.EffectiveProtocol()
	v.oneOf(path+".protocol", protocol, ProtocolHTTP, ProtocolH2C, ProtocolGRPC)
	a := d.Autoscaling
	if protocol == ProtocolGRPC && a != nil && a.Metric != nil && a.Metric.Source == SourceReplica {
		v.addf(path+".autoscaling.metric.source",
			"A replica that speaks gRPC cannot be asked for a number over HTTP; take it from source = \"prometheus\".")
	}
}

func (v *validator) checkPath(path, protocol, asked string) {
	switch {
	case protocol == ProtocolGRPC && asked != "":
		v.addf(path, "A replica that speaks gRPC is asked by its health service, grpc.health.v1.Health; leave path out. service may say what that is asked for.")
	case asked == "" && protocol != ProtocolHTTP: // it need not have one
	default:
		if problem := urlPathProblem(asked, requestRunes); problem != "" {
			v.addf(path, "%s", problem)
		}
	}
}

func (v *validator) checkService(path, protocol, service string) {
	switch {
	case service == "":
	case protocol != ProtocolGRPC:
		v.addf(path, "Only a deployment with protocol = \"grpc\" has a health service to ask.")
	case len(service) > maxHealthService || strings.ContainsFunc(service, func(r rune) bool { return !isServiceRune(r) }):
		v.addf(path, "A service's name is needed, such as \"search.v1.Ranker\": up to %d of a-z, A-Z, 0-9, '.', '_' and '-'; this is %s.",
			maxHealthService, quote(service))
	}
}

func isServiceRune(r rune) bool {
	return (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || strings.ContainsRune("._-", r)
}
