package raftstate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	switch rapid.IntRange(0, 26).Draw(t, "kind") {
	case 0:
		c = Command{InitCluster: &InitCluster{ClusterID: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "cluster")}}
	case 1, 2, 3:
		c = deploy(anySpec(t, app), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "hash"))
		c.Deploy.Rollouts = rapid.IntRange(0, 1).Draw(t, "rollouts")
		if strategy := rapid.SampledFrom([]string{"", "", "rolling", "blue_green", "canary"}).Draw(t, "strategy"); strategy != "" {
			c.Deploy.Applications[0].Spec.Rollout = &appspec.Rollout{Strategy: strategy}
		}
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
	case 9, 10, 11, 12:
		c = autoscale(rapid.SliceOfN(rapid.Custom(anyChange), 0, 4).Draw(t, "changes")...)
	case 13:
		c = forget(app)
	case 14, 15, 16:
		c = anyRolloutCommand(t, app)
	default:
		c = anyGroupCommand(t, i)
	}
	c.ID = fmt.Sprintf("id-%d", rapid.IntRange(0, 2*i+1).Draw(t, "id")) // some of them come twice
	return at(i, c)
}

// anyRolloutCommand draws a command about a rollout that there may be.
func anyRolloutCommand(t *rapid.T, app string) Command {
	version := rapid.IntRange(0, 6).Draw(t, "version")
	switch rapid.IntRange(0, 4).Draw(t, "rollout command") {
	case 0:
		from := rapid.IntRange(0, 4).Draw(t, "from")
		return Command{AdvanceRollout: &AdvanceRollout{Application: app, Version: version, From: from, To: from + rapid.IntRange(-1, 2).Draw(t, "by")}}
	case 1:
		return steer(app, rapid.SampledFrom([]RolloutAction{ActionPause, ActionResume, ActionPromote, ActionAbort, "stop"}).Draw(t, "action"))
	case 2:
		return Command{Rollback: &Rollback{Application: app, Version: version}}
	case 3:
		return Command{ForgetVersion: &ForgetVersion{Application: app, Version: version}}
	default:
		return Command{RefuseConfig: &RefuseConfig{Application: app, Version: version, Hashes: map[string]string{"web": "other"}}}
	}
}

func steer(app string, action RolloutAction) Command {
	return Command{By: "ada", SteerRollout: &SteerRollout{Application: app, Action: action}}
}

// anyChange draws a change with few counts, so that it often fits.
func anyChange(t *rapid.T) AutoscaleChange {
	return AutoscaleChange{
		Application: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "application"),
		Deployment:  rapid.SampledFrom([]string{"web", "cache", "gone"}).Draw(t, "deployment"),
		From:        rapid.IntRange(0, 4).Draw(t, "from"),
		To:          rapid.IntRange(-1, 6).Draw(t, "to"),
		Reason:      rapid.SampledFrom([]string{"", "load", strings.Repeat("x", 1000)}).Draw(t, "reason"),
	}
}

// anyBlock draws an autoscaling block, or none.
func anyBlock(t *rapid.T) *appspec.Autoscaling {
	policy := rapid.SampledFrom([]string{"none", appspec.PolicyRay, appspec.PolicyKPA, appspec.PolicyExternal, ""}).Draw(t, "policy")
	if policy == "none" {
		return nil
	}
	block := &appspec.Autoscaling{Policy: policy, MinReplicas: rapid.IntRange(0, 2).Draw(t, "min")}
	block.MaxReplicas = rapid.IntRange(block.MinReplicas, 4).Draw(t, "max")
	if rapid.Bool().Draw(t, "initial") {
		initially(rapid.IntRange(block.MinReplicas, block.MaxReplicas).Draw(t, "initial replicas"))(block)
	}
	if rapid.Bool().Draw(t, "schedule") {
		scheduled(rapid.IntRange(0, 3).Draw(t, "scheduled min"), rapid.IntRange(3, 6).Draw(t, "scheduled max"))(block)
	}
	return block
}

