package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

type statusCommand struct {
	*command
	verbose bool
	stale   bool
}

func newStatusCommand(b *base) cli.Command {
	c := &statusCommand{command: newCommand(b, "status", helpText{
		synopsis: "Show applications and how they are",
		args:     "[application]",
		about: "Without an argument, lists the applications. With one, shows its deployments\n" +
			"and replicas, where they run, and why any of them are missing.",
		examples: "$ serve-nomad status\n$ serve-nomad status search\n$ serve-nomad status -json search | jq .status",
	})}
	c.maxArgs, c.args, c.run = 1, c.predictApplications(), c.status
	c.flags.BoolVar(&c.verbose, "verbose", false, "Show whole ids.")
	c.flags.BoolVar(&c.stale, "stale", false, "Let the server answer from what it knows itself, also when no server leads.")
	return c
}

func (c *statusCommand) status(ctx context.Context, args []string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	query := api.Query{Stale: c.stale}
	if len(args) == 0 {
		list, _, err := client.Applications(ctx, query)
		if err != nil {
			return err
		}
		c.showAll(list, time.Now())
		if !c.json {
			c.printf("%s", c.groups(ctx, client, query))
		}
		return nil
	}
	app, _, err := client.Application(ctx, args[0], query)
	if err != nil {
		return err
	}
	c.showOne(app, time.Now())
	return nil
}

func (c *statusCommand) showAll(list []reconcile.ApplicationStatus, now time.Time) {
	if c.json {
		c.printJSON(list)
		return
	}
	if len(list) == 0 {
		c.printf("No applications. Deploy one: serve-nomad deploy <file.hcl>\n")
		return
	}
	var rows [][]string
	for _, a := range list {
		healthy, target := servingReplicas(a)
		rows = append(rows, []string{
			a.Name, string(a.Status), a.RoutePrefix, versionCell(a),
			strconv.Itoa(countDeployments(a)), fmt.Sprintf("%d/%d", healthy, target), missingReasons(a, now),
		})
	}
	c.printf("%s", table([]string{"Name", "Status", "Route", "Version", "Deployments", "Healthy", "Reason"}, rows))
}

// groups is a line about the worker groups, "" when there are none.
func (c *statusCommand) groups(ctx context.Context, client *api.Client, query api.Query) string {
	list, _, err := client.WorkerGroups(ctx, query)
	if err != nil {
		return "\nThe worker groups are not known: " + printable(err.Error()) + "\n"
	}
	line := groupsLine(list)
	if line == "" {
		return ""
	}
	return "\n" + line
}

// servingReplicas counts the replicas that take traffic.
func servingReplicas(a reconcile.ApplicationStatus) (healthy, target int) {
	for _, d := range a.Deployments {
		if d.Serving {
			healthy, target = healthy+d.Healthy, target+d.Target
		}
	}
	return healthy, target
}

func countDeployments(a reconcile.ApplicationStatus) int {
	names := map[string]bool{}
	for _, d := range a.Deployments {
		names[d.Name] = true
	}
	return len(names)
}

func versionCell(a reconcile.ApplicationStatus) string {
	if a.Version == a.ServingVersion {
		return strconv.Itoa(a.Version)
	}
	return fmt.Sprintf("%d (%d serves)", a.Version, a.ServingVersion)
}

func (c *statusCommand) showOne(a reconcile.ApplicationStatus, now time.Time) {
	if c.json {
		c.printJSON(a)
		return
	}
	deployed := ago(now, a.DeployedAt)
	if a.By != "" {
		deployed += " by " + a.By
	}
	c.printf("%s", pairs([][2]string{
		{"Name", a.Name},
		{"Status", string(a.Status)},
		{"Reason", missingReasons(a, now)},
		{"Route", a.RoutePrefix},
		{"Ingress", a.Ingress},
		{"Version", versionCell(a)},
		{"Rollout", rolloutCell(a)},
		{"Strategy", strategyCell(a)},
		{"Requests", requestsCell(a)},
		{"Paused", pausedCell(a, now)},
		{"Waits For", waitsCell(a)},
		{"Gates", a.Gates},
		{"Deployed", deployed},
		{"Message", a.Message},
		{"Modify Index", strconv.FormatUint(a.ModifyIndex, 10)},
	}))
	c.printf("\nDeployments\n%s", deploymentTable(a, now))
	if leaving := leavingTable(a); leaving != "" {
		c.printf("\nLeaving\n%s", leaving)
	}
	if scaling := autoscalingTable(a, now); scaling != "" {
		c.printf("\nAutoscaling\n%s", scaling)
	}
	if replicas := c.replicaTable(a, now); replicas != "" {
		c.printf("\nReplicas\n%s", replicas)
	}
}

func deploymentTable(a reconcile.ApplicationStatus, now time.Time) string {
	var rows [][]string
	for _, d := range a.Deployments {
		rows = append(rows, []string{
			d.Name, d.Version, string(d.Status), trafficCell(a, d), strconv.Itoa(d.Target), strconv.Itoa(d.Healthy),
			strconv.Itoa(d.Starting), strconv.Itoa(d.Unplaced), strconv.Itoa(d.Failed), cmp.Or(d.Reason, missingReason(d, now)),
		})
	}
	return table([]string{"Deployment", "Version", "Status", "Traffic", "Target", "Healthy", "Starting", "Unplaced", "Failed", "Reason"}, rows)
}

