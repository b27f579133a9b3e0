package analysis

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// pair is what is compared.
type pair struct {
	new     tally
	old     tally
	beside  tally  // of the old version, while the new one had requests: a part of old
	parts   []slot // of the new one, oldest first; nil: it is not known when what was
	settled bool   // the new one's first request in it is not of the last moment
}

// Compare finds whether the new version serves worse than the old one: over the
// last Window and, as that may hold too few requests, over longWindow.
func Compare(before, after Standing, limits Limits) Finding {
	short := shortPair(&before, &after)
	found := short.judge(limits)
	if found.Worse || len(after.long) == 0 {
		return found
	}
	long := longPair(&before, &after)
	if further := long.judge(limits); further.Worse || short.new.requests < leastAnswers {
		return further
	}
	return found
}

func shortPair(before, after *Standing) pair {
	p := pair{new: tallyOf(after.Recent), old: tallyOf(before.Last)}
	if before.Last.Requests < before.Recent.Requests {
		p.old = tallyOf(before.Recent)
	}
	p.align(after)
	if first, ok := firstAfter(after.fine, after.now/int64(time.Second)-int64(Window/time.Second)); ok {
		p.beside = between(before.fine, first-1, math.MaxInt64)
	}
	return p
}

func longPair(before, after *Standing) pair {
	oldest := (after.now - int64(longWindow)) / int64(longSlot)
	p := pair{new: between(after.long, oldest, math.MaxInt64), old: between(before.long, -1, math.MaxInt64)}
	p.align(after)
	if first, ok := firstAfter(after.long, oldest); ok {
		p.beside = between(before.long, first-1, math.MaxInt64)
	}
	return p
}

// align finds what the new version did when. Standings that no ledger has made do
// not say that: then all of it was at once.
func (p *pair) align(after *Standing) {
	p.parts, p.settled = after.fine, true
	if len(after.long) > 0 && len(after.fine) > 0 {
		ago := after.now - int64(settles)
		p.settled = after.fine[0].at*int64(time.Second) <= ago || (after.long[0].at+1)*int64(longSlot) <= ago
	}
}

// firstAfter returns the number of the first slot after one.
func firstAfter(slots []slot, number int64) (first int64, ok bool) {
	for i := range slots {
		if slots[i].at > number {
			return slots[i].at, true
		}
	}
	return 0, false
}

// lately returns the last of what the new version did, with at least so many
// answers if there are.
func (p *pair) lately(answers uint64) tally {
	if p.parts == nil {
		return p.new
	}
	var last tally
	for i := len(p.parts) - 1; i >= 0 && last.answers < answers; i-- {
		last.add(&p.parts[i])
	}
	return last
}

// judge compares errors and latency.
func (p *pair) judge(limits Limits) Finding {
	if p.new.requests == 0 {
		return Finding{Reason: "the new version has had no request yet"}
	}
	var said []string
	if limits.ErrorIncrease >= 0 {
		worse, reason := p.judgeErrors(limits.ErrorIncrease)
		if worse {
			return Finding{Worse: true, Reason: reason}
		}
		said = append(said, reason)
	}
	if limits.LatencyRatio >= 0 {
		worse, reason := p.judgeLatency(limits.LatencyRatio)
		if worse {
			return Finding{Worse: true, Reason: reason}
		}
		said = append(said, reason)
	}
	if len(said) == 0 {
		return Finding{Reason: "neither errors nor latency have a limit"}
	}
	return Finding{Reason: strings.Join(said, "; "), Doubts: p.doubtful(limits.ErrorIncrease)}
}

// percent is a share for people.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "none"
	}
	share := 100 * float64(part) / float64(whole)
	if part > 0 && share < 0.05 {
		return "below 0.1 percent"
	}
	return strconv.FormatFloat(share, 'f', 1, 64) + " percent"
}

// allowedErrors says what limit is.
func allowedErrors(limit float64) string {
	switch points := 100 * limit; points {
	case 0:
		return "no more is allowed"
	case 1:
		return "at most 1 percentage point more is allowed"
	default:
		return fmt.Sprintf("at most %.3g percentage points more is allowed", points)
	}
}
