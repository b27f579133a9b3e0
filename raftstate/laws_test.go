package raftstate

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// anyCommand draws a command over few names, so that commands meet each other.
func anyCommand(t *rapid.T, i int) Command {
	app := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "application")
	deployment := rapid.SampledFrom([]string{"web", "cache", "gone"}).Draw(t, "deployment")
	var c Command
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		c = Command{InitCluster: &InitCluster{ClusterID: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "cluster")}}
	case 1, 2, 3:
		c = deploy(anySpec(t, app), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "hash"))
		if rapid.Bool().Draw(t, "checked") {
			c.Deploy.Applications[0].CheckIndex = new(rapid.Uint64Range(0, uint64(i)).Draw(t, "check index"))
		}
	case 4, 5:
		c = scale(app, deployment, rapid.IntRange(-1, 4).Draw(t, "replicas"))
	case 6:
		c = remove(app)
	case 7, 8:
		status := rapid.SampledFrom([]RolloutStatus{RolloutSuccessful, RolloutFailed, RolloutRunning}).Draw(t, "status")
		c = end(app, rapid.IntRange(1, 4).Draw(t, "version"), status)
	default:
		c = forget(app)
	}
	c.ID = fmt.Sprintf("id-%d", rapid.IntRange(0, 2*i+1).Draw(t, "id")) // some of them come twice
	return at(i, c)
}

func anySpec(t *rapid.T, name string) *appspec.Application {
	deployments := rapid.SampledFrom([][]string{{"web"}, {"web", "cache"}, {"cache", "web"}, {}}).Draw(t, "deployments")
	a := spec(name, deployments...)
	if rapid.Bool().Draw(t, "shared route") {
		a.RoutePrefix = "/shared"
	}
	for _, d := range a.Deployments {
		d.NumReplicas = rapid.IntRange(0, 3).Draw(t, "num replicas")
		if rapid.Bool().Draw(t, "empty, not nil") {
			d.Handles, d.Task.Env = []string{}, map[string]string{}
		}
	}
	return a
}

// TestLaws replays random logs on two FSMs, one of which goes through a
// snapshot now and then.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain, snapped := NewFSM(), NewFSM()
		results := map[string]Result{}
		for i := range rapid.IntRange(1, 30).Draw(t, "length") {
			c := anyCommand(t, i)
			index := uint64(i + 1)
			old, before := plain.State(), encodedIn(t, plain.State())

			log := entryIn(t, index, c)
			a, _ := plain.Apply(log).(Result)
			b, _ := snapped.Apply(log).(Result)

			if a != b {
				t.Fatalf("two servers answered %+v and %+v", a, b)
			}
			if first, repeated := results[c.ID]; repeated && a != first {
				t.Fatalf("%s was answered %+v, then %+v", c.ID, first, a)
			} else if repeated && appsIn(t, old) != appsIn(t, plain.State()) {
				t.Fatalf("%s was applied twice", c.ID)
			}
			results[c.ID] = a
			if encodedIn(t, old) != before {
				t.Fatal("a published State has changed")
			}
			after := encodedIn(t, plain.State())
			if encodedIn(t, snapped.State()) != after {
				t.Fatal("two servers with the same log differ")
			}
			if rapid.IntRange(0, 4).Draw(t, "snapshot") == 0 {
				snapped = restoredFSM(t, snapped)
				if encodedIn(t, snapped.State()) != after {
					t.Fatal("a restored State is another one")
				}
			}
			checkInvariants(t, plain.State())
		}
	})
}

func checkInvariants(t *rapid.T, s *State) {
	holder := map[string]string{}
	for name, app := range s.Applications {
		switch {
		case app.Serving == nil || app.Wanted == nil:
			t.Fatalf("application %s lacks a version", name)
		case app.Serving.Number > app.Wanted.Number:
			t.Fatalf("application %s serves a version newer than the wanted one", name)
		case app.ModifyIndex > s.Index || app.CreateIndex > app.ModifyIndex:
			t.Fatalf("application %s is from the future", name)
		}
		if app.Deleting {
			continue
		}
		for _, prefix := range []string{app.Serving.Spec.RoutePrefix, app.Wanted.Spec.RoutePrefix} {
			if other, taken := holder[prefix]; taken && other != name {
				t.Fatalf("applications %s and %s share a route", name, other)
			}
			holder[prefix] = name
		}
	}
}

// FuzzApply feeds any bytes to the FSM as a log entry, after a log that leaves
// something to meet. Nothing may panic, and what comes out must survive a
// snapshot.
func FuzzApply(f *testing.F) {
	log, err := os.ReadFile(filepath.Join("testdata", "v1.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range splitLines(log) {
		f.Add(line)
	}
	f.Add([]byte(`{"v":1,"deploy":{"applications":[{"spec":{"name":"a","deployments":[null]}}]}}`))
	f.Add([]byte(`{"v":1,"id":"x","scale":{"application":"a","deployment":"web","replicas":-9223372036854775808}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsm := NewFSM()
		applyEntry(t, fsm, 1, at(0, deploy(spec("a", "web"), "1")))
		applyEntry(t, fsm, 2, at(1, deploy(spec("a", "web", "cache"), "2")))
		for index := uint64(3); index < 5; index++ { // a second time meets its own receipt
			if _, ok := fsm.Apply(&raft.Log{Index: index, Data: data}).(Result); !ok {
				t.Fatal("no result")
			}
		}
		want := encoded(t, fsm.State())
		if got := encoded(t, restored(t, fsm.State())); got != want {
			t.Errorf("restored, it is\n%s\nnot\n%s", got, want)
		}
	})
}
