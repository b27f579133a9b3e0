package h1

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPending is up to how much of a body is held back to learn its length.
const maxPending = 2 << 10

// framing is how a client learns where a response's body ends.
type framing int

const (
	undecided framing = iota
	bodiless          // there is none: HEAD, 204, 304
	counted           // Content-Length
	inChunks
	toTheEnd // of the connection
)

// response is the http.ResponseWriter of one request after the other.
type response struct {
	work *work
	c    *conn

	header   http.Header
	status   int // of the final response; 0: it has none yet
	length   int64
	written  int64 // by the handler, whether it has been sent or not
	framing  framing
	trailers []string // announced
	closes   bool     // the connection ends with the response
	hijacked bool
	err      error // of a write

	// What the handler's header says of the connection, noted by WriteHeader.
	connection    string
	hasConnection bool
	hasDate       bool
	hasLength     bool
	coded         bool // with a Transfer-Encoding, so without a length
	identity      bool // Transfer-Encoding: identity, which is to the connection's end
	pseudo        bool // trailers are to come

	out     []byte // to be sent as it is
	pending []byte // of the body, to be framed
	vector  [3][]byte
	buffers net.Buffers
}

// begin makes r ready for a request.
func (r *response) begin(c *conn) {
	clear(r.header)
	*r = response{work: r.work, c: c, header: r.header, length: -1, trailers: r.trailers[:0], out: r.out[:0], pending: r.pending[:0]}
}

// Header returns what WriteHeader sends; trailers may be set in it afterwards.
func (r *response) Header() http.Header { return r.header }

// WriteHeader sends a 1xx response at once, and settles the final one.
func (r *response) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("h1: the status %d is not one", status))
	case r.hijacked:
		r.c.server.logf("h1: WriteHeader on a connection that was taken over")
		return
	case r.status != 0:
		r.c.server.logf("h1: WriteHeader again: %d after %d", status, r.status)
		return
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		r.inform(status)
		return
	}
	r.work.asks().forgo()
	r.status = status
	r.statusLine(status)
	for name, values := range r.header {
		r.note(name, values)
	}
}

