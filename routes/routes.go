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
	Deployments    map[string]Deployment `json:"deployments"`
}

// Schema is the version of Route's JSON that this code writes.
const Schema = 1

// Deployment is what a proxy must know of one deployment.
type Deployment struct {
	Service            string `json:"service"`           // the Consul service of its replicas
	Version            string `json:"version,omitempty"` // the deployment version that takes traffic; "": none yet
	MaxOngoingRequests int    `json:"max_ongoing_requests"`
	MaxQueuedRequests  int    `json:"max_queued_requests"` // -1: no limit

	// Where a replica says that it can serve, for a proxy that has requests
	// waiting and asks new replicas itself. "": it does not.
	HealthPath string `json:"health_path,omitempty"`
	// How often Consul asks there, nanoseconds; 0: not said.
	HealthPeriod time.Duration `json:"health_period,omitempty"`
	// How often the leader wants to hear of this deployment's load,
	// nanoseconds; 0: it does not scale by it.
	MetricsInterval time.Duration `json:"metrics_interval,omitempty"`
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
