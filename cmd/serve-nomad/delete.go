package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

type deleteCommand struct {
	*command
	message string
	detach  bool
}

func newDeleteCommand(b *base) cli.Command {
	c := &deleteCommand{command: newCommand(b, "delete", helpText{
		synopsis: "Delete an application",
		args:     "<application>",
		about: "Ends an application: it gets no more traffic, its replicas finish what they\n" +
			"began and stop, its jobs are taken out of Nomad. Waits until all of it is gone.",
		examples: "$ serve-nomad delete search\n$ serve-nomad delete -detach search",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictApplications(), c.delete
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	c.flags.BoolVar(&c.detach, "detach", false, "Return when the deletion is recorded, and do not wait for its end.")
	return c
}

func (c *deleteCommand) delete(ctx context.Context, args []string) error {
	name := args[0]
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.Delete(ctx, name, api.DeleteRequest{Message: c.message, By: c.by()})
	if api.CodeNotFound.Is(err) {
		if _, _, gerr := client.WorkerGroup(ctx, name, api.Query{}); gerr == nil {
			return fmt.Errorf("%w, but there is a worker group %q: serve-nomad node-groups delete %s", err, name, name)
		}
	}
	if err != nil {
		return err
	}
	if !c.detach {
		if !c.json {
			c.printf("Application %s gets no more traffic; its replicas stop.\n", name)
		}
		if err := c.waitUntilGone(ctx, client, name); err != nil {
			if ctx.Err() != nil {
				c.errorf("Interrupted: the deletion goes on at the server. Follow it: serve-nomad status %s", name)
				return exitWith(exitStopped)
			}
			return err
		}
	}
	switch {
	case c.json:
		c.printJSON(answer)
	case c.detach:
		c.printf("Application %s is being deleted. Follow it: serve-nomad status %s\n", name, name)
	default:
		c.printf("Application %s is gone.\n", name)
	}
	return nil
}

func (c *deleteCommand) waitUntilGone(ctx context.Context, client *api.Client, name string) error {
	var query api.Query
	last := ""
	for {
		app, index, err := client.Application(ctx, name, query)
		if api.CodeNotFound.Is(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if app.Status != reconcile.Deleting {
			return &api.Error{Code: api.CodeConflict, Message: "application " + name + " was deployed again while it was being deleted"}
		}
		left := 0
		for _, d := range app.Deployments {
			left += len(d.Replicas)
		}
		if line := plural(left, "replica") + " left"; line != last && left > 0 && !c.json {
			c.printf("  %s\n", line)
			last = line
		}
		query.Index = index
	}
}
