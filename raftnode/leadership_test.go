package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// inMemory is servers on a fake clock, with nothing on disk or on the wire.
type inMemory struct {
	nodes      []*Node
	transports []*raft.InmemTransport
}

func newInMemory(t *testing.T, size int) *inMemory {
	t.Helper()
	c := &inMemory{}
	var founders raft.Configuration
	for i := range size {
		address, transport := raft.NewInmemTransport(raft.ServerAddress(fmt.Sprintf("server-%d:1", i)))
		c.transports = append(c.transports, transport)
		founders.Servers = append(founders.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: address})
	}
	c.connect()
	for i := range size {
		store := raft.NewInmemStore()
		cfg := Config{Logger: hclog.NewNullLogger()}.withDefaults()
		n, err := newNode(cfg, fmt.Sprint(i), raftstate.NewFSM(), stores{store, store, raft.NewInmemSnapshotStore(), c.transports[i]})
		if err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if err := n.raft.BootstrapCluster(founders).Error(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *inMemory) connect() {
	for _, a := range c.transports {
		for _, b := range c.transports {
			if a != b {
				a.Connect(b.LocalAddr(), b)
			}
		}
	}
}

// cut takes n off the wire.
func (c *inMemory) cut(n *Node) {
	for i, a := range c.transports {
		if c.nodes[i] == n {
			a.DisconnectAll()
			for _, b := range c.transports {
				b.Disconnect(a.LocalAddr())
			}
		}
	}
}

func (c *inMemory) stop(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		// As Shutdown does: raft leaves a call that came too late unanswered.
		ctx, cancel := context.WithTimeout(context.Background(), drainRequests)
		n.calls.stop(ctx)
		cancel()
		if err := n.raft.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		n.stop()
		n.loops.Wait()
	}
	for _, transport := range c.transports {
		if err := transport.Close(); err != nil {
			t.Error(err)
		}
	}
}

// diary is what each server's leaderships were, in order. Between servers there
// is no order to test: one that is deposed may learn of it after its successor
// has begun.
type diary struct {
	mu    sync.Mutex
	spans map[string][]string
}

func (d *diary) begins(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans[id] = append(d.spans[id], "leads")
}

func (d *diary) ends(id string, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans[id][len(d.spans[id])-1] = why.Error()
}

// leaders returns those that lead.
func (d *diary) leaders() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []string
	for id, spans := range d.spans {
		if spans[len(spans)-1] == "leads" {
			ids = append(ids, id)
		}
	}
	return ids
}

// of returns the spans of one server, each "leads" or why it ended.
func (d *diary) of(n *Node) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.spans[n.ID()])
}

func TestLeadingSpansOneLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 3)
		defer c.stop(t)
		book := diary{spans: map[string][]string{}}
		ctx, cancel := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		defer loops.Wait()
		defer cancel()
		for _, n := range c.nodes {
			loops.Go(func() {
				err := n.RunAsLeader(ctx, func(ctx context.Context) error {
					book.begins(n.ID())
					if err := n.VerifyLeader(ctx); err != nil && !errors.Is(err, ErrNotLeader) {
						t.Errorf("%s cannot verify: %v", n.ID(), err)
					}
					<-ctx.Done()
					book.ends(n.ID(), context.Cause(ctx))
					return ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("RunAsLeader returned %v", err)
				}
			})
		}
		// settled waits until the same server has led alone for a while.
		settled := func(nodes ...*Node) *Node {
			t.Helper()
			var alone *Node
			var since time.Time
			eventually(t, "one server leads, and goes on", func() bool {
				leader := leaderOf(t, nodes...)
				if ids := book.leaders(); !slices.Equal(ids, []string{leader.ID()}) {
					alone = nil
				} else if alone != leader {
					alone, since = leader, time.Now()
				}
				return alone != nil && time.Since(since) > 3*time.Second
			})
			return alone
		}

		first := settled(c.nodes...)
		if n := len(book.of(first)); n == 0 {
			t.Fatal("the leader never led")
		}
		c.cut(first)
		second := settled(without(c.nodes, first)...)
		if spans := book.of(first); spans[len(spans)-1] != ErrNotLeader.Error() {
			t.Errorf("the first leader's spans: %q", spans)
		}
		if first.Term() != 0 || second.Term() == 0 {
			t.Errorf("terms are %d and %d", first.Term(), second.Term())
		}

		c.connect()
		second = settled(c.nodes...)
		if err := second.TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		if second.Term() != 0 {
			t.Error("it has handed over, and leads")
		}
		third := settled(c.nodes...)
		cancel()
		loops.Wait()
		if spans := book.of(third); spans[len(spans)-1] != context.Canceled.Error() {
			t.Errorf("the last leader's spans: %q", spans)
		}
		if ids := book.leaders(); len(ids) > 0 {
			t.Errorf("%q still lead", ids)
		}
	})
}

func TestALeadershipThatIsOverVerifiesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 1)
		defer c.stop(t)
		n := leaderOf(t, c.nodes...)
		s, _, _ := n.leadership.get()
		ctx := context.WithValue(t.Context(), spanKey{}, s)
		if err := n.VerifyLeader(ctx); err != nil {
			t.Fatal(err)
		}
		// Lost and regained: this server leads, but not for that caller.
		n.leadership.set(nil, false)
		if err := n.VerifyLeader(ctx); !errors.Is(err, ErrNotLeader) {
			t.Errorf("got %v", err)
		}
		if err := n.VerifyLeader(t.Context()); err != nil {
			t.Errorf("without that leadership: %v", err)
		}
	})
}

func TestALeaderThatFailsHandsOverAndTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 3)
		defer c.stop(t)
		first := leaderOf(t, c.nodes...)
		if err := first.RunAsLeader(cancelAfter(t, 3*time.Second), func(context.Context) error {
			return errors.New("no way to lead")
		}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if first.IsLeader() {
			t.Error("it still leads")
		}
		leaderOf(t, without(c.nodes, first)...)
	})
}

func TestALoneLeaderThatFailsTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 1)
		defer c.stop(t)
		n := leaderOf(t, c.nodes...)
		var tries int
		err := n.RunAsLeader(cancelAfter(t, 3*leadRetry-time.Second), func(context.Context) error {
			tries++
			return errors.New("no way to lead")
		})
		if !errors.Is(err, context.DeadlineExceeded) || tries != 3 {
			t.Errorf("%d tries, then %v", tries, err)
		}
	})
}

func TestALeaderThatIsDoneIsNotCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 1)
		n := leaderOf(t, c.nodes...)
		var calls int
		ended := make(chan error)
		go func() {
			ended <- n.RunAsLeader(t.Context(), func(context.Context) error {
				calls++
				return nil
			})
		}()
		time.Sleep(time.Minute) // fake
		c.stop(t)
		if err := <-ended; !errors.Is(err, ErrStopped) || calls != 1 {
			t.Errorf("%d calls, then %v", calls, err)
		}
	})
}

func TestALeaderWithoutAMajorityKnowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 3)
		defer c.stop(t)
		n := leaderOf(t, c.nodes...)
		c.cut(n) // it has not noticed yet
		if _, err := n.Propose(cancelAfter(t, time.Millisecond), deploy("a")); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("propose: %v", err)
		}
		if _, err := n.Propose(t.Context(), deploy("b")); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("propose, until it steps down: %v", err)
		}
		if err := n.VerifyLeader(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("verify: %v", err)
		}
		if _, err := n.ConsistentState(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("consistent state: %v", err)
		}
	})
}

func cancelAfter(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
