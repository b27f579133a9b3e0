// Package balance decides which replica of a deployment gets a request.
//
// A Set holds the replicas that requests may be sent to. Pick scans a few
// replicas in full. Of more it takes the better of two at random, among those
// that have a free slot, so that it never misses one; where a replica takes
// only one to three requests the two are drawn among those with the fewest, so
// that an idle replica is found whenever there is one. Keys bind sessions and
// models to replicas (affinity.go), replicas that fail are left alone for a
// while (eject.go), and a Budget bounds how much is sent twice (budget.go).
//
// Nothing here reads a clock or draws a number: both are arguments. Nothing
// allocates once a Set has its replicas. The caller guards a Set and its
// Members by one lock.
package balance

import "time"

// levelCount is up to which limit the replicas are kept apart by the number of
// their requests. Above it, one request more or less at a replica matters
// little, and two random ones are enough (Mitzenmacher 2001).
const levelCount = 3

// Member is one replica. Its count of requests lives as long as it does, in a
// Set or out of it.
type Member struct {
	id       string
	seed     uint64 // of its place in the order of a key
	near     bool
	inFlight int
	joined   bool      // it is in the Set
	index    int       // in what Replace was given
	round    uint64    // of the last Replace that had it
	level    int       // 0: it has no free slot; else its list in the pools is level-1
	at       [2]int    // its index in that list of the pools all and near
	warmFrom time.Time // slow start began then; zero: it is warm

	elsewhere int // its slots that others have, as last heard, or that may be given to us

	standing
}

// NewMember returns the replica with this id.
func NewMember(id string) *Member { return &Member{id: id, seed: hash(id)} }

// ID returns the replica's id.
func (m *Member) ID() string { return m.id }

// InFlight returns how many requests the replica has from here.
func (m *Member) InFlight() int { return m.inFlight }

// Warming says whether the replica is new, so that others are preferred.
func (m *Member) Warming(now time.Time) bool {
	return !m.warmFrom.IsZero() && now.Sub(m.warmFrom) < slowStart
}

// Elsewhere is what Set.Elsewhere said last.
func (m *Member) Elsewhere() int { return m.elsewhere }

// Set is the replicas that requests of one deployment may be sent to. The zero
// Set is empty and takes DefaultPolicy.
type Set struct {
	policy    Policy
	limit     int
	members   []*Member
	round     uint64    // calls of Replace
	begun     time.Time // when the first joined
	all, near pool
	due       time.Time // when the next member returns; zero: none is away
	sweepAt   time.Time // when success rates are compared next
	panicking bool      // too many are ejected: it is as if none were
}

// pool is the members with a free slot, in one list for each number of requests
// up to levelCount, or in the first list where the limit is above that.
type pool struct {
	lists [levelCount][]*Member
}

// add puts m into the list of its level; which is the pool's index in m.at.
func (p *pool) add(m *Member, which int) {
	list := &p.lists[m.level-1]
	m.at[which] = len(*list)
	*list = append(*list, m)
}

func (p *pool) remove(m *Member, which int) {
	list := &p.lists[m.level-1]
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[m.at[which]] = moved
	moved.at[which] = m.at[which]
	(*list)[last] = nil
	*list = (*list)[:last]
}

// SetPolicy changes how failing replicas are found, from now on.
func (s *Set) SetPolicy(p Policy) { s.policy = p }

// SetLimit changes how many requests each replica may have.
func (s *Set) SetLimit(limit int) {
	if limit == s.limit {
		return
	}
	s.limit = limit
	for _, m := range s.members {
		s.place(m)
	}
}

// Replace makes members the Set's. The order in which they are given is what
// Pick's index means. Those that join others begin slowly, unless the others
// have only just begun themselves.
func (s *Set) Replace(members []*Member, now time.Time) {
	if len(s.members) == 0 {
		s.begun = now
	}
	young := now.Sub(s.begun) < slowStart
	s.round++
	for i, m := range members {
		if !m.joined {
			m.warmFrom = time.Time{}
			if !young {
				m.warmFrom = now
			}
		}
		m.joined, m.round, m.index = true, s.round, i
	}
	for _, m := range s.members {
		if m.round != s.round {
			m.joined = false
			s.place(m)
		}
	}
	clear(s.members)
	s.members = append(s.members[:0], members...)
	s.refresh(now)
}

// Take counts one request more at m.
func (s *Set) Take(m *Member) {
	m.inFlight++
	s.place(m)
}

// Free counts one request less at m.
func (s *Set) Free(m *Member) {
	m.inFlight--
	s.place(m)
}

// Elsewhere says how many of the replica's slots are not to be had, because
// others have them.
func (s *Set) Elsewhere(m *Member, n int) {
	m.elsewhere = n
	s.place(m)
}

// Near says whether m is on this host.
func (s *Set) Near(m *Member, near bool) {
	if near == m.near {
		return
	}
	if m.level > 0 && m.near {
		s.near.remove(m, 1)
	}
	if m.near = near; m.level > 0 && near {
		s.near.add(m, 1)
	}
}

// Usable says whether m may be given a request without having been picked: it is
// in the Set, and not left alone or on trial.
func (s *Set) Usable(m *Member) bool { return m.joined && s.capacity(m) >= s.limit }

// place brings m's place in the pools in line with what it may have.
func (s *Set) place(m *Member) {
	level := s.levelOf(m)
	if level == m.level {
		return
	}
	if m.level > 0 {
		s.all.remove(m, 0)
		if m.near {
			s.near.remove(m, 1)
		}
	}
	if m.level = level; level > 0 {
		s.all.add(m, 0)
		if m.near {
			s.near.add(m, 1)
		}
	}
}

func (s *Set) levelOf(m *Member) int {
	used := m.inFlight + m.elsewhere
	// A trial is of what this proxy sends: others may be content with the
	// replica, and use it all the time.
	if !m.joined || m.inFlight >= s.capacity(m) || used >= s.limit {
		return 0
	}
	if s.limit > levelCount {
		return 1
	}
	return 1 + used
}

// capacity is how many requests m may have from here now.
func (s *Set) capacity(m *Member) int {
	switch {
	case m.unreachable:
		return 0
	case s.panicking:
		return s.limit
	case m.ejected:
		return 0
	case m.trial:
		return 1
	}
	return s.limit
}
