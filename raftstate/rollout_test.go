package raftstate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// book is a State that commands are applied to, a second apart.
type book struct {
	t     *testing.T
	state *State
}

func newBook(t *testing.T) *book {
	t.Helper()
	b := &book{t: t, state: &State{}}
	b.must(Command{InitCluster: &InitCluster{ClusterID: "x"}})
	return b
}

func (b *book) apply(c Command) Result {
	b.t.Helper()
	next, r := b.state.Apply(b.state.Index+1, at(int(b.state.Index), c))
	b.state = next
	return r
}

func (b *book) must(commands ...Command) {
	b.t.Helper()
	for _, c := range commands {
		if err := b.apply(c).Err(); err != nil {
			b.t.Fatalf("%+v: %v", c, err)
		}
	}
}

func (b *book) app() *Application { return b.state.Applications["shop"] }

// version deploys the shop, as version v of what its replicas run, with a
// strategy; "": none is asked for.
func version(v string, strategy appspec.Strategy) Command {
	a := spec("shop", "web")
	a.Deployments[0].Task.Config["command"] = "/bin/" + v
	if strategy != "" {
		a.Rollout = &appspec.Rollout{Strategy: string(strategy)}
	}
	c := deploy(a, v)
	c.Deploy.Rollouts = 1
	return c
}

func advance(version, from, to int) Command {
	return Command{AdvanceRollout: &AdvanceRollout{Application: "shop", Version: version, From: from, To: to, Reason: "ready"}}
}

// serving is a shop whose version 1 serves.
func serving(t *testing.T) *book {
	t.Helper()
	b := newBook(t)
	b.must(version("a", ""), end("shop", 1, RolloutSuccessful))
	return b
}

func TestStrategiesOfVersions(t *testing.T) {
	for name, c := range map[string]struct {
		commands   []Command
		serving    int
		wanted     int
		generation int // of the wanted version
		strategy   appspec.Strategy
		leaving    []int // versions
	}{
		"a first version serves at once":        {nil, 1, 1, 0, "", nil},
		"what a replica depends on rolls":       {[]Command{version("b", "")}, 1, 2, 0, appspec.StrategyRolling, nil},
		"a generation has the version's number": {[]Command{version("b", appspec.StrategyBlueGreen)}, 1, 2, 2, appspec.StrategyBlueGreen, nil},
		"a live change serves at once":          {[]Command{version("a", appspec.StrategyCanary)}, 2, 2, 0, appspec.StrategyLive, nil},
		"success serves":                        {[]Command{version("b", ""), end("shop", 2, RolloutSuccessful)}, 2, 2, 0, appspec.StrategyRolling, nil},
		"a replaced generation leaves":          {[]Command{version("b", appspec.StrategyCanary), end("shop", 2, RolloutSuccessful)}, 2, 2, 2, appspec.StrategyCanary, []int{1}},
		"failure leaves the old one serving":    {[]Command{version("b", ""), end("shop", 2, RolloutFailed)}, 1, 2, 0, appspec.StrategyRolling, []int{2}},
		"back mid-way is live":                  {[]Command{version("b", ""), version("a", "")}, 3, 3, 0, appspec.StrategyLive, []int{2}},
		"back mid-way, of generations":          {[]Command{version("b", appspec.StrategyCanary), version("a", "")}, 3, 3, 0, appspec.StrategyLive, []int{2}},
		"back after all takes what still runs": {
			[]Command{version("b", appspec.StrategyBlueGreen), end("shop", 2, RolloutSuccessful), version("a", appspec.StrategyBlueGreen)},
			2, 3, 0, appspec.StrategyBlueGreen, nil,
		},
		"back once that is gone does not": {
			[]Command{
				version("b", appspec.StrategyBlueGreen), end("shop", 2, RolloutSuccessful),
				{ForgetVersion: &ForgetVersion{Application: "shop", Version: 1}},
				version("a", appspec.StrategyBlueGreen),
			},
			2, 3, 3, appspec.StrategyBlueGreen, nil,
		},
		"a third version rolls beside the second": {[]Command{version("b", ""), version("c", "")}, 1, 3, 0, appspec.StrategyRolling, []int{2}},
		"a third one goes on with a generation that nobody has asked": {
			[]Command{version("b", appspec.StrategyBlueGreen), version("c", appspec.StrategyBlueGreen)},
			1, 3, 2, appspec.StrategyBlueGreen,
			[]int{2},
		},
		"but not with one that takes requests": {
			[]Command{version("b", appspec.StrategyCanary), advance(2, 0, 1), version("c", appspec.StrategyCanary)},
			1, 3, 3, appspec.StrategyCanary,
			[]int{2},
		},
		"a failed one is begun anew": {
			[]Command{version("b", appspec.StrategyBlueGreen), end("shop", 2, RolloutFailed), version("b", appspec.StrategyBlueGreen)},
			1, 3, 3, appspec.StrategyBlueGreen,
			[]int{2},
		},
		"an abort": {[]Command{version("b", ""), steer("shop", ActionAbort)}, 1, 2, 0, appspec.StrategyRolling, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := serving(t)
			b.must(c.commands...)
			app := b.app()
			var leaving []int
			for _, l := range app.Leaving {
				leaving = append(leaving, l.Version.Number)
			}
			if app.Serving.Number != c.serving || app.Wanted.Number != c.wanted || app.Wanted.Generation != c.generation ||
				app.Rollout.Strategy != c.strategy || !slices.Equal(leaving, c.leaving) {
				t.Errorf("version %d serves, %d is wanted, of generation %d, %s, %v leave; want %d, %d, %d, %s, %v", app.Serving.Number,
					app.Wanted.Number, app.Wanted.Generation, app.Rollout.Strategy, leaving, c.serving, c.wanted, c.generation, c.strategy, c.leaving)
			}
		})
	}
}

