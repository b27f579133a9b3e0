package nodepool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/proctable"
)

// start starts what does not run of a machine.
func (p *processTarget) start(ctx context.Context, f folder, r *record, b nodescale.Blueprint) error {
	found := p.adopt(f, r)
	if r.Nomad.alive() && r.Consul.alive() {
		if found {
			return f.save(r)
		}
		return nil
	}
	to, err := p.join(ctx)
	if err != nil {
		return err
	}
	if err = p.settle(ctx, f, r, to.ip); err != nil {
		return err
	}
	if err = f.configure(r, b, to); err != nil {
		return err
	}
	before := *r
	began := time.Now()
	err = p.startAgents(ctx, f, r, b)
	p.log.Debug("started a machine", "id", r.ID, "took", time.Since(began), "error", err)
	if err != nil {
		p.undo(ctx, before, r)
	}
	r.Starting = time.Time{}
	return errors.Join(err, f.save(r))
}

// startAgents starts Consul first: Nomad looks for it when it starts, and then
// only every 15 s.
func (p *processTarget) startAgents(ctx context.Context, f folder, r *record, b nodescale.Blueprint) error {
	env := agentEnv(os.Environ(), b.Env, r.Token)
	if err := p.startConsul(ctx, f, r, consulArgs(f, b), env); err != nil {
		return err
	}
	if !r.Nomad.alive() {
		one, err := p.run(ctx, f, "nomad", p.config.NomadPath, nomadArgs(f, b), env)
		if r.Nomad = one; err != nil {
			return err
		}
		if err = f.save(r); err != nil {
			return err
		}
	}
	return p.answers(ctx, f, "nomad", r.Nomad, r.Ports.nomad(), "/v1/agent/self", itself(r.ID))
}

// startConsul starts Consul and waits until it has told the servers what it has.
// Until then they hear of no check of its services. It first tries when it
// starts, fails if it has not joined by then, and tries again within 3 s; if Nomad
// registers a service in just that moment, within 30. So an agent that failed is
// started again while it has nothing to lose.
func (p *processTarget) startConsul(ctx context.Context, f folder, r *record, args, env []string) error {
	const tries = 3
	within := 200 * time.Millisecond
	for try := 1; ; try++ {
		if !r.Consul.alive() {
			one, err := p.run(ctx, f, "consul", p.config.ConsulPath, args, env)
			if r.Consul = one; err != nil {
				return err
			}
			if err = f.save(r); err != nil {
				return err
			}
		}
		if err := p.joined(ctx, f, r); err != nil {
			return err
		}
		if try == tries {
			within = 4 * time.Second
		}
		if r.Nomad.alive() || p.told(ctx, f, r, within) || try == tries {
			return nil
		}
		if err := p.endProcess(ctx, r.Consul, 0); err != nil {
			return err
		}
	}
}

// itself is an answer of the agent that is meant. It may ask for a token, or for
// TLS: then it is there as well.
func itself(id string) func(status int, body string) bool {
	return func(status int, body string) bool {
		return status == http.StatusOK && strings.Contains(body, `"`+id+`"`) || status >= 400 && status < 500
	}
}

// joined waits until a machine's Consul agent has found the servers.
func (p *processTarget) joined(ctx context.Context, f folder, r *record) error {
	if err := p.answers(ctx, f, "consul", r.Consul, r.Ports.consul(), "/v1/agent/self", itself(r.ID)); err != nil {
		return err
	}
	return p.answers(ctx, f, "consul", r.Consul, r.Ports.consul(), "/v1/status/leader", func(status int, body string) bool {
		return status == http.StatusOK && body != `""` || status >= 400 && status < 500
	})
}

// told says whether the servers hear from a machine's Consul agent what it has,
// for as long as that may take.
func (p *processTarget) told(ctx context.Context, f folder, r *record, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return nil == p.answers(ctx, f, "consul", r.Consul, r.Ports.consul(), "/v1/catalog/node/"+r.ID, func(status int, body string) bool {
		return status == http.StatusOK && strings.Contains(body, `"`+placement.NodeMeta+`"`) || status >= 400 && status < 500
	})
}

// undo ends the agents that a failed start has started. The folder stays, with
// their logs.
func (p *processTarget) undo(ctx context.Context, before record, r *record) {
	ctx = context.WithoutCancel(ctx)
	for _, a := range []struct{ then, now process }{{before.Nomad, r.Nomad}, {before.Consul, r.Consul}} {
		if a.now == a.then {
			continue
		}
		if err := p.endProcess(ctx, a.now, 0); err != nil {
			p.log.Warn("an agent of a machine that did not start does not end", "id", r.ID, "error", err)
		}
	}
}

// run starts an agent. It has a session of its own, so that neither a signal to
// the server's process group nor the server's end reaches it.
func (p *processTarget) run(ctx context.Context, f folder, name, path string, args, env []string) (process, error) {
	if err := ctx.Err(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, context.Cause(ctx))
	}
	stderr, err := os.OpenFile(f.path(name+".err"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, err)
	}
	defer stderr.Close()               // the agent has its own descriptor
	cmd := exec.Command(path, args...) //nolint:noctx // it outlives the call
	cmd.Dir, cmd.Env, cmd.Stderr, cmd.SysProcAttr = string(f), env, stderr, ownSession()
	if err = cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, err)
	}
	one := process{Pid: cmd.Process.Pid, Start: proctable.Start(cmd.Process.Pid)}
	go cmd.Wait() //nolint:errcheck // whether it runs is looked at by its pid
	return one, nil
}

// answers waits until an agent's HTTP API gives an answer that will do. It fails
// as soon as the agent has ended.
func (p *processTarget) answers(ctx context.Context, f folder, name string, one process, port int, path string, will func(status int, body string) bool) error {
	url := fmt.Sprintf("http://127.0.0.1:%d%s", port, path)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, body, err := p.call(ctx, http.MethodGet, url, p.token(name), "")
		if err == nil && will(status, string(body)) {
			return nil
		}
		if !one.alive() {
			return fmt.Errorf("the machine's %s agent ended%s", name, f.complaint(name))
		}
		if err == nil {
			err = fmt.Errorf("%s answers %d: %.200s", url, status, body)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the machine's %s agent is not ready: %w: %w%s", name, context.Cause(ctx), err, f.complaint(name))
		case <-tick.C:
		}
	}
}
