package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// Bounds on sending one request again.
const (
	maxDials  = 3 // replicas tried, where nothing was sent
	maxResend = 1 // requests sent again after a replica died over them
	maxMoves  = 8 // deployments gone that a request waited for
)

// transit is one request on its way through the proxy.
type transit struct {
	proxy   *Proxy
	w       http.ResponseWriter
	control http.ResponseController
	r       *http.Request
	ctx     context.Context
	arrived time.Time
	find    finder // what found the gate
	at      path   // what it found it by
	gate    *gate.Gate
	head    head

	application *application // of the gate
	pair        *pair        // of it and its copy; nil: there is no copy

	deadline time.Time // zero: none
	patience time.Duration
	body     *http.Request // nil when the request has no body
	metered  *meteredBody  // of body; nil: it is read as it is
	dials    int
	resends  int
	moves    int
	exchange exchange // the one under way, or the last
	upfront  upfront
	touched  bool // the body has been read from
	begun    bool // a final response has been started
	grpc     bool // it is one of gRPC
	hurried  bool // deadline is the client's own

	placed     bool  // its generation has been drawn
	place      uint8 // among a hundred, by which it was
	weighed    bool  // it has been decided whether it is copied
	duplicated bool  // it is the copy

	sending *streamBody // body on its way to a replica that speaks HTTP/2; nil: it has not been sent to one

	record Record     // for the observer
	last   *gate.Slot // the replica that it was given to last; nil: none
	upload *pump      // of its body; nil: it has not been sent
}

// outcome is how an attempt to have the request served ended.
type outcome int

const (
	settled     outcome = iota // answered, or nobody is there to answer
	unreachable                // no connection: nothing was sent
	unsent                     // a kept connection had died: nothing was sent
	died                       // sent, and the replica closed without a byte of an answer
)

// run serves the request: it takes a slot, sends, and sends again elsewhere
// where that is safe.
func (t *transit) run() {
	defer t.upfront.drop()
	defer t.originalEnded()
	t.ctx = t.r.Context() // which ends when the client leaves
	if !t.gather() {
		t.settle()
		return
	}
	ticket := t.ticket()
	for {
		s, err := t.gate.Acquire(t.ctx, ticket)
		if errors.Is(err, gate.ErrGone) && t.aimAgain() {
			ticket = t.ticket()
			ticket.Again = true
			continue
		}
		if errors.Is(err, gate.ErrRedirected) {
			ticket = t.redirect(ticket)
			continue
		}
		if err != nil {
			t.refuse(err)
			t.settle()
			return
		}
		t.granted(s)
		if t.application.shadowed != nil || t.pair != nil {
			t.shadow()
		}
		attempt := t.attempt
		if s.Replica.HTTP2 || t.grpc {
			attempt = t.attemptStream
		}
		switch attempt(s) {
		case settled:
			t.settle()
			return
		case unreachable, unsent:
			if t.dials++; t.dials >= maxDials {
				t.fail(http.StatusBadGateway, codeUnreachable, "no replica could be reached")
				return
			}
		case died:
			if !t.maySendAgain() {
				t.fail(http.StatusBadGateway, codeReplicaDied, "the replica closed the connection without an answer")
				return
			}
			ticket.Avoid = s.Replica.ID
		}
		if t.gate.Readiness() != gate.Awake {
			ticket = t.redirect(ticket)
		}
	}
}

// settle ends a request. One that has no answer, because its client has left, is
// aborted: the server would make a 200 of it.
func (t *transit) settle() {
	if !t.begun {
		t.record.Status, t.record.Code = StatusClientGone, codeClientGone
		panic(http.ErrAbortHandler)
	}
}

// repeatable says whether the request may be sent again although a replica may
// have acted on it.
func (t *transit) repeatable() bool {
	if t.body != nil || t.head.upgrade != "" {
		return false
	}
	switch t.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return t.r.Header.Get("Idempotency-Key") != "" || t.r.Header.Get("X-Idempotency-Key") != ""
}

// ticket is a place in the gate's queue.
func (t *transit) ticket() *gate.Ticket {
	ticket := t.gate.Ticket(t.r.Header, t.deadline)
	ticket.Body = t.held()
	return ticket
}

