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

// respond passes the response on. One that turns out to be broken while the
// client has nothing of it yet is answered with an error instead. Later on the
// client's connection is aborted, so that a part is never taken for the whole.
func (x *exchange) respond(res *http.Response) {
	if x.pump != nil {
		x.pump.limit.lift()
	}
	// Reading the body may add to the trailers.
	announced, names := len(res.Trailer), trailerNames(res.Trailer)
	p := &passer{exchange: x, live: res.ContentLength < 0, writes: x.writeLimit()}
	buf := x.proxy.buffers.get()
	n, err := p.first(res, *buf)
	if err != nil && !errors.Is(err, io.EOF) {
		x.proxy.buffers.put(buf)
		x.lost(err)
		return
	}
	x.slot.Answered(res.StatusCode)
	x.writeHeader(res, names)

	readErr, writeErr := p.pass(res.Body, *buf, n, err)
	x.proxy.buffers.put(buf)
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

// writeHeader begins the response to the client, with those trailers announced.
func (x *exchange) writeHeader(res *http.Response, trailers []string) {
	h := x.w.Header()
	copyResponseHeader(h, res.Header, x.head.id)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // the server would guess one
	}
	if x.pump != nil && !x.pump.whole.Load() && x.r.ProtoMajor == 1 {
		// What is left of the request must not be read as the next one.
		h.Set("Connection", "close")
	}
	x.proxy.lastOnConnection(h)
	if res.StatusCode == http.StatusUpgradeRequired && x.r.ProtoMajor == 1 {
		copyUpgrade(h, res.Header)
	}
	if len(trailers) > 0 {
		h.Set("Trailer", strings.Join(trailers, ", "))
	}
	x.begun = true
	x.answered(res.StatusCode)
	x.w.WriteHeader(res.StatusCode)
}

// hint passes on a 1xx response other than 100, where the client can have it.
func (t *transit) hint(status int, header http.Header) {
	if !t.r.ProtoAtLeast(1, 1) || expectsContinue(t.r) {
		return // the second: the server may be writing its 100
	}
	h := t.w.Header()
	clear(h)
	copyResponseHeader(h, header, t.head.id)
	t.w.WriteHeader(status)
	clear(h)
	t.proxy.lastOnConnection(h)
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

// first reads the beginning of the body, and does not keep the header from the
// client for that: where the length is unknown it takes what is there, and where
// it is known what would stay in the server's buffer anyway.
func (p *passer) first(res *http.Response, buf []byte) (n int, err error) {
	if p.live {
		ready := min(p.conn.BodyReady(), len(buf))
		if ready == 0 {
			return 0, nil
		}
		return res.Body.Read(buf[:ready])
	}
	least := min(res.ContentLength, max(unbounded-int64(p.conn.HeadSize), 1))
	for m := 0; err == nil && int64(n) < least; n += m {
		m, err = res.Body.Read(buf[n:])
	}
	return n, err
}

// pass copies until the end or until one side fails. n bytes of the body are in
// buf already, and err came with them.
func (p *passer) pass(body io.Reader, buf []byte, n int, err error) (readErr, writeErr error) {
	if p.live && n == 0 && err == nil {
		// The client of a stream wants to know that it has begun. Where more
		// is there already, the header goes with it.
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	for ; ; n, err = body.Read(buf) {
		if n > 0 {
			if err := p.write(buf[:n], err == nil); err != nil {
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
	if x.ctx.Err() == nil {
		x.slot.BrokeOff()
	}
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
