package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
)

// rolloutText says how a new version would take over, and with how many
// replicas.
func rolloutText(a api.ApplicationPlan) string {
	var out strings.Builder
	if a.Strategy != "" {
		fmt.Fprintf(&out, "\n  Version %d takes over from version %d: %s, as %s\n", a.Version, a.Serving, strategyText(a.Strategy), printable(a.Why))
	}
	for i, stage := range a.Stages {
		fmt.Fprintf(&out, "  %2d. %s\n", i+1, stageLine(stage))
	}
	if len(a.UserConfig) > 0 {
		fmt.Fprintf(&out, "  Running replicas of %s take the new user_config; if they do not, new ones replace them\n", strings.Join(a.UserConfig, ", "))
	}
	if len(a.Jobs) == 0 {
		return out.String()
	}
	var rows [][]string
	now, peak, then := 0, 0, 0
	for _, j := range a.Jobs {
		rows = append(rows, []string{j.Job, strconv.Itoa(j.Now), strconv.Itoa(j.Peak), strconv.Itoa(j.Then)})
		now, peak, then = now+j.Now, peak+j.Peak, then+j.Then
	}
	if len(rows) > 1 {
		rows = append(rows, []string{"together", strconv.Itoa(now), strconv.Itoa(peak), strconv.Itoa(then)})
	}
	out.WriteString("\n" + indent(table([]string{"Replicas", "Now", "Peak", "Then"}, rows), "  "))
	return out.String()
}

// strategyText says a strategy in words.
func strategyText(s appspec.Strategy) string {
	switch s {
	case appspec.StrategyLive:
		return "live, at once and without a restart"
	case appspec.StrategyRolling:
		return "rolling, new replicas beside the old ones, which go as those pass"
	case appspec.StrategyBlueGreen:
		return "blue_green, a whole new set of replicas, then all requests at once"
	case appspec.StrategyCanary:
		return "canary, a whole new set of replicas, and the requests step by step"
	default:
		return string(s)
	}
}

func stageLine(s api.StagePlan) string {
	line := s.Name
	switch {
	case s.Weight > 0:
		line = fmt.Sprintf("%d %% of the requests", s.Weight)
	case s.Shadow > 0:
		line = fmt.Sprintf("copies of %d %% of the requests", s.Shadow)
	}
	if lasts := s.Lasts.Std(); lasts > 0 {
		line += ", for " + shortDuration(lasts) + " at least"
	}
	return line
}

// shortDuration writes a duration without zeros behind: 1m, not 1m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// roomText says which nodes the replicas need, and what has no place.
func roomText(room *api.RoomPlan) string {
	if room == nil {
		return ""
	}
	var out strings.Builder
	for _, g := range room.Nodes {
		line := fmt.Sprintf("Worker group %s orders %s, beside %d of at most %d", g.Name, plural(g.More, "node"), g.Have, g.Most)
		if g.Outdated > 0 {
			line += fmt.Sprintf(", and beside %d of an earlier shape", g.Outdated)
		}
		if g.DryRun {
			line = fmt.Sprintf("Worker group %s would order %s if it did more than tell", g.Name, plural(g.More, "node"))
		}
		out.WriteString(line + ".\n")
	}
	for _, line := range missingLines(room) {
		out.WriteString("No room: " + printable(line) + "\n")
	}
	switch {
	case room.Never():
		out.WriteString("A deploy is refused without -force, as no node could ever hold these replicas.\n")
	case len(room.Missing) > 0:
		out.WriteString("A deploy waits for room, and fails at its progress deadline if there is none by then.\n")
	case room.Fits && len(room.Nodes) == 0:
		out.WriteString("There is room for all of it.\n")
	}
	if out.Len() > 0 {
		out.WriteString("\n")
	}
	return out.String()
}

// missingLines say which replicas have no place, and why.
func missingLines(room *api.RoomPlan) []string {
	if room == nil {
		return nil
	}
	var lines []string
	for _, s := range room.Missing {
		how := "without a place for now"
		if s.Never {
			how = "that no node could hold, were it empty"
		}
		lines = append(lines, fmt.Sprintf("%s of %s/%s %s: %s", plural(s.Count, "replica"), s.Application, s.Deployment, how, s.Reason))
	}
	return lines
}
