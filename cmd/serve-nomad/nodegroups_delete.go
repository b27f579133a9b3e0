package main

import (
	"context"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type nodeGroupsDeleteCommand struct {
	*command
	message string
	detach  bool
}

func newNodeGroupsDeleteCommand(b *base) cli.Command {
	c := &nodeGroupsDeleteCommand{command: newCommand(b, "node-groups delete", helpText{
		synopsis: "Delete a worker group and its nodes",
		args:     "<group>",
		about: "Ends a worker group: its nodes are drained and removed, and it is forgotten. Nodes\n" +
			"that somebody else made stay. It is refused while a deployment names the group.\n" +
			"Waits until the last node is gone.",
		examples: "$ serve-nomad node-groups delete gpu\n$ serve-nomad node-groups delete -detach gpu",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictGroups(), c.delete
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	c.flags.BoolVar(&c.detach, "detach", false, "Return when the deletion is recorded, and do not wait for its end.")
	return c
}

func (c *nodeGroupsDeleteCommand) delete(ctx context.Context, args []string) error {
	name := args[0]
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.DeleteWorkerGroup(ctx, name, api.DeleteRequest{Message: c.message, By: c.by()})
	if err != nil {
		return err
	}
	if !c.detach {
		if err := c.waitUntilGone(ctx, client, name); err != nil {
			if ctx.Err() != nil {
				c.errorf("Interrupted: the deletion goes on at the server. Follow it: serve-nomad node-groups explain %s", name)
				return exitWith(exitStopped)
			}
			return err
		}
	}
	switch {
	case c.json:
		c.printJSON(answer)
	case c.detach:
		c.printf("Worker group %s is being deleted. Follow it: serve-nomad node-groups explain %s\n", name, name)
	default:
		c.printf("Worker group %s is gone.\n", name)
	}
	return nil
}

func (c *nodeGroupsDeleteCommand) waitUntilGone(ctx context.Context, client *api.Client, name string) error {
	var query api.Query
	last := ""
	for {
		group, index, err := client.WorkerGroup(ctx, name, query)
		if api.CodeNotFound.Is(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if !group.Deleting {
			return &api.Error{Code: api.CodeConflict, Message: "worker group " + name + " was deployed again while it was being deleted"}
		}
		if line := "nodes left: " + nodesCell(group.WorkerGroupStatus); line != last && !c.json {
			c.printf("  %s\n", printable(line))
			last = line
		}
		query.Index = index
	}
}
