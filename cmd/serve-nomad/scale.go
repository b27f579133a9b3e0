package main

import (
	"context"
	"strconv"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type scaleCommand struct {
	*command
	message string
}

func newScaleCommand(b *base) cli.Command {
	c := &scaleCommand{command: newCommand(b, "scale", helpText{
		synopsis: "Set the number of replicas of a deployment",
		args:     "<application> <deployment> <replicas>",
		about: "Sets how many replicas a deployment shall have, until the next deploy says\n" +
			"otherwise. A deployment with an autoscaling block scales by itself and refuses\n" +
			"this, unless its policy is \"external\": then the number must be within the\n" +
			"block's bounds, and the next deploy keeps it. Returns when the number is\n" +
			"recorded; status shows how it comes about.",
		examples: "$ serve-nomad scale search ranker 4\n$ serve-nomad scale -message \"sale tomorrow\" search ranker 8",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 3, 3, c.predictApplications(), c.scale
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	return c
}

func (c *scaleCommand) scale(ctx context.Context, args []string) error {
	replicas, err := strconv.Atoi(args[2])
	if err != nil || replicas < 0 {
		return wrongUse("the number of replicas must be a whole number from 0, not %q", args[2])
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.Scale(ctx, args[0], args[1], api.ScaleRequest{Replicas: replicas, Message: c.message, By: c.by()})
	if err != nil {
		return err
	}
	if c.json {
		c.printJSON(answer)
		return nil
	}
	c.printf("Deployment %s/%s is to have %s. Follow it: serve-nomad status %s\n", args[0], args[1], plural(replicas, "replica"), args[0])
	return nil
}
