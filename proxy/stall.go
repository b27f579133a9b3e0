package proxy

import (
	"net/http"
	"sync"
	"time"
)

// stallCheck is how old a deadline towards the client may get before it is
// renewed.
const stallCheck = time.Second

// bodyLimit bounds how long a client may send nothing of a body that a replica
// waits for, and how slowly it may send: else a few clients that never finish
// would hold every slot. Once
// the replica has begun to answer there is no bound, for then both may be
// waiting for each other as they like.
type bodyLimit struct {
	control *http.ResponseController
	stall   time.Duration // 0: no bound
	rate    int64         // bytes a second, on average and stall aside; 0: no bound
	metered *meteredBody  // set where rate is
	last    time.Time     // when all of the body must be there; zero: no bound

	mu    sync.Mutex
	began time.Time // when the body was first read
	until time.Time // read deadline towards the client; zero: none set
	over  bool      // no more deadlines are to be set
}

// renew is called before each read of the body.
func (l *bodyLimit) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.over || l.stall == 0 || l.until.Sub(now) > l.stall-stallCheck {
		return
	}
	l.until = l.next(now)
	// An error means that the connection is dead, which the read will say.
	_ = l.control.SetReadDeadline(l.until)
}

// next is the deadline of a read that begins now. l.mu is held.
func (l *bodyLimit) next(now time.Time) time.Time {
	until := now.Add(l.stall)
	if !l.last.IsZero() && l.last.Before(until) {
		until = l.last
	}
	if l.rate <= 0 || l.metered == nil {
		return until
	}
	if l.began.IsZero() {
		l.began = now
	}
	// What has come has bought so much time.
	bought := float64(l.metered.read.Load()) / float64(l.rate) * float64(time.Second)
	if late := l.began.Add(l.stall + time.Duration(min(bought, float64(24*365*time.Hour)))); late.Before(until) {
		return late
	}
	return until
}

// lift takes the bound away. Where the body has ended the server reads on, to
// learn that the client has left, and must not take a deadline for that.
func (l *bodyLimit) lift() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over && !l.until.IsZero() {
		_ = l.control.SetReadDeadline(time.Time{}) // as in renew
	}
	l.over = true
}

// cut makes a read of the body return.
func (l *bodyLimit) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	// Where it has no deadlines the body ends with the connection.
	_ = l.control.SetReadDeadline(time.Now().Add(-time.Hour))
}

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
