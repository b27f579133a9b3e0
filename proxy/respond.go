package proxy

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// pumpGrace is how long a complete response waits for the last bytes of its
// request to be written, so that the connection to the replica can be kept.
const pumpGrace = 50 * time.Millisecond

// unbounded is how many bytes of a response may be written without a bound: they
// stay in the server's buffer, which is twice that, until the request is over.
const unbounded = 2 << 10

// respond passes the response on. When it cannot be passed on in full, it
// aborts the client's connection, so that a part is never taken for the whole.
func (x *exchange) respond(res *http.Response) {
	h := x.w.Header()
	copyResponseHeader(h, res.Header, x.head.id)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // the server would guess one
	}
	if x.pump != nil {
		x.pump.limit.lift()
		if !x.pump.whole.Load() && x.r.ProtoMajor == 1 {
			// What is left of the request must not be read as the next one.
			h.Set("Connection", "close")
		}
	}
	x.proxy.lastOnConnection(h)
	announced := len(res.Trailer)
	if names := trailerNames(res.Trailer); len(names) > 0 {
		h.Set("Trailer", strings.Join(names, ", "))
	}
	x.begun = true
	x.answered(res.StatusCode)
	x.w.WriteHeader(res.StatusCode)

	p := &passer{exchange: x, live: res.ContentLength < 0, writes: x.writeLimit()}
	readErr, writeErr := p.pass(res.Body)
	switch {
	case writeErr != nil:
		x.record.Code = codeClientGone
		x.stopPump()
		x.linger(res.Body)
		panic(http.ErrAbortHandler)
	case readErr != nil:
		x.record.Code = codeBrokeOff
		if x.ctx.Err() != nil {
			x.record.Code = codeClientGone
		}
		x.brokeOff(readErr)
		panic(http.ErrAbortHandler)
	}
	x.passTrailers(res.Trailer, announced)
	x.finish(res)
	p.writes.relax()
}

func trailerNames(t http.Header) []string {
	names := make([]string, 0, len(t))
	for key := range t {
		if passesAsTrailer(key) {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return names
}

func passesAsTrailer(key string) bool {
	return !hop(key) && !oursAlone(key) && key != "X-Request-Id"
}

func (x *exchange) passTrailers(t http.Header, announced int) {
	if len(t) == 0 {
		return
	}
	// Trailers need a chunked body, and that a header that has been sent. An
	// error shows again when the handler returns.
	_ = x.control.Flush()
	addTrailers(x.w.Header(), t, announced)
}

// addTrailers adds the trailers that concern the client to a header that has
// been written, which announced so many of all.
func addTrailers(h, t http.Header, announced int) {
	for key, values := range t {
		if !passesAsTrailer(key) {
			continue
		}
		if len(t) != announced {
			key = http.TrailerPrefix + key
		}
		h[key] = values
	}
}

// passer copies a response's body to the client.
type passer struct {
	*exchange
	live   bool // the length is unknown: what comes is passed on at once
	writes writeLimit
}

// pass copies until the end or until one side fails.
func (p *passer) pass(body io.Reader) (readErr, writeErr error) {
	if p.live && p.conn.R.Buffered() == 0 {
		// The client of a stream wants to know that it has begun. Where more
		// is there already, the header goes with it.
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	buf := p.proxy.buffers.get()
	defer p.proxy.buffers.put(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if err := p.write((*buf)[:n], err == nil); err != nil {
				return nil, err
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

func (p *passer) write(b []byte, more bool) error {
	if p.writes.used || int64(p.conn.HeadSize)+p.record.Sent+int64(len(b)) > unbounded {
		p.hurry()
		defer p.writes.end()
	}
	n, err := p.w.Write(b)
	p.record.Sent += int64(n)
	if err != nil {
		return err
	}
	if p.live && more {
		return p.flush()
	}
	return nil
}

func (p *passer) flush() error {
	p.hurry()
	defer p.writes.end()
	return p.control.Flush()
}

// hurry bounds the write that follows. Without it the request's own deadline
// would not reach a write either.
func (p *passer) hurry() { p.writes.begin(p.proxy.limits.Load().ClientStall, p.deadline) }

// brokeOff ends an exchange whose response stopped on its way.
func (x *exchange) brokeOff(err error) {
	x.stopPump()
	if timedOut(err) && !x.conn.PatienceOver() {
		x.linger(nil)
		return
	}
	x.unwatch()
	x.conn.Close()
	x.release()
}

// finish ends an exchange whose response has come in full: the replica has
// finished. The connection is kept if nothing is left on it.
func (x *exchange) finish(res *http.Response) {
	sent := x.settlePump()
	if x.unwatch() && sent && !res.Close && x.conn.Reusable() {
		x.slot.Replica.Pool.Put(x.conn, time.Now())
	} else {
		x.conn.Close()
	}
	x.release()
}

// settlePump ends the pump, and says whether the whole request has been sent.
func (x *exchange) settlePump() bool {
	if x.pump == nil {
		return true
	}
	if x.pump.whole.Load() && !x.pump.finished() {
		timer := time.NewTimer(pumpGrace)
		defer timer.Stop()
		select {
		case <-x.pump.done:
		case <-timer.C:
		}
	}
	if !x.pump.finished() {
		x.stopPump()
		return false
	}
	return x.pump.failed == nil && x.pump.broken == nil && x.pump.whole.Load()
}
