package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type rollbackCommand struct {
	follow
	force bool
	check string
	only  bool // say what it would do, and no more
}

func newRollbackCommand(b *base) cli.Command {
	c := &rollbackCommand{follow: follow{what: "rollback", command: newCommand(b, "rollback", helpText{
		synopsis: "Deploy an earlier version of an application again",
		args:     "<application> [version]",
		about: "Makes the spec of an earlier version the wanted one again, as a new version: by\n" +
			"default the last one that was healthy before the one that serves. While a version\n" +
			"rolls out, and after one has failed, that is the one which serves, whose replicas\n" +
			"are still there. Waits and shows each stage, as deploy does. history lists the\n" +
			"versions; the last 20 are kept. Refused before anything starts is a rollback to\n" +
			"replicas that no node could hold, were it empty.",
		examples: "$ serve-nomad rollback search\n$ serve-nomad rollback -plan search 12\n$ serve-nomad rollback -message \"the new ranker forgets\" search 12",
		exits: "0  the application is healthy; with -detach: the rollback is recorded;\n   with -plan: it would change nothing\n" +
			"1  there is no such version, the rollback was refused, it did not get healthy,\n   or -timeout is over; why is on standard error\n" +
			"2  the command line is wrong, and nothing was done; with -plan: it would change\n   something\n130  interrupted; what was recorded goes on at the server",
	})}}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 2, c.predictApplications(), c.rollback
	c.register()
	c.flags.StringVar(&c.check, "check-index", "", "Roll back only if the application's modify index is still `index`, as status shows it. "+
		"Without it, the index is read when the command begins.")
	c.flags.BoolVar(&c.force, "force", false, "Roll back whatever was changed meanwhile, and also to replicas that no node could hold: they wait for other nodes.")
	c.flags.BoolVar(&c.only, "plan", false, "Only say what the rollback would do, as plan says it of a deploy.")
	return c
}

func (c *rollbackCommand) rollback(ctx context.Context, args []string) error {
	if _, err := c.limit(0); err != nil {
		return err
	}
	req := api.RollbackRequest{Message: c.message, By: c.by()}
	var err error
	if len(args) == 2 {
		if req.Version, err = versionNumber(args[1]); err != nil {
			return err
		}
	}
	if req.CheckIndex, err = c.index(); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	plan, err := client.Plan(ctx, api.PlanRequest{Rollback: &api.PlanRollback{Application: args[0], Version: req.Version}})
	switch {
	case err == nil && c.only:
		return c.planned(plan, func() string { return rollbackAgain(plan, args) })
	case err != nil && c.force && !c.only && ctx.Err() == nil:
		c.errorf("Warning: what this would do cannot be told: %s", printable(err.Error()))
	case err != nil:
		return err
	}
	stages, err := c.placed(plan, c.force)
	if err != nil {
		return err
	}
	limit, err := c.limit(stages)
	if err != nil {
		return err
	}
	if req.CheckIndex == nil && !c.force {
		req.CheckIndex = indexIn(plan, args[0])
	}
	started := time.Now()
	answer, err := client.Rollback(ctx, args[0], req)
	if err != nil {
		if ctx.Err() != nil {
			c.errorf("Interrupted while the rollback was sent: look whether it was recorded with serve-nomad events.")
			return exitWith(exitStopped)
		}
		return c.advised(err)
	}
	return c.end(ctx, client, api.DeployResponse{
		Index: answer.Index, Applications: []api.Deployed{answer.Deployed}, WorkerGroups: []api.DeployedGroup{},
	}, started, limit)
}

// index is the modify index that the application must have by the command line;
// nil: it says none.
func (c *rollbackCommand) index() (*uint64, error) {
	if c.check == "" {
		return nil, nil
	}
	index, err := strconv.ParseUint(c.check, 10, 64)
	if err != nil {
		return nil, wrongUse("-check-index must be a whole number, not %q", c.check)
	}
	return &index, nil
}

// indexIn is the modify index that an application had when it was planned for.
func indexIn(plan api.PlanResponse, application string) *uint64 {
	for _, a := range plan.Applications {
		if a.Name == application {
			return &a.CheckIndex
		}
	}
	return nil
}

// rollbackAgain is the command that does what was planned.
func rollbackAgain(plan api.PlanResponse, args []string) string {
	again := []string{"rollback"}
	if index := indexIn(plan, args[0]); index != nil {
		again = append(again, "-check-index", strconv.FormatUint(*index, 10))
	}
	if plan.Room.Never() {
		again = append(again, "-force")
	}
	return strings.Join(append(again, args...), " ")
}

// versionNumber reads the number of a version of an application.
func versionNumber(text string) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 {
		return 0, wrongUse("a version is a whole number from 1, not %q: history lists them", text)
	}
	return number, nil
}