func anySpec(t *rapid.T, name string) *appspec.Application {
	deployments := rapid.SampledFrom([][]string{{"web"}, {"web", "cache"}, {"cache", "web"}, {}}).Draw(t, "deployments")
	a := spec(name, deployments...)
	if rapid.Bool().Draw(t, "shared route") {
		a.RoutePrefix = "/shared"
	}
	for _, d := range a.Deployments {
		d.NumReplicas = rapid.IntRange(0, 3).Draw(t, "num replicas")
		d.WorkerGroup = rapid.SampledFrom([]string{"", "", "", "g", "h"}).Draw(t, "worker group")
		d.Autoscaling = anyBlock(t)
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
			first, repeated := results[c.ID]
			if repeated && a != first {
				t.Fatalf("%s was answered %+v, then %+v", c.ID, first, a)
			} else if repeated && appsIn(t, old) != appsIn(t, plain.State()) {
				t.Fatalf("%s was applied twice", c.ID)
			}
			switch {
			case c.ChangeNodes != nil:
				if !repeated {
					checkNodesChanged(t, old, plain.State(), a)
				}
			case c.Autoscale == nil:
				results[c.ID] = a
			case !repeated:
				checkAutoscaled(t, old, plain.State(), a)
			}
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

// checkAutoscaled checks that an autoscale command changes targets and why they
// are what they are, and nothing else.
func checkAutoscaled(t *rapid.T, old, next *State, r Result) {
	if r.Err() != nil {
		t.Fatalf("an autoscale command was refused: %v", r.Err())
	}
	for name, app := range next.Applications {
		was, is := *old.Applications[name], *app
		for _, a := range []*Application{&was, &is} {
			wanted, serving := *a.Wanted, *a.Serving
			wanted.Replicas, serving.Replicas = nil, nil
			a.Wanted, a.Serving, a.Scalings = &wanted, &serving, nil
		}
		if appsIn(t, &State{Applications: map[string]*Application{name: &was}}) != appsIn(t, &State{Applications: map[string]*Application{name: &is}}) {
			t.Fatalf("an autoscale command changed more than targets of %s", name)
		}
	}
}

func checkTargets(t *rapid.T, app *Application) {
	for _, v := range app.versions() {
		for _, d := range v.Spec.Deployments {
			n, there := v.Replicas[d.Name]
			if !there || n < 0 {
				t.Fatalf("%s of %s has a target of %d", d.Name, app.Name, n)
			}
			if d.Autoscaling != nil && (n < lowest(d.Autoscaling) || n > highest(d.Autoscaling)) {
				t.Fatalf("%s of %s has a target of %d beyond its bounds", d.Name, app.Name, n)
			}
		}
	}
	for name, scaling := range app.Scalings {
		if d := app.Deployment(name); d != nil && app.Rollout.Status == RolloutRunning && app.Target(name) != scaling.To {
			t.Fatalf("%s of %s has a target of %d, and is said to have been scaled to %d", name, app.Name, app.Target(name), scaling.To)
		}
	}
}

func checkInvariants(t *rapid.T, s *State) {
	holder := map[string]string{}
	ours := 0
	for _, e := range s.Events {
		if unasked(e.Type) {
			ours++
		}
	}
	if len(s.Events) > maxEvents || ours > maxUnasked {
		t.Fatalf("%d events, %d of them of the autoscalers", len(s.Events), ours)
	}
	checkGroups(t, s)
	for name, app := range s.Applications {
		checkTargets(t, app)
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
	for _, name := range []string{"v1.jsonl", "v1-autoscale.jsonl", "v1-nodes.jsonl", "v1-rollouts.jsonl"} {
		log, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range splitLines(log) {
			f.Add(line)
		}
	}
	f.Add([]byte(`{"v":1,"deploy":{"applications":[{"spec":{"name":"a","deployments":[null]}}]}}`))
	f.Add([]byte(`{"v":1,"autoscale":{"changes":[{"application":"a","deployment":"web","from":1,"to":-9223372036854775808},{}]}}`))
	f.Add([]byte(`{"v":1,"deploy":{"applications":[{"spec":{"name":"a","deployments":[{"name":"web","autoscaling":{"min_replicas":9,"max_replicas":-3,"schedule":[null]}}]},"hashes":{"web":"3"}}]}}`))
	f.Add([]byte(`{"v":1,"id":"x","scale":{"application":"a","deployment":"web","replicas":-9223372036854775808}}`))
	f.Add([]byte(`{"v":1,"deploy":{"worker_groups":[{"spec":{"name":"g","node_pool":"p","max_nodes":1,"schedule":[null]}}]}}`))
	f.Add([]byte(`{"v":1,"change_nodes":{"changes":[{},{"id":"g-00000001","group":"g","from":"launching","to":"ready","surge":{"a":-1}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsm := NewFSM()
		applyEntry(t, fsm, 1, at(0, deploy(spec("a", "web"), "1")))
		applyEntry(t, fsm, 2, at(1, deploy(spec("a", "web", "cache"), "2")))
		applyEntry(t, fsm, 3, at(2, deployGroups(group("g"))))
		applyEntry(t, fsm, 4, at(3, nodeChanges(launch("g", 1))))
		for index := uint64(5); index < 7; index++ { // a second time meets its own receipt
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
