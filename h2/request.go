package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// errEnough ends the sending of a body that is not wanted any more.
var errEnough = errors.New("no more of the body is wanted")

// blockWriter is where a header is compressed to.
type blockWriter struct{ b []byte }

func (w *blockWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// RoundTrip sends a request and returns the response when its header has come.
// A stream must have been reserved for it. URL.Opaque, where it is set, is sent
// as the path. The request's body is read on a goroutine of its own, also while
// the response is read, and closed when it is not needed any more. Interim
// responses are handed to inform as they come; nil: nobody wants them.
//
// The error of a stream that either side has reset is an http2.StreamError.
func (c *Conn) RoundTrip(r *http.Request, inform func(Interim)) (*http.Response, error) {
	s, err := c.open(r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // nothing was read of it
		}
		return nil, err
	}
	if r.Body != nil {
		go s.sendBody(r.Body, r.Trailer)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.passHints(inform)
	for s.res == nil && s.err == nil {
		s.wait()
		s.passHints(inform)
	}
	if s.res != nil {
		return s.res, nil
	}
	s.closeRequest()
	for s.sending && r.Context().Err() == nil { // who sends it again reads it again
		s.wait()
	}
	return nil, s.err
}

// passHints hands over the interim responses that have come. c.mu is held, but
// not while inform has one.
func (s *stream) passHints(inform func(Interim)) {
	for len(s.hints) > 0 {
		next := s.hints[0]
		s.hints = s.hints[1:]
		if inform != nil {
			s.c.mu.Unlock()
			inform(next)
			s.c.mu.Lock()
		}
	}
}

// open writes a request's header.
func (c *Conn) open(r *http.Request) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved--
	switch {
	case c.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotTaken, c.err)
	case !c.canTake():
		return nil, ErrNotTaken
	}
	if err := c.setFields(r); err != nil {
		return nil, err
	}
	s := &stream{
		c: c, id: c.nextID, request: r, done: r.Context().Done(), wake: make(chan struct{}, 1), start: c.queued,
		sendWindow: c.window, recvWindow: int64(c.config.StreamBuffer), length: -1,
		sent: r.Body == nil, sending: r.Body != nil,
	}
	c.nextID += 2
	c.streams[s.id] = s
	c.writeFields(s.id, s.sent)
	return s, nil
}

// setFields makes c.fields the request's header, or says why it cannot be sent.
func (c *Conn) setFields(r *http.Request) error {
	path := r.URL.Opaque
	if path == "" {
		path = r.URL.RequestURI()
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method) || r.Method == http.MethodConnect: // a token, as a name is
		return fmt.Errorf("the method %q cannot be sent", r.Method)
	case !strings.HasPrefix(path, "/") && path != "*", !httpguts.ValidHeaderFieldValue(path):
		return fmt.Errorf("the path %q cannot be sent", path)
	case !httpguts.ValidHostHeader(host):
		return fmt.Errorf("the authority %q cannot be sent", host)
	}
	c.fields = append(c.fields[:0],
		hpack.HeaderField{Name: ":method", Value: r.Method}, hpack.HeaderField{Name: ":scheme", Value: "http"},
		hpack.HeaderField{Name: ":authority", Value: host}, hpack.HeaderField{Name: ":path", Value: path})
	if err := c.addFields(r.Header); err != nil {
		return err
	}
	if length, ok := lengthOf(r); ok {
		c.fields = append(c.fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(length, 10), Sensitive: true})
	}
	if len(r.Trailer) > 0 {
		names := make([]string, 0, len(r.Trailer))
		for name := range r.Trailer {
			if c.lower.get(name, wireName) == "" {
				return fmt.Errorf("the trailer %q cannot be sent", name)
			}
			names = append(names, name)
		}
		slices.Sort(names)
		c.fields = append(c.fields, hpack.HeaderField{Name: "trailer", Value: strings.Join(names, ",")})
	}
	size := uint64(0)
	for _, f := range c.fields {
		size += uint64(f.Size())
	}
	if size > c.maxHeader {
		return fmt.Errorf("the header has %d bytes, and the server takes %d", size, c.maxHeader)
	}
	return nil
}

