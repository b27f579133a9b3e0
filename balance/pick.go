package balance

import "time"

const (
	// scanMost is up to how many replicas all are looked at: with so few, two
	// random ones are often the two worst, and looking costs nothing.
	scanMost = 8

	// slowStart is for how long others are preferred to a replica that is new,
	// less and less: a process that has just begun is often slow, with cold
	// caches and code that is not compiled yet. coldest is what it counts for
	// at the beginning.
	slowStart = 10 * time.Second
	coldest   = 0.25

	// nearBonus is how much better a replica on this node looks, in requests:
	// it is taken while it has at most one request more than the other one.
	nearBonus = 1.5
)

// Want is what one request wishes of its replica.
type Want struct {
	Key   uint64  // of its session or model, see Key; 0: none
	Avoid *Member // failed it before: taken only if there is no other; nil: none
}

// Pick returns the index, in what Replace was given, of the replica that a
// request should go to, or -1 if none has a free slot. random is 64 random
// bits.
func (s *Set) Pick(now time.Time, random uint64, want Want) int {
	s.Refresh(now)
	var best *Member
	switch {
	case want.Key != 0:
		best = s.preferred(want)
	case len(s.members) <= scanMost || want.Avoid != nil:
		best = s.scan(now, random, want.Avoid)
	default:
		best = s.sample(now, random)
	}
	if best == nil && want.Avoid != nil && want.Avoid.joined && want.Avoid.level > 0 {
		best = want.Avoid
	}
	if best == nil {
		return -1
	}
	return best.index
}

// Refresh has those return whose time away is over.
func (s *Set) Refresh(now time.Time) {
	if !s.due.IsZero() && !now.Before(s.due) {
		s.refresh(now)
	}
}

// scan looks at every replica, and takes one of the best at random.
func (s *Set) scan(now time.Time, random uint64, avoid *Member) (best *Member) {
	lowest, ties := 0.0, uint64(0)
	for _, m := range s.members {
		if m.level == 0 || m == avoid {
			continue
		}
		score := m.score(now)
		switch {
		case best == nil || score < lowest:
			best, lowest, ties = m, score, 1
		case score == lowest:
			ties++
			random = mix(random)
			if random%ties == 0 {
				best = m
			}
		}
	}
	return best
}

// sample takes the better of two random replicas with a free slot, and of that
// one and as good a one on this node.
func (s *Set) sample(now time.Time, random uint64) *Member {
	best := s.all.sample(now, random)
	if near := s.near.sample(now, mix(random)); near != nil && near.score(now) < best.score(now) {
		return near
	}
	return best
}

func (p *pool) sample(now time.Time, random uint64) *Member {
	for _, list := range p.lists {
		n := uint64(len(list))
		if n == 0 {
			continue
		}
		// The two halves of the random bits, each scaled to its range.
		i := (random >> 32) * n >> 32
		a := list[i]
		if n == 1 {
			return a
		}
		j := (random & 0xffffffff) * (n - 1) >> 32
		if j >= i {
			j++
		}
		if b := list[j]; b.score(now) < a.score(now) {
			return b
		}
		return a
	}
	return nil
}

// score is what is compared: the lower the better.
func (m *Member) score(now time.Time) float64 {
	score := float64(m.inFlight + m.elsewhere + 1)
	if !m.warmFrom.IsZero() {
		score /= m.warmth(now)
	}
	if m.near {
		score -= nearBonus
	}
	return score
}

// warmth is the replica's share of requests while it begins, up to 1.
func (m *Member) warmth(now time.Time) float64 {
	age := now.Sub(m.warmFrom)
	if age >= slowStart {
		m.warmFrom = time.Time{}
		return 1
	}
	// In steps, so that those which began at nearly the same time are equals.
	return coldest + (1-coldest)*max(0, float64(age.Truncate(time.Second))/float64(slowStart))
}
