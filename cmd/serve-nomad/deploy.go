package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
)

type deployCommand struct {
	follow
	spec   specFlags
	force  bool
	check  checkFlag
	groups checkFlag
}

func newDeployCommand(b *base) cli.Command {
	c := &deployCommand{follow: follow{what: "deploy", command: newCommand(b, "deploy", helpText{
		synopsis: "Deploy the applications of spec files",
		args:     "<file>...",
		about: "Deploys every application and worker group that the spec files name, and touches\n" +
			"no other. Waits until the new version of each application is healthy and takes the\n" +
			"traffic, and shows each stage of the rollout; if it does not get there, says why,\n" +
			"and the version before it goes on serving. Nodes of a worker group are not waited\n" +
			"for. A file \"-\" is standard input.\n" +
			"\n" +
			"Refused before anything starts is a deploy of replicas that no node could hold,\n" +
			"were it empty, and one of an application or worker group that somebody else has\n" +
			"changed since this command began.",
		examples: "$ serve-nomad deploy search.hcl\n$ serve-nomad deploy -var image_tag=1.5 -message \"new ranker\" search.hcl\n" +
			"$ serve-nomad deploy -detach -check-index search=41 search.hcl",
		exits: "0  every application is healthy; with -detach: the deploy is recorded\n" +
			"1  a spec has a fault, the deploy was refused, the new version did not get\n   healthy or was rolled back, or -timeout is over; why is on standard error\n" +
			"2  the command line is wrong; nothing was done\n130  interrupted; what was recorded goes on at the server",
	})}}
	c.minArgs, c.args, c.run = 1, predictSpecs(), c.deploy
	c.spec.register(c.flags)
	c.register()
	c.flags.Var(&c.check, "check-index", "Deploy only if the application's modify index is still `app=index`, as plan shows it; "+
		"0: only if there is no such application. An index alone will do for a single application. May be repeated. "+
		"Of applications without one, the index is read when the command begins.")
	c.flags.Var(&c.groups, "group-check-index", "The same of a worker group: `group=index`. May be repeated.")
	c.flags.BoolVar(&c.force, "force", false, "Deploy whatever was changed meanwhile, and also replicas that no node could hold: they wait for other nodes.")
	return c
}

// checkFlag is -check-index and -group-check-index: name=N, or N for the only
// one.
type checkFlag struct {
	named map[string]uint64
	alone *uint64
}

func (f *checkFlag) String() string { return "" }

// Set is for flag.Value.
func (f *checkFlag) Set(text string) error {
	name, number, named := strings.Cut(text, "=")
	if !named {
		number = text
	}
	index, err := strconv.ParseUint(number, 10, 64)
	if err != nil || (named && name == "") {
		return errors.New("must be name=index or an index, such as search=41")
	}
	if !named {
		f.alone = &index
		return nil
	}
	if f.named == nil {
		f.named = map[string]uint64{}
	}
	f.named[name] = index
	return nil
}

// indexes returns what to send, of the flag's name, for those that are deployed.
func (f *checkFlag) indexes(flag string, names []string) (map[string]uint64, error) {
	if f.alone != nil {
		if len(names) != 1 || f.named != nil {
			return nil, wrongUse("-%s %d does not say for which one: use -%s <name>=%d", flag, *f.alone, flag, *f.alone)
		}
		return map[string]uint64{names[0]: *f.alone}, nil
	}
	return f.named, nil
}

// request is what deploys the file.
func (c *deployCommand) request(file *appspec.File) (api.DeployRequest, error) {
	req := api.DeployRequest{Applications: file.Applications, WorkerGroups: file.WorkerGroups, Message: c.message, By: c.by()}
	var apps, groups []string
	for _, a := range file.Applications {
		apps = append(apps, a.Name)
	}
	for _, g := range file.WorkerGroups {
		groups = append(groups, g.Name)
	}
	var err error
	if req.CheckIndex, err = c.check.indexes("check-index", apps); err != nil {
		return req, err
	}
	req.GroupCheckIndex, err = c.groups.indexes("group-check-index", groups)
	return req, err
}

func (c *deployCommand) deploy(ctx context.Context, args []string) error {
	if _, err := c.limit(0); err != nil {
		return err
	}
	file, err := c.spec.read(c.command, args)
	if err != nil {
		return err
	}
	if err = deployable(file); err != nil {
		return err
	}
	req, err := c.request(file)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	started := time.Now()
	stages, err := c.prepare(ctx, client, &req)
	if err != nil {
		return err
	}
	limit, err := c.limit(stages)
	if err != nil {
		return err
	}
	answer, err := client.Deploy(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			c.errorf("Interrupted while the deploy was sent: look whether it was recorded with serve-nomad events.")
			return exitWith(exitStopped)
		}
		return c.advised(err)
	}
	return c.end(ctx, client, answer, started, limit)
}

// prepare looks at what the deploy would do before it is sent: it is to be
// applied to what is there now, and must fit somewhere. It returns how long the
// stages of the rollouts last.
func (c *deployCommand) prepare(ctx context.Context, client *api.Client, req *api.DeployRequest) (time.Duration, error) {
	plan, err := client.Plan(ctx, api.PlanRequest{Applications: req.Applications, WorkerGroups: req.WorkerGroups})
	if err != nil && c.force && ctx.Err() == nil {
		c.errorf("Warning: what this would do cannot be told: %s", printable(err.Error()))
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	stages, err := c.placed(plan, c.force)
	if err != nil {
		return 0, err
	}
	apps, groups := map[string]uint64{}, map[string]uint64{}
	for _, a := range plan.Applications {
		if !a.Moved {
			apps[a.Name] = a.CheckIndex
		}
	}
	for _, g := range plan.WorkerGroups {
		groups[g.Name] = g.CheckIndex
	}
	if !c.force {
		maps.Copy(apps, req.CheckIndex)
		maps.Copy(groups, req.GroupCheckIndex)
		req.CheckIndex, req.GroupCheckIndex = apps, groups
	}
	return stages, nil
}

// deployable refuses a file with nothing in it.
func deployable(file *appspec.File) error {
	if len(file.Applications) == 0 && len(file.WorkerGroups) == 0 {
		return errors.New("the spec names no application and no worker group: there is nothing to deploy")
	}
	return nil
}

// acceptedLines say what was recorded, worker groups first.
func acceptedLines(answer api.DeployResponse) string {
	var out strings.Builder
	for _, g := range answer.WorkerGroups {
		out.WriteString(acceptedGroup(g) + "\n")
	}
	for _, d := range answer.Applications {
		out.WriteString(acceptedLine(d) + "\n")
	}
	return out.String()
}

func acceptedGroup(g api.DeployedGroup) string {
	if !g.Changed {
		return fmt.Sprintf("Worker group %s is there already.", g.Name)
	}
	return fmt.Sprintf("Worker group %s is recorded.", g.Name)
}

func acceptedLine(d api.Deployed) string {
	if !d.Changed {
		return fmt.Sprintf("Application %s: version %d is there already.", d.Name, d.Version)
	}
	return fmt.Sprintf("Application %s: version %d is recorded.", d.Name, d.Version)
}
