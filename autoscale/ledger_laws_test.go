package autoscale

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/loads"
)

// ledgerStart is when the server of a law's ledger began to lead.
func ledgerStart() time.Time { return time.Unix(2_000_000, 0) }

func lawKey(i int) loads.Key { return loads.Key{Application: "app", Deployment: fmt.Sprint("d", i)} }

// lawLedger follows three deployments, each with a window of its own.
func lawLedger() *Ledger {
	l := NewLedger(ledgerStart())
	l.Follow(map[loads.Key]time.Duration{lawKey(0): 30 * time.Second, lawKey(1): 0, lawKey(2): 3 * time.Second})
	return l
}

// drawLoad draws the numbers of a deployment, in eighths so that sums are exact.
func drawLoad(t *rapid.T, i int) loads.Deployment {
	least := rapid.IntRange(0, 10).Draw(t, "min")
	more := rapid.IntRange(0, 10).Draw(t, "max-min")
	mean := float64(least) + float64(more*rapid.IntRange(0, 8).Draw(t, "eighths"))/8
	return loads.Deployment{
		Application: lawKey(i).Application, Deployment: lawKey(i).Deployment,
		Ongoing: rapid.IntRange(0, 10).Draw(t, "ongoing"), Queued: rapid.IntRange(0, 10).Draw(t, "queued"),
		Mean: mean, Max: float64(least + more), Min: float64(least),
	}
}

func drawReport(t *rapid.T, proxies int) loads.Report {
	r := loads.Report{
		Schema: loads.Schema, Ready: rapid.IntRange(0, 9).Draw(t, "ready") > 0,
		Proxy:       fmt.Sprint("web-", rapid.IntRange(1, proxies).Draw(t, "proxy")),
		Incarnation: int64(rapid.IntRange(1, 3).Draw(t, "incarnation")),
		Sequence:    rapid.Uint64Range(1, 30).Draw(t, "sequence"),
		Leaving:     rapid.IntRange(0, 19).Draw(t, "leaving") == 0,
		Covers:      time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "covers")),
		Next:        time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "next")),
	}
	for i := range 4 {
		if r.Ready && rapid.Bool().Draw(t, "named") {
			r.Deployments = append(r.Deployments, drawLoad(t, i))
		}
	}
	return r
}

// drawStep moves a clock: mostly on by a bit, at times far, at times back.
func drawStep(t *rapid.T, now time.Time) time.Time {
	switch rapid.IntRange(0, 19).Draw(t, "step") {
	case 0:
		return now.Add(time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "jump")))
	case 1:
		return now.Add(-time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "back")))
	case 2:
		return now
	default:
		return now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "on")))
	}
}

func drawWindows(t *rapid.T) map[loads.Key]time.Duration {
	windows := map[loads.Key]time.Duration{}
	for i := range 3 {
		if rapid.Bool().Draw(t, "followed") {
			windows[lawKey(i)] = time.Duration(rapid.IntRange(0, 60).Draw(t, "window")) * time.Second
		}
	}
	return windows
}

// TestLawAnySequence: whatever comes, in any order, the numbers are finite, a
// mean lies between the smallest and the largest, what is remembered is in
// order and bounded, and the ways to ask agree.
func TestLawAnySequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := lawLedger(), ledgerStart()
		for range rapid.IntRange(1, 60).Draw(t, "reports") {
			now = drawStep(t, now)
			r := drawReport(t, 3)
			if rapid.IntRange(0, 9).Draw(t, "spoil") == 0 {
				r.Schema++
			}
			if err := l.Take(now, r); (err != nil) != (r.Schema != loads.Schema) {
				t.Fatalf("%+v: %v", r, err)
			}
			now = drawStep(t, now)
			if rapid.IntRange(0, 9).Draw(t, "follow") == 0 {
				l.Follow(drawWindows(t))
			}
			inOrder(t, l)
			for i := range 3 {
				agree(t, l, now, lawKey(i))
			}
		}
	})
}

