package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// prepare does what comes before the first start: it ends what a crashed run
// left, settles the ports, finds the agents and puts this program where it stays
// while its children run.
func (c *devCommand) prepare(ctx context.Context, folder devFolder, plan *devPlan) error {
	say := c.progress()
	ended, err := folder.clean(ctx, true)
	sayEnded(say, ended)
	if err != nil {
		return err
	}
	if err = c.settlePorts(ctx, say, &plan.Options); err != nil {
		return err
	}
	agents, err := nomaddev.Find(ctx, nomaddev.Options{Progress: say})
	if err != nil {
		return err
	}
	plan.Nomad, plan.Consul = agents.Nomad.Path, agents.Consul.Path
	plan.Binary = folder.path("bin", filepath.Base(program))
	return copySelf(plan.Binary)
}

// findAgents is `dev prepare`: it finds the agents, or builds them, and says
// which they are.
func (c *devCommand) findAgents(ctx context.Context) error {
	agents, err := nomaddev.Find(ctx, nomaddev.Options{Progress: c.progress()})
	if err != nil {
		return err
	}
	found := map[string]map[string]string{}
	for name, a := range map[string]nomaddev.Agent{"nomad": agents.Nomad, "consul": agents.Consul} {
		found[name] = map[string]string{"path": a.Path, "version": a.Version.String(), "source": a.Source}
	}
	if c.json {
		c.printJSON(found)
		return nil
	}
	for _, name := range []string{"nomad", "consul"} {
		c.printf("%s %s: %s (%s)\n", name, found[name]["version"], found[name]["path"], found[name]["source"])
	}
	return nil
}

// settlePorts refuses a port that is taken when people rely on it, and moves the
// others.
func (c *devCommand) settlePorts(ctx context.Context, say io.Writer, o *devOptions) error {
	var faults []error
	taken := map[int]bool{}
	for _, p := range o.Ports.list() {
		taken[*p.port] = true
	}
	for _, p := range o.Ports.list() {
		host := "127.0.0.1"
		if p.public {
			host = o.Bind
		}
		err := nomaddev.CheckPort(ctx, host, *p.port)
		if err == nil {
			continue
		}
		var busy *nomaddev.PortError
		if !errors.As(err, &busy) {
			faults = append(faults, fmt.Errorf("%w: -%s and -bind say where to listen", err, p.flag))
			continue
		}
		if p.public || c.given[p.flag] {
			faults = append(faults, fmt.Errorf("%w: stop that, or choose another port with -%s", err, p.flag))
			continue
		}
		free, ferr := nomaddev.FreePort(ctx, taken)
		if ferr != nil {
			return ferr
		}
		fmt.Fprintf(say, "%s; -%s is %d instead\n", printable(busy.Error()), p.flag, free)
		*p.port, taken[free] = free, true
	}
	return errors.Join(faults...)
}

// copySelf copies this program: under `go run` it lies where it soon goes away.
func copySelf(target string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if self == target {
		return nil
	}
	if err = os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	from, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	_, err = io.Copy(to, from)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	return nil
}

// tryLine returns the command line of the first "# try:" comment of the files,
// or "".
func tryLine(files []string) string {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // standard input, say
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			if line, ok := strings.CutPrefix(strings.TrimSpace(scan.Text()), "# try:"); ok {
				f.Close()
				return printable(strings.TrimSpace(line))
			}
		}
		f.Close()
	}
	return ""
}
