package h1

import (
	"net/http"
	"net/url"
	"sync/atomic"
)

// maxKept bounds what a buffer or a remembered text may hold that is kept for
// other requests.
const maxKept = 8 << 10

// work is all that a connection needs while it has a request. One that is idle
// gives it back, and what it holds serves any connection: most requests begin
// with a head that has been seen before.
type work struct {
	in      input
	line    requestLine
	headers headers

	context  *requestContext
	template *http.Request // empty, with the context
	request  *http.Request
	url      *url.URL
	header   http.Header
	values   []string // what the slices in header are parts of
	body     *body    // nil: there is none
	expects  *continuation
	response response

	// Whether the handler has set a deadline. Another goroutine of its may
	// set it.
	readDeadline, writeDeadline atomic.Bool
}

func newWork() *work {
	w := &work{}
	w.in.b = make([]byte, bufferSize)
	w.response.out = make([]byte, 0, bufferSize)
	w.response.pending = make([]byte, 0, maxPending)
	w.response.work = w
	w.response.header = http.Header{}
	return w
}

// begin makes the request of the head that has been read.
func (w *work) begin(c *conn) *http.Request {
	if w.template == nil || !w.context.again() {
		w.renew()
	}
	w.context.values = c.ctx
	l, h := &w.line, &w.headers
	clear(w.header)
	if len(w.values) < len(h.fields) {
		w.values = make([]string, len(h.fields))
	}
	h.fill(w.header, w.values)
	r := w.request
	*r = *w.template
	r.Method, r.RequestURI = l.method, l.target
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, l.minor
	if l.minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	*w.url = l.url
	r.URL = w.url
	r.Header, r.Host, r.RemoteAddr, r.TLS = w.header, h.host, c.remote, c.secure
	if l.url.Host != "" {
		r.Host = l.url.Host
	}
	r.Close = h.close || (l.minor == 0 && !h.keepAlive)
	w.beginBody(c, r)
	w.response.begin(c)
	return r
}

// beginBody gives the request its body.
func (w *work) beginBody(c *conn, r *http.Request) {
	h := &w.headers
	w.body, w.expects = nil, nil
	r.Body, r.ContentLength = http.NoBody, max(0, h.length)
	if !h.chunked && h.length <= 0 {
		return
	}
	w.body = &body{c: c, request: r, chunked: h.chunked, left: r.ContentLength}
	w.body.rest.Store(r.ContentLength)
	r.Body = w.body
	if h.chunked {
		r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
		if len(h.trailers) > 0 {
			r.Trailer = make(http.Header, len(h.trailers))
			for _, name := range h.trailers {
				r.Trailer[name] = nil
			}
		}
		delete(r.Header, "Trailer")
	}
	if h.expects != "" && w.line.minor == 1 {
		w.expects = &continuation{}
		w.body.asks = w.expects
	}
}

// renew makes what a request is told by anew, because the last one's may still
// be looked at.
func (w *work) renew() {
	w.context = &requestContext{}
	w.template = (&http.Request{}).WithContext(w.context)
	w.request = &http.Request{}
	w.url, w.header, w.values = &url.URL{}, http.Header{}, nil
}

// asks returns the client that waits to be asked for its body, or nil.
func (w *work) asks() *continuation { return w.expects }

// tooMuchLeft says whether so much of the body has not been read that the
// connection is better closed.
func (w *work) tooMuchLeft() bool {
	return w.body != nil && !w.body.whole.Load() && (w.expects != nil || w.body.rest.Load() > maxRest)
}

// drop lets go of the buffers of a connection that another protocol has taken.
func (w *work) drop() {
	w.in.b, w.response.out, w.response.pending = nil, nil, nil
}

// slim lets go of what is too large to be kept.
func (w *work) slim() {
	if len(w.in.b) > maxKept && w.in.buffered() == 0 {
		w.in = input{b: make([]byte, bufferSize)}
	}
	if len(w.headers.text) > maxKept {
		w.headers, w.values, w.header = headers{}, nil, http.Header{}
	}
	if len(w.line.text) > maxKept {
		w.line = requestLine{}
	}
	if cap(w.response.out) > 2*maxKept {
		w.response.out = make([]byte, 0, bufferSize)
	}
	w.body, w.expects = nil, nil
}
