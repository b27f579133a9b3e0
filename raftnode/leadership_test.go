package raftnode

import (
	"context"
	"errors"
	"fmt"
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

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lines) == 0 {
		return ""
	}
	return d.lines[len(d.lines)-1]
}

func TestLeadingSpansOneLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newInMemory(t, 3)
		defer c.stop(t)
		var book diary
		ctx, cancel := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		for _, n := range c.nodes {
			loops.Go(func() {
				err := n.RunAsLeader(ctx, func(ctx context.Context) error {
					if err := n.VerifyLeader(ctx); err != nil {
						t.Errorf("%s cannot verify: %v", n.ID(), err)
					}
					if n.Term() == 0 {
						t.Errorf("%s leads without a term", n.ID())
					}
					book.add("%s leads", n.ID())
					<-ctx.Done()
					book.add("%s ends: %v", n.ID(), context.Cause(ctx))
					return ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("RunAsLeader returned %v", err)
				}
			})
		}
		first := leaderOf(t, c.nodes...)
		eventually(t, "the first leads", func() bool { return book.last() == first.ID()+" leads" })

		c.cut(first)
		second := leaderOf(t, without(c.nodes, first)...)
		eventually(t, "the second leads", func() bool { return book.last() == second.ID()+" leads" })
		book.mu.Lock()
		if want := first.ID() + " ends: " + ErrNotLeader.Error(); len(book.lines) != 3 || book.lines[1] != want {
			t.Errorf("it went %q", book.lines)
		}
		book.mu.Unlock()
		if first.Term() != 0 || second.Term() == 0 {
			t.Errorf("terms are %d and %d", first.Term(), second.Term())
		}

		c.connect()
		if err := second.TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		third := leaderOf(t, c.nodes...)
		eventually(t, "the third leads", func() bool { return book.last() == third.ID()+" leads" })
		cancel()
		loops.Wait()
		if got, want := book.last(), third.ID()+" ends: context canceled"; got != want {
			t.Errorf("at last %q, want %q", got, want)
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
