package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// answer is what reading a replica's response needs, kept with the connection:
// it is made once and used for one response after the other.
type answer struct {
	res   http.Response
	body  answerBody
	block []byte
}

// blockKept is up to how much memory for heads a connection keeps.
const blockKept = 8 << 10

// ErrNotHTTP means that a replica's answer cannot be understood.
var ErrNotHTTP = errors.New("the replica's answer is not HTTP/1.1")

// errBareLF and its like say what of RFC 9112 an answer does not keep to.
var (
	errBareLF    = fmt.Errorf("%w: a line ends in LF alone", ErrNotHTTP)
	errField     = fmt.Errorf("%w: a header field is malformed", ErrNotHTTP)
	errLength    = fmt.Errorf("%w: its Content-Length is not one number", ErrNotHTTP)
	errCoding    = fmt.Errorf("%w: its Transfer-Encoding is not chunked alone", ErrNotHTTP)
	errAmbiguous = fmt.Errorf("%w: it has both Content-Length and Transfer-Encoding", ErrNotHTTP)
	errTrailer   = fmt.Errorf("%w: its trailer is malformed", ErrNotHTTP)
)

// ReadResponse reads the head of a response to a request of that method, and
// makes its body ready to be read. What is returned holds until the next call.
//
// It takes what RFC 9112 has a sender write, and refuses what parsers are known
// to understand in different ways: lines that end in LF alone or are continued,
// control bytes in values, a length beside chunks, lengths that differ, any
// coding but chunked, and chunks in HTTP/1.0.
func (c *Conn) ReadResponse(method string) (*http.Response, error) {
	a := &c.answer
	c.budget = c.maxHeader
	block, err := c.readBlock()
	c.budget = -1
	if err != nil {
		return nil, err
	}
	c.HeadSize = len(block)
	// One copy, of which all the names and values are parts.
	line, fields, _ := strings.Cut(string(block), "\r\n")
	res := &a.res
	*res = http.Response{Header: res.Header, ProtoMajor: 1}
	if err := parseStatusLine(res, line); err != nil {
		return nil, err
	}
	if res.Header == nil {
		res.Header = http.Header{}
	}
	clear(res.Header)
	if err := parseFields(res.Header, fields); err != nil {
		return nil, err
	}
	if err := a.frame(method); err != nil {
		return nil, err
	}
	a.body.conn = c
	res.Body = &a.body
	return res, nil
}

// readBlock reads lines up to and with an empty one.
func (c *Conn) readBlock() ([]byte, error) {
	block := c.answer.block[:0]
	for start := 0; ; {
		piece, err := c.R.ReadSlice('\n')
		block = append(block, piece...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue // the line goes on
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case len(block) < start+2 || block[len(block)-2] != '\r':
			return nil, errBareLF
		}
		if len(block) == start+2 {
			break
		}
		start = len(block)
	}
	c.answer.block = block
	if cap(block) > blockKept {
		c.answer.block = nil
	}
	return block, nil
}

// parseStatusLine reads such as "HTTP/1.1 200 OK".
func parseStatusLine(res *http.Response, line string) error {
	const version = "HTTP/1."
	end := len(version) + len("1 200")
	if len(line) < end || line[:len(version)] != version || (len(line) > end && line[end] != ' ') {
		return fmt.Errorf("%w: it begins with %.40q", ErrNotHTTP, line)
	}
	switch line[len(version)] {
	case '1':
		res.Proto, res.ProtoMinor = "HTTP/1.1", 1
	case '0':
		res.Proto = "HTTP/1.0"
	default:
		return fmt.Errorf("%w: its version is %.8q", ErrNotHTTP, line)
	}
	digits := line[end-len(" 200") : end]
	for i := 1; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return fmt.Errorf("%w: its status is %q", ErrNotHTTP, digits[1:])
		}
		res.StatusCode = 10*res.StatusCode + int(digits[i]-'0')
	}
	if digits[0] != ' ' || res.StatusCode < 100 {
		return fmt.Errorf("%w: its status is %03d", ErrNotHTTP, res.StatusCode)
	}
	return nil
}

// parseFields reads header fields up to an empty line.
func parseFields(h http.Header, fields string) error {
	values := make([]string, 0, strings.Count(fields, "\n"))
	for {
		line, rest, _ := strings.Cut(fields, "\r\n")
		if line == "" {
			return nil
		}
		fields = rest
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return errField
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if earlier, again := h[key]; again {
			h[key] = append(earlier, value)
			continue
		}
		values = append(values, value)
		h[key] = values[len(values)-1 : len(values) : len(values)]
	}
}

