package raftstate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func TestTargets(t *testing.T) {
	done := func(version int) Command { return end("a", version, RolloutSuccessful) }
	failed := func(version int) Command { return end("a", version, RolloutFailed) }
	up := func(from, to int) Command { return autoscale(change("a", "web", from, to)) }
	day, plain := scaling("a", 1, 4, scheduled(2, 9)), spec("a", "web")
	for name, test := range map[string]struct {
		log           []Command
		serving, want int // targets of "web"; in want the wanted version's
	}{
		"it begins with min_replicas":             {[]Command{deploy(scaling("a", 2, 8), "1")}, 2, 2},
		"or with initial_replicas":                {[]Command{deploy(scaling("a", 2, 8, initially(5)), "1")}, 5, 5},
		"the autoscaler sets it":                  {[]Command{deploy(scaling("a", 0, 8), "1"), up(0, 3)}, 3, 3},
		"to zero":                                 {[]Command{deploy(scaling("a", 0, 8, initially(1)), "1"), up(1, 0)}, 0, 0},
		"from what it is, not from what it was":   {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 3), up(1, 5)}, 3, 3},
		"one after the other in a batch":          {[]Command{deploy(scaling("a", 1, 8), "1"), autoscale(change("a", "web", 1, 3), change("a", "web", 3, 4))}, 4, 4},
		"not above the bounds":                    {[]Command{deploy(scaling("a", 1, 4), "1"), up(1, 5)}, 1, 1},
		"not below them":                          {[]Command{deploy(scaling("a", 1, 4), "1"), up(1, 0)}, 1, 1},
		"not below zero, whatever the bounds say": {[]Command{deploy(scaling("a", -5, 4, initially(0)), "1"), up(0, -2)}, 0, 0},
		"up to what a schedule may ask for":       {[]Command{deploy(day, "1"), up(1, 9)}, 9, 9},
		"and no further":                          {[]Command{deploy(day, "1"), up(1, 10)}, 1, 1},
		"within a schedule's, from outside too":   {[]Command{deploy(scaling("a", 1, 4, external, scheduled(2, 4)), "1"), up(1, 2)}, 2, 2},
		"nobody's that does not scale":            {[]Command{deploy(plain, "1"), up(1, 2)}, 1, 1},
		"nor one's that is being deleted":         {[]Command{deploy(scaling("a", 1, 4), "1"), remove("a"), up(1, 2)}, 1, 1},
		"both versions' during a rollout":         {[]Command{deploy(scaling("a", 1, 8), "1"), done(1), deploy(scaling("a", 1, 8), "2"), up(1, 6)}, 6, 6},

		"a new image keeps it":              {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(scaling("a", 1, 8), "2")}, 7, 7},
		"with initial_replicas too":         {[]Command{deploy(scaling("a", 1, 8, initially(2)), "1"), up(2, 7), deploy(scaling("a", 1, 8, initially(2)), "2")}, 7, 7},
		"other bounds keep it within them":  {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(scaling("a", 1, 5), "1")}, 5, 5},
		"and raise it":                      {[]Command{deploy(scaling("a", 1, 8), "1"), deploy(scaling("a", 3, 8), "1")}, 3, 3},
		"other initial_replicas are obeyed": {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(scaling("a", 1, 8, initially(2)), "1")}, 2, 2},
		"a schedule's bounds hold as well":  {[]Command{deploy(day, "1"), up(1, 9), deploy(day, "2")}, 9, 9},
		"scaling from now on keeps it":      {[]Command{deploy(plain, "1"), scale("a", "web", 4), deploy(scaling("a", 1, 8), "1")}, 4, 4},
		"within the bounds":                 {[]Command{deploy(plain, "1"), scale("a", "web", 9), deploy(scaling("a", 1, 8), "1")}, 8, 8},
		"unless it is to begin somewhere":   {[]Command{deploy(plain, "1"), scale("a", "web", 4), deploy(scaling("a", 1, 8, initially(2)), "1")}, 2, 2},
		"no more scaling: the spec's count": {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(plain, "1")}, 1, 1},
		"after a deletion it begins anew":   {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), remove("a"), deploy(scaling("a", 1, 8), "2")}, 1, 1},
		"external keeps it as well":         {[]Command{deploy(scaling("a", 1, 8, external), "1"), scale("a", "web", 7), deploy(scaling("a", 1, 8, external), "2")}, 7, 7},

		"a version with lower bounds leaves the old one's count": {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(scaling("a", 1, 3), "2")}, 7, 3},
		"and a raise of it is no cut of the old one":             {[]Command{deploy(scaling("a", 1, 8), "1"), up(1, 7), deploy(scaling("a", 1, 3, initially(2)), "2"), up(2, 3)}, 7, 3},
		"a cut is one of both, each within its own bounds":       {[]Command{deploy(scaling("a", 2, 8), "1"), up(2, 7), deploy(scaling("a", 1, 3), "2"), up(3, 1)}, 2, 1},
		"and no raise of the old one":                            {[]Command{deploy(scaling("a", 2, 8), "1"), deploy(scaling("a", 1, 8, initially(6)), "2"), up(6, 5)}, 2, 5},
		"the old one does not go beyond its own bounds":          {[]Command{deploy(scaling("a", 1, 4), "1"), deploy(scaling("a", 1, 9), "2"), up(1, 8)}, 4, 8},
		"the old one that does not scale stays":                  {[]Command{deploy(plain, "1"), deploy(scaling("a", 1, 9), "2"), up(1, 8)}, 1, 8},
		"during a rollout to no scaling nothing scales":          {[]Command{deploy(scaling("a", 1, 9), "1"), deploy(plain, "2"), up(1, 8)}, 1, 1},
		"when that fails the old one scales again":               {[]Command{deploy(scaling("a", 1, 9), "1"), deploy(plain, "2"), failed(2), up(1, 8)}, 8, 1},
		"by its own bounds":                                      {[]Command{deploy(scaling("a", 1, 9), "1"), deploy(scaling("a", 1, 3), "2"), failed(2), up(1, 8)}, 8, 3},
		"what failed is tried again with the count there is":     {[]Command{deploy(scaling("a", 1, 9), "1"), deploy(scaling("a", 1, 9), "2"), failed(2), up(1, 8), deploy(scaling("a", 1, 9), "2")}, 8, 8},
		"scaling by hand during a rollout to scaling":            {[]Command{deploy(plain, "1"), deploy(scaling("a", 1, 9, external), "2"), scale("a", "web", 5)}, 5, 5},
		"and back, where the old one has bounds":                 {[]Command{deploy(scaling("a", 1, 4), "1"), deploy(plain, "2"), scale("a", "web", 6)}, 4, 6},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Err() != nil {
				t.Fatalf("refused: %v", r.Err())
			}
			app := s.Applications["a"]
			if serving, want := app.Serving.Replicas["web"], app.Wanted.Replicas["web"]; serving != test.serving || want != test.want {
				t.Errorf("serving %d, wanted %d; want %d and %d", serving, want, test.serving, test.want)
			}
		})
	}
}

