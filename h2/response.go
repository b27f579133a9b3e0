package h2

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxInterim is how many interim responses one request may get.
const maxInterim = 16

// Interim is a 1xx response, which comes ahead of the final one.
type Interim struct {
	Status int
	Header http.Header
}

// takeHeaders takes in the header of a response, or its trailers.
func (c *Conn) takeHeaders(f *http2.MetaHeadersFrame) error {
	s, err := c.stream(f.StreamID)
	if s == nil {
		return err
	}
	switch {
	case s.ended:
		s.refuse(http2.ErrCodeStreamClosed, nil)
		return nil
	case s.res != nil:
		err = s.takeTrailers(f)
	default:
		err = s.takeResponse(f)
	}
	if err != nil {
		s.refuse(http2.ErrCodeProtocol, err)
		return nil
	}
	c.news(s)
	return nil
}

// malformedError says what is wrong with a response.
type malformedError string

func (e malformedError) Error() string { return string(e) }

func (s *stream) takeTrailers(f *http2.MetaHeadersFrame) error {
	switch {
	case !f.StreamEnded():
		return malformedError("there is a second header that is not the last")
	case f.Truncated:
		return malformedError("the trailers are too large")
	case len(f.PseudoFields()) > 0:
		return malformedError("a trailer has a pseudo-header")
	}
	h, _, err := s.header(f.RegularFields())
	if err != nil {
		return err
	}
	s.trailer = h
	s.hasEnded()
	return nil
}

func (s *stream) takeResponse(f *http2.MetaHeadersFrame) error {
	if f.Truncated {
		return malformedError("the header is too large")
	}
	text := f.PseudoValue("status")
	status, err := strconv.Atoi(text)
	if err != nil || len(text) != 3 || status < 100 || len(f.PseudoFields()) != 1 {
		return malformedError("the header has no status of HTTP")
	}
	h, announced, err := s.header(f.RegularFields())
	if err != nil {
		return err
	}
	if status < 200 {
		s.interim++
		if f.StreamEnded() || status == http.StatusSwitchingProtocols || s.interim > maxInterim {
			return malformedError("there is an interim response that may not be")
		}
		s.hints = append(s.hints, Interim{Status: status, Header: h})
		return nil
	}
	length, err := bodyLength(h["Content-Length"])
	if err != nil {
		return err
	}
	res := &http.Response{
		Status: text + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: h, Trailer: announced, ContentLength: length, Body: (*Body)(s), Request: s.request,
	}
	s.length = length
	head := s.request.Method == http.MethodHead
	if head || status == http.StatusNoContent || status == http.StatusNotModified {
		s.length = 0
	}
	if f.StreamEnded() && length < 0 && !head {
		res.ContentLength = 0
	}
	s.res = res
	if f.StreamEnded() {
		s.hasEnded()
	}
	return nil
}

// bodyLength reads Content-Length; -1: there is none.
func bodyLength(values []string) (int64, error) {
	if len(values) == 0 {
		return -1, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil || len(values) > 1 || values[0][0] == '+' {
		return 0, malformedError("Content-Length is not a length")
	}
	return int64(n), nil
}

// header makes a header of fields, and of Trailer the names that it announces.
func (s *stream) header(fields []hpack.HeaderField) (h, announced http.Header, err error) {
	h = make(http.Header, len(fields))
	values := make([]string, len(fields)) // one allocation for all
	for i, f := range fields {
		if aboutConnection(f.Name) {
			return nil, nil, malformedError("there is a header about an HTTP/1.1 connection")
		}
		name := s.c.names.get(f.Name, canonical)
		if name == "Trailer" {
			announced = announce(announced, f.Value)
			continue
		}
		if had, ok := h[name]; ok {
			h[name] = append(had, f.Value)
			continue
		}
		values[i] = f.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h, announced, nil
}

// announce adds the names in a Trailer header to t.
func announce(t http.Header, names string) http.Header {
	for name := range strings.SplitSeq(names, ",") {
		name = canonical(strings.TrimSpace(name))
		switch name {
		case "", "Transfer-Encoding", "Trailer", "Content-Length":
			continue
		}
		if t == nil {
			t = http.Header{}
		}
		t[name] = nil
	}
	return t
}
