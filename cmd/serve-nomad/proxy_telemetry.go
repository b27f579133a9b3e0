package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/listeners"
	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/telemetry"
)

// openTelemetry makes what observes the proxy.
func (p *proxyProcess) openTelemetry(ctx context.Context) (err error) {
	p.seen, err = telemetry.New(ctx, telemetry.Config{
		Version: buildVersion(), Revision: buildRevision(), Name: proxyName(p.cfg),
		AccessLog: p.command.accessLog(p.cfg), Tracing: p.command.tracing(p.cfg),
		Ports: p.allPorts, Discovery: p.watcher,
	}, p.log.Named("telemetry"))
	return telemetryFault(err, p.cfg)
}

// telemetryFault names the setting where the access log's file cannot be opened.
func telemetryFault(err error, cfg *config) error {
	if _, ok := errors.AsType[*telemetry.LogFileError](err); !ok {
		return err
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("proxy.access_log.output = %q: %w; set a file that this process may write, in a folder that is there, or stdout or stderr",
		cfg.Proxy.AccessLog.Output, err)
}

// accessLog is what the configuration says of it; nil: there is none.
func (c *proxyCommand) accessLog(cfg *config) *telemetry.AccessLog {
	a := cfg.Proxy.AccessLog
	if !a.Enabled {
		return nil
	}
	l := &telemetry.AccessLog{
		Format: telemetry.Format(a.Format), Sample: a.Sample, Slow: a.slow, Query: a.Query, Headers: a.Headers,
	}
	switch a.Output {
	case "stdout":
		l.Writer = c.stdout
		if checked, ok := c.stdout.(*checkedWriter); ok {
			l.Writer = checked.w // which goes on after an error
		}
	case "stderr":
		l.Writer = c.stderr
	default:
		l.File = a.Output
	}
	return l
}

// tracing is what the configuration says of it; nil: no spans are made.
func (c *proxyCommand) tracing(cfg *config) *telemetry.Tracing {
	s := cfg.Proxy.Tracing
	if !s.Enabled || telemetry.Disabled(c.getenv) {
		return nil
	}
	return &telemetry.Tracing{Endpoint: s.Endpoint, Sample: s.Sample}
}

// allPorts is what has been seen of each port, by its name.
func (p *proxyProcess) allPorts() map[string]listeners.Stats {
	stats := map[string]listeners.Stats{}
	for _, l := range p.listeners() {
		stats[l.Name()] = l.Stats()
	}
	return stats
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
