package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// steerCommand is promote, pause, resume and abort.
type steerCommand struct {
	*command
	action  raftstate.RolloutAction
	message string
}

func newSteerCommand(b *base, action raftstate.RolloutAction, help helpText) cli.Command {
	help.args = "<application>"
	name := string(action)
	help.examples = fmt.Sprintf("$ serve-nomad %s search\n$ serve-nomad %s -message \"%s\" search", name, name, help.examples)
	help.exits = "0  it is recorded\n1  there is no such application, nothing rolls out, or no server answers; why is\n   on standard error\n" +
		"2  the command line is wrong; nothing was done\n130  interrupted"
	c := &steerCommand{action: action, command: newCommand(b, name, help)}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictApplications(), c.steer
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	return c
}

func newPromoteCommand(b *base) cli.Command {
	return newSteerCommand(b, raftstate.ActionPromote, helpText{
		synopsis: "Let a rollout go to its end without waiting",
		about: "The version that rolls out takes over without waiting for the times of the\n" +
			"stages, and without its gates. What it does wait for is that its replicas pass\n" +
			"their health checks. A rollout that is paused goes on.",
		examples: "it is good",
	})
}

func newPauseCommand(b *base) cli.Command {
	return newSteerCommand(b, raftstate.ActionPause, helpText{
		synopsis: "Keep a rollout in the stage that it is in",
		about: "The rollout stays where it is: old and new version go on with the requests that\n" +
			"each of them gets. Time that it is paused does not count for its stage. resume,\n" +
			"promote and abort end the pause.",
		examples: "a closer look",
	})
}

func newResumeCommand(b *base) cli.Command {
	return newSteerCommand(b, raftstate.ActionResume, helpText{
		synopsis: "Let a paused rollout go on",
		about:    "The rollout goes on in the stage in which it was paused.",
		examples: "all is well",
	})
}

func newAbortCommand(b *base) cli.Command {
	return newSteerCommand(b, raftstate.ActionAbort, helpText{
		synopsis: "End a rollout: the version before goes on serving",
		about: "The version that rolls out gets no more requests, finishes those that it has, and\n" +
			"goes. The one before never stopped serving. To go back once a rollout is over:\n" +
			"rollback.",
		examples: "wrong numbers",
	})
}

func (c *steerCommand) steer(ctx context.Context, args []string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	status, _, err := client.Application(ctx, args[0], api.Query{})
	if err != nil {
		return err
	}
	if status.Status == reconcile.Deleting {
		return fmt.Errorf("application %q is being deleted: there is no rollout to %s", args[0], c.action)
	}
	req := api.SteerRequest{Message: c.message, By: c.by()}
	if status.Rollout.Status == raftstate.RolloutRunning {
		req.Version = status.Version // and none that is deployed in this moment
	}
	answer, err := client.Steer(ctx, args[0], c.action, req)
	if err != nil {
		return err
	}
	if c.json {
		c.printJSON(answer)
		return nil
	}
	what := fmt.Sprintf("Application %s: version %d", args[0], answer.Version)
	look := fmt.Sprintf("Follow it: %s status %s", program, args[0])
	switch c.action {
	case raftstate.ActionPause:
		where := stageText(status)
		if where != "" {
			where = " in " + where
		}
		c.printf("%s is paused%s. To go on: %s resume %s\n", what, where, program, args[0])
	case raftstate.ActionResume:
		c.printf("%s goes on. %s\n", what, look)
	case raftstate.ActionPromote:
		c.printf("%s takes over without waiting. %s\n", what, look)
	case raftstate.ActionAbort:
		c.printf("%s is rolled back, version %d serves. %s\n", what, status.ServingVersion, look)
	}
	return nil
}
