package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

func newNodeGroupsExplainCommand(b *base) cli.Command {
	c := newCommand(b, "node-groups explain", helpText{
		synopsis: "Show why a worker group has as many nodes as it has, and what comes next",
		args:     "<group>",
		about: "Shows what the node autoscaler makes of a worker group: how many nodes it wants\n" +
			"and why, its launches that failed, each of its nodes with what is to become of\n" +
			"it, the replicas that wait for it, and what happened of late.",
		examples: "$ serve-nomad node-groups explain gpu\n$ serve-nomad node-groups explain -json gpu | jq .report",
	})
	c.minArgs, c.maxArgs, c.args = 1, 1, c.predictGroups()
	c.run = func(ctx context.Context, args []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		detail, _, err := client.WorkerGroup(ctx, args[0], api.Query{})
		if err != nil {
			return err
		}
		if c.json {
			c.printJSON(detail)
			return nil
		}
		c.printf("%s", groupText(&detail, time.Now()))
		return nil
	}
	return c
}

// groupText is a worker group for people.
func groupText(g *api.WorkerGroupDetail, now time.Time) string {
	var text strings.Builder
	deployed := ago(now, g.DeployedAt)
	if g.By != "" {
		deployed += " by " + g.By
	}
	rows := [][2]string{
		{"Group", g.Name},
		{"Node Pool", g.Spec.NodePool},
		{"Target", targetCell(g.WorkerGroupStatus)},
		{"A Node", shapeText(g.Spec.Node)},
		{"Nodes", nodesCell(g.WorkerGroupStatus)},
		{"By Hand", count(byHand(g.WorkerGroupStatus))},
		{"Bounds", groupBounds(g.WorkerGroupStatus)},
		{"Wants", wantsCell(g.WorkerGroupStatus)},
		{"Why", groupReason(g.WorkerGroupStatus)},
	}
	rows = append(rows, launchRows(g, now)...)
	if g.Hold != "" {
		rows = append(rows, [2]string{"On Hold", "nothing is taken away: " + g.Hold})
	}
	if g.Deleting {
		rows = append(rows, [2]string{"Deleting", "its nodes go, then it is forgotten"})
	}
	rows = append(rows,
		[2]string{"Idle Timeout", g.Spec.IdleTimeout.String()}, [2]string{"Deployed", deployed}, [2]string{"Message", g.Message},
		[2]string{"Modify Index", strconv.FormatUint(g.ModifyIndex, 10)})
	text.WriteString(pairs(rows) + groupNotes([]api.WorkerGroupStatus{g.WorkerGroupStatus}))
	if len(g.Nodes) > 0 {
		of := slices.Clone(g.Nodes)
		for i := range of {
			of[i].Group, of[i].Pool = "", "" // as above
		}
		text.WriteString("\nNodes\n" + nodeTable(of, now))
	}
	if len(g.Pending) > 0 {
		var waiting [][]string
		for _, p := range g.Pending {
			waiting = append(waiting, []string{p.Application + "/" + p.Deployment, strconv.Itoa(p.Count), ago(now, p.Since), p.Groups[g.Name]})
		}
		text.WriteString("\nReplicas Without a Place\n" + table([]string{"Deployment", "Replicas", "Since", "This Group"}, waiting))
	}
	if len(g.Events) > 0 {
		text.WriteString("\nEvents\n" + eventTable(g.Events, now))
	}
	return text.String()
}

// launchRows say how launches go.
func launchRows(g *api.WorkerGroupDetail, now time.Time) [][2]string {
	launched := ""
	if u := g.Usage; u.Launched > 0 {
		launched = fmt.Sprintf("%d, %d of them failed, %d removed since", u.Launched, u.Failed, u.Removed)
	}
	rows := [][2]string{{"Launched", launched}}
	if r := g.Report; r != nil {
		start := ""
		if r.StartTime > 0 {
			start = brief(time.Duration(r.StartTime*float64(time.Second))) + " from the order until a node is ready, of late"
		}
		backoff := ""
		if !r.Backoff.IsZero() {
			backoff = "no launch " + strings.Replace(dueCell(r.Backoff, now), "in ", "for ", 1)
		}
		rows = append(rows, [2]string{"Start Time", start}, [2]string{"Back-off", backoff}, [2]string{"Last Failure", r.Failure})
	}
	return rows
}
