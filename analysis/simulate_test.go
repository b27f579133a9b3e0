package analysis_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/loads"
)

// behaviour is how a version serves.
type behaviour struct {
	rate    float64                  // requests a second
	errors  float64                  // share
	factor  float64                  // of latency
	sigma   float64                  // of latency, which is lognormal with a median of 20 ms
	failing func(second int) float64 // instead of errors, from second to second
	slow    func(second int) float64 // instead of factor
}

// draw is what it served in a second.
func (b behaviour) draw(rng *rand.Rand, second int) loads.Served {
	s := loads.Served{Requests: poisson(rng, b.rate), Latency: map[int]uint64{}}
	fails := b.errors
	if b.failing != nil {
		fails = b.failing(second)
	}
	factor := b.factor
	if b.slow != nil {
		factor = b.slow(second)
	}
	for range s.Requests {
		if rng.Float64() < fails {
			s.Errors++
			continue
		}
		s.Latency[loads.LatencyBucket(time.Duration(20e6*factor*math.Exp(b.sigma*rng.NormFloat64())))]++
	}
	return s
}

func poisson(rng *rand.Rand, mean float64) (n uint64) {
	for left := mean; ; n++ {
		if left -= rng.ExpFloat64(); left < 0 {
			return n
		}
	}
}

// race is two versions side by side, judged each second.
type race struct {
	old, new behaviour
	before   int // seconds that the old one serves alone
	seconds  int // that both serve
	limits   analysis.Limits
	stops    bool // the old one takes no more once the new one does
}

// run returns after how many seconds and requests of the new version it was
// found worse; 0: it was not.
func (r race) run(seed uint64) (seconds int, requests uint64, reason string) {
	rng := rand.New(rand.NewPCG(seed, 7))
	start := time.Unix(1e9, 0)
	ledger := analysis.NewLedger(start)
	ledger.Follow(map[string]bool{"app": true})
	report := loads.Report{Schema: 1, Proxy: "web-1", Incarnation: 1, Ready: true, Covers: time.Second, Next: time.Second}
	old, fresh := loads.Version{Application: "app", Deployment: "d", Version: "v1"}, loads.Version{Application: "app", Deployment: "d", Version: "v2"}
	for second := 1; second <= r.before+r.seconds; second++ {
		report.Sequence, report.After, report.Served = uint64(second), uint64(second-1), nil
		add := func(v loads.Version, b behaviour) {
			s := b.draw(rng, second-r.before)
			s.Application, s.Deployment, s.Version = v.Application, v.Deployment, v.Version
			report.Served = append(report.Served, s)
			if v == fresh {
				requests += s.Requests
			}
		}
		if second <= r.before || !r.stops {
			add(old, r.old)
		}
		if second > r.before {
			add(fresh, r.new)
		}
		now := start.Add(time.Duration(second) * time.Second)
		ledger.Take(now, &report)
		if second <= r.before {
			continue
		}
		all := ledger.Standings(now, []loads.Version{old, fresh})
		if found := analysis.Compare(all[old], all[fresh], r.limits); found.Worse {
			return second - r.before, requests, found.Reason
		}
	}
	return 0, requests, ""
}

// steady is a version that serves evenly: errors as a share, latency by the
// factor.
func steady(rate, errors, factor, sigma float64) behaviour {
	return behaviour{rate: rate, errors: errors, factor: factor, sigma: sigma}
}

// TestFalseAlarms lets two equal versions be judged every second for ten
// minutes. Here are a few runs; of 4,800, of 1 to 50 requests a second and
// shares from a tenth to ten times of that for the old version, none found one
// worse.
func TestFalseAlarms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		race race
		runs int
	}{
		{"1 request a second", race{old: steady(1, 0.01, 1, 0.5), new: steady(1, 0.01, 1, 0.5), before: 60}, 4},
		{"1 request a second, latency all over", race{old: steady(1, 0.01, 1, 1.5), new: steady(1, 0.01, 1, 1.5), before: 5}, 4},
		{"a tenth of 10 requests a second", race{old: steady(10, 0.01, 1, 0.5), new: steady(1, 0.01, 1, 0.5), before: 60}, 4},
		{"10 requests a second", race{old: steady(10, 0.01, 1, 1.5), new: steady(10, 0.01, 1, 1.5), before: 5}, 2},
		{"a hundredth of 200 requests a second", race{old: steady(200, 0.01, 1, 0.5), new: steady(2, 0.01, 1, 0.5), before: 60}, 1},
		{"200 requests a second", race{old: steady(200, 0.01, 1, 1.5), new: steady(200, 0.01, 1, 1.5), before: 5}, 1},
		{"after a switch", race{old: steady(10, 0.01, 1, 0.5), new: steady(10, 0.01, 1, 0.5), before: 60, stops: true}, 2},
		{"an outage of both", race{old: outage(10), new: outage(10), before: 20}, 2},
		{"a few requests that are slow to begin with", race{old: steady(2, 0, 1, 0.5), new: warming(2), before: 60}, 5},
		{"many that are slow to begin with", race{old: steady(50, 0, 1, 0.5), new: warming(50), before: 20}, 1},
		{"a switch on a busy machine", race{old: steady(200, 0, 1, 0.5), new: hiccups(200), before: 20, stops: true}, 1},
		{"a few of many on a busy machine", race{old: steady(200, 0, 1, 0.5), new: hiccups(20), before: 20}, 2},
		{"a time in which both are slow", race{old: hindered(10), new: hindered(10), before: 60}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.race.seconds, c.race.limits = 600, usual()
			for seed := range c.runs {
				if after, requests, reason := c.race.run(uint64(seed)); after > 0 {
					t.Errorf("seed %d: found worse after %d s and %d requests: %s", seed, after, requests, reason)
				}
			}
		})
	}
}

