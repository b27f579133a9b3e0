package main

import (
	"context"
	"strconv"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type rollbackCommand struct {
	follow
	force bool
	check string
}

func newRollbackCommand(b *base) cli.Command {
	c := &rollbackCommand{follow: follow{what: "rollback", command: newCommand(b, "rollback", helpText{
		synopsis: "Deploy an earlier version of an application again",
		args:     "<application> [version]",
		about: "Makes the spec of an earlier version the wanted one again, as a new version: by\n" +
			"default the last one that was healthy before the one that serves. While a version\n" +
			"rolls out, that is the one which serves, and its replicas are still there. Waits\n" +
			"and shows each stage, as deploy does. history lists the versions; the last 20 are\n" +
			"kept.",
		examples: "$ serve-nomad rollback search\n$ serve-nomad rollback -message \"the new ranker forgets\" search 12",
		exits: "0  the application is healthy; with -detach: the rollback is recorded\n" +
			"1  there is no such version, the rollback was refused, it did not get healthy,\n   or -timeout is over; why is on standard error\n" +
			"2  the command line is wrong; nothing was done\n130  interrupted; what was recorded goes on at the server",
	})}}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 2, c.predictApplications(), c.rollback
	c.register()
	c.flags.StringVar(&c.check, "check-index", "", "Roll back only if the application's modify index is still `index`, as status shows it. "+
		"Without it, the index is read when the command begins.")
	c.flags.BoolVar(&c.force, "force", false, "Roll back whatever was changed meanwhile.")
	return c
}

func (c *rollbackCommand) rollback(ctx context.Context, args []string) error {
	limit, err := c.limit(0)
	if err != nil {
		return err
	}
	req := api.RollbackRequest{Message: c.message, By: c.by()}
	if len(args) == 2 {
		if req.Version, err = versionNumber(args[1]); err != nil {
			return err
		}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if req.CheckIndex, err = c.index(ctx, client, args[0]); err != nil {
		return err
	}
	started := time.Now()
	answer, err := client.Rollback(ctx, args[0], req)
	if err != nil {
		if ctx.Err() != nil {
			c.errorf("Interrupted while the rollback was sent: look whether it was recorded with serve-nomad events.")
			return exitWith(exitStopped)
		}
		return err
	}
	return c.end(ctx, client, api.DeployResponse{
		Index: answer.Index, Applications: []api.Deployed{answer.Deployed}, WorkerGroups: []api.DeployedGroup{},
	}, started, limit)
}

// index is the modify index that the application must have; nil: any.
func (c *rollbackCommand) index(ctx context.Context, client *api.Client, application string) (*uint64, error) {
	switch {
	case c.check != "":
		index, err := strconv.ParseUint(c.check, 10, 64)
		if err != nil {
			return nil, wrongUse("-check-index must be a whole number, not %q", c.check)
		}
		return &index, nil
	case c.force:
		return nil, nil
	}
	status, _, err := client.Application(ctx, application, api.Query{})
	if err != nil {
		return nil, err
	}
	return &status.ModifyIndex, nil
}

// versionNumber reads the number of a version of an application.
func versionNumber(text string) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 {
		return 0, wrongUse("a version is a whole number from 1, not %q: history lists them", text)
	}
	return number, nil
}