// autoscalingTable says how targets are set that people do not set, and what
// set them last.
func autoscalingTable(a reconcile.ApplicationStatus, now time.Time) string {
	var rows [][]string
	for _, d := range a.Deployments {
		s := d.Autoscaling
		if s == nil {
			continue
		}
		row := []string{d.Name, d.Version, s.Policy, boundsCell(s), strconv.Itoa(d.Target), "", "", "", ""}
		if last := s.Last; last != nil {
			row = append(row[:5], fmt.Sprintf("%d -> %d", last.From, last.To), ago(now, last.At), last.By, last.Reason)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ""
	}
	return table([]string{"Deployment", "Version", "Policy", "Bounds", "Target", "Last Change", "Changed", "By", "Why"}, rows)
}

func boundsCell(s *reconcile.AutoscalingStatus) string {
	bounds := fmt.Sprintf("%d..%d", s.Min, s.Max)
	if s.Schedules > 0 {
		bounds += ", " + plural(s.Schedules, "schedule")
	}
	return bounds
}

// trafficCell says whether replicas get requests, and of a generation beside
// another one which share. In a rolling change those that pass share them.
func trafficCell(a reconcile.ApplicationStatus, d reconcile.DeploymentStatus) string {
	beside := a.Weight > 0 && a.Version != a.ServingVersion
	switch {
	case beside && d.Wanted && !d.Serving:
		return percent(a.Weight)
	case beside && d.Serving && !d.Wanted:
		return percent(100 - a.Weight)
	case d.Serving:
		return "yes"
	case !d.Wanted, a.Rollout.Status == raftstate.RolloutFailed && a.ServingVersion != 0:
		return "no longer"
	case a.Rollout.Strategy == appspec.StrategyRolling && d.Healthy > 0:
		return "yes"
	default:
		return "not yet"
	}
}

func percent(n int) string { return strconv.Itoa(n) + " %" }

// rolloutCell says how far the newest version is: "running, stage 2 of 5 (10
// percent)".
func rolloutCell(a reconcile.ApplicationStatus) string {
	text := string(a.Rollout.Status)
	if stage := stageText(a); stage != "" && a.Rollout.Status == raftstate.RolloutRunning {
		text += ", " + stage
	}
	if a.Rollout.Promoted && a.Rollout.Status == raftstate.RolloutRunning {
		text += ", promoted"
	}
	if a.Rollout.Reason != "" {
		text += ": " + a.Rollout.Reason
	}
	return text
}

func strategyCell(a reconcile.ApplicationStatus) string {
	if a.Rollout.Why == "" {
		return string(a.Rollout.Strategy)
	}
	return string(a.Rollout.Strategy) + ": " + a.Rollout.Why
}

// requestsCell says which share of the requests a generation takes beside
// another; "" where there is one.
func requestsCell(a reconcile.ApplicationStatus) string {
	if a.Weight == 0 || a.Version == a.ServingVersion {
		return ""
	}
	return fmt.Sprintf("%s to version %d, %s to version %d", percent(a.Weight), a.Version, percent(100-a.Weight), a.ServingVersion)
}

// waitsCell says what a rollout waits for, other than for whoever paused it.
func waitsCell(a reconcile.ApplicationStatus) string {
	if a.Rollout.Paused != nil {
		return ""
	}
	return a.Waits
}

func pausedCell(a reconcile.ApplicationStatus, now time.Time) string {
	p := a.Rollout.Paused
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s %s (%s resume, promote or abort %s)", ago(now, p.At), pauseText(p), program, a.Name)
}

func leavingTable(a reconcile.ApplicationStatus) string {
	var rows [][]string
	for _, l := range a.Leaving {
		generation := ""
		if l.Generation != 0 {
			generation = strconv.Itoa(l.Generation)
		}
		rows = append(rows, []string{strconv.Itoa(l.Version), generation, string(l.Cause), l.Waits})
	}
	if len(rows) == 0 {
		return ""
	}
	return table([]string{"Version", "Generation", "Cause", "Waits For"}, rows)
}

func (c *statusCommand) replicaTable(a reconcile.ApplicationStatus, now time.Time) string {
	var rows [][]string
	for _, d := range a.Deployments {
		for _, r := range d.Replicas {
			id, health := r.ID, "no"
			if !c.verbose {
				id = short(id)
			}
			if r.Healthy {
				health = "yes"
			}
			rows = append(rows, []string{
				id, d.Name, d.Version, string(r.Status), health, r.Node, r.Address,
				strconv.Itoa(r.Restarts), ago(now, r.CreatedAt), r.Reason,
			})
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return table([]string{"ID", "Deployment", "Version", "Status", "Healthy", "Node", "Address", "Restarts", "Created", "Reason"}, rows)
}

// counts says in words how far a deployment is: "2/4 healthy, 1 starting".
func counts(d reconcile.DeploymentStatus) string {
	parts := []string{fmt.Sprintf("%d/%d healthy", d.Healthy, d.Target)}
	for _, p := range []struct {
		n    int
		what string
	}{{d.Starting, "starting"}, {d.Unplaced, "unplaced"}, {d.Failed, "failed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}
