package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nodescale"
)

// groupCosts is one worker group of node-groups costs -json.
type groupCosts struct {
	Group  string         `json:"worker_group"`
	Nodes  int            `json:"nodes"`           // ordered and not yet gone
	Price  float64        `json:"price,omitempty"` // of one for an hour
	Cost   nodescale.Cost `json:"cost"`
	Unseen string         `json:"unknown,omitempty"` // why Cost is not known
}

func newNodeGroupsCostsCommand(b *base) cli.Command {
	c := newCommand(b, "node-groups costs", helpText{
		synopsis: "Show node-hours of the worker groups, and what they cost",
		about: "Shows for how long each worker group has had nodes, of all of them together since\n" +
			"the group was made, and which share of those there now has no replica. Where the\n" +
			"group has a price, also what its nodes cost: in an hour now, and in all. The\n" +
			"currency is the one in which prices are given. A node counts from its order on.",
		examples: "$ serve-nomad node-groups costs\n$ serve-nomad node-groups costs -json | jq '.[].cost.total'",
	})
	c.maxArgs = 0
	c.run = func(ctx context.Context, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		list, _, err := client.WorkerGroups(ctx, api.Query{})
		if err != nil {
			return err
		}
		costs := []groupCosts{}
		for _, g := range list {
			costs = append(costs, costsOf(g))
		}
		switch {
		case c.json:
			c.printJSON(costs)
		case len(costs) == 0:
			c.printf("No worker groups.\n")
		default:
			c.printf("%s", costText(costs))
		}
		return nil
	}
	return c
}

func costsOf(g api.WorkerGroupStatus) groupCosts {
	out := groupCosts{Group: g.Name, Price: g.Spec.Price, Unseen: g.ReportError}
	for _, n := range g.Phases {
		out.Nodes += n
	}
	if g.Report != nil {
		out.Price, out.Cost = g.Report.Price, g.Report.Cost
	}
	return out
}

// costText is the report of costs for people. The sum is of what is known.
func costText(list []groupCosts) string {
	var rows [][]string
	var sum nodescale.Cost
	nodes, priced := 0, false
	for _, g := range list {
		nodes += g.Nodes
		if g.Unseen != "" {
			rows = append(rows, []string{g.Group, strconv.Itoa(g.Nodes), "?", "", "", "", "", g.Unseen})
			continue
		}
		sum.NodeHours += g.Cost.NodeHours
		sum.PerHour += g.Cost.PerHour
		sum.Total += g.Cost.Total
		row := []string{g.Group, strconv.Itoa(g.Nodes), money(g.Cost.NodeHours), idleCell(g), "", "", "", ""}
		if g.Price > 0 {
			priced = true
			row[4], row[5], row[6] = money(g.Price), money(g.Cost.PerHour), money(g.Cost.Total)
		}
		rows = append(rows, row)
	}
	if len(list) > 1 {
		row := []string{"all", strconv.Itoa(nodes), money(sum.NodeHours), "", "", "", "", ""}
		if priced {
			row[5], row[6] = money(sum.PerHour), money(sum.Total)
		}
		rows = append(rows, row)
	}
	text := table([]string{"Group", "Nodes", "Node-Hours", "Idle", "Price", "Cost/h", "Cost", "Not Known"}, rows)
	if !priced {
		text += "\nNo group has a price: with price = ... in its worker_group block its costs are shown.\n"
	}
	return text
}

func idleCell(g groupCosts) string {
	if g.Nodes == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*g.Cost.IdleShare)
}
