package reconcile_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Whatever has happened, Counts is the part of Diff that sets counts, and of the
// applications that changed alone.
func TestCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := looked()
		var before *raftstate.State
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			before = c.state
			c.command(t, drawCommand(t))
			for range rapid.IntRange(0, 4).Draw(t, "passes") {
				before = c.state
				c.pass(t)
			}
		}
		c.world.NomadKnown = rapid.IntRange(0, 9).Draw(t, "nomad away") > 0
		scales := func(changed bool) []reconcile.Step {
			list := []reconcile.Step{}
			for _, s := range c.diff().Steps {
				if s.Scale == nil {
					continue
				}
				app := c.world.Jobs[s.Scale.JobID].Application
				if a := c.state.Applications[app]; a != nil && (a.RollingOut() || len(a.Leaving) > 0) {
					continue // how many there are to be goes by how all of them are
				}
				surged := before.SurgeOf(s.Scale.JobID) != c.state.SurgeOf(s.Scale.JobID)
				if !changed || surged || before.Applications[app] != c.state.Applications[app] {
					list = append(list, s)
				}
			}
			return list
		}
		if d := cmp.Diff(scales(false), append([]reconcile.Step{}, reconcile.Counts(nil, c.state, c.world, settings())...)); d != "" {
			t.Fatal(d)
		}
		if d := cmp.Diff(scales(true), append([]reconcile.Step{}, reconcile.Counts(before, c.state, c.world, settings())...)); d != "" {
			t.Fatal(d)
		}
		if list := reconcile.Counts(c.state, c.state, c.world, settings()); len(list) > 0 {
			t.Fatalf("nothing changed, and yet %v", list)
		}
	})
}

func TestCountsOfAScale(t *testing.T) {
	c := settled(t, deploy(application("shop", "a"), application("search", "a")))
	before := c.state
	c.command(t, raftstate.Command{Scale: &raftstate.Scale{Application: "shop", Deployment: "a", Replicas: 3}})
	list := reconcile.Counts(before, c.state, c.world, settings())
	if len(list) != 1 || list[0].Scale == nil || list[0].Scale.From != 1 || list[0].Scale.Count != 3 {
		t.Errorf("got %v", list)
	}
	jobs := maps.Clone(c.world.Jobs)
	delete(c.world.Jobs, list[0].Scale.JobID)
	if list := reconcile.Counts(before, c.state, c.world, settings()); len(list) > 0 {
		t.Errorf("of a job that is not there: %v", list)
	}
	c.world.Jobs = jobs
}
