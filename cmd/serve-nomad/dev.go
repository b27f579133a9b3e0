package main

import (
	"context"
	"flag"
	"io"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// devCommand is `dev`, `dev stop`, `dev status` and `dev prepare`.
type devCommand struct {
	*command
	spec    specFlags
	options devOptions
	given   map[string]bool // flags on the command line
}

// devOptions are what the flags of dev say.
type devOptions struct {
	Name    string        `json:"name"`
	Detach  bool          `json:"detach"`
	Bind    string        `json:"bind"`
	Ports   devPorts      `json:"ports"`
	Timeout time.Duration `json:"timeout"`
}

// devPorts are the ports that people use.
type devPorts struct {
	HTTP   int `json:"http"`
	API    int `json:"api"`
	Handle int `json:"handle"`
	Nomad  int `json:"nomad"`
	Consul int `json:"consul"`
}

// The variable that makes a process the background half of `dev -detach`. It
// names the file that says what to run.
const devStartEnv = "SERVE_NOMAD_DEV_START"

func newDevCommand(b *base) cli.Command {
	c := &devCommand{command: newLocalCommand(b, "dev", helpText{
		synopsis: "Run everything on this machine and deploy spec files to it",
		args:     "[<file>... | stop | status | prepare]",
		about: "Starts Consul, Nomad, a serve-nomad server and a proxy on this machine, deploys\n" +
			"the spec files and says what runs where. Ctrl-C stops all of it, and so does\n" +
			"dev stop from another terminal. Nothing is kept: the next dev starts anew.\n\n" +
			"There are two worker groups from the start, cpu and gpu, each of 0 to 4 nodes on this\n" +
			"machine: a deployment that names one gets nodes when its replicas need them. Nodes of\n" +
			"gpu have no GPU yet. A worker group of the spec files takes the place of one of the\n" +
			"same name or node pool.\n\n" +
			"nomad (1.7 or newer) and consul (1.16 or newer) are taken from PATH. Where they\n" +
			"are missing, they are built with the Go toolchain, once, which takes minutes; dev\n" +
			"prepare does just that.",
		examples: "$ serve-nomad dev search.hcl\n$ serve-nomad dev -detach -http-port 9000 search.hcl\n" +
			"$ serve-nomad dev status\n$ serve-nomad dev stop",
		exits: "0  it ran and was stopped; with -detach: every application is healthy;\n   dev status: it runs\n" +
			"1  it did not work; why is on standard error; dev status: none runs\n" +
			"2  the command line is wrong; nothing was done\n130  interrupted before everything ran",
	})}
	c.args = complete.PredictOr(complete.PredictSet("stop", "status", "prepare"), predictSpecs())
	c.run = c.dispatch
	c.spec.register(c.flags)
	o, f := &c.options, c.flags
	f.BoolVar(&o.Detach, "detach", false, "Return when everything is healthy, and let it run in the background.")
	f.StringVar(&o.Name, "name", "default", "`Name` of this instance. One of each name can run at a time.")
	f.StringVar(&o.Bind, "bind", "127.0.0.1", "`Address` on which the proxy and the API listen. "+
		"Whoever reaches the API can run programs on this machine.")
	f.IntVar(&o.Ports.HTTP, "http-port", 8000, "`Port` of the applications.")
	f.IntVar(&o.Ports.API, "api-port", 8265, "`Port` of the control API.")
	f.IntVar(&o.Ports.Handle, "handle-port", 8001, "`Port` of the calls between deployments. When the default is taken, a free one.")
	f.IntVar(&o.Ports.Nomad, "nomad-port", 4646, "`Port` of Nomad's API and UI. When the default is taken, a free one.")
	f.IntVar(&o.Ports.Consul, "consul-port", 8500, "`Port` of Consul's API and UI. When the default is taken, a free one.")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Minute, "The `duration` to wait for the applications to be healthy.")
	return c
}

