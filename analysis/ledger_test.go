package analysis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/loads"
)

// desk is a ledger with reports at seconds since it began, of which all are
// known to the proxy to have arrived unless a test says otherwise.
type desk struct {
	*analysis.Ledger
	t    *testing.T
	sent map[string]uint64
}

func moment(at float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(at * float64(time.Second)))
}

func newDesk(t *testing.T) *desk {
	d := &desk{analysis.NewLedger(moment(0)), t, map[string]uint64{}}
	d.Follow(map[string]bool{"app": true})
	return d
}

// take enters the next report of a proxy.
func (d *desk) take(at float64, proxy string, change func(*loads.Report), served ...loads.Served) {
	d.t.Helper()
	d.sent[proxy]++
	r := loads.Report{
		Schema: loads.Schema, Proxy: proxy, Incarnation: 1, Sequence: d.sent[proxy], After: d.sent[proxy] - 1, Ready: true,
		Covers: time.Second, Next: time.Second, Served: served,
	}
	if change != nil {
		change(&r)
	}
	if err := r.Check(); err != nil {
		d.t.Fatal(err)
	}
	d.Take(moment(at), &r)
}

func v(number int) loads.Version {
	return loads.Version{Application: "app", Deployment: "model", Version: fmt.Sprintf("v%d", number)}
}

// had is what a version did in a second.
func had(number, ongoing int, requests, errors uint64) loads.Served {
	s := loads.Served{
		Application: "app", Deployment: "model", Version: v(number).Version,
		Ongoing: ongoing, Requests: requests, Errors: errors,
	}
	if requests > errors {
		s.Latency = map[int]uint64{60: requests - errors}
	}
	return s
}

func (d *desk) standing(at float64, number int) analysis.Standing {
	return d.Standings(moment(at), []loads.Version{v(number)})[v(number)]
}

func (d *desk) recent(at float64, number int, requests, errors uint64) {
	d.t.Helper()
	s := d.standing(at, number).Recent
	if s.Requests != requests || s.Errors != errors || s.Latency[60] != requests-errors {
		d.t.Errorf("at %v s: %+v, want %d requests and %d errors", at, s, requests, errors)
	}
}

// settled holds since when a version has no request; below 0: that it is not
// known to have none.
func (d *desk) settled(at float64, number, ongoing int, since float64) {
	d.t.Helper()
	s := d.standing(at, number)
	switch {
	case s.Ongoing != ongoing:
		d.t.Errorf("at %v s: %d requests, want %d", at, s.Ongoing, ongoing)
	case since < 0 && !s.Settled.IsZero():
		d.t.Errorf("at %v s: it has none since %v, and that is not known", at, s.Settled.Sub(moment(0)))
	case since >= 0 && !s.Settled.Equal(moment(since)):
		d.t.Errorf("at %v s: it has none since %v s, want %v", at, s.Settled.Sub(moment(0)), since)
	}
}

