package raftstate

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// run applies a log from an empty State. All but the last command must be
// accepted. It returns the State and the last Result.
func run(t *testing.T, log []Command) (*State, Result) {
	t.Helper()
	f := NewFSM()
	var r Result
	for i, c := range log {
		if r.Err() != nil {
			t.Fatalf("command %d was refused: %v", i, r.Err())
		}
		r = applyEntry(t, f, uint64(i+1), at(i, c))
	}
	return f.State(), r
}

// sketch says an application in one line.
func sketch(s *State, name string) string {
	app := s.Applications[name]
	if app == nil {
		return "none"
	}
	line := fmt.Sprintf("serving %d %v wanted %d %v %s history %d created %d modified %d",
		app.Serving.Number, app.Serving.Replicas, app.Wanted.Number, app.Wanted.Replicas,
		app.Rollout.Status, len(app.History), app.CreateIndex, app.ModifyIndex)
	if app.Deleting {
		line += " deleting"
	}
	return line
}

func TestCommandsChangeTheState(t *testing.T) {
	a := spec("a", "web")
	grown := spec("a", "web", "cache")
	live := spec("a", "web")
	live.Deployments[0].MaxOngoingRequests = 9
	other := spec("a", "web", "cache")
	other.Ingress = "cache"
	for name, test := range map[string]struct {
		log  []Command
		want string
	}{
		"a first deploy serves from the start": {
			[]Command{deploy(a, "1")}, "serving 1 map[web:1] wanted 1 map[web:1] running history 0 created 1 modified 1",
		},
		"a new version waits until its rollout ends": {
			[]Command{deploy(a, "1"), end("a", 1, RolloutSuccessful), deploy(a, "2")},
			"serving 1 map[web:1] wanted 2 map[web:1] running history 1 created 1 modified 3",
		},
		"a successful rollout takes the traffic": {
			[]Command{deploy(a, "1"), deploy(a, "2"), end("a", 2, RolloutSuccessful)},
			"serving 2 map[web:1] wanted 2 map[web:1] successful history 1 created 1 modified 3",
		},
		"a failed rollout leaves the old version serving": {
			[]Command{deploy(a, "1"), deploy(a, "2"), end("a", 2, RolloutFailed)},
			"serving 1 map[web:1] wanted 2 map[web:1] failed history 1 created 1 modified 3",
		},
		"going back to what serves needs no new replica": {
			[]Command{deploy(a, "1"), deploy(a, "2"), deploy(a, "1")},
			"serving 3 map[web:1] wanted 3 map[web:1] running history 2 created 1 modified 3",
		},
		"a change of limits alone is live": {
			[]Command{deploy(a, "1"), deploy(live, "1")},
			"serving 2 map[web:1] wanted 2 map[web:1] running history 1 created 1 modified 2",
		},
		"another ingress is a new version": {
			[]Command{deploy(grown, "1"), deploy(other, "1")},
			"serving 1 map[cache:1 web:1] wanted 2 map[cache:1 web:1] running history 1 created 1 modified 2",
		},
		"deploying the same again changes nothing": {
			[]Command{deploy(a, "1"), deploy(a, "1")},
			"serving 1 map[web:1] wanted 1 map[web:1] running history 0 created 1 modified 1",
		},
		"deploying a failed version again tries it again": {
			[]Command{deploy(a, "1"), deploy(a, "2"), end("a", 2, RolloutFailed), deploy(a, "2")},
			"serving 1 map[web:1] wanted 3 map[web:1] running history 2 created 1 modified 4",
		},
		"scale sets what serves": {
			[]Command{deploy(a, "1"), scale("a", "web", 4)},
			"serving 1 map[web:4] wanted 1 map[web:4] running history 0 created 1 modified 2",
		},
		"scale during a rollout sets both versions": {
			[]Command{deploy(a, "1"), deploy(a, "2"), scale("a", "web", 4)},
			"serving 1 map[web:4] wanted 2 map[web:4] running history 1 created 1 modified 3",
		},
		"scale of a deployment that is new sets the wanted version alone": {
			[]Command{deploy(a, "1"), deploy(grown, "1"), scale("a", "cache", 2)},
			"serving 1 map[web:1] wanted 2 map[cache:2 web:1] running history 1 created 1 modified 3",
		},
		"scale of what a failed version would have dropped sets what serves": {
			[]Command{deploy(grown, "1"), end("a", 1, RolloutSuccessful), deploy(a, "2"), end("a", 2, RolloutFailed), scale("a", "cache", 3)},
			"serving 1 map[cache:3 web:1] wanted 2 map[web:1] failed history 1 created 1 modified 5",
		},
		"scale to zero is a count like any other": {
			[]Command{deploy(a, "1"), scale("a", "web", 0)},
			"serving 1 map[web:0] wanted 1 map[web:0] running history 0 created 1 modified 2",
		},
		"a deploy after a scale goes back to the spec's count": {
			[]Command{deploy(a, "1"), scale("a", "web", 4), deploy(a, "1")},
			"serving 2 map[web:1] wanted 2 map[web:1] running history 1 created 1 modified 3",
		},
		"delete only marks": {
			[]Command{deploy(a, "1"), remove("a")},
			"serving 1 map[web:1] wanted 1 map[web:1] running history 0 created 1 modified 2 deleting",
		},
		"forget ends a deletion": {
			[]Command{deploy(a, "1"), remove("a"), forget("a")}, "none",
		},
		"a deploy takes back a deletion and serves at once": {
			[]Command{deploy(a, "1"), remove("a"), deploy(a, "2")},
			"serving 2 map[web:1] wanted 2 map[web:1] running history 1 created 1 modified 3",
		},
		"an application that was deleted starts anew": {
			[]Command{deploy(a, "1"), remove("a"), forget("a"), deploy(a, "1")},
			"serving 1 map[web:1] wanted 1 map[web:1] running history 0 created 4 modified 4",
		},
		"a check index that still holds is let through": {
			[]Command{deployIf(a, "1", new(uint64(0))), deployIf(a, "2", new(uint64(1)))},
			"serving 1 map[web:1] wanted 2 map[web:1] running history 1 created 1 modified 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Err() != nil {
				t.Fatalf("refused: %v", r.Err())
			}
			if got := sketch(s, "a"); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if want := uint64(len(test.log)); s.Index != want || r.Index != want {
				t.Errorf("index %d, result index %d, want %d", s.Index, r.Index, want)
			}
		})
	}
}

