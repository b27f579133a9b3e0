package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/cli"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/consulsd"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/metrics"
	"github.com/serve-nomad/serve-nomad/nodepool"
	"github.com/serve-nomad/serve-nomad/nomadjobs"
	"github.com/serve-nomad/serve-nomad/raftnode"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
	"github.com/serve-nomad/serve-nomad/replicacall"
)

// shutdownLimit bounds an orderly stop of the server.
const shutdownLimit = 10 * time.Second

type serverCommand struct {
	*command
	config string
}

func newServerCommand(b *base) cli.Command {
	c := &serverCommand{command: newLocalCommand(b, "server", helpText{
		synopsis: "Run a server of the control plane",
		about: "Runs the controller and the control API. One server is enough; three go on when one dies.\n" +
			"Nomad and Consul are found by the configuration, or by NOMAD_ADDR, NOMAD_TOKEN,\n" +
			"CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and the like.",
		examples: "$ serve-nomad server -config=/etc/serve-nomad.hcl",
		exits:    "0  stopped by a signal, in order\n1  it could not start or go on; why is on standard error\n2  the command line is wrong; nothing was done",
	})}
	c.flags.StringVar(&c.config, "config", "", "`file` of HCL with the configuration; data_dir is required in it.")
	c.maxArgs, c.run = 0, c.serve
	return c
}

func (c *serverCommand) serve(ctx context.Context, _ []string) error {
	cfg, err := readConfig(c.config)
	if err != nil {
		return err
	}
	if cfg.DataDir == "" {
		return wrongUse("data_dir is not set: name in -config the directory that the server keeps its state in")
	}
	logger := newLogger(c.base, cfg)
	s := &server{base: c.base, cfg: cfg, log: logger}
	if err := s.open(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

func newLogger(b *base, cfg *config) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: program, Level: hclog.LevelFromString(cfg.LogLevel), Output: b.stderr,
		TimeFormat: "2006-01-02T15:04:05.000Z0700",
	})
}

// server is one server of the control plane, plugged together.
type server struct {
	base *base
	cfg  *config
	log  hclog.Logger

	node       *raftnode.Node
	nomad      *nomadjobs.Client
	watcher    *consulsd.Watcher
	metrics    *metrics.Client
	machines   *nodepool.Targets // nil: nothing is decided of nodes
	controller *controller.Controller
	listener   net.Listener
	http       *http.Server
}

// open makes everything that can fail at start.
func (s *server) open(ctx context.Context) (err error) {
	if s.nomad, err = nomadjobs.New(nomadjobs.Config{
		Address: s.cfg.Nomad.Address, Token: s.cfg.Nomad.Token,
		Region: s.cfg.Nomad.Region, Namespace: s.cfg.Nomad.Namespace,
	}, s.log); err != nil {
		return err
	}
	consul, err := openConsul(s.cfg, s.log)
	if err != nil {
		return err
	}
	s.watcher = consulsd.NewWatcher(consul)
	if s.metrics, err = metrics.New(metrics.Config{
		PrometheusAddress: s.cfg.Prometheus.Address, PrometheusToken: s.cfg.Prometheus.Token,
	}); err != nil {
		return err
	}
	if s.cfg.Nodes.Enabled {
		if s.machines, err = openMachines(s.base, s.cfg, s.nomad.Address(), consul.Address(), s.log); err != nil {
			return err
		}
	}
	if s.listener, err = listen(ctx, s.cfg.HTTP.Address, "http.address"); err != nil {
		return err
	}
	if s.node, err = raftnode.Open(ctx, raftnode.Config{
		Name: s.cfg.Name, DataDir: s.cfg.DataDir, Bind: s.cfg.Raft.Address, Advertise: s.cfg.Raft.Advertise,
		Peers: s.cfg.Raft.Peers, BootstrapExpect: s.cfg.Raft.BootstrapExpect, Logger: s.log,
	}, raftstate.NewFSM()); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	s.lead(ctx, consul)
	return nil
}

