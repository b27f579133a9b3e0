package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

type deleteCommand struct{ deletion }

func newDeleteCommand(b *base) cli.Command {
	c := &deleteCommand{deletion{command: newCommand(b, "delete", helpText{
		synopsis: "Delete an application",
		args:     "<application>",
		about: "Ends an application: it gets no more traffic, its replicas finish what they\n" +
			"began and stop, its jobs are taken out of Nomad. Waits until all of it is gone.",
		examples: "$ serve-nomad delete search\n$ serve-nomad delete -detach search",
	})}}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictApplications(), c.delete
	c.register()
	return c
}

func (c *deleteCommand) delete(ctx context.Context, args []string) error {
	name := args[0]
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.Delete(ctx, name, c.request())
	if api.CodeNotFound.Is(err) {
		if _, _, gerr := client.WorkerGroup(ctx, name, api.Query{}); gerr == nil {
			return fmt.Errorf("%w, but there is a worker group %q: serve-nomad node-groups delete %s", err, name, name)
		}
	}
	if err != nil {
		return err
	}
	if !c.detach && !c.json {
		c.printf("Application %s gets no more traffic; its replicas stop.\n", name)
	}
	return c.end(ctx, deleted{"Application " + name, "serve-nomad status " + name, answer, func(ctx context.Context, q api.Query) (string, uint64, error) {
		return replicasLeft(ctx, client, name, q)
	}})
}

// replicasLeft says how many replicas an application that is being deleted still
// has.
func replicasLeft(ctx context.Context, client *api.Client, name string, q api.Query) (line string, index uint64, err error) {
	app, index, err := client.Application(ctx, name, q)
	if err != nil {
		return "", 0, err
	}
	if app.Status != reconcile.Deleting {
		return "", 0, deployedAgain("application " + name)
	}
	left := 0
	for _, d := range app.Deployments {
		left += len(d.Replicas)
	}
	if left > 0 {
		line = plural(left, "replica") + " left"
	}
	return line, index, nil
}
