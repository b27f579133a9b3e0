package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/consulsd"
	"github.com/serve-nomad/serve-nomad/h1"
	"github.com/serve-nomad/serve-nomad/proxy"
)

type proxyCommand struct {
	*command
	config string
	drain  time.Duration
	notice time.Duration
}

func newProxyCommand(b *base) cli.Command {
	c := &proxyCommand{command: newLocalCommand(b, "proxy", helpText{
		synopsis: "Run the proxy of a node",
		about: "Takes requests and passes them on to replicas, by the routes and endpoints in Consul.\n" +
			"It reads the same configuration as the server, of which it uses the blocks proxy and consul.\n" +
			"It tells the servers of its load, and needs none of them to go on serving. SIGTERM drains it: what has begun is finished.",
		examples: "$ serve-nomad proxy -config=/etc/serve-nomad.hcl",
		exits:    "0  stopped by a signal, with every request finished\n1  it could not start or go on, or had to cut requests off; why is on standard error\n2  the command line is wrong; nothing was done",
	})}
	c.flags.StringVar(&c.config, "config", "", "`file` of HCL with the configuration.")
	c.flags.DurationVar(&c.drain, "drain-timeout", 30*time.Second, "The `duration` that requests may take to finish after SIGTERM.")
	c.flags.DurationVar(&c.notice, "drain-notice", 5*time.Second, "The `duration` of that in which /-/healthz says 503, while requests are still taken, so that a load balancer sends none when the port closes.")
	c.maxArgs, c.run = 0, c.serve
	return c
}

func (c *proxyCommand) serve(ctx context.Context, _ []string) error {
	cfg, err := readConfig(c.config)
	if err != nil {
		return err
	}
	log := newLogger(c.base, cfg)
	consul, err := openConsul(cfg, log)
	if err != nil {
		return err
	}
	sender, err := newLoadSender(cfg.Proxy.Servers, c.getenv("SERVE_NOMAD_TOKEN"))
	if err != nil {
		return err
	}
	watching, err := c.telemetry(ctx, cfg, log.Named("telemetry"))
	if err != nil {
		return err
	}
	public, err := listen(ctx, cfg.Proxy.Address, "proxy.address")
	if err != nil {
		return err
	}
	handles, err := listen(ctx, cfg.Proxy.HandleAddress, "proxy.handle_address")
	if err != nil {
		return errors.Join(err, public.Close())
	}
	watcher := consulsd.NewWatcher(consul)
	keeper := newSlotKeeper(cfg, consul, time.Now(), log)
	if keeper != nil {
		watcher.FollowGatekeepers(consul)
	}
	p := proxy.New(proxy.Config{
		Discovery: watcher, Slots: keeper.slots(), Loads: sender, Name: proxyName(cfg), DrainNotice: c.notice,
		Observer: watching, Metrics: watching.Handler(), HideAdmin: cfg.Proxy.AdminAddress != "",
	}, log.Named("proxy"))
	closeAdmin, err := serveAdmin(ctx, p, cfg.Proxy.AdminAddress, log)
	if err != nil {
		return errors.Join(err, public.Close(), handles.Close())
	}

	// The table goes on being followed while requests drain.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 2)
	var parts sync.WaitGroup
	parts.Go(func() { watcher.Run(working) })
	parts.Go(func() { p.Run(working) })
	if keeper != nil {
		parts.Go(func() { keeper.run(working, nil) })
	}
	parts.Go(func() { watch(working, p, watching, log) })
	for _, s := range []struct {
		server   *h1.Server
		listener net.Listener
	}{
		{p.Server(cfg.Proxy.Address), public},
		{p.HandleServer(cfg.Proxy.HandleAddress), handles},
	} {
		parts.Go(func() {
			if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", s.listener.Addr(), err)
			}
		})
	}
	log.Info("serving", "requests", cfg.Proxy.Address, "handles", cfg.Proxy.HandleAddress, "consul", consul.Address())
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	log.Info("draining", "at_most", c.drain, "notice", c.notice)
	limit, done := context.WithTimeout(working, c.drain)
	defer done()
	err = errors.Join(err, p.Drain(limit), closeAdmin())
	stop()
	keeper.leave()
	parts.Wait()
	return err
}
