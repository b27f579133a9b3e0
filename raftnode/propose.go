package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

const (
	proposeTimeout  = 10 * time.Second // for a command to be applied, unless ctx ends before
	enqueueTimeout  = 2 * time.Second  // for raft to take an entry into its queue
	maxCommandBytes = 8 << 20          // a larger entry would hold up the heartbeats behind it
)

// Propose commits a command and returns what Apply said of it. Only the leader
// can: any other server returns ErrNotLeader. ErrNotLeader, ErrBusy,
// ErrTooLarge and ErrStopped mean that nothing was done. After
// ErrUnknownOutcome the command may still apply; its ID makes sending it again
// safe, here or at another server.
func (n *Node) Propose(ctx context.Context, c raftstate.Command) (raftstate.Result, error) {
	var none raftstate.Result
	data, err := raftstate.Encode(c)
	if err != nil {
		return none, fmt.Errorf("encode command: %w", err)
	}
	if len(data) > maxCommandBytes {
		return none, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), maxCommandBytes)
	}
	if n.raft.State() != raft.Leader {
		return none, ErrNotLeader
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	applied := make(chan raft.ApplyFuture, 1)
	err = n.await(ctx, func() raft.Future {
		f := n.raft.Apply(data, enqueueTimeout)
		applied <- f
		return f
	})
	if err != nil {
		return none, proposeError(err)
	}
	result, ok := (<-applied).Response().(raftstate.Result)
	if !ok {
		return none, fmt.Errorf("%w: the log gave no result", ErrUnknownOutcome)
	}
	return result, nil
}

// proposeError tells what was certainly not done from what may have been.
func proposeError(err error) error {
	switch {
	case errors.Is(err, ErrStopped):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// ConsistentState returns a State that holds every command that was
// acknowledged anywhere before the call. Only the leader can.
//
// It commits a barrier rather than ask raft to verify its leader: raft takes
// an answer that was already under way for a fresh one, so a leader that slept
// through its successor's election would be told that it still leads. A
// barrier commits in this leader's own term or not at all, and returns once
// all before it is applied here.
func (n *Node) ConsistentState(ctx context.Context) (*raftstate.State, error) {
	if err := n.barrier(ctx); err != nil {
		return nil, err
	}
	return n.State(), nil
}

// VerifyLeader returns nil if this server led the cluster at some moment after
// the call, by a commit on a majority. With the context that RunAsLeader gave,
// it also returns an error when that leadership is over and this server now
// has another. See ConsistentState for why it commits a barrier.
func (n *Node) VerifyLeader(ctx context.Context) error {
	if err := n.barrier(ctx); err != nil {
		return err
	}
	if s := spanOf(ctx); s != nil && s.ctx.Err() != nil {
		return ErrNotLeader
	}
	return nil
}

// barrier commits an empty entry and waits until all before it is applied.
func (n *Node) barrier(ctx context.Context) error {
	if n.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	err := n.await(ctx, func() raft.Future { return n.raft.Barrier(enqueueTimeout) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	default:
		return fmt.Errorf("commit a barrier: %w", err)
	}
}
