package consulsd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// service is what was last read of one service that the table names.
type service struct {
	owners  owners
	poll    *poll[[]instance]
	cancel  context.CancelFunc
	tried   bool  // it has been answered, or has failed, once
	err     error // why the last query failed; nil: it did not
	last    []instance
	held    map[string]heldReplica // by replica
	ignored map[string]string      // instance -> why it is no replica of ours, as logged
}

// heldReplica is a replica that Consul lost, or that it has yet to test anew.
type heldReplica struct {
	endpoint routes.Endpoint
	until    time.Time
}

// hold keeps the replicas that passed when Consul was last read, because it may
// have lost data since. Each is held until it passes again, is found to fail,
// or holdFor is over: agents take a while to register anew what a Consul lost.
func (s *service) hold(now time.Time) {
	for _, in := range s.last {
		if _, held := s.held[in.endpoint.Replica]; in.fault == "" && in.endpoint.Passing && !held {
			s.held[in.endpoint.Replica] = heldReplica{in.endpoint, now.Add(holdFor)}
		}
	}
}

// read takes in an answer, and whether Consul may have lost data before it.
func (s *service) read(instances []instance, lost bool, now time.Time) {
	s.tried, s.err = true, nil
	if lost {
		s.hold(now)
	}
	s.last = instances
	for _, in := range instances {
		if in.fault == "" && (in.endpoint.Passing || !in.untested) {
			delete(s.held, in.endpoint.Replica)
		}
	}
}

// expire lets go of what was held for long enough, and says whether anything was.
func (s *service) expire(now time.Time) bool {
	before := len(s.held)
	maps.DeleteFunc(s.held, func(_ string, h heldReplica) bool { return !now.Before(h.until) })
	return len(s.held) != before
}

// endpoints returns the replicas that are the owners', and what is to be
// logged of instances that are not.
func (s *service) endpoints() (endpoints []routes.Endpoint, notes []string) {
	ignored := map[string]string{}
	shown := map[string]bool{}
	for _, in := range s.last {
		e, fault := in.endpoint, in.fault
		if fault == "" && !s.owners[owner{e.Application, e.Deployment}] {
			fault = fmt.Sprintf("it says that it is of deployment %q of application %q, which this service does not serve", clip(e.Deployment), clip(e.Application))
		}
		if fault != "" {
			ignored[in.id] = fault
			continue
		}
		if held, ok := s.held[e.Replica]; ok {
			e = held.endpoint
		}
		shown[e.Replica] = true
		endpoints = append(endpoints, e)
	}
	for replica, held := range s.held {
		if !shown[replica] && s.owners[owner{held.endpoint.Application, held.endpoint.Deployment}] {
			endpoints = append(endpoints, held.endpoint)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ignored)) {
		if ignored[id] != s.ignored[id] {
			notes = append(notes, fmt.Sprintf("instance %s is ignored: %s", id, ignored[id]))
		}
	}
	s.ignored = ignored
	return endpoints, notes
}