// Where nothing has been healthy yet, there is nothing to be careful with.
func TestNothingIsWaitedForBeforeTheFirstHealthyVersion(t *testing.T) {
	b := newBook(t)
	b.must(version("a", ""), version("b", appspec.StrategyCanary))
	if r := b.app().Rollout; !r.Promoted || r.Strategy != appspec.StrategyBlueGreen || !strings.Contains(r.Why, "version 1 has not been healthy yet") {
		t.Errorf("got %+v", r)
	}
	b.must(end("shop", 2, RolloutSuccessful), version("c", appspec.StrategyCanary))
	if r := b.app().Rollout; r.Promoted || r.Strategy != appspec.StrategyCanary {
		t.Errorf("then %+v", r)
	}
}

func TestStages(t *testing.T) {
	b := serving(t)
	b.must(version("b", appspec.StrategyCanary))
	for _, refused := range []Command{advance(2, 1, 2), advance(1, 0, 1), advance(2, 0, 0), advance(2, 0, 5)} {
		if r := b.apply(refused); r.Err() == nil {
			t.Errorf("%+v was taken", refused.AdvanceRollout)
		}
	}
	index := b.app().ModifyIndex
	weights := []int{b.app().Stage().Weight}
	for stage := range 4 {
		b.must(advance(2, stage, stage+1))
		weights = append(weights, b.app().Stage().Weight)
	}
	if !slices.Equal(weights, []int{0, 1, 10, 50, 100}) || b.app().ModifyIndex != index {
		t.Errorf("weights %v; the index went from %d to %d", weights, index, b.app().ModifyIndex)
	}
}

func TestAPauseIsNoTimeOfTheStage(t *testing.T) {
	b := serving(t)
	b.must(version("b", appspec.StrategyCanary), advance(2, 0, 1))
	began := b.app().Rollout.StageAt
	b.must(steer("shop", ActionPause), steer("shop", ActionPause))
	if p := b.app().Rollout.Paused; p == nil || p.By != "ada" {
		t.Fatalf("paused: %+v", p)
	}
	if r := b.apply(advance(2, 1, 2)); r.Err() == nil {
		t.Error("it went on while it was paused")
	}
	b.must(steer("shop", ActionResume))
	if got := b.app().Rollout.StageAt.Sub(began); b.app().Rollout.Paused != nil || got != 3*time.Second {
		t.Errorf("after a pause of 3 s the stage began %s later", got)
	}
	b.must(advance(2, 1, 2), steer("shop", ActionPause), steer("shop", ActionPromote))
	if r := b.app().Rollout; r.Paused != nil || !r.Promoted {
		t.Errorf("promoted: %+v", r)
	}
	before := b.state.Events
	b.must(steer("shop", ActionPromote))
	if after := b.state.Events; len(after) != len(before) {
		t.Errorf("to promote it again is told of: %+v", after[len(before):])
	}
}

func TestSteeringWhatDoesNotRollOut(t *testing.T) {
	b := serving(t)
	for _, action := range []RolloutAction{ActionPause, ActionResume, ActionPromote, ActionAbort} {
		if r := b.apply(steer("shop", action)); r.Code != CodeConflict || !strings.Contains(r.Error, "version 1 serves") {
			t.Errorf("%s: %+v", action, r)
		}
	}
	if r := b.apply(steer("stall", ActionPause)); r.Code != CodeNotFound {
		t.Errorf("of an application that is not there: %+v", r)
	}
}

