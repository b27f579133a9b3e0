package gate

import (
	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// Replica is one replica as its gate sees it. What is exported never changes, but
// for the pool, which guards itself; the gate's mutex guards the rest.
type Replica struct {
	ID      string
	Version string        // of the deployment; its name
	Node    string        // in Consul; "": not said
	HTTP2   bool          // it speaks HTTP/2 and nothing else; as its version does
	Series  any           // what Config.Serves returned for the version
	Pool    upstream.Pool // connections to it

	address  string
	member   *balance.Member // counts its slots, and what is held against it
	passing  bool
	unproven bool   // nothing but its own check stands in the way
	passed   bool   // it has passed since Consul listed it
	probe    *probe // nil: it is not asked whether it could serve
	known    bool   // Consul lists it, with a version that takes requests

	version *version // of which it is
	copies  int      // of its requests, those that are copies, see TakeSpare

	line       *gatekeeper.Line // where its slots are handed out; nil: here, see reserve.go
	asked      int              // slots asked for and not answered
	spare      int              // slots held without a request
	leastSpare int              // of them not needed since they were looked at last
	full       bool             // it counts as full for a while, see countFull
}

// proven says whether r has passed since Consul listed it, and nothing is known
// against it since but by its own check.
func (r *Replica) proven() bool {
	return r.known && r.passed && (r.passing || r.unproven)
}
