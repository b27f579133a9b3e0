package h2

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"

	"golang.org/x/net/http2"
)

// stream is one request and its response. The connection's mutex guards all of
// it that changes.
type stream struct {
	c       *Conn
	id      uint32
	request *http.Request
	done    <-chan struct{} // of the request's context
	wake    chan struct{}   // brings something when something is new
	start   int64           // where it begins in what the connection writes

	sending bool // there is a goroutine that sends the request's body
	sent    bool // the request has been sent to its end
	ended   bool // the response has come to its end
	closed  bool // neither side has more to say on it
	shut    bool // the request's body is closed
	queued  bool // is in the reader's woken; the reader's alone

	sendWindow int64
	recvWindow int64
	unread     int64 // bytes that were read, and that the server does not know of

	res     *http.Response
	err     error // why the response ends early, once body is empty
	body    bytes.Buffer
	length  int64     // of the body that is yet to come; -1: not known
	interim int       // responses that have come
	hints   []Interim // of those, what has not been passed on
	trailer http.Header
}

// tell wakes who waits for the stream.
func (s *stream) tell() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait waits for something new, or resets the stream because the request has
// ended. c.mu is held.
func (s *stream) wait() {
	s.c.mu.Unlock()
	over := false
	select {
	case <-s.wake:
	case <-s.done:
		over = true
	}
	s.c.mu.Lock()
	if over {
		s.resetLocked(http2.ErrCodeCancel, context.Cause(s.request.Context()))
	}
}

// reset ends the stream before its time, and tells the server.
func (s *stream) reset(code http2.ErrCode, err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.resetLocked(code, err)
}

func (s *stream) resetLocked(code http2.ErrCode, err error) {
	if s.closed {
		return
	}
	_ = s.c.framer.WriteRSTStream(s.id, code)
	s.close(err)
	s.tell()
}

// refuse resets a stream whose server does not keep to the protocol; cause may
// be nil. c.mu is held.
func (s *stream) refuse(code http2.ErrCode, cause error) {
	s.resetLocked(code, http2.StreamError{StreamID: s.id, Code: code, Cause: cause})
}

// close ends the stream: err is nil, or why there is no more of the response.
// c.mu is held.
func (s *stream) close(err error) {
	if s.closed {
		return
	}
	s.closed = true
	if s.err == nil && !s.ended {
		s.err = err
	}
	delete(s.c.streams, s.id)
	if s.c.waiting > 0 {
		s.c.room.Broadcast()
	}
}

// hasSent notes that the request has been sent to its end. c.mu is held.
func (s *stream) hasSent() {
	s.sent = true
	if s.ended {
		s.close(nil)
	}
}

// hasEnded notes that the response has come to its end. c.mu is held.
func (s *stream) hasEnded() {
	if s.length > 0 {
		s.err = io.ErrUnexpectedEOF
	}
	s.ended = true
	if s.sent {
		s.close(nil)
	} else if s.c.waiting > 0 {
		s.c.room.Broadcast() // nobody reads the rest of the request
	}
}

// closeRequest ends the reading of the request's body. c.mu is held, but not
// while it is closed.
func (s *stream) closeRequest() {
	if s.shut || s.request.Body == nil {
		return
	}
	s.shut = true
	s.c.mu.Unlock()
	_ = s.request.Body.Close() // there is nobody to tell
	s.c.mu.Lock()
}

// finish is called when nobody reads the response any more, or it has ended. A
// request that is not needed any more is not sent to its end. c.mu is held.
func (s *stream) finish() {
	if !s.closed {
		code := http2.ErrCodeCancel
		if s.ended {
			code = http2.ErrCodeNo
		}
		s.resetLocked(code, errClosed)
	}
	s.closeRequest()
}

// Body is the body of a response.
type Body stream

// Read is that of io.Reader. With the last bytes it returns io.EOF, where the
// end has come as well; the response's Trailer is complete then.
func (b *Body) Read(p []byte) (int, error) {
	s := (*stream)(b)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.ended && s.err == nil && s.request.Context().Err() != nil {
		s.resetLocked(http2.ErrCodeCancel, context.Cause(s.request.Context()))
		return 0, s.err
	}
	for s.body.Len() == 0 && !s.ended && s.err == nil {
		s.wait()
	}
	n := 0
	if s.body.Len() > 0 {
		n, _ = s.body.Read(p) // it has some
		s.hasRead(n)
	}
	switch {
	case s.body.Len() > 0:
	case s.err != nil && n == 0:
		s.finish()
		return 0, s.err
	case s.err == nil && s.ended:
		s.takeTrailer()
		s.finish()
		return n, io.EOF
	}
	return n, nil
}

// Ready says whether Read would not wait, but have more of the body or its end:
// what has been read may then be passed on together with that.
func (b *Body) Ready() bool {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	return b.body.Len() > 0 || (b.ended && b.err == nil)
}

// Close ends the response; the server is told where it has not ended by itself.
func (b *Body) Close() error {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.body = bytes.Buffer{}
	if b.err == nil && !b.ended {
		b.err = errClosed
	}
	(*stream)(b).finish()
	return nil
}

// hasRead gives the server room for as much as was read, when it is much.
func (s *stream) hasRead(n int) {
	s.unread += int64(n)
	if s.ended || s.closed || s.unread < int64(s.c.config.StreamBuffer)/2 {
		return
	}
	_ = s.c.framer.WriteWindowUpdate(s.id, uint32(s.unread))
	s.recvWindow += s.unread
	s.unread = 0
}

// takeTrailer makes the trailers those of the response.
func (s *stream) takeTrailer() {
	if len(s.trailer) == 0 {
		return
	}
	if s.res.Trailer == nil {
		s.res.Trailer = http.Header{}
	}
	maps.Copy(s.res.Trailer, s.trailer)
	s.trailer = nil
}