// inform sends a 1xx response. A client that waits to be asked for its body
// still does so, unless this is what it waits for.
func (r *response) inform(status int) {
	asks := r.work.asks()
	asks.hold()
	defer asks.letGo(status == http.StatusContinue)
	r.statusLine(status)
	for name, values := range r.header {
		if name != "Content-Length" && name != "Transfer-Encoding" {
			r.field(name, values)
		}
	}
	r.out = append(r.out, "\r\n"...)
	r.send()
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// note puts a header field on its way, but for those that tell about the
// connection or the framing, which are decided later.
func (r *response) note(name string, values []string) {
	first := ""
	if len(values) > 0 {
		first = values[0]
	}
	switch name {
	case "Content-Length":
		n, ok := parseDigits(first)
		switch {
		case ok:
			r.length, r.hasLength = n, true
		case first != "":
			r.c.server.logf("h1: the handler's Content-Length is %q", first)
		}
		return
	case "Transfer-Encoding":
		r.coded, r.identity = first != "", first == "identity"
		return
	case "Connection":
		r.connection, r.hasConnection = strings.Join(values, ", "), true
		return
	case "Date":
		r.hasDate = true
	case "Trailer":
		r.pseudo = true
		for _, v := range values {
			r.announce(v)
		}
	case "Content-Type":
		if r.status == http.StatusNotModified {
			return
		}
	}
	if strings.HasPrefix(name, http.TrailerPrefix) {
		r.pseudo = true
		return
	}
	r.field(name, values)
}

func (r *response) announce(list string) {
	for name := range strings.SplitSeq(list, ",") {
		if name = http.CanonicalHeaderKey(trim(name)); passesAsTrailer(name) {
			r.trailers = append(r.trailers, name)
		}
	}
}

// statusLine and field put a line on its way. No byte that could end the line
// before its end gets into it.
func (r *response) statusLine(status int) {
	r.out = append(r.out, "HTTP/1."...)
	r.out = append(r.out, '0'+byte(r.work.line.minor), ' ')
	r.out = strconv.AppendInt(r.out, int64(status), 10)
	r.out = append(r.out, ' ')
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	r.out = append(r.out, text...)
	r.out = append(r.out, "\r\n"...)
}

func (r *response) field(name string, values []string) {
	if !isToken(name) {
		return
	}
	for _, v := range values {
		r.out = append(r.out, name...)
		r.out = append(r.out, ": "...)
		at := len(r.out)
		r.out = append(r.out, trim(v)...)
		for i := at; i < len(r.out); i++ {
			if b := r.out[i]; b == '\r' || b == '\n' || b == 0 {
				r.out[i] = ' '
			}
		}
		r.out = append(r.out, "\r\n"...)
	}
}

// Write sends a part of the body.
func (r *response) Write(p []byte) (int, error) {
	if err := r.admit(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	if r.framing == undecided {
		if r.length < 0 && len(r.pending)+len(p) <= maxPending {
			r.pending = append(r.pending, p...)
			return len(p), nil
		}
		r.decide(false)
	}
	r.pass(p)
	return len(p), r.err
}

// WriteString is Write without a copy.
func (r *response) WriteString(s string) (int, error) {
	if err := r.admit(len(s)); err != nil || s == "" {
		return 0, err
	}
	if r.framing == undecided && r.length < 0 && len(r.pending)+len(s) <= maxPending {
		r.pending = append(r.pending, s...)
		return len(s), nil
	}
	r.written -= int64(len(s))
	return r.Write([]byte(s))
}

// admit says whether n more bytes may be written.
func (r *response) admit(n int) error {
	if r.hijacked {
		return http.ErrHijacked
	}
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	switch {
	case n == 0:
		return nil
	case !bodyAllowed(r.status):
		return http.ErrBodyNotAllowed
	}
	r.written += int64(n)
	if r.length >= 0 && r.written > r.length {
		return http.ErrContentLength
	}
	return r.err
}

// pass puts a part of the body on its way.
func (r *response) pass(p []byte) {
	switch r.framing {
	case undecided, bodiless:
	case counted, toTheEnd:
		if len(r.out)+len(p) <= bufferSize {
			r.out = append(r.out, p...)
		} else {
			r.send(p)
		}
	case inChunks:
		if len(r.pending)+len(p) <= maxPending {
			r.pending = append(r.pending, p...)
			return
		}
		r.chunk()
		if len(p) <= maxPending {
			r.pending = append(r.pending, p...)
			return
		}
		r.chunkHead(len(p))
		r.send(p, []byte("\r\n"))
	}
}

func (r *response) chunkHead(n int) {
	r.out = strconv.AppendInt(r.out, int64(n), 16)
	r.out = append(r.out, "\r\n"...)
}

// chunk makes a chunk of what is pending.
func (r *response) chunk() {
	if len(r.pending) == 0 {
		return
	}
	r.chunkHead(len(r.pending))
	r.out = append(r.out, r.pending...)
	r.out = append(r.out, "\r\n"...)
	r.pending = r.pending[:0]
}

// send writes what is on its way, and more behind it.
func (r *response) send(more ...[]byte) {
	switch {
	case r.err != nil:
	case len(more) == 0 && len(r.out) == 0:
	case len(more) == 0:
		_, r.err = r.c.out.Write(r.out)
	default:
		r.vector[0] = r.out
		n := 1 + copy(r.vector[1:], more)
		r.buffers = r.vector[:n]
		_, r.err = r.buffers.WriteTo(r.c.nc)
		r.vector = [3][]byte{}
	}
	r.out = r.out[:0]
	if r.err != nil {
		r.work.context.end() // the client has left
	}
}

// Flush is FlushError for those who do not want to know.
func (r *response) Flush() { _ = r.FlushError() }

// FlushError sends what has been written.
func (r *response) FlushError() error {
	if r.hijacked {
		return http.ErrHijacked
	}
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.framing == undecided {
		r.decide(false)
	}
	if r.framing == inChunks {
		r.chunk()
	}
	r.send()
	return r.err
}

// SetReadDeadline bounds reads of the request's body. The zero time: no bound.
func (r *response) SetReadDeadline(t time.Time) error {
	r.work.readDeadline.Store(true)
	return r.c.nc.SetReadDeadline(t)
}

// SetWriteDeadline bounds writes of the response. The zero time: no bound.
func (r *response) SetWriteDeadline(t time.Time) error {
	r.work.writeDeadline.Store(true)
	return r.c.nc.SetWriteDeadline(t)
}

// EnableFullDuplex changes nothing: reading and writing never wait for each
// other.
func (r *response) EnableFullDuplex() error { return nil }

// Hijack hands the connection over, with what has been read of it in the reader.
func (r *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if r.hijacked {
		return nil, nil, http.ErrHijacked
	}
	r.work.asks().forgo()
	if r.status != 0 {
		if err := r.FlushError(); err != nil {
			return nil, nil, err
		}
	}
	nc := r.c.nc
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	r.hijacked = true
	r.c.server.forget(r.c)
	read := &replayed{Conn: nc, rest: r.work.in.b[r.work.in.r:r.work.in.w]}
	br := bufio.NewReaderSize(read, max(bufferSize, len(read.rest)))
	if len(read.rest) > 0 {
		_, _ = br.Peek(1) // what has been read is copied, and cannot fail
	}
	r.work.drop()
	return nc, bufio.NewReadWriter(br, bufio.NewWriter(nc)), nil
}
