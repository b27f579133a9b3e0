package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// command is what the subcommands have in common. It is a cli.Command and a
// cli.CommandAutocomplete.
type command struct {
	*base
	name  string
	help  helpText
	flags *flag.FlagSet
	args  complete.Predictor
	run   func(ctx context.Context, args []string) error

	json    bool
	address string

	maxArgs int // -1: any number
	minArgs int
	usage   int // exit code of a wrong command line
}

// helpText is what -help shows beside the flags.
type helpText struct {
	synopsis string
	args     string // "<application> [deployment]"
	about    string
	examples string
	exits    string // more exit codes than 0, 1, 2 and 130
}

// newCommand returns a command that talks to a server.
func newCommand(b *base, name string, help helpText) *command {
	c := newLocalCommand(b, name, help)
	c.flags.StringVar(&c.address, "address", "", "`URL` of a serve-nomad server. Overrides "+api.AddressEnv+
		". Default: "+api.DefaultAddress+".")
	return c
}

// newLocalCommand returns a command that needs no server.
func newLocalCommand(b *base, name string, help helpText) *command {
	c := &command{
		base: b, name: name, help: help, usage: exitUsage, maxArgs: -1,
		flags: flag.NewFlagSet(name, flag.ContinueOnError), args: complete.PredictNothing,
	}
	c.flags.SetOutput(io.Discard)
	c.flags.BoolVar(&c.json, "json", false, "Write JSON to standard output, also for errors.")
	return c
}

// usageError is a wrong command line; nothing was done.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func wrongUse(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// exitWith ends a command with a code when all that there is to say has been
// said.
type exitWith int

func (e exitWith) Error() string { return "exit code " + strconv.Itoa(int(e)) }

// Run is for cli.Command.
func (c *command) Run(args []string) int {
	rest, err := c.parse(args)
	if err == nil {
		err = c.run(c.ctx, rest)
	}
	return c.exit(err)
}

// parse reads flags wherever they stand, before "--".
func (c *command) parse(args []string) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		err := c.flags.Parse(args)
		if number, ok := negative(err); ok {
			rest, args = append(rest, number), c.flags.Args()
			continue
		}
		if err != nil {
			c.json = c.json || hasFlag(args, "json")
			return nil, flagFault(c.flags, err)
		}
		left := c.flags.Args()
		if read := len(args) - len(left); read > 0 && args[read-1] == "--" {
			rest = append(rest, left...)
			break
		}
		if len(left) == 0 {
			break
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	switch {
	case slices.Contains(rest, ""):
		return nil, wrongUse("an argument is empty: it takes %s", c.help.args)
	case len(rest) < c.minArgs:
		return nil, wrongUse("something is missing: it takes %s", c.help.args)
	case c.maxArgs == 0 && len(rest) > 0:
		return nil, wrongUse("it takes no arguments, not %q", rest[0])
	case c.maxArgs > 0 && len(rest) > c.maxArgs:
		return nil, wrongUse("%q is one too many: it takes %s", rest[c.maxArgs], c.help.args)
	}
	return rest, nil
}

func hasFlag(args []string, name string) bool {
	for _, a := range args {
		if a == "-"+name || a == "--"+name {
			return true
		}
	}
	return false
}

// given says whether a flag is on the command line.
func (c *command) given(name string) bool {
	found := false
	c.flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// exit reports err and returns the code for it.
func (c *command) exit(err error) int {
	var usage *usageError
	var code exitWith
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		c.report(api.ErrorResponse{Code: "usage", Error: usage.message}, nil)
		return c.usage
	case c.ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitStopped
	}
	if spec, ok := errors.AsType[*specError](err); ok {
		if c.json {
			c.printJSON(specErrorBody{api.ErrorResponse{Error: spec.Error(), Code: api.CodeInvalid}, spec.diagnostics})
		}
		c.errorf("Error: %s", spec)
		return exitError
	}
	c.report(errorBody(err), err)
	return exitError
}

// report says what is wrong in one line, and the faults of a spec below it;
// with -json also as JSON.
func (c *command) report(body api.ErrorResponse, err error) {
	if c.json {
		c.printJSON(body)
	}
	if body.Code == "usage" {
		c.errorf("%s %s: %s; %s %s -help shows how it is used", program, c.name, body.Error, program, c.name)
		return
	}
	c.errorf("Error: %s", strings.ReplaceAll(body.Error, "\n", "\n  "))
	for _, f := range body.Faults {
		c.errorf("  %s: %s", f.Path, f.Message)
	}
	if api.CodeUnknownOutcome.Is(err) && body.RequestID != "" {
		c.errorf("  request id: %s", body.RequestID)
	}
}