// inOrder checks what a ledger remembers.
func inOrder(t *rapid.T, l *Ledger) {
	for key, f := range l.followed {
		for _, trail := range f.trails {
			if n := cap(trail.points); n > 2*segmentsPerWindow {
				t.Fatalf("%v has room for %d points", key, n)
			}
			last := int64(math.MinInt64)
			for _, p := range trail.points {
				if p.at <= last {
					t.Fatalf("%v: %d comes after %d", key, p.at, last)
				}
				last = p.at
			}
			if trail.last.at < last || trail.tail.at < trail.last.at || trail.until < trail.tail.at {
				t.Fatalf("%v: %d, last %d, tail %d, until %d", key, last, trail.last.at, trail.tail.at, trail.until)
			}
			if trail.count.trail != trail {
				t.Fatalf("%v has a trail that nobody writes", key)
			}
		}
	}
}

// agree compares the ways to ask for one deployment.
func agree(t *rapid.T, l *Ledger, now time.Time, key loads.Key) {
	if l.followed[key] == nil {
		return
	}
	ongoing, queued := l.Present(now, key)
	s := l.Series(now, key)
	if s == nil {
		if ongoing+queued > 0 {
			t.Fatalf("%v: the load is not known, and %d requests are there", key, ongoing+queued)
		}
		if l.Hold(now, 0) == "" {
			t.Fatalf("%v: the load is not known, and nothing holds", key)
		}
		return
	}
	if got := s.Present(); got != float64(ongoing+queued) {
		t.Fatalf("%v: the series ends with %v, and %d requests are there", key, got, ongoing+queued)
	}
	if got := s.Over(now, 0, "mean"); got != s.Present() {
		t.Fatalf("%v: %v requests are there now, and %v in no window", key, s.Present(), got)
	}
	for _, window := range []time.Duration{time.Millisecond, time.Second, 30 * time.Second, time.Hour} {
		mean, most, least := s.Over(now, window, "mean"), s.Over(now, window, "max"), s.Over(now, window, "min")
		for _, value := range []float64{mean, most, least} {
			if math.IsNaN(value) || math.IsInf(value, 0) || value < 0 {
				t.Fatalf("%v: %v came out", key, value)
			}
		}
		if mean < least-1e-6 || mean > most+1e-6 {
			t.Fatalf("%v over %v: the mean %v is not within %v and %v", key, window, mean, least, most)
		}
	}
}

// TestLawSilenceIsNotIdleness: while a proxy that had requests says nothing,
// its requests are counted or nothing may be taken away.
func TestLawSilenceIsNotIdleness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := lawLedger(), ledgerStart()
		had := drawLoad(t, 0)
		had.Ongoing++
		report := loads.Report{
			Schema: loads.Schema, Proxy: "quiet", Incarnation: 1, Sequence: 1, Ready: true,
			Covers: time.Second, Next: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "next")),
			Deployments: []loads.Deployment{had},
		}
		now = now.Add(time.Minute)
		if err := l.Take(now, report); err != nil {
			t.Fatal(err)
		}
		for end := now.Add(silenceMatters); ; {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "on")))
			if !now.Before(end) {
				return
			}
			other := drawReport(t, 2)
			if err := l.Take(now, other); err != nil {
				t.Fatal(err)
			}
			ongoing, queued := l.Present(now, lawKey(0))
			if ongoing+queued < had.Ongoing+had.Queued && l.Hold(now, 0) == "" {
				t.Fatalf("after %v of silence there are %d requests, and nothing holds", now.Sub(end.Add(-silenceMatters)), ongoing+queued)
			}
		}
	})
}

// timed is a report and when it comes.
type timed struct {
	at     time.Time
	report loads.Report
}

// drawHistory draws what some proxies say in sequence.
func drawHistory(t *rapid.T, proxies int) []timed {
	var all []timed
	for i := range proxies {
		at := ledgerStart()
		for sequence := range uint64(rapid.IntRange(1, 12).Draw(t, "reports")) {
			covers := time.Duration(rapid.IntRange(0, 16).Draw(t, "covers")) * 125 * time.Millisecond
			at = at.Add(covers)
			r := loads.Report{
				Schema: loads.Schema, Proxy: fmt.Sprint("web-", i), Incarnation: 1, Sequence: sequence + 1,
				Ready: true, Covers: covers, Next: time.Second,
			}
			for d := range 3 {
				if rapid.Bool().Draw(t, "named") {
					r.Deployments = append(r.Deployments, drawLoad(t, d))
				}
			}
			all = append(all, timed{at, r})
		}
	}
	slices.SortStableFunc(all, func(a, b timed) int { return a.at.Compare(b.at) })
	return all
}

