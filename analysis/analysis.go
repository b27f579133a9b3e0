// Package analysis compares how two versions serve: from what proxies report of
// each one's replicas it finds whether the new one is worse than the old one, by
// more than chance explains.
package analysis

import (
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// Window is how far back a comparison looks. Where that holds too few requests
// it looks back longWindow too.
const (
	Window     = time.Minute
	longWindow = 5 * time.Minute
	longSlot   = 10 * time.Second
)

// Sample is how replicas served for a while. Its Latency is never changed.
type Sample struct {
	Requests uint64
	Errors   uint64         // of Requests
	Latency  map[int]uint64 // bucket, see loads.LatencyBucket, to requests: those that were answered
}

// Standing is how one deployment version serves, at all proxies together. It is
// never changed.
type Standing struct {
	Recent  Sample         // of the last Window
	Last    Sample         // of the Window that ended with its last request: the baseline when it takes none any more
	Ongoing int            // requests at its replicas, at all proxies
	Settled time.Time      // since when all proxies that are known have reported no ongoing request; zero: they have some, or that is not known
	Shadow  loads.Shadowed // since it began

	// When it did what, so that two versions are compared over the same time. A
	// Standing that no Ledger has made has none of it.
	now        int64 // ns since the ledger began
	fine, long []slot
}

// Limits is what a new version is held to; below 0: none.
type Limits struct {
	ErrorIncrease float64 // share of the requests that may fail beyond those of the old version
	LatencyRatio  float64 // of its latency to that of the old version
}

// Finding is what a comparison found.
type Finding struct {
	Worse  bool
	Doubts bool   // it looks worse, and more requests are needed to tell
	Reason string // for people; said also when it is not worse: what was compared, or that there are too few requests
}