func TestWhatWasServed(t *testing.T) {
	t.Run("counts for a minute, and of a version that takes no more for good", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 200; at++ {
			if at <= 100 {
				d.take(at, "web-1", nil, had(1, 0, 10, 1), had(2, 0, 5, 0))
			} else {
				d.take(at, "web-1", nil, had(1, 0, 0, 0), had(2, 0, 5, 0))
			}
			switch at {
			case 30:
				d.recent(at, 1, 300, 30)
			case 100:
				d.recent(at, 1, 590, 59) // the present second has just begun
				d.recent(at, 2, 295, 0)
			case 130:
				d.recent(at, 1, 290, 29)
			}
		}
		d.recent(200, 1, 0, 0)
		d.recent(200, 2, 295, 0)
		if last := d.standing(200, 1).Last; last.Requests != 600 || last.Errors != 60 || last.Latency[60] != 540 {
			t.Errorf("the last minute is %+v", last)
		}
	})

	t.Run("adds up over proxies", func(t *testing.T) {
		d := newDesk(t)
		d.take(5, "web-1", nil, had(1, 2, 10, 1))
		d.take(5.5, "web-2", nil, had(1, 1, 7, 2))
		d.recent(6, 1, 17, 3)
		d.settled(6, 1, 3, -1)
	})

	t.Run("counts once though it is told twice, or late", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, "web-1", nil, had(1, 0, 10, 1))
		again := func(r *loads.Report) { r.Sequence, r.After = 1, 0 }
		d.take(2, "web-1", again, had(1, 0, 10, 1))
		d.recent(2, 1, 10, 1)
		d.sent["web-1"] = 5
		d.take(3, "web-1", nil, had(1, 0, 10, 1))
		d.take(3, "web-1", func(r *loads.Report) { r.Sequence, r.After = 4, 3 }, had(1, 9, 10, 1))
		d.recent(3, 1, 20, 2)
		d.settled(3, 1, 0, -1)
	})

	t.Run("counts once though its proxy did not hear that it arrived", func(t *testing.T) {
		d := newDesk(t)
		since := func(after uint64) func(*loads.Report) {
			return func(r *loads.Report) { r.After = after }
		}
		d.take(1, "web-1", nil, had(1, 0, 10, 1))
		d.take(2, "web-1", since(1), had(1, 0, 5, 1))
		d.take(3, "web-1", since(1), had(1, 0, 8, 1), had(2, 0, 3, 0))
		d.take(4, "web-1", since(1), had(1, 0, 9, 2), had(2, 0, 3, 0))
		d.recent(4, 1, 19, 3)
		d.recent(4, 2, 3, 0)
		d.take(5, "web-1", since(4), had(1, 0, 9, 2))
		d.recent(5, 1, 28, 5)
	})

	t.Run("counts when it was though no answer ever arrives", func(t *testing.T) {
		d := newDesk(t)
		for at := uint64(1); at <= 100; at++ {
			none := func(r *loads.Report) { r.After, r.Covers = 0, time.Duration(at)*time.Second }
			d.take(float64(at), "web-1", none, had(1, 0, 10*at, at))
		}
		d.recent(100, 1, 590, 59)
	})

	t.Run("long ago does not count as now", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, "web-1", nil, had(1, 0, 1, 0))
		d.take(1000, "web-1", func(r *loads.Report) { r.Covers = 999 * time.Second }, had(1, 0, 500, 0))
		d.recent(1000, 1, 0, 0)
	})

	t.Run("of applications that are followed alone, and anew when they are again", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, "web-1", nil, had(1, 0, 10, 1), loads.Served{Application: "other", Deployment: "model", Version: "v1", Requests: 3})
		if all := d.Standings(moment(1), []loads.Version{{Application: "other", Deployment: "model", Version: "v1"}}); len(all) != 0 {
			t.Errorf("there is %v", all)
		}
		d.Follow(map[string]bool{"other": true})
		d.Follow(map[string]bool{"app": true})
		d.recent(2, 1, 0, 0)
		d.take(3, "web-1", nil, had(1, 0, 4, 0))
		d.recent(3, 1, 4, 0)
	})

	t.Run("is forgotten when no report names it any more", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, "web-1", nil, had(1, 0, 10, 1))
		for at := 2.0; at < 700; at++ {
			d.take(at, "web-1", nil, had(2, 0, 1, 0))
		}
		if last := d.standing(700, 1).Last; last.Requests != 0 {
			t.Errorf("there is %+v", last)
		}
	})

	t.Run("with copies", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 100; at++ {
			s := had(2, 0, 0, 0)
			s.Shadow = &loads.Shadowed{Requests: 3, Differing: 2, Errors: 1, Dropped: 4, Latency: map[int]uint64{7: 2}, Primary: map[int]uint64{8: 3}}
			d.take(at, "web-1", nil, s)
		}
		s := d.standing(100, 2).Shadow
		if s.Requests != 300 || s.Differing != 200 || s.Errors != 100 || s.Dropped != 400 || s.Latency[7] != 200 || s.Primary[8] != 300 {
			t.Errorf("copies are %+v", s)
		}
	})

	t.Run("is not changed in what was given out", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 0, 100, 0), had(2, 0, 100, 10))
		}
		old, fresh := d.standing(20, 1), d.standing(20, 2)
		want := analysis.Compare(old, fresh, usual())
		for at := 20.1; at <= 100; at += 0.1 {
			d.take(at, "web-1", nil, had(1, 0, 100, 50), had(2, 0, 100, 0))
		}
		if got := analysis.Compare(old, fresh, usual()); got != want || !got.Worse {
			t.Errorf("found %+v, and before %+v", got, want)
		}
	})
}

