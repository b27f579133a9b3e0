package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

type historyCommand struct {
	*command
	version string
}

func newHistoryCommand(b *base) cli.Command {
	c := &historyCommand{command: newCommand(b, "history", helpText{
		synopsis: "Show the versions of an application and what became of them",
		args:     "<application>",
		about: "Lists the versions of an application, newest first: when and by whom each was\n" +
			"deployed, how it was to take over, and what came of it. The last 20 are kept.",
		examples: "$ serve-nomad history search\n$ serve-nomad history -version 12 search | jq .deployments",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 1, c.predictApplications(), c.history
	c.flags.StringVar(&c.version, "version", "", "Print the spec of this version, a `number`, as JSON.")
	return c
}

func (c *historyCommand) history(ctx context.Context, args []string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.given("version") {
		number, err := versionNumber(c.version)
		if err != nil {
			return err
		}
		spec, err := client.Spec(ctx, args[0], number)
		if err != nil {
			return err
		}
		c.printJSON(spec)
		return nil
	}
	list, err := client.History(ctx, args[0])
	if err != nil {
		return err
	}
	if c.json {
		c.printJSON(list)
		return nil
	}
	c.printf("%s", historyTable(list))
	return nil
}

func historyTable(list []api.VersionInfo) string {
	var rows [][]string
	for _, v := range list {
		rows = append(rows, []string{
			strconv.Itoa(v.Version), v.At.Local().Format(time.DateTime), v.By, string(v.Rollout.Strategy), outcomeCell(v), standing(v), v.Message,
		})
	}
	return table([]string{"Version", "Deployed", "By", "Strategy", "Outcome", "Now", "Message"}, rows)
}

// outcomeCell says how a version's rollout ended, and why.
func outcomeCell(v api.VersionInfo) string {
	text := string(v.Rollout.Status)
	switch {
	case v.Rollout.Status == raftstate.RolloutRunning && !v.Wanted:
		return "superseded before its end"
	case v.Rollout.Status == raftstate.RolloutRunning && v.Rollout.Paused != nil:
		return "paused " + pauseText(v.Rollout.Paused)
	case v.Rollout.Reason != "":
		text += ": " + v.Rollout.Reason
	}
	return text
}

// standing says what a version is now.
func standing(v api.VersionInfo) string {
	var words []string
	if v.Serving {
		words = append(words, "serves")
	}
	if v.Wanted {
		words = append(words, "wanted")
	}
	if v.Leaving != "" {
		words = append(words, "leaves")
	}
	return strings.Join(words, ", ")
}