func TestScalingFromOutside(t *testing.T) {
	bounded := []Command{deploy(scaling("a", 1, 4, external), "1")}
	for name, test := range map[string]struct {
		log  []Command
		code ErrorCode
		says string
	}{
		"what scales by itself says what to do": {[]Command{deploy(scaling("a", 1, 4), "1"), scale("a", "web", 2)}, CodeConflict, `or set policy = "external" there`},
		"above the bounds":                      {append(bounded, scale("a", "web", 5)), CodeInvalid, "1 to 4 replicas by its autoscaling block, not 5"},
		"below them":                            {append(bounded, scale("a", "web", 0)), CodeInvalid, "1 to 4 replicas"},
		"below zero":                            {append(bounded, scale("a", "web", -1)), CodeInvalid, "cannot be -1"},
		"within them":                           {append(bounded, scale("a", "web", 4)), "", ""},
		"what no longer scales after a failure": {[]Command{deploy(spec("a", "web"), "1"), deploy(scaling("a", 1, 4), "2"), end("a", 2, RolloutFailed), scale("a", "web", 9)}, "", ""},
		"what scales again after a failure":     {[]Command{deploy(scaling("a", 1, 4), "1"), deploy(spec("a", "web"), "2"), end("a", 2, RolloutFailed), scale("a", "web", 2)}, CodeConflict, "scales by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := run(t, test.log)
			if r.Code != test.code || !strings.Contains(r.Error, test.says) {
				t.Errorf("got %q: %q, want %q with %q", r.Code, r.Error, test.code, test.says)
			}
		})
	}
}