func TestCommandsAreRefused(t *testing.T) {
	a := spec("a", "web")
	clash := spec("b", "web")
	clash.RoutePrefix = "/a"
	scaling := spec("a", "web")
	scaling.Deployments[0].Autoscaling = &appspec.Autoscaling{MinReplicas: 1, MaxReplicas: 3}
	negative := spec("a", "web")
	negative.Deployments[0].NumReplicas = -1
	hole := spec("a", "web")
	hole.Deployments = append(hole.Deployments, nil)
	noHash := deploy(a, "1")
	noHash.Deploy.Applications[0].Hashes = nil
	twice := deploy(a, "1")
	twice.Deploy.Applications = append(twice.Deploy.Applications, twice.Deploy.Applications[0])
	for name, test := range map[string]struct {
		log  []Command
		code ErrorCode
		says string
	}{
		"a command of no kind":                 {[]Command{{}}, CodeInvalid, "no known kind"},
		"a cluster without an id":              {[]Command{{InitCluster: &InitCluster{}}}, CodeInvalid, "needs an id"},
		"a second cluster":                     {[]Command{{InitCluster: &InitCluster{"x"}}, {InitCluster: &InitCluster{"y"}}}, CodeConflict, "the cluster is x already"},
		"a deploy of nothing":                  {[]Command{{Deploy: &Deploy{}}}, CodeInvalid, "nothing to deploy"},
		"a deploy without a spec":              {[]Command{{Deploy: &Deploy{Applications: []DeployApplication{{}}}}}, CodeInvalid, "spec with a name"},
		"a deploy with a hole":                 {[]Command{deploy(hole, "1")}, CodeInvalid, "needs a name"},
		"a deploy of one deployment twice":     {[]Command{deploy(spec("a", "web", "web"), "1")}, CodeInvalid, "twice"},
		"a deploy of one application twice":    {[]Command{twice}, CodeInvalid, "twice"},
		"a deploy without a version":           {[]Command{noHash}, CodeInvalid, "no version"},
		"a deploy of fewer than no replicas":   {[]Command{deploy(negative, "1")}, CodeInvalid, "cannot be -1"},
		"a route that is taken":                {[]Command{deploy(a, "1"), deploy(clash, "1")}, CodeConflict, `"a" and "b"`},
		"a deploy over what must not exist":    {[]Command{deploy(a, "1"), deployIf(a, "2", new(uint64(0)))}, CodeConflict, "index is 1, not 0 (version 1 by ada)"},
		"a deploy over what must exist":        {[]Command{deployIf(a, "1", new(uint64(7)))}, CodeConflict, "index is 0, not 7"},
		"a deploy over what has changed":       {[]Command{deploy(a, "1"), scale("a", "web", 2), deployIf(a, "2", new(uint64(1)))}, CodeConflict, "index is 2"},
		"a scale of no application":            {[]Command{scale("a", "web", 1)}, CodeNotFound, `no application "a"`},
		"a scale of no deployment":             {[]Command{deploy(a, "1"), scale("a", "db", 1)}, CodeNotFound, `it has web`},
		"a scale below zero":                   {[]Command{deploy(a, "1"), scale("a", "web", -1)}, CodeInvalid, "cannot be -1"},
		"a scale of what scales by itself":     {[]Command{deploy(scaling, "1"), scale("a", "web", 2)}, CodeConflict, "scales by itself"},
		"a scale of what is being deleted":     {[]Command{deploy(a, "1"), remove("a"), scale("a", "web", 2)}, CodeNotFound, "no application"},
		"a delete of no application":           {[]Command{remove("a")}, CodeNotFound, "no application"},
		"a second delete":                      {[]Command{deploy(a, "1"), remove("a"), remove("a")}, CodeNotFound, "no application"},
		"the end of no rollout":                {[]Command{end("a", 1, RolloutFailed)}, CodeConflict, "not rolling out"},
		"the end of an older rollout":          {[]Command{deploy(a, "1"), deploy(a, "2"), end("a", 1, RolloutFailed)}, CodeConflict, "not rolling out version 1"},
		"the second end of a rollout":          {[]Command{deploy(a, "1"), end("a", 1, RolloutFailed), end("a", 1, RolloutSuccessful)}, CodeConflict, "not rolling out"},
		"an end that is none":                  {[]Command{deploy(a, "1"), end("a", 1, RolloutRunning)}, CodeInvalid, "cannot end as running"},
		"an end that nobody knows":             {[]Command{deploy(a, "1"), end("a", 1, "odd")}, CodeInvalid, `"odd"`},
		"forgetting what is not being deleted": {[]Command{deploy(a, "1"), forget("a")}, CodeConflict, "not being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			before, r := run(t, test.log[:len(test.log)-1])
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			after, r := run(t, test.log)
			if r.Code != test.code || !strings.Contains(r.Error, test.says) {
				t.Fatalf("got %q: %q, want %q with %q", r.Code, r.Error, test.code, test.says)
			}
			if refusal := new(Refusal); !errors.As(r.Err(), &refusal) || refusal.Code != test.code {
				t.Errorf("Err() is %v", r.Err())
			}
			if diff := cmp.Diff(before.Applications, after.Applications); diff != "" {
				t.Errorf("a refused command changed the applications:\n%s", diff)
			}
			if diff := cmp.Diff(before.Events, after.Events); diff != "" {
				t.Errorf("a refused command left an event:\n%s", diff)
			}
		})
	}
}

