package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/nomadjobs"
)

type simulateCommand struct {
	*command
	vars    specFlags
	spec    string
	load    string
	pattern string
	low     int
	high    int
	set     listFlag
	vary    listFlag
	delay   time.Duration
	start   time.Duration
	fails   float64
	until   time.Duration
	seed    int
}

// The values of -pattern.
const (
	patternWave   = "wave"
	patternBursts = "bursts"
	patternWalk   = "walk"
)

func newNodeGroupsSimulateCommand(b *base) cli.Command {
	c := &simulateCommand{command: newLocalCommand(b, "node-groups simulate", helpText{
		synopsis: "Run worker groups over a load, offline: what nodes cost, and what waits",
		about: "Says what the node autoscaler would make of a load, by the code that the servers\n" +
			"run, on a simulated Nomad. No server is asked. A day of thousands of nodes takes\n" +
			"minutes at most.\n\n" +
			"The load is a file of JSON objects, one a line, with at in seconds:\n\n" +
			"    {\"at\": 0, \"job\": \"search/ranker\", \"replicas\": 4}\n\n" +
			"Or -pattern makes one for each deployment, between -low and -high replicas:\n" +
			"wave goes up and down once in 24 hours; bursts jumps up every half hour in the\n" +
			"mean, for 10 minutes; walk changes every 5 minutes at random, by up to a 20th.\n\n" +
			"-set changes a setting of every worker group, -vary runs once for each value:\n" +
			strings.Join(settingNames(), ", ") + ".\n" +
			"buffer counts nodes that are kept free, buffer_replicas room of a core and 1 GiB\n" +
			"each. Several -vary give a run for each combination.",
		examples: "$ serve-nomad node-groups simulate -spec search.hcl -load monday.jsonl\n" +
			"$ serve-nomad node-groups simulate -spec search.hcl -pattern wave -high 80 \\\n" +
			"    -vary idle_timeout=15s,60s,5m,15m -vary delay=5s,60s,240s",
	})}
	c.maxArgs, c.args, c.run = 0, complete.PredictNothing, c.simulate
	f := c.flags
	f.StringVar(&c.spec, "spec", "", "Spec `file` with the worker groups and deployments; - is standard input. Needed.")
	f.StringVar(&c.load, "load", "", "`File` with the load; - is standard input. This or -pattern is needed.")
	f.StringVar(&c.pattern, "pattern", "", "Load that is made up: `wave|bursts|walk`.")
	f.IntVar(&c.low, "low", 4, "`Number` of replicas of each deployment at least, with -pattern.")
	f.IntVar(&c.high, "high", 40, "`Number` of replicas of each deployment at most, with -pattern.")
	f.Var(&c.set, "set", "A setting of every worker group, as `name=value`. May be repeated.")
	f.Var(&c.vary, "vary", "A setting with several values, as `name=value,value`. May be repeated.")
	f.DurationVar(&c.delay, "delay", time.Minute, "`Duration` from the call of a target until the node is ready in Nomad.")
	f.DurationVar(&c.start, "start", 10*time.Second, "`Duration` from a replica's place until it serves.")
	f.Float64Var(&c.fails, "fails", 0, "`Share` of launches that fail, 0 to 1. Default: 0.")
	f.DurationVar(&c.until, "until", 24*time.Hour, "`Duration` of the run.")
	f.IntVar(&c.seed, "seed", 1, "`Number` that chance begins with.")
	c.vars.register(f)
	return c
}

// simRun is one combination of settings, and what came of it.
type simRun struct {
	Settings map[string]string   `json:"settings"`
	Result   nodescale.SimResult `json:"result"`
}

