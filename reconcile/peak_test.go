package reconcile_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// counting is a world with jobs that have these counts.
func counting(counts map[string]int) *reconcile.World {
	w := &reconcile.World{Jobs: map[string]reconcile.Job{}}
	for id, n := range counts {
		w.Jobs[id] = reconcile.Job{ID: id, Application: "app", Deployment: id, Version: "v", Count: n}
	}
	return w
}

func setTo(id string, n int) reconcile.Step {
	return reconcile.Step{Scale: &reconcile.Scale{JobID: id, Count: n}}
}

func stopping(id string) reconcile.Step { return reconcile.Step{Stop: &reconcile.Stop{JobID: id}} }

func waiting() reconcile.Step { return reconcile.Step{Propose: &raftstate.Command{}} }

func TestJobCounts(t *testing.T) {
	counted := func(id string, now, peak, then int) reconcile.JobCount {
		return reconcile.JobCount{Job: id, Application: "app", Deployment: id, Version: "v", Now: now, Peak: peak, Then: then}
	}
	stopped := counting(map[string]int{"a": 3})
	stopped.Jobs["a"] = reconcile.Job{ID: "a", Application: "app", Deployment: "a", Version: "v", Count: 3, Stopped: true}
	for name, c := range map[string]struct {
		world *reconcile.World
		steps []reconcile.Step
		want  []reconcile.JobCount
	}{
		"nothing": {counting(nil), []reconcile.Step{waiting(), {WriteRoute: &reconcile.WriteRoute{}}}, nil},
		"one grows": {
			counting(map[string]int{"a": 2, "untouched": 9}),
			[]reconcile.Step{setTo("a", 5)},
			[]reconcile.JobCount{counted("a", 2, 5, 5)},
		},
		"one shrinks": {
			counting(map[string]int{"a": 5}),
			[]reconcile.Step{setTo("a", 2)},
			[]reconcile.JobCount{counted("a", 5, 5, 2)},
		},
		"a job that was stopped has none": {
			stopped,
			[]reconcile.Step{setTo("a", 2)},
			[]reconcile.JobCount{counted("a", 0, 2, 2)},
		},
		"one beside another, which goes when that is there": {
			counting(map[string]int{"old": 4, "new": 0}),
			[]reconcile.Step{setTo("new", 4), waiting(), stopping("old")},
			[]reconcile.JobCount{counted("new", 0, 4, 4), counted("old", 4, 4, 0)},
		},
		"in batches": {
			counting(map[string]int{"old": 4, "new": 0}),
			[]reconcile.Step{
				setTo("new", 1), waiting(), setTo("new", 2), setTo("old", 3), setTo("new", 3), setTo("old", 2),
				setTo("new", 4), setTo("old", 1), setTo("old", 0), waiting(), stopping("old"),
			},
			[]reconcile.JobCount{counted("new", 0, 1, 4), counted("old", 4, 4, 0)},
		},
		"more of another one in one batch": {
			counting(map[string]int{"old": 2, "new": 1}),
			[]reconcile.Step{waiting(), setTo("new", 3), setTo("old", 1), setTo("old", 0), waiting(), stopping("old")},
			[]reconcile.JobCount{counted("new", 1, 3, 3), counted("old", 2, 1, 0)},
		},
		"two at once": {
			counting(map[string]int{"a": 1, "b": 1, "c": 1}),
			[]reconcile.Step{setTo("a", 3), setTo("b", 4), waiting(), setTo("c", 0), setTo("b", 2)},
			[]reconcile.JobCount{counted("a", 1, 3, 3), counted("b", 1, 4, 2), counted("c", 1, 1, 0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, reconcile.JobCounts(c.world, c.steps)); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever the steps: the end is the last count of each job, and the peak is a
// moment with no fewer replicas than there are at the beginning or at the end.
func TestLawsOfJobCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts, last := map[string]int{}, map[string]int{}
		ids := []string{"a", "b", "c"}
		for _, id := range ids {
			counts[id] = rapid.IntRange(0, 5).Draw(t, id)
		}
		var steps []reconcile.Step
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			id, n := rapid.SampledFrom(ids).Draw(t, "job"), rapid.IntRange(0, 5).Draw(t, "count")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				steps = append(steps, waiting())
			case 1:
				steps, last[id] = append(steps, stopping(id)), 0
			default:
				steps, last[id] = append(steps, setTo(id, n)), n
			}
		}
		now, peak, then := 0, 0, 0
		list := reconcile.JobCounts(counting(counts), steps)
		for _, c := range list {
			if want, touched := last[c.Job]; !touched || c.Then != want || c.Now != counts[c.Job] {
				t.Fatalf("%+v, want %d in the end and %d now", c, want, counts[c.Job])
			}
			now, peak, then = now+c.Now, peak+c.Peak, then+c.Then
		}
		if len(list) != len(last) || peak < now || peak < then {
			t.Fatalf("%+v: %d now, %d at the peak, %d then", list, now, peak, then)
		}
	})
}
