package routes_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestGenerations(t *testing.T) {
	t.Parallel()
	old := map[string]routes.Deployment{"a": {Service: "a", Version: "1"}}
	fresh := map[string]routes.Deployment{"b": {Service: "b", Version: "2-g3"}}
	for name, test := range map[string]struct {
		route routes.Route
		want  []routes.Generation
	}{
		"one alone": {
			routes.Route{Ingress: "a", Deployments: old},
			[]routes.Generation{{Weight: 100, Ingress: "a", Deployments: old}},
		},
		"one that takes what another leaves": {
			routes.Route{Ingress: "a", Deployments: old, Others: []routes.Generation{{Number: 3, Weight: 10, Ingress: "b", Deployments: fresh}}},
			[]routes.Generation{{Weight: 90, Ingress: "a", Deployments: old}, {Number: 3, Weight: 10, Ingress: "b", Deployments: fresh}},
		},
		"one on its way out": {
			routes.Route{Generation: 3, Ingress: "b", Deployments: fresh, Others: []routes.Generation{{Ingress: "a", Deployments: old}}},
			[]routes.Generation{{Number: 3, Weight: 100, Ingress: "b", Deployments: fresh}, {Ingress: "a", Deployments: old}},
		},
		"one that has nothing left, and copies": {
			routes.Route{Ingress: "a", Deployments: old, Others: []routes.Generation{{Number: 1, Weight: 60, Shadow: 5}, {Number: 2, Weight: 40}}},
			[]routes.Generation{{Ingress: "a", Deployments: old}, {Number: 1, Weight: 60, Shadow: 5}, {Number: 2, Weight: 40}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.route.Generations()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestGenerationsShareOutAllRequests holds that the weights are a hundred
// together, and that the route stays as it is.
func TestGenerationsShareOutAllRequests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r routes.Route
		left := 100
		for i := range rapid.IntRange(0, 5).Draw(t, "others") {
			weight := rapid.IntRange(0, left).Draw(t, "weight")
			left -= weight
			r.Others = append(r.Others, routes.Generation{Number: i + 1, Weight: weight})
		}
		before, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		list := r.Generations()
		for i := range list {
			sum += list[i].Weight
			list[i] = routes.Generation{Number: -1}
		}
		if after, err := json.Marshal(r); sum != 100 || err != nil || string(after) != string(before) {
			t.Errorf("%d percent; %s became %s, %v", sum, before, after, err)
		}
	})
}

func TestVersionsThatTakeRequests(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		d    routes.Deployment
		want []string
	}{
		{routes.Deployment{}, nil},
		{routes.Deployment{Version: "1"}, []string{"1"}},
		{routes.Deployment{Version: "1", Also: []string{"2", "3"}}, []string{"1", "2", "3"}},
		{routes.Deployment{Also: []string{"2"}}, []string{"2"}},
	} {
		if diff := cmp.Diff(test.want, test.d.Versions()); diff != "" {
			t.Errorf("of %+v (-want +got):\n%s", test.d, diff)
		}
	}
}
