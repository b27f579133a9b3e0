package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// spread is the median of some numbers, and the least and the most of them.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	median := v[len(v)/2]
	if len(v)%2 == 0 {
		median = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return spread{median, v[0], v[len(v)-1]}
}

// over makes a spread of one number of each sample.
func (r row) over(number func(sample) float64) spread {
	values := make([]float64, 0, len(r.Samples))
	for _, s := range r.Samples {
		values = append(values, number(s))
	}
	return spreadOf(values)
}

// cost is the CPU time in seconds for the result's unit.
func (r result) cost(of row) spread {
	return of.over(func(s sample) float64 { return s.CPU.Seconds() / float64(s.Requests) * r.Per })
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// writeTable writes the result as Markdown.
func writeTable(w io.Writer, r result) {
	fmt.Fprintf(w, "\n**%s**: %s", r.Scenario, r.Title)
	if r.Rate > 0 {
		fmt.Fprintf(w, ", %g/s", r.Rate)
	}
	if r.Rounds > 0 {
		fmt.Fprintf(w, "; %d rounds of %s", r.Rounds, r.Duration)
	}
	fmt.Fprint(w, "\n\n")
	if r.Per == 0 {
		writeHeld(w, r)
		return
	}
	fmt.Fprintf(w, "| proxy | per second | CPU seconds for %s (least to most) | / haproxy | p50 ms | p99 ms | failed |\n|---|---|---|---|---|---|---|\n", r.Unit)
	var tie float64
	for _, row := range r.Rows {
		if row.Peer == haproxyTie {
			tie = r.cost(row).median
		}
	}
	for _, row := range r.Rows {
		cost := r.cost(row)
		ratio := ""
		if tie > 0 && row.Peer != direct {
			ratio = fmt.Sprintf("%.2f", cost.median/tie)
		}
		var failed int64
		for _, s := range row.Samples {
			failed += s.Failed
		}
		name := row.Peer
		if name == direct {
			name += " (the backend's own)"
		}
		fmt.Fprintf(w, "| %s | %.0f | %.2f (%.2f to %.2f) | %s | %.2f | %.1f | %d |\n", name,
			row.over(func(s sample) float64 { return float64(s.Requests) / s.Wall.Seconds() }).median,
			cost.median, cost.least, cost.most, ratio,
			row.over(func(s sample) float64 { return milliseconds(s.P50) }).median,
			row.over(func(s sample) float64 { return milliseconds(s.P99) }).median, failed)
	}
}

// writeHeld writes what proxies hold in memory.
func writeHeld(w io.Writer, r result) {
	fmt.Fprint(w, "| proxy | MB before | MB after | kB each | / haproxy |\n|---|---|---|---|---|\n")
	var tie float64
	each := func(h *held) float64 { return float64(h.After-h.Before) / 1e3 / float64(h.Count) }
	for _, row := range r.Rows {
		if row.Peer == haproxyTie {
			tie = each(row.Held)
		}
	}
	for _, row := range r.Rows {
		ratio := ""
		if tie > 0 {
			ratio = fmt.Sprintf("%.2f", each(row.Held)/tie)
		}
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.1f | %s |\n", row.Peer,
			float64(row.Held.Before)/1e6, float64(row.Held.After)/1e6, each(row.Held), ratio)
	}
}

// writeJSON writes every sample to a file.
func writeJSON(path string, results []result) error {
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}
