package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

// decimal writes a number with a decimal point.
func decimal(x float64) string {
	text := strconv.FormatFloat(x, 'f', -1, 64)
	if x == math.Trunc(x) {
		text += ".0"
	}
	return text
}

// elapsed writes a time of a run, in seconds.
func elapsed(d time.Duration) string { return decimal(d.Seconds()) }

// changeJSON is a change as programs read it.
type changeJSON struct {
	At      json.Number `json:"at"` // seconds
	Running int         `json:"running"`
	Target  int         `json:"target"`
	Desired json.Number `json:"desired"`
	Reason  string      `json:"reason"`
}

func changesJSON(changes []autoscale.Change) []changeJSON {
	list := make([]changeJSON, len(changes))
	for i, c := range changes {
		list[i] = changeJSON{
			At: json.Number(elapsed(c.At)), Running: c.Running, Target: c.Target,
			Desired: json.Number(decimal(c.Desired)), Reason: c.Reason,
		}
	}
	return list
}

// writeJSONL writes a line for each change.
func writeJSONL(w io.Writer, changes []autoscale.Change) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, line := range changesJSON(changes) {
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// runJSON is a whole run as programs read it.
type runJSON struct {
	Spec    string            `json:"spec"`
	Changes []changeJSON      `json:"changes"`
	Summary autoscale.Summary `json:"summary"`
}

func (c *replayCommand) writeJSON(w io.Writer, runs []*replayRun) error {
	out := struct {
		Deployment string    `json:"deployment"`
		Runs       []runJSON `json:"runs"`
	}{Deployment: c.deployment}
	for _, r := range runs {
		out.Runs = append(out.Runs, runJSON{r.name, changesJSON(r.result.Changes), r.result.Summary})
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// amount is a number for people.
func amount(x float64) string {
	const thousandth = 1000
	return strconv.FormatFloat(math.Round(x*thousandth)/thousandth, 'f', -1, 64)
}

func (c *replayCommand) writeTable(out *bytes.Buffer, runs []*replayRun, trace *autoscale.Trace) {
	if len(runs) == 1 {
		out.WriteString(changeTable(runs[0].result.Changes))
	} else {
		out.WriteString(compareTable(runs))
	}
	out.WriteString("\n")
	if len(runs) == 1 {
		out.WriteString(pairs(summaryLines(runs[0].result.Summary)))
	} else {
		out.WriteString(compareSummaries(runs))
	}
	if trace.Simulated() {
		fmt.Fprintf(out, "\nThe requests are simulated: %s arrivals, seed %d.\n", c.how.arrivals, c.how.seed)
	}
}

func changeTable(changes []autoscale.Change) string {
	var rows [][]string
	for _, c := range changes {
		rows = append(rows, []string{
			elapsed(c.At), amount(c.Load), strconv.Itoa(c.Running), strconv.Itoa(c.Target), amount(c.Desired), c.Reason,
		})
	}
	return table([]string{"Time (s)", "Load", "Running", "Target", "Desired", "Reason"}, rows)
}

// compareTable has both targets side by side, and a row for each change of
// either.
func compareTable(runs []*replayRun) string {
	var rows [][]string
	next := [2]int{}
	targets := [2]string{strconv.Itoa(runs[0].result.Changes[0].Target), strconv.Itoa(runs[1].result.Changes[0].Target)}
	for {
		changed := -1
		for i, r := range runs {
			if next[i] < len(r.result.Changes) &&
				(changed < 0 || r.result.Changes[next[i]].At < runs[changed].result.Changes[next[changed]].At) {
				changed = i
			}
		}
		if changed < 0 {
			return table([]string{"Time (s)", "Target in " + runs[0].name, "in " + runs[1].name, "Of", "Load", "Running", "Desired", "Reason"}, rows)
		}
		c := runs[changed].result.Changes[next[changed]]
		next[changed]++
		targets[changed] = strconv.Itoa(c.Target)
		rows = append(rows, []string{
			elapsed(c.At), targets[0], targets[1], runs[changed].name, amount(c.Load), strconv.Itoa(c.Running), amount(c.Desired), c.Reason,
		})
	}
}

// figure is one number of a summary.
type figure struct {
	name  string
	value float64
	unit  string
}

func figures(s autoscale.Summary) []figure {
	list := []figure{
		{"Changes of the target", float64(s.Changes), ""},
		{"Turns", float64(s.Turns), ""},
		{"Least target", float64(s.MinTarget), ""},
		{"Largest target", float64(s.MaxTarget), ""},
		{"Replica-hours", s.ReplicaHours, ""},
		{"Short of replicas", math.Round(1000*s.Short) / 10, "% of the time"},
	}
	if q := s.Queue; q != nil {
		list = append(list,
			figure{"Requests", float64(q.Requests), ""},
			figure{"Rejected", float64(q.Rejected), ""},
			figure{"Waiting at the end", float64(q.Waiting), ""},
			figure{"Wait, p50", q.WaitP50, " s"},
			figure{"Wait, p99", q.WaitP99, " s"})
	}
	return list
}

func summaryLines(s autoscale.Summary) [][2]string {
	var lines [][2]string
	for _, f := range figures(s) {
		lines = append(lines, [2]string{f.name, amount(f.value) + f.unit})
	}
	return lines
}

func compareSummaries(runs []*replayRun) string {
	var rows [][]string
	before, after := figures(runs[0].result.Summary), figures(runs[1].result.Summary)
	for i, f := range before {
		difference := amount(after[i].value - f.value)
		if after[i].value > f.value {
			difference = "+" + difference
		}
		rows = append(rows, []string{f.name, amount(f.value) + f.unit, amount(after[i].value) + f.unit, difference})
	}
	return table([]string{"Summary", runs[0].name, runs[1].name, "Difference"}, rows)
}
