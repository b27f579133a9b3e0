package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/autoscale"
)

type replayCommand struct {
	*command
	vars        specFlags
	spec        string
	compare     string
	load        string
	application string
	deployment  string
	format      string
	out         string
	how         replayFlags
}

// replayFlags say how a run goes.
type replayFlags struct {
	tick       time.Duration
	until      time.Duration
	startDelay time.Duration
	start      string
	arrivals   string
	seed       int
}

// The values of -format and -arrivals.
const (
	formatTable = "table"
	formatJSONL = "jsonl"
	formatSVG   = "svg"

	arrivalsPoisson = "poisson"
	arrivalsUniform = "uniform"
)

func newReplayCommand(b *base) cli.Command {
	c := &replayCommand{command: newLocalCommand(b, "autoscale replay", helpText{
		synopsis: "Run an autoscaling block over a load, offline",
		about: "Says what the autoscaler would have done with a load, and why, by the code that\n" +
			"the servers run. No server is asked. The run begins at 0 with initial_replicas,\n" +
			"or else min_replicas, wanted and running.\n\n" +
			"The load is a file of JSON objects, one a line, each in force until the next:\n\n" +
			"    {\"at\": 0, \"requests\": 4}\n" +
			"    {\"at\": 90.5, \"requests\": 20, \"running\": 3}\n\n" +
			"at is in seconds, requests are those queued and ongoing, all together. running,\n" +
			"if given, is how many replicas run from then on, whatever is wanted; otherwise\n" +
			"they follow the target, up after -start-delay and down at once. For a block that\n" +
			"scales on a metric, metric is its value.\n\n" +
			"Or the lines say how many requests come in a second, and how long a replica\n" +
			"needs for one:\n\n" +
			"    {\"at\": 0, \"rate\": 12, \"seconds_per_request\": 0.5}\n\n" +
			"Then a queue is simulated, with max_ongoing_requests for each replica and\n" +
			"max_queued_requests, and the summary has the waits. The same -seed gives the\n" +
			"same requests to every spec, so that -compare is fair.",
		examples: "$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load load.jsonl\n" +
			"$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load load.jsonl \\\n" +
			"    -start-delay 45s -compare bolder.hcl\n" +
			"$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load - \\\n" +
			"    -format svg -out run.svg < load.jsonl",
	})}
	c.maxArgs, c.args, c.run = 0, complete.PredictNothing, c.replay
	f := c.flags
	f.StringVar(&c.spec, "spec", "", "Spec `file` with the deployment; - is standard input. Needed.")
	f.StringVar(&c.deployment, "deployment", "", "`Name` of the deployment, which has an autoscaling block. Needed.")
	f.StringVar(&c.application, "application", "", "`Name` of its application. Needed if several have a deployment of that name.")
	f.StringVar(&c.load, "load", "", "`File` with the load; - is standard input. Needed.")
	f.StringVar(&c.compare, "compare", "", "Another spec `file` with the deployment, to be run over the same load.")
	f.DurationVar(&c.how.tick, "tick", 100*time.Millisecond, "`Duration` between two decisions.")
	f.DurationVar(&c.how.until, "until", time.Hour, "`Duration` of the run.")
	f.DurationVar(&c.how.startDelay, "start-delay", 0, "`Duration` from the order for a replica until it runs. Default: 0s.")
	f.StringVar(&c.how.start, "start", "2026-01-05T00:00:00Z", "`Time` on the clock at the beginning, for schedule blocks: a Monday midnight by default, 2026-01-05T00:00:00Z.")
	f.StringVar(&c.how.arrivals, "arrivals", arrivalsPoisson, "How simulated requests come: `poisson|uniform`. "+
		"poisson: at random, each taking its time at random, exponentially about the mean; uniform: evenly, all taking the same time.")
	f.IntVar(&c.how.seed, "seed", 1, "`Number` that chance begins with, for simulated requests.")
	f.StringVar(&c.format, "format", formatTable, "What to write: `table|jsonl|svg`. "+
		"jsonl: a line for the state at 0 and one for each change of the target.")
	f.StringVar(&c.out, "out", "", "Write to this `file` instead of standard output.")
	c.vars.register(f)
	return c
}

// replayRun is one spec's run.
type replayRun struct {
	name       string // of the spec file
	deployment *appspec.Deployment
	result     *autoscale.Result
}

func (c *replayCommand) replay(ctx context.Context, _ []string) error {
	start, err := c.check()
	if err != nil {
		return err
	}
	runs := []*replayRun{{name: c.spec}}
	if c.compare != "" {
		runs = append(runs, &replayRun{name: c.compare})
	}
	for _, r := range runs {
		file, err := c.vars.read(c.command, []string{r.name})
		if err != nil {
			return err
		}
		if r.deployment, err = c.find(file, r.name); err != nil {
			return err
		}
	}
	trace, err := interruptible(c.ctx, func() (*autoscale.Trace, error) { return c.openTrace(c.load) })
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.result, err = c.runOne(ctx, r, trace, start); err != nil {
			return err
		}
	}
	return c.write(runs, trace)
}

