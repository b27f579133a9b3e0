package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
)

// simHow is what settings of a simulation change.
type simHow struct {
	delay, start time.Duration
	groups       map[string]*appspec.WorkerGroup
}

// setting is one value of one setting.
type setting struct{ name, value string }

// simSettings is what -set and -vary may change, and how.
func simSettings() map[string]func(how *simHow, value string) error {
	each := func(change func(*appspec.WorkerGroup)) func(*simHow) {
		return func(how *simHow) {
			for _, g := range how.groups {
				change(g)
			}
		}
	}
	span := func(put func(*simHow, time.Duration)) func(*simHow, string) error {
		return func(how *simHow, value string) error {
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 {
				return wrongUse("%q is no duration such as 30s, 5m or 1h30m", value)
			}
			put(how, d)
			return nil
		}
	}
	whole := func(put func(*appspec.WorkerGroup, int)) func(*simHow, string) error {
		return func(how *simHow, value string) error {
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > 100_000 {
				return wrongUse("%q is no whole number of 0 to 100000", value)
			}
			each(func(g *appspec.WorkerGroup) { put(g, n) })(how)
			return nil
		}
	}
	return map[string]func(*simHow, string) error{
		"delay": span(func(how *simHow, d time.Duration) { how.delay = d }),
		"start": span(func(how *simHow, d time.Duration) { how.start = d }),
		"idle_timeout": span(func(how *simHow, d time.Duration) {
			each(func(g *appspec.WorkerGroup) { g.IdleTimeout = appspec.Duration(d) })(how)
		}),
		"consolidate_after": span(func(how *simHow, d time.Duration) {
			each(func(g *appspec.WorkerGroup) { scaleDownOf(g).ConsolidateAfter = appspec.Duration(d) })(how)
		}),
		"consolidate": func(how *simHow, value string) error {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return wrongUse("consolidate is true or false, not %q", value)
			}
			each(func(g *appspec.WorkerGroup) { scaleDownOf(g).Consolidate = on })(how)
			return nil
		},
		"budget": func(how *simHow, value string) error {
			number, err := strconv.Atoi(strings.TrimSuffix(value, "%"))
			if err != nil || number < 0 {
				return wrongUse("budget is a number of nodes or a share such as 10%%, not %q", value)
			}
			each(func(g *appspec.WorkerGroup) { scaleDownOf(g).Budget = value })(how)
			return nil
		},
		"buffer": whole(func(g *appspec.WorkerGroup, n int) { g.Buffer = &appspec.Buffer{Nodes: n} }),
		"buffer_replicas": whole(func(g *appspec.WorkerGroup, n int) {
			g.Buffer = &appspec.Buffer{Replicas: n, Resources: &appspec.Resources{CPU: 1, MemoryMB: 1024}}
		}),
		"min_nodes": whole(func(g *appspec.WorkerGroup, n int) { g.MinNodes = n; g.MaxNodes = max(n, g.MaxNodes) }),
		"max_nodes": whole(func(g *appspec.WorkerGroup, n int) { g.MaxNodes = n; g.MinNodes = min(n, g.MinNodes) }),
	}
}

// scaleDownOf is a group's scale_down block, made if there is none.
func scaleDownOf(g *appspec.WorkerGroup) *appspec.ScaleDown {
	if g.ScaleDown == nil {
		g.ScaleDown = new(appspec.DefaultScaleDown())
	}
	return g.ScaleDown
}

func settingNames() []string { return slices.Sorted(maps.Keys(simSettings())) }

// apply changes what is to be simulated.
func (s setting) apply(how *simHow) error { return simSettings()[s.name](how, s.value) }

// parseSettings reads name=value,value.
func parseSettings(text string) ([]setting, error) {
	name, values, ok := strings.Cut(text, "=")
	if !ok || values == "" {
		return nil, wrongUse("%q is not of the form name=value", text)
	}
	put, known := simSettings()[name]
	if !known {
		return nil, wrongUse("there is no setting %q; there are %s", name, strings.Join(settingNames(), ", "))
	}
	var list []setting
	for value := range strings.SplitSeq(values, ",") {
		if err := put(&simHow{}, value); err != nil {
			return nil, err
		}
		list = append(list, setting{name, value})
	}
	return list, nil
}

// simTable shows each run in a line.
func simTable(runs []simRun, varied [][]setting) string {
	var header []string
	for _, list := range varied {
		header = append(header, list[0].name)
	}
	header = append(header, "Node Hours", "Ideal", "Cost", "Use", "Waiting", "Wait p50", "p95", "Max",
		"Nodes Started", "Failed", "Replicas Moved", "Most Nodes", "Broken")
	var rows [][]string
	for _, run := range runs {
		var row []string
		for _, list := range varied {
			row = append(row, run.Settings[list[0].name])
		}
		rows = append(rows, append(row, simCells(run.Result)...))
	}
	return table(header, rows)
}

func simCells(r nodescale.SimResult) []string {
	fixed := func(x float64, digits int) string { return strconv.FormatFloat(x, 'f', digits, 64) }
	seconds := func(x float64) string { return fixed(x, 1) + "s" }
	cost, failed, broken := "", "", ""
	if r.Cost > 0 {
		cost = fixed(r.Cost, 2)
	}
	if r.Failures > 0 {
		failed = strconv.Itoa(r.Failures)
	}
	if len(r.Broken) > 0 {
		broken = r.Broken[0]
	}
	return []string{
		fixed(r.NodeHours, 1), fixed(r.IdealNodeHours, 1), cost, fixed(100*r.Use, 0) + "%", fixed(r.WaitingSeconds/3600, 2) + "h",
		seconds(r.Wait.P50), seconds(r.Wait.P95), seconds(r.Wait.Max),
		strconv.Itoa(r.Launches), failed, strconv.Itoa(r.Moved), strconv.Itoa(r.MaxNodes), broken,
	}
}
