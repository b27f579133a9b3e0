package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

type deployCommand struct {
	*command
	spec    specFlags
	detach  bool
	message string
	check   checkFlag
	groups  checkFlag
	timeout time.Duration
}

func newDeployCommand(b *base) cli.Command {
	c := &deployCommand{command: newCommand(b, "deploy", helpText{
		synopsis: "Deploy the applications of spec files",
		args:     "<file>...",
		about: "Deploys every application and worker group that the spec files name, and touches\n" +
			"no other. Waits until the new version of each application is healthy and takes the\n" +
			"traffic; if it does not get there, says why, and the version before it goes on\n" +
			"serving. Nodes of a worker group are not waited for. A file \"-\" is standard input.",
		examples: "$ serve-nomad deploy search.hcl\n$ serve-nomad deploy -var image_tag=1.5 -message \"new ranker\" search.hcl\n" +
			"$ serve-nomad deploy -detach -check-index search=41 search.hcl",
		exits: "0  every application is healthy; with -detach: the deploy is recorded\n" +
			"1  a spec has a fault, the deploy was refused, the new version did not get\n   healthy, or -timeout is over; why is on standard error\n" +
			"2  the command line is wrong; nothing was done\n130  interrupted; what was recorded goes on at the server",
	})}
	c.minArgs, c.args, c.run = 1, predictSpecs(), c.deploy
	c.spec.register(c.flags)
	c.flags.BoolVar(&c.detach, "detach", false, "Return when the deploy is recorded, and do not wait for its end.")
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	c.flags.Var(&c.check, "check-index", "Deploy only if the application's modify index is still `app=index`, as plan shows it; "+
		"0: only if there is no such application. An index alone will do for a single application. May be repeated.")
	c.flags.Var(&c.groups, "group-check-index", "The same of a worker group: `group=index`. May be repeated.")
	c.flags.DurationVar(&c.timeout, "timeout", 10*time.Minute, "The `duration` to wait for the applications to be healthy. The deploy goes on after it.")
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

// deployOutput is what deploy -json prints.
type deployOutput struct {
	api.DeployResponse
	Statuses []reconcile.ApplicationStatus `json:"statuses,omitempty"`
	URLs     map[string]string             `json:"urls,omitempty"` // application -> where the proxy serves it
	Took     appspec.Duration              `json:"took"`
	Notes    []string                      `json:"notes,omitempty"` // why replicas do not stay up, with the ends of their logs
	Error    string                        `json:"error,omitempty"`
}

func (c *deployCommand) deploy(ctx context.Context, args []string) error {
	if c.timeout <= 0 {
		return wrongUse("-timeout must be more than 0")
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
	answer, err := client.Deploy(ctx, req)
	if err != nil {
		if ctx.Err() != nil {
			c.errorf("Interrupted while the deploy was sent: look whether it was recorded with serve-nomad events.")
			return exitWith(exitStopped)
		}
		return err
	}
	if c.detach {
		return c.detached(answer)
	}
	if !c.json {
		c.printf("%s", acceptedLines(answer))
	}
	err = c.follow(ctx, client, answer, started)
	if ctx.Err() != nil {
		c.errorf("Interrupted: the deploy goes on at the server. Follow it: serve-nomad status %s", onlyName(answer))
	}
	return err
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

func (c *deployCommand) detached(answer api.DeployResponse) error {
	if c.json {
		c.printJSON(answer)
		return nil
	}
	for _, g := range answer.WorkerGroups {
		c.printf("%s Follow it: serve-nomad node-groups explain %s\n", acceptedGroup(g), g.Name)
	}
	for _, d := range answer.Applications {
		c.printf("%s Follow it: serve-nomad status %s\n", acceptedLine(d), d.Name)
	}
	return nil
}

// follow waits for the end of the rollouts and tells how they went. It says
// nothing when ctx ends.
func (c *deployCommand) follow(ctx context.Context, client *api.Client, answer api.DeployResponse, started time.Time) error {
	waiting, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	f := newRolloutFollower(c.command, client, answer, started)
	outcomes := f.run(waiting)
	if ctx.Err() != nil {
		return exitWith(exitStopped)
	}
	urls := c.urls(ctx, client, outcomes)
	if c.json {
		c.printOutcomes(f, outcomes, urls)
	}
	code := exitOK
	for _, o := range outcomes {
		switch {
		case o.problem != "":
			code = exitError
			c.errorf("Error: %s", printable(o.problem))
		case !c.json:
			c.printf("Application %s: version %d is healthy and takes the traffic, after %s.\n", o.name, o.status.Version, brief(o.took))
			for _, d := range o.status.Deployments {
				if d.Wanted && d.Target == 0 {
					c.printf("  %s has no replica, so it is not known whether its replicas start.\n", d.Name)
				}
			}
			c.printf("  curl %s\n", urls[o.name])
		}
	}
	if code != exitOK {
		return exitWith(code)
	}
	return nil
}

// usualProxy is the proxy's usual port on the server's own host.
func usualProxy(server string) string {
	const port = "8000"
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return "http://127.0.0.1:" + port
	}
	return "http://" + net.JoinHostPort(u.Hostname(), port)
}

// onlyName is the name of the application that was deployed, "" if there are
// several.
func onlyName(answer api.DeployResponse) string {
	if len(answer.Applications) != 1 {
		return ""
	}
	return answer.Applications[0].Name
}

func (c *deployCommand) printOutcomes(f *rolloutFollower, outcomes []outcome, urls map[string]string) {
	out := deployOutput{
		DeployResponse: f.answer, URLs: urls, Notes: f.show.kept,
		Took: appspec.Duration(time.Since(f.started).Round(time.Millisecond)),
	}
	var problems []string
	for _, o := range outcomes {
		if o.status.Name != "" {
			out.Statuses = append(out.Statuses, o.status)
		}
		if o.problem != "" {
			problems = append(problems, o.problem)
		}
	}
	out.Error = strings.Join(problems, "; ")
	c.printJSON(out)
}

// urls says where the proxy serves each application that is healthy.
func (c *deployCommand) urls(ctx context.Context, client *api.Client, outcomes []outcome) map[string]string {
	base := c.getenv("SERVE_NOMAD_PROXY_ADDR")
	if base == "" {
		if self, err := client.Self(ctx); err == nil {
			base = self.Proxy
		}
	}
	if base == "" {
		base = usualProxy(client.Address())
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	urls := map[string]string{}
	for _, o := range outcomes {
		if o.problem == "" {
			urls[o.name] = strings.TrimSuffix(base, "/") + o.status.RoutePrefix
		}
	}
	return urls
}
