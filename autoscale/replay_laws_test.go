package autoscale

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// anyTrace draws a trace as its lines.
func anyTrace(t *rapid.T) string {
	var lines []string
	at := rapid.SampledFrom([]float64{0, 0.05, 3}).Draw(t, "begin")
	rates := rapid.Bool().Draw(t, "rates")
	for range rapid.IntRange(1, 12).Draw(t, "lines") {
		line := map[string]any{"at": at, "metric": rapid.Float64Range(0, 100).Draw(t, "metric")}
		if rates {
			line["rate"] = rapid.Float64Range(0, 50).Draw(t, "rate")
			line["seconds_per_request"] = rapid.Float64Range(0.001, 20).Draw(t, "seconds")
		} else {
			line["requests"] = anyLoad(t, "requests")
		}
		if rapid.IntRange(0, 5).Draw(t, "pin") == 0 {
			line["running"] = rapid.IntRange(0, 30).Draw(t, "running")
		}
		text, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
		at += rapid.Float64Range(0.01, 60).Draw(t, "for")
	}
	return strings.Join(lines, "\n")
}

// What holds of any run: targets stay within the bounds of their time and
// differ from the ones before, times are those of ticks, and a run is the same
// when it is run again.
func TestReplayLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBlock(t)
		if b.Policy == appspec.PolicyExternal {
			b.Policy = appspec.PolicyRay
		}
		b.InitialReplicas = nil
		policy, err := Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		trace, err := ReadTrace(strings.NewReader(anyTrace(t)))
		if err != nil {
			t.Fatal(err)
		}
		options := ReplayOptions{
			Start: epoch(), Tick: time.Duration(rapid.IntRange(50, 3000).Draw(t, "tick ms")) * time.Millisecond,
			Until: 3 * time.Minute, StartDelay: time.Duration(rapid.IntRange(0, 40).Draw(t, "start delay")) * time.Second,
			Queue: QueueOptions{MaxOngoing: rapid.IntRange(1, 5).Draw(t, "slots"), MaxQueued: rapid.IntRange(-1, 100).Draw(t, "room"), Uniform: rapid.Bool().Draw(t, "uniform")},
		}
		result, err := Replay(policy, trace, options)
		if err != nil {
			t.Fatal(err)
		}
		checkRun(t, policy, options, result)
		again, err := Replay(policy, trace, options)
		if diff := cmp.Diff(result, again); err != nil || diff != "" {
			t.Errorf("%v: a second run differs:\n%s", err, diff)
		}
	})
}

func checkRun(t *rapid.T, policy *Policy, options ReplayOptions, result *Result) {
	last := result.Changes[0]
	if last.At != 0 {
		t.Errorf("the first line is of %s", last.At)
	}
	for _, c := range result.Changes[1:] {
		least, most := policy.Bounds(options.Start.Add(c.At))
		switch {
		case c.Target < least || c.Target > most:
			t.Errorf("%+v is not within %d..%d", c, least, most)
		case c.Target == last.Target || c.At < last.At || c.At > options.Until || c.At%options.Tick != 0:
			t.Errorf("%+v comes after %+v", c, last)
		case c.Reason == "":
			t.Errorf("%+v has no reason", c)
		}
		last = c
	}
	for i, p := range result.Running {
		if p.Value < 0 || p.At > options.Until || (i > 0 && p.At < result.Running[i-1].At) {
			t.Errorf("running %v", result.Running)
		}
	}
	s := result.Summary
	if s.Changes != len(result.Changes)-1 || s.Turns > s.Changes || s.Short < 0 || s.Short > 1 || s.ReplicaHours < 0 {
		t.Errorf("%+v", s)
	}
	if q := s.Queue; q != nil && (q.Rejected+q.Waiting > q.Requests || q.WaitP50 > q.WaitP99 || q.WaitP99 > options.Until.Seconds()) {
		t.Errorf("%+v", *q)
	}
	if first := result.Changes[0]; strings.HasSuffix(first.Reason, "min_replicas") && first.Target != policy.block.MinReplicas {
		t.Errorf("the run begins with %+v", first)
	}
}
