package routes

import (
	"fmt"
	"slices"
	"testing"
)

func TestGatekeeperOf(t *testing.T) {
	all := []Gatekeeper{{Address: "10.0.0.1:8002"}, {Address: "10.0.0.2:8002", Passing: true}, {Address: "10.0.0.3:8002", Passing: true}}
	for _, test := range []struct {
		name, replica string
		all           []Gatekeeper
		want          string
	}{
		{"nobody", "10.0.0.1:20000", nil, ""},
		{"its own host's", "10.0.0.2:20000", all, "10.0.0.2:8002"},
		{"its own host's, though it cannot be reached", "10.0.0.1:20000", all, "10.0.0.1:8002"},
		{"its own host's, by another spelling", "[::ffff:10.0.0.2]:20000", all, "10.0.0.2:8002"},
		{"of two on its host, the one that can be reached", "10.0.0.1:20000", append([]Gatekeeper{{Address: "10.0.0.1:8012", Passing: true}}, all...), "10.0.0.1:8012"},
		{"of two on its host, wherever it stands", "10.0.0.1:20000", append(slices.Clone(all), Gatekeeper{Address: "10.0.0.1:8012", Passing: true}), "10.0.0.1:8012"},
		{"another's, of those that can be reached", "10.0.0.9:20000", all[:2], "10.0.0.2:8002"},
	} {
		if got := GatekeeperOf(Endpoint{Address: test.replica}, test.all); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestFewReplicasChangeHands has one gatekeeper more: only replicas that go to it
// change.
func TestFewReplicasChangeHands(t *testing.T) {
	var all []Gatekeeper
	for i := range 9 {
		all = append(all, Gatekeeper{Address: fmt.Sprintf("10.0.1.%d:8002", i), Passing: true})
	}
	moved, had := 0, map[string]int{}
	for i := range 1000 {
		e := Endpoint{Address: fmt.Sprintf("10.0.0.%d:%d", i%200, 20000+i)}
		before, after := GatekeeperOf(e, all[:8]), GatekeeperOf(e, all)
		had[after]++
		if before != after {
			moved++
			if after != all[8].Address {
				t.Errorf("%s went from %s to %s", e.Address, before, after)
			}
		}
	}
	if moved == 0 || moved > 200 {
		t.Errorf("%d of 1000 replicas changed hands, want about a ninth", moved)
	}
	for address, n := range had {
		if n < 50 || n > 200 {
			t.Errorf("%s keeps %d of 1000 replicas, want about a ninth", address, n)
		}
	}
}
