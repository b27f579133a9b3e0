package balance

import (
	"math"
	"time"
)

// A replica that cannot be reached is left alone for unreachableFirst, twice as
// long each time in a row, up to unreachableMost: Consul needs a moment to learn
// of a replica that died.
const (
	unreachableFirst = time.Second
	unreachableMost  = 8 * time.Second
)

// Policy is how failing replicas are found and for how long they are left
// alone: the outlier detection of Envoy, but that a replica returns by a trial,
// so that it can be tried soon.
type Policy struct {
	// GatewayFailures in a row eject a replica: no answer, one that cannot be
	// understood, 502, 503 or 504. 0: none do.
	GatewayFailures int
	// ServerErrors in a row do so that are of any kind from 500 on. 0: none
	// do, because they are most often the request's fault, and the next
	// replica's too.
	ServerErrors int

	// Every Interval the replicas with at least RateRequests answers since the
	// last one are compared, if there are at least RateReplicas of them; one
	// that fails more often than the others is ejected. 0: none is.
	Interval     time.Duration
	RateReplicas int
	RateRequests int

	// Base is for how long the first time; each time doubles it, up to Most.
	Base, Most time.Duration
	// MaxPercent of the replicas are ejected at once at most; one may be in
	// any case, as long as half are left.
	MaxPercent int
}

// DefaultPolicy returns the values that hold where nothing is said.
func DefaultPolicy() Policy {
	return Policy{
		GatewayFailures: 5,
		Interval:        10 * time.Second, RateReplicas: 5, RateRequests: 50,
		Base: 5 * time.Second, Most: 5 * time.Minute, MaxPercent: 30,
	}
}

// Result is how a replica served one request.
type Result int

// The results.
const (
	Served       Result = iota // any answer below 500
	ServerError                // an answer from 500 on, but for those of a gateway
	GatewayError               // 502, 503 or 504
	Broken                     // no answer, or one that cannot be understood
)

// Reason is why a replica is ejected.
type Reason string

// The reasons.
const (
	ReasonGateway Reason = "gateway errors in a row"
	ReasonServer  Reason = "server errors in a row"
	ReasonRate    Reason = "fails more often than the others"
	ReasonTrial   Reason = "failed its trial"
)

// standing is what is held against a replica.
type standing struct {
	unreachable      bool // until then, and as often in a row
	unreachableUntil time.Time
	dials            int

	ejected      bool // until then, and as often lately
	ejectedUntil time.Time
	ejections    int
	reason       Reason
	trial        bool // it is back, with one request at a time until one succeeds

	gatewayRow, serverRow int
	answers, failures     int // since the last sweep
}

// Unreachable says until when m is left alone because it could not be reached;
// zero: it is not.
func (m *Member) Unreachable() time.Time {
	if !m.unreachable {
		return time.Time{}
	}
	return m.unreachableUntil
}

// Ejected says until when m is left alone because of how it served, and why;
// zero: it is not.
func (m *Member) Ejected() (until time.Time, reason Reason) {
	if !m.ejected {
		return time.Time{}, ""
	}
	return m.ejectedUntil, m.reason
}

// Trial says whether m is back from an ejection, and has not yet proved that it
// serves.
func (m *Member) Trial() bool { return m.trial }

// Panicking says whether so many replicas are away that those ejected are used
// all the same.
func (s *Set) Panicking() bool { return s.panicking }

// Due is when the next replica returns; zero: none is away.
func (s *Set) Due() time.Time { return s.due }

// Miss says that m could not be connected to, and returns for how long it is
// left alone. Dials that were under way when another failed are no further
// reason: they failed at the same time, not in a row.
func (s *Set) Miss(m *Member, now time.Time) time.Duration {
	s.Refresh(now)
	if m.unreachable && m.unreachableUntil.After(now) {
		return m.unreachableUntil.Sub(now)
	}
	d := doubled(unreachableFirst, m.dials, unreachableMost)
	m.dials++
	m.unreachable, m.unreachableUntil = true, now.Add(d)
	s.refresh(now)
	return d
}

// Reach says that m has taken a connection.
func (s *Set) Reach(m *Member, now time.Time) {
	m.dials = 0
	if m.unreachable {
		m.unreachable = false
		s.refresh(now)
	}
}

// Observe takes in how m served a request. It returns those that are ejected
// because of that, which is nobody but rarely.
func (s *Set) Observe(m *Member, result Result, now time.Time) (ejected []*Member) {
	s.Refresh(now)
	policy := s.rules()
	m.answers++
	if result != Served {
		m.failures++
	}
	switch {
	case m.ejected: // it began before; what it holds against it is held already
	case m.trial:
		if result == Served || (result == ServerError && policy.ServerErrors == 0) {
			m.trial, m.warmFrom = false, now
			s.place(m)
		} else if s.eject(m, ReasonTrial, now) {
			ejected = append(ejected, m)
		}
	default:
		if reason := m.count(result, policy); reason != "" && s.eject(m, reason, now) {
			ejected = append(ejected, m)
		}
	}
	if policy.Interval > 0 && !now.Before(s.sweepAt) {
		ejected = append(ejected, s.sweep(policy, now)...)
	}
	return ejected
}

