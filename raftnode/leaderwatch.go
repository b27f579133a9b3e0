package raftnode

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// leaderWatch wakes those who wait for the cluster to have a leader.
type leaderWatch struct {
	raft     *raft.Raft
	observer *raft.Observer
	updates  chan raft.Observation
	done     chan struct{}
	running  sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the leader changes; guarded by mu
}

func watchLeader(r *raft.Raft) *leaderWatch {
	// One update that waits to be read says as much as many: raft may drop
	// what does not fit.
	w := &leaderWatch{
		raft: r, updates: make(chan raft.Observation, 1),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	w.observer = raft.NewObserver(w.updates, false, func(o *raft.Observation) bool {
		_, isLeader := o.Data.(raft.LeaderObservation)
		return isLeader
	})
	r.RegisterObserver(w.observer)
	w.running.Go(w.run)
	return w
}

func (w *leaderWatch) run() {
	for {
		select {
		case <-w.updates:
			w.mu.Lock()
			close(w.changed)
			w.changed = make(chan struct{})
			w.mu.Unlock()
		case <-w.done:
			return
		}
	}
}

func (w *leaderWatch) stop() {
	w.raft.DeregisterObserver(w.observer)
	close(w.done)
	w.running.Wait()
}

func (w *leaderWatch) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// WaitLeader waits until a leader is known and returns its id and the address
// of its Raft port.
func (n *Node) WaitLeader(ctx context.Context) (id, address string, err error) {
	for {
		changed := n.leader.next()
		if id, address := n.Leader(); id != "" {
			return id, address, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", "", fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
		}
	}
}
