package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

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

// targetCall is a call of a target, and how to end it.
type targetCall struct {
	nodescale.Call
	cancel context.CancelFunc
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
	cancellable, cancel := context.WithCancel(ctx)
	call := &targetCall{Call: nodescale.Call{What: what, Running: true, Waits: true, At: n.c.cfg.Now()}, cancel: cancel}
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
	blueprint := nodescale.BlueprintOf(view.State.ClusterID, group.SpecOf(record), in.CoreMHz[group.Name])
	n.log.Info("target called", "what", what, "node", id, "worker_group", group.Name, "target", blueprint.Kind, "reason", a.Reason)
	begun.Go(func() {
		defer cancel()
		instance, err := n.callTarget(cancellable, call, turn, limit, blueprint, machine)
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

// callTarget makes a call when it is its turn, and has its time begin then.
func (n *noder) callTarget(ctx context.Context, call *targetCall, turn chan struct{}, limit time.Duration, b nodescale.Blueprint, m nodescale.Machine) (instance string, err error) {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	n.mu.Lock()
	call.Waits, call.At = false, n.c.cfg.Now()
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if call.What == "launch" {
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
		if l, known := n.lists[group]; known {
			l.At = time.Time{} // whether it is gone is asked at once
			n.lists[group] = l
		}
	}
	if instance != "" {
		call.Instance = instance
	}
	if err != nil {
		call.Error, call.NoEffect = err.Error(), errors.Is(err, nodescale.ErrNotSupported)
		if ctx.Err() == nil {
			n.log.Warn("target failed", "what", call.What, "node", id, "error", err)
		}
	}
	n.mu.Unlock()
	n.nudge()
}

// listAll asks the targets what there is, each now and then.
func (n *noder) listAll(ctx context.Context, view *View, in nodescale.Input, begun *sync.WaitGroup) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.lists, func(name string, _ nodescale.Listed) bool { return view.State.WorkerGroups[name] == nil })
	for name, group := range view.State.WorkerGroups {
		kind := group.Spec.Target.Kind
		age := in.Now.Sub(n.lists[name].At)
		if n.asking[name] || kind == "none" || group.Spec.DryRun || age >= 0 && age < listEvery {
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
		l.Error, l.Never = err.Error(), errors.Is(err, nodescale.ErrNotSupported)
	}
	n.mu.Lock()
	n.lists[group] = l
	delete(n.asking, group)
	n.mu.Unlock()
	n.nudge()
}
