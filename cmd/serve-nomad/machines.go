package main

import (
	"cmp"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/nodepool"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/nomadjobs"
)

// openMachines returns how the nodes of worker groups are made and removed. Its
// agents join the Nomad and the Consul that the server itself speaks to.
func openMachines(b *base, cfg *config, nomad, consul string, log hclog.Logger) (*nodepool.Targets, error) {
	if err := cfg.Nodes.checkPluginDir(); err != nil {
		return nil, err
	}
	c := nodepool.Config{AllowExec: cfg.Nodes.AllowExec}
	if p := cfg.Nodes.Process; p.Enabled {
		c.Process = &nodepool.ProcessConfig{
			Dir: p.Dir, NomadPath: p.Nomad, ConsulPath: p.Consul,
			NomadServers: p.NomadServers, Region: cfg.Nomad.Region,
			ConsulServers: p.ConsulServers, ConsulDatacenter: cfg.Consul.Datacenter,
			NomadAddr: nomad, NomadToken: cmp.Or(cfg.Nomad.Token, b.getenv("NOMAD_TOKEN")),
			ConsulAddr: consul, ConsulToken: cmp.Or(cfg.Consul.Token, b.getenv("CONSUL_HTTP_TOKEN")),
		}
	}
	if cfg.Nodes.PluginDir != "" {
		client, err := nomadjobs.HTTPClient()
		if err != nil {
			return nil, fmt.Errorf("nodes.plugin_dir: %w", err)
		}
		c.Plugin = &nodepool.PluginConfig{
			Dir: cfg.Nodes.PluginDir, NomadAddress: nomad, NomadRegion: cfg.Nomad.Region, NomadHTTP: client,
			NomadToken: cmp.Or(cfg.Nomad.Token, b.getenv("NOMAD_TOKEN")),
		}
	}
	targets, err := nodepool.New(c, log.Named("nodepool"))
	if err != nil {
		return nil, fmt.Errorf("nodes.process: %w", err)
	}
	return targets, nil
}

// nodes shows the API the node autoscaler's report, in the API's words.
type nodes struct{ controller *controller.Controller }

// Report is for api.Nodes.
func (n nodes) Report() (nodescale.Report, error) {
	report, known := n.controller.NodeReport()
	if !known {
		return report, fmt.Errorf("%w: the node autoscaler has not decided yet", api.ErrUnavailable)
	}
	return report, nil
}
