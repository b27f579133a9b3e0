package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// follow is what the commands that begin rollouts have in common.
type follow struct {
	*command
	what    string // "deploy", "rollback"
	detach  bool
	message string
	timeout time.Duration
}

// defaultTimeout is how long a rollout is waited for, beside the times that its
// stages last.
const defaultTimeout = 10 * time.Minute

func (c *follow) register() {
	c.flags.BoolVar(&c.detach, "detach", false, "Return when the "+c.what+" is recorded, and do not wait for its end.")
	c.flags.StringVar(&c.message, "message", "", "`Text` for the record: why.")
	c.flags.DurationVar(&c.timeout, "timeout", defaultTimeout, "The `duration` to wait for the applications to be healthy. "+
		"The "+c.what+" goes on after it. When the default is taken, the times that the stages of the rollout last come on top.")
}

// limit is how long to wait for a rollout whose stages last so long.
func (c *follow) limit(stages time.Duration) (time.Duration, error) {
	switch {
	case c.timeout <= 0:
		return 0, wrongUse("-timeout must be more than 0")
	case c.given("timeout"):
		return c.timeout, nil
	default:
		return c.timeout + stages, nil
	}
}

// codeNoRoom is the code of what these commands themselves refuse.
const codeNoRoom api.Code = "no_room"

// placed refuses what is planned if replicas of it would never find a place,
// unless that is to be so, warns of what else there is to know, and returns how
// long the stages of the rollouts last.
func (c *follow) placed(plan api.PlanResponse, force bool) (stages time.Duration, err error) {
	if plan.Room.Never() && !force {
		return 0, &api.Error{Code: codeNoRoom, Message: "nothing was done, as replicas would never find a place:\n" +
			strings.Join(missingLines(plan.Room), "\n") + "\n-force does it all the same, and they wait for other nodes"}
	}
	for _, line := range slices.Concat(plan.Warnings, missingLines(plan.Room)) {
		c.errorf("Warning: %s", printable(line))
	}
	for _, a := range plan.Applications {
		stages = max(stages, lasting(a.Stages))
	}
	return stages, nil
}

// lasting is how long stages last together, at least.
func lasting(stages []api.StagePlan) time.Duration {
	var sum time.Duration
	for _, s := range stages {
		sum += s.Lasts.Std()
	}
	return sum
}

// advised adds what to do to a refusal because somebody else was faster.
func (c *follow) advised(err error) error {
	refused, ok := errors.AsType[*api.Error](err)
	if !ok || refused.Code != api.CodeConflict || !strings.Contains(refused.Message, "changed since") {
		return err
	}
	more := *refused
	more.Message += "; look at what changed with history and plan, and " + c.what + " again, or with -force whatever changed"
	return &more
}

// deployOutput is what deploy -json and rollback -json print.
type deployOutput struct {
	api.DeployResponse
	Statuses []reconcile.ApplicationStatus `json:"statuses,omitempty"`
	URLs     map[string]string             `json:"urls,omitempty"` // application -> where the proxy serves it
	Took     appspec.Duration              `json:"took"`
	Notes    []string                      `json:"notes,omitempty"` // why replicas do not stay up, with the ends of their logs
	Error    string                        `json:"error,omitempty"`
}

// end waits for what was recorded, unless nobody wants to wait, and says how it
// went.
func (c *follow) end(ctx context.Context, client *api.Client, answer api.DeployResponse, started time.Time, limit time.Duration) error {
	if c.detach {
		return c.detached(answer)
	}
	if !c.json {
		c.printf("%s", acceptedLines(answer))
	}
	err := c.wait(ctx, client, answer, started, limit)
	if ctx.Err() != nil {
		c.errorf("Interrupted: the %s goes on at the server. Follow it: %s status %s", c.what, program, onlyName(answer))
	}
	return err
}

func (c *follow) detached(answer api.DeployResponse) error {
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

// wait waits for the end of the rollouts and tells how they went. When ctx ends,
// only as JSON.
func (c *follow) wait(ctx context.Context, client *api.Client, answer api.DeployResponse, started time.Time, limit time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f := newRolloutFollower(c.command, c.what, client, answer, started)
	outcomes := f.run(waiting)
	if ctx.Err() != nil {
		if c.json {
			c.printOutcomes(f, outcomes, nil)
		}
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
			c.printf("%s", afterwards(o.status))
			c.printf("  curl %s\n", urls[o.name])
		}
	}
	if code != exitOK {
		return exitWith(code)
	}
	return nil
}

// afterwards says what is left to know of a rollout that went well.
func afterwards(s reconcile.ApplicationStatus) string {
	var out strings.Builder
	for _, d := range s.Deployments {
		if d.Wanted && d.Target == 0 {
			fmt.Fprintf(&out, "  %s has no replica, so it is not known whether its replicas start.\n", d.Name)
		}
	}
	for _, l := range s.Leaving {
		out.WriteString("  " + printable(leavingLine(l)) + ".\n")
	}
	return out.String()
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

func (c *follow) printOutcomes(f *rolloutFollower, outcomes []outcome, urls map[string]string) {
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
func (c *follow) urls(ctx context.Context, client *api.Client, outcomes []outcome) map[string]string {
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
