package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

type nodeGroupsCommand struct {
	*command
	stale bool
}

func newNodeGroupsCommand(b *base) cli.Command {
	c := &nodeGroupsCommand{command: newCommand(b, "node-groups", helpText{
		synopsis: "List the worker groups: their nodes, bounds, and why they have as many",
		about: "Lists the worker groups. Nodes counts those that the group has ordered; By Hand\n" +
			"counts nodes of its pool that somebody else made: they are used, never removed.\n" +
			"Wants is how many the group would have, by what asks for them and its bounds.",
		examples: "$ serve-nomad node-groups\n$ serve-nomad node-groups explain gpu\n$ serve-nomad node-groups -json | jq '.[].report.reason'",
	})}
	c.run = c.list
	c.flags.BoolVar(&c.stale, "stale", false, "Let the server answer from what it knows itself, also when no server leads.")
	return c
}

// noSecond says that first has no such second word, and which was meant.
func noSecond(first, second string) error {
	var known []string
	for name := range commands() {
		if word, ok := strings.CutPrefix(name, first+" "); ok {
			known = append(known, word)
		}
	}
	slices.Sort(known)
	if near := appspec.Nearest(second, known); near != "" {
		return wrongUse("there is no %s %s, did you mean %s %s?", first, second, first, near)
	}
	return wrongUse("there is no %s %q: there are %s", first, second, strings.Join(known, ", "))
}

func (c *nodeGroupsCommand) list(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return noSecond(c.name, args[0])
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	list, _, err := client.WorkerGroups(ctx, api.Query{Stale: c.stale})
	if err != nil {
		return err
	}
	switch {
	case c.json:
		c.printJSON(list)
	case len(list) == 0:
		c.printf("No worker groups. A spec file with a worker_group block makes one: serve-nomad deploy <file.hcl>\n")
	default:
		c.printf("%s%s", groupTable(list), groupNotes(list))
	}
	return nil
}

func groupTable(list []api.WorkerGroupStatus) string {
	var rows [][]string
	for _, g := range list {
		rows = append(rows, []string{
			g.Name, g.Spec.NodePool, targetCell(g), nodesCell(g), count(byHand(g)), groupBounds(g), wantsCell(g), costCell(g), groupReason(g),
		})
	}
	return table([]string{"Group", "Pool", "Target", "Nodes", "By Hand", "Bounds", "Wants", "Cost/h", "Reason"}, rows)
}

// groupNotes are the doubts about groups, a line each.
func groupNotes(list []api.WorkerGroupStatus) string {
	var out strings.Builder
	for _, g := range list {
		if g.Report == nil {
			continue
		}
		for _, note := range g.Report.Notes {
			fmt.Fprintf(&out, "Note: %s: %s\n", g.Name, printable(note))
		}
	}
	if out.Len() == 0 {
		return ""
	}
	return "\n" + out.String()
}

func targetCell(g api.WorkerGroupStatus) string {
	text := g.Spec.Target.Kind
	if g.Spec.Target.Plugin != "" {
		text += " " + g.Spec.Target.Plugin
	}
	if g.Spec.DryRun || g.Report != nil && g.Report.DryRun {
		text += " (dry run)"
	}
	return text
}

