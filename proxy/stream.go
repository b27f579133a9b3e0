package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/h2"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// resetGrace is how long a slot is held after its stream has been reset, because
// the client has left or the time is over. The replica is told, and HTTP/2 has
// no word for it to say that it has stopped; so it is given what a handler needs
// that looks whether it is still wanted. One that goes on working all the same
// is not waited for: gRPC clients cancel often, and would take its slots away
// for as long as it works for nobody.
const resetGrace = 100 * time.Millisecond

// stream is one request and its response on an HTTP/2 connection to a replica.
type stream struct {
	*transit
	slot *gate.Slot
	conn *upstream.H2Conn
	ctx  context.Context // ends with the client, with the request's time, and with the exchange

	res      *http.Response // nil: it has not come
	finished bool           // the replica has ended the stream, or never had it
	writes   writeLimit
	stall    time.Duration // that a write may take
}

// attemptStream has one replica that speaks HTTP/2 serve the request. The slot
// is free afterwards, or will be in a moment.
func (t *transit) attemptStream(s *gate.Slot) (got outcome) {
	if !s.Replica.HTTP2 { // its deployment spoke gRPC as the request came
		s.Release()
		t.fail(http.StatusBadGateway, codeNoGRPC, "the deployment does not speak gRPC")
		return settled
	}
	ctx, cancel := t.untilDeadline()
	defer cancel()
	c, err := s.Replica.Pool.TakeH2(ctx, s.Address, func() (*upstream.H2Conn, error) {
		cc, err := t.proxy.dialer.DialH2(ctx, s.Address, t.deadline)
		if err == nil {
			t.record.Dialled++
			s.Reached()
		}
		return cc, err
	})
	if err != nil {
		return t.notConnected(s, err)
	}
	x := &stream{
		transit: t, slot: s, conn: c, ctx: ctx, stall: t.proxy.limits.Load().ClientStall,
		writes: t.writeLimit(),
	}
	defer func() {
		cancel()
		x.end(got == unsent)
	}()
	return x.run()
}

func (t *transit) untilDeadline() (context.Context, context.CancelFunc) {
	if t.deadline.IsZero() {
		return context.WithCancel(t.ctx)
	}
	return context.WithDeadline(t.ctx, t.deadline)
}

func (x *stream) run() outcome {
	if x.body != nil && x.sending == nil {
		if err := x.takeBody(); err != nil {
			x.finished = true
			x.fail(http.StatusInternalServerError, codeInternal, "the request's body cannot be read")
			return settled
		}
	}
	res, err := x.conn.RoundTrip(x.request(), x.inform) //nolint:bodyclose // end closes it
	if err != nil {
		return x.lost(err)
	}
	x.res = res
	if x.grpc { // its status comes at the end
		x.slot.HeadCame()
	} else {
		x.slot.Answered(res.StatusCode)
	}
	x.respond()
	return settled
}

// inform passes a 1xx response on. The body goes out unasked, so 100 says nothing;
// and gRPC has no such responses.
func (x *stream) inform(res h2.Interim) {
	if x.grpc || res.Status == http.StatusContinue {
		return
	}
	x.writes.begin(x.stall, x.deadline)
	defer x.writes.end()
	x.hint(res.Status, res.Header)
}

// takeBody makes the request's body ready to be sent.
func (x *stream) takeBody() error {
	if x.r.ProtoMajor == 1 {
		// The response may begin before the body ends.
		if err := x.control.EnableFullDuplex(); err != nil {
			return err
		}
	}
	x.touched = true
	x.sending = &streamBody{request: x.r, buffers: &x.proxy.buffers, limit: x.bodyLimit()}
	x.sending.begin(x.upfront.bytes(), x.upfront.whole)
	x.upfront.drop() // it has them now
	if x.grpc {
		x.sending.limit.stall = 0 // a stream of messages may be silent; see pings in server
	}
	return nil
}

// lost ends an exchange that has not brought a response.
func (x *stream) lost(err error) outcome {
	var reset http2.StreamError
	broken := error(nil)
	if x.sending != nil {
		broken = x.sending.broken()
	}
	switch {
	case x.transit.ctx.Err() != nil: // the client has left: nobody reads an answer
		return settled
	case x.late() || errors.Is(err, context.DeadlineExceeded):
		x.tooLate()
		x.refuse(gate.ErrDeadline)
		return settled
	case broken != nil:
		fault := brokenBody(broken)
		x.fail(fault.Status, fault.Code, fault.Message)
		return settled
	}
	x.finished = true
	switch {
	case notTaken(err):
		if x.sending == nil || x.sending.rewind() {
			return unsent
		}
		return died
	case errors.As(err, &reset):
		x.slot.Failed()
		x.wasReset(reset)
		return settled
	}
	x.slot.Failed()
	return died
}

// tooLate holds it against the replica that the request's time is over, unless
// it was the client that gave it no more.
func (x *stream) tooLate() {
	if x.hurried {
		x.slot.Unanswered()
	} else {
		x.slot.Late(x.arrived, x.deadline)
	}
}

// notTaken says whether a replica has certainly not begun with a stream: it has
// refused it, or never got it, or said that it takes no more before it came to it.
func notTaken(err error) bool {
	if reset, ok := errors.AsType[http2.StreamError](err); ok {
		return reset.Code == http2.ErrCodeRefusedStream
	}
	return errors.Is(err, h2.ErrNotTaken)
}