func (c *simulateCommand) simulate(ctx context.Context, _ []string) error {
	fixed, varied, err := c.settings()
	if err != nil {
		return err
	}
	file, err := c.vars.read(c.command, []string{c.spec})
	if err != nil {
		return err
	}
	if len(file.WorkerGroups) == 0 {
		return fmt.Errorf("%s has no worker_group block: there is nothing to simulate", c.spec)
	}
	load, err := c.demand(file)
	if err != nil {
		return err
	}
	var runs []simRun
	for _, combination := range combinations(varied) {
		settings := map[string]string{}
		for _, s := range slices.Concat(fixed, combination) {
			settings[s.name] = s.value
		}
		result, err := c.runOne(ctx, file, load, slices.Concat(fixed, combination))
		if err != nil {
			return err
		}
		runs = append(runs, simRun{settings, result})
	}
	if c.json {
		c.printJSON(runs)
		return nil
	}
	c.printf("%s", simTable(runs, varied))
	for _, id := range runs[0].Result.Hopeless {
		c.printf("\nNo worker group's node could hold a replica of %s.\n", id)
	}
	return nil
}

// settings reads -set and -vary, and checks the rest of the command line.
func (c *simulateCommand) settings() (fixed []setting, varied [][]setting, err error) {
	switch {
	case c.spec == "":
		return nil, nil, wrongUse("-spec is missing: the file with the worker groups")
	case (c.load == "") == (c.pattern == ""):
		return nil, nil, wrongUse("either -load or -pattern says how many replicas there are to be")
	case c.load == stdinName && c.spec == stdinName:
		return nil, nil, wrongUse("only one of -spec and -load can be standard input")
	case c.pattern != "" && !slices.Contains([]string{patternWave, patternBursts, patternWalk}, c.pattern):
		return nil, nil, wrongUse("-pattern must be wave, bursts or walk, not %q", c.pattern)
	case c.low < 0 || c.high < c.low || c.high > 1_000_000:
		return nil, nil, wrongUse("-low and -high must be 0 or more and in order, not %d and %d", c.low, c.high)
	case c.delay < 0 || c.start < 0 || c.until <= 0:
		return nil, nil, wrongUse("-delay and -start must not be negative, and -until must be more than 0")
	case c.fails < 0 || c.fails > 1 || c.fails != c.fails:
		return nil, nil, wrongUse("-fails must be 0 to 1, not %g", c.fails)
	}
	for _, text := range c.set {
		list, err := parseSettings(text)
		if err == nil && len(list) > 1 {
			err = wrongUse("-set %s has several values: -vary takes these", text)
		}
		if err != nil {
			return nil, nil, err
		}
		fixed = append(fixed, list...)
	}
	const most = 256
	runs := 1
	for _, text := range c.vary {
		list, err := parseSettings(text)
		if err != nil {
			return nil, nil, err
		}
		if runs *= len(list); runs > most {
			return nil, nil, wrongUse("-vary asks for more than %d runs", most)
		}
		varied = append(varied, list)
	}
	return fixed, varied, nil
}

// combinations is each choice of one value of every list, the last changing
// first.
func combinations(lists [][]setting) [][]setting {
	all := [][]setting{nil}
	for _, list := range lists {
		var next [][]setting
		for _, before := range all {
			for _, s := range list {
				next = append(next, append(slices.Clone(before), s))
			}
		}
		all = next
	}
	return all
}

