package controller_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// plant is a fake whose nodes are made by a target.
type plant struct {
	*fake

	nodes    map[string]*placement.Node // by Nomad's id
	machines map[string]bool            // by id
	launched map[string]int             // how often the target was called, by id
	removed  map[string]int
	takes    time.Duration // a call of the target
	hangs    bool          // the target does
	refuses  bool          // the State leaves changes of nodes out
	leader   *controller.Controller
	depose   func()
}

// plantWith has a leader, and a worker group that is to have nodes.
func plantWith(t *testing.T, least, most int, timeout time.Duration) *plant {
	t.Helper()
	p := &plant{
		fake: newFake(), nodes: map[string]*placement.Node{}, machines: map[string]bool{},
		launched: map[string]int{}, removed: map[string]int{}, takes: 300 * time.Millisecond,
	}
	p.bounds(t, least, most, timeout)
	return p
}

func (p *plant) bounds(t *testing.T, least, most int, timeout time.Duration) {
	t.Helper()
	p.propose(t, raftstate.Command{Deploy: &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{{Spec: &appspec.WorkerGroup{
		Name: "cpu", NodePool: "cpu", MinNodes: least, MaxNodes: most, IdleTimeout: appspec.Duration(2 * time.Second),
		LaunchTimeout: appspec.Duration(timeout), DrainTimeout: appspec.Duration(time.Minute),
		Node: appspec.NodeShape{CPU: 1, CoreMHz: 1000, MemoryMB: 512, Datacenter: "dc1"}, Target: appspec.NodeTarget{Kind: appspec.TargetExec},
		ScaleDown: &appspec.ScaleDown{Budget: "100%"},
	}}}}})
}

// lead starts a leader, which depose ends.
func (p *plant) lead(t *testing.T) {
	t.Helper()
	c := controller.New(controller.Config{Raft: p, Jobs: p, Discovery: p, Machines: p, NewID: p.newID, AskOf: wholeNode})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p.leader, p.depose = c, cancel
	go c.Run(ctx)
	go func() {
		if err := c.Lead(ctx); err != nil {
			t.Errorf("lead: %v", err)
		}
	}()
}

func (p *plant) Propose(ctx context.Context, c raftstate.Command) (raftstate.Result, error) {
	p.mu.Lock()
	if c.ChangeNodes != nil && p.refuses {
		c.ChangeNodes = &raftstate.ChangeNodes{}
	}
	p.mu.Unlock()
	return p.fake.Propose(ctx, c)
}

func (p *plant) Observe(ctx context.Context, nodes bool) (reconcile.Observation, error) {
	seen, err := p.fake.Observe(ctx, nodes)
	p.mu.Lock()
	defer p.mu.Unlock()
	seen.NodesKnown, seen.Pools = nodes, map[string]bool{"cpu": true}
	for _, id := range slices.Sorted(maps.Keys(p.nodes)) {
		seen.Nodes = append(seen.Nodes, new(*p.nodes[id]))
	}
	return seen, err
}

// wholeNode is for replicas that take a node of the plant each.
func wholeNode(*api.Job) (placement.Ask, error) {
	return placement.Ask{TaskGroup: "till", Pool: "cpu", Uses: placement.Resources{CPU: 1000, MemoryMB: 512}}, nil
}

// Launch makes a machine, and has its node join.
func (p *plant) Launch(ctx context.Context, _ nodescale.Blueprint, m nodescale.Machine) (string, error) {
	if err := p.called(ctx, p.launched, m.ID); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machines[m.ID] = true
	p.nodes["nomad-"+m.ID] = &placement.Node{
		ID: "nomad-" + m.ID, Name: m.ID, Pool: "cpu", Datacenter: "dc1", Room: placement.Resources{CPU: 1000, MemoryMB: 512},
		Said: placement.Said{Status: "ready", Eligible: true, Launch: m.ID, Since: time.Now()},
	}
	p.tick(p.wake)
	return "", nil
}

// Remove ends a machine.
func (p *plant) Remove(ctx context.Context, _ nodescale.Blueprint, m nodescale.Machine) error {
	if err := p.called(ctx, p.removed, m.ID); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.machines, m.ID)
	if n := p.nodes["nomad-"+m.ID]; n != nil {
		n.Said.Status, n.Closed = "down", "down"
	}
	p.tick(p.wake)
	return nil
}

