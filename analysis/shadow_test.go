package analysis_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/loads"
)

func TestCompareShadow(t *testing.T) {
	const ms = time.Millisecond
	took := func(n uint64, d time.Duration) map[int]uint64 { return map[int]uint64{loads.LatencyBucket(d): n} }
	for _, test := range []struct {
		name   string
		s      loads.Shadowed
		limits analysis.Limits
		worse  bool
		reason string
	}{
		{"nothing was copied", loads.Shadowed{}, usual(), false, "no request has been copied to the new version yet"},
		{"nothing could be copied", loads.Shadowed{Dropped: 7}, usual(), false, "yet; 7 requests were not copied"},
		{"all is alike", loads.Shadowed{Requests: 400, Latency: took(400, 20*ms), Primary: took(400, 20*ms)}, usual(), false, "0 of 400 copies were answered with another status; 0 of 400 copies failed whose request did not (0.0 percent)"},
		{"one in ten fails", loads.Shadowed{Requests: 400, Differing: 40, Errors: 40}, usual(), true, "40 of 400 copies failed whose request did not (10.0 percent); at most 1 percentage point more is allowed"},
		{"one in ten of fifty fails, as may the requests", loads.Shadowed{Requests: 50, Differing: 5, Errors: 5}, usual(), false, ""},
		{"one in ten of 150 fails", loads.Shadowed{Requests: 150, Differing: 15, Errors: 15}, usual(), true, ""},
		{"as many fail in either way", loads.Shadowed{Requests: 400, Differing: 80, Errors: 40}, usual(), false, "80 of 400 copies were answered with another status"},
		{"one of the first five fails", loads.Shadowed{Requests: 5, Differing: 1, Errors: 1}, usual(), false, ""},
		{"the first five fail", loads.Shadowed{Requests: 5, Differing: 5, Errors: 5}, usual(), true, ""},
		{"all have another status, none fails", loads.Shadowed{Requests: 5000, Differing: 5000}, usual(), false, "5000 of 5000 copies were answered with another status"},
		{"one in ten may fail", loads.Shadowed{Requests: 400, Differing: 40, Errors: 40}, analysis.Limits{ErrorIncrease: 0.1, LatencyRatio: 3}, false, ""},
		{"errors do not matter", loads.Shadowed{Requests: 400, Differing: 400, Errors: 400}, analysis.Limits{ErrorIncrease: -1, LatencyRatio: -1}, false, "400 of 400 copies were answered with another status"},
		{"ten times as slow", loads.Shadowed{Requests: 40, Latency: took(40, 200*ms), Primary: took(40, 20*ms)}, usual(), true, "p90 is 200ms over 40 answers, of the old version 22ms over 40; at most 3 times that is allowed"},
		{"twice as slow", loads.Shadowed{Requests: 400, Latency: took(400, 40*ms), Primary: took(400, 20*ms)}, usual(), false, "p99 is 43ms over 400 answers"},
		{"counts that cannot be", loads.Shadowed{Requests: 3, Differing: 1, Errors: 1e9}, usual(), false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := analysis.CompareShadow(test.s, test.limits)
			if got.Worse != test.worse || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("got %+v, want %v: %s", got, test.worse, test.reason)
			}
		})
	}
}

// TestShadowFalseAlarms: two equal versions of which each request fails by chance
// are judged after each pair.
func TestShadowFalseAlarms(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var s loads.Shadowed
		for range 2000 {
			request, replica := rng.Float64() < 0.02, rng.Float64() < 0.02
			s.Requests++
			if request != replica {
				s.Differing++
			}
			if replica && !request {
				s.Errors++
			}
			if found := analysis.CompareShadow(s, analysis.Limits{ErrorIncrease: 0.01, LatencyRatio: -1}); found.Worse {
				t.Fatalf("seed %d: %s", seed, found.Reason)
			}
		}
	}
}
