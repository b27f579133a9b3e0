package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/appspec"
)

type validateCommand struct {
	*command
	spec specFlags
}

func newValidateCommand(b *base) cli.Command {
	c := &validateCommand{command: newLocalCommand(b, "validate", helpText{
		synopsis: "Check spec files",
		args:     "<file>...",
		about: "Checks spec files together, as deploy would, without a server: every fault with\n" +
			"its place and what would be right. A file \"-\" is standard input.",
		examples: "$ serve-nomad validate search.hcl\n$ serve-nomad validate -var image_tag=1.5 *.hcl",
		exits:    "0  the spec is good\n1  it has faults; they are on standard error\n2  the command line is wrong; nothing was done\n130  interrupted",
	})}
	c.minArgs, c.args, c.run = 1, predictSpecs(), c.validate
	c.spec.register(c.flags)
	return c
}

// validation is what validate -json prints of a good spec.
type validation struct {
	Valid        bool                `json:"valid"`
	Applications []string            `json:"applications"`
	WorkerGroups []string            `json:"worker_groups"`
	Diagnostics  appspec.Diagnostics `json:"diagnostics"` // warnings
}

func (c *validateCommand) validate(_ context.Context, args []string) error {
	file, diagnostics, err := c.spec.parse(c.command, args)
	if err != nil {
		return err
	}
	if err := c.showDiagnostics(diagnostics); err != nil {
		return err
	}
	out := validation{Valid: true, Applications: []string{}, WorkerGroups: []string{}, Diagnostics: diagnostics}
	if out.Diagnostics == nil {
		out.Diagnostics = appspec.Diagnostics{}
	}
	deployments := 0
	for _, a := range file.Applications {
		out.Applications = append(out.Applications, a.Name)
		deployments += len(a.Deployments)
	}
	for _, g := range file.WorkerGroups {
		out.WorkerGroups = append(out.WorkerGroups, g.Name)
	}
	if c.json {
		c.printJSON(out)
		return nil
	}
	text := plural(len(file.Applications), "application") + ", " + plural(deployments, "deployment")
	if n := len(file.WorkerGroups); n > 0 {
		text += ", " + plural(n, "worker group")
	}
	c.printf("The spec is good: %s.\n", text)
	return nil
}

type fmtCommand struct {
	*command
	check bool
	write bool
}

func newFmtCommand(b *base) cli.Command {
	c := &fmtCommand{command: newLocalCommand(b, "fmt", helpText{
		synopsis: "Put spec files into the usual layout",
		args:     "<file>...",
		about: "Rewrites spec files in HCL's usual layout and lists those that changed. A file\n" +
			"\"-\" is standard input, whose new text goes to standard output.",
		examples: "$ serve-nomad fmt search.hcl\n$ serve-nomad fmt -check *.hcl\n$ serve-nomad fmt - < search.hcl",
		exits: "0  it worked; with -check: every file has the usual layout\n1  a file cannot be read, parsed or written; with -check: a file lacks the usual layout\n" +
			"2  the command line is wrong; nothing was done\n130  interrupted",
	})}
	c.minArgs, c.args, c.run = 1, predictSpecs(), c.format
	c.flags.BoolVar(&c.check, "check", false, "Change nothing; list the files that lack the usual layout.")
	c.flags.BoolVar(&c.write, "write", true, "Write the files. With -write=false the new text goes to standard output.")
	return c
}

func (c *fmtCommand) format(_ context.Context, args []string) error {
	changed := []string{}
	for _, name := range args {
		differs, err := c.formatFile(name)
		if err != nil {
			return err
		}
		if differs {
			changed = append(changed, name)
		}
	}
	if c.json {
		c.printJSON(map[string][]string{"changed": changed})
	} else if c.check || c.write {
		for _, name := range changed {
			if name != stdinName || c.check {
				c.printf("%s\n", name)
			}
		}
	}
	if c.check && len(changed) > 0 {
		return exitWith(exitError)
	}
	return nil
}

// formatFile formats one file, and says whether that changes it.
func (c *fmtCommand) formatFile(name string) (differs bool, err error) {
	body, err := c.readFile(name)
	if err != nil {
		return false, err
	}
	formatted, diagnostics := appspec.Format(name, body)
	if err := c.showDiagnostics(diagnostics); err != nil {
		return false, err
	}
	differs = !bytes.Equal(body, formatted)
	switch {
	case c.check:
	case name == stdinName || !c.write:
		if !c.json {
			c.printf("%s", formatted)
		}
	case differs:
		err = replaceFile(name, formatted)
	}
	return differs, err
}

// replaceFile puts a new file in the place of an old one, whole or not at all.
func replaceFile(name string, body []byte) error {
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return readFault(name, err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return readFault(name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".serve-nomad-fmt-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), target)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
