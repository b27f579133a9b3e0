package main

import (
	"context"
	"time"

	"github.com/hashicorp/cli"
)

type proxyCommand struct {
	*command
	config    string
	drain     time.Duration
	notice    time.Duration
	upgrade   bool
	supervise bool
}

func newProxyCommand(b *base) cli.Command {
	c := &proxyCommand{command: newLocalCommand(b, "proxy", helpText{
		synopsis: "Run the proxy of a node",
		about: "Takes requests and passes them on to replicas, by the routes and endpoints in Consul.\n" +
			"It reads the same configuration as the server, of which it uses the blocks proxy and consul.\n" +
			"It tells the servers of its load, and needs none of them to go on serving. SIGTERM drains it: what has begun is finished.\n" +
			"SIGHUP has it read its configuration again, SIGUSR1 open its access log anew. With -supervise, SIGUSR2 replaces it by the program that lies on disk then, and no connection is lost.",
		examples: "$ serve-nomad proxy -config=/etc/serve-nomad.hcl\n$ serve-nomad proxy -supervise -config=/etc/serve-nomad.hcl",
		exits:    "0  stopped by a signal, or another process has taken over, with every request finished\n1  it could not start or go on, or had to cut requests off; why is on standard error\n2  the command line is wrong; nothing was done",
	})}
	c.flags.StringVar(&c.config, "config", "", "`file` of HCL with the configuration.")
	c.flags.DurationVar(&c.drain, "drain-timeout", 30*time.Second, "The `duration` that requests may take to finish after SIGTERM.")
	c.flags.DurationVar(&c.notice, "drain-notice", 5*time.Second, "The `duration`, at the beginning of -drain-timeout, in which /-/healthz says 503 while requests are still taken, so that a load balancer sends none when the port closes.")
	c.flags.BoolVar(&c.upgrade, "upgrade", false, "Take the ports over from the proxy that runs with the same configuration, which finishes what it has begun and ends. Where none runs it starts as usual.")
	c.flags.BoolVar(&c.supervise, "supervise", false, "Run the proxy as a process of its own below this one, which keeps its process id over upgrades: SIGUSR2 starts the program on disk with -upgrade; other signals are passed on.")
	c.maxArgs, c.run = 0, c.serve
	return c
}

func (c *proxyCommand) serve(ctx context.Context, _ []string) error {
	if c.drain < 0 || c.notice < 0 {
		return wrongUse("-drain-timeout %s and -drain-notice %s: want durations from 0s", c.drain, c.notice)
	}
	if c.supervise {
		return c.superviseProxy(ctx)
	}
	cfg, err := readConfig(c.config)
	if err != nil {
		return err
	}
	ctx, orphaned, stop := followLifeline(ctx, c.getenv)
	defer stop()
	p, err := c.open(ctx, cfg)
	if err != nil {
		return err
	}
	p.orphaned = orphaned
	return p.run(ctx)
}
