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
	until   time.Time // the deadline of HTTP/1; zero: none set

	mu      sync.Mutex
	timer   *time.Timer
	writing bool
}

// begin is called before a write, and end after it.
func (l *writeLimit) begin(stall time.Duration) {
	if l.http2 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing = true
		if l.timer == nil {
			l.timer = time.AfterFunc(stall, l.over)
		} else {
			l.timer.Reset(stall)
		}
		return
	}
	now := time.Now()
	if l.until.Sub(now) > stall-stallCheck {
		return
	}
	l.until = now.Add(stall)
	// An error means that the connection is dead, which the write will say.
	_ = l.control.SetWriteDeadline(l.until)
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