// nodesCell says how many nodes a group has ordered: "2 ready, 1 launching".
func nodesCell(g api.WorkerGroupStatus) string {
	var parts []string
	for _, p := range []struct {
		what   string
		phases []raftstate.NodePhase
	}{
		{"ready", []raftstate.NodePhase{raftstate.NodeReady}},
		{"launching", []raftstate.NodePhase{raftstate.NodeLaunching}},
		{"retiring", []raftstate.NodePhase{raftstate.NodeRetiring}},
		{"draining", []raftstate.NodePhase{raftstate.NodeDraining, raftstate.NodeReturning}},
		{"terminating", []raftstate.NodePhase{raftstate.NodeTerminating}},
	} {
		n := 0
		for _, phase := range p.phases {
			n += g.Phases[phase]
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, p.what))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// count is a number that is worth a cell only when it is not 0.
func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func byHand(g api.WorkerGroupStatus) int {
	if g.Report == nil {
		return 0
	}
	return g.Report.ByHand
}

// groupBounds are the bounds that hold by now, schedules among them.
func groupBounds(g api.WorkerGroupStatus) string {
	least, most := g.Spec.MinNodes, g.Spec.MaxNodes
	if g.Report != nil {
		least, most = g.Report.MinNodes, g.Report.MaxNodes
	}
	return fmt.Sprintf("%d..%d", least, most)
}

func wantsCell(g api.WorkerGroupStatus) string {
	if g.Report == nil {
		return "?"
	}
	return strconv.Itoa(g.Report.Wants)
}

func costCell(g api.WorkerGroupStatus) string {
	if g.Report == nil || g.Report.Price == 0 {
		return ""
	}
	return money(g.Report.Cost.PerHour)
}

// money writes an amount in the currency that prices are given in.
func money(amount float64) string { return strconv.FormatFloat(amount, 'f', 2, 64) }

func groupReason(g api.WorkerGroupStatus) string {
	switch {
	case g.Report == nil:
		return g.ReportError
	case g.Report.Failure != "" && !g.Report.Backoff.IsZero() && !strings.Contains(g.Report.Reason, g.Report.Failure):
		return g.Report.Reason + "; the last launch failed: " + g.Report.Failure
	default:
		return g.Report.Reason
	}
}

// shapeText says what a node of a group has.
func shapeText(n appspec.NodeShape) string {
	parts := []string{strconv.FormatFloat(n.CPU, 'f', -1, 64) + " cores", fmt.Sprintf("%d MiB", n.MemoryMB)}
	if n.DiskMB > 0 {
		parts = append(parts, fmt.Sprintf("%d MiB disk", n.DiskMB))
	}
	if n.GPU > 0 {
		parts = append(parts, strings.TrimSpace(plural(n.GPU, "GPU")+" "+n.GPUModel))
	}
	if n.Class != "" {
		parts = append(parts, "class "+n.Class)
	}
	if n.Datacenter != "" {
		parts = append(parts, "datacenter "+n.Datacenter)
	}
	return strings.Join(parts, ", ")
}

// groupsLine says in one line how the worker groups are, "" when there are none.
func groupsLine(list []api.WorkerGroupStatus) string {
	var parts []string
	for _, g := range list {
		parts = append(parts, fmt.Sprintf("%s %s of %s", g.Name, nodesCell(g), groupBounds(g)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "Worker groups: " + strings.Join(parts, "; ") + "\n"
}

// predictGroups completes the names of worker groups.
func (c *command) predictGroups() complete.Predictor {
	return c.predictBy(func(ctx context.Context, client *api.Client) []string {
		list, _, err := client.WorkerGroups(ctx, api.Query{Stale: true})
		if err != nil {
			return nil
		}
		var names []string
		for _, g := range list {
			names = append(names, g.Name)
		}
		return names
	})
}

// predictNodes completes the ids of nodes.
func (c *command) predictNodes() complete.Predictor {
	return c.predictBy(func(ctx context.Context, client *api.Client) []string {
		list, err := client.Nodes(ctx)
		if err != nil {
			return nil
		}
		var ids []string
		for _, n := range list.Nodes {
			ids = append(ids, n.ID)
		}
		return ids
	})
}

// eventTable shows the last events of something, the newest last.
func eventTable(events []raftstate.Event, now time.Time) string {
	const most = 20
	var rows [][]string
	for _, e := range events[max(0, len(events)-most):] {
		rows = append(rows, []string{ago(now, e.At), e.Type, e.Node, e.Message})
	}
	return table([]string{"When", "Event", "Node", "Message"}, rows)
}

// nodeTable lists nodes, with what is to become of them.
func nodeTable(nodes []nodescale.NodeReport, now time.Time) string {
	var rows [][]string
	for _, n := range nodes {
		name := n.Name
		if name == n.ID {
			name = ""
		}
		rows = append(rows, []string{
			n.ID, name, n.Group, n.Pool, string(n.Phase), n.Status, strconv.Itoa(n.Replicas), count(n.Others),
			shareCell(n.CPU, " MHz"), shareCell(n.MemoryMB, " MiB"), shareCell(n.GPU, ""), n.Verdict, dueCell(n.Due, now), n.Reason,
		})
	}
	return table([]string{
		"Node", "Name", "Group", "Pool", "Phase", "Status", "Replicas", "Others", "CPU", "Memory", "GPU", "Verdict", "Due", "Reason",
	}, rows)
}

// shareCell writes how much is in use: "500/4000 MHz"; "" where there is none.
func shareCell(s nodescale.Share, unit string) string {
	if s.Total == 0 && s.Used == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d%s", s.Used, s.Total, unit)
}

// dueCell says in how long a moment comes.
func dueCell(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return "in " + brief(max(0, at.Sub(now)))
}
