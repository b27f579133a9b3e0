package analysis_test

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/analysis"
	"github.com/serve-nomad/serve-nomad/loads"
)

// sender is a proxy as it really makes its reports: each is of all since the
// last that it knows to have arrived.
type sender struct {
	name     string
	sequence uint64
	arrived  uint64
	pending  map[string]loads.Served // by version, since then
	told     map[string]loads.Served // of these, what a report that arrived has said
	counted  map[string]loads.Served // what was said in reports that are known to have arrived
	last     []loads.Report          // that were sent
}

func (s *sender) serve(version string, requests, errors uint64, bucket int) {
	one := loads.Served{Requests: requests, Errors: errors}
	if requests > errors {
		one.Latency = map[int]uint64{bucket: requests - errors}
	}
	s.pending[version] = plus(s.pending[version], one)
}

func plus(a, b loads.Served) loads.Served {
	sum := loads.Served{Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Latency: map[int]uint64{}}
	for _, l := range []map[int]uint64{a.Latency, b.Latency} {
		for bucket, n := range l {
			sum.Latency[bucket] += n
		}
	}
	return sum
}

func (s *sender) report() loads.Report {
	s.sequence++
	r := loads.Report{
		Schema: loads.Schema, Proxy: s.name, Incarnation: 1, Sequence: s.sequence, After: s.arrived, Ready: true,
		Covers: time.Second, Next: time.Second,
	}
	for version, served := range s.pending {
		served.Application, served.Deployment, served.Version = "app", "model", version
		served.Latency = maps.Clone(served.Latency)
		r.Served = append(r.Served, served)
	}
	s.last = append(s.last, r)
	return r
}

// TestEachRequestCountsOnce: whatever befalls reports and their answers on their
// way, what is counted is what the reports said that arrived.
func TestEachRequestCountsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ledger := analysis.NewLedger(moment(0))
		ledger.Follow(map[string]bool{"app": true})
		at := 0.0
		senders := []*sender{{name: "web-1"}, {name: "web-2"}}
		for _, s := range senders {
			s.pending, s.told, s.counted = map[string]loads.Served{}, map[string]loads.Served{}, map[string]loads.Served{}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at += rapid.Float64Range(0, 0.5).Draw(t, "pause")
			s := rapid.SampledFrom(senders).Draw(t, "proxy")
			errors := rapid.Uint64Range(0, 3).Draw(t, "errors")
			s.serve(rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "version"),
				errors+rapid.Uint64Range(0, 5).Draw(t, "answers"), errors, rapid.IntRange(0, loads.LastBucket).Draw(t, "bucket"))
			switch rapid.SampledFrom([]string{"waits", "arrives", "its answer is lost", "is lost", "an old one comes again"}).Draw(t, "report") {
			case "arrives":
				r := s.report()
				ledger.Take(moment(at), &r)
				for version, served := range s.pending {
					s.counted[version] = plus(s.counted[version], served)
				}
				s.pending, s.told, s.arrived = map[string]loads.Served{}, map[string]loads.Served{}, s.sequence
			case "its answer is lost":
				r := s.report()
				ledger.Take(moment(at), &r)
				s.told = maps.Clone(s.pending)
			case "is lost":
				s.report()
				s.last = s.last[:len(s.last)-1]
			case "an old one comes again":
				if len(s.last) > 0 {
					r := rapid.SampledFrom(s.last).Draw(t, "which")
					ledger.Take(moment(at), &r)
				}
			}
		}
		for _, version := range []string{"v1", "v2"} {
			var want loads.Served
			for _, s := range senders {
				want = plus(want, plus(s.counted[version], s.told[version]))
			}
			key := loads.Version{Application: "app", Deployment: "model", Version: version}
			got := ledger.Standings(moment(at), []loads.Version{key})[key].Recent
			if got.Requests != want.Requests || got.Errors != want.Errors || !maps.Equal(got.Latency, want.Latency) && len(got.Latency)+len(want.Latency) > 0 {
				t.Fatalf("%s: counted %+v, want %+v", version, got, want)
			}
		}
	})
}

// TestFindingsAreSound: what is no worse anywhere is never found worse, and a
// limit that is switched off finds nothing.
func TestFindingsAreSound(t *testing.T) {
	count := rapid.Uint64Range(0, 100_000)
	sample := rapid.Custom(func(t *rapid.T) analysis.Sample {
		s := analysis.Sample{Requests: count.Draw(t, "requests"), Latency: map[int]uint64{}}
		s.Errors = rapid.Uint64Range(0, s.Requests).Draw(t, "errors")
		for left := s.Requests - s.Errors; left > 0 && len(s.Latency) < 20; {
			n := rapid.Uint64Range(1, left).Draw(t, "answers")
			s.Latency[rapid.IntRange(0, loads.LastBucket).Draw(t, "bucket")] += n
			left -= n
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		old, fresh := sample.Draw(t, "old"), sample.Draw(t, "new")
		limits := analysis.Limits{
			ErrorIncrease: rapid.Float64Range(0, 1).Draw(t, "increase"),
			LatencyRatio:  rapid.Float64Range(1, 100).Draw(t, "ratio"),
		}
		compare := func(a, b analysis.Sample, limits analysis.Limits) analysis.Finding {
			return analysis.Compare(analysis.Standing{Recent: a, Last: a}, analysis.Standing{Recent: b, Last: b}, limits)
		}
		if found := compare(old, fresh, limits); found.Reason == "" {
			t.Fatal("nothing is said")
		}
		if found := compare(old, old, limits); found.Worse && old.Errors < old.Requests {
			t.Fatalf("worse than itself: %s", found.Reason)
		}
		if found := compare(old, fresh, analysis.Limits{ErrorIncrease: -1, LatencyRatio: -1}); found.Worse {
			t.Fatalf("worse without a limit: %s", found.Reason)
		}
		// Fewer errors of as many requests are never worse.
		limits.LatencyRatio = -1
		if compare(old, fresh, limits).Worse {
			return
		}
		fresh.Errors = rapid.Uint64Range(0, fresh.Errors).Draw(t, "fewer errors")
		if found := compare(old, fresh, limits); found.Worse {
			t.Fatalf("worse with fewer errors: %s", found.Reason)
		}
	})
}
