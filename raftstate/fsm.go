package raftstate

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// FSM adapts State to raft.FSM. Raft alone changes it, from one goroutine;
// anybody may read it, from any.
type FSM struct {
	current atomic.Pointer[published]
}

// published is a State and the channel that is closed when another follows it.
type published struct {
	state   *State
	changed chan struct{}
}

// NewFSM returns an FSM with an empty State.
func NewFSM() *FSM {
	f := &FSM{}
	f.publish(&State{})
	return f
}

// State returns the newest State. It never changes.
func (f *FSM) State() *State { return f.current.Load().state }

// Changed returns a channel that is closed when a State newer than the present
// one is there. Take it before State, or use Watch: the other way round misses
// a change in between.
func (f *FSM) Changed() <-chan struct{} { return f.current.Load().changed }

// Watch returns the newest State and a channel that is closed when it no
// longer is the newest.
func (f *FSM) Watch() (*State, <-chan struct{}) {
	p := f.current.Load()
	return p.state, p.changed
}

// Apply applies one log entry and returns its Result. An entry that cannot be
// read is a refusal like any other: it must not stop every server for ever.
func (f *FSM) Apply(entry *raft.Log) any {
	s := f.State()
	c, err := Decode(entry.Data)
	if err != nil {
		next := *s
		next.Index = entry.Index
		f.publish(&next)
		return Result{Index: entry.Index, Code: CodeInvalid, Error: err.Error()}
	}
	next, result := s.Apply(entry.Index, c)
	f.publish(next)
	return result
}

// Snapshot hands out the present State, which never changes, so it costs
// nothing however large the State is.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	return fsmSnapshot{state: f.State()}, nil
}

// Restore replaces the State with a snapshot's.
func (f *FSM) Restore(r io.ReadCloser) error {
	s, err := DecodeSnapshot(r)
	if err != nil {
		return err
	}
	f.publish(s)
	return nil
}

func (f *FSM) publish(s *State) {
	old := f.current.Swap(&published{state: s, changed: make(chan struct{})})
	if old != nil {
		close(old.changed)
	}
}

type fsmSnapshot struct{ state *State }

// Persist runs beside Apply.
func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := EncodeSnapshot(sink, s.state); err != nil {
		if cancelErr := sink.Cancel(); cancelErr != nil {
			return fmt.Errorf("%w; cancel it: %w", err, cancelErr)
		}
		return err
	}
	return sink.Close()
}

// Release has nothing to give back.
func (s fsmSnapshot) Release() {}
