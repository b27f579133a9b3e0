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
	Schema      int    `json:"schema"`
	Proxy       string `json:"proxy"`       // its name, the same after a restart
	Incarnation int64  `json:"incarnation"` // when its process began, ns since 1970: a later one replaces an earlier one
	Sequence    uint64 `json:"sequence"`    // 1, 2, 3 ... within the incarnation
	// Sequence of the last report that arrived, as far as the proxy knows: this
	// one is of all since then. 0: none has, or it does not say. Where the
	// answer to a report was lost, this shows that its counts are here again.
	After       uint64        `json:"after,omitempty"`
	Ready       bool          `json:"ready"` // it has a routing table; without one it knows of no deployment
	Leaving     bool          `json:"leaving,omitempty"`
	Covers      time.Duration `json:"covers"` // ns since the last report that arrived, by the proxy's monotonic clock
	Next        time.Duration `json:"next"`   // ns until the next report at the latest
	Deployments []Deployment  `json:"deployments"`

	// How replicas served, by version: of the applications whose route is
	// watched, each version that has replicas here.
	Served []Served `json:"served,omitempty"`
}

// Served is what the replicas of one deployment version did at one proxy, over
// Report.Covers.
type Served struct {
	Application string `json:"application"`
	Deployment  string `json:"deployment"`
	Version     string `json:"version"`  // deployment version
	Ongoing     int    `json:"ongoing"`  // requests at its replicas now
	Requests    uint64 `json:"requests"` // tries that ended, or whose answer has begun: one that was sent twice counts twice
	Errors      uint64 `json:"errors"`   // of these, answered with 500 and above, broken, or not answered in time
	// How long it took until the answer began: bucket, see LatencyBucket, to
	// tries. Those without an answer are not in it.
	Latency map[int]uint64 `json:"latency,omitempty"`
	// Of copies that were sent, see routes.Generation.Shadow: they are in
	// nothing of the above.
	Shadow *Shadowed `json:"shadow,omitempty"`
}

// Shadowed is how copies of requests were answered beside the requests
// themselves.
type Shadowed struct {
	Requests  uint64         `json:"requests"`          // pairs of which both were answered, or the copy failed
	Differing uint64         `json:"differing"`         // of these, with another status
	Errors    uint64         `json:"errors"`            // of these, the copy failed or got 500 and above, and the request did not
	Dropped   uint64         `json:"dropped"`           // copies that were not sent: too many were under way, or the body too large
	Latency   map[int]uint64 `json:"latency,omitempty"` // of the copies
	Primary   map[int]uint64 `json:"primary,omitempty"` // of the requests that were copied
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
	MaxPerProxy = 100_000       // deployments in a report, and versions
)
