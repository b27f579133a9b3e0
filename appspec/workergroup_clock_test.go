package appspec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNodeBounds(t *testing.T) {
	at := func(day, hour int) time.Time { return time.Date(2026, time.June, day, hour, 30, 0, 0, time.UTC) } // June 1 is a Monday
	schedule := func(name, cron string, hours int, least, most *int) *NodeSchedule {
		return &NodeSchedule{Name: name, Cron: cron, Duration: Duration(time.Duration(hours) * time.Hour), Timezone: "Europe/Berlin", MinNodes: least, MaxNodes: most}
	}
	for name, c := range map[string]struct {
		schedules   []*NodeSchedule
		now         time.Time
		least, most int
		why         string
	}{
		"no schedule":                 {nil, at(1, 12), 1, 8, "min_nodes 1, max_nodes 8"},
		"in force":                    {[]*NodeSchedule{schedule("day", "0 8 * * mon-fri", 10, new(3), new(10))}, at(1, 6), 3, 10, "schedule day: min_nodes 3, max_nodes 10"},
		"not yet, in its own zone":    {[]*NodeSchedule{schedule("day", "0 8 * * mon-fri", 10, new(3), new(10))}, at(1, 5), 1, 8, "min_nodes 1, max_nodes 8"},
		"over":                        {[]*NodeSchedule{schedule("day", "0 8 * * mon-fri", 10, new(3), nil)}, at(1, 16), 1, 8, "min_nodes 1, max_nodes 8"},
		"not on that day":             {[]*NodeSchedule{schedule("day", "0 8 * * mon-fri", 10, new(3), nil)}, at(6, 12), 1, 8, "min_nodes 1, max_nodes 8"},
		"a lower floor is none":       {[]*NodeSchedule{schedule("day", "@daily", 24, new(0), nil)}, at(1, 12), 1, 8, "min_nodes 1, max_nodes 8"},
		"a lower ceiling":             {[]*NodeSchedule{schedule("night", "@daily", 24, nil, new(2))}, at(1, 12), 1, 2, "schedule night: min_nodes 1, max_nodes 2"},
		"no node at all":              {[]*NodeSchedule{schedule("night", "@daily", 24, new(0), new(0))}, at(1, 12), 0, 0, "schedule night: min_nodes 0, max_nodes 0"},
		"the largest of several":      {[]*NodeSchedule{schedule("a", "@daily", 24, new(2), new(4)), schedule("b", "@daily", 24, new(3), new(3))}, at(1, 12), 3, 4, "schedule a, b: min_nodes 3, max_nodes 4"},
		"the ceiling wins":            {[]*NodeSchedule{schedule("a", "@daily", 24, nil, new(2)), schedule("b", "@daily", 24, new(5), nil)}, at(1, 12), 2, 2, "schedule a, b: min_nodes 2, max_nodes 2"},
		"a floor that nobody reads":   {[]*NodeSchedule{schedule("odd", "x", 24, new(5), new(6))}, at(1, 12), 5, 8, "schedule odd: min_nodes 5, max_nodes 8"},
		"a ceiling that nobody reads": {[]*NodeSchedule{schedule("odd", "TZ=0", 24, nil, new(9)), schedule("low", "@daily", 24, nil, new(2))}, at(1, 12), 1, 9, "schedule odd: min_nodes 1, max_nodes 9"},
		"nil":                         {[]*NodeSchedule{nil}, at(1, 12), 1, 8, "min_nodes 1, max_nodes 8"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &WorkerGroup{MinNodes: 1, MaxNodes: 8, Schedules: c.schedules}
			least, most, why := g.NodeBounds(c.now)
			if least != c.least || most != c.most || why != c.why {
				t.Errorf("%d to %d, %q", least, most, why)
			}
		})
	}
}