// frame finds out where the body ends (RFC 9112, section 6.3), and whether the
// connection ends with it.
func (a *answer) frame(method string) error {
	res := &a.res
	chunked, err := isChunked(res)
	if err != nil {
		return err
	}
	length, err := contentLength(res.Header["Content-Length"])
	if err != nil {
		return err
	}
	if chunked && length >= 0 {
		return errAmbiguous
	}
	if res.Trailer, err = announcedTrailers(res.Header, chunked); err != nil {
		return err
	}
	res.ContentLength = length
	connection := res.Header["Connection"]
	res.Close = httpguts.HeaderValuesContainsToken(connection, "close") || (res.ProtoMinor == 0 && !httpguts.HeaderValuesContainsToken(connection, "keep-alive"))
	a.body = answerBody{}
	switch {
	case method == http.MethodHead:
	case (res.StatusCode < 200 || res.StatusCode == http.StatusNoContent) && (chunked || length > 0):
		// It says that there is what cannot be: what comes next may be a
		// body, or the next response.
		res.ContentLength, res.Close = 0, true
		delete(res.Header, "Content-Length")
	case res.StatusCode < 200 || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified:
		res.ContentLength = 0
	case chunked:
		a.body.kind = bodyInChunks
	case length >= 0:
		a.body.left = length
	default:
		a.body.kind, res.Close = bodyToTheEnd, true
	}
	return nil
}

func isChunked(res *http.Response) (bool, error) {
	codings, coded := res.Header["Transfer-Encoding"]
	if !coded {
		return false, nil
	}
	if res.ProtoMinor == 0 || len(codings) != 1 || !strings.EqualFold(codings[0], "chunked") {
		return false, errCoding
	}
	delete(res.Header, "Transfer-Encoding")
	return true, nil
}

// contentLength returns the length that the field says; -1: there is none.
func contentLength(values []string) (int64, error) {
	if len(values) == 0 {
		return -1, nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return 0, errLength
		}
	}
	if values[0] == "" || strings.Trim(values[0], "0123456789") != "" {
		return 0, errLength
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0, errLength
	}
	return n, nil
}

// announcedTrailers returns the trailers that a body in chunks will have, as
// far as it is said, each without a value.
func announcedTrailers(h http.Header, chunked bool) (http.Header, error) {
	names := h["Trailer"]
	if len(names) == 0 || !chunked {
		return nil, nil
	}
	trailer := http.Header{}
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.Trim(name, " \t")
			if name == "" {
				continue
			}
			if key := textproto.CanonicalMIMEHeaderKey(name); httpguts.ValidHeaderFieldName(name) && mayTrail(key) {
				trailer[key] = nil
				continue
			}
			return nil, errTrailer
		}
	}
	return trailer, nil
}

// mayTrail says whether a field can come after the body that it would describe.
func mayTrail(key string) bool {
	return key != "Transfer-Encoding" && key != "Content-Length" && key != "Trailer"
}

type bodyKind uint8

const (
	bodyCounted bodyKind = iota // so many bytes
	bodyInChunks
	bodyToTheEnd // of the connection
)

// answerBody is a response's body on its connection.
type answerBody struct {
	conn   *Conn
	kind   bodyKind
	left   int64 // of a body that is counted
	chunks io.Reader
	err    error // how it ended
}

// Read returns io.EOF at the body's end, with the last bytes where it is known,
// and any other error when it broke off.
func (b *answerBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	switch b.kind {
	case bodyInChunks:
		n, err = b.readChunks(p)
	case bodyToTheEnd:
		n, err = b.conn.R.Read(p)
	default:
		n, err = b.readCounted(p)
	}
	b.err = err
	return n, err
}

func (b *answerBody) readCounted(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.conn.R.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *answerBody) readChunks(p []byte) (int, error) {
	if b.chunks == nil {
		b.chunks = httputil.NewChunkedReader(b.conn.R)
	}
	n, err := b.chunks.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if err := b.readTrailer(); err != nil {
		return n, err
	}
	return n, io.EOF
}

// readTrailer reads what follows the last chunk.
func (b *answerBody) readTrailer() error {
	c := b.conn
	c.budget = c.maxHeader
	block, err := c.readBlock()
	c.budget = -1
	if err != nil || len(block) == 2 {
		return err
	}
	trailer := http.Header{}
	if err := parseFields(trailer, string(block)); err != nil {
		return err
	}
	res := &c.answer.res
	if res.Trailer == nil {
		res.Trailer = http.Header{}
	}
	for key, values := range trailer {
		if !mayTrail(key) {
			return errTrailer
		}
		res.Trailer[key] = values
	}
	return nil
}

// BodyReady returns how many bytes of the response's body can be read without
// waiting: of a body in chunks, those of whole chunks. Where it is seen to end, or
// to be broken, there is one at least.
func (c *Conn) BodyReady() (total int) {
	b, _ := c.R.Peek(c.R.Buffered()) // they are there
	if c.answer.body.kind != bodyInChunks {
		return len(b)
	}
	for {
		line, rest, found := bytes.Cut(b, []byte("\r\n"))
		if !found {
			return total
		}
		digits, _, _ := bytes.Cut(line, []byte(";"))
		size, err := strconv.ParseInt(string(bytes.TrimRight(digits, " \t")), 16, 64)
		switch {
		case err != nil || size < 0:
			return max(total, 1)
		case size == 0 && !bytes.HasPrefix(rest, []byte("\r\n")) && !bytes.Contains(rest, []byte("\r\n\r\n")):
			return 0 // the trailer is waited for
		case size == 0:
			return max(total, 1)
		case size > int64(len(rest)-2):
			return total
		}
		total += int(size)
		b = rest[size+2:]
	}
}

// Close leaves the connection as it is: whoever holds it knows what to do.
func (*answerBody) Close() error { return nil }