func TestScalingsSayWhy(t *testing.T) {
	second := func(i int) time.Time { return time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC) }
	byHand := scale("a", "web", 3)
	byHand.Scale.Message = "sale"
	for name, test := range map[string]struct {
		log  []Command
		want map[string]Scaling
	}{
		"none after a deploy": {[]Command{deploy(scaling("a", 1, 8), "1")}, nil},
		"the autoscaler's": {
			[]Command{deploy(scaling("a", 1, 8), "1"), autoscale(change("a", "web", 1, 4))},
			map[string]Scaling{"web": {At: second(1), By: ByAutoscaler, From: 1, To: 4, Reason: "12 requests"}},
		},
		"somebody's": {
			[]Command{deploy(spec("a", "web"), "1"), byHand},
			map[string]Scaling{"web": {At: second(1), By: "ada", From: 1, To: 3, Reason: "sale"}},
		},
		"it outlives a deploy that keeps the target": {
			[]Command{deploy(scaling("a", 1, 8), "1"), autoscale(change("a", "web", 1, 4)), deploy(scaling("a", 1, 8), "2")},
			map[string]Scaling{"web": {At: second(1), By: ByAutoscaler, From: 1, To: 4, Reason: "12 requests"}},
		},
		"and none that sets it": {
			[]Command{deploy(spec("a", "web"), "1"), byHand, deploy(spec("a", "web"), "1")}, nil,
		},
		"nor one that drops the deployment": {
			[]Command{deploy(spec("a", "web", "cache"), "1"), scale("a", "cache", 1), deploy(spec("a", "web"), "1"), end("a", 2, RolloutSuccessful), deploy(spec("a", "web"), "2")}, nil,
		},
		"not even if there is as little of it as of what is gone": {
			[]Command{deploy(spec("a", "web", "cache"), "1"), scale("a", "cache", 0), deploy(spec("a", "web"), "1"), end("a", 2, RolloutSuccessful), deploy(spec("a", "web"), "2")}, nil,
		},
		"while the old version still has it, it stays": {
			[]Command{deploy(spec("a", "web", "cache"), "1"), scale("a", "cache", 3), deploy(spec("a", "web"), "1")},
			map[string]Scaling{"cache": {At: second(1), By: "ada", From: 1, To: 3}},
		},
		"a deletion takes it along": {
			[]Command{deploy(scaling("a", 1, 8), "1"), autoscale(change("a", "web", 1, 4)), remove("a"), deploy(scaling("a", 4, 8), "1")}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			if diff := cmp.Diff(test.want, s.Applications["a"].Scalings); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.want, restored(t, s).Applications["a"].Scalings); diff != "" {
				t.Errorf("restored:\n%s", diff)
			}
		})
	}
}

