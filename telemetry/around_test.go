package telemetry

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/listeners"
)

func TestPortsDiscoveryAndSlots(t *testing.T) {
	tel := newTelemetry(t, Config{
		Ports: func() map[string]listeners.Stats {
			return map[string]listeners.Stats{
				"public": {Open: 3, Accepted: 20, Full: 4, ClientFull: 5, BadHeader: 6, BadHandshake: 7}, "handle": {Open: 1, Accepted: 2},
			}
		},
		Discovery: heard{answered: time.UnixMilli(1_700_000_000_500)},
	})
	status := busyStatus()
	status.Gatekeeper = &gatekeeper.Status{
		Address: "10.0.0.1:8002", Proxies: []string{"a", "b"}, Missing: 2,
		Asks: []gatekeeper.LinkStatus{{Address: "10.0.0.2:8002", Connected: true}, {Address: "10.0.0.3:8002"}, {Address: "10.0.0.4:8002"}},
		Here: gatekeeper.Counts{Asked: 10, Granted: 8, Refused: 2}, Served: gatekeeper.Counts{Asked: 5, Granted: 4, Refused: 1},
		Away: gatekeeper.Counts{Asked: 3, Granted: 1, Refused: 2},
	}
	src := &source{status}
	tel.Watch(src)
	f := families(t, tel)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"client_connections", []string{"port=public"}, 3},
		{"client_connections", []string{"port=handle"}, 1},
		{"client_connections_accepted_total", []string{"port=public"}, 20},
		{"client_connections_refused_total", []string{"port=public", "bound=max_connections"}, 4},
		{"client_connections_refused_total", []string{"port=public", "bound=max_connections_per_client"}, 5},
		{"client_connections_failed_total", []string{"port=public", "at=proxy_protocol"}, 6},
		{"client_connections_failed_total", []string{"port=public", "at=tls_handshake"}, 7},
		{"client_connections_failed_total", []string{"port=handle", "at=tls_handshake"}, 0},
		{"discovery_answered_timestamp_seconds", nil, 1_700_000_000.5},
		{"discovery_changed_timestamp_seconds", nil, -1},
		{"gatekeeper_keeping", nil, 1},
		{"gatekeeper_proxies", nil, 2},
		{"gatekeeper_missing_slots", nil, 2},
		{"gatekeeper_links", []string{"state=up"}, 1},
		{"gatekeeper_links", []string{"state=down"}, 2},
		{"gatekeeper_slots_asked_total", []string{"side=here"}, 10},
		{"gatekeeper_slots_granted_total", []string{"side=served"}, 4},
		{"gatekeeper_slots_refused_total", []string{"side=away"}, 2},
		{"access_log_lines_total", []string{"outcome=taken"}, 0},
	} {
		if got := value(f, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	src.status.Gatekeeper = nil
	if got := value(families(t, tel), "gatekeeper_keeping"); got != -1 {
		t.Error("a proxy that counts alone is said to keep slots, or not to")
	}
}
