package gate

import (
	"net/http"
	"time"

	"github.com/serve-nomad/serve-nomad/balance"
)

// verdict is how the replica served a slot's request. Whoever holds the slot
// owns it.
type verdict struct {
	copied  bool // the request is a copy, see TakeSpare: there is none, and nothing is counted
	known   bool // there is one
	told    bool // the gate knows it
	trial   bool // the request is the replica's trial after an ejection
	counted bool // its version's counts have it, see served
	blamed  bool // as an error
	result  balance.Result
	took    time.Duration // from the slot's beginning to the head of the answer; 0: not looked at
}

// failing counts what failing replicas have brought about.
type failing struct {
	ejections     uint64
	resendsDenied uint64
}

// Answered says which status the replica's answer has. A good one is counted
// when the slot is released, so that it costs no lock of its own.
func (s *Slot) Answered(status int) {
	s.countAnswer(status)
	switch {
	case status < http.StatusInternalServerError:
		s.judged(balance.Served)
	case status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		s.judged(balance.GatewayError)
	default:
		s.judged(balance.ServerError)
	}
}

// Failed says that the replica gave no answer, or none that can be understood.
func (s *Slot) Failed() {
	s.count(true)
	s.judged(balance.Broken)
}

// Late says that the request's time ran out at the replica. One that had half of
// it has failed; one that got the request when most had passed has not.
func (s *Slot) Late(arrived, deadline time.Time) {
	s.count(true)
	if 2*deadline.Sub(s.since) >= deadline.Sub(arrived) {
		s.Failed()
	}
}

func (s *Slot) judged(result balance.Result) {
	if s.verdict.known || s.verdict.copied {
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
func (s *Slot) judge(now time.Time) {
	v := &s.verdict
	if !v.known || v.told {
		return
	}
	v.told = true
	g := s.gate
	ejected := g.set.Observe(s.Replica.member, v.result, now)
	if v.trial {
		g.give(g.mute(s.Replica), now)
	}
	if len(ejected) == 0 {
		return
	}
	g.wakeWhenDue(now)
	for _, m := range ejected {
		g.failing.ejections++
		until, reason := m.Ejected()
		g.log.Warn("replica ejected", "application", g.Application, "deployment", g.Deployment,
			"replica", m.ID(), "reason", string(reason), "for", until.Sub(now))
	}
}

// MayResend says whether the deployment's budget allows that a request is sent
// a second time, and charges it.
func (g *Gate) MayResend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.budget.Retry(time.Now()) {
		return true
	}
	g.failing.resendsDenied++
	return false
}
