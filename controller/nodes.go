package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Pace of the node autoscaler. It decides when something changed, and anyway
// after a while, because time alone makes nodes idle.
const (
	decideLeast   = 10 * time.Millisecond // between decisions
	decideAnyway  = 5 * time.Second
	listEvery     = 30 * time.Second // for which what a target lists is not asked for again
	listLimit     = 20 * time.Second
	removeLimit   = 5 * time.Minute
	nomadActLimit = 15 * time.Second
	actAgain      = 3 * time.Second // before the same call of Nomad is made again: what it did must be seen first
	callsAtOnce   = 10              // of one group's target
)

// noder is the node autoscaler: it orders nodes for replicas that have no place
// and removes those that are not needed, while this server leads.
type noder struct {
	c   *Controller
	log hclog.Logger

	wake chan struct{} // something that was begun has ended

	mu     sync.Mutex
	calls  map[string]*targetCall // by record
	acts   map[string]time.Time   // call of Nomad -> when it was begun
	lists  map[string]nodescale.Listed
	asking map[string]bool // groups whose target is being asked what there is
	turns  map[string]chan struct{}
	report *nodescale.Report // nil: nothing has been decided yet

	// The loop's own.
	memory  nodescale.Memory
	backoff time.Duration
}

func newNoder(c *Controller) *noder {
	n := &noder{c: c, log: c.cfg.Logger.Named("nodes"), wake: make(chan struct{}, 1)}
	n.reset()
	return n
}

// reset forgets what was true while this server led before.
func (n *noder) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls, n.acts, n.turns = map[string]*targetCall{}, map[string]time.Time{}, map[string]chan struct{}{}
	n.lists, n.asking = map[string]nodescale.Listed{}, map[string]bool{}
	n.report, n.memory, n.backoff = nil, nodescale.Memory{}, 0
}

