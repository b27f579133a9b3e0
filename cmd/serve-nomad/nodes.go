package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

func newNodesCommand(b *base) cli.Command {
	c := newCommand(b, "nodes", helpText{
		synopsis: "List the nodes, and which of them stay or go and why",
		about: "Lists the nodes of the worker groups, those on their way among them: what is in use\n" +
			"of each, and whether the node autoscaler keeps it, waits, or removes it, and why.",
		examples: "$ serve-nomad nodes\n$ serve-nomad nodes explain gpu-5f0c2a91\n$ serve-nomad nodes -json | jq '.nodes[] | select(.verdict != \"keep\")'",
	})
	c.run = func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return noSecond(c.name, args[0])
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		list, err := client.Nodes(ctx)
		if err != nil {
			return err
		}
		switch {
		case c.json:
			c.printJSON(list)
		case len(list.Nodes) == 0:
			c.printf("No worker group has a node.\n")
		default:
			c.printf("%s", nodeTable(list.Nodes, list.At))
		}
		if list.Hold != "" && !c.json {
			c.printf("\nNothing is taken away: %s\n", printable(list.Hold))
		}
		return nil
	}
	return c
}

func newNodesExplainCommand(b *base) cli.Command {
	c := newCommand(b, "nodes explain", helpText{
		synopsis: "Show why a node is kept or goes",
		args:     "<node>",
		about: "Shows what a node is used for, whether the node autoscaler keeps it, waits, or\n" +
			"removes it, why and when, and what happened to it. It is named by its id here or in\n" +
			"Nomad, by the beginning of one of these, or by its name.",
		examples: "$ serve-nomad nodes explain gpu-5f0c2a91\n$ serve-nomad nodes explain -json 3b1f | jq .reason",
	})
	c.minArgs, c.maxArgs, c.args = 1, 1, c.predictNodes()
	c.run = func(ctx context.Context, args []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		detail, err := client.Node(ctx, args[0])
		if err != nil {
			return err
		}
		if c.json {
			c.printJSON(detail)
			return nil
		}
		c.printf("%s", nodeText(&detail))
		return nil
	}
	return c
}

// nodeText is a node for people. Times are as of the server's clock.
func nodeText(n *api.NodeDetail) string {
	rows := [][2]string{
		{"Node", n.ID},
		{"Name", n.Name},
		{"Nomad ID", n.NomadID},
		{"Group", n.Group},
		{"Node Pool", n.Pool},
		{"Phase", string(n.Phase)},
		{"Nomad Status", n.Status},
		{"Since", ago(n.At, n.Since)},
		{"Replicas", strconv.Itoa(n.Replicas)},
		{"Others", othersText(n.Others)},
		{"CPU", shareCell(n.CPU, " MHz")},
		{"Memory", shareCell(n.MemoryMB, " MiB")},
		{"GPU", shareCell(n.GPU, "")},
		{"Verdict", n.Verdict},
		{"Why", n.Reason},
		{"Due", dueCell(n.Due, n.At)},
	}
	if n.Hold != "" {
		rows = append(rows, [2]string{"On Hold", "nothing is taken away: " + n.Hold})
	}
	if r := n.Record; r != nil {
		rows = append(rows, [2]string{"Ordered", ago(n.At, r.At)}, [2]string{"Joined", joinedText(r.At, r.JoinedAt)}, [2]string{"Instance", r.Instance},
			[2]string{"Phase Reason", r.Reason}, [2]string{"Surge", surgeText(r.Surge)})
	}
	text := pairs(rows)
	if len(n.Events) > 0 {
		text += "\nEvents\n" + eventTable(n.Events, n.At)
	}
	return text
}

func othersText(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "allocation") + " of other jobs"
}

func joinedText(ordered, joined time.Time) string {
	if joined.IsZero() {
		return ""
	}
	return brief(joined.Sub(ordered)) + " after it was ordered"
}

// surgeText says which jobs run more replicas while a node drains.
func surgeText(surge map[string]int) string {
	var parts []string
	for _, job := range sortedKeys(surge) {
		parts = append(parts, plural(surge[job], "more replica")+" of job "+job)
	}
	return strings.Join(parts, ", ")
}