func TestSettled(t *testing.T) {
	t.Run("when each proxy has said so", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 40; at++ {
			d.take(at, "web-1", nil, had(1, 0, 0, 0))
			if at <= 20 {
				d.take(at+0.5, "web-2", nil, had(1, 3, 0, 0))
			} else {
				d.take(at+0.5, "web-2", nil, had(1, 0, 0, 0))
			}
			switch at {
			case 20:
				d.settled(at+0.9, 1, 3, -1)
			case 21:
				d.settled(at+0.9, 1, 0, 21.5)
			}
		}
		d.settled(41, 1, 0, 21.5)
	})

	t.Run("not while it has requests between reports", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 0, 9, 0))
		}
		d.settled(20, 1, 0, -1)
		d.take(21, "web-1", nil, had(1, 0, 0, 0))
		d.settled(21, 1, 0, 21)
	})

	t.Run("not before all proxies can have reported to a new leader", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 12; at++ {
			d.take(at, "web-1", nil, had(1, 0, 0, 0))
			if at == 9 {
				d.settled(at, 1, 0, -1)
			}
		}
		d.settled(12, 1, 0, 1)
	})

	t.Run("of a version that is not named", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 12; at++ {
			d.take(at, "web-1", nil)
		}
		d.settled(12, 1, 0, 1)
		for at := 13.0; at <= 16; at++ {
			d.take(at, "web-1", nil, had(1, 4, 0, 0))
		}
		d.settled(16, 1, 4, -1)
		d.take(17, "web-1", nil)
		d.settled(17, 1, 0, 17)
	})

	t.Run("not by a proxy that has requests and does not tell of versions yet", func(t *testing.T) {
		d := newDesk(t)
		ongoing := func(deployment string, n int) func(*loads.Report) {
			return func(r *loads.Report) {
				r.Deployments = []loads.Deployment{{Application: "app", Deployment: deployment, Ongoing: n, Mean: 1, Max: 1}}
			}
		}
		for at := 1.0; at <= 12; at++ {
			d.take(at, "web-1", ongoing("model", 1))
		}
		d.settled(12, 1, 0, -1)
		d.take(13, "web-1", ongoing("other", 1))
		d.settled(13, 1, 0, 1)
		d.take(14, "web-1", ongoing("model", 1), had(2, 1, 0, 0))
		d.settled(14, 1, 0, 1)
		d.take(15, "web-1", ongoing("model", 0)) // they wait, and are at no replica
		d.settled(15, 1, 0, 1)
	})

	t.Run("not known while a proxy is silent, until it is given up", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 400; at++ {
			if at <= 20 {
				d.take(at, "web-1", nil, had(1, 2, 0, 0))
			}
			d.take(at, "web-2", nil, had(1, 0, 0, 0))
			switch at {
			case 25:
				d.settled(at, 1, 2, -1)
			case 319:
				d.settled(at, 1, 2, -1)
			case 320:
				d.settled(at, 1, 0, 1)
			}
		}
	})

	t.Run("not known for as long as a slow proxy may be quiet", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, "web-1", func(r *loads.Report) { r.Next = time.Minute }, had(1, 0, 0, 0))
		d.settled(100, 1, 0, -1) // 120 s until all may have reported
		d.take(100, "web-1", func(r *loads.Report) { r.Next = time.Minute }, had(1, 0, 0, 0))
		d.settled(121, 1, 0, 1)
		d.settled(219, 1, 0, 1)
		d.settled(220, 1, 0, -1)
	})

	t.Run("by a proxy that leaves", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 2, 0, 0))
			d.take(at, "web-2", nil, had(1, 0, 0, 0))
		}
		d.take(21, "web-1", func(r *loads.Report) { r.Leaving = true }, had(1, 2, 1, 0))
		d.take(21, "web-2", nil, had(1, 0, 0, 0))
		d.settled(21, 1, 0, 1)
		d.recent(21, 1, 1, 0)
	})

	t.Run("by a proxy that died, soon after it is back", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 2, 0, 0))
		}
		back := func(r *loads.Report) { r.Incarnation = 2 }
		d.sent["web-1"] = 0
		for at := 22.0; at <= 40; at++ {
			d.take(at, "web-1", back, had(1, 0, 0, 0))
			if at == 29 {
				d.settled(at, 1, 2, -1)
			}
		}
		d.settled(40, 1, 0, 22)
	})

	t.Run("not by one of two proxies of one name", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 60; at++ {
			n := uint64(at)
			d.take(at, "web-1", func(r *loads.Report) { r.Sequence, r.After = n, n-1 }, had(1, 2, 1, 0))
			d.take(at+0.5, "web-1", func(r *loads.Report) { r.Incarnation, r.Sequence, r.After = 2, n, n-1 }, had(1, 0, 1, 0))
		}
		d.settled(60.5, 1, 2, -1)
		d.recent(60.5, 1, 119, 0)
	})

	t.Run("not known after a report that was refused", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 40; at++ {
			d.take(at, "web-1", nil, had(1, 0, 0, 0))
			if at == 20 {
				d.Refuse(moment(at))
			}
			if at == 29 {
				d.settled(at, 1, 0, -1)
			}
		}
		d.settled(40, 1, 0, 1)
	})

	t.Run("not known after the machine stood still", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 0, 0, 0))
			d.take(at, "web-2", nil, had(1, 2, 0, 0))
		}
		d.take(1000, "web-1", nil, had(1, 0, 0, 0))
		d.settled(1001, 1, 0, -1)
	})

	t.Run("not known without a proxy, or by one that has no table", func(t *testing.T) {
		d := newDesk(t)
		d.settled(60, 1, 0, -1)
		d.take(61, "web-1", func(r *loads.Report) { r.Ready = false })
		d.settled(65, 1, 0, -1)
	})

	t.Run("anew when the application is followed anew", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 40; at++ {
			d.take(at, "web-1", nil, had(1, 0, 0, 0))
			if at == 30 {
				d.Follow(nil)
				d.Follow(map[string]bool{"app": true})
				d.settled(at+0.5, 1, 0, -1)
			}
		}
		d.settled(40, 1, 0, 31)
	})

	t.Run("not moved by a clock that goes back", func(t *testing.T) {
		d := newDesk(t)
		for at := 1.0; at <= 20; at++ {
			d.take(at, "web-1", nil, had(1, 0, 1, 0))
		}
		d.take(-500, "web-1", nil, had(1, 0, 0, 0))
		d.recent(-500, 1, 20, 0)
		d.settled(20, 1, 0, 20)
	})
}

// TestBounds: whatever is reported, no more than that is remembered, and what
// was known before still is.
func TestBounds(t *testing.T) {
	d := newDesk(t)
	many := func(from, to int) (list []loads.Served) {
		for i := from; i < to; i++ {
			s := had(i, 0, 185, 0)
			s.Latency = map[int]uint64{}
			for bucket := range loads.LastBucket + 1 {
				s.Latency[bucket] = 1
			}
			list = append(list, s)
		}
		return list
	}
	for at := range 10 {
		d.take(float64(at), "web-1", nil, many(0, 2000)...)
	}
	d.take(11, "web-1", nil, many(2000, 7000)...)
	for i := range 7000 {
		requests := d.standing(11, i).Recent.Requests
		if i < 2000 && requests != 1850 || i >= 2000 && requests > 185 || i >= 4096 && requests > 0 {
			t.Fatalf("version %d had %d requests", i, requests)
		}
	}
	if answers := len(d.standing(11, 4000).Recent.Latency); answers != 0 {
		t.Errorf("latency is kept beyond the bound: %d buckets", answers)
	}
	for i := range 10_001 {
		d.take(12, fmt.Sprintf("web-%d", 2+i), nil)
	}
	d.settled(12, 1, 0, -1)
}