// wasReset answers a request whose stream the replica has reset, or whose answer
// is not HTTP/2.
func (x *stream) wasReset(reset http2.StreamError) {
	x.proxy.log.Warn("stream reset", "application", x.gate.Application, "deployment", x.gate.Deployment,
		"replica", x.slot.Replica.ID, "error", reset)
	if x.grpc {
		code, message := resetStatus(reset)
		x.failGRPC(codeBadResponse, code, message)
		return
	}
	x.fail(http.StatusBadGateway, codeBadResponse, "the replica ended the stream without an answer, or its answer is not HTTP/2")
}

// end gives back what the exchange had; again says that the request is sent a
// second time.
func (x *stream) end(again bool) {
	if x.res != nil {
		_ = x.res.Body.Close() // resets the stream, unless it has ended
	}
	if x.sending != nil && !again {
		x.sending.end()
	}
	x.slot.Replica.Pool.PutH2(x.conn, time.Now())
	if x.finished {
		x.slot.Release()
		return
	}
	x.releaseLater()
}

// releaseLater gives the slot back when the replica has had the time to stop.
func (x *stream) releaseLater() {
	cut := make(chan struct{})
	done := x.proxy.busy.add(sync.OnceFunc(func() { close(cut) }))
	go func() {
		defer done()
		defer x.slot.Release()
		timer := time.NewTimer(resetGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-cut:
		}
	}()
}

// respond passes the response on. One that breaks off ends with gRPC's own word
// for it, or else with the client's connection, so that a part is never taken
// for the whole.
func (x *stream) respond() {
	res := x.res
	if x.sending != nil {
		x.sending.answered()
	}
	h := x.w.Header()
	copyResponseHeader(h, res.Header, x.head.id)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // the server would guess one
	}
	if x.sending != nil && !x.sending.whole.Load() && x.r.ProtoMajor == 1 {
		h.Set("Connection", "close") // what is left of the request is not the next one
	}
	x.proxy.lastOnConnection(h)
	if _, ok := h["Content-Length"]; !ok && x.grpc {
		h["Content-Length"] = nil // gRPC ends with its trailers
	}
	if names := trailerNames(res.Trailer); len(names) > 0 {
		h.Set("Trailer", strings.Join(names, ", "))
		if x.r.ProtoMajor == 1 {
			h.Del("Content-Length") // only a chunked body has trailers
		}
	}
	announced := len(res.Trailer)
	x.begun = true
	x.answered(res.StatusCode)
	x.w.WriteHeader(res.StatusCode)

	readErr, writeErr := x.pass()
	switch {
	case writeErr != nil:
		x.record.Code = codeClientGone
		panic(http.ErrAbortHandler)
	case readErr != nil:
		x.brokeOff(readErr)
		return
	}
	x.finished = true
	if x.grpc {
		x.slot.Answered(httpStatus(res))
		x.record.GRPC = grpcStatusOf(res)
	}
	x.passTrailers(announced)
	x.writes.relax()
}

// pass copies the response's body until it ends or one side fails.
func (x *stream) pass() (readErr, writeErr error) {
	// A length that is known was either said, or is none at all: then the
	// stream has ended with its header, and so must the client's. A header that
	// is sent ahead of it would be a response without its end, and gRPC's status
	// in the wrong place.
	live := x.res.ContentLength < 0 && x.r.Method != http.MethodHead
	if live && !x.more() {
		if err := x.flush(); err != nil {
			return nil, err
		}
	}
	buf := x.proxy.buffers.get()
	defer x.proxy.buffers.put(buf)
	for {
		n, err := x.res.Body.Read(*buf)
		if n > 0 {
			werr := x.write((*buf)[:n])
			if werr == nil && live && err == nil && !x.more() {
				werr = x.flush()
			}
			if werr != nil {
				return nil, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return err, nil
		}
	}
}

// more says whether there is more of the response already: what has come together
// leaves together, and what has come alone at once.
func (x *stream) more() bool {
	body, ok := x.res.Body.(*h2.Body)
	return ok && body.Ready()
}

func (x *stream) flush() error {
	x.writes.begin(x.stall, x.deadline)
	defer x.writes.end()
	return x.control.Flush()
}

func (x *stream) write(b []byte) error {
	x.writes.begin(x.stall, x.deadline)
	defer x.writes.end()
	n, err := x.w.Write(b)
	x.record.Sent += int64(n)
	return err
}

// brokeOff ends a response that has begun and will not be complete.
func (x *stream) brokeOff(err error) {
	var reset http2.StreamError
	x.record.Code = codeBrokeOff
	switch {
	case x.transit.ctx.Err() != nil:
		x.record.Code = codeClientGone
		panic(http.ErrAbortHandler)
	case x.late() || errors.Is(err, context.DeadlineExceeded):
		x.tooLate()
		x.slot.BrokeOff()
		x.record.Code = codeTimeout
		x.trailGRPC(grpcDeadlineExceeded, "the request took longer than it may")
	case errors.As(err, &reset):
		x.finished = true
		x.slot.Failed()
		x.slot.BrokeOff()
		code, message := resetStatus(reset)
		x.trailGRPC(code, message)
	default:
		x.finished = true
		x.slot.Failed()
		x.slot.BrokeOff()
		x.trailGRPC(grpcUnavailable, "the replica broke off")
	}
	x.writes.relax()
}

// passTrailers passes on what the replica ended its response with.
func (x *stream) passTrailers(announced int) {
	t := x.res.Trailer
	if len(t) == 0 {
		return
	}
	if x.r.ProtoMajor == 1 {
		// Trailers need a chunked body, and that a header that has been sent.
		// An error shows again when the handler returns.
		_ = x.control.Flush()
	}
	addTrailers(x.w.Header(), t, announced)
}
