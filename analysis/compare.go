package analysis

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// pair is what is compared.
type pair struct {
	new     tally
	old     tally
	beside  tally // of the old version, while the new one had requests: a part of old
	lately  tally // of the new one, the last part of it
	settled bool  // the new one's first request in it is not of the last moment
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
	p.align(before.fine, after.fine, after.now, time.Second, Window)
	return p
}

func longPair(before, after *Standing) pair {
	end := after.now / int64(longSlot)
	kept := int64(longWindow / longSlot)
	p := pair{new: between(after.long, end-kept, end), old: between(before.long, -1, end)}
	p.align(before.long, after.long, after.now, longSlot, longWindow)
	return p
}

// align finds what there was side by side. Standings that no ledger has made do
// not say when what was: then all of it was at once.
func (p *pair) align(before, after []slot, now int64, width, window time.Duration) {
	p.lately, p.settled = p.new, true
	end := now / int64(width)
	oldest := end - int64(window/width)
	first := -1
	for i := range after {
		if after[i].at > oldest {
			first = i
			break
		}
	}
	if first < 0 {
		return
	}
	p.beside = between(before, after[first].at-1, end)
	p.settled = (end-after[first].at)*int64(width) >= int64(settles)
	p.lately = tally{}
	for i := len(after) - 1; i >= first; i-- {
		p.lately.add(&after[i])
		if p.lately.answers >= leastLately && (end-after[i].at)*int64(width) >= int64(settles) {
			break
		}
	}
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
	return Finding{Reason: strings.Join(said, "; ")}
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
