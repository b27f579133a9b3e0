package analysis

import (
	"cmp"
	"math"
	"slices"

	"github.com/serve-nomad/serve-nomad/loads"
)

// series is how one version served, in slots of equal width, oldest first; slots
// without a request are left out. It keeps as many as its length before the
// newest, so that of a version that takes no more requests the last stay.
//
// A slot's latency is never changed once it is there, so copies of the slots
// may be given out.
type series struct {
	width int64 // of a slot, ns
	kept  int64 // slots
	slots []slot
}

type slot struct {
	at       int64 // number of the slot since the ledger began
	requests uint64
	errors   uint64
	latency  []cell // by bucket
}

// cell is the answers of one latency bucket.
type cell struct {
	bucket uint8
	count  uint32
}

// add enters what was served at a time, and returns by how many cells the series
// has grown.
func (s *series) add(at int64, served *loads.Served, latency []cell) (grown int) {
	number := max(0, at) / s.width
	if len(s.slots) > 0 && number <= s.slots[len(s.slots)-1].at-s.kept {
		return 0
	}
	i, found := slices.BinarySearchFunc(s.slots, number, func(in slot, number int64) int { return cmp.Compare(in.at, number) })
	if !found {
		s.slots = slices.Insert(s.slots, i, slot{at: number})
	}
	in := &s.slots[i]
	in.requests += served.Requests
	in.errors += min(served.Errors, served.Requests)
	grown = -len(in.latency)
	in.latency = merge(in.latency, latency)
	return grown + len(in.latency) - s.prune()
}

// prune lets go of what is too old, and returns how many cells that had.
func (s *series) prune() (cells int) {
	last := s.slots[len(s.slots)-1].at
	gone := 0
	for s.slots[gone].at <= last-s.kept {
		cells += len(s.slots[gone].latency)
		gone++
	}
	s.slots = slices.Delete(s.slots, 0, gone)
	return cells
}

// snapshot returns the slots as they are.
func (s *series) snapshot() []slot { return slices.Clone(s.slots) }

// cells returns how many cells there are.
func (s *series) cells() (n int) {
	for i := range s.slots {
		n += len(s.slots[i].latency)
	}
	return n
}

// cellsOf returns what a report says of latency.
func cellsOf(latency map[int]uint64) []cell {
	cells := make([]cell, 0, len(latency))
	for bucket, count := range latency {
		if bucket >= 0 && bucket <= loads.LastBucket && count > 0 {
			cells = append(cells, cell{uint8(bucket), uint32(min(count, math.MaxUint32))})
		}
	}
	slices.SortFunc(cells, func(a, b cell) int { return cmp.Compare(a.bucket, b.bucket) })
	return cells
}

// buckets is the reverse of cellsOf.
func buckets(cells []cell) map[int]uint64 {
	if len(cells) == 0 {
		return nil
	}
	all := make(map[int]uint64, len(cells))
	for _, c := range cells {
		all[int(c.bucket)] = uint64(c.count)
	}
	return all
}

// merge returns the sum of two lists, in a new one.
func merge(a, b []cell) []cell {
	if len(a) == 0 {
		return b
	}
	sum := make([]cell, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].bucket < b[0].bucket:
			sum, a = append(sum, a[0]), a[1:]
		case a[0].bucket > b[0].bucket:
			sum, b = append(sum, b[0]), b[1:]
		default:
			both := min(uint64(a[0].count)+uint64(b[0].count), math.MaxUint32)
			sum, a, b = append(sum, cell{a[0].bucket, uint32(both)}), a[1:], b[1:]
		}
	}
	return append(append(sum, a...), b...)
}

// tally is a sum of slots.
type tally struct {
	requests, errors uint64
	answers          uint64 // of latency
	latency          [loads.LastBucket + 1]uint64
}

// between returns the sum of the slots after one and up to another.
func between(slots []slot, after, upTo int64) (t tally) {
	for i := range slots {
		if s := &slots[i]; s.at > after && s.at <= upTo {
			t.add(s)
		}
	}
	return t
}

func (t *tally) add(s *slot) {
	t.requests += s.requests
	t.errors += s.errors
	for _, c := range s.latency {
		t.latency[c.bucket] += uint64(c.count)
		t.answers += uint64(c.count)
	}
}

func tallyOf(s Sample) tally {
	t := tally{requests: s.Requests, errors: min(s.Errors, s.Requests)}
	t.latency, t.answers = dense(s.Latency)
	return t
}

func dense(latency map[int]uint64) (buckets [loads.LastBucket + 1]uint64, total uint64) {
	for bucket, count := range latency {
		buckets[max(0, min(bucket, loads.LastBucket))] += count
		total += count
	}
	return buckets, total
}

func (t *tally) sample() Sample {
	s := Sample{Requests: t.requests, Errors: t.errors}
	filled := 0
	for _, count := range t.latency {
		if count > 0 {
			filled++
		}
	}
	if filled == 0 {
		return s
	}
	s.Latency = make(map[int]uint64, filled)
	for bucket, count := range t.latency {
		if count > 0 {
			s.Latency[bucket] = count
		}
	}
	return s
}

// rate is the share of the requests that failed.
func (t *tally) rate() float64 {
	if t.requests == 0 {
		return 0
	}
	return float64(t.errors) / float64(t.requests)
}
