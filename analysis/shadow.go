package analysis

import (
	"fmt"
	"strings"

	"github.com/serve-nomad/serve-nomad/loads"
)

// shadow is loads.Shadowed, added up.
type shadow struct {
	counts           loads.Shadowed // without latencies
	latency, primary []cell
}

func (a *shadow) add(s *loads.Shadowed) {
	if s == nil {
		return
	}
	a.counts.Requests += s.Requests
	a.counts.Differing += s.Differing
	a.counts.Errors += s.Errors
	a.counts.Dropped += s.Dropped
	a.latency = merge(a.latency, cellsOf(s.Latency))
	a.primary = merge(a.primary, cellsOf(s.Primary))
}

func (a *shadow) sum() loads.Shadowed {
	s := a.counts
	s.Latency, s.Primary = buckets(a.latency), buckets(a.primary)
	return s
}

// CompareShadow finds whether a version that gets copies of requests answers
// them worse than the requests themselves were answered. That an answer has
// another status is told and is no fault by itself.
//
// Some copies fail where their request did not, and some requests where their
// copy did not: by chance as many. Of the latter it is known only that they are
// among those with another status, so all of these beside the failing copies are
// taken for such.
func CompareShadow(s loads.Shadowed, limits Limits) Finding {
	if s.Requests == 0 {
		return Finding{Reason: "no request has been copied to the new version yet" + dropped(s)}
	}
	said := []string{fmt.Sprintf("%d of %d copies were answered with another status", s.Differing, s.Requests)}
	if limits.ErrorIncrease >= 0 {
		reason := fmt.Sprintf("%d of %d copies failed whose request did not (%s); %s",
			s.Errors, s.Requests, percent(s.Errors, s.Requests), allowedErrors(limits.ErrorIncrease))
		if shadowFails(s, limits.ErrorIncrease) {
			return Finding{Worse: true, Reason: reason}
		}
		said = append(said, reason)
	}
	if limits.LatencyRatio >= 0 {
		var p pair
		p.new.latency, p.new.answers = dense(s.Latency)
		p.old.latency, p.old.answers = dense(s.Primary)
		p.settled = true
		worse, reason := p.judgeLatency(limits.LatencyRatio)
		if worse {
			return Finding{Worse: true, Reason: reason}
		}
		said = append(said, reason)
	}
	return Finding{Reason: strings.Join(said, "; ") + dropped(s)}
}

func shadowFails(s loads.Shadowed, limit float64) bool {
	errors := min(s.Errors, s.Requests)
	other := min(max(s.Differing, errors), s.Requests) - errors
	return errors >= leastErrors &&
		(errors == s.Requests || excessTail(errors, s.Requests, other, s.Requests, limit) < chance)
}

func dropped(s loads.Shadowed) string {
	if s.Dropped == 0 {
		return ""
	}
	return fmt.Sprintf("; %d requests were not copied", s.Dropped)
}
