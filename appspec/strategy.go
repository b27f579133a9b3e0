package appspec

import (
	"fmt"
	"slices"
	"strings"
)

// ChooseStrategy says how a running application goes from one spec to another,
// and why: as the new spec asks, or else by what changed. A change that no
// replica's process depends on is live, whatever the spec asks for.
func ChooseStrategy(before, after *Application) (s Strategy, why string) {
	var live, replaced, wiring []string
	for _, c := range Diff(before, after) {
		switch what, rewires := rewired(before, after, c.Path); {
		case rewires:
			wiring = append(wiring, what)
		case c.Effect == EffectReplace:
			replaced = append(replaced, c.Path)
		default:
			live = append(live, c.Path)
		}
	}
	wiring = slices.Compact(wiring) // they are in order, by path
	switch changed := slices.Concat(wiring, replaced); {
	case len(changed) == 0 && len(live) == 0:
		return StrategyLive, "nothing changed"
	case len(changed) == 0:
		return StrategyLive, listed(live) + " changed, which no replica is restarted for"
	case after.Rollout != nil && after.Rollout.Strategy != "":
		return Strategy(after.Rollout.Strategy), fmt.Sprintf("the spec asks for it; %s changed", listed(changed))
	case len(wiring) > 0:
		return StrategyBlueGreen, listed(wiring) + " changed: old and new replicas must not call each other, or run elsewhere"
	default:
		return StrategyRolling, listed(replaced) + " changed"
	}
}

// rewired says whether a change is one of who calls whom, how, or where
// replicas run, so that old and new ones cannot take each other's place; and
// what is to be named as the change. A deployment that comes or goes is named as
// a whole.
func rewired(before, after *Application, path string) (what string, rewires bool) {
	if path == "ingress" {
		return path, true
	}
	name, ok := deploymentOf(path)
	if !ok {
		return "", false
	}
	deployment := "deployment." + name
	switch {
	case !has(before, name):
		return deployment + " (new)", true
	case !has(after, name):
		return deployment + " (gone)", true
	}
	switch strings.TrimPrefix(path, deployment+".") {
	case "handles", "protocol", "worker_group", "node_pool":
		return path, true
	default:
		return "", false
	}
}

// listed names the first few of what changed.
func listed(changed []string) string {
	const most = 3
	if more := len(changed) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(changed[:most], ", "), more)
	}
	return strings.Join(changed, ", ")
}