func takeAll(t *rapid.T, l *Ledger, history []timed) {
	for _, h := range history {
		if err := l.Take(h.at, h.report); err != nil {
			t.Fatal(err)
		}
	}
}

// told is all that a ledger says, as text.
func told(l *Ledger, now time.Time) string {
	out := l.Hold(now, 30*time.Second)
	for i := range 3 {
		ongoing, queued := l.Present(now, lawKey(i))
		out += fmt.Sprintf("\n%d: %d %d", i, ongoing, queued)
		s := l.Series(now, lawKey(i))
		if s == nil {
			continue
		}
		s.Each(ledgerStart().Add(-time.Hour), now, func(step Step, lasts time.Duration) {
			out += fmt.Sprintf("\n  %v for %v: %v %v %v", step.At.Sub(ledgerStart()), lasts, step.Mean, step.Max, step.Min)
		})
	}
	return out
}

// TestLawRepeatsChangeNothing: a report that comes again, or after a later one,
// is as if it had not come.
func TestLawRepeatsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := drawHistory(t, 3)
		once, often := lawLedger(), lawLedger()
		takeAll(t, once, history)
		for i, h := range history {
			takeAll(t, often, history[i:i+1])
			for range rapid.IntRange(0, 2).Draw(t, "repeats") {
				again := history[rapid.IntRange(0, i).Draw(t, "which")]
				again.at = h.at
				takeAll(t, often, []timed{again})
			}
		}
		now := history[len(history)-1].at.Add(time.Second)
		if a, b := told(once, now), told(often, now); a != b {
			t.Fatalf("once:\n%s\nwith repeats:\n%s", a, b)
		}
	})
}

// TestLawOrderOfProxies: which of several proxies reports first at a moment
// does not matter.
func TestLawOrderOfProxies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := drawHistory(t, 3)
		other := rapid.Permutation([]string{"web-0", "web-1", "web-2"}).Draw(t, "order")
		swapped := slices.Clone(history)
		slices.SortStableFunc(swapped, func(a, b timed) int {
			if c := a.at.Compare(b.at); c != 0 {
				return c
			}
			return slices.Index(other, a.report.Proxy) - slices.Index(other, b.report.Proxy)
		})
		one, two := lawLedger(), lawLedger()
		takeAll(t, one, history)
		takeAll(t, two, swapped)
		now := history[len(history)-1].at.Add(time.Second)
		if a, b := told(one, now), told(two, now); a != b {
			t.Fatalf("one:\n%s\nother:\n%s", a, b)
		}
	})
}

// TestLawLongerMemory: what a ledger has let go of, no window reaches.
func TestLawLongerMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := time.Duration(rapid.IntRange(1, 40).Draw(t, "window")) * 125 * time.Millisecond
		short, long := NewLedger(ledgerStart()), NewLedger(ledgerStart())
		short.Follow(map[loads.Key]time.Duration{lawKey(0): window})
		// Not so long that more is put together.
		long.Follow(map[loads.Key]time.Duration{lawKey(0): 29 * time.Second})
		at := ledgerStart()
		for i := range uint64(60) {
			covers := time.Duration(rapid.IntRange(1, 8).Draw(t, "covers")) * 125 * time.Millisecond
			at = at.Add(covers)
			h := []timed{{at, loads.Report{
				Schema: loads.Schema, Proxy: "web-1", Incarnation: 1, Sequence: i + 1, Ready: true,
				Covers: covers, Next: time.Second, Deployments: []loads.Deployment{drawLoad(t, 0)},
			}}}
			takeAll(t, short, h)
			takeAll(t, long, h)
			for _, aggregation := range []string{"mean", "max", "min"} {
				x := short.Series(at, lawKey(0)).Over(at, window, aggregation)
				y := long.Series(at, lawKey(0)).Over(at, window, aggregation)
				if math.Abs(x-y) > 1e-8 {
					t.Fatalf("the %s of %v is %v, and %v to one that remembers longer", aggregation, window, x, y)
				}
			}
		}
	})
}