// called counts a call, and is what it takes.
func (p *plant) called(ctx context.Context, calls map[string]int, id string) error {
	p.mu.Lock()
	calls[id]++
	err, takes := p.count(), p.takes
	if p.hangs {
		takes = 24 * time.Hour
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-time.After(takes): // fake
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// List names the machines that there are.
func (p *plant) List(context.Context, nodescale.Blueprint) (nodescale.Listing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []nodescale.Instance
	for id := range p.machines {
		list = append(list, nodescale.Instance{ID: id, State: "running"})
	}
	return nodescale.Listing{Instances: list, Count: len(list)}, nil
}

func (p *plant) inNomad(id string, do func(n *placement.Node)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.count(); err != nil {
		return err
	}
	if n := p.nodes[id]; n != nil {
		do(n)
	}
	p.tick(p.wake)
	return nil
}

func (p *plant) SetEligible(_ context.Context, id string, eligible bool) error {
	return p.inNomad(id, func(n *placement.Node) {
		n.Said.Eligible, n.Closed = eligible, map[bool]string{false: "not eligible"}[eligible]
	})
}

func (p *plant) Purge(_ context.Context, id string) error {
	return p.inNomad(id, func(*placement.Node) { delete(p.nodes, id) })
}

// want checks that so many nodes are ready, that each has its machine, and that
// there is nothing else.
func (p *plant) want(t *testing.T, n int, when string) {
	t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := 0
	for id, node := range p.state.Nodes {
		if node.Phase == raftstate.NodeReady && p.machines[id] {
			ready++
		}
	}
	if ready != n || len(p.state.Nodes) != n || len(p.machines) != n || len(p.nodes) != n {
		t.Fatalf("%s: want %d nodes, there are %d ready of %v, machines %v, and %d in Nomad", when, n, ready, p.state.Nodes, p.machines, len(p.nodes))
	}
}

func (p *plant) orders() (n int) {
	for _, times := range p.launched {
		n += times
	}
	return n
}

func TestNodes(t *testing.T) {
	t.Run("come and go, each called for once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := plantWith(t, 2, 3, time.Minute)
			p.lead(t)
			time.Sleep(time.Second) // fake
			p.want(t, 2, "a second after there was a leader")
			p.bounds(t, 0, 3, time.Minute)
			time.Sleep(10 * time.Second) // fake
			p.want(t, 0, "when none is needed")
			if len(p.launched) != 2 || p.orders() != 2 || len(p.removed) != 2 {
				t.Errorf("launched %v, removed %v", p.launched, p.removed)
			}
			p.depose()
			synctest.Wait()
			if _, known := p.leader.NodeReport(); known {
				t.Error("who does not lead any more still says what he would do")
			}
		})
	})
	t.Run("wait for their turn without being late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := plantWith(t, 35, 40, 2*time.Minute)
			p.takes = time.Minute
			p.lead(t)
			time.Sleep(5 * time.Minute) // fake
			p.want(t, 35, "after four rounds of ten")
			if p.orders() != 35 {
				t.Errorf("%d calls", p.orders())
			}
		})
	})
	t.Run("are given up when their target hangs, and it is tried again ever more seldom", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := plantWith(t, 40, 40, 5*time.Second)
			p.hangs = true
			p.lead(t)
			time.Sleep(8 * time.Second) // fake
			synctest.Wait()
			if f := p.State().WorkerGroups["cpu"].Failures; f.Count != 1 || len(p.launched) > 20 { // ten, and those whose turn it then was
				t.Errorf("%+v after the first try, %d were called", f, len(p.launched))
			}
			p.depose() // also while calls hang
			synctest.Wait()
			p.mu.Lock()
			p.hangs = false
			p.mu.Unlock()
			p.lead(t)
			time.Sleep(2 * time.Minute) // fake
			p.want(t, 40, "once it does not hang")
		})
	})
	t.Run("stay while Nomad is away, and are not ordered twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := plantWith(t, 2, 3, time.Minute)
			p.lead(t)
			time.Sleep(time.Second) // fake
			p.setDown(errors.New("connection refused"))
			p.bounds(t, 0, 3, time.Minute)
			time.Sleep(time.Hour) // fake
			p.want(t, 2, "while Nomad is away")
			p.setDown(nil)
			time.Sleep(time.Minute) // fake
			p.want(t, 0, "when it is back")
			if p.orders() != 2 {
				t.Errorf("launched %v", p.launched)
			}
		})
	})
	t.Run("a change that the State does not take is not asked for without end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := plantWith(t, 1, 1, time.Minute)
			p.refuses = true
			p.lead(t)
			time.Sleep(time.Hour) // fake
			p.mu.Lock()
			commands := len(p.commands)
			p.refuses = false
			p.mu.Unlock()
			if commands < 60 || commands > 1000 {
				t.Errorf("%d commands in an hour", commands)
			}
			time.Sleep(time.Minute) // fake
			p.want(t, 1, "once it takes them")
		})
	})
}

// TestLeaderOfNodesDiesAnywhere ends the leader at each of its writes: the next
// one goes on, and no machine is made or left that nobody knows of.
func TestLeaderOfNodesDiesAnywhere(t *testing.T) {
	for k := 1; ; k++ {
		crashed := false
		t.Run(fmt.Sprintf("at write %d", k), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := plantWith(t, 2, 3, time.Minute)
				p.crashAfter(k, func() { crashed = true; p.depose() })
				p.lead(t)
				next := func() {
					synctest.Wait()
					if crashed && p.crash != nil {
						p.crash = nil
						p.lead(t)
					}
				}
				time.Sleep(10 * time.Second) // fake
				next()
				time.Sleep(time.Minute) // fake
				p.want(t, 2, "with two nodes needed")
				p.bounds(t, 0, 3, time.Minute)
				time.Sleep(20 * time.Second) // fake
				next()
				time.Sleep(time.Minute) // fake
				p.want(t, 0, "with none needed")
				if len(p.launched) != 2 {
					t.Errorf("launched %v", p.launched)
				}
			})
		})
		if !crashed {
			t.Logf("%d writes", k-1)
			return
		}
	}
}