// run decides and does until ctx ends, and returns when all that it began has
// ended too.
func (n *noder) run(ctx context.Context) {
	if n.c.cfg.Machines == nil {
		return
	}
	n.reset()
	defer n.tell(nil)
	var begun sync.WaitGroup
	defer begun.Wait()
	for ctx.Err() == nil {
		changed := n.c.view.changes()
		began := time.Now()
		wait := n.step(ctx, &begun)
		// After a fault nothing hurries it: what it did in vain may itself be what
		// has changed.
		if !sleep(ctx, max(decideLeast, time.Since(began), n.backoff)) {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// step makes one decision, and says for how long it is good at most.
func (n *noder) step(ctx context.Context, begun *sync.WaitGroup) time.Duration {
	seen := time.Unix(0, n.c.fresh.Load()) // before the World that is at least as new
	view := n.c.view.current()
	if len(view.State.WorkerGroups) == 0 && len(view.State.Nodes) == 0 || view.World == nil {
		n.tell(nil)
		n.backoff = 0
		return decideAnyway
	}
	now := n.c.cfg.Now()
	in := n.input(view, seen, now)
	decision, memory := nodescale.Decide(in, n.memory)
	n.memory = memory
	n.tell(&decision.Report)
	n.listAll(ctx, view, in, begun)
	if err := n.propose(ctx, decision); err != nil {
		n.backoff = min(max(2*n.backoff, retryPause), maxRetryPause)
		if ctx.Err() == nil {
			n.log.Warn("what is to become of nodes was not recorded; it is tried again", "error", err)
		}
		return 0 // once it has rested
	}
	n.backoff = 0
	n.do(ctx, view, in, decision.Acts, begun)
	if decision.Again.IsZero() {
		return decideAnyway
	}
	return min(decideAnyway, max(decideLeast, decision.Again.Sub(now)))
}

// tell publishes a report. Who waits for a change of an application's status
// hears when something else is to be said of its replicas.
func (n *noder) tell(report *nodescale.Report) {
	n.mu.Lock()
	before := n.report
	n.report = report
	n.mu.Unlock()
	if !slices.EqualFunc(pendingOf(before), pendingOf(report), func(a, b nodescale.PendingReport) bool {
		return a.Job == b.Job && a.Reason == b.Reason
	}) {
		n.c.view.publish(func(*View) {})
	}
}

func pendingOf(report *nodescale.Report) []nodescale.PendingReport {
	if report == nil {
		return nil
	}
	return report.Pending
}

// NodeReport returns the node autoscaler's last report; false: this server does
// not lead, or has not decided yet.
func (c *Controller) NodeReport() (nodescale.Report, bool) {
	c.noder.mu.Lock()
	defer c.noder.mu.Unlock()
	if c.noder.report == nil {
		return nodescale.Report{}, false
	}
	return *c.noder.report, true
}

// propose records changes, and returns when this server's State has them: the
// next decision must not be made on the same State again.
func (n *noder) propose(ctx context.Context, d nodescale.Decision) error {
	var commands []raftstate.Command
	if len(d.Changes) > 0 {
		commands = append(commands, raftstate.Command{ChangeNodes: &raftstate.ChangeNodes{Changes: d.Changes}})
	}
	for _, group := range d.Forget {
		commands = append(commands, raftstate.Command{ForgetWorkerGroup: &raftstate.ForgetWorkerGroup{WorkerGroup: group}})
	}
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	for _, command := range commands {
		// No id: it is never sent again, and each change is made from what was.
		command.At, command.By = n.c.cfg.Now().UTC(), raftstate.ByNodeAutoscaler
		result, err := n.c.cfg.Raft.Propose(limited, command)
		if err == nil {
			err = errors.Join(result.Err(), n.c.applied(limited, result.Index))
		}
		if err != nil {
			return err
		}
	}
	if err := leftOut(n.c.cfg.Raft.State(), d.Changes); err != nil {
		return err
	}
	for _, change := range d.Changes {
		n.log.Info("node", "id", change.ID, "worker_group", change.Group, "from", change.From, "to", change.To, "reason", change.Reason)
	}
	return nil
}

// leftOut is the error for changes that the State did not take. The next decision
// may well ask for them again, and is not to do so at once and for ever.
func leftOut(state *raftstate.State, changes []raftstate.NodeChange) error {
	for _, c := range changes {
		switch node := state.Nodes[c.ID]; {
		case c.To == "" && node == nil:
		case node != nil && node.Phase == c.To:
		default:
			return fmt.Errorf("node %s did not go from %q to %q: it is another by now, or its group may not have it", c.ID, c.From, c.To)
		}
	}
	return nil
}

// do begins what is to be done, save what is under way.
func (n *noder) do(ctx context.Context, view *View, in nodescale.Input, acts []nodescale.Act, begun *sync.WaitGroup) {
	n.endCalls(view.State)
	if len(acts) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	if err := n.c.cfg.Raft.VerifyLeader(limited); err != nil {
		return
	}
	for _, a := range acts {
		switch {
		case a.Launch != "":
			n.call(ctx, "launch", a.Launch, a, view, in, begun)
		case a.Remove != "":
			n.call(ctx, "remove", a.Remove, a, view, in, begun)
		default:
			n.actInNomad(ctx, a, begun)
		}
	}
}

func (n *noder) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// actInNomad begins a call of Nomad for one node, unless it was begun a moment
// ago: what it did is seen with the next look.
func (n *noder) actInNomad(ctx context.Context, a nodescale.Act, begun *sync.WaitGroup) {
	name, node, act := n.nomadAct(a)
	if act == nil {
		return
	}
	key := name + " " + node
	now := time.Now()
	n.mu.Lock()
	maps.DeleteFunc(n.acts, func(_ string, at time.Time) bool { return now.Sub(at) > actAgain+nomadActLimit })
	_, lately := n.acts[key]
	if lately && now.Sub(n.acts[key]) < actAgain {
		n.mu.Unlock()
		return
	}
	n.acts[key] = now
	n.mu.Unlock()
	begun.Go(func() {
		limited, cancel := context.WithTimeout(ctx, nomadActLimit)
		defer cancel()
		if err := act(limited); err != nil {
			if ctx.Err() == nil {
				n.log.Warn("node not changed in Nomad; it is tried again", "what", name, "node", node, "error", err)
			}
			return
		}
		n.c.poke()
		n.log.Info("node changed in Nomad", "what", name, "node", node, "reason", a.Reason)
	})
}

func (n *noder) nomadAct(a nodescale.Act) (name, node string, act func(context.Context) error) {
	jobs := n.c.cfg.Jobs
	switch {
	case a.Cordon != "":
		return "closed to new replicas", a.Cordon, func(ctx context.Context) error { return jobs.SetEligible(ctx, a.Cordon, false) }
	case a.Uncordon != "":
		return "opened again", a.Uncordon, func(ctx context.Context) error { return jobs.SetEligible(ctx, a.Uncordon, true) }
	case a.Drain != "":
		return "drain", a.Drain, func(ctx context.Context) error { return jobs.Drain(ctx, a.Drain, a.Deadline, a.Reason) }
	case a.Purge != "":
		return "purged", a.Purge, func(ctx context.Context) error { return jobs.Purge(ctx, a.Purge) }
	default:
		return "", "", nil
	}
}