// lead plugs the controller into its doors, and the control API into it.
func (s *server) lead(ctx context.Context, consul *consulsd.Client) {
	settings := s.settings()
	leading := controller.Config{
		Raft: s.node, Jobs: s.nomad, Discovery: discovery{s.watcher, consul}, Configs: s.nomad, Replicas: replicacall.New(), Metrics: s.metrics, AskOf: nomadjobs.AskOf, Settings: settings,
		NewID: uuid.NewString, Logger: s.log,
		Conflict: func(err error) bool {
			return errors.Is(err, nomadjobs.ErrConflict) || errors.Is(err, consulsd.ErrConflict)
		},
	}
	if s.machines != nil {
		leading.Machines, leading.NodesDryRun = s.machines, s.cfg.Nodes.DryRun
	}
	s.controller = controller.New(leading)
	answering := api.ServerConfig{
		Cluster: cluster{s.node, s.controller}, Planner: s.controller, Logs: logSource{s.nomad},
		Loads: scaler{s.controller}, Autoscaler: scaler{s.controller},
		Settings: settings, Logger: s.log, NewID: uuid.NewString,
		Info: api.ServerInfo{
			ID: s.node.ID(), Name: s.cfg.Name, Version: buildVersion(), StartedAt: time.Now().UTC(),
			Nomad: s.nomad.Address(), Consul: consul.Address(), Proxy: s.cfg.Proxy.Advertise,
		},
	}
	if s.machines != nil {
		answering.Nodes = nodes{s.controller}
	}
	handler := api.NewServer(answering)
	s.node.SetHandler(handler)
	s.http = handler.HTTPServer(ctx)
}

func (s *server) settings() reconcile.Settings {
	jobs := s.cfg.Jobs
	return reconcile.Settings{
		Placement: jobspec.Placement{
			Namespace: s.cfg.Nomad.Namespace, Region: s.cfg.Nomad.Region,
			Datacenters: jobs.Datacenters, NodePool: jobs.NodePool,
		},
		HandleAddress:    s.cfg.Proxy.HandleAdvertise,
		UIAddress:        "http://" + s.cfg.HTTP.Advertise,
		ShutdownDelay:    jobs.shutdownDelay,
		ProgressDeadline: jobs.progressDeadline,
	}
}

// run works until ctx ends or a part cannot go on, and then stops the parts in
// order: no more API, leadership handed over, the log closed.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	parts.Go(func() { s.watcher.Run(ctx) })
	parts.Go(func() { s.controller.Run(ctx) })
	parts.Go(func() {
		if err := s.node.RunAsLeader(ctx, s.controller.Lead); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	parts.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve the control API: %w", err))
		}
	})
	s.log.Info("serving", "api", s.cfg.HTTP.Address, "raft", s.cfg.Raft.Address,
		"nomad", s.nomad.Address(), "version", buildVersion())
	<-ctx.Done()

	s.log.Info("stopping")
	limit, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer done()
	err := s.http.Shutdown(limit)
	err = errors.Join(err, s.node.Shutdown(limit))
	parts.Wait()
	if s.machines != nil {
		err = errors.Join(err, s.machines.Close())
	}
	s.metrics.Close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// openConsul returns a client for the configured Consul.
func openConsul(cfg *config, log hclog.Logger) (*consulsd.Client, error) {
	return consulsd.New(consulsd.Config{
		Address: cfg.Consul.Address, Token: cfg.Consul.Token,
		Datacenter: cfg.Consul.Datacenter, Prefix: cfg.Consul.Prefix,
	}, log)
}

// discovery is the controller's side of Consul: the watcher's view and the
// client's writes.
type discovery struct {
	*consulsd.Watcher
	*consulsd.Client
}

// cluster shows the API this server's node and controller.
type cluster struct {
	node       *raftnode.Node
	controller *controller.Controller
}

func view(v *controller.View) *api.View {
	return &api.View{Index: v.Index, State: v.State, World: v.World, Seen: v.Seen}
}

func (c cluster) View() *api.View { return view(c.controller.View()) }

func (c cluster) Wait(ctx context.Context, index uint64) *api.View {
	return view(c.controller.Wait(ctx, index))
}

// Propose returns api.ErrNoLeader for all that raftnode says was not written.
func (c cluster) Propose(ctx context.Context, command raftstate.Command) (raftstate.Result, error) {
	result, err := c.node.Propose(ctx, command)
	for _, nothingDone := range []error{raftnode.ErrNotLeader, raftnode.ErrNoLeader, raftnode.ErrBusy, raftnode.ErrStopped} {
		if errors.Is(err, nothingDone) {
			return result, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
		}
	}
	return result, err
}

func (c cluster) IsLeader() bool { return c.node.IsLeader() }

func (c cluster) Leader() (id, address string) { return c.node.Leader() }

func (c cluster) LeaderTransport() http.RoundTripper {
	return leaderTransport{c.node.LeaderTransport()}
}

func (c cluster) Peers() []api.Peer {
	peers := []api.Peer{}
	for _, p := range c.node.Peers() {
		peers = append(peers, api.Peer{ID: p.ID, Address: p.Address, Leader: p.Leader, Voter: p.Voter})
	}
	return peers
}

// leaderTransport says in the API's words that there is no leader.
type leaderTransport struct{ next http.RoundTripper }

func (t leaderTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if errors.Is(err, raftnode.ErrNoLeader) {
		err = fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	return response, err
}