func TestADeployOfSeveralIsAllOrNone(t *testing.T) {
	good, bad := spec("good", "web"), spec("bad", "web")
	c := deploy(good, "1")
	c.Deploy.Applications = append(c.Deploy.Applications, DeployApplication{
		Spec: bad, Hashes: hashes(bad, "1"), CheckIndex: new(uint64(9)),
	})
	s, r := run(t, []Command{c})
	if r.Code != CodeConflict || len(s.Applications) != 0 {
		t.Errorf("got %q and %d applications", r.Code, len(s.Applications))
	}
}

func TestARouteIsFreeOnceItsApplicationGoes(t *testing.T) {
	heir := spec("b", "web")
	heir.RoutePrefix = "/a"
	if _, r := run(t, []Command{deploy(spec("a", "web"), "1"), remove("a"), deploy(heir, "1")}); r.Err() != nil {
		t.Error(r.Err())
	}
}

func TestARepeatedCommandAppliesOnce(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(spec("a", "web"), "1")))
	up := at(1, scale("a", "web", 3))
	first := applyEntry(t, f, 2, up)
	applyEntry(t, f, 3, at(2, scale("a", "web", 5)))
	again := applyEntry(t, f, 4, up)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the answers differ:\n%s", diff)
	}
	if got := f.State().Applications["a"].Wanted.Replicas["web"]; got != 5 {
		t.Errorf("%d replicas: the repeated command was applied again", got)
	}
	if f.State().Index != 4 {
		t.Errorf("index %d, want 4", f.State().Index)
	}

	bad := at(3, scale("a", "db", 1))
	refused := applyEntry(t, f, 5, bad)
	if again := applyEntry(t, f, 6, bad); refused.Err() == nil || again != refused {
		t.Errorf("a refusal was answered %v, then %v", refused, again)
	}
}

