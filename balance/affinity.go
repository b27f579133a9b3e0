package balance

// keyBytes is how much of a session's or a model's name counts.
const keyBytes = 256

// Kinds of what is bound to a replica, so that a session and a model of the
// same name are not.
const (
	Session = 's' // of one user: what it said before may still be there
	Model   = 'm' // what a replica has to load before it can serve
)

// Key returns the key of a session or a model of this name, which is never 0.
// It is the same in every proxy, so that all of them send it to the same
// replica without a word between them.
func Key(kind byte, name string) uint64 {
	if len(name) > keyBytes {
		name = name[:keyBytes]
	}
	return mix(hash(name)^uint64(kind)<<56) | 1
}

// preferred is the replica that comes first in the key's own order, of those
// with a free slot: rendezvous hashing (Thaler and Ravishankar 1998). The order
// of the others stays when one comes or goes, so only its own keys move. A key
// that has more requests than its first replica has slots spreads over the
// first few of its order, the same ones each time. Nobody waits for the
// preferred replica while another has a free slot.
func (s *Set) preferred(want Want) (best *Member) {
	highest := uint64(0)
	for _, m := range s.members {
		if m.level == 0 || m == want.Avoid {
			continue
		}
		if weight := mix(m.seed ^ want.Key); best == nil || weight > highest {
			best, highest = m, weight
		}
	}
	return best
}

// hash is FNV-1a, mixed so that like names are far apart.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix makes each bit of x count for each bit of the result: the finalizer of
// SplitMix64 (Steele, Lea and Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