// check finds what is wrong with the command line itself.
func (c *replayCommand) check() (start time.Time, err error) {
	given := []string{c.spec, c.load, c.compare}
	from := slices.DeleteFunc(given, func(name string) bool { return name != stdinName })
	switch {
	case c.spec == "":
		return start, wrongUse("-spec is missing: the file with the deployment")
	case c.deployment == "":
		return start, wrongUse("-deployment is missing: whose autoscaling block to run")
	case c.load == "":
		return start, wrongUse("-load is missing: the file with the load")
	case len(from) > 1:
		return start, wrongUse("only one of -spec, -load and -compare can be standard input")
	case c.how.tick <= 0:
		return start, wrongUse("-tick must be more than 0, not %s", c.how.tick)
	case c.how.until < 0:
		return start, wrongUse("-until must not be negative, as %s is", c.how.until)
	case c.how.startDelay < 0:
		return start, wrongUse("-start-delay must not be negative, as %s is", c.how.startDelay)
	case int64(c.how.until/c.how.tick) >= autoscale.MaxReplayTicks:
		return start, wrongUse("-until %s with -tick %s is more than %d decisions: take a longer tick or a shorter run",
			c.how.until, c.how.tick, autoscale.MaxReplayTicks)
	case !slices.Contains([]string{formatTable, formatJSONL, formatSVG}, c.format):
		return start, wrongUse("-format must be table, jsonl or svg, not %q", c.format)
	case !slices.Contains([]string{arrivalsPoisson, arrivalsUniform}, c.how.arrivals):
		return start, wrongUse("-arrivals must be poisson or uniform, not %q", c.how.arrivals)
	case c.compare != "" && c.format == formatJSONL:
		return start, wrongUse("-compare and -format jsonl do not go together: its lines do not say of which spec they are; -json does")
	case c.overwrites():
		return start, wrongUse("-out %s is one of the files to be read: name another", c.out)
	case c.json && c.format != formatTable:
		return start, wrongUse("-json and -format %s do not go together", c.format)
	}
	if start, err = time.Parse(time.RFC3339, c.how.start); err != nil {
		return start, wrongUse("-start must be a time such as 2026-01-05T08:00:00Z, not %q", c.how.start)
	}
	return start, nil
}

// overwrites says whether -out is a file that is read.
func (c *replayCommand) overwrites() bool {
	out, err := os.Stat(c.out)
	if err != nil {
		return false // there is no such file
	}
	return slices.ContainsFunc([]string{c.spec, c.load, c.compare}, func(name string) bool {
		in, err := os.Stat(name)
		return err == nil && os.SameFile(in, out)
	})
}

// find returns the deployment in a spec.
func (c *replayCommand) find(file *appspec.File, name string) (*appspec.Deployment, error) {
	var applications, deployments, in []string
	var found *appspec.Deployment
	for _, a := range file.Applications {
		applications = append(applications, a.Name)
		if c.application != "" && a.Name != c.application {
			continue
		}
		for _, d := range a.Deployments {
			deployments = append(deployments, d.Name)
		}
		if d := a.Deployment(c.deployment); d != nil {
			found, in = d, append(in, a.Name)
		}
	}
	switch {
	case c.application != "" && !slices.Contains(applications, c.application):
		return nil, notThere(name, "application", c.application, applications)
	case found == nil:
		return nil, notThere(name, "deployment", c.deployment, deployments)
	case len(in) > 1:
		return nil, fmt.Errorf("%s: the applications %s each have a deployment %q: say which with -application",
			name, strings.Join(in, ", "), c.deployment)
	case found.Autoscaling == nil:
		return nil, fmt.Errorf("%s: deployment %q has no autoscaling block: there is nothing to replay", name, c.deployment)
	}
	return found, nil
}

func notThere(file, what, name string, known []string) error {
	if near := appspec.Nearest(name, known); near != "" {
		return fmt.Errorf("%s has no %s %q; did you mean %q?", file, what, name, near)
	}
	const most = 20
	list := strings.Join(known[:min(len(known), most)], ", ")
	return fmt.Errorf("%s has no %s %q; it has: %s", file, what, name, cmp.Or(list, "none"))
}

// openTrace reads the load.
func (c *replayCommand) openTrace(name string) (*autoscale.Trace, error) {
	source := c.stdin
	shown := "standard input"
	if name != stdinName {
		f, err := os.Open(name)
		if err != nil {
			return nil, readFault(name, err)
		}
		defer func() { _ = f.Close() }() // it was only read
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, fmt.Errorf("read %s: it is a folder: name a file", name)
		}
		source, shown = f, name
	}
	trace, err := autoscale.ReadTrace(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown, err)
	}
	return trace, nil
}

func (c *replayCommand) runOne(ctx context.Context, r *replayRun, trace *autoscale.Trace, start time.Time) (*autoscale.Result, error) {
	policy, err := autoscale.Compile(r.deployment.Autoscaling)
	if err != nil {
		return nil, fmt.Errorf("%s: deployment %q: %w", r.name, c.deployment, err)
	}
	result, err := autoscale.Replay(policy, trace, autoscale.ReplayOptions{
		Start: start, Tick: c.how.tick, Until: c.how.until, StartDelay: c.how.startDelay, Check: ctx.Err,
		Queue: autoscale.QueueOptions{
			MaxOngoing: r.deployment.MaxOngoingRequests, MaxQueued: r.deployment.MaxQueuedRequests,
			Seed: uint64(c.how.seed), Uniform: c.how.arrivals == arrivalsUniform,
		},
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%s: deployment %q: %w", r.name, c.deployment, err)
	}
	return result, err
}

// write writes what -format asks for, once all of it is there.
func (c *replayCommand) write(runs []*replayRun, trace *autoscale.Trace) error {
	var text bytes.Buffer
	var err error
	switch {
	case c.json:
		err = c.writeJSON(&text, runs)
	case c.format == formatJSONL:
		err = writeJSONL(&text, runs[0].result.Changes)
	case c.format == formatSVG:
		err = c.writeSVG(&text, runs, trace)
	default:
		c.writeTable(&text, runs, trace)
	}
	if err != nil {
		return err
	}
	if c.out == "" {
		_, _ = c.stdout.Write(text.Bytes()) // finish reports it
		return nil
	}
	if err := os.WriteFile(c.out, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
