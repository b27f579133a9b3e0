//go:build e2e

package nomaddev_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// within is how soon after a fault can be seen its version is to be rolled back.
const within = 15 * time.Second

// badVersions are those that must not take over.
func badVersions() []scenario {
	one := "strategy = \"canary\"\nsteps = [1, 50]\ninterval = \"2m\""
	ten := "strategy = \"canary\"\nsteps = [10, 50]\ninterval = \"1m\""
	first := "strategy = \"rolling\"\nbake_time = \"1m\""
	soon := "\nprogress_deadline = \"5s\""
	return []scenario{
		{name: "a version that crashes at once is rolled back", run: bad("crash", one, 1)},
		{name: "a version that crashes after its first request is rolled back", long: true, run: bad("crash-first", one, 1)},
		{name: "a version that fails one request in ten is rolled back at 10 percent", long: true, run: bad("errors", ten, 10)},
		{name: "a version that fails one request in ten is rolled back at 1 percent", long: true, run: bad("errors", one, 1)},
		{name: "a version that is ten times slower is rolled back at 10 percent", alone: true, run: bad("slow", ten, 10)}, // beside others the old one is slow, too
		{name: "a version that is ten times slower is rolled back at 1 percent", long: true, run: bad("slow", one, 1)},
		{name: "a version that fails one request in ten is rolled back by copies of requests alone", run: bad("errors", ten+"\nshadow = 50\nshadow_time = \"1m\"", 0)},
		{name: "a version that never passes is rolled back", run: bad("unhealthy", one+soon, 1)},
		{name: "a rolling change to a version that crashes at once is rolled back", long: true, run: bad("crash", first, 100)},
		{name: "a rolling change to a version that crashes after its first request is rolled back", run: bad("crash-first", first, 100)},
		{name: "a rolling change to a version that fails one request in ten is rolled back", run: bad("errors", first, 100)},
		{name: "a rolling change to a version that is ten times slower is rolled back", long: true, alone: true, run: bad("slow", first, 100)},
		{name: "a rolling change to a version that never passes is rolled back", long: true, run: bad("unhealthy", first+soon, 100)},
	}
}

// bad rolls out a version with a fault, which may get so many percent of the
// requests before it is rolled back; 0: none but copies.
func bad(fault, rollout string, percent int) func(m *menu) {
	return func(m *menu) {
		// Long against what a busy machine adds.
		a := edition{version: "v1", rollout: rollout, env: map[string]string{"WORK": "40ms"}}
		b := a.with(func(e *edition) { e.version, e.env["FAULT"] = "v2", fault })
		m.begin(a)
		before := m.allocs()
		begun := m.deploy(b)
		app := m.rollsBack(150*time.Second, 2)
		m.t.Log(app.Rollout.Reason)
		m.settles(90*time.Second, a, 1)
		m.keeps(before)

		reached := m.reached("v2")
		m.figure.rollback = app.Rollout.EndedAt.Sub(m.detectable(fault, begun, reached))
		if m.figure.rollback > within {
			m.t.Errorf("it was rolled back %s after its fault was to be seen", m.figure.rollback)
		}
		// What reached the version may fail, and nothing else. A request of which
		// its replica had not read anything yet when it died is in no journal.
		excused := m.load.take(func(l loss) bool {
			return reached.times[l.id] > 0 || strings.HasPrefix(fault, "crash") && l.code == "replica-died"
		})
		m.figure.excused = fmt.Sprintf(" (%d of the %d that reached it)", len(excused), len(reached.times))
		if percent == 0 && len(excused)+m.load.by("v2") > 0 {
			m.t.Errorf("%d requests were lost and %d answered by copies", len(excused), m.load.by("v2"))
		}
		m.finish()
		m.wantUnmixed(rollout)
		m.share(reached, begun, app.Rollout.EndedAt, percent)
	}
}

// What the gates take at least to tell a fault from chance.
const (
	leastErrors  = 5
	leastAnswers = 20
)

// detectable returns since when a fault could be seen for what it is.
func (m *menu) detectable(fault string, begun time.Time, v visits) time.Time {
	m.t.Helper()
	switch fault {
	case "crash":
		return begun
	case "unhealthy":
		return begun.Add(5 * time.Second) // the progress deadline
	case "errors": // one request in ten
		return v.nth(10 * leastErrors)
	case "slow":
		return v.nth(leastAnswers)
	default:
		return v.nth(1)
	}
}

// share checks that no more than so many percent of the requests between two
// moments reached a version, beyond what chance brings.
func (m *menu) share(v visits, from, to time.Time, percent int) {
	m.t.Helper()
	all := float64(m.phases.rate) * to.Sub(from).Seconds()
	got := float64(len(v.times)) / all * 100
	m.figure.note = fmt.Sprintf("%.1f %% of the requests reached it", got)
	if allowed := float64(percent) + 300/all; percent > 0 && percent < 100 && got > allowed {
		m.t.Errorf("%.1f percent of %.0f requests reached it, and %d may", got, all, percent)
	}
}

// failed says whether a rollout failed.
func failed(app reconcile.ApplicationStatus) bool {
	return app.Rollout.Status == raftstate.RolloutFailed
}