// outage fails altogether for a few seconds soon after the new version is there,
// as when a database restarts that both versions need.
func outage(rate float64) behaviour {
	b := steady(rate, 0, 1, 0.5)
	b.failing = func(second int) float64 {
		if second >= 3 && second < 8 {
			return 1
		}
		return 0.01
	}
	return b
}

// hindered is slow for a while soon after the new version is there, as when
// something that both versions need is slow.
func hindered(rate float64) behaviour {
	b := steady(rate, 0, 1, 0.5)
	b.slow = func(second int) float64 {
		if second >= 1 && second < 20 {
			return 20
		}
		return 1
	}
	return b
}

// hiccups is slow for a second now and then, while the replicas of the version
// start and others end.
func hiccups(rate float64) behaviour {
	b := steady(rate, 0, 1, 0.5)
	b.slow = func(second int) float64 {
		if slices.Contains([]int{1, 2, 4, 6, 9, 10}, second) {
			return 20
		}
		return 1
	}
	return b
}

// warming is slow for three seconds.
func warming(rate float64) behaviour {
	b := steady(rate, 0, 1, 0.5)
	b.slow = func(second int) float64 {
		if second <= 3 {
			return 20
		}
		return 1
	}
	return b
}

// TestDetection measures after how many requests a bad version is found: the
// figures are of 100 runs each.
func TestDetection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		race    race
		runs    int
		median  uint64 // requests at most, of half of the runs
		slowest uint64 // of all
	}{
		{"one in ten fails, 1 a second, before none of 4 a second", race{old: steady(4, 0, 1, 0.5), new: steady(1, 0.1, 1, 0.5)}, 30, 60, 250},      // 48, 199
		{"one in ten fails, 10 a second, before none", race{old: steady(10, 0, 1, 0.5), new: steady(10, 0.1, 1, 0.5)}, 30, 60, 200},                 // 49, 124
		{"one in ten fails, 10 a second, before one in a hundred", race{old: steady(10, 0.01, 1, 0.5), new: steady(10, 0.1, 1, 0.5)}, 30, 100, 400}, // 81, 295
		{"one in ten fails, 10 a second, after a switch", race{old: steady(10, 0, 1, 0.5), new: steady(10, 0.1, 1, 0.5), stops: true}, 30, 70, 250}, // 52, 186
		{"one in ten fails, 200 a second", race{old: steady(200, 0, 1, 0.5), new: steady(200, 0.1, 1, 0.5)}, 10, 250, 300},                          // the first second
		{"one in ten fails, 2 a second beside 198", race{old: steady(198, 0.001, 1, 0.5), new: steady(2, 0.1, 1, 0.5)}, 10, 70, 250},
		{"half fails, 1 a second", race{old: steady(1, 0.01, 1, 0.5), new: steady(1, 0.5, 1, 0.5)}, 30, 12, 30},                     // 10, 28
		{"all fails, 1 a second", race{old: steady(1, 0.01, 1, 0.5), new: steady(1, 1, 1, 0.5)}, 30, 6, 10},                         // 5, 8
		{"ten times as slow, 1 a second", race{old: steady(1, 0.01, 1, 0.5), new: steady(1, 0.01, 10, 0.5)}, 30, 25, 35},            // 21, 25
		{"ten times as slow, all over, 1 a second", race{old: steady(1, 0.01, 1, 1.5), new: steady(1, 0.01, 10, 1.5)}, 30, 50, 350}, // 36, 260
		{"ten times as slow, 10 a second", race{old: steady(10, 0.01, 1, 0.5), new: steady(10, 0.01, 10, 0.5)}, 30, 80, 100},        // seven seconds
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.race.before, c.race.seconds, c.race.limits = 60, 600, usual()
			var took []uint64
			for seed := range c.runs {
				after, requests, _ := c.race.run(uint64(seed))
				if after == 0 {
					t.Fatalf("seed %d: not found", seed)
				}
				took = append(took, requests)
			}
			slices.Sort(took)
			median, slowest := took[len(took)/2], took[len(took)-1]
			t.Logf("found after %d requests in half of the runs, %d at most", median, slowest)
			if median > c.median || slowest > c.slowest {
				t.Errorf("want %d and %d at most", c.median, c.slowest)
			}
		})
	}
}
