package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// maxInformational bounds the 1xx responses that a replica may send.
const maxInformational = 16

// exchange is one request and its response on one connection. It ends in one of
// four ways: the slot is released, with the connection kept or closed; or both
// are handed over to a linger, which waits for a replica that has not finished;
// or to a tunnel; or nothing came back and attempt decides what is next.
type exchange struct {
	*transit
	slot    *gate.Slot
	owned   bool // the slot is the exchange's to give back
	conn    *upstream.Conn
	dead    bool // it was dead before anything was sent
	pump    *pump
	unwatch func() bool // false: the client's leaving has already closed half of conn
	parsing bool        // bytes of the response are lost if reading is broken off
	wanted  bool        // the replica has said that it wants the body
}

func (x *exchange) run() outcome {
	c := x.conn
	if err := c.Begin(time.Now(), x.deadline, x.patience); err != nil {
		return unsent
	}
	x.unwatch = afterEnd(x.ctx, c.Leave)
	var res *http.Response
	err := x.send()
	if err == nil {
		res, err = x.response() //nolint:bodyclose // its body is the connection, which the exchange gives back or closes
	}
	if err != nil {
		if x.dead = errors.Is(err, upstream.ErrStale) && x.unwatch(); x.dead {
			return unsent
		}
		return x.lost(err)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.switchProtocols(res)
	}
	x.respond(res)
	return settled
}

// release gives the slot back.
func (x *exchange) release() {
	x.owned = false
	x.slot.Release()
}

// handOver says that another goroutine gives the slot back.
func (x *exchange) handOver() { x.owned = false }

// endTeller is the context of our own server's requests.
type endTeller interface {
	AfterFunc(f func()) (stop func() bool)
}

// afterEnd has f called when ctx ends, in a goroutine of its own, as
// context.AfterFunc does; some contexts can do so at less cost.
func afterEnd(ctx context.Context, f func()) (stop func() bool) {
	if direct, ok := ctx.(endTeller); ok {
		return direct.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// send writes the head, and has the body follow by itself. Where there is none,
// or where all of it is there already, it goes when the answer is first read.
func (x *exchange) send() error {
	c := x.conn
	head := x.head.append(c.W.AvailableBuffer())
	switch {
	case x.body == nil:
		c.SendBeforeRead(head, nil, nil)
		return nil
	case x.upfront.whole && len(head) <= upfrontHead:
		c.SendBeforeRead(x.upfront.behind(head), x.upfront.drop, x.startPump)
		return nil
	case c.Reused && c.Stale():
		return upstream.ErrStale
	}
	_, _ = c.W.Write(head) // errors stay in W
	_, _ = c.W.Write(x.upfront.bytes())
	if err := c.W.Flush(); err != nil {
		return err
	}
	x.upfront.drop()
	if x.upfront.whole {
		return nil
	}
	return x.startPump(nil)
}

// startPump has the body follow, after what has been read of it.
func (x *exchange) startPump(first []byte) error {
	if x.r.ProtoMajor == 1 {
		// The response may begin before the body ends. Without this the
		// server would read the body too.
		if err := x.control.EnableFullDuplex(); err != nil {
			return err
		}
	}
	x.pump = &pump{
		conn: x.conn, request: x.body, first: first, buffers: &x.proxy.buffers, patient: x.proxy.config.ContinueTimeout,
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
		if _, err := c.R.Peek(1); err != nil {
			return nil, err
		}
		x.parsing = true
		res, err := c.ReadResponse(x.r.Method)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
		x.parsing = false
		x.inform(res)
	}
	return nil, fmt.Errorf("%w: more than %d informational responses", upstream.ErrNotHTTP, maxInformational)
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
	x.hint(res.StatusCode, res.Header)
}

// lost ends an exchange of whose response the client has nothing.
func (x *exchange) lost(err error) outcome {
	left := !x.unwatch() || x.ctx.Err() != nil
	x.stopPump() // which ends x.ctx too, as any failed read does
	broken := x.pump != nil && x.pump.broken != nil
	stalled := broken && timedOut(x.pump.broken) // which the server takes for its having left
	left = !stalled && (left || (broken && x.ctx.Err() != nil))
	switch {
	case broken || (timedOut(err) && !x.conn.PatienceOver()):
		if !broken && !left {
			x.slot.Late(x.arrived, x.deadline)
		}
		x.linger(nil)
		switch {
		case left:
		case broken:
			fault := brokenBody(x.pump.broken)
			x.fail(fault.Status, fault.Code, fault.Message)
		default:
			x.refuse(gate.ErrDeadline)
		}
		return settled
	case left:
		// The replica has finished, or had its time to.
		x.conn.Close()
		x.release()
		return settled
	case x.conn.Sent == 0:
		return unsent
	case !x.conn.Got:
		if x.conn.Reused { // it may have been about to close it anyway
			x.slot.Unanswered()
		} else {
			x.slot.Failed()
		}
		return died
	}
	x.badResponse(err)
	return settled
}

// badResponse gives up on a replica whose answer cannot be understood.
func (x *exchange) badResponse(err error) {
	x.slot.Failed()
	x.conn.Close()
	x.release()
	x.proxy.log.Warn("bad response", "application", x.gate.Application, "deployment", x.gate.Deployment,
		"replica", x.slot.Replica.ID, "error", err)
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
		l.rest = x.conn.R // in the middle of something: to the connection's end
	}
	x.conn.HalfClose(x.patience)
	done := x.proxy.busy.add(x.conn.Close)
	go func() {
		defer done()
		l.run()
	}()
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
