package analysis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/loads"
)

// usual is what a rollout block that says nothing holds a version to.
func usual() analysis.Limits { return analysis.Limits{ErrorIncrease: 0.01, LatencyRatio: 3} }

// of is a sample whose answers took as long as is said.
func of(requests, errors uint64, answers ...time.Duration) analysis.Sample {
	s := analysis.Sample{Requests: requests, Errors: errors}
	for i := range int(requests - errors) {
		if s.Latency == nil {
			s.Latency = map[int]uint64{}
		}
		if len(answers) > 0 {
			s.Latency[loads.LatencyBucket(answers[i%len(answers)])]++
		}
	}
	return s
}

func TestCompare(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name     string
		old, new analysis.Sample
		limits   analysis.Limits
		worse    bool
		reason   string
	}{
		{
			"one in ten fails", of(3900, 3), of(400, 41), usual(), true,
			"41 of 400 requests failed (10.2 percent), of the old version 3 of 3900 (0.1 percent); at most 1 percentage point more is allowed",
		},
		{"one in ten of fifty fails", of(3000, 0), of(50, 5), usual(), true, "5 of 50 requests failed"},
		{"one in five fails", of(3000, 0), of(5, 1), usual(), false, "1 of 5 requests failed (20.0 percent)"},
		{"four of five fail", of(3000, 0), of(5, 4), usual(), false, ""},
		{"all of the first five fail", of(3000, 0), of(5, 5), usual(), true, "5 of 5 requests failed (100.0 percent), of the old version 0 of 3000 (0.0 percent)"},
		{"all of the first four fail", of(3000, 0), of(4, 4), usual(), false, ""},
		{"all fail and nothing is known of the old one", of(0, 0), of(5, 5), usual(), true, "5 of 5 requests failed (100.0 percent), and of the old version none is known to compare with"},
		{"some fail and nothing is known of the old one", of(0, 0), of(500, 400), usual(), false, ""},
		{"all fail and those of the old one fail too", of(100, 60), of(5, 5), usual(), false, ""},
		{"a little more than the old one", of(10000, 200), of(10000, 250), usual(), false, ""},
		{"more than the old one by more than may be", of(10000, 200), of(10000, 400), usual(), true, "400 of 10000 requests failed (4.0 percent), of the old version 200 of 10000 (2.0 percent)"},
		{"the old one may have been lucky", of(20, 0), of(20, 5), usual(), false, ""},
		{"no more may fail", of(10000, 200), of(10000, 290), analysis.Limits{LatencyRatio: -1}, true, "no more is allowed"},
		{"a tenth more may fail", of(3900, 3), of(400, 41), analysis.Limits{ErrorIncrease: 0.1, LatencyRatio: -1}, false, "at most 10 percentage points more is allowed"},
		{"errors do not matter", of(3900, 3), of(400, 400), analysis.Limits{ErrorIncrease: -1, LatencyRatio: -1}, false, "neither errors nor latency have a limit"},
		{"more errors than requests", analysis.Sample{Requests: 100}, analysis.Sample{Requests: 3, Errors: 1e9}, usual(), false, "3 of 3 requests failed"},
		{"nothing came yet", of(3900, 3), of(0, 0), usual(), false, "the new version has had no request yet"},

		{
			"ten times as slow", of(3000, 0, 20*ms, 30*ms), of(30, 0, 200*ms, 300*ms), usual(), true,
			"p90 is 320ms over 30 answers, of the old version 30ms over 3000; at most 3 times that is allowed",
		},
		{"ten times as slow, often", of(3000, 0, 20*ms, 30*ms), of(3000, 0, 200*ms, 300*ms), usual(), true, "p99 is 320ms over 3000 answers"},
		{"ten times as slow, too seldom to tell", of(3000, 0, 20*ms), of(19, 0, 200*ms), usual(), false, "latency is not compared yet, at 19 answers against 3000: at least 20 and 30 are needed"},
		{"ten times as slow as of a few", of(29, 0, 20*ms), of(3000, 0, 200*ms), usual(), false, "at 3000 answers against 29"},
		{"twice as slow", of(3000, 0, 20*ms), of(3000, 0, 40*ms), usual(), false, "p99 is 43ms over 3000 answers, of the old version 22ms over 3000"},
		{"some in fifty slow", of(3000, 0, 20*ms), merged(of(2900, 0, 20*ms), of(100, 0, 2000*ms)), usual(), true, "p99 is 2.1s"},
		{"some in two hundred slow", of(3000, 0, 20*ms), merged(of(2985, 0, 20*ms), of(15, 0, 2000*ms)), usual(), false, "p99 is 22ms"},
		{"from nothing to a little", of(3000, 0, 200*time.Microsecond), of(3000, 0, 700*time.Microsecond), usual(), false, "p99 is 730µs"},
		{"slowness does not matter", of(3000, 0, 20*ms), of(3000, 0, 2000*ms), analysis.Limits{ErrorIncrease: 0.01, LatencyRatio: -1}, false, "0 of 3000 requests failed (0.0 percent)"},
		{"slower than is counted", of(3000, 0, time.Hour), of(3000, 0, 2*time.Hour), usual(), false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := analysis.Compare(analysis.Standing{Recent: test.old, Last: test.old}, analysis.Standing{Recent: test.new, Last: test.new}, test.limits)
			if got.Worse != test.worse || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("got %+v, want %v: %s", got, test.worse, test.reason)
			}
		})
	}
}

