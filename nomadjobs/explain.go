package nomadjobs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// explain says in plain words why Nomad's scheduler found no node.
func explain(m *api.AllocationMetric) string {
	pool := m.NodePool
	if pool == "" {
		pool = api.NodePoolDefault
	}
	nodes := max(m.NodesInPool, m.NodesEvaluated)
	if m.NodesEvaluated == 0 {
		return fmt.Sprintf("node pool %q has no ready node in the job's datacenters", pool)
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(m.ConstraintFiltered)) {
		parts = append(parts, fmt.Sprintf("%s: %s", of(m.ConstraintFiltered[reason], nodes), filtered(reason)))
	}
	for _, dimension := range slices.Sorted(maps.Keys(m.DimensionExhausted)) {
		parts = append(parts, fmt.Sprintf("%s: %s", of(m.DimensionExhausted[dimension], nodes), exhausted(dimension)))
	}
	for _, quota := range slices.Sorted(slices.Values(m.QuotaExhausted)) {
		parts = append(parts, "the namespace's quota is used up: "+quota)
	}
	if len(parts) == 0 {
		return fmt.Sprintf("none of the %s of node pool %q fits (%d ruled out, %d full)", count(nodes), pool, m.NodesFiltered, m.NodesExhausted)
	}
	return strings.Join(parts, "; ")
}

// filtered says why a node will never do, whatever else runs there.
func filtered(reason string) string {
	switch {
	case reason == "missing drivers":
		return "the task's driver is missing or not healthy"
	case reason == "missing devices":
		return "no such device (GPU), or not as many"
	case reason == "missing network":
		return "no such network"
	case strings.HasPrefix(reason, "missing compatible host volumes"), strings.HasPrefix(reason, "missing host volume"):
		return "no host volume of that name"
	case reason == "computed class ineligible":
		return "of the same kind as a node that does not fit"
	case strings.HasPrefix(reason, "did not meet"), strings.HasPrefix(reason, "missing"):
		return reason
	default:
		return "does not meet the constraint " + reason
	}
}

// exhausted says what a node has too little of left. Nomad's counts of free
// devices go by device group, so an ask that no group can ever fill reads the
// same as one that must wait.
func exhausted(dimension string) string {
	what, more, _ := strings.Cut(dimension, ": ")
	switch {
	case what == "cpu":
		return "not enough CPU free"
	case what == "cores":
		return "not enough whole cores free"
	case what == "memory":
		return "not enough memory free"
	case what == "disk":
		return "not enough disk free"
	case what == "devices":
		return "not enough devices (GPUs) free"
	case what == "network" && more != "":
		return "network: " + more
	case strings.HasPrefix(what, "bandwidth"), strings.HasPrefix(what, "reserved port"), strings.HasPrefix(what, "dynamic port"):
		return "no port or bandwidth left: " + dimension
	default:
		return "no " + dimension + " left"
	}
}

func of(n, total int) string {
	if total == 1 {
		return "the only node"
	}
	return fmt.Sprintf("%d of %d nodes", n, total)
}

func count(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
