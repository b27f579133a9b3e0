package main

import (
	"context"
	"fmt"
	"slices"
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
		about: "Says what deploying the spec files would change, field by field; how each new\n" +
			"version would take over, and why so; how many replicas there would be of which job\n" +
			"when there are the most of them, whether they fit, and how many nodes that takes;\n" +
			"and which steps the controller would take, by the same code that takes them.\n" +
			"Applications that move to new nodes with their worker group are among them, also\n" +
			"where no file names them. Nothing is changed. What the deploy would be refused for,\n" +
			"such as another node pool of a group that has nodes, plan is refused for. A file \"-\" is standard input.",
		examples: "$ serve-nomad plan search.hcl\n$ serve-nomad plan -var image_tag=1.5 search.hcl",
		exits:    "0  a deploy would change nothing\n1  it did not work, or the command line is wrong; why is on standard error\n2  a deploy would change something\n130  interrupted",
	})}
	c.minArgs, c.usage, c.args, c.run = 1, exitError, predictSpecs(), c.plan
	c.spec.register(c.flags)
	return c
}

func (c *planCommand) plan(ctx context.Context, args []string) error {
	file, err := c.spec.read(c.command, args)
	if err == nil {
		err = deployable(file)
	}
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	answer, err := client.Plan(ctx, api.PlanRequest{Applications: file.Applications, WorkerGroups: file.WorkerGroups})
	if err != nil {
		return err
	}
	return c.planned(answer, func() string { return deployAgain(answer, c.spec.again(args)) })
}

// planned says what would be done, and again by which command, and ends with
// exitChanges if that is something.
func (c *command) planned(answer api.PlanResponse, again func() string) error {
	if c.json {
		c.printJSON(answer)
	} else {
		c.printf("%s", planText(answer, again))
	}
	for _, a := range answer.Applications {
		if a.Action != api.ActionNone {
			return exitWith(exitChanges)
		}
	}
	for _, g := range answer.WorkerGroups {
		if g.Action != api.ActionNone {
			return exitWith(exitChanges)
		}
	}
	return nil
}

func planText(answer api.PlanResponse, again func() string) string {
	var out strings.Builder
	changes := false
	for _, g := range answer.WorkerGroups {
		out.WriteString(heading("worker group", g.Name, g.Action, "changes", g.Changes))
		out.WriteString(replacedText(g))
		out.WriteString(stepsText(g.Steps))
		changes = changes || g.Action != api.ActionNone
	}
	for _, a := range answer.Applications {
		if a.Moved || len(a.Changes) == 0 && movesWith(answer.WorkerGroups, a) {
			fmt.Fprintf(&out, "~ application %q moves with its worker group\n", a.Name)
		} else {
			out.WriteString(heading("application", a.Name, a.Action, differs(a), a.Changes))
		}
		out.WriteString(rolloutText(a))
		out.WriteString(stepsText(a.Steps))
		changes = changes || a.Action != api.ActionNone
	}
	out.WriteString(roomText(answer.Room))
	for _, w := range answer.Warnings {
		out.WriteString("Warning: " + printable(w) + "\n")
	}
	if len(answer.Warnings) > 0 {
		out.WriteString("\n")
	}
	if !changes {
		out.WriteString("Nothing would change.\n")
		return out.String()
	}
	fmt.Fprintf(&out, "To do exactly this, unless something changes before:\n  %s %s\n", program, again())
	return out.String()
}

// movesWith says whether a has a new version for the other shape of one of groups.
func movesWith(groups []api.GroupPlan, a api.ApplicationPlan) bool {
	return slices.ContainsFunc(groups, func(g api.GroupPlan) bool {
		return g.Outdated > 0 && strings.Contains(a.Why, "worker group "+g.Name+": ")
	})
}

// deployAgain is the command that deploys what was planned.
func deployAgain(answer api.PlanResponse, words []string) string {
	again := []string{"deploy"}
	for _, g := range answer.WorkerGroups {
		if g.Action != api.ActionNone {
			again = append(again, fmt.Sprintf("-group-check-index %s=%d", g.Name, g.CheckIndex))
		}
	}
	for _, a := range answer.Applications {
		if a.Action != api.ActionNone && !a.Moved {
			again = append(again, fmt.Sprintf("-check-index %s=%d", a.Name, a.CheckIndex))
		}
	}
	if answer.Room.Never() {
		again = append(again, "-force")
	}
	return strings.Join(append(again, words...), " ")
}

// differs says how an application that changes does so.
func differs(a api.ApplicationPlan) string {
	switch failed := a.Against != 0 && a.Against < a.Version-1; {
	case a.Against == a.Version: // a rollback that only undoes what is under way
		return fmt.Sprintf("goes back to version %d: version %d is aborted", a.Serving, a.Version)
	case failed && len(a.Changes) == 0:
		return fmt.Sprintf("is as in version %d, which serves: version %d, which failed, is given up", a.Against, a.Version-1)
	case failed:
		return fmt.Sprintf("changes, from version %d, which serves: version %d failed", a.Against, a.Version-1)
	case len(a.Changes) == 0:
		return "is the same, but its last deploy failed: another one tries again"
	default:
		return "changes"
	}
}

// heading says what becomes of one application or worker group, and what is
// changed in it.
func heading(what, name, action, how string, changes []appspec.Change) string {
	var out strings.Builder
	switch action {
	case api.ActionCreate:
		fmt.Fprintf(&out, "+ %s %q is new\n", what, name)
	case api.ActionUpdate:
		fmt.Fprintf(&out, "~ %s %q %s\n", what, name, how)
	default:
		fmt.Fprintf(&out, "  %s %q stays as it is\n", what, name)
	}
	for _, change := range changes {
		if action == api.ActionCreate && change.Effect == appspec.EffectNodes {
			change.Effect = ""
		}
		out.WriteString("  " + changeLine(change) + "\n")
	}
	return out.String()
}

// replacedText says what becomes of the nodes that a worker group has.
func replacedText(g api.GroupPlan) string {
	text := ""
	if g.Outdated > 0 {
		text = fmt.Sprintf("\n  It would have %s of another shape: closed to new replicas at once, and removed when\n"+
			"  none is left on them. Until then there may be max_nodes of the new shape beside these.\n", plural(g.Outdated, "node"))
	}
	if g.Note != "" {
		text += "\n  Note: " + printable(g.Note) + "\n"
	}
	return text
}

func stepsText(steps []string) string {
	var out strings.Builder
	if len(steps) > 0 {
		out.WriteString("\n  What the controller would do:\n")
	}
	for i, step := range steps {
		if i == mostSteps && len(steps) > mostSteps+1 {
			fmt.Fprintf(&out, "  and %d more, which -json shows\n", len(steps)-mostSteps)
			break
		}
		fmt.Fprintf(&out, "  %2d. %s\n", i+1, printable(step))
	}
	out.WriteString("\n")
	return out.String()
}

// mostSteps is how many steps are told: there are some for each batch of
// replicas.
const mostSteps = 30

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
	case appspec.EffectNodes:
		line += "  (new nodes only)"
	}
	return printable(line)
}