// maySendAgain says whether a request that a replica died over is sent once more,
// and counts it.
func (t *transit) maySendAgain() bool {
	if t.resends >= maxResend || !t.repeatable() || !t.gate.MayResend() {
		return false
	}
	t.resends++
	return true
}

// attempt has one replica serve the request. A kept connection that turns out
// to be dead is replaced once without giving up the slot. The slot is free
// afterwards, or will be when the replica has finished.
func (t *transit) attempt(s *gate.Slot) outcome {
	if t.sending != nil { // its body has gone to another version, which speaks HTTP/2
		t.sending.end()
		s.Release()
		t.fail(http.StatusBadGateway, codeUnreachable, "the replicas that could be reached speak another protocol now")
		return settled
	}
	x := &t.exchange
	*x = exchange{transit: t, slot: s, owned: true}
	defer func() {
		if !x.owned {
			return
		}
		// A panic, which is a fault of ours: the replica must not pay for it.
		if x.conn != nil {
			x.conn.Close()
		}
		s.Release()
	}()
	for fresh := false; ; {
		c, err := t.connect(s, fresh)
		if err != nil {
			x.handOver()
			return t.notConnected(s, err)
		}
		*x = exchange{transit: t, slot: s, owned: true, conn: c}
		got := x.run()
		if got == settled {
			return settled
		}
		c.Close()
		if x.dead {
			continue // there may be more of them
		}
		if fresh || !c.Reused || got != unsent {
			if got == unsent { // over a connection that had just been made
				s.Unanswered()
			}
			x.release()
			return got
		}
		fresh = true
	}
}

// connect takes an idle connection to the slot's replica, or dials.
func (t *transit) connect(s *gate.Slot, fresh bool) (*upstream.Conn, error) {
	if !fresh {
		if c := s.Replica.Pool.Take(time.Now(), t.proxy.config.IdleTimeout); c != nil {
			return c, nil
		}
	}
	c, err := s.Replica.Pool.Dial(t.ctx, t.proxy.dialer, s.Address, t.deadline)
	if err != nil {
		return nil, err
	}
	s.Reached()
	t.record.Dialled++
	return c, nil
}

// notConnected gives the slot back after a dial that failed. When the request
// itself has ended, the replica is not to blame.
func (t *transit) notConnected(s *gate.Slot, err error) outcome {
	switch {
	case t.ctx.Err() != nil:
		s.Release()
		return settled
	case t.late():
		s.Unanswered()
		s.Release()
		t.refuse(gate.ErrDeadline)
		return settled
	}
	d := s.Unreachable()
	t.proxy.log.Warn("replica not reachable", "application", t.gate.Application, "deployment", t.gate.Deployment,
		"replica", s.Replica.ID, "address", s.Address, "avoided_for", d, "error", err)
	return unreachable
}

// late says whether the request's time is over.
func (t *transit) late() bool {
	return !t.deadline.IsZero() && !time.Now().Before(t.deadline)
}

// refuse answers a request that got no slot.
func (t *transit) refuse(err error) {
	var full *gate.FullError
	switch {
	case errors.As(err, &full):
		setRetryAfter(t.w.Header(), full.RetryAfter)
		code := codeQueueFull
		if full.OfBytes {
			code = codeQueueBytes
		}
		t.fail(http.StatusServiceUnavailable, code, full.Error())
	case errors.Is(err, gate.ErrDeadline):
		t.fail(http.StatusGatewayTimeout, codeTimeout, "the request took longer than the application's request_timeout")
	case errors.Is(err, gate.ErrGone):
		t.fail(http.StatusNotFound, codeGone, "the deployment is no longer there")
	default: // the client left: nobody reads an answer
	}
}

// fail answers with an error of the proxy's own.
func (t *transit) fail(status int, code, message string) {
	if t.grpc {
		t.failGRPC(code, grpcStatus(code), message)
		return
	}
	if t.begun {
		return
	}
	t.begun = true
	t.record.Status, t.record.Code = status, code
	if t.touched && t.r.ProtoMajor == 1 {
		t.w.Header().Set("Connection", "close") // what is left of the body is not a request
	}
	writeError(t.w, errorBody{Status: status, Code: code, Message: message, RequestID: t.head.id})
}
