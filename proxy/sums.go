package proxy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/loads"
)

// overGenerations adds up what the generations of each application have of a
// deployment, whose load is one to the leader. The extremes are those of each
// generation added up: they came at different times, so that the sum was never
// beyond them, and maybe never there.
func overGenerations(all []loads.Deployment) []loads.Deployment {
	slices.SortFunc(all, func(a, b loads.Deployment) int {
		return cmp.Or(strings.Compare(a.Application, b.Application), strings.Compare(a.Deployment, b.Deployment))
	})
	kept := all[:0]
	for _, d := range all {
		last := len(kept) - 1
		if last < 0 || kept[last].Key() != d.Key() {
			kept = append(kept, d)
			continue
		}
		sum := &kept[last]
		sum.Ongoing += d.Ongoing
		sum.Queued += d.Queued
		sum.Mean += d.Mean
		sum.Max += d.Max
		sum.Min += d.Min
	}
	return kept
}

// overGates does the same for versions. Each belongs to one generation, unless
// the table says otherwise, and a report that names one twice would be refused.
func overGates(all []loads.Served) []loads.Served {
	slices.SortFunc(all, func(a, b loads.Served) int {
		return cmp.Or(strings.Compare(a.Application, b.Application), strings.Compare(a.Deployment, b.Deployment), strings.Compare(a.Version, b.Version))
	})
	kept := all[:0]
	for _, s := range all {
		last := len(kept) - 1
		if last < 0 || kept[last].Key() != s.Key() {
			kept = append(kept, s)
			continue
		}
		sum := &kept[last]
		sum.Ongoing += s.Ongoing
		sum.Requests += s.Requests
		sum.Errors += s.Errors
		sum.Latency = addBuckets(sum.Latency, s.Latency)
		sum.Shadow = addShadows(sum.Shadow, s.Shadow)
	}
	return kept
}

func addShadows(to, more *loads.Shadowed) *loads.Shadowed {
	if to == nil || more == nil {
		return cmp.Or(to, more)
	}
	to.Requests += more.Requests
	to.Differing += more.Differing
	to.Errors += more.Errors
	to.Dropped += more.Dropped
	to.Latency, to.Primary = addBuckets(to.Latency, more.Latency), addBuckets(to.Primary, more.Primary)
	return to
}

func addBuckets(to, more map[int]uint64) map[int]uint64 {
	if to == nil {
		return more
	}
	for bucket, n := range more {
		to[bucket] += n
	}
	return to
}
