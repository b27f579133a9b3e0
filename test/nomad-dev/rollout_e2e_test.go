//go:build e2e

package nomaddev_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// scenario is one way in which versions follow one another under load. The
// names of KubeRay's end-to-end tests that it answers to are in its comment.
type scenario struct {
	name  string // what is asserted
	run   func(m *menu)
	long  bool // one of several of its kind, or slow: only where figures are measured
	alone bool // it does something to the whole cluster, or measures what others would disturb
}

// TestRollouts runs every scenario on one cluster of three servers and two
// proxies, and prints what was measured. SERVE_NOMAD_ROUNDS=20 runs each 20
// times, one after the other, with 200 requests a second, 10 s of them before the
// change and 20 s after it, and streams of 10 s. Without it each runs once, with
// less of all that, and as many at once as tests do.
func TestRollouts(t *testing.T) {
	c := startCluster(t, serving(t, 3, 2))
	f := &figures{}
	t.Cleanup(func() { f.print(t) })
	n := 0
	for _, s := range slices.Concat(upgrades(), changes(), returns(), badVersions()) {
		if s.long && !measuring() {
			continue
		}
		for range rounds(t) {
			n++
			name := fmt.Sprintf("menu%d", n)
			t.Run(s.name, func(t *testing.T) {
				if !s.alone && !measuring() {
					t.Parallel()
				}
				s.run(newMenu(t, c, name, f.add(s.name)))
			})
		}
	}
}

// The strategies, as short as shows what each does.
const (
	rolling   = "strategy = \"rolling\"\nbake_time = \"2s\""
	blueGreen = "strategy = \"blue_green\"\nbake_time = \"2s\""
	canary    = "strategy = \"canary\"\nsteps = [10, 50]\ninterval = \"2s\""
)

func upgrades() []scenario {
	return []scenario{
		{name: "a load on a version that stays is answered", run: staysPut},       // 1, static
		{name: "an upgrade by rolling loses nothing", run: upgrade(rolling)},      // 3
		{name: "an upgrade by blue_green loses nothing", run: upgrade(blueGreen)}, // 3; 16, BlueGreen
		{name: "an upgrade by canary loses nothing", run: upgrade(canary)},        // 3
		{name: "a canary of large steps and half the surge loses nothing", long: true, run: upgrade(`  // 16, Aggressive
strategy = "canary"
steps = [25, 50, 75]
interval = "1s"
max_surge = 50`)},
		{name: "a canary of small steps and a quarter of the surge loses nothing", long: true, run: upgrade(` // 16, Conservative
strategy = "canary"
steps = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95]
interval = "2s"
max_surge = 25`)},
		{name: "a canary takes the steps that it was given, and each for as long", run: canarySteps}, // 15
		{name: "copies of requests before a canary lose nothing", run: upgrade("strategy = \"canary\"\nsteps = [50]\ninterval = \"1s\"\nshadow = 20\nshadow_time = \"3s\"")},
		{name: "jobs of a canary that are stopped by hand come back, and nothing is lost", run: stoppedByHand},
		{name: "what scales by its load goes up, is upgraded and goes down, and loses nothing", run: scaledUpgrade}, // 2
		{name: "an upgrade goes on when the leader is killed, and loses nothing", alone: true, run: leaderDies},     // 4
		{name: "an upgrade from replicas that die ends with the new version", run: oldOnesDie},                      // 10
	}
}

func staysPut(m *menu) {
	a := edition{version: "v1"}
	m.begin(a)
	m.finish()
	m.wantAnswers(a)
}

// wantAnswers checks that each of these versions answered, and nothing else:
// no answer mixed two of them.
func (m *menu) wantAnswers(all ...edition) {
	m.t.Helper()
	counts := m.load.counts()
	for _, e := range all {
		if counts[e.says()] == 0 {
			m.t.Errorf("no answer by %q", e.says())
		}
		delete(counts, e.says())
	}
	if len(counts) > 0 {
		m.t.Errorf("there were other answers: %v", counts)
	}
}

// wantWhole checks that no answer mixes versions.
func (m *menu) wantWhole() {
	m.t.Helper()
	for versions, n := range m.load.counts() {
		words := strings.Fields(versions)
		if len(slices.Compact(words)) != 1 {
			m.t.Errorf("%d answers mix versions: %q", n, versions)
		}
	}
}

// upgrade rolls out a new version of everything.
func upgrade(rollout string) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: rollout}
		b := a.with(func(e *edition) { e.version = "v2" })
		m.begin(a)
		begun := m.deploy(b)
		m.figure.rollout = m.serves(180*time.Second, 2).Sub(begun)
		m.settles(90*time.Second, b, 2)
		m.finish()
		if counts := m.load.counts(); counts[a.says()] == 0 || counts[b.says()] == 0 {
			m.t.Errorf("answers came from %v", counts)
		}
		if rollout != rolling {
			m.wantAnswers(a, b)
		}
	}
}