func (s *Set) rules() Policy {
	if s.policy == (Policy{}) {
		s.policy = DefaultPolicy()
	}
	return s.policy
}

// count counts failures in a row, and returns a reason to eject m, or "".
func (m *Member) count(result Result, policy Policy) Reason {
	switch result {
	case Served:
		m.gatewayRow, m.serverRow = 0, 0
	case ServerError:
		m.gatewayRow = 0
		m.serverRow++
	case GatewayError, Broken:
		m.gatewayRow++
		m.serverRow++
	}
	switch {
	case policy.GatewayFailures > 0 && m.gatewayRow >= policy.GatewayFailures:
		return ReasonGateway
	case policy.ServerErrors > 0 && m.serverRow >= policy.ServerErrors:
		return ReasonServer
	}
	return ""
}

// eject leaves m alone, unless too many are away already.
func (s *Set) eject(m *Member, reason Reason, now time.Time) bool {
	s.Refresh(now)
	if !m.joined || m.ejected || !s.spares(m) {
		return false
	}
	policy := s.rules()
	m.ejected, m.trial, m.reason = true, false, reason
	m.ejectedUntil = now.Add(doubled(policy.Base, m.ejections, policy.Most))
	m.ejections++
	m.gatewayRow, m.serverRow, m.answers, m.failures = 0, 0, 0, 0
	s.refresh(now)
	return true
}

// spares says whether the Set can do without m.
func (s *Set) spares(m *Member) bool {
	ejected, left := 0, 0
	for _, other := range s.members {
		if other.ejected {
			ejected++
		}
		if other != m && other.isLeft() {
			left++
		}
	}
	most := max(1, len(s.members)*s.rules().MaxPercent/100)
	return ejected < most && 2*left >= len(s.members)
}

func (m *Member) isLeft() bool { return !m.unreachable && !m.ejected }

// refresh lets those return whose time is over, and finds everybody's place
// anew. It is called when somebody goes or returns.
func (s *Set) refresh(now time.Time) {
	s.due, s.panicking = time.Time{}, false
	ejected, left := 0, 0
	for _, m := range s.members {
		if m.unreachable && !m.unreachableUntil.After(now) {
			m.unreachable = false
		}
		if m.ejected && !m.ejectedUntil.After(now) {
			m.ejected, m.trial = false, true
		}
		if m.unreachable {
			s.dueBy(m.unreachableUntil)
		}
		if m.ejected {
			ejected++
			s.dueBy(m.ejectedUntil)
		}
		if m.isLeft() {
			left++
		}
	}
	s.panicking = ejected > 0 && 2*left < len(s.members)
	for _, m := range s.members {
		s.place(m)
	}
}

func (s *Set) dueBy(t time.Time) {
	if s.due.IsZero() || t.Before(s.due) {
		s.due = t
	}
}

// sweep compares how often the replicas fail, and forgives a replica that has
// been well one of its ejections.
func (s *Set) sweep(policy Policy, now time.Time) (ejected []*Member) {
	first := s.sweepAt.IsZero()
	s.sweepAt = now.Add(policy.Interval)
	if first {
		return nil
	}
	if policy.RateReplicas > 0 {
		ejected = s.outliers(policy, now)
	}
	for _, m := range s.members {
		if !m.ejected && !m.trial && m.ejections > 0 && now.Sub(m.ejectedUntil) >= policy.Interval {
			m.ejections--
		}
		m.answers, m.failures = 0, 0
	}
	return ejected
}

// outliers ejects who fails more often than the others by more than chance.
// Envoy takes 1.9 standard deviations of the replicas' rates; with many
// replicas that are all alike, chance alone puts some beyond that, so three
// standard errors of the replica's own rate, and five points, are asked as
// well.
func (s *Set) outliers(policy Policy, now time.Time) (ejected []*Member) {
	n, sum, squares := 0.0, 0.0, 0.0
	for _, m := range s.members {
		if m.counts(policy) {
			rate := m.failureRate()
			n, sum, squares = n+1, sum+rate, squares+rate*rate
		}
	}
	if n == 0 || int(n) < policy.RateReplicas {
		return nil
	}
	mean := sum / n
	deviation := math.Sqrt(max(0, squares/n-mean*mean))
	for _, m := range s.members {
		if !m.counts(policy) {
			continue
		}
		chance := math.Sqrt(mean * (1 - mean) / float64(m.answers))
		if m.failureRate()-mean > max(1.9*deviation, 3*chance, 0.05) && s.eject(m, ReasonRate, now) {
			ejected = append(ejected, m)
		}
	}
	return ejected
}

func (m *Member) counts(policy Policy) bool {
	return !m.ejected && m.answers >= max(1, policy.RateRequests)
}

func (m *Member) failureRate() float64 { return float64(m.failures) / float64(m.answers) }

// doubled is first, doubled as often as times, up to most.
func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	for range times {
		if first >= most/2 {
			return most
		}
		first *= 2
	}
	return min(first, most)
}
