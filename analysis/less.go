package analysis

import "github.com/serve-nomad/serve-nomad/loads"

// less returns what now says beyond what was said before; nil: nothing was.
func less(now, before *loads.Served) loads.Served {
	rest := *now
	if before == nil {
		return rest
	}
	rest.Requests, rest.Errors = minus(now.Requests, before.Requests), minus(now.Errors, before.Errors)
	rest.Latency = minusEach(now.Latency, before.Latency)
	if now.Shadow != nil && before.Shadow != nil {
		a, b := now.Shadow, before.Shadow
		rest.Shadow = &loads.Shadowed{
			Requests: minus(a.Requests, b.Requests), Differing: minus(a.Differing, b.Differing),
			Errors: minus(a.Errors, b.Errors), Dropped: minus(a.Dropped, b.Dropped),
			Latency: minusEach(a.Latency, b.Latency), Primary: minusEach(a.Primary, b.Primary),
		}
	}
	return rest
}

func minusEach(now, before map[int]uint64) map[int]uint64 {
	rest := make(map[int]uint64, len(now))
	for bucket, count := range now {
		if n := minus(count, before[bucket]); n > 0 {
			rest[bucket] = n
		}
	}
	return rest
}

func minus(now, before uint64) uint64 { return now - min(now, before) }
