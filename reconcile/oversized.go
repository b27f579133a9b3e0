package reconcile

import (
	"encoding/json"
	"fmt"

	"github.com/serve-nomad/serve-nomad/routes"
)

// Oversized says which applications would be too large for the routing table
// while two of their generations are in it.
func Oversized(steps []Step) []string {
	var warnings []string
	for _, step := range steps {
		if step.WriteRoute == nil {
			continue
		}
		route := step.WriteRoute.Route
		if text, err := json.Marshal(route); err == nil && len(text) > routes.MaxBytes {
			warnings = append(warnings, fmt.Sprintf("application %q: its route would be longer than Consul KV takes, %d KiB, and is not written: "+
				"use fewer deployments, more applications, or a rolling change, which needs no second generation", route.Application, routes.MaxBytes>>10))
		}
	}
	return warnings
}
