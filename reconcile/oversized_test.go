package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/routes"
)

func TestOversized(t *testing.T) {
	many := map[string]routes.Deployment{}
	for n := range 1000 {
		many[fmt.Sprintf("%s-%03d", strings.Repeat("n", 59), n)] = routes.Deployment{Version: "12345678", Service: strings.Repeat("s", 150)}
	}
	one := reconcile.Step{WriteRoute: &reconcile.WriteRoute{Route: routes.Route{Application: "shop", Deployments: many}}}
	two := reconcile.Step{WriteRoute: &reconcile.WriteRoute{Route: routes.Route{
		Application: "shop", Deployments: many, Others: []routes.Generation{{Number: 2, Deployments: many}},
	}}}
	if got := reconcile.Oversized([]reconcile.Step{{Stop: &reconcile.Stop{}}, one}); len(got) > 0 {
		t.Errorf("of one generation: %q", got)
	}
	if got := reconcile.Oversized([]reconcile.Step{one, two}); len(got) != 1 || !strings.Contains(got[0], "longer than Consul KV takes, 512 KiB") {
		t.Errorf("of two: %q", got)
	}
}
