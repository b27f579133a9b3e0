package main

import (
	"context"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type nodeGroupsDeleteCommand struct{ deletion }

func newNodeGroupsDeleteCommand(b *base) cli.Command {
	c := &nodeGroupsDeleteCommand{deletion{command: newCommand(b, "node-groups delete", helpText{
		synopsis: "Delete a worker group and its nodes",
		args:     "<group>",
		about: "Ends a worker group: its nodes are drained and removed, and it is forgotten. Nodes\n" +
			"that somebody else made stay. It is refused while a deployment names the group.\n" +
			"Waits until the last node is gone.",
		examples: "$ serve-nomad node-groups delete gpu\n$ serve-nomad node-groups delete -detach gpu",
	})}}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictGroups(), c.delete
	c.register()
	return c
}

func (c *nodeGroupsDeleteCommand) delete(ctx context.Context, args []string) error {
	name := args[0]
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.DeleteWorkerGroup(ctx, name, c.request())
	if err != nil {
		return err
	}
	return c.end(ctx, deleted{"Worker group " + name, "serve-nomad node-groups explain " + name, answer, func(ctx context.Context, q api.Query) (string, uint64, error) {
		return nodesLeft(ctx, client, name, q)
	}})
}

// nodesLeft says which nodes a worker group that is being deleted still has.
func nodesLeft(ctx context.Context, client *api.Client, name string, q api.Query) (line string, index uint64, err error) {
	group, index, err := client.WorkerGroup(ctx, name, q)
	if err != nil {
		return "", 0, err
	}
	if !group.Deleting {
		return "", 0, deployedAgain("worker group " + name)
	}
	return printable("nodes left: " + nodesCell(group.WorkerGroupStatus)), index, nil
}
