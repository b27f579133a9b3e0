package appspec

import (
	"fmt"
	"strings"
	"time"
)

// NodeBounds returns the bounds in force at a time, and why they are what they
// are: "min_nodes 0, max_nodes 8", or "schedule day: min_nodes 3, max_nodes
// 10". A schedule in force raises the floor, or replaces the ceiling; of several
// the largest floor and the largest ceiling count. The ceiling wins over the
// floor. A schedule that cannot be read, as on a server whose time zones are
// older than those of the one that accepted it, counts where it keeps nodes.
//
// A schedule costs some 10 microseconds.
func (g *WorkerGroup) NodeBounds(now time.Time) (least, most int, why string) {
	least, most = g.MinNodes, g.MaxNodes
	ceiling := false // of a schedule
	var by []string
	for _, s := range g.Schedules {
		if s == nil {
			continue
		}
		times, err := NewRecurrence(s.Cron, s.Duration, s.Timezone)
		if err == nil && !times.InForce(now) {
			continue
		}
		counts := false
		if n := s.MinNodes; n != nil && *n > least {
			least, counts = *n, true
		}
		if n := s.MaxNodes; n != nil && (*n > most || !ceiling && err == nil) {
			most, ceiling, counts = *n, true, true
		}
		if counts {
			by = append(by, s.Name)
		}
	}
	least = max(0, min(least, most))
	why = fmt.Sprintf("min_nodes %d, max_nodes %d", least, most)
	if len(by) > 0 {
		why = "schedule " + strings.Join(by, ", ") + ": " + why
	}
	return least, most, why
}

// BudgetAt returns how many of a group's nodes may be going at once at a time,
// those that are going already among them, and why: "budget 10% of 20 nodes", or
// "window night: budget 50% of 20 nodes". Windows in force take the place of the
// block's own budget, and of several the smallest counts. What cannot be read
// lets nothing go.
//
// A window costs some 10 microseconds.
func (s ScaleDown) BudgetAt(now time.Time, nodes int) (n int, why string) {
	n, why = BudgetOf(s.Budget, nodes), budgetText(s.Budget, nodes)
	found := false
	for _, w := range s.Windows {
		if w == nil {
			continue
		}
		times, err := NewRecurrence(w.Cron, w.Duration, w.Timezone)
		if err != nil {
			return 0, fmt.Sprintf("window %s cannot be read, so nothing goes: %v", w.Name, err)
		}
		if !times.InForce(now) {
			continue
		}
		if mine := BudgetOf(w.Budget, nodes); !found || mine < n {
			n, why, found = mine, "window "+w.Name+": "+budgetText(w.Budget, nodes), true
		}
	}
	return n, why
}

func budgetText(budget string, nodes int) string {
	if _, percent, ok := readBudget(budget); !ok || !percent {
		return "budget " + clip(budget)
	}
	return fmt.Sprintf("budget %s of %d nodes", budget, nodes)
}

// BudgetOf is how many of so many nodes a budget such as "10%" or "2" lets go at
// once: of a share the whole nodes, and at least one unless it is "0%". What is
// no budget lets none go.
func BudgetOf(budget string, nodes int) int {
	n, percent, ok := readBudget(budget)
	switch {
	case !ok || n == 0 || nodes <= 0:
		return 0
	case percent:
		return max(1, int(int64(nodes)*int64(n)/100))
	default:
		return min(n, nodes)
	}
}
