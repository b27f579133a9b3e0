package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// maxInformational bounds the 1xx responses that a replica may send.
const maxInformational = 16

// exchange is one request and its response on one connection. It ends in one of
// four ways: the slot is released, with the connection kept or closed; or both
// are handed over to a linger, which waits for a replica that has not finished;
// or to a tunnel; or nothing came back and attempt decides what is next.
type exchange struct {
	*transit
	slot     *slot
	conn     *conn
	pump     *pump
	release  func()      // gives the slot back
	handOver func()      // says that another goroutine gives it back
	unwatch  func() bool // false: the client's leaving has already closed half of conn
	parsing  bool        // bytes of the response are lost if reading is broken off
	wanted   bool        // the replica has said that it wants the body
}

func (x *exchange) run() outcome {
	c := x.conn
	if err := c.begin(x.deadline); err != nil {
		return unsent
	}
	x.unwatch = context.AfterFunc(x.ctx, func() { c.halfClose(x.patience) })
	if err := x.send(); err != nil {
		return x.lost(err)
	}
	res, err := x.response() //nolint:bodyclose // its body is the connection, which the exchange gives back or closes
	if err != nil {
		return x.lost(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.switchProtocols(res)
	}
	x.slot.answered(res.StatusCode)
	x.respond(res)
	return settled
}

// send writes the head, and has the body follow by itself.
func (x *exchange) send() error {
	x.head.write(x.conn.bw)
	if err := x.conn.bw.Flush(); err != nil || x.body == nil {
		return err
	}
	if x.r.ProtoMajor == 1 {
		// The response may begin before the body ends. Without this the
		// server would read the body too.
		if err := x.control.EnableFullDuplex(); err != nil {
			return err
		}
	}
	x.pump = &pump{
		conn: x.conn, request: x.body, buffers: &x.proxy.buffers, patient: x.proxy.config.ContinueTimeout,
		stopped: make(chan struct{}), done: make(chan struct{}),
		limit: x.bodyLimit(),
	}
	x.touched, x.upload = true, x.pump
	if expectsContinue(x.r) {
		x.pump.proceed = make(chan struct{})
	}
	go x.pump.run()
	return nil
}

// response reads up to the head of the final response. Informational responses
// are passed on.
func (x *exchange) response() (*http.Response, error) {
	c := x.conn
	for range maxInformational {
		// Waiting for the first byte can be broken off without harm.
		if _, err := c.br.Peek(1); err != nil {
			return nil, err
		}
		x.parsing = true
		res, err := c.readResponse(x.r.Method)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
		x.parsing = false
		x.inform(res)
	}
	return nil, fmt.Errorf("%w: more than %d informational responses", errNotHTTP, maxInformational)
}

// inform passes a 1xx response on. 100 is between the replica and the pump: the
// server sends its own when the body is read first.
func (x *exchange) inform(res *http.Response) {
	if res.StatusCode == http.StatusContinue {
		if x.pump != nil && x.pump.proceed != nil && !x.wanted {
			x.wanted = true
			close(x.pump.proceed)
		}
		return
	}
	if !x.r.ProtoAtLeast(1, 1) || expectsContinue(x.r) {
		return // the second: the server may be writing its 100
	}
	h := x.w.Header()
	clear(h)
	copyResponseHeader(h, res.Header, x.head.id)
	x.w.WriteHeader(res.StatusCode)
	clear(h)
	x.proxy.lastOnConnection(h)
}

// lost ends an exchange that has not brought a response.
func (x *exchange) lost(err error) outcome {
	left := !x.unwatch() || x.ctx.Err() != nil
	x.stopPump() // which ends x.ctx too, as any failed read does
	broken := x.pump != nil && x.pump.broken != nil
	stalled := broken && timedOut(x.pump.broken) // which the server takes for its having left
	left = !stalled && (left || (broken && x.ctx.Err() != nil))
	switch {
	case broken || (timedOut(err) && !x.conn.patienceOver()):
		x.linger(nil)
		switch {
		case left:
		case broken:
			fault := brokenBody(x.pump.broken)
			x.fail(fault.Status, fault.Code, fault.Message)
		default:
			x.slot.late(x.arrived, x.deadline)
			x.refuse(errDeadline)
		}
		return settled
	case left:
		// The replica has finished, or had its time to.
		x.conn.close()
		x.release()
		return settled
	case x.conn.sent == 0:
		return unsent
	case !x.conn.got:
		if !x.conn.reused { // else it may have been about to close it anyway
			x.slot.failed()
		}
		return died
	}
	x.badResponse(err)
	return settled
}

// badResponse gives up on a replica whose answer cannot be understood.
func (x *exchange) badResponse(err error) {
	x.slot.failed()
	x.conn.close()
	x.release()
	x.proxy.log.Warn("bad response", "application", x.gate.application, "deployment", x.gate.deployment,
		"replica", x.slot.replica.id, "error", err)
	x.fail(http.StatusBadGateway, codeBadResponse, "the replica's answer broke off or is not HTTP/1.1")
}

// stopPump makes sure that nobody reads the request's body any more.
func (x *exchange) stopPump() {
	if x.pump == nil {
		return
	}
	x.pump.stop(func() {
		if !x.pump.whole.Load() { // else the connection is the next request's already
			x.pump.limit.cut()
		}
	})
}

// linger leaves connection and slot to a goroutine that waits until the replica
// has finished. rest is what is left of the response's body, if it can be told.
func (x *exchange) linger(rest io.Reader) {
	x.unwatch()
	x.handOver()
	l := &linger{
		slot: x.slot, conn: x.conn, rest: rest, method: x.r.Method,
		buffers: &x.proxy.buffers,
	}
	if rest == nil && x.parsing {
		l.rest = x.conn.nc // in the middle of something: to the connection's end
	}
	x.conn.halfClose(x.patience)
	done := x.proxy.busy.add(x.conn.close)
	go func() {
		defer done()
		l.run()
	}()
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
