package gate

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// moment is a number of requests from some time on.
type moment struct {
	at    time.Duration
	count int
}

// plainly reckons a load over time as one would by hand.
func plainly(history []moment, from, to time.Duration) (sum float64, most, least int) {
	least = math.MaxInt
	for i, m := range history {
		end := to
		if i+1 < len(history) {
			end = history[i+1].at
		}
		begin := max(m.at, from)
		if end < from || begin > to {
			continue
		}
		// What was at the border itself counts, for the window begins with it.
		if end > from || i+1 == len(history) || history[i+1].at == from {
			most, least = max(most, m.count), min(least, m.count)
		}
		if end > begin {
			sum += float64(m.count) * float64(end-begin)
		}
	}
	return sum, most, least
}

// TestLoadLaws holds the running sums against a reckoning by hand, with reports
// that arrive and reports that do not.
func TestLoadLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		start := time.Unix(1000, 0)
		now, since := time.Duration(0), time.Duration(0)
		history := []moment{{0, 0}}
		l := newLoad()
		l.reckon(start)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			now += time.Duration(rapid.IntRange(1, 1e9).Draw(rt, "later"))
			if !rapid.Bool().Draw(rt, "report") {
				n := rapid.IntRange(-1, 1).Draw(rt, "n")
				if l.present+n < 0 {
					n = 1
				}
				// Some read the clock a little before they get the lock.
				l.add(n, start.Add(now))
				l.reckon(start.Add(now - 1))
				history = append(history, moment{now, l.present})
				continue
			}
			got := l.cut(start.Add(now))
			sum, most, least := plainly(history, since, now)
			if math.Abs(got.sum-sum) > 1e-9*math.Max(1, sum) || got.max != most || got.min != least {
				rt.Fatalf("since %v until %v: got %+v, want %v, at most %d, at least %d; %v", since, now, got, sum, most, least, history)
			}
			if rapid.Bool().Draw(rt, "arrived") {
				l.arrived()
				since = now
			}
		}
	})
}

func TestClockThatStandsOrGoesBack(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	l := newLoad()
	l.add(2, at)
	l.add(1, at.Add(-time.Hour))
	if got := l.cut(at.Add(time.Second)); got.sum != 3e9 || got.max != 3 {
		t.Errorf("got %+v", got)
	}
}