// canarySteps follows the weights in the route.
func canarySteps(m *menu) {
	const interval = 2 * time.Second
	a := edition{version: "v1", rollout: fmt.Sprintf("strategy = \"canary\"\nsteps = [1, 10, 50]\ninterval = %q", interval)}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	begun := m.deploy(b)
	m.figure.rollout = m.serves(120*time.Second, 2).Sub(begun)
	m.settles(60*time.Second, b, 2)
	m.finish()
	m.wantAnswers(a, b)
	var weights []int
	for _, s := range m.route.weights(2) {
		weights = append(weights, s.weight)
	}
	if !slices.Equal(weights, []int{0, 1, 10, 50, 100}) {
		m.t.Errorf("weights: %v", weights)
	}
	// The route follows each decision as soon as the leader gets to it.
	decided := m.decisions("rollout-advanced", "rollout-successful")
	for i := range decided[1:] {
		if lasted := decided[i+1].At.Sub(decided[i].At); lasted < interval {
			m.t.Errorf("%q lasted %s", decided[i].Message, lasted)
		}
	}
	if len(decided) != 5 {
		m.t.Errorf("decisions: %v", decided)
	}
}

// scaledUpgrade has the load bring replicas, upgrades then, and takes the load
// away.
func scaledUpgrade(m *menu) {
	a := edition{version: "v1", rollout: blueGreen, env: map[string]string{"WORK": "20ms"}, scales: `
min_replicas = 1
max_replicas = 4
target_ongoing_requests = 6
upscale_delay = "0s"
downscale_delay = "2s"
look_back_period = "1s"
metrics_interval = "200ms"`}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	m.comesTo(60*time.Second, "the load has brought replicas", func(app reconcile.ApplicationStatus) bool { return front(app, 1).Healthy > 1 })
	begun := m.deploy(b)
	m.figure.rollout = m.serves(120*time.Second, 2).Sub(begun)
	m.settles(60*time.Second, b, 2)
	if n := front(m.comesTo(10*time.Second, "it serves", func(reconcile.ApplicationStatus) bool { return true }), 2).Healthy; n < 2 {
		m.t.Errorf("the new version has %d replicas under the same load", n)
	}
	m.finish()
	m.comesTo(60*time.Second, "one replica is left", func(app reconcile.ApplicationStatus) bool {
		return front(app, 2).Target == 1 && len(front(app, 2).Replicas) == 1
	})
	m.wantAnswers(a, b)
}

// front is the front of the version that is serving, when that has this number.
func front(app reconcile.ApplicationStatus, version int) reconcile.DeploymentStatus {
	for _, d := range app.Deployments {
		if app.ServingVersion == version && d.Name == "front" && d.Serving {
			return d
		}
	}
	return reconcile.DeploymentStatus{}
}

// leaderDies kills the server that leads while the new replicas start.
func leaderDies(m *menu) {
	a := edition{version: "v1", rollout: canary}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	begun := m.deploy(b)
	m.comesTo(30*time.Second, "the new version takes requests", func(app reconcile.ApplicationStatus) bool { return app.Weight > 0 })
	leader := m.leader(m.t)
	m.Servers[leader].Kill()
	defer func() {
		if err := m.Servers[leader].Start(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}()
	m.figure.rollout = m.serves(120*time.Second, 2).Sub(begun)
	m.settles(60*time.Second, b, 2)
	m.finish()
	m.wantAnswers(a, b)
}

// stoppedByHand stops every job of the new version in Nomad, as somebody would
// who does not know whose they are.
func stoppedByHand(m *menu) {
	a := edition{version: "v1", rollout: "strategy = \"canary\"\nsteps = [20]\ninterval = \"6s\""}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	begun := m.deploy(b)
	m.load.says(m.t, 60*time.Second, "v2")
	jobs, err := m.jobs()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, j := range jobs {
		if strings.HasSuffix(j.id, "-g2") {
			m.nomadDo(m.t, http.MethodDelete, "/v1/job/"+j.id, "")
		}
	}
	m.figure.rollout = m.serves(120*time.Second, 2).Sub(begun)
	m.settles(60*time.Second, b, 2)
	m.finish()
	m.wantAnswers(a, b)
}

// oldOnesDie kills the old version's replicas again and again from the moment
// that new ones start.
func oldOnesDie(m *menu) {
	a := edition{version: "v1", rollout: blueGreen}
	b := a.with(func(e *edition) { e.version, e.env = "v2", map[string]string{"START": "5s"} })
	m.begin(a)
	begun := m.deploy(b)
	m.comesTo(30*time.Second, "the new version starts", func(app reconcile.ApplicationStatus) bool {
		return slices.ContainsFunc(app.Deployments, func(d reconcile.DeploymentStatus) bool {
			return d.Name == "front" && d.Wanted && !d.Serving && len(d.Replicas) > 0
		})
	})
	killed := time.Now()
	app := m.comesTo(120*time.Second, "the new version serves", func(app reconcile.ApplicationStatus) bool {
		m.killReplicas("v1")
		return app.ServingVersion == 2
	})
	m.figure.rollout = app.Rollout.EndedAt.Sub(begun)
	m.settles(60*time.Second, b, 2)
	m.figure.excused = fmt.Sprintf(" (%d at replicas that were killed)", m.diedWith("v1", killed))
	m.finish()
	m.wantAnswers(a, b)
}