func TestScalingsOfAPublishedStateStay(t *testing.T) {
	for name, next := range map[string]Command{
		"by the autoscaler": autoscale(change("a", "web", 2, 3)),
		"from outside":      scale("b", "web", 3),
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := run(t, []Command{
				deploy(scaling("a", 1, 4), "1"), deploy(scaling("b", 1, 4, external), "1"),
				autoscale(change("a", "web", 1, 2)), scale("b", "web", 2),
			})
			before := encoded(t, s)
			if _, r := s.Apply(5, at(5, next)); r.Err() != nil {
				t.Fatal(r.Err())
			}
			if diff := cmp.Diff(before, encoded(t, s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A deploy keeps the targets, so an autoscaler at work is no reason to refuse
// one that was planned a minute ago; a count set by hand is lost by it.
func TestOnlyWhatADeployWouldUndoCountsAsAChange(t *testing.T) {
	for name, test := range map[string]struct {
		app     *appspec.Application
		scaling Command
		refused bool
	}{
		"the autoscaler": {scaling("a", 1, 8), autoscale(change("a", "web", 1, 2)), false},
		"from outside":   {scaling("a", 1, 8, external), scale("a", "web", 2), false},
		"by hand":        {spec("a", "web"), scale("a", "web", 2), true},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := run(t, []Command{deploy(test.app, "1"), test.scaling, deployIf(test.app, "2", new(uint64(1)))})
			if refused := r.Code == CodeConflict; refused != test.refused {
				t.Errorf("the deploy was answered %+v", r)
			}
		})
	}
	s, _ := run(t, []Command{deploy(scaling("a", 1, 8), "1"), autoscale(change("a", "web", 1, 7)), deploy(scaling("a", 1, 8), "1")})
	if app := s.Applications["a"]; app.Wanted.Number != 1 || app.ModifyIndex != 1 {
		t.Errorf("deploying the same again at 7 replicas: %s", sketch(s, "a"))
	}
}

func TestEventsOfTheAutoscaler(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(scaling("a", 1, 1000), "1")))
	for i := 1; i < maxEvents; i++ {
		applyEntry(t, f, uint64(i+1), at(i, deploy(spec("b", "web"), fmt.Sprint(i))))
	}
	last := f.State().Events[maxEvents-1]
	for i := range 3 * maxEvents {
		applyEntry(t, f, uint64(maxEvents+i+1), at(maxEvents+i, autoscale(change("a", "web", i+1, i+2))))
	}
	events := f.State().Events
	of := func(kind string) (n int) {
		for _, e := range events {
			if e.Type == kind {
				n++
			}
		}
		return n
	}
	if len(events) != maxEvents || of("autoscaled") != maxUnasked || !slices.Contains(events, last) {
		t.Errorf("%d events, %d autoscaled, %d deployed", len(events), of("autoscaled"), of("deployed"))
	}
	got, want := events[maxEvents-1], "768 -> 769 replicas: 12 requests"
	if got.Message != want || got.By != ByAutoscaler || got.Application != "a" || got.Deployment != "web" {
		t.Errorf("the last event is %+v", got)
	}

	// A batch larger than all that is remembered.
	var changes []AutoscaleChange
	for i := range 2 * maxEvents {
		changes = append(changes, change("a", "web", 769-i, 768-i))
	}
	applyEntry(t, f, 5000, at(5000, autoscale(changes...)))
	events = f.State().Events
	if len(events) != maxEvents || of("autoscaled") != maxUnasked || events[maxEvents-1].Message != "258 -> 257 replicas: 12 requests" {
		t.Errorf("after a batch: %d events, %d autoscaled, the last %+v", len(events), of("autoscaled"), events[len(events)-1])
	}
}

func TestABatchOfWhichNothingAppliesChangesNothing(t *testing.T) {
	log := []Command{deploy(scaling("a", 1, 4), "1")}
	before, _ := run(t, log)
	after, r := run(t, append(log, autoscale(
		change("a", "web", 2, 3), change("a", "web", 1, 9), change("a", "web", 1, 1), change("a", "db", 1, 2),
		change("b", "web", 1, 2), change("", "", 0, 0), change("a", "web", 1, math.MinInt), change("a", "web", 1, math.MaxInt),
	)))
	if r.Err() != nil {
		t.Error(r.Err())
	}
	after.Index = before.Index
	if diff := cmp.Diff(encoded(t, before), encoded(t, after)); diff != "" {
		t.Error(diff)
	}
}

