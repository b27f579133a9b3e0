package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/cli"
	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func newExplainCommand(b *base) cli.Command {
	c := newCommand(b, "autoscale explain", helpText{
		synopsis: "Show why a deployment has as many replicas as it has, and what comes next",
		args:     "<application>/<deployment>",
		about: "Shows how a deployment with an autoscaling block scales, by the server that decides:\n" +
			"the load as the proxies report it, what each rule makes of it now, what would be\n" +
			"done next and when, and what keeps replicas from being taken away. It changes\n" +
			"nothing. The application and the deployment may also be given as two words.",
		examples: "$ serve-nomad autoscale explain search/ranker\n$ serve-nomad autoscale explain -json search/ranker | jq .decision",
	})
	c.minArgs, c.maxArgs, c.args = 1, 2, c.predictDeployments()
	c.run = func(ctx context.Context, args []string) error {
		application, deployment, err := deploymentNamed(args)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		explanation, err := client.Explain(ctx, application, deployment)
		if err != nil {
			return err
		}
		if c.json {
			c.printJSON(explanation)
			return nil
		}
		c.printf("%s", explained(&explanation))
		return nil
	}
	return c
}

// deploymentNamed reads "application/deployment", or the two as two words.
func deploymentNamed(args []string) (application, deployment string, err error) {
	if len(args) == 2 {
		return args[0], args[1], nil
	}
	application, deployment, found := strings.Cut(args[0], "/")
	if !found || application == "" || deployment == "" || strings.Contains(deployment, "/") {
		return "", "", wrongUse("%q names no deployment: want <application>/<deployment>, such as search/ranker", args[0])
	}
	return application, deployment, nil
}

// predictDeployments completes names such as search/ranker.
func (c *command) predictDeployments() complete.Predictor {
	return c.predict(func(a reconcile.ApplicationStatus) []string {
		var names []string
		for _, d := range a.Deployments {
			// During a rollout a deployment is listed once for each version.
			if name := a.Name + "/" + d.Name; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names
	})
}

// explained is an explanation for people. Its times are as of the server's
// clock, so they are right whatever this machine's says.
func explained(e *autoscale.Explanation) string {
	var text strings.Builder
	text.WriteString(pairs([][2]string{
		{"Deployment", e.Application + "/" + e.Deployment},
		{"Policy", e.Policy},
		{"Target", fmt.Sprintf("%s, of %d to %d allowed now", plural(e.Target, "replica"), e.Min, e.Max)},
		{"Running", strconv.Itoa(e.Running)},
		{"Requests", requestsText(e)},
		{"Window", windowText(e.Load)},
		{"Metric", metricText(e)},
		{"Start Time", startText(e.StartTime)},
		{"Last Change", lastText(e)},
		{"On Hold", holdText(e)},
	}))
	fmt.Fprintf(&text, "\nDecision\n%s", pairs([][2]string{
		{"Now", nowText(e)},
		{"Why", e.Decision.Reason},
		{"Next", nextText(e)},
	}))
	if len(e.Decision.Rules) > 0 {
		var rows [][]string
		for _, r := range e.Decision.Rules {
			rows = append(rows, []string{r.Name, strconv.Itoa(r.Wants), r.Detail})
		}
		text.WriteString("\nRules\n" + table([]string{"Rule", "Wants", "Says"}, rows))
	}
	text.WriteString("\nProxies\n" + proxiesText(&e.Proxies))
	return text.String()
}

func requestsText(e *autoscale.Explanation) string {
	if e.Load == nil {
		return "not known: no proxy has reported of late"
	}
	return fmt.Sprintf("%d ongoing, %d queued", e.Ongoing, e.Queued)
}

func windowText(l *autoscale.LoadSummary) string {
	if l == nil || l.Window == 0 {
		return ""
	}
	text := fmt.Sprintf("%s: mean %s, largest %s, smallest %s", brief(l.Window), amount(l.Mean), amount(l.Max), amount(l.Min))
	if l.Known < l.Window {
		text += fmt.Sprintf("; only %s of it are known", brief(l.Known))
	}
	return text
}

func metricText(e *autoscale.Explanation) string {
	switch m := e.Metric; {
	case m == nil:
		return ""
	case m.Error != "":
		return fmt.Sprintf("cannot be read from %s: %s", m.Source, m.Error)
	default:
		return fmt.Sprintf("%s, from %s %s ago", amount(m.Value), m.Source, brief(e.At.Sub(m.At)))
	}
}

func startText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return brief(d) + " from the order for a replica until it serves, of late"
}

func lastText(e *autoscale.Explanation) string {
	l := e.Last
	if l == nil {
		return ""
	}
	text := fmt.Sprintf("%d -> %d, %s ago", l.From, l.To, brief(e.At.Sub(l.At)))
	if l.By != "" {
		text += " by " + l.By
	}
	if l.Reason != "" {
		text += ": " + l.Reason
	}
	return text
}

func holdText(e *autoscale.Explanation) string {
	if e.Hold == "" {
		return ""
	}
	return "nothing is taken away: " + e.Hold
}

func nowText(e *autoscale.Explanation) string {
	switch d := e.Decision; {
	case d.Target == e.Target:
		return "no change"
	case d.Target > e.Target:
		return "up to " + plural(d.Target, "replica")
	default:
		return "down to " + plural(d.Target, "replica")
	}
}

func nextText(e *autoscale.Explanation) string {
	p := e.Decision.Pending
	if p == nil {
		return ""
	}
	return fmt.Sprintf("%s in %s, if the load stays as it is", plural(p.Target, "replica"), brief(max(0, p.At.Sub(e.At))))
}

func proxiesText(list *autoscale.ProxyList) string {
	var text strings.Builder
	if len(list.Proxies) == 0 {
		text.WriteString("None has reported.\n")
	} else {
		var rows [][]string
		for _, p := range list.Proxies {
			status := "ready"
			if !p.Ready {
				status = "not ready"
			}
			if p.Silent {
				status = "silent"
			}
			rows = append(rows, []string{p.Proxy, status, brief(p.Age) + " ago", strconv.FormatUint(p.Reports, 10)})
		}
		text.WriteString(table([]string{"Proxy", "Status", "Reported", "Reports"}, rows))
	}
	if list.Refused > 0 {
		fmt.Fprintf(&text, "%s refused, the last one: %s\n", plural(list.Refused, "report"), printable(cmp.Or(list.LastRefusal, "no reason is known")))
	}
	return text.String()
}