// TestLawSplit: two reports say what one over the time of both does.
func TestLawSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := lawLedger(), lawLedger()
		a, b := drawLoad(t, 0), drawLoad(t, 0)
		first := time.Duration(rapid.IntRange(1, 40).Draw(t, "first")) * 250 * time.Millisecond
		second := time.Duration(rapid.IntRange(1, 40).Draw(t, "second")) * 250 * time.Millisecond
		both := b
		both.Mean = (a.Mean*first.Seconds() + b.Mean*second.Seconds()) / (first + second).Seconds()
		both.Max, both.Min = max(a.Max, b.Max), min(a.Min, b.Min)
		report := func(sequence uint64, covers time.Duration, d loads.Deployment) loads.Report {
			return loads.Report{
				Schema: loads.Schema, Proxy: "web-1", Incarnation: 1, Sequence: sequence, Ready: true,
				Covers: covers, Next: time.Second, Deployments: []loads.Deployment{d},
			}
		}
		middle := ledgerStart().Add(first)
		end := middle.Add(second)
		takeAll(t, one, []timed{{end, report(1, first+second, both)}})
		takeAll(t, two, []timed{{middle, report(1, first, a)}, {end, report(2, second, b)}})
		now := end.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "later")) * time.Second)
		s, u := one.Series(now, lawKey(0)), two.Series(now, lawKey(0))
		for _, aggregation := range []string{"mean", "max", "min"} {
			x, y := s.Over(now, 30*time.Second, aggregation), u.Over(now, 30*time.Second, aggregation)
			if math.Abs(x-y) > 1e-8 {
				t.Fatalf("the %s of one report is %v, of two %v", aggregation, x, y)
			}
		}
	})
}

// TestLawLateReports: reports that are on their way for different times add up
// to the requests that there were, but for what changed while they were late.
func TestLawLateReports(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := lawLedger()
		area, n := 0.0, rapid.IntRange(2, 25).Draw(t, "reports")
		least := rapid.IntRange(16, 64).Draw(t, "least")
		most := rapid.IntRange(least, 64).Draw(t, "most")
		was, lateness := time.Duration(0), 0.0
		for i := 1; i <= n; i++ {
			late := time.Duration(0)
			if i > 1 && i < n {
				late = time.Duration(rapid.IntRange(0, 300).Draw(t, "late")) * time.Millisecond
			}
			lateness += math.Abs((late - was).Seconds())
			was = late
			mean := float64(rapid.IntRange(least, most).Draw(t, "eighths")) / 8
			area += mean
			takeAll(t, l, []timed{{ledgerStart().Add(time.Duration(i)*time.Second + late), loads.Report{
				Schema: loads.Schema, Proxy: "web-1", Incarnation: 1, Sequence: uint64(i), Ready: true,
				Covers: time.Second, Next: time.Second,
				Deployments: []loads.Deployment{{
					Application: "app", Deployment: "d0", Mean: mean, Max: float64(most) / 8, Min: float64(least) / 8,
				}},
			}}})
		}
		end := ledgerStart().Add(time.Duration(n) * time.Second)
		got := l.Series(end, lawKey(0)).Mean(ledgerStart(), end) * float64(n)
		if slack := 1e-6 + lateness*float64(most-least)/8; math.Abs(got-area) > slack {
			t.Fatalf("they add up to %v, want %v, give or take %v", got, area, slack)
		}
	})
}

