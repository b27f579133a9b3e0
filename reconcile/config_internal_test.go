package reconcile

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/routes"
)

func TestConfigured(t *testing.T) {
	live := &appspec.Deployment{Name: "web", UserConfig: json.RawMessage(`{"a":2}`), Reconfigure: &appspec.Reconfigure{Path: "/config"}}
	plain := &appspec.Deployment{Name: "web", UserConfig: json.RawMessage(`{"a":2}`)}
	hash := appspec.ConfigOf(live)
	const id = "serve-shop-web-00000001"
	written := map[string]Config{id: {ClusterID: "c1", Hash: hash}}
	old := map[string]Config{id: {ClusterID: "c1", Hash: "old"}}
	running := func(id string) Replica { return Replica{ID: id, Status: ReplicaRunning} }
	for name, c := range map[string]struct {
		deployment       *appspec.Deployment
		configs          Configs
		replicas         []Replica
		passing          string // ids
		count            int
		waiting, refused string // what they hold; "": nothing
	}{
		"no block": {deployment: plain, count: 1},
		"all have taken it": {
			configs: Configs{Written: written, Confirmed: map[string]string{"a": hash, "b": hash}}, replicas: []Replica{running("a"), running("b")}, passing: "ab", count: 2,
		},
		"one has not": {
			configs: Configs{Written: written, Confirmed: map[string]string{"a": hash, "b": "old"}}, replicas: []Replica{running("a"), running("b")}, passing: "ab", count: 2,
			waiting: "web: 1 of 2 replicas have taken",
		},
		"one that does not pass holds up nothing": {
			configs: Configs{Written: written, Confirmed: map[string]string{"a": hash}}, replicas: []Replica{running("a"), running("b")}, passing: "a", count: 2,
		},
		"none passes": {
			configs: Configs{Written: written}, replicas: []Replica{running("a")}, count: 1, waiting: "none of its replicas passes",
		},
		"none is asked for": {configs: Configs{Written: written}},
		"one refuses": {
			configs: Configs{Written: written, Confirmed: map[string]string{"a": hash}, Refused: map[string]string{"b": "answered with 422"}}, replicas: []Replica{running("a"), running("b")}, passing: "ab", count: 2,
			waiting: "1 of 2", refused: "web: replica b did not take the user_config: answered with 422",
		},
		"one has ended at it": {
			configs: Configs{Written: written, Confirmed: map[string]string{"a": hash}, Refused: map[string]string{"b": "it ended"}}, replicas: []Replica{running("a"), {ID: "b", Status: ReplicaFailed}}, passing: "a", count: 2,
			refused: "it ended",
		},
		"it is another yet": {
			configs: Configs{Written: old, Confirmed: map[string]string{"a": "old"}}, replicas: []Replica{running("a")}, passing: "a", count: 1, waiting: "not written yet",
		},
		"it cannot be written": {
			configs: Configs{Written: old, Faults: map[string]string{id: "Permission denied"}}, count: 1, waiting: "cannot be written: Permission denied",
		},
		"it could not be, and is": {
			configs: Configs{Written: written, Faults: map[string]string{id: "no answer"}, Confirmed: map[string]string{"a": hash}}, replicas: []Replica{running("a")}, passing: "a", count: 1,
		},
		"it is not known": {
			configs: Configs{Written: written, Error: "no answer"}, count: 1, waiting: "not known: no answer",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := c.deployment
			if d == nil {
				d = live
			}
			w := sight{World: &World{Configs: c.configs}, replicas: map[string][]Replica{id: c.replicas}, endpoints: map[string]map[string]routes.Endpoint{id: {}}}
			for _, r := range c.replicas {
				w.endpoints[id][r.ID] = routes.Endpoint{Replica: r.ID, Passing: strings.Contains(c.passing, r.ID)}
			}
			waiting, refused := w.configured(need{app: &raftstate.Application{Name: "shop"}, deployment: d, version: "00000001", count: c.count})
			for _, x := range []struct{ got, want string }{{waiting, c.waiting}, {refused, c.refused}} {
				if (x.got == "") != (x.want == "") || !strings.Contains(x.got, x.want) {
					t.Errorf("got %q, want %q", x.got, x.want)
				}
			}
		})
	}
}
