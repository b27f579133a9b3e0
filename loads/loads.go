// Package loads is what a proxy tells the leader about the requests that it
// has: words that both sides share. Loads never enter the Raft log.
package loads

import "time"

// Schema is the version of Report's JSON that this code writes and reads.
const Schema = 1

// Report is what one proxy has seen since its report before. It is complete: a
// deployment that it does not name had no request in that time. That makes a
// report the evidence of idleness, and silence none.
type Report struct {
	Schema      int           `json:"schema"`
	Proxy       string        `json:"proxy"`       // its name, the same after a restart
	Incarnation int64         `json:"incarnation"` // when its process began, ns since 1970: a later one replaces an earlier one
	Sequence    uint64        `json:"sequence"`    // 1, 2, 3 ... within the incarnation
	Ready       bool          `json:"ready"`       // it has a routing table; without one it knows of no deployment
	Leaving     bool          `json:"leaving,omitempty"`
	Covers      time.Duration `json:"covers"` // ns since the last report that arrived, by the proxy's monotonic clock
	Next        time.Duration `json:"next"`   // ns until the next report at the latest
	Deployments []Deployment  `json:"deployments"`
}

// Deployment is the requests of one deployment at one proxy. Mean, Max and Min
// are of ongoing plus queued requests over Report.Covers, the mean weighted by
// time.
type Deployment struct {
	Application string  `json:"application"`
	Deployment  string  `json:"deployment"`
	Ongoing     int     `json:"ongoing"` // now, at replicas
	Queued      int     `json:"queued"`  // now, waiting at the proxy
	Mean        float64 `json:"mean"`
	Max         float64 `json:"max"`
	Min         float64 `json:"min"`
}

// Key names a deployment.
type Key struct{ Application, Deployment string }

// Bounds on what a report may say; past them it is refused.
const (
	MaxName     = 256           // bytes of a name
	MaxRequests = 1e9           // of one deployment at one proxy
	MaxCovers   = 1 * time.Hour // of Covers and Next
	MaxPerProxy = 100_000       // deployments in a report
)
