package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

type eventsCommand struct {
	*command
	follow bool
}

func newEventsCommand(b *base) cli.Command {
	c := &eventsCommand{command: newCommand(b, "events", helpText{
		synopsis: "Show what was decided and what happened",
		args:     "[application]",
		about: "Lists what people and the controller decided, and what the controller saw in\n" +
			"Nomad and Consul of late, oldest first.",
		examples: "$ serve-nomad events\n$ serve-nomad events -f search\n$ serve-nomad events -f -json | jq .message",
	})}
	c.maxArgs, c.args, c.run = 1, c.predictApplications(), c.events
	c.flags.BoolVar(&c.follow, "f", false, "Go on with each event as it comes, until interrupted. With -json, one object a line.")
	return c
}

func (c *eventsCommand) events(ctx context.Context, args []string) error {
	application := ""
	if len(args) == 1 {
		application = args[0]
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.follow {
		err := client.FollowEvents(ctx, application, c.show)
		if ctx.Err() != nil {
			return exitWith(exitStopped)
		}
		return err
	}
	list, _, err := client.Events(ctx, application, api.Query{})
	if err != nil {
		return err
	}
	if application != "" && len(list) == 0 {
		if _, _, err = client.Application(ctx, application, api.Query{}); err != nil {
			return err // there is none of that name, and there was none of late
		}
	}
	if c.json {
		c.printJSON(list)
		return nil
	}
	var rows [][]string
	for _, e := range list {
		rows = append(rows, eventRow(e))
	}
	if len(rows) > 0 {
		c.printf("%s", table([]string{"Time", "Type", "Subject", "By", "Message"}, rows))
	}
	return nil
}

// show prints one event of a stream.
func (c *eventsCommand) show(e raftstate.Event) error {
	if c.json {
		return c.printJSONLine(e)
	}
	r := eventRow(e)
	words := []string{r[0], r[1], r[2], r[4]}
	if r[3] != "" {
		words = append(words, "("+r[3]+")")
	}
	line := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "  ")
	c.printf("%s\n", printable(line))
	return nil
}

func eventRow(e raftstate.Event) []string {
	subject := e.Application
	if e.Deployment != "" {
		subject += "/" + e.Deployment
	}
	subject = cmp.Or(subject, e.Node, e.WorkerGroup)
	return []string{e.At.Local().Format(time.DateTime), e.Type, subject, e.By, e.Message}
}
