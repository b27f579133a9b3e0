package main

import (
	"context"
	"os"
	"os/signal"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/telemetry"
)

// telemetry returns what observes the proxy.
func (c *proxyCommand) telemetry(ctx context.Context, cfg *config, log hclog.Logger) (*telemetry.Telemetry, error) {
	t := telemetry.Config{Version: buildVersion(), Name: proxyName(cfg)}
	if a := cfg.Proxy.AccessLog; a.Enabled {
		t.AccessLog = &telemetry.AccessLog{
			Format: telemetry.Format(a.Format), Sample: a.Sample, Slow: a.slow, Query: a.Query, Headers: a.Headers,
		}
		switch a.Output {
		case "stdout":
			t.AccessLog.Writer = c.stdout
			if checked, ok := c.stdout.(*checkedWriter); ok {
				t.AccessLog.Writer = checked.w // which goes on after an error
			}
		case "stderr":
			t.AccessLog.Writer = c.stderr
		default:
			t.AccessLog.File = a.Output
		}
	}
	if s := cfg.Proxy.Tracing; s.Enabled && !telemetry.Disabled(c.getenv) {
		t.Tracing = &telemetry.Tracing{Endpoint: s.Endpoint, Sample: s.Sample}
	}
	return telemetry.New(ctx, t, log)
}

// watch has t tell of p until ctx ends, and opens the access log's file anew at
// each signal that says that it has been moved away.
func watch(ctx context.Context, p *proxy.Proxy, t *telemetry.Telemetry, log hclog.Logger) {
	t.Watch(p)
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() { t.Run(ctx) })
	signals := make(chan os.Signal, 1)
	if list := reopenSignals(); len(list) > 0 { // none would mean all
		signal.Notify(signals, list...)
	}
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if err := t.Reopen(); err != nil {
				log.Error("the log goes on in the old file", "error", err)
				continue
			}
			log.Info("log file opened anew")
		}
	}
}
