package appspec

import (
	"fmt"
	"slices"
	"strings"
)

// ChooseStrategy says how a running application goes from one spec to another,
// and why: as the new spec asks, or else by what changed.
func ChooseStrategy(before, after *Application) (s Strategy, why string) {
	var replaced, wiring []string
	for _, c := range Diff(before, after) {
		switch {
		case rewires(before, after, c.Path):
			wiring = append(wiring, c.Path)
		case c.Effect == EffectReplace:
			replaced = append(replaced, c.Path)
		}
	}
	switch changed := slices.Concat(wiring, replaced); {
	case len(changed) == 0:
		return StrategyLive, "nothing changed that a replica's process depends on"
	case after.Rollout != nil && after.Rollout.Strategy != "":
		return Strategy(after.Rollout.Strategy), fmt.Sprintf("the spec asks for it; %s changed", listed(changed))
	case len(wiring) > 0:
		return StrategyBlueGreen, listed(wiring) + " changed: old and new replicas must not call each other, or run elsewhere"
	default:
		return StrategyRolling, listed(replaced) + " changed"
	}
}

// rewires says whether a change is one of who calls whom, how, or where
// replicas run, so that old and new ones cannot take each other's place.
func rewires(before, after *Application, path string) bool {
	if path == "ingress" {
		return true
	}
	name, ok := deploymentOf(path)
	if !ok {
		return false
	}
	if !has(before, name) || !has(after, name) {
		return true
	}
	switch strings.TrimPrefix(path, "deployment."+name+".") {
	case "handles", "protocol", "worker_group", "node_pool":
		return true
	default:
		return false
	}
}

// listed names the first few of the fields that changed.
func listed(paths []string) string {
	const most = 3
	if more := len(paths) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), more)
	}
	return strings.Join(paths, ", ")
}