func merged(a, b analysis.Sample) analysis.Sample {
	sum := analysis.Sample{Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Latency: map[int]uint64{}}
	for _, s := range []analysis.Sample{a, b} {
		for bucket, n := range s.Latency {
			sum.Latency[bucket] += n
		}
	}
	return sum
}

// TestBaseline: a version that takes no more requests is compared by its last.
func TestBaseline(t *testing.T) {
	bad := analysis.Standing{Recent: of(100, 20)}
	for name, old := range map[string]analysis.Standing{
		"that takes none any more":     {Last: of(3000, 0)},
		"that has just stopped":        {Recent: of(10, 0), Last: of(3000, 0)},
		"of which the last is missing": {Recent: of(3000, 0)},
	} {
		if found := analysis.Compare(old, bad, usual()); !found.Worse || !strings.Contains(found.Reason, "of the old version 0 of 3000") {
			t.Errorf("against a version %s: %+v", name, found)
		}
	}
}

func TestQuantile(t *testing.T) {
	const ms = time.Millisecond
	if _, ok := of(3, 3).Quantile(0.5); ok {
		t.Error("there is a quantile of no answer")
	}
	s := of(100, 0, 10*ms, 20*ms, 30*ms, 40*ms)
	for q, want := range map[float64]time.Duration{-1: 10 * ms, 0: 10 * ms, 0.25: 10 * ms, 0.26: 20 * ms, 0.75: 30 * ms, 0.99: 40 * ms, 1: 40 * ms, 2: 40 * ms} {
		got, ok := s.Quantile(q)
		if !ok || got < want || got > want*110/100 {
			t.Errorf("the quantile at %v is %v, want %v", q, got, want)
		}
	}
}

// What looks worse and may be chance is no reason to roll back, and none to go
// on either.
func TestDoubts(t *testing.T) {
	for _, test := range []struct {
		name     string
		old, new analysis.Sample
		doubts   bool
	}{
		{"four of twenty-three", of(240, 0), of(23, 4), true},
		{"one fails", of(240, 0), of(3, 1), false},
		{"two of three", of(240, 0), of(3, 2), true},
		{"two of very many", of(9000, 0), of(2000, 2), false},
		{"as the old one", of(1000, 100), of(50, 5), false},
		{"none", of(240, 0), of(240, 0), false},
	} {
		got := analysis.Compare(analysis.Standing{Recent: test.old, Last: test.old}, analysis.Standing{Recent: test.new, Last: test.new}, usual())
		if got.Worse || got.Doubts != test.doubts {
			t.Errorf("%s: %+v, want doubts %v", test.name, got, test.doubts)
		}
	}
}
