//go:build e2e

package nomaddev_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// returns are the ways in which a rollout that goes on is superseded or fails:
// KubeRay's 17, under load. A is what serves at the start.
func returns() []scenario {
	slow := "strategy = \"canary\"\nsteps = [20, 60]\ninterval = \"4s\""
	return []scenario{
		{name: "A-B-A before B takes requests keeps the replicas of A", run: back(slow, "START=30s", begins)},
		{name: "A-B-A early in a canary keeps the replicas of A", long: true, run: back(slow, "", weighs(20))},
		{name: "A-B-A late in a canary keeps the replicas of A", run: back(slow, "", weighs(60))},
		{name: "A-B-A late in a blue_green keeps the replicas of A", long: true, run: back("strategy = \"blue_green\"\nbake_time = \"20s\"", "", weighs(100))},
		{name: "A-B-A before B passes in a rolling change keeps the replicas of A", long: true, run: back(rolling, "START=30s", begins)},
		{name: "A-B-A among the first replicas of a rolling change keeps the replicas of A", run: back("strategy = \"rolling\"\nbake_time = \"20s\"", "", isIn("first replicas"))},
		{name: "A-B-A-B ends with B", run: chain(slow, "A", "B")},
		{name: "A-B-A-C ends with C", long: true, run: chain(slow, "A", "C")},
		{name: "A-B-C in the middle of a canary ends with C", run: chain(slow, "C")},
		{name: "A-B-C in the middle of a blue_green ends with C", long: true, run: chain("strategy = \"blue_green\"\nbake_time = \"20s\"", "C")},
		{name: "A-B-C in the middle of a rolling change ends with C", long: true, run: chain("strategy = \"rolling\"\nbake_time = \"20s\"", "C")},
		{name: "a new version whose replicas crash late is rolled back", long: true, run: crashesLate(slow)},
		{name: "a rolling change whose replicas crash late is rolled back", run: crashesLate("strategy = \"rolling\"\nbake_time = \"20s\"")},
		{name: "a rollback after the upgrade loses nothing", run: rollsBackByHand},
		{name: "an abort in the middle of a canary keeps the replicas of A", run: abortsByHand(slow)},
	}
}

// moment says whether a rollout is where the next thing is to happen.
type moment func(app reconcile.ApplicationStatus) bool

// begins is as soon as new replicas start.
func begins(app reconcile.ApplicationStatus) bool {
	return slices.ContainsFunc(app.Deployments, func(d reconcile.DeploymentStatus) bool {
		return d.Name == "front" && d.Wanted && !d.Serving && len(d.Replicas) > 0
	})
}

func weighs(percent int) moment {
	return func(app reconcile.ApplicationStatus) bool { return app.Weight >= percent }
}

func isIn(stage string) moment {
	return func(app reconcile.ApplicationStatus) bool { return app.Stage == stage }
}

// back goes from A to B, and at that moment back to A.
func back(rollout, env string, when moment) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: rollout}
		b := a.with(func(e *edition) {
			e.version = "v2"
			if env != "" {
				e.env = map[string]string{"START": env[len("START="):]}
			}
		})
		m.begin(a)
		before := m.allocs()
		m.deploy(b)
		m.comesTo(60*time.Second, "B is on its way", when)
		begun := m.deploy(a)
		m.figure.rollback = m.serves(60*time.Second, 3).Sub(begun)
		m.settles(60*time.Second, a, 3)
		m.keeps(before)
		m.finish()
		m.wantUnmixed(rollout)
	}
}

// keeps checks that the replicas are those that there were.
func (m *menu) keeps(before []string) {
	m.t.Helper()
	if after := m.allocs(); !slices.Equal(before, after) {
		m.t.Errorf("replicas %v became %v", before, after)
	}
}

// wantUnmixed checks that each answer is of one version, where the strategy
// makes generations.
func (m *menu) wantUnmixed(rollout string) {
	m.t.Helper()
	if !strings.Contains(rollout, "rolling") {
		m.wantWhole()
	}
}

