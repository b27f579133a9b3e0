package main

import (
	"fmt"
	"reflect"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/listeners"
	"github.com/serve-nomad/serve-nomad/proxy"
)

// reload reads the configuration again. What can be changed without a connection
// that is lost is changed; a configuration with a fault changes nothing.
func (p *proxyProcess) reload() {
	next, err := readConfig(p.command.config)
	if err != nil {
		p.log.Error("the configuration is faulty; everything stays as it is", "error", err)
		return
	}
	sender, err := newLoadSender(next.Proxy.Servers, p.command.getenv("SERVE_NOMAD_TOKEN"))
	if err != nil {
		p.log.Error("the configuration is faulty; everything stays as it is", "error", err)
		return
	}
	certificates, err := openCertificates(next, p.log)
	if err != nil {
		p.log.Error("the configuration is faulty; everything stays as it is", "error", err)
		return
	}
	if err := p.seen.Reload(p.working, p.command.accessLog(next), p.command.tracing(next)); err != nil {
		p.log.Error("the configuration cannot be followed; everything stays as it is", "error", telemetryFault(err, next))
		return
	}
	p.log.SetLevel(hclog.LevelFromString(next.LogLevel))
	p.sink.sender.Store(sender)
	p.certificates = certificates
	files := maxOpenFiles()
	p.public.listener.SetOptions(next.Proxy.portOptions(certificates, files))
	p.handles.listener.SetOptions(next.Proxy.handleOptions(certificates, files))
	p.proxy.SetLimits(next.Proxy.limits)
	if was, is := p.cfg.Proxy.limits, next.Proxy.limits; serverLimits(was) != serverLimits(is) {
		for _, port := range []*port{p.public, p.handles} {
			p.serveOn(port)
		}
	}
	p.keep(next)
	p.log.Info("configuration read again", "file", p.command.config)
}

// serverLimits are those that are a server's own, for which it is replaced.
func serverLimits(l proxy.Limits) [3]int64 {
	return [3]int64{int64(l.HeaderTimeout), int64(l.KeepAlive), int64(l.MaxHeader)}
}

// What a change of a setting of the proxy takes.
const (
	byReload  = "reload"  // SIGHUP
	byUpgrade = "upgrade" // SIGUSR2, or a restart
	byRestart = "restart" // the next process finds the one that runs by it
)

// fixedSetting is one that a process keeps as it began with it.
type fixedSetting struct {
	field string // as the file has it
	takes string // byUpgrade or byRestart
	value any    // points to it
}

// settled lists those settings. All others of the proxy's take a reload.
func (c *config) settled() []fixedSetting {
	return []fixedSetting{
		{"name", byUpgrade, &c.Name},
		{"consul", byUpgrade, c.Consul},
		{"proxy.address", byUpgrade, &c.Proxy.Address},
		{"proxy.handle_address", byUpgrade, &c.Proxy.HandleAddress},
		{"proxy.gatekeeper_address", byUpgrade, &c.Proxy.GatekeeperAddress},
		{"proxy.admin_address", byUpgrade, &c.Proxy.AdminAddress},
		{"proxy.data_dir", byRestart, &c.Proxy.DataDir},
		{"proxy.upgrade_socket", byRestart, &c.Proxy.UpgradeSocket},
	}
}

// keep takes over a configuration, but for what this process cannot change.
func (p *proxyProcess) keep(next *config) {
	now := next.settled()
	for i, s := range p.cfg.settled() {
		old, changed := reflect.ValueOf(s.value).Elem(), reflect.ValueOf(now[i].value).Elem()
		if reflect.DeepEqual(old.Interface(), changed.Interface()) {
			continue
		}
		needs := "a restart or an upgrade"
		if s.takes == byRestart {
			needs = "a restart"
		}
		p.log.Warn("this change needs "+needs+" of the proxy; until then it goes on with what it has", "field", s.field)
		changed.Set(old)
	}
	p.cfg = next
}

// openCertificates reads what the configuration says of TLS; nil: nothing.
func openCertificates(cfg *config, log hclog.Logger) (*listeners.Certificates, error) {
	if cfg.Proxy.TLS == nil {
		return nil, nil
	}
	certificates, err := listeners.NewCertificates(cfg.Proxy.TLS.files, log.Named("tls"))
	if err != nil {
		return nil, fmt.Errorf("proxy.tls: %w", err)
	}
	return certificates, nil
}

func (p *proxyProcess) checkCertificates() {
	if p.certificates != nil {
		_ = p.certificates.Check() // it is in the log
	}
}

// askForUpgrade has the supervisor start another process, for one that is
// started from here would end with this one.
func (p *proxyProcess) askForUpgrade() {
	if p.command.getenv(lifelineEnv) == "" {
		p.log.Warn("SIGUSR2 upgrades a proxy that was started with -supervise; or start another with -upgrade")
		return
	}
	if err := tellParent(); err != nil {
		p.log.Error("the supervisor cannot be told to upgrade", "error", err)
	}
}
