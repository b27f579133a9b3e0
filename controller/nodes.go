package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Machines makes and removes the nodes of worker groups, as the controller
// needs it. Each call is idempotent by the machine's id.
type Machines interface {
	Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (instance string, err error)
	Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error
	List(ctx context.Context, b nodescale.Blueprint) (nodescale.Listing, error)
}

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

// targetCall is a call of a target, and how to end it.
type targetCall struct {
	nodescale.Call
	cancel context.CancelFunc
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
	var begun sync.WaitGroup
	defer begun.Wait()
	for ctx.Err() == nil {
		changed := n.c.view.changes()
		began := time.Now()
		wait := n.step(ctx, &begun)
		if !sleep(ctx, max(decideLeast, time.Since(began))) {
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
	view := n.c.view.current()
	if len(view.State.WorkerGroups) == 0 && len(view.State.Nodes) == 0 || view.World == nil {
		n.tell(nil)
		return decideAnyway
	}
	now := n.c.cfg.Now()
	in := n.input(view, now)
	decision, memory := nodescale.Decide(in, n.memory)
	n.memory = memory
	n.tell(&decision.Report)
	n.listAll(ctx, view, in, begun)
	if err := n.propose(ctx, decision); err != nil {
		n.backoff = min(max(2*n.backoff, retryPause), maxRetryPause)
		if ctx.Err() == nil {
			n.log.Warn("what is to become of nodes was not recorded; it is tried again", "error", err)
		}
		return n.backoff
	}
	n.backoff = 0
	n.do(ctx, view, in, decision.Acts, begun)
	if decision.Again.IsZero() {
		return decideAnyway
	}
	return min(decideAnyway, max(decideLeast, decision.Again.Sub(now)))
}

// tell publishes a report.
func (n *noder) tell(report *nodescale.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.report = report
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
	for _, change := range d.Changes {
		n.log.Info("node", "id", change.ID, "worker_group", change.Group, "from", change.From, "to", change.To, "reason", change.Reason)
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

// endCalls ends launches of nodes that are not to be launched any more, and
// forgets the calls of those that are gone.
func (n *noder) endCalls(state *raftstate.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, call := range n.calls {
		record := state.Nodes[id]
		if call.Running && (record == nil || call.What == "launch" && record.Phase != raftstate.NodeLaunching) {
			call.cancel()
		}
		if record == nil && !call.Running {
			delete(n.calls, id)
		}
	}
}

// call begins a call of a group's target for one machine.
func (n *noder) call(ctx context.Context, what, id string, a nodescale.Act, view *View, in nodescale.Input, begun *sync.WaitGroup) {
	record := view.State.Nodes[id]
	if record == nil || view.State.WorkerGroups[record.Group] == nil {
		return
	}
	group := view.State.WorkerGroups[record.Group]
	limit := removeLimit
	if what == "launch" {
		limit = group.Spec.LaunchTimeout.Std()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.calls[id]
	if before != nil && before.Running {
		return
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	call := &targetCall{Call: nodescale.Call{What: what, Running: true, At: n.c.cfg.Now()}, cancel: cancel}
	machine := nodescale.Machine{ID: id, Instance: record.Instance, NomadID: record.NomadID, Wanted: a.Wanted}
	if before != nil {
		call.Instance = before.Instance
		if machine.Instance == "" {
			machine.Instance = before.Instance
		}
	}
	for _, node := range in.Nodes {
		if record.NomadID != "" && node.ID == record.NomadID {
			machine.Name = node.Name
		}
	}
	n.calls[id] = call
	turn := n.turn(group.Name)
	blueprint := nodescale.BlueprintOf(view.State.ClusterID, group.Spec, in.CoreMHz[group.Name])
	n.log.Info("target called", "what", what, "node", id, "worker_group", group.Name, "target", blueprint.Kind, "reason", a.Reason)
	begun.Go(func() {
		defer cancel()
		instance, err := n.callTarget(limited, what, turn, blueprint, machine)
		n.ended(ctx, group.Name, id, call, instance, err)
	})
}

// turn is where the calls of a group's target take turns. The caller holds mu.
func (n *noder) turn(group string) chan struct{} {
	if n.turns[group] == nil {
		n.turns[group] = make(chan struct{}, callsAtOnce)
	}
	return n.turns[group]
}

func (n *noder) callTarget(ctx context.Context, what string, turn chan struct{}, b nodescale.Blueprint, m nodescale.Machine) (instance string, err error) {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if what == "launch" {
		instance, err = n.c.cfg.Machines.Launch(ctx, b, m)
	} else {
		err = n.c.cfg.Machines.Remove(ctx, b, m)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not answer in time: %w", err)
	}
	return instance, err
}

// ended notes what came of a call.
func (n *noder) ended(ctx context.Context, group, id string, call *targetCall, instance string, err error) {
	n.mu.Lock()
	call.Running = false
	if call.What == "remove" && err == nil {
		delete(n.lists, group) // whether it is gone is asked at once
	}
	if instance != "" {
		call.Instance = instance
	}
	if err != nil {
		call.Error = err.Error()
		if ctx.Err() == nil {
			n.log.Warn("target failed", "what", call.What, "node", id, "error", err)
		}
	}
	n.mu.Unlock()
	n.nudge()
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

// listAll asks the targets what there is, each now and then.
func (n *noder) listAll(ctx context.Context, view *View, in nodescale.Input, begun *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.lists, func(name string, _ nodescale.Listed) bool { return view.State.WorkerGroups[name] == nil })
	for name, group := range view.State.WorkerGroups {
		kind := group.Spec.Target.Kind
		if n.asking[name] || kind == "none" || group.Spec.DryRun || in.Now.Sub(n.lists[name].At) < listEvery {
			continue
		}
		n.asking[name] = true
		blueprint := nodescale.BlueprintOf(view.State.ClusterID, group.Spec, in.CoreMHz[name])
		begun.Go(func() {
			limited, cancel := context.WithTimeout(ctx, listLimit)
			defer cancel()
			listing, err := n.c.cfg.Machines.List(limited, blueprint)
			n.listed(name, in.Now, listing, err)
		})
	}
}

func (n *noder) listed(group string, at time.Time, listing nodescale.Listing, err error) {
	l := nodescale.Listed{At: at, Listing: listing}
	if err != nil {
		l.Error = err.Error()
	}
	n.mu.Lock()
	n.lists[group] = l
	delete(n.asking, group)
	n.mu.Unlock()
	n.nudge()
}
