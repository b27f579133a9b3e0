// Command serve-nomad is model serving on Nomad and Consul: the controller,
// the proxy, and the commands that people type.
package main

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/cli"
)

const program = "serve-nomad"

func main() {
	os.Exit(runMain(os.Args[1:]))
}

func runMain(args []string) int {
	b, release := newBase()
	defer release()
	return b.finish(run(b, args))
}

// commands is every subcommand, by name.
func commands() map[string]func(*base) cli.Command {
	return map[string]func(*base) cli.Command{
		"autoscale":         newAutoscaleCommand,
		"autoscale explain": newExplainCommand,
		"autoscale record":  newRecordCommand,
		"autoscale replay":  newReplayCommand,

		"abort":    newAbortCommand,
		"delete":   newDeleteCommand,
		"deploy":   newDeployCommand,
		"dev":      newDevCommand,
		"events":   newEventsCommand,
		"fmt":      newFmtCommand,
		"history":  newHistoryCommand,
		"logs":     newLogsCommand,
		"pause":    newPauseCommand,
		"promote":  newPromoteCommand,
		"resume":   newResumeCommand,
		"rollback": newRollbackCommand,

		"node-groups":          newNodeGroupsCommand,
		"node-groups costs":    newNodeGroupsCostsCommand,
		"node-groups delete":   newNodeGroupsDeleteCommand,
		"node-groups explain":  newNodeGroupsExplainCommand,
		"node-groups simulate": newNodeGroupsSimulateCommand,
		"nodes":                newNodesCommand,
		"nodes explain":        newNodesExplainCommand,
		"pending":              newPendingCommand,

		"plan":     newPlanCommand,
		"proxy":    newProxyCommand,
		"scale":    newScaleCommand,
		"server":   newServerCommand,
		"servers":  newServersCommand,
		"status":   newStatusCommand,
		"validate": newValidateCommand,
		"version":  newVersionCommand,
	}
}

// run does what the command line says and returns the exit code.
func run(b *base, args []string) int {
	known := commands()
	if b.getenv("COMP_LINE") == "" { // the shell does not ask for completions
		if problem := checkLine(args, known); problem != "" {
			b.errorf("%s", problem)
			return exitUsage
		}
	}
	factories := map[string]cli.CommandFactory{}
	for name, construct := range known {
		factories[name] = func() (cli.Command, error) { return construct(b), nil }
	}
	c := &cli.CLI{
		Name: program, Version: versionLine(), Args: args, Commands: factories,
		Autocomplete: true, HelpFunc: overview, HelpWriter: b.stdout, ErrorWriter: b.stderr,
	}
	code, err := c.Run()
	if err != nil {
		b.errorf("Error: %s", err)
		return exitError
	}
	return code
}

// checkLine refuses, in one line, what the cli library answers with a page.
func checkLine(args []string, known map[string]func(*base) cli.Command) string {
	const try = "; " + program + " -help lists the commands"
	if len(args) == 0 {
		return "a command is missing" + try
	}
	first := args[0]
	if _, ok := known[first]; ok {
		return ""
	}
	global := []string{"h", "help", "v", "version", "autocomplete-install", "autocomplete-uninstall"}
	if name, isFlag := strings.CutPrefix(first, "-"); isFlag {
		if slices.Contains(global, strings.TrimPrefix(name, "-")) {
			return ""
		}
		return "flags come after the command: " + program + " <command> " + first + try
	}
	return "there is no command " + quote(first) + near(first, slices.Sorted(maps.Keys(known))) + try
}

// near suggests the command that was probably meant.
func near(word string, list []string) string {
	for _, name := range list {
		if len(word) > 1 && (strings.HasPrefix(name, word) || strings.HasPrefix(word, name)) {
			return ", did you mean " + name + "?"
		}
	}
	return ""
}

// overview is the help of the program as a whole.
func overview(factories map[string]cli.CommandFactory) string {
	groups := []struct {
		title string
		names []string
	}{
		{"Try it on this machine", []string{"dev"}},
		{"Applications", []string{"deploy", "plan", "status", "scale", "autoscale", "logs", "events", "delete"}},
		{"Rollouts", []string{"history", "rollback", "pause", "resume", "promote", "abort"}},
		{"Nodes", []string{"node-groups", "nodes", "pending"}},
		{"Spec files", []string{"validate", "fmt"}},
		{"The cluster", []string{"server", "proxy", "servers", "version"}},
	}
	var text strings.Builder
	text.WriteString("Usage: " + program + " [-version] [-help] [-autocomplete-(un)install] <command> [args]\n")
	for _, g := range groups {
		text.WriteString("\n" + g.title + ":\n")
		for _, name := range g.names {
			factory, ok := factories[name]
			if !ok {
				continue
			}
			command, err := factory()
			if err != nil {
				continue
			}
			text.WriteString("    " + name + strings.Repeat(" ", 13-len(name)) + command.Synopsis() + "\n")
		}
	}
	text.WriteString("\nEach command takes -help, which shows examples and exit codes.")
	return text.String()
}
