package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

type recordCommand struct {
	*command
	interval time.Duration
	length   time.Duration
	out      string
	svg      string

	began   time.Time
	samples []sample
	nodes   func(context.Context) *nodeCount // nil: the deployment is in no worker group
}

func newRecordCommand(b *base) cli.Command {
	c := &recordCommand{command: newCommand(b, "autoscale record", helpText{
		synopsis: "Record the load of a deployment, to replay it",
		args:     "<application>/<deployment>",
		about: "Writes the requests that a deployment has, queued and ongoing, the replicas that run\n" +
			"and are wanted, and the nodes of its worker group: a line whenever one of them has\n" +
			"changed, until it is interrupted or -for is over. autoscale replay reads it; -svg\n" +
			"draws it.",
		examples: "$ serve-nomad autoscale record -for 24h -out monday.jsonl search/ranker\n" +
			"$ serve-nomad autoscale replay -spec search.hcl -deployment ranker -load monday.jsonl -until 24h",
		exits: "0  recorded until it was interrupted, or -for was over\n1  there is no such deployment, or no server answered for a minute\n2  the command line is wrong; nothing was done",
	})}
	c.minArgs, c.maxArgs, c.args, c.run = 1, 2, c.predictDeployments(), c.record
	c.flags.DurationVar(&c.interval, "interval", time.Second, "`Duration` between two looks.")
	c.flags.DurationVar(&c.length, "for", 0, "`Duration` of the record. Default: until interrupted.")
	c.flags.StringVar(&c.out, "out", "", "Write to this `file` instead of standard output.")
	c.flags.StringVar(&c.svg, "svg", "", "Draw the record into this `file` at the end.")
	return c
}

// sample is one line of a record.
type sample struct {
	At       json.Number `json:"at"` // seconds, to the millisecond
	Requests float64     `json:"requests"`
	Running  int         `json:"running"`
	Target   int         `json:"target"`
	Metric   *float64    `json:"metric,omitempty"`
	Nodes    *nodeCount  `json:"nodes,omitempty"` // of its worker group

	at time.Duration
}

// nodeCount is the nodes of a worker group.
type nodeCount struct {
	Ready     int `json:"ready"`
	Launching int `json:"launching"`
	Going     int `json:"going"` // draining, or being removed
}

func (n *nodeCount) all() int {
	if n == nil {
		return 0
	}
	return n.Ready + n.Launching + n.Going
}

func (n *nodeCount) ready() int {
	if n == nil {
		return 0
	}
	return n.Ready
}

func (s sample) differs(from sample) bool {
	metric := func(p *float64) float64 {
		if p == nil {
			return -1
		}
		return *p
	}
	nodes := func(n *nodeCount) nodeCount {
		if n == nil {
			return nodeCount{Ready: -1}
		}
		return *n
	}
	return nodes(s.Nodes) != nodes(from.Nodes) || s.Requests != from.Requests || s.Running != from.Running || s.Target != from.Target || metric(s.Metric) != metric(from.Metric)
}

