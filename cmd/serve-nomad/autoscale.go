package main

import (
	"context"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// newAutoscaleCommand returns what stands before the commands about
// autoscaling.
func newAutoscaleCommand(b *base) cli.Command {
	known := []string{"replay"}
	c := newLocalCommand(b, "autoscale", helpText{
		synopsis: "Rehearse what the autoscaler does",
		args:     "replay [...]",
		about:    "autoscale replay runs a deployment's autoscaling block over a recorded or invented\nload, offline.",
		examples: "$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load load.jsonl",
	})
	c.args = complete.PredictSet(known...)
	c.run = func(_ context.Context, args []string) error {
		if len(args) == 0 {
			return wrongUse("something is missing: it takes %s", c.help.args)
		}
		if near := appspec.Nearest(args[0], known); near != "" {
			return wrongUse("there is no autoscale %s, did you mean autoscale %s?", args[0], near)
		}
		return wrongUse("there is no autoscale %q", args[0])
	}
	return c
}