// The autoscaler's commands are many and say themselves what they build on.
func TestAnAutoscalerTakesNobodysReceipt(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(scaling("a", 0, 1), "1")))
	for i := range 2 * maxReceipts {
		applyEntry(t, f, uint64(i+2), at(i+1, autoscale(change("a", "web", i%2, 1-i%2))))
	}
	if recent := f.State().Recent; len(recent) != 1 || recent[0].ID != "command-0" {
		t.Errorf("%d receipts", len(recent))
	}
}

func TestReasonsAreBounded(t *testing.T) {
	long := change("a", "web", 1, 2)
	long.Reason = strings.Repeat("é", 10_000)
	s, _ := run(t, []Command{deploy(scaling("a", 1, 4), "1"), autoscale(long)})
	reason := s.Applications["a"].Scalings["web"].Reason
	if len(reason) > maxScalingReason || len(reason) < maxScalingReason-8 || !utf8.ValidString(reason) || !strings.HasSuffix(reason, "é...") {
		t.Errorf("%d bytes: %q", len(reason), reason)
	}
	if message := s.Events[len(s.Events)-1].Message; len(message) > maxScalingReason+64 {
		t.Errorf("the event has %d bytes", len(message))
	}
}

// TestAutoscaleComparesAndSets checks each change alone against what it asks
// for, whatever the log before it was.
func TestAutoscaleComparesAndSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFSM()
		for i := range rapid.IntRange(1, 15).Draw(t, "length") {
			f.Apply(entryIn(t, uint64(i+1), anyCommand(t, i)))
		}
		old := f.State()
		ch := anyChange(t)
		f.Apply(entryIn(t, 100, at(100, autoscale(ch))))
		was, is := old.Applications[ch.Application], f.State().Applications[ch.Application]
		if was == nil || was.Deployment(ch.Deployment) == nil {
			return
		}
		d, before, after := was.Deployment(ch.Deployment), was.Target(ch.Deployment), is.Target(ch.Deployment)
		block := d.Autoscaling
		legal := block != nil && !was.Deleting &&
			before == ch.From && ch.To >= 0 && ch.To >= lowest(block) && ch.To <= highest(block)
		switch {
		case legal && after != ch.To:
			t.Fatalf("%+v was left out at a target of %d: it is %d", ch, before, after)
		case !legal && after != before:
			t.Fatalf("%+v was made at a target of %d, which is %d now", ch, before, after)
		case is.ModifyIndex != was.ModifyIndex:
			t.Fatal("the modify index moved")
		}
	})
}

// TestADecisionOfAnotherVersionIsLeftOut: one that a deploy has overtaken in the
// log would stay for good where the new block leaves the target to others.
func TestADecisionOfAnotherVersionIsLeftOut(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(scaling("a", 1, 9), "1")))
	applyEntry(t, f, 2, at(1, deploy(scaling("a", 1, 9, external), "1")))
	decided := change("a", "web", 1, 3)
	for i, c := range []struct{ version, want int }{{1, 1}, {3, 1}, {2, 3}, {0, 5}} {
		decided.Version, decided.From, decided.To = c.version, f.State().Applications["a"].Target("web"), max(3, c.want)
		applyEntry(t, f, uint64(3+i), at(2+i, autoscale(decided)))
		if got := f.State().Applications["a"].Target("web"); got != c.want {
			t.Errorf("decided by version %d: the target is %d, want %d", c.version, got, c.want)
		}
	}
}

// lowest and highest are the outermost bounds, computed in another way.
func lowest(a *appspec.Autoscaling) int  { return slices.Min(everyBound(a)) }
func highest(a *appspec.Autoscaling) int { return slices.Max(everyBound(a)) }

func everyBound(a *appspec.Autoscaling) []int {
	list := []int{a.MinReplicas, a.MaxReplicas}
	for _, s := range a.Schedules {
		list = append(list, *s.MinReplicas, *s.MaxReplicas)
	}
	return list
}