func TestRollback(t *testing.T) {
	b := serving(t)
	back := func(version int) Command {
		return Command{By: "ada", Rollback: &Rollback{Application: "shop", Version: version, Message: "too slow"}}
	}
	if r := b.apply(back(0)); r.Code != CodeNotFound || !strings.Contains(r.Error, "version 1 alone") {
		t.Errorf("with one version: %+v", r)
	}
	b.must(version("b", ""), end("shop", 2, RolloutSuccessful), version("c", ""), end("shop", 3, RolloutFailed))
	if r := b.apply(back(9)); r.Code != CodeNotFound || !strings.Contains(r.Error, "there are 1, 2, and the newest, 3") {
		t.Errorf("a version that is gone: %+v", r)
	}
	b.must(back(0))
	if v := b.app().Wanted; v.Number != 4 || v.Hashes["web"] != "web-b" || v.Message != "rollback to version 2: too slow" {
		t.Errorf("from a version that failed, to %+v", v)
	}
	b.must(back(0))
	if v := b.app().Wanted; v.Number != 5 || v.Hashes["web"] != "web-a" {
		t.Errorf("and once more to %+v", v)
	}
	b.must(back(3))
	if v := b.app().Wanted; v.Hashes["web"] != "web-c" {
		t.Errorf("to one that is named: %+v", v)
	}
	if r := b.apply(Command{Rollback: &Rollback{Application: "shop", CheckIndex: new(uint64(1))}}); r.Code != CodeConflict || !strings.Contains(r.Error, "by ada") {
		t.Errorf("on another index: %+v", r)
	}
}

// configured is a shop whose replicas take another user_config while they run.
func configured(config string) Command {
	a := spec("shop", "web")
	a.Deployments[0].Reconfigure = &appspec.Reconfigure{Path: "/x"}
	a.Deployments[0].UserConfig = []byte(config)
	c := deploy(a, "a")
	c.Deploy.Rollouts = 1
	return c
}

func TestAConfigThatIsRefusedGoesToNewReplicas(t *testing.T) {
	b := newBook(t)
	b.must(configured(`{"a":1}`), end("shop", 1, RolloutSuccessful), configured(`{"a":2}`))
	if app := b.app(); app.Serving.Number != 1 || app.Rollout.Strategy != appspec.StrategyLive || !app.RollingOut() {
		t.Fatalf("a config that is on its way: %+v", app.Rollout)
	}
	b.must(Command{RefuseConfig: &RefuseConfig{Application: "shop", Version: 2, Hashes: map[string]string{"web": "web-a2"}, Reason: "400"}})
	app := b.app()
	if app.Rollout.Strategy != appspec.StrategyRolling || app.Wanted.DeploymentVersion("web") != "web-a2" || app.Serving.DeploymentVersion("web") != "web-a" {
		t.Errorf("refused: %+v, version %s", app.Rollout, app.Wanted.DeploymentVersion("web"))
	}
	b.must(end("shop", 2, RolloutSuccessful), configured(`{"a":2}`))
	if b.app().Wanted.Number != 2 {
		t.Errorf("the same again is version %d", b.app().Wanted.Number)
	}
	b.must(configured(`{"a":3}`))
	if app := b.app(); app.Rollout.Strategy != appspec.StrategyLive || app.Wanted.DeploymentVersion("web") != "web-a2" {
		t.Errorf("the next config: %+v, version %s", app.Rollout, app.Wanted.DeploymentVersion("web"))
	}
}

// Who deploys by what was seen before somebody took a hand in a rollout, or began
// a deletion, is refused.
func TestWhatPeopleDoChangesTheIndex(t *testing.T) {
	for _, action := range []RolloutAction{ActionPause, ActionPromote, ActionAbort} {
		b := serving(t)
		b.must(version("b", ""))
		seen := b.app().ModifyIndex
		b.must(steer("shop", action))
		late := version("c", "")
		late.Deploy.Applications[0].CheckIndex = &seen
		if r := b.apply(late); r.Code != CodeConflict {
			t.Errorf("after %s: %+v", action, r)
		}
	}
	b := serving(t)
	seen := b.app().ModifyIndex
	b.must(remove("shop"))
	for _, index := range []uint64{seen, b.app().ModifyIndex} {
		late := version("a", "")
		late.Deploy.Applications[0].CheckIndex = &index
		if r := b.apply(late); r.Code != CodeConflict {
			t.Errorf("with index %d while it is being deleted: %+v", index, r)
		}
	}
	anew := version("a", "")
	anew.Deploy.Applications[0].CheckIndex = new(uint64)
	b.must(anew)
}

// A version that another one took over from before it was healthy is none to go
// back to, unless somebody names it.
func TestRollbackLeavesOutWhatWasNeverHealthy(t *testing.T) {
	b := serving(t)
	b.must(version("b", ""), version("c", ""), end("shop", 3, RolloutSuccessful))
	b.must(Command{Rollback: &Rollback{Application: "shop"}})
	if v := b.app().Wanted; v.Hashes["web"] != "web-a" {
		t.Errorf("back to %+v", v)
	}
}
