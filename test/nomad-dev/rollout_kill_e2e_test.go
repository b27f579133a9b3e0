//go:build e2e

package nomaddev_test

import (
	"fmt"
	"testing"
	"time"
)

// TestServerKilledAtEachCall switches from one generation to the next, again
// and again, and kills the only server with SIGKILL at another one of its calls
// to Nomad and Consul each time: once the agent has done what it asked for, and
// before it hears of that. Started again it comes to the same end, with one job
// for each deployment and none beside, and no request is lost meanwhile.
// SERVE_NOMAD_ROUNDS kills at each call; without it, at every fourth.
func TestServerKilledAtEachCall(t *testing.T) {
	c := startCluster(t, serving(t, 1, 2))
	calls := relayed(t, c)
	f := &figures{}
	defer f.print(t)
	m := newMenu(t, c, "killed", f.add("a blue_green switch whose server is killed at each call"))
	of := func(i int) edition {
		return edition{
			version: fmt.Sprintf("v%d", i), replicas: 1, calls: []string{"one", "two", "three", "four"},
			rollout: "strategy = \"blue_green\"\nbake_time = \"0s\"",
		}
	}
	m.begin(of(1))
	calls.arm(0)
	m.deploy(of(2))
	m.settles(90*time.Second, of(2), 2)
	whole := calls.seen()
	t.Logf("%d calls: %q", len(whole), whole)
	if len(whole) < 12 {
		t.Errorf("%d calls are too few points to be killed at", len(whole))
	}
	step := 4
	if measuring() {
		step = 1
	}
	version := 2
	for k := 1; k <= len(whole); k += step {
		version++
		t.Run(fmt.Sprintf("at call %d", k), func(t *testing.T) {
			m := m.in(t)
			e := of(version)
			calls.arm(k)
			begun := m.deploy(e)
			select {
			case <-calls.killed:
			case <-time.After(90 * time.Second):
				t.Fatalf("the server made only %q", calls.seen())
			}
			t.Logf("killed %s after the deploy, at %s", ms(time.Since(begun)), calls.seen()[k-1])
			if err := m.Servers[0].Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.settles(90*time.Second, e, version)
			m.load.goesOn(t, time.Second)
			if err := m.alone(e); err != nil {
				t.Errorf("it did not stay so: %v", err)
			}
		})
	}
	m.finish()
	m.wantWhole()
}
