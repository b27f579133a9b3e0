package nodepool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// end ends all processes of a machine: what Nomad still runs, Nomad, then what
// that has left behind, then Consul, which tells the others that the node is gone.
func (p *processTarget) end(ctx context.Context, f folder, r *record) error {
	p.adopt(f, r)
	if r.Nomad.alive() {
		if err := p.drain(ctx, f, r); err != nil {
			p.log.Warn("Nomad does not end what a machine still runs: it is killed", "id", r.ID, "error", err)
		}
	}
	if err := p.endProcess(ctx, r.Nomad, nomadGrace); err != nil {
		return fmt.Errorf("end Nomad: %w", err)
	}
	isConsul := func(one process) bool { return one == r.Consul }
	if err := p.endMarked(ctx, f, r, isConsul); err != nil {
		return fmt.Errorf("end the tasks: %w", err)
	}
	if err := p.endProcess(ctx, r.Consul, consulGrace); err != nil {
		return fmt.Errorf("end Consul: %w", err)
	}
	return p.endMarked(ctx, f, r, func(process) bool { return false })
}

// drain has Nomad end what still runs on a machine, whatever its driver, and
// waits for that. A machine that was drained before it is removed runs nothing
// any more but perhaps system jobs.
func (p *processTarget) drain(ctx context.Context, f folder, r *record) error {
	id, err := os.ReadFile(f.path("nomad/client/client-id"))
	if err != nil {
		return fmt.Errorf("find the id of its node: %w", err)
	}
	node := fmt.Sprintf("http://127.0.0.1:%d/v1/node/%s", r.Ports.nomad(), strings.TrimSpace(string(id)))
	ctx, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	const force = `{"DrainSpec": {"Deadline": -1}}`
	status, body, err := p.call(ctx, http.MethodPut, node+"/drain", p.token("nomad"), force)
	if err != nil {
		return fmt.Errorf("drain its node: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("drain its node: it answers %d: %.200s", status, body)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var allocations []struct{ ID, ClientStatus string }
		if err = p.ask(ctx, node, "/allocations", p.token("nomad"), &allocations); err != nil {
			return err
		}
		left := slices.ContainsFunc(allocations, func(a struct{ ID, ClientStatus string }) bool {
			return a.ClientStatus == "running" || a.ClientStatus == "pending"
		})
		if !left {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("allocations still run after the drain: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// endMarked ends what bears a machine's mark, but what is spared. What is ended
// may have started another one meanwhile, so it looks again.
func (p *processTarget) endMarked(ctx context.Context, f folder, r *record, spared func(process) bool) error {
	const rounds = 5
	for range rounds {
		left := slices.DeleteFunc(marked(r.Token, f.allocations()), spared)
		if len(left) == 0 {
			return nil
		}
		p.log.Debug("ending what a machine has left running", "id", r.ID, "processes", left)
		if err := p.endAll(ctx, left, taskGrace); err != nil {
			return err
		}
	}
	return errors.New("they start others faster than they can be ended")
}

// endProcess ends one process, if it still is the recorded one.
func (p *processTarget) endProcess(ctx context.Context, one process, grace time.Duration) error {
	return p.endAll(ctx, []process{one}, grace)
}

// endAll asks processes to end, waits for the grace at most, and kills those that
// have not. It returns once none of them is there, or when ctx ends.
func (p *processTarget) endAll(ctx context.Context, all []process, grace time.Duration) error {
	all = slices.DeleteFunc(slices.Clone(all), func(one process) bool { return !one.alive() })
	if len(all) == 0 {
		return nil
	}
	if deadline, has := ctx.Deadline(); has {
		grace = min(grace, time.Until(deadline)/2) // and time for the rest
	}
	if grace > 0 {
		for _, one := range all {
			if err := one.signal(terminate); err != nil {
				return fmt.Errorf("terminate pid %d: %w", one.Pid, err)
			}
		}
		limit, cancel := context.WithTimeout(ctx, grace)
		ended := ended(limit, all)
		cancel()
		if ended {
			return nil
		}
	}
	for _, one := range all {
		if err := one.signal((*os.Process).Kill); err != nil {
			return fmt.Errorf("kill pid %d: %w", one.Pid, err)
		}
	}
	limit, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	if !ended(limit, all) {
		return fmt.Errorf("processes do not end: %v: %w", all, context.Cause(limit))
	}
	return nil
}

// killGrace is how long the kernel may take to end a process that is killed.
const killGrace = 5 * time.Second

// ended waits until none of the processes is there, or ctx ends.
func ended(ctx context.Context, all []process) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for slices.ContainsFunc(all, process.alive) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// signal sends a signal if the process is still the recorded one. The process is
// held on to before that is looked at, so that its pid cannot change hands
// between the look and the signal where the system can hold a process.
func (p process) signal(send func(*os.Process) error) error {
	held, err := os.FindProcess(p.Pid)
	if err != nil {
		return nil // there is none any more
	}
	defer held.Release() //nolint:errcheck // nothing to do about it
	if !p.alive() {
		return nil
	}
	if err = send(held); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
