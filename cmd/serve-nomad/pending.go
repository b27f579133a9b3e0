package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func newPendingCommand(b *base) cli.Command {
	c := newCommand(b, "pending", helpText{
		synopsis: "Show the replicas that have no place, and what is done about it",
		args:     "[<application>[/<deployment>]]",
		about: "Lists the replicas for which Nomad has no room: for how many a node is on its way,\n" +
			"how many fit on one that is there, and how many no worker group could ever hold,\n" +
			"each with the reason. With an argument, shows what each worker group says of them.",
		examples: "$ serve-nomad pending\n$ serve-nomad pending search/ranker\n$ serve-nomad pending -json | jq '.pending[].reason'",
	})
	c.maxArgs, c.args = 1, c.predictDeployments()
	c.run = func(ctx context.Context, args []string) error {
		wanted := ""
		if len(args) > 0 {
			wanted = args[0]
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		list, err := client.Pending(ctx)
		if err != nil {
			return err
		}
		list.Pending = slices.DeleteFunc(list.Pending, func(p nodescale.PendingReport) bool { return !isOf(p, wanted) })
		switch {
		case c.json:
			c.printJSON(list)
		case len(list.Pending) == 0 && wanted != "":
			if err = exists(ctx, client, wanted); err != nil {
				return err
			}
			c.printf("Every replica of %s has a place.\n", printable(wanted))
		case len(list.Pending) == 0:
			c.printf("Every replica has a place.\n")
		case wanted != "":
			c.printf("%s", pendingDetails(list.Pending, list.At))
		default:
			c.printf("%s", pendingTable(list.Pending, list.At))
		}
		return nil
	}
	return c
}

// isOf says whether p is of the application, or of the deployment
// "application/deployment"; "" is all.
func isOf(p nodescale.PendingReport, wanted string) bool {
	application, deployment, named := strings.Cut(wanted, "/")
	return wanted == "" || p.Application == application && (!named || p.Deployment == deployment)
}

// exists returns an error unless there is such an application, or a deployment
// "application/deployment" of it.
func exists(ctx context.Context, client *api.Client, wanted string) error {
	name, deployment, named := strings.Cut(wanted, "/")
	app, _, err := client.Application(ctx, name, api.Query{})
	if err != nil {
		return err
	}
	if named && !slices.ContainsFunc(app.Deployments, func(d reconcile.DeploymentStatus) bool { return d.Name == deployment }) {
		return fmt.Errorf("application %q has no deployment %q", name, deployment)
	}
	return nil
}

func pendingTable(list []nodescale.PendingReport, at time.Time) string {
	var rows [][]string
	for _, p := range list {
		rows = append(rows, []string{
			pendingName(p), strconv.Itoa(p.Count), waitedFor(p, at), count(p.Placeable), count(p.Coming), count(p.Never), p.Reason,
		})
	}
	return table([]string{"Deployment", "Replicas", "For", "Fit Now", "Node Coming", "Never", "Reason"}, rows)
}

// pendingDetails shows each deployment version with what the groups say of it.
func pendingDetails(list []nodescale.PendingReport, at time.Time) string {
	var text strings.Builder
	for i, p := range list {
		if i > 0 {
			text.WriteString("\n")
		}
		text.WriteString(pairs([][2]string{
			{"Deployment", pendingName(p)},
			{"Job", p.Job},
			{"Replicas", strconv.Itoa(p.Count) + " without a place"},
			{"For", waitedFor(p, at)},
			{"Fit Now", count(p.Placeable)},
			{"Node Coming", count(p.Coming)},
			{"Never", count(p.Never)},
			{"Why", p.Reason},
		}))
		var rows [][]string
		for _, group := range sortedKeys(p.Groups) {
			rows = append(rows, []string{group, p.Groups[group]})
		}
		if len(rows) > 0 {
			text.WriteString("\n" + table([]string{"Worker Group", "Says"}, rows))
		}
	}
	return text.String()
}

// waitedFor is how long replicas have had no place, "" when that is not known.
func waitedFor(p nodescale.PendingReport, at time.Time) string {
	if p.Since.IsZero() {
		return ""
	}
	return brief(max(0, at.Sub(p.Since)))
}

// pendingName is a deployment, or what else waits for a place.
func pendingName(p nodescale.PendingReport) string {
	if p.Application == "" {
		return p.Job
	}
	return p.Application + "/" + p.Deployment
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
