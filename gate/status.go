package gate

import (
	"slices"
	"strings"
	"time"
)

// Status is one deployment as its gate sees it.
type Status struct {
	Application        string          `json:"application"`
	Generation         int             `json:"generation"`
	Deployment         string          `json:"deployment"`
	Version            string          `json:"version"`        // the newest that takes requests; "": none does
	Also               []string        `json:"also,omitempty"` // others that do
	MaxOngoingRequests int             `json:"max_ongoing_requests"`
	MaxQueuedRequests  int             `json:"max_queued_requests"`
	Ongoing            int             `json:"ongoing"`
	Queued             int             `json:"queued"`
	QueuedBytes        int64           `json:"queued_bytes"`               // about what those hold
	Asked              int             `json:"asked,omitempty"`            // slots that gatekeepers were asked for, and have not answered
	ChecksIgnored      bool            `json:"checks_ignored,omitempty"`   // most replicas fail their checks at once: they are used as well
	EjectionIgnored    bool            `json:"ejection_ignored,omitempty"` // too few replicas are left: those ejected are used as well
	Ejections          uint64          `json:"ejections"`                  // since the proxy began
	ResendsDenied      uint64          `json:"resends_denied"`             // requests not sent again because too many were; since the proxy began
	Replicas           []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is one replica as its gate sees it.
type ReplicaStatus struct {
	Replica  string `json:"replica"`
	Address  string `json:"address"`
	Version  string `json:"version"`        // of the deployment
	Node     string `json:"node,omitempty"` // in Consul
	Ongoing  int    `json:"ongoing"`
	Others   int    `json:"others,omitempty"`   // slots that other proxies have, as last heard
	Spare    int    `json:"spare,omitempty"`    // slots that are kept for a moment without a request
	Withheld int    `json:"withheld,omitempty"` // slots that are not to be had here for now: others have them, or they are asked for
	Idle     int    `json:"idle_connections"`
	Passing  bool   `json:"passing"`           // Consul says so
	Probed   bool   `json:"probed,omitempty"`  // Consul does not yet, but it has answered this proxy's own question
	Suspect  bool   `json:"suspect,omitempty"` // it could not be reached a moment ago
	Leaving  bool   `json:"leaving,omitempty"` // it gets no new requests, and has not finished its last

	EjectedUntil time.Time `json:"ejected_until,omitzero"`    // it served badly: others are preferred; zero: it is not ejected
	EjectedFor   string    `json:"ejection_reason,omitempty"` // why
	Trial        bool      `json:"trial,omitempty"`           // it is back from that, with one request until it has served one
	SlowStart    bool      `json:"slow_start,omitempty"`      // it is new: others are preferred, less and less
}

// Status returns a snapshot.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.set.Refresh(now)
	s := Status{
		Application: g.Application, Generation: g.Generation, Deployment: g.Deployment,
		MaxOngoingRequests: g.limit, MaxQueuedRequests: g.maxQueue, Queued: g.queue.Len(),
		QueuedBytes: g.queue.Bytes(), Asked: g.asked, EjectionIgnored: g.set.Panicking(), ChecksIgnored: g.checksIgnored,
		Ejections: g.failing.ejections, ResendsDenied: g.failing.resendsDenied,
		Replicas: make([]ReplicaStatus, 0, len(g.replicas)),
	}
	if g.serving != nil {
		s.Version = g.serving.name
	}
	for name, v := range g.versions {
		if v.takes && v != g.serving {
			s.Also = append(s.Also, name)
		}
	}
	slices.Sort(s.Also)
	for _, r := range g.replicas {
		m := r.member
		s.Ongoing += m.InFlight()
		until, reason := m.Ejected()
		s.Replicas = append(s.Replicas, ReplicaStatus{
			Replica: r.ID, Address: r.address, Version: r.Version, Node: r.Node, Idle: r.Pool.Count(),
			Ongoing: m.InFlight(), Others: r.others(), Spare: r.spare, Withheld: m.Elsewhere(),
			Passing: r.passing, Probed: r.probe.isLive(), Suspect: m.Unreachable().After(now), Leaving: !r.known,
			EjectedUntil: until, EjectedFor: string(reason), Trial: m.Trial(), SlowStart: m.Warming(now),
		})
	}
	slices.SortFunc(s.Replicas, func(a, b ReplicaStatus) int { return strings.Compare(a.Replica, b.Replica) })
	return s
}
