package main

import (
	"context"
	"io"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type logsCommand struct {
	*command
	follow  bool
	stderr  bool
	tail    int
	replica string
}

func newLogsCommand(b *base) cli.Command {
	c := &logsCommand{command: newCommand(b, "logs", helpText{
		synopsis: "Show what a replica writes",
		args:     "<application> <deployment>",
		about: "Prints the standard output of a deployment's newest replica, or of the one\n" +
			"that -replica names. Logs stay in Nomad; this reads them from there.",
		examples: "$ serve-nomad logs search ranker\n$ serve-nomad logs -f -tail 20 search ranker\n" +
			"$ serve-nomad logs -stderr -replica 5f3a9c1e search ranker",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 2, 2, c.predictApplications(), c.logs
	c.flags.BoolVar(&c.follow, "f", false, "Go on as the replica writes more, until interrupted.")
	c.flags.BoolVar(&c.stderr, "stderr", false, "Show standard error instead of standard output.")
	c.flags.IntVar(&c.tail, "tail", 0, "Begin at the last `n` lines. Default: everything that Nomad has kept.")
	c.flags.StringVar(&c.replica, "replica", "", "`ID` of the replica, or the beginning of it. Default: the newest.")
	return c
}

// logOutput is what logs -json prints.
type logOutput struct {
	Replica string `json:"replica"`
	Stream  string `json:"stream"`
	Log     string `json:"log"`
}

func (c *logsCommand) logs(ctx context.Context, args []string) error {
	switch {
	case c.tail < 0:
		return wrongUse("-tail must be from 1, not %d", c.tail)
	case c.json && c.follow:
		return wrongUse("-json and -f do not go together: a log that goes on is not one JSON value")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	query := api.LogQuery{
		Application: args[0], Deployment: args[1], Replica: c.replica, Stream: "stdout", Follow: c.follow, Tail: c.tail,
	}
	if c.stderr {
		query.Stream = "stderr"
	}
	log, err := client.Logs(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // it was only read
	if c.json {
		data, err := io.ReadAll(log)
		if err != nil {
			return err
		}
		c.printJSON(logOutput{Replica: log.Replica, Stream: query.Stream, Log: string(data)})
		return nil
	}
	_, err = io.Copy(c.stdout, log)
	if ctx.Err() != nil {
		return exitWith(exitStopped)
	}
	return err
}