func TestBudgetAt(t *testing.T) {
	window := func(name, cron, budget string) *ScaleWindow {
		return &ScaleWindow{Name: name, Cron: cron, Duration: Duration(8 * time.Hour), Timezone: "UTC", Budget: budget}
	}
	night := []*ScaleWindow{window("night", "0 22 * * *", "50%"), nil, window("release", "0 23 * * *", "3"), window("freeze", "0 4 * * *", "0")}
	for name, c := range map[string]struct {
		hour, n int
		windows []*ScaleWindow
		why     string
	}{
		"no window":               {12, 2, nil, "budget 10% of 20 nodes"},
		"none in force":           {12, 2, night, "budget 10% of 20 nodes"},
		"another budget":          {22, 10, night, "window night: budget 50% of 20 nodes"},
		"the smallest of several": {23, 3, night, "window release: budget 3"},
		"of the day before":       {2, 3, night, "window release: budget 3"},
		"nothing goes":            {5, 0, night, "window freeze: budget 0"},
		"one that nobody reads":   {12, 0, []*ScaleWindow{{Name: "odd", Cron: "0 12 * * *", Timezone: "Mars", Budget: "3"}}, "window odd cannot be read, so nothing goes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := ScaleDown{Budget: "10%", Windows: c.windows}
			n, why := s.BudgetAt(time.Date(2026, time.June, 2, c.hour, 0, 0, 0, time.UTC), 20)
			if n != c.n || !strings.HasPrefix(why, c.why) {
				t.Errorf("%d, %q", n, why)
			}
		})
	}
}

func TestBudgetOf(t *testing.T) {
	for budget, want := range map[string][3]int{ // of 1, 10 and 19 nodes
		"10%": {1, 1, 1}, "50%": {1, 5, 9}, "100%": {1, 10, 19}, "0%": {0, 0, 0}, "0": {0, 0, 0}, "2": {1, 2, 2}, "1%": {1, 1, 1},
		"": {0, 0, 0}, "x": {0, 0, 0}, "-1": {0, 0, 0}, "101%": {0, 0, 0}, "1.5": {0, 0, 0}, "07": {0, 0, 0}, " 1": {0, 0, 0},
	} {
		for i, nodes := range []int{1, 10, 19} {
			if got := BudgetOf(budget, nodes); got != want[i] {
				t.Errorf("%q of %d: %d, want %d", budget, nodes, got, want[i])
			}
		}
		if BudgetOf(budget, 0) != 0 || BudgetOf(budget, -5) != 0 {
			t.Errorf("%q of no nodes is some", budget)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(1, 1_000_000).Draw(t, "nodes")
		share := rapid.IntRange(0, 100).Draw(t, "share")
		n, more := BudgetOf(fmt.Sprintf("%d%%", share), nodes), BudgetOf(fmt.Sprintf("%d%%", min(100, share+1)), nodes)
		if n > nodes || n > more || (n == 0) != (share == 0) || n > 1 && n*100 > nodes*share {
			t.Errorf("%d, and %d with one more", n, more)
		}
	})
}

// TestRecurrences holds the clock changes; the schedules of replicas are tested
// further where they are used.
func TestRecurrences(t *testing.T) {
	for _, c := range []struct {
		cron, zone, now string
		lasts           time.Duration
		want            bool
	}{
		{"0 8 * * *", "Europe/Berlin", "2026-01-15T06:59:59Z", time.Hour, false},
		{"0 8 * * *", "Europe/Berlin", "2026-01-15T07:00:00Z", time.Hour, true},
		{"0 8 * * *", "Europe/Berlin", "2026-01-15T07:59:59Z", time.Hour, true},
		{"0 8 * * *", "Europe/Berlin", "2026-01-15T08:00:00Z", time.Hour, false},
		{"0 8 * * *", "Europe/Berlin", "2026-07-15T06:00:00Z", time.Hour, true},          // summer time
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T01:40:00Z", 20 * time.Minute, true},  // 3:40; 2:30 is not there
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 20 * time.Minute, false}, // 2:10, the second time
		{"0 0 1 * *", "UTC", "2026-03-31T23:59:59Z", 31 * 24 * time.Hour, true},
	} {
		r, err := NewRecurrence(c.cron, Duration(c.lasts), c.zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.InForce(now); got != c.want {
			t.Errorf("%s for %s in %s at %s: %v", c.cron, c.lasts, c.zone, c.now, got)
		}
	}
	for _, c := range [][2]string{{"x", "UTC"}, {"@daily", "Mars"}, {"TZ=0", "UTC"}, {"", ""}} {
		if _, err := NewRecurrence(c[0], Duration(time.Hour), c[1]); err == nil {
			t.Errorf("%q is read", c)
		}
	}
}
