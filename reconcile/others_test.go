package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestByOthers(t *testing.T) {
	job := func(change func(j *reconcile.Job)) map[string]reconcile.Job {
		j := reconcile.Job{ID: "j", ClusterID: "c", Application: "shop", Deployment: "till", Count: 2, LiveHash: "h", ModifyIndex: 7}
		change(&j)
		return map[string]reconcile.Job{"j": j}
	}
	as := func(*reconcile.Job) {}
	stopped := func(j *reconcile.Job) { j.Stopped = true }
	edited := func(j *reconcile.Job) { j.Edited = true }
	for name, c := range map[string]struct {
		before, after map[string]reconcile.Job
		ours          bool
		want          string // "": no event
	}{
		"nothing happened":     {before: job(as), after: job(as)},
		"only a replica moved": {before: job(as), after: job(func(j *reconcile.Job) { j.Unplaced = 1 })},
		"it was stopped":       {before: job(as), after: job(func(j *reconcile.Job) { j.Stopped, j.ModifyIndex = true, 8 }), want: "stopped it"},
		"we stopped it":        {before: job(as), after: job(func(j *reconcile.Job) { j.Stopped, j.ModifyIndex = true, 8 }), ours: true},
		"it was purged":        {before: job(as), want: "stopped and purged it"},
		"it was collected":     {before: job(stopped)},
		"it was scaled":        {before: job(as), after: job(func(j *reconcile.Job) { j.Count, j.ModifyIndex = 5, 8 }), want: "set its count from 2 to 5"},
		"it was started":       {before: job(stopped), after: job(func(j *reconcile.Job) { j.ModifyIndex = 8 }), want: "started it"},
		"it was edited":        {before: job(as), after: job(func(j *reconcile.Job) { j.Edited, j.ModifyIndex = true, 8 }), want: "edited it; its replicas are not what was deployed"},
		"the edit was undone":  {before: job(edited), after: job(func(j *reconcile.Job) { j.ModifyIndex = 8 }), want: "set it back to what was deployed"},
		"its limits":           {before: job(as), after: job(func(j *reconcile.Job) { j.LiveHash, j.ModifyIndex = "i", 8 }), want: "changed its limits"},
		"what does not matter": {before: job(as), after: job(func(j *reconcile.Job) { j.ModifyIndex = 8 }), want: "its replicas are what was deployed"},
		"another cluster's":    {before: job(func(j *reconcile.Job) { j.ClusterID = "d" }), after: nil},
	} {
		t.Run(name, func(t *testing.T) {
			before := &reconcile.World{NomadKnown: true, Jobs: c.before}
			after := &reconcile.World{NomadKnown: true, Jobs: c.after}
			got := reconcile.ByOthers("c", before, after, func(string) bool { return c.ours }, time.Time{})
			switch {
			case c.want == "" && len(got) == 0:
			case len(got) != 1 || c.want == "" || !strings.Contains(got[0].Message, c.want) || got[0].Type != "job-changed" || got[0].Application != "shop":
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
	t.Run("what could not be seen was not done by anybody", func(t *testing.T) {
		before := &reconcile.World{NomadKnown: true, Jobs: job(as)}
		nobody := func(string) bool { return false }
		if got := reconcile.ByOthers("c", before, &reconcile.World{}, nobody, time.Time{}); len(got) > 0 {
			t.Errorf("Nomad is away, and %+v", got)
		}
		if got := reconcile.ByOthers("c", nil, before, nobody, time.Time{}); len(got) > 0 {
			t.Errorf("nothing had been seen before, and %+v", got)
		}
	})
}
