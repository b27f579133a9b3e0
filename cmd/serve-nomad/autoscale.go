package main

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/cli"
)

// newAutoscaleCommand returns what stands before the commands about
// autoscaling.
func newAutoscaleCommand(b *base) cli.Command {
	var known []string
	for name := range commands() {
		if second, ok := strings.CutPrefix(name, "autoscale "); ok {
			known = append(known, second)
		}
	}
	slices.Sort(known)
	c := newLocalCommand(b, "autoscale", helpText{
		synopsis: "Explain and rehearse what the autoscaler does",
		args:     strings.Join(known, " | ") + " [...]",
		about: "autoscale explain shows why a deployment has as many replicas as it has, and what\ncomes next. " +
			"autoscale record writes down the load of one that runs, and autoscale\nreplay runs an autoscaling block over such a record or an invented load, offline.",
		examples: "$ serve-nomad autoscale explain search/ranker\n$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load load.jsonl",
	})
	c.run = func(_ context.Context, args []string) error {
		if len(args) == 0 {
			return wrongUse("something is missing: it takes %s", c.help.args)
		}
		return noSecond(c.name, args[0])
	}
	return c
}
