package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
)

// exitChanges is plan's answer that a deploy would change something.
const exitChanges = 2

type planCommand struct {
	*command
	spec specFlags
}

func newPlanCommand(b *base) cli.Command {
	c := &planCommand{command: newCommand(b, "plan", helpText{
		synopsis: "Show what a deploy would do",
		args:     "<file>...",
		about: "Says what deploying the spec files would change, field by field, and which steps\n" +
			"the controller would take, by the same code that takes them. Nothing is changed.\n" +
			"A file \"-\" is standard input.",
		examples: "$ serve-nomad plan search.hcl\n$ serve-nomad plan -var image_tag=1.5 search.hcl",
		exits:    "0  a deploy would change nothing\n1  it did not work, or the command line is wrong; why is on standard error\n2  a deploy would change something\n130  interrupted",
	})}
	c.minArgs, c.usage, c.args, c.run = 1, exitError, predictSpecs(), c.plan
	c.spec.register(c.flags)
	return c
}

func (c *planCommand) plan(ctx context.Context, args []string) error {
	file, err := c.spec.read(c.command, args)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.Plan(ctx, api.PlanRequest{Applications: file.Applications})
	if err != nil {
		return err
	}
	if c.json {
		c.printJSON(answer)
	} else {
		c.printf("%s", planText(answer, c.spec.again(args)))
	}
	for _, a := range answer.Applications {
		if a.Action != api.ActionNone {
			return exitWith(exitChanges)
		}
	}
	return nil
}

func planText(answer api.PlanResponse, words []string) string {
	var out strings.Builder
	var checks []string
	for _, a := range answer.Applications {
		switch a.Action {
		case api.ActionCreate:
			fmt.Fprintf(&out, "+ application %q is new\n", a.Name)
		case api.ActionUpdate:
			what := "changes"
			if len(a.Changes) == 0 {
				what = "is the same, but its last deploy failed: another one tries again"
			}
			fmt.Fprintf(&out, "~ application %q %s\n", a.Name, what)
		default:
			fmt.Fprintf(&out, "  application %q stays as it is\n", a.Name)
		}
		for _, change := range a.Changes {
			out.WriteString("  " + changeLine(change) + "\n")
		}
		if len(a.Steps) > 0 {
			out.WriteString("\n  What the controller would do:\n")
		}
		for i, step := range a.Steps {
			fmt.Fprintf(&out, "  %2d. %s\n", i+1, printable(step))
		}
		out.WriteString("\n")
		if a.Action != api.ActionNone {
			checks = append(checks, fmt.Sprintf("-check-index %s=%d", a.Name, a.CheckIndex))
		}
	}
	for _, w := range answer.Warnings {
		out.WriteString("Warning: " + printable(w) + "\n")
	}
	if len(checks) == 0 {
		out.WriteString("A deploy would change nothing.\n")
		return out.String()
	}
	fmt.Fprintf(&out, "To deploy exactly this, unless something changes before:\n  %s deploy %s %s\n",
		program, strings.Join(checks, " "), strings.Join(words, " "))
	return out.String()
}

func changeLine(c appspec.Change) string {
	var line string
	switch {
	case c.Old == "":
		line = fmt.Sprintf("+ %s = %s", c.Path, c.New)
	case c.New == "":
		line = fmt.Sprintf("- %s (was %s)", c.Path, c.Old)
	default:
		line = fmt.Sprintf("~ %s: %s -> %s", c.Path, c.Old, c.New)
	}
	switch c.Effect {
	case appspec.EffectLive:
		line += "  (at once, no replica restarted)"
	case appspec.EffectReplace:
		line += "  (new replicas)"
	}
	return printable(line)
}
