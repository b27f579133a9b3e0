package controller_test

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestChangesByOthers(t *testing.T) {
	// changed returns what the view tells of changes by others.
	changed := func(c *controller.Controller) (messages []string) {
		for _, e := range c.View().Seen {
			if e.Type == "job-changed" {
				messages = append(messages, e.Message)
			}
		}
		return messages
	}
	// byHand changes the one job that there is, as Nomad would show it.
	byHand := func(f *fake, change func(j *reconcile.Job)) {
		f.mu.Lock()
		defer f.mu.Unlock()
		world := *f.world
		world.Jobs = maps.Clone(world.Jobs)
		for id, job := range world.Jobs {
			job.ModifyIndex++
			change(&job)
			world.Jobs[id] = job
		}
		f.world = &world
		f.tick(f.wake)
	}

	t.Run("what the loop does itself is not told of", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			f.mu.Lock()
			f.slowLook = time.Second // counts are set while it looks, too
			f.mu.Unlock()
			f.propose(t, deploy("v1"))
			settle()
			for _, n := range []int{5, 1, 3} {
				f.propose(t, raftstate.Command{ID: "s", Scale: &raftstate.Scale{Application: "shop", Deployment: "till", Replicas: n}})
				time.Sleep(1500 * time.Millisecond) // fake; in the middle of a look
			}
			f.mu.Lock()
			f.failNext = 2
			f.mu.Unlock()
			f.propose(t, deploy("v2"))
			settle()
			f.propose(t, raftstate.Command{ID: "d", Delete: &raftstate.Delete{Application: "shop"}})
			settle()
			if got := changed(c); len(got) > 0 {
				t.Errorf("told of %q", got)
			}
			if f.calls() < 8 {
				t.Errorf("%d writes: there was nothing to tell of", f.calls())
			}
		})
	})

	t.Run("what somebody else does is told of, and set right", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			f.propose(t, deploy("v1"))
			settle()
			byHand(f, func(j *reconcile.Job) { j.Stopped = true })
			settle()
			byHand(f, func(j *reconcile.Job) { j.Count = 9 })
			settle()
			got := changed(c)
			if len(got) != 2 || !strings.Contains(got[0], "stopped it") || !strings.Contains(got[1], "from 2 to 9") {
				t.Errorf("told of %q", got)
			}
			for _, job := range f.world.Jobs {
				if job.Stopped || job.Count != 2 {
					t.Errorf("it was left as %+v", job)
				}
			}
		})
	})

	t.Run("a job that was edited is told of and left alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := lead(t)
			f.propose(t, deploy("v1"))
			settle()
			calls := f.calls()
			byHand(f, func(j *reconcile.Job) { j.Edited = true })
			settle()
			if got := changed(c); len(got) != 1 || !strings.Contains(got[0], "edited it") {
				t.Errorf("told of %q", got)
			}
			if n := f.calls() - calls; n != 0 {
				t.Errorf("%d writes", n)
			}
			v := c.View()
			status, _ := reconcile.Summarise(v.State, v.World, time.Now(), reconcile.Settings{}, "shop")
			if d := status.Deployments[0]; !d.Edited || d.Status != reconcile.Healthy || !strings.Contains(d.Reason, "was edited in Nomad") {
				t.Errorf("status: %+v", d)
			}
		})
	})
}
