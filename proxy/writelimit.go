package proxy

import (
	"net/http"
	"sync"
	"time"
)

// writeLimit bounds how long a write to the client may take: a client that does
// not read must not keep a replica's slot for ever.
//
// On HTTP/1 it is the connection's write deadline, which binds the next write
// alone. A stream's write deadline ends the stream when it comes, whether
// anything is being written or not; so for HTTP/2 it is set when a write has
// taken too long, and not before.
type writeLimit struct {
	control *http.ResponseController
	http2   bool
	used    bool
	until   time.Time // the deadline of HTTP/1; zero: none set

	mu      sync.Mutex
	timer   *time.Timer
	writing bool
}

func (t *transit) writeLimit() writeLimit {
	return writeLimit{control: &t.control, http2: t.r.ProtoMajor == 2}
}

// begin is called before a write, and end after it. The request's deadline,
// zero for none, binds the write as well.
func (l *writeLimit) begin(stall time.Duration, deadline time.Time) {
	l.used = true
	now := time.Now()
	if l.http2 {
		if !deadline.IsZero() {
			stall = min(stall, deadline.Sub(now))
		}
		l.arm(stall)
		return
	}
	if l.until.Sub(now) > stall-min(stallCheck, stall/2) {
		return
	}
	l.until = now.Add(stall)
	if deadline.IsZero() || l.until.Before(deadline) {
		deadline = l.until
	}
	// An error means that the connection is dead, which the write will say.
	_ = l.control.SetWriteDeadline(deadline)
}

// arm has a write of HTTP/2 ended that takes too long.
func (l *writeLimit) arm(stall time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = true
	if l.timer == nil {
		l.timer = time.AfterFunc(stall, l.over)
	} else {
		l.timer.Reset(stall)
	}
}

func (l *writeLimit) end() {
	if !l.http2 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
	l.timer.Stop()
}

// over ends a write that takes too long.
func (l *writeLimit) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing {
		_ = l.control.SetWriteDeadline(time.Now().Add(-time.Hour)) // as in begin
	}
}

// relax takes the deadline away before the connection's next request.
func (l *writeLimit) relax() {
	if !l.until.IsZero() {
		_ = l.control.SetWriteDeadline(time.Time{}) // as in begin
	}
}