// lengthOf returns what a request says of the length of its body, if it says
// anything: of a body, 0 is not a length that is known.
func lengthOf(r *http.Request) (int64, bool) {
	if r.Body != nil {
		return r.ContentLength, r.ContentLength > 0
	}
	return 0, r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// addFields adds h to c.fields.
func (c *Conn) addFields(h http.Header) error {
	for key, values := range h {
		if len(values) == 0 {
			continue
		}
		name := c.lower.get(key, wireName)
		if name == "" {
			return fmt.Errorf("the header %q cannot be sent", key)
		}
		once := passing(name)
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the value of the header %q cannot be sent", key)
			}
			c.fields = append(c.fields, hpack.HeaderField{Name: name, Value: v, Sensitive: once})
		}
	}
	return nil
}

// writeFields writes c.fields as one header. c.mu is held.
func (c *Conn) writeFields(id uint32, end bool) {
	c.block.b = c.block.b[:0]
	for _, f := range c.fields {
		_ = c.encoder.WriteField(f) // that of a blockWriter
	}
	clear(c.fields)
	b := c.block.b
	first := b[:min(len(b), c.maxFrame)]
	b = b[len(first):]
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(b) == 0})
	for len(b) > 0 {
		next := b[:min(len(b), c.maxFrame)]
		b = b[len(next):]
		_ = c.framer.WriteContinuation(id, len(b) == 0, next)
	}
	if cap(c.block.b) > maxKept {
		c.block.b = nil
	}
}

// bodyBuffer is how many bytes of a body are read at once.
const bodyBuffer = 16 << 10

// sendBody sends the request's body and trailers.
func (s *stream) sendBody(body io.Reader, trailer http.Header) {
	b, ok := s.c.bodies.Get().(*[bodyBuffer]byte)
	if !ok {
		b = new([bodyBuffer]byte)
	}
	defer s.c.bodies.Put(b)
	for {
		n, err := body.Read(b[:])
		ended := errors.Is(err, io.EOF)
		if werr := s.sendData(b[:n], ended && len(trailer) == 0); werr != nil {
			break
		}
		if ended {
			s.sendTrailer(trailer)
			break
		}
		if err != nil {
			s.reset(http2.ErrCodeCancel, fmt.Errorf("read the request's body: %w", err))
			break
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.closeRequest()
	s.sending = false
	s.tell()
}

// sendData sends a part of the body, as the server has room for it.
func (s *stream) sendData(p []byte, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 || end {
		n, err := s.sendRoom(len(p))
		if err != nil {
			return err
		}
		s.sendWindow -= int64(n)
		c.sendWindow -= int64(n)
		last := end && n == len(p)
		_ = c.framer.WriteData(s.id, last, p[:n])
		if last {
			s.hasSent()
			return nil
		}
		p = p[n:]
	}
	return nil
}

// sendRoom waits until some of n bytes can be sent, and returns how many. c.mu
// is held.
func (s *stream) sendRoom(n int) (int, error) {
	c := s.c
	for {
		if s.closed || s.ended {
			return 0, errEnough
		}
		room := min(int64(n), s.sendWindow, c.sendWindow, int64(c.maxFrame))
		if (room > 0 || n == 0) && len(c.pending) < maxPending {
			return int(max(room, 0)), nil
		}
		c.waiting++
		c.room.Wait()
		c.waiting--
	}
}

// sendTrailer ends the request, unless its last frame has.
func (s *stream) sendTrailer(trailer http.Header) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.sent || s.closed || s.ended {
		return
	}
	c.fields = c.fields[:0]
	if err := c.addFields(trailer); err != nil {
		s.resetLocked(http2.ErrCodeCancel, err)
		return
	}
	if len(c.fields) == 0 {
		_ = c.framer.WriteData(s.id, true, nil)
	} else {
		c.writeFields(s.id, true)
	}
	s.hasSent()
}
