package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/loads"
)

// scaler shows the API the controller's side of autoscaling, in the API's words.
type scaler struct{ controller *controller.Controller }

// TakeLoads is for api.LoadSink.
func (s scaler) TakeLoads(r loads.Report) error { return inAPIWords(s.controller.TakeLoads(r)) }

// Explain is for api.Autoscaler.
func (s scaler) Explain(application, deployment string) (autoscale.Explanation, error) {
	explanation, err := s.controller.Explain(application, deployment)
	return explanation, inAPIWords(err)
}

// Proxies is for api.Autoscaler.
func (s scaler) Proxies() (autoscale.ProxyList, error) {
	list, err := s.controller.Proxies()
	return list, inAPIWords(err)
}

func inAPIWords(err error) error {
	switch {
	case errors.Is(err, controller.ErrNotLeading):
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	case errors.Is(err, controller.ErrWorldUnknown):
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	default:
		return err
	}
}

const (
	// loadTry is how long one of several servers may take to pass a report on.
	loadTry = 700 * time.Millisecond
	// loadHedge is after how long the next server is asked too. A report that
	// comes to the leader twice is taken once.
	loadHedge = 100 * time.Millisecond
)

// loadSender tells the leader of a proxy's load, through the server that took
// the last report, or else another.
type loadSender struct {
	servers []*api.Client
	good    atomic.Int64 // index of the server that took the last report
}

func newLoadSender(addresses []string, token string) (*loadSender, error) {
	s := &loadSender{}
	for _, address := range addresses {
		client, err := api.NewClient(api.ClientConfig{Address: address, Token: token})
		if err != nil {
			return nil, fmt.Errorf("proxy.servers: %w", err)
		}
		s.servers = append(s.servers, client)
	}
	return s, nil
}

// loadSink is the loadSender of now, for the servers may change. Until it is
// open it takes reports in vain: the process before this one has the requests,
// and reports them.
type loadSink struct {
	sender atomic.Pointer[loadSender]
	open   atomic.Bool
}

func newLoadSink(addresses []string, token string) (*loadSink, error) {
	sender, err := newLoadSender(addresses, token)
	if err != nil {
		return nil, err
	}
	s := &loadSink{}
	s.sender.Store(sender)
	return s, nil
}

// SendLoads is for proxy.LoadSink.
func (s *loadSink) SendLoads(ctx context.Context, r loads.Report) error {
	if !s.open.Load() {
		return nil
	}
	return s.sender.Load().SendLoads(ctx, r)
}

// attempt is how it went to send a report to a server.
type attempt struct {
	server int
	err    error
}

// SendLoads is for proxy.LoadSink. A server that fails, or has not answered after
// loadHedge, is a reason to ask the next: one that hangs holds up no report.
func (s *loadSender) SendLoads(ctx context.Context, r loads.Report) error {
	ctx, cancel := context.WithCancel(ctx)
	var trying sync.WaitGroup
	defer trying.Wait()
	defer cancel() // who has not answered by then need not
	first, asked := int(s.good.Load()), 0
	attempts := make(chan attempt, len(s.servers))
	next := func() {
		if asked < len(s.servers) {
			n := (first + asked) % len(s.servers)
			asked++
			trying.Go(func() { attempts <- attempt{n, s.try(ctx, s.servers[n], r)} })
		}
	}
	hedge := time.NewTicker(loadHedge)
	defer hedge.Stop()
	var faults []error
	for next(); len(faults) < asked; {
		select {
		case <-hedge.C:
			next()
		case a := <-attempts:
			if a.err == nil {
				s.good.Store(int64(a.server))
				return nil
			}
			faults = append(faults, a.err)
			// What the leader refuses it refuses through any server.
			if ctx.Err() != nil || api.CodeInvalid.Is(a.err) {
				return errors.Join(faults...)
			}
			next()
			hedge.Reset(loadHedge)
		}
	}
	return errors.Join(faults...)
}

func (s *loadSender) try(ctx context.Context, server *api.Client, r loads.Report) error {
	if len(s.servers) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, loadTry)
		defer cancel()
	}
	err := server.SendLoads(ctx, r)
	if connect, ok := errors.AsType[*api.ConnectError](err); ok {
		err = connect.Err // its advice is for command lines
	}
	if err != nil {
		return fmt.Errorf("server %s: %w", server.Address(), err)
	}
	return nil
}

// proxyName is the proxy's name in its load reports, the same after a restart
// and another on each node.
func proxyName(cfg *config) string {
	_, port, err := net.SplitHostPort(cfg.Proxy.Address)
	if err != nil {
		return cfg.Name
	}
	return net.JoinHostPort(cfg.Name, port)
}