func TestACommandWithoutAnIDLeavesNoReceipt(t *testing.T) {
	f := NewFSM()
	c := deploy(spec("a", "web"), "1")
	for i := range 2 {
		applyEntry(t, f, uint64(i+1), c)
	}
	if n := len(f.State().Recent); n != 0 {
		t.Errorf("%d receipts", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(spec("a", "web"), "0")))
	for i := 1; i <= 2*maxReceipts; i++ {
		applyEntry(t, f, uint64(i+1), at(i, deploy(spec("a", "web"), fmt.Sprint(i))))
	}
	s := f.State()
	if len(s.Events) != maxEvents || len(s.Recent) != maxReceipts || len(s.Applications["a"].History) != maxHistory {
		t.Errorf("%d events, %d receipts, %d old versions", len(s.Events), len(s.Recent), len(s.Applications["a"].History))
	}
	if last := s.Recent[maxReceipts-1].ID; last != fmt.Sprintf("command-%d", 2*maxReceipts) {
		t.Errorf("the last receipt is %s", last)
	}
}

// A server that restored a snapshot and one that replayed the whole log must
// not decide differently on the next command.
func TestARestoredStateDecidesAlike(t *testing.T) {
	empty := spec("a", "web")
	empty.Deployments[0].Handles = []string{}
	empty.Deployments[0].Task.Env = map[string]string{}
	for name, next := range map[string]Command{
		"scaling what serves":            scale("a", "web", 4),
		"deploying the same again":       deploy(empty, "1"),
		"deploying a new version":        deploy(empty, "2"),
		"ending the rollout":             end("a", 1, RolloutSuccessful),
		"something that will be refused": scale("a", "db", 4),
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := run(t, []Command{deploy(empty, "1")})
			c, err := Decode(entry(t, 2, at(1, next)).Data)
			if err != nil {
				t.Fatal(err)
			}
			replayed, _ := s.Apply(2, c)
			fromSnapshot, _ := restored(t, s).Apply(2, c)
			if diff := cmp.Diff(encoded(t, replayed), encoded(t, fromSnapshot)); diff != "" {
				t.Errorf("they differ:\n%s", diff)
			}
		})
	}
}