func (c *recordCommand) record(ctx context.Context, args []string) (err error) {
	application, deployment, err := deploymentNamed(args)
	if err != nil {
		return err
	}
	if c.interval < 10*time.Millisecond || c.length < 0 {
		return wrongUse("-interval must be 10ms at least, and -for not negative")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.length)
		defer cancel()
	}
	if c.svg != "" { // what cannot be written is better known now than at the end
		if err := os.WriteFile(c.svg, nil, 0o644); err != nil {
			return fmt.Errorf("write the drawing: %w", err)
		}
	}
	out := c.stdout
	if c.out != "" {
		file, err := os.Create(c.out)
		if err != nil {
			return fmt.Errorf("write the record: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	c.began = time.Now()
	c.nodes = nodesOf(ctx, client, application, deployment)
	if err := c.follow(ctx, out, func(ctx context.Context) (autoscale.Explanation, error) {
		return client.Explain(ctx, application, deployment)
	}); err != nil {
		return err
	}
	return c.draw(application + "/" + deployment)
}

// recordPatience is how long a record goes on without an answer.
const recordPatience = time.Minute

// follow writes a line for each change until ctx ends.
func (c *recordCommand) follow(ctx context.Context, out io.Writer, look func(context.Context) (autoscale.Explanation, error)) error {
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	var answered time.Time // zero: never
	for {
		seen, err := look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			answered = time.Now()
		} else if api.CodeNotFound.Is(err) || api.CodeConflict.Is(err) || time.Since(answered) > recordPatience {
			return err
		}
		if err == nil && seen.Load != nil {
			first := len(c.samples) == 0
			now := sample{Requests: seen.Load.Present, Running: seen.Running, Target: seen.Target}
			if c.nodes != nil {
				now.Nodes = c.nodes(ctx)
			}
			if m := seen.Metric; m != nil && m.Error == "" {
				now.Metric = &m.Value
			}
			if first {
				c.began = answered
			}
			if first || now.differs(c.samples[len(c.samples)-1]) {
				now.at = answered.Sub(c.began)
				now.At = json.Number(fmt.Sprintf("%.3f", now.at.Seconds()))
				if err := json.NewEncoder(out).Encode(now); err != nil {
					return fmt.Errorf("write the record: %w", err)
				}
				c.samples = append(c.samples, now)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// draw draws what was recorded, if that was asked for.
func (c *recordCommand) draw(deployment string) error {
	if c.svg == "" {
		return nil
	}
	line := func(value func(sample) float64) []autoscale.Point {
		points := []autoscale.Point{{}}
		for _, s := range c.samples {
			points = append(points, autoscale.Point{At: s.at, Value: value(s)})
		}
		return points[min(1, len(points)-1):]
	}
	panels := []panel{
		loadPanel(clippedTitle("Deployment "+deployment), []plotLine{
			{name: "load: queued and ongoing", points: line(func(s sample) float64 { return s.Requests }), ink: inkBlue()},
		}),
		replicaPanel(runLines(line(func(s sample) float64 { return float64(s.Running) }), line(func(s sample) float64 { return float64(s.Target) }))),
	}
	if c.nodes != nil {
		panels = append(panels, nodePanel([]plotLine{
			{name: "ready", points: line(func(s sample) float64 { return float64(s.Nodes.ready()) }), ink: inkGreen()},
			{name: "with those that come and go", points: line(func(s sample) float64 { return float64(s.Nodes.all()) }), ink: inkRed(), dash: dashes()},
		}))
	}
	var picture bytes.Buffer
	if err := drawRun(&picture, time.Since(c.began), panels...); err != nil {
		return err
	}
	if err := os.WriteFile(c.svg, picture.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the drawing: %w", err)
	}
	return nil
}

// nodesOf returns what counts the nodes of a deployment's worker group; nil: it
// is in none. An answer that does not come is no nodes counted.
func nodesOf(ctx context.Context, client *api.Client, application, deployment string) func(context.Context) *nodeCount {
	spec, err := client.Spec(ctx, application, 0)
	if err != nil {
		return nil
	}
	d := spec.Deployment(deployment)
	if d == nil || d.WorkerGroup == "" {
		return nil
	}
	var last *nodeCount
	return func(ctx context.Context) *nodeCount {
		list, err := client.Nodes(ctx)
		if err != nil {
			return last
		}
		count := &nodeCount{}
		for _, n := range list.Nodes {
			switch {
			case n.Group != d.WorkerGroup:
			case n.Phase == raftstate.NodeLaunching:
				count.Launching++
			case n.Phase == raftstate.NodeRetiring, n.Phase == raftstate.NodeDraining, n.Phase == raftstate.NodeTerminating:
				count.Going++
			default:
				count.Ready++
			}
		}
		last = count
		return count
	}
}
