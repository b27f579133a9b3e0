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

// keep takes over a configuration, but for what this process cannot change.
func (p *proxyProcess) keep(next *config) {
	was := p.cfg
	for _, f := range []struct {
		field    string
		was, now any
	}{
		{"name", &was.Name, &next.Name},
		{"consul", was.Consul, next.Consul},
		{"proxy.address", &was.Proxy.Address, &next.Proxy.Address},
		{"proxy.handle_address", &was.Proxy.HandleAddress, &next.Proxy.HandleAddress},
		{"proxy.admin_address", &was.Proxy.AdminAddress, &next.Proxy.AdminAddress},
		{"proxy.access_log", was.Proxy.AccessLog, next.Proxy.AccessLog},
		{"proxy.tracing", was.Proxy.Tracing, next.Proxy.Tracing},
		{"proxy.data_dir", &was.Proxy.DataDir, &next.Proxy.DataDir},
		{"proxy.upgrade_socket", &was.Proxy.UpgradeSocket, &next.Proxy.UpgradeSocket},
	} {
		old, changed := reflect.ValueOf(f.was).Elem(), reflect.ValueOf(f.now).Elem()
		if !reflect.DeepEqual(old.Interface(), changed.Interface()) {
			p.log.Warn("a change that takes an upgrade or a restart of the proxy", "field", f.field)
			changed.Set(old)
		}
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
