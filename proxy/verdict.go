package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/fairqueue"
)

// verdict is how the replica served a slot's request. Whoever holds the slot
// owns it.
type verdict struct {
	known  bool // there is one
	told   bool // the gate knows it
	result balance.Result
	trial  bool // the request is the replica's trial after an ejection
}

// failing counts what failing replicas have brought about.
type failing struct {
	ejections     uint64
	resendsDenied uint64
}

// answered says which status the replica's answer has. A good one is counted
// when the slot is released, so that it costs no lock of its own.
func (s *slot) answered(status int) {
	switch {
	case status < http.StatusInternalServerError:
		s.judged(balance.Served)
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		s.judged(balance.GatewayError)
	default:
		s.judged(balance.ServerError)
	}
}

// failed says that the replica gave no answer, or none that can be understood.
func (s *slot) failed() { s.judged(balance.Broken) }

// late says that the request's time ran out at the replica. One that had half of
// it has failed; one that got the request when most had passed has not.
func (s *slot) late(arrived, deadline time.Time) {
	if 2*deadline.Sub(s.since) >= deadline.Sub(arrived) {
		s.failed()
	}
}

func (s *slot) judged(result balance.Result) {
	if s.verdict.known {
		return
	}
	s.verdict.known, s.verdict.result = true, result
	if result == balance.Served && !s.verdict.trial {
		return
	}
	g := s.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	s.judge(now)
	g.dispatch(now)
}

// judge tells the gate how the request was served, once. The caller holds the
// gate's mutex.
func (s *slot) judge(now time.Time) {
	v := &s.verdict
	if !v.known || v.told {
		return
	}
	v.told = true
	g := s.gate
	ejected := g.set.Observe(s.replica.member, v.result, now)
	if v.trial {
		g.give(g.mute(s.replica), now)
	}
	if len(ejected) == 0 {
		return
	}
	g.wakeWhenDue(now)
	for _, m := range ejected {
		g.failing.ejections++
		until, reason := m.Ejected()
		g.log.Warn("replica ejected", "application", g.application, "deployment", g.deployment,
			"replica", m.ID(), "reason", string(reason), "for", until.Sub(now))
	}
}

// mayResend says whether the deployment's budget allows that a request is sent
// a second time, and charges it.
func (g *gate) mayResend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.budget.Retry(time.Now()) {
		return true
	}
	g.failing.resendsDenied++
	return false
}

// queueFullError refuses a request because enough of them wait already.
type queueFullError struct {
	queued     int
	bytes      int64
	full       fairqueue.Fullness
	retryAfter time.Duration
}

func (e *queueFullError) Error() string {
	if e.full == fairqueue.TooLarge {
		return fmt.Sprintf("%d requests are queued already, which hold %d bytes", e.queued, e.bytes)
	}
	return fmt.Sprintf("%d requests are queued already", e.queued)
}

// code is what X-Serve-Error says of it.
func (e *queueFullError) code() string {
	if e.full == fairqueue.TooLarge {
		return codeQueueBytes
	}
	return codeQueueFull
}

func (g *gate) full(full fairqueue.Fullness, now time.Time) error {
	queued := g.queue.Len()
	return &queueFullError{
		queued: queued, bytes: g.queue.Bytes(), full: full,
		retryAfter: g.rate.retryAfter(now, queued+1, rand.Float64()),
	}
}

// status is what /-/status shows of the deployment.
func (g *gate) status() DeploymentStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.set.Refresh(now)
	s := DeploymentStatus{
		Application: g.application, Deployment: g.deployment, Version: g.version,
		MaxOngoingRequests: g.limit, MaxQueuedRequests: g.maxQueue, Queued: g.queue.Len(),
		QueuedBytes: g.queue.Bytes(), EjectionIgnored: g.set.Panicking(), ChecksIgnored: g.checksIgnored,
		Ejections: g.failing.ejections, ResendsDenied: g.failing.resendsDenied,
		Replicas: make([]ReplicaStatus, 0, len(g.replicas)),
	}
	for _, r := range g.replicas {
		m := r.member
		s.Ongoing += m.InFlight()
		until, reason := m.Ejected()
		s.Replicas = append(s.Replicas, ReplicaStatus{
			Replica: r.id, Address: r.address, Version: r.version, Node: r.node, Ongoing: m.InFlight(), Others: r.others(), Idle: r.pool.Count(),
			Passing: r.passing, Probed: r.probe.isLive(), Suspect: m.Unreachable().After(now), Leaving: !r.known,
			EjectedUntil: until, EjectedFor: string(reason), Trial: m.Trial(), SlowStart: m.Warming(now),
		})
	}
	slices.SortFunc(s.Replicas, func(a, b ReplicaStatus) int { return strings.Compare(a.Replica, b.Replica) })
	return s
}