func errorBody(err error) api.ErrorResponse {
	var answer *api.Error
	var connect *api.ConnectError
	switch {
	case errors.As(err, &answer):
		return api.ErrorResponse{Error: err.Error(), Code: answer.Code, Faults: answer.Faults, RequestID: answer.RequestID}
	case errors.As(err, &connect):
		return api.ErrorResponse{Error: err.Error(), Code: api.CodeUnavailable}
	default:
		return api.ErrorResponse{Error: err.Error(), Code: api.CodeInternal}
	}
}

// printJSON writes v, indented, to standard output.
func (c *command) printJSON(v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		c.errorf("Error: write JSON: %s", err)
		return
	}
	c.printf("%s\n", data)
}

// printJSONLine writes v in one line.
func (c *command) printJSONLine(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", data)
	return err
}

// client returns a client of the server that the flags and the environment
// name.
func (c *command) client() (*api.Client, error) {
	address := c.address
	if address == "" {
		address = c.getenv(api.AddressEnv)
	}
	client, err := api.NewClient(api.ClientConfig{Address: address, Token: c.getenv("SERVE_NOMAD_TOKEN")})
	if err != nil {
		return nil, wrongUse("%s", err)
	}
	return client, nil
}

// by says who is at the keyboard, for the record.
func (c *command) by() string {
	name := cmp.Or(c.getenv("USER"), c.getenv("LOGNAME"))
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, err := os.Hostname()
	if err != nil || name == "" {
		return name
	}
	return name + "@" + host
}

// Synopsis is for cli.Command.
func (c *command) Synopsis() string { return c.help.synopsis }

// Help is for cli.Command.
func (c *command) Help() string {
	var text strings.Builder
	line := strings.TrimSpace(program + " " + c.name + " [options] " + c.help.args)
	fmt.Fprintf(&text, "Usage: %s\n\n%s\n\nExamples:\n\n%s\n\nOptions:\n",
		line, indent(c.help.about, "  "), indent(c.help.examples, "    "))
	c.flags.VisitAll(func(f *flag.Flag) {
		value, about := flag.UnquoteUsage(f)
		if value != "" {
			value = "=<" + strings.ToLower(value) + ">"
		}
		fmt.Fprintf(&text, "\n  -%s%s\n%s\n", f.Name, value, indent(wrap(about+defaultText(f, about), 74), "    "))
	})
	exits := "0  it worked\n1  it did not; why is on standard error\n2  the command line is wrong; nothing was done\n130  interrupted"
	if c.help.exits != "" {
		exits = c.help.exits
	}
	fmt.Fprintf(&text, "\nExit codes:\n\n%s\n", indent(exits, "    "))
	return strings.TrimSuffix(text.String(), "\n")
}

// AutocompleteArgs is for cli.CommandAutocomplete.
func (c *command) AutocompleteArgs() complete.Predictor { return c.args }

// AutocompleteFlags is for cli.CommandAutocomplete.
func (c *command) AutocompleteFlags() complete.Flags {
	list := complete.Flags{"-help": complete.PredictNothing}
	c.flags.VisitAll(func(f *flag.Flag) {
		list["-"+f.Name] = predictFlag(f)
	})
	return list
}

// predictFlag goes by what the help shows as the flag's value.
func predictFlag(f *flag.Flag) complete.Predictor {
	value, _ := flag.UnquoteUsage(f)
	switch {
	case value == "": // on or off
		return complete.PredictNothing
	case strings.EqualFold(value, "file"):
		return complete.PredictFiles("*")
	case strings.Contains(value, "|"):
		return complete.PredictSet(strings.Split(value, "|")...)
	}
	return complete.PredictAnything
}

// predictApplications completes the names of applications.
func (c *command) predictApplications() complete.Predictor {
	return c.predict(func(a reconcile.ApplicationStatus) []string { return []string{a.Name} })
}

// predict asks the server for applications, briefly, and completes what names
// says of each.
func (c *command) predict(names func(reconcile.ApplicationStatus) []string) complete.Predictor {
	return c.predictBy(func(ctx context.Context, client *api.Client) []string {
		applications, _, err := client.Applications(ctx, api.Query{Stale: true})
		if err != nil {
			return nil
		}
		var list []string
		for _, a := range applications {
			list = append(list, names(a)...)
		}
		return list
	})
}

// predictBy completes what the server is asked for, briefly.
func (c *command) predictBy(ask func(context.Context, *api.Client) []string) complete.Predictor {
	return complete.PredictFunc(func(complete.Args) []string {
		client, err := c.client()
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		defer cancel()
		return ask(ctx, client)
	})
}
