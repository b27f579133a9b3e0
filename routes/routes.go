// Package routes is the routing table as words: what the leader writes to
// Consul KV, what proxies read back, and which application a path belongs to.
package routes

import "time"

// Route is one application's entry in the table: everything that a proxy needs
// to serve it, apart from where its replicas are, which Consul's catalog says.
type Route struct {
	Schema         int                   `json:"schema"`     // Schema; a reader ignores entries of a schema it does not know
	ClusterID      string                `json:"cluster_id"` // of the serve-nomad cluster that wrote it
	Application    string                `json:"application"`
	RoutePrefix    string                `json:"route_prefix"`
	Ingress        string                `json:"ingress"`
	RequestTimeout time.Duration         `json:"request_timeout,omitempty"` // nanoseconds; 0: none
	MaxBodyBytes   int64                 `json:"max_body_bytes,omitempty"`  // of a request; 0: the proxy's own bound, which holds in any case
	Deployments    map[string]Deployment `json:"deployments"`

	// Ingress and Deployments are of the generation that takes the requests
	// which no other one takes. Handles lead a replica to the deployments of its
	// own generation: see Generation.
	Generation int          `json:"generation,omitempty"` // its number
	Others     []Generation `json:"others,omitempty"`     // by number: those on their way in or out
	Sticky     bool         `json:"sticky,omitempty"`     // a client stays with the generation that it got, as far as the weights allow
	// The application is on its way out: nothing from outside leads to it, and
	// handles do, for what its replicas still finish.
	Closed bool `json:"closed,omitempty"`
	// Proxies tell the leader how replicas of each version serve: it compares
	// them, or waits for requests to end.
	Watched bool `json:"watched,omitempty"`
}

// Generation is a set of deployments beside those of its Route: replicas of one
// generation call no other. An application has another one only while a new
// version takes over.
type Generation struct {
	Number      int                   `json:"number"`
	Weight      int                   `json:"weight,omitempty"` // percent of the requests to the application that it takes
	Shadow      int                   `json:"shadow,omitempty"` // percent of the requests of which it gets a copy, whose answer nobody sees
	Ingress     string                `json:"ingress"`          // "": it takes none, and is there for those that still call its deployments
	Deployments map[string]Deployment `json:"deployments"`
}

// Generations returns all generations of the route, its own first, with the
// weight that the others leave.
func (r Route) Generations() []Generation {
	own := Generation{Number: r.Generation, Weight: 100, Ingress: r.Ingress, Deployments: r.Deployments}
	for _, g := range r.Others {
		own.Weight -= g.Weight
	}
	return append([]Generation{own}, r.Others...)
}

// Schema is the version of Route's JSON that this code writes.
const Schema = 1

// MaxBytes is how long a Route may be as JSON: what Consul KV takes by default.
const MaxBytes = 512 << 10

// What replicas may speak, none of it over TLS.
const (
	ProtocolHTTP = "http" // HTTP/1.1
	ProtocolH2C  = "h2c"  // HTTP/2 from the first byte
	ProtocolGRPC = "grpc" // gRPC over h2c
)

// Deployment is what a proxy must know of one deployment.
type Deployment struct {
	Service string `json:"service"`           // the Consul service of its replicas
	Version string `json:"version,omitempty"` // the deployment version that takes traffic; "": none yet
	// Versions whose replicas take requests too, beside those of Version: a
	// rolling change goes on. They are alike in all that is said here.
	Also               []string `json:"also,omitempty"`
	Protocol           string   `json:"protocol,omitempty"` // what its replicas speak: ProtocolH2C, ProtocolGRPC; "" or ProtocolHTTP: HTTP/1.1
	MaxOngoingRequests int      `json:"max_ongoing_requests"`
	MaxQueuedRequests  int      `json:"max_queued_requests"` // -1: no limit
	// Requests may say of their place in the queue, by serve-priority and
	// serve-fairness-key; else they wait in order of arrival.
	PriorityHeaders bool `json:"priority_headers,omitempty"`

	// Where a replica says that it can serve, for a proxy that has requests
	// waiting and asks new replicas itself. "": it does not, unless Protocol
	// has a way of its own: gRPC its health service, h2c the connection.
	HealthPath string `json:"health_path,omitempty"`
	// What gRPC's health service is asked for; "": the server as a whole.
	HealthService string `json:"health_service,omitempty"`
	// How often Consul asks there, nanoseconds; 0: not said.
	HealthPeriod time.Duration `json:"health_period,omitempty"`
	// How often the leader wants to hear of this deployment's load,
	// nanoseconds; 0: it does not scale by it.
	MetricsInterval time.Duration `json:"metrics_interval,omitempty"`
}

// SpeaksHTTP2 says whether its replicas take HTTP/2 and nothing else.
func (d Deployment) SpeaksHTTP2() bool {
	return d.Protocol == ProtocolH2C || d.Protocol == ProtocolGRPC
}

// Table is every application's route, by application name.
type Table map[string]Route

// Endpoint is one replica that Consul knows.
type Endpoint struct {
	Replica     string `json:"replica"` // Nomad allocation id
	Application string `json:"application"`
	Deployment  string `json:"deployment"`
	Version     string `json:"version"` // deployment version
	Address     string `json:"address"` // host:port
	Node        string `json:"node"`    // Consul node name
	Passing     bool   `json:"passing"` // all of its checks pass
	// It does not pass, and nothing but its own health check stands in the
	// way: neither its node nor a maintenance that somebody asked for.
	Unproven bool `json:"unproven,omitempty"`
}

// Versions returns all versions that take traffic.
func (d Deployment) Versions() []string {
	if d.Version == "" {
		return d.Also
	}
	return append([]string{d.Version}, d.Also...)
}