func (c *devCommand) dispatch(ctx context.Context, args []string) error {
	c.given = map[string]bool{}
	c.flags.Visit(func(f *flag.Flag) { c.given[f.Name] = true })
	if err := c.options.check(); err != nil {
		return err
	}
	if len(args) > 0 && (args[0] == "stop" || args[0] == "status") {
		if len(args) > 1 {
			return wrongUse("dev %s takes no file", args[0])
		}
		folder, err := openDevFolder(c.base, c.options.Name)
		if err != nil {
			return err
		}
		if args[0] == "stop" {
			return c.stop(ctx, folder)
		}
		return c.status(ctx, folder)
	}
	if len(args) == 1 && args[0] == "prepare" {
		return c.findAgents(ctx)
	}
	if path := c.getenv(devStartEnv); path != "" {
		return c.background(path)
	}
	return c.start(ctx, args)
}

func (o devOptions) check() error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`).MatchString(o.Name) {
		return wrongUse("-name %q: want 1 to 32 of a-z, 0-9 and '-'", o.Name)
	}
	if net.ParseIP(o.Bind) == nil {
		return wrongUse("-bind %q: want an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all", o.Bind)
	}
	if o.Timeout <= 0 {
		return wrongUse("-timeout must be more than 0")
	}
	used := map[int]string{}
	for _, p := range o.Ports.list() {
		if *p.port < 1 || *p.port > 65535 {
			return wrongUse("-%s %d: want a port from 1 to 65535", p.flag, *p.port)
		}
		if other, twice := used[*p.port]; twice {
			return wrongUse("-%s and -%s are both %d", other, p.flag, *p.port)
		}
		used[*p.port] = p.flag
	}
	return nil
}

// devPort is one port and the flag that sets it.
type devPort struct {
	flag   string
	port   *int
	public bool // on the -bind address, and never moved by itself
}

func (p *devPorts) list() []devPort {
	return []devPort{
		{"http-port", &p.HTTP, true},
		{"api-port", &p.API, true},
		{"handle-port", &p.Handle, false},
		{"nomad-port", &p.Nomad, false},
		{"consul-port", &p.Consul, false},
	}
}

// devPlan is all that a run needs to know. The background half of a detached
// run reads it from a file.
type devPlan struct {
	Options devOptions    `json:"options"`
	Nomad   string        `json:"nomad"`  // programs
	Consul  string        `json:"consul"` //
	Binary  string        `json:"binary"` //
	File    *appspec.File `json:"file"`   // nil: nothing to deploy
	Try     string        `json:"try,omitempty"`
	By      string        `json:"by,omitempty"`
}

// start is `dev` itself: everything that can be found wrong cheaply is found
// before anything is started.
func (c *devCommand) start(ctx context.Context, args []string) error {
	plan := devPlan{Options: c.options, By: c.by()}
	if len(args) > 0 {
		file, err := c.spec.read(c.command, args)
		if err != nil {
			return err
		}
		if err = deployable(file); err != nil {
			return err
		}
		plan.File, plan.Try = file, tryLine(args)
	}
	folder, err := openDevFolder(c.base, c.options.Name)
	if err != nil {
		return err
	}
	first, second, release := interrupts(ctx)
	defer release()
	unlock, err := folder.lock()
	if err != nil {
		return err
	}
	unlock = sync.OnceFunc(unlock)
	defer unlock()
	if err = c.prepare(first, folder, &plan); err != nil {
		if first.Err() != nil {
			return exitWith(exitStopped)
		}
		return err
	}
	if c.options.Detach {
		return c.detach(first, folder, plan, unlock)
	}
	run := &devRun{command: c.command, folder: folder, plan: plan, progress: c.progress()}
	return run.foreground(first, second)
}

// progress is where a run tells how it goes: with -json, standard output is for
// the result alone.
func (c *devCommand) progress() io.Writer {
	if c.json {
		return &lockedWriter{w: c.stderr}
	}
	return &lockedWriter{w: c.stdout}
}

// lockedWriter keeps lines of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
