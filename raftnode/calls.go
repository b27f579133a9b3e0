package raftnode

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// calls counts the calls into raft that are under way, so that Shutdown can
// let no more begin and wait for the rest.
type calls struct {
	mu      sync.Mutex
	stopped bool // guarded by mu
	running sync.WaitGroup
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.running.Add(1)
	}
	return !c.stopped
}

// stop lets no more calls begin and waits for the rest until ctx ends.
func (c *calls) stop(ctx context.Context) {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// await makes a call into raft and waits for its outcome until ctx ends: then
// the call goes on, and its outcome is lost. Raft's own timeouts cover no more
// than the way into its queue.
func (n *Node) await(ctx context.Context, call func() raft.Future) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !n.calls.begin() {
		return ErrStopped
	}
	outcome := make(chan error, 1)
	go func() {
		defer n.calls.running.Done()
		outcome <- call().Error()
	}()
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