// TestLawStorm: reports without end take bounded room, and what is put together
// keeps its mean, its largest and its smallest.
func TestLawStorm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := lawLedger(), ledgerStart()
		seed := rapid.Uint64().Draw(t, "seed")
		area, most, least := 0.0, 0.0, math.Inf(1)
		sequence := uint64(0)
		storm := func(until time.Duration) {
			for end := ledgerStart().Add(until); now.Before(end); {
				seed = seed*6364136223846793005 + 1442695040888963407
				covers := time.Duration(1+seed>>48%40) * time.Millisecond
				load := float64(seed >> 40 % 50)
				area += load * covers.Seconds()
				most, least = max(most, load), min(least, load)
				now = now.Add(covers)
				sequence++
				takeAll(t, l, []timed{{now, loads.Report{
					Schema: loads.Schema, Proxy: "web-1", Incarnation: 1, Sequence: sequence, Ready: true, Covers: covers,
					Deployments: []loads.Deployment{{Application: "app", Deployment: "d0", Mean: load, Max: load, Min: load, Ongoing: int(load)}},
				}}})
			}
			inOrder(t, l)
		}
		storm(20 * time.Second)
		s := l.Series(now, lawKey(0))
		if got, want := s.Mean(ledgerStart(), now), area/now.Sub(ledgerStart()).Seconds(); math.Abs(got-want) > 1e-6 {
			t.Fatalf("the mean is %v, want %v", got, want)
		}
		if x, y := s.Over(now, 30*time.Second, "max"), s.Over(now, 30*time.Second, "min"); x != most || y != least {
			t.Fatalf("max and min are %v and %v, want %v and %v", x, y, most, least)
		}
		storm(70 * time.Second)
		area = 0
		from := now
		storm(98 * time.Second)
		// A window may begin within what was put together.
		want, slack := area/now.Sub(from).Seconds(), 3*most/segmentsPerWindow
		if got := l.Series(now, lawKey(0)).Mean(from, now); math.Abs(got-want) > slack {
			t.Fatalf("the mean is %v, want %v give or take %v", got, want, slack)
		}
	})
}

// TestNothingStaysBehind: what was there is let go of when nobody can ask for
// it any more.
func TestNothingStaysBehind(t *testing.T) {
	l := lawLedger()
	for i := range 50 {
		r := loads.Report{
			Schema: loads.Schema, Proxy: fmt.Sprint("web-", i), Incarnation: 1, Sequence: 1, Ready: true, Leaving: i%2 == 0,
			Covers: time.Second, Next: time.Second,
		}
		for d := range 3 {
			r.Deployments = append(r.Deployments, loads.Deployment{
				Application: "app", Deployment: lawKey(d).Deployment, Mean: 3, Max: 4, Min: 2, Ongoing: 3,
			})
		}
		if err := l.Take(ledgerStart().Add(time.Minute), r); err != nil {
			t.Fatal(err)
		}
	}
	alive := loads.Report{Schema: loads.Schema, Proxy: "alive", Incarnation: 1, Ready: true, Next: time.Second}
	for i := range uint64(400) {
		alive.Sequence = i + 1
		alive.Deployments = []loads.Deployment{
			{Application: "app", Deployment: "d0"}, {Application: "app", Deployment: fmt.Sprint("other-", i)},
		}
		if i == 0 {
			alive.Deployments[0].Ongoing = 5
		}
		if err := l.Take(ledgerStart().Add(time.Minute+time.Duration(i)*time.Second), alive); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.proxies) != 1 {
		t.Errorf("%d proxies are remembered, want 1", len(l.proxies))
	}
	if n := len(l.proxies["alive"].counts); n != 2 {
		t.Errorf("%d deployments of the last report are remembered, want 2", n)
	}
	for key, f := range l.followed {
		if len(f.trails) != 0 {
			t.Errorf("%v has %d trails", key, len(f.trails))
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte(`{"schema":1,"proxy":"web-1","incarnation":1,"sequence":1,"ready":true,"covers":1000000000,"next":1000000000,`+
		`"deployments":[{"application":"app","deployment":"d0","ongoing":1,"queued":2,"mean":1.5,"max":3,"min":0}]}`), int64(time.Second))
	f.Add([]byte(`{"schema":1,"proxy":"web-1","incarnation":2,"sequence":9,"leaving":true}`), int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, on int64) {
		var r loads.Report
		if json.Unmarshal(data, &r) != nil {
			return
		}
		l, now := lawLedger(), ledgerStart()
		for range 3 {
			now = now.Add(time.Duration(on))
			before, _ := l.Refused()
			err := l.Take(now, r)
			if n, _ := l.Refused(); (err != nil) != (n > before) {
				t.Fatalf("%v, and %d are counted after %d", err, n, before)
			}
			r.Sequence++
			for i := range 3 {
				s := l.Series(now, lawKey(i))
				if s == nil {
					continue
				}
				for _, aggregation := range []string{"mean", "max", "min"} {
					if x := s.Over(now, 30*time.Second, aggregation); math.IsNaN(x) || x < 0 || x > loads.MaxRequests {
						t.Fatalf("%v came out", x)
					}
				}
			}
			l.Hold(now, time.Minute)
			l.Proxies(now)
		}
	})
}
