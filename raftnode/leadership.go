package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	establishTimeout = 10 * time.Second // for a new leader's barrier
	leadRetry        = 5 * time.Second  // between tries to lead that ended with an error
	transferTries    = 3
)

// span is one leadership of this server, from the edge that began it to the
// edge that ended it.
type span struct {
	ctx         context.Context // ends with the leadership, cause ErrNotLeader
	cancel      context.CancelCauseFunc
	term        uint64        // set before established is closed
	established chan struct{} // closed when all that came before is applied here
}

func newSpan() *span {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &span{ctx: ctx, cancel: cancel, established: make(chan struct{})}
}

// leadership is the present span, and its changes.
type leadership struct {
	mu      sync.Mutex
	current *span // nil: this server does not lead
	ended   bool  // raft has stopped
	changed chan struct{}
}

func newLeadership() *leadership {
	return &leadership{changed: make(chan struct{})}
}

// watch follows raft's edges until done is closed. Raft waits for each edge to
// be taken, and the next is taken only when this one has had its effect: so a
// leadership that ended is marked so before another can commit anything.
// Nothing here may block.
func (l *leadership) watch(edges <-chan bool, done <-chan struct{}) {
	for {
		select {
		case leads := <-edges:
			var next *span
			if leads {
				next = newSpan()
			}
			l.set(next, false)
		case <-done:
			l.set(nil, true)
			return
		}
	}
}

func (l *leadership) set(next *span, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		l.current.cancel(ErrNotLeader)
	}
	l.current, l.ended = next, ended
	close(l.changed)
	l.changed = make(chan struct{})
}

// get returns the present span, or nil, and a channel that is closed when it
// no longer is the present one.
func (l *leadership) get() (current *span, changed <-chan struct{}, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.changed, l.ended
}

// establish makes each new leadership ready: everything that was committed
// before it must be applied here before anybody acts on the State. A leader
// that cannot commit hands over to one that can. A watchdog that commits now
// and then, and ends the process when its disk hangs, belongs beside this.
func (n *Node) establish(ctx context.Context) {
	for {
		s, changed, ended := n.leadership.get()
		if ended {
			return
		}
		var retry <-chan time.Time
		if s != nil && !s.isEstablished() {
			if err := n.establishSpan(s); err != nil && s.ctx.Err() == nil {
				n.logger.Error("establish leadership", "error", err, "retry_in", leadRetry)
				n.stepDown(s.ctx)
				retry = time.After(leadRetry)
			}
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) establishSpan(s *span) error {
	ctx, cancel := context.WithTimeout(s.ctx, establishTimeout)
	defer cancel()
	term := n.raft.CurrentTerm()
	if err := n.barrier(ctx); err != nil {
		return err
	}
	// Leading in the same term before and after, the barrier was of this term.
	if now := n.raft.CurrentTerm(); now != term || n.raft.State() != raft.Leader {
		return fmt.Errorf("%w: the term went from %d to %d", ErrNotLeader, term, now)
	}
	s.term = term
	close(s.established)
	n.logger.Info("leadership established", "id", n.id, "term", term)
	return nil
}

func (s *span) isEstablished() bool {
	select {
	case <-s.established:
		return true
	default:
		return false
	}
}

type spanKey struct{}

// spanOf returns the leadership that ctx was made for, or nil.
func spanOf(ctx context.Context) *span {
	s, _ := ctx.Value(spanKey{}).(*span)
	return s
}

// RunAsLeader calls lead for the span of each leadership of this server: once
// all that was committed before is applied here, with a context that ends when
// the leadership does (its cause is then ErrNotLeader). A leadership that is
// lost and regained is two. When lead returns an error while it still leads,
// leadership is handed to another server, if there is one that can take it, and
// lead is called again after a while if this server then leads. RunAsLeader
// waits for lead to return and itself returns when ctx ends or the node stops.
func (n *Node) RunAsLeader(ctx context.Context, lead func(ctx context.Context) error) error {
	for {
		s, changed, ended := n.leadership.get()
		if ended {
			return ErrStopped
		}
		var established <-chan struct{}
		if s != nil {
			established = s.established
		}
		select {
		case <-established:
			if err := n.lead(ctx, s, lead); err != nil {
				return err
			}
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lead runs one call of lead and what must follow it. Its error ends
// RunAsLeader.
func (n *Node) lead(ctx context.Context, s *span, lead func(ctx context.Context) error) error {
	if s.ctx.Err() != nil {
		return nil
	}
	leading, cancel := context.WithCancelCause(context.WithValue(ctx, spanKey{}, s))
	defer cancel(nil)
	unlink := context.AfterFunc(s.ctx, func() { cancel(ErrNotLeader) })
	defer unlink()

	err := lead(leading)
	var retry <-chan time.Time
	if err != nil && ctx.Err() == nil && s.ctx.Err() == nil {
		n.logger.Error("lead", "error", err, "term", s.term, "retry_in", leadRetry)
		n.stepDown(s.ctx)
		retry = time.After(leadRetry)
	}
	select {
	case <-s.ctx.Done():
	case <-retry:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Term returns the term of this server's leadership, once that is established,
// and 0 while it has none. It only grows: what a leader does outside the
// cluster can be marked with it.
func (n *Node) Term() uint64 {
	s, _, _ := n.leadership.get()
	if s == nil || !s.isEstablished() {
		return 0
	}
	return s.term
}

// IsLeader says whether this server leads, as far as it knows.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// Leader returns the leader's id and the address of its Raft port, or two
// empty strings when none is known.
func (n *Node) Leader() (id, address string) {
	a, i := n.raft.LeaderWithID()
	return string(i), string(a)
}

// TransferLeadership hands leadership to another server, and returns once this
// one no longer leads.
func (n *Node) TransferLeadership(ctx context.Context) error {
	s, _, _ := n.leadership.get()
	if s == nil || !n.IsLeader() {
		return ErrNotLeader
	}
	if !n.hasOtherVoter() {
		return errors.New("transfer leadership: there is no other server to take it")
	}
	var err error
	for range transferTries {
		err = n.await(ctx, func() raft.Future { return n.raft.LeadershipTransfer() })
		if err == nil || errors.Is(err, raft.ErrNotLeader) || ctx.Err() != nil {
			break
		}
		n.logger.Warn("transfer leadership", "error", err)
	}
	if err != nil && !errors.Is(err, raft.ErrNotLeader) {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	// Raft answers once it has left off leading, which those who lead here
	// learn a moment later.
	select {
	case <-s.ctx.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stepDown hands leadership on if it can, and says so if it cannot.
func (n *Node) stepDown(ctx context.Context) {
	if !n.hasOtherVoter() {
		return
	}
	if err := n.TransferLeadership(ctx); err != nil && ctx.Err() == nil {
		n.logger.Warn("step down", "error", err)
	}
}

func (n *Node) hasOtherVoter() bool {
	for _, p := range n.Peers() {
		if p.Voter && p.ID != n.id {
			return true
		}
	}
	return false
}