// chain goes from A to B, and in the middle of that on to the others, each once
// the one before is on its way.
func chain(rollout string, next ...string) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: rollout}
		of := map[string]edition{
			"A": a,
			"B": a.with(func(e *edition) { e.version = "v2" }),
			"C": a.with(func(e *edition) { e.version = "v3" }),
		}
		m.begin(a)
		before := m.allocs()
		begun := m.deploy(of["B"])
		m.load.says(m.t, 60*time.Second, "v2")
		kept := m.allocs()
		for i, name := range next {
			begun = m.deploy(of[name])
			if i == len(next)-1 {
				break
			}
			m.serves(60*time.Second, i+3)
		}
		last := of[next[len(next)-1]]
		m.figure.rollout = m.serves(180*time.Second, len(next)+2).Sub(begun)
		m.settles(90*time.Second, last, len(next)+2)
		if after := m.allocs(); last.version == "v2" {
			m.figure.note = fmt.Sprintf("%d of %d replicas of B kept", len(common(after, kept)), len(after))
		}
		m.finish()
		m.wantUnmixed(rollout)
		if left := common(before, m.allocs()); len(left) > 0 {
			m.t.Errorf("replicas of A are left: %v", left)
		}
	}
}

// crashesLate kills the new version's replicas, as often as they start, once
// they have served for a while.
func crashesLate(rollout string) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: rollout}
		b := a.with(func(e *edition) { e.version = "v2" })
		m.begin(a)
		before := m.allocs()
		m.deploy(b)
		m.comesTo(60*time.Second, "B has served for a while", func(app reconcile.ApplicationStatus) bool {
			return app.Weight >= 60 || app.Stage == "first replicas"
		})
		m.load.goesOn(m.t, time.Second)
		killed := time.Now()
		app := m.comesTo(60*time.Second, "B is rolled back", func(app reconcile.ApplicationStatus) bool {
			m.killReplicas("v2")
			return failed(app)
		})
		m.figure.rollback = app.Rollout.EndedAt.Sub(killed)
		m.t.Log(app.Rollout.Reason)
		m.settles(60*time.Second, a, 1)
		m.keeps(before)
		excused := m.diedWith("v2", killed)
		m.figure.excused = fmt.Sprintf(" (%d at replicas that were killed)", excused)
		m.finish()
		m.wantUnmixed(rollout)
	}
}

// diedWith takes from the losses those that replicas of that version had when
// they were killed, or that found none alive, and returns how many. A request of
// which its replica had not read anything yet is in no journal.
func (m *menu) diedWith(version string, killed time.Time) int {
	m.t.Helper()
	died := m.reached(version)
	return len(m.load.take(func(l loss) bool {
		return l.ended.After(killed) && (died.times[l.id] > 0 || l.code == "replica-died" || l.code == "no-replica-reached")
	}))
}

// rollsBackByHand undoes an upgrade that has succeeded.
func rollsBackByHand(m *menu) {
	a := edition{version: "v1", rollout: blueGreen}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	m.deploy(b)
	m.serves(60*time.Second, 2)
	begun := time.Now()
	if out, code := m.cli(m.alive(), "rollback", "-detach", m.name); code != 0 {
		m.t.Fatalf("exit code %d\n%s", code, out)
	}
	m.figure.rollback = m.serves(90*time.Second, 3).Sub(begun)
	m.settles(60*time.Second, a, 3)
	m.finish()
	m.wantAnswers(a, b)
}

// abortsByHand ends a rollout half-way.
func abortsByHand(rollout string) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: rollout}
		b := a.with(func(e *edition) { e.version = "v2" })
		m.begin(a)
		before := m.allocs()
		m.deploy(b)
		m.load.says(m.t, 60*time.Second, "v2")
		begun := time.Now()
		if out, code := m.cli(m.alive(), "abort", m.name); code != 0 {
			m.t.Fatalf("exit code %d\n%s", code, out)
		}
		m.figure.rollback = m.rollsBack(60*time.Second, 2).Rollout.EndedAt.Sub(begun)
		m.settles(60*time.Second, a, 1)
		m.keeps(before)
		m.finish()
		m.wantAnswers(a, b)
	}
}