// demand reads the load, or makes one.
func (c *simulateCommand) demand(file *appspec.File) ([]nodescale.SimDemand, error) {
	names := map[string]string{} // what people call a deployment -> its job; "": several are called so
	var jobs []string
	for _, a := range file.Applications {
		for _, d := range a.Deployments {
			id := a.Name + "/" + d.Name
			jobs = append(jobs, id)
			names[id] = id
			if _, taken := names[d.Name]; taken {
				names[d.Name] = ""
			} else {
				names[d.Name] = id
			}
		}
	}
	if c.load == "" {
		return c.made(jobs), nil
	}
	source, shown := c.stdin, "standard input"
	if c.load != stdinName {
		f, err := os.Open(c.load)
		if err != nil {
			return nil, readFault(c.load, err)
		}
		defer func() { _ = f.Close() }() // it was only read
		source, shown = f, c.load
	}
	load, err := nodescale.ReadSimLoad(source, func(name string) (string, error) {
		switch id, known := names[name]; {
		case !known:
			return "", notThere(c.spec, "deployment", name, jobs)
		case id == "":
			return "", fmt.Errorf("several applications have a deployment %q: write application/%s", name, name)
		default:
			return id, nil
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown, err)
	}
	return load, nil
}

// made is the load of -pattern.
func (c *simulateCommand) made(jobs []string) []nodescale.SimDemand {
	var loads [][]nodescale.SimDemand
	for i, id := range jobs {
		chance := rand.New(rand.NewPCG(uint64(c.seed), uint64(i)+1)) //nolint:gosec // G404: a simulation is to be repeatable
		switch c.pattern {
		case patternWave:
			loads = append(loads, nodescale.SimWave(id, c.low, c.high, 24*time.Hour, time.Minute, c.until))
		case patternBursts:
			loads = append(loads, nodescale.SimBursts(chance, id, c.low, c.high, 30*time.Minute, 10*time.Minute, c.until))
		default:
			loads = append(loads, nodescale.SimWalk(chance, id, c.low, c.high, max(1, (c.high-c.low)/20), 5*time.Minute, c.until))
		}
	}
	return nodescale.SimTogether(loads...)
}

// runOne simulates one combination of settings.
func (c *simulateCommand) runOne(ctx context.Context, file *appspec.File, load []nodescale.SimDemand, settings []setting) (nodescale.SimResult, error) {
	how := simHow{delay: c.delay, start: c.start, groups: map[string]*appspec.WorkerGroup{}}
	for _, g := range file.WorkerGroups {
		copied := *g
		if g.ScaleDown != nil {
			copied.ScaleDown = new(*g.ScaleDown)
		}
		if g.Buffer != nil {
			copied.Buffer = new(*g.Buffer)
		}
		how.groups[g.Name] = &copied
	}
	for _, s := range settings {
		if err := s.apply(&how); err != nil {
			return nodescale.SimResult{}, err
		}
	}
	began := time.Now()
	in := nodescale.SimInput{
		Start: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), Until: c.until, Demand: load,
		Chance:    rand.New(rand.NewPCG(uint64(c.seed), 0)), //nolint:gosec // G404: a simulation is to be repeatable
		Stopwatch: func() time.Duration { return time.Since(began) }, Check: ctx.Err,
	}
	for _, g := range file.WorkerGroups {
		spec := how.groups[g.Name]
		spec.DryRun, spec.Target.Kind = false, appspec.TargetExec
		in.Groups = append(in.Groups, nodescale.SimGroup{
			Spec: spec, CoreMHz: cmp.Or(spec.Node.CoreMHz, jobspec.DefaultCoreMHz), Fails: c.fails,
			Answer: nodescale.SimDelay{Mean: min(time.Second, how.delay)}, Launch: nodescale.SimDelay{Mean: how.delay, Spread: how.delay / 5},
			Remove: 5 * time.Second,
		})
	}
	for _, a := range file.Applications {
		for _, d := range a.Deployments {
			job, err := simJob(a, d, how)
			if err != nil {
				return nodescale.SimResult{}, err
			}
			in.Jobs = append(in.Jobs, job)
		}
	}
	return nodescale.Simulate(in)
}

// simJob is a deployment as it is simulated: it asks for what its Nomad job
// would.
func simJob(a *appspec.Application, d *appspec.Deployment, how simHow) (nodescale.SimJob, error) {
	group := how.groups[d.WorkerGroup]
	coreMHz := jobspec.DefaultCoreMHz
	if group != nil {
		coreMHz = cmp.Or(group.Node.CoreMHz, coreMHz)
	}
	ask, err := nomadjobs.AskOf(jobspec.Render(jobspec.Input{
		ClusterID: "simulated", Application: a, Deployment: d, Version: "simulated", CoreMHz: coreMHz, WorkerGroup: group,
	}))
	if err != nil {
		return nodescale.SimJob{}, err
	}
	ask.Job = a.Name + "/" + d.Name
	return nodescale.SimJob{
		Application: a.Name, Deployment: d.Name, Ask: ask,
		Start: nodescale.SimDelay{Mean: how.start, Spread: how.start / 5}, Stop: jobspec.DefaultShutdownDelay + time.Second,
	}, nil
}
