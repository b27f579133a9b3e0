package gatekeeper

import (
	"errors"
	"net"
	"sync"
	"time"
)

var errBacklog = errors.New("the peer reads nothing")

// sender writes messages to a connection in the order in which they were put,
// many at a time when they come fast. The Gatekeeper's mutex guards what has not
// been taken by run.
type sender struct {
	pending []byte
	wake    chan struct{} // of capacity 1: there is something to send
	done    chan struct{} // closed by finish
	ended   bool
}

func newSender() sender {
	return sender{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// put has a message sent.
func (s *sender) put(m message) {
	s.pending = appendMessage(s.pending, m)
	select {
	case s.wake <- struct{}{}:
	default: // run will see it
	}
}

// finish says that nothing more will be put.
func (s *sender) finish() {
	if !s.ended {
		s.ended = true
		close(s.done)
	}
}

// clear forgets what was for a connection that is lost.
func (s *sender) clear() { s.pending = nil }

// writer is a sender's work on one connection.
type writer struct {
	s       *sender
	lock    sync.Locker
	nc      net.Conn
	silence time.Duration
	stopped chan struct{}
}

func newWriter(s *sender, lock sync.Locker, nc net.Conn, silence time.Duration) *writer {
	return &writer{s: s, lock: lock, nc: nc, silence: silence, stopped: make(chan struct{})}
}

func (w *writer) stop() {
	select {
	case <-w.stopped:
	default:
		close(w.stopped)
	}
}

// run writes until the connection or the sender ends. It says something at least
// every fifth part of the silence after which the peer gives up.
func (w *writer) run() error {
	ticker := time.NewTicker(w.silence / 5)
	defer ticker.Stop()
	var spare []byte
	for last := false; !last; {
		select {
		case <-w.stopped:
			return nil
		case <-w.s.done:
			last = true
		case <-w.s.wake:
		case <-ticker.C:
			w.lock.Lock()
			if len(w.s.pending) == 0 {
				w.s.pending = appendMessage(w.s.pending, message{kind: kindPing})
			}
			w.lock.Unlock()
		}
		w.lock.Lock()
		batch := w.s.pending
		w.s.pending = spare[:0]
		w.lock.Unlock()
		if len(batch) > maxBacklog {
			abort(w.nc) // its reader says so too
			return errBacklog
		}
		if err := w.write(batch); err != nil {
			abort(w.nc)
			return err
		}
		spare = batch
	}
	return w.nc.Close()
}

func (w *writer) write(batch []byte) error {
	if len(batch) == 0 {
		return nil
	}
	if err := w.nc.SetWriteDeadline(time.Now().Add(w.silence)); err != nil {
		return err
	}
	_, err := w.nc.Write(batch)
	return err
}

// abort breaks a connection. The peer must not take it for the end of this
// process: the requests that this one has go on.
func abort(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}
