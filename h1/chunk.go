package h1

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
)

const (
	// maxChunkLine bounds the line of a chunk's size and its extensions,
	// maxExtensions all extensions of a body.
	maxChunkLine, maxExtensions = 512, 16 << 10
	// maxTrailer bounds the trailer section.
	maxTrailer = 4 << 10
)

var (
	errChunk   = errors.New("http: the request's chunks are malformed")
	errTrailer = errors.New("http: the request's trailer is malformed")
)

// nextChunk reads up to the first byte of the next chunk, or to the body's end.
// Unless it may wait it does so only when all that is needed is there, and
// leaves the rest for later.
func (b *body) nextChunk(wait bool) error {
	if b.inChunk {
		crlf, err := b.line(wait, 2)
		if err != nil || crlf == nil {
			return err
		}
		if len(crlf) != 2 {
			return errChunk
		}
		b.c.work.in.r += 2
		b.inChunk = false
	}
	line, err := b.line(wait, maxChunkLine)
	if err != nil || line == nil {
		return err
	}
	size, extension, _ := bytes.Cut(line[:len(line)-2], []byte{';'})
	n, ok := parseHex(size)
	if !ok || !isExtension(line[len(size):len(line)-2]) {
		return errChunk
	}
	if b.extra += len(extension); b.extra > maxExtensions {
		return errChunk
	}
	if n == 0 {
		return b.trailer(wait, len(line))
	}
	b.c.work.in.r += len(line)
	b.left = n
	return nil
}

// line returns the next line with its CRLF, unused. nil: it is not there yet.
func (b *body) line(wait bool, limit int) ([]byte, error) {
	in := &b.c.work.in
	for {
		have := in.b[in.r:in.w]
		if i := bytes.IndexByte(have, '\n'); i >= 0 {
			if i == 0 || have[i-1] != '\r' || i+1 > limit {
				return nil, errChunk
			}
			return have[:i+1], nil
		}
		if len(have) >= limit {
			return nil, errChunk
		}
		if !wait {
			return nil, nil
		}
		if err := b.c.more(); err != nil {
			return nil, err
		}
	}
}

// trailer reads the trailer section, which begins after the last chunk's line of
// skip bytes, and ends the body.
func (b *body) trailer(wait bool, skip int) error {
	in := &b.c.work.in
	for {
		have := in.b[in.r+skip : in.w]
		end, err := sectionEnd(have)
		if err != nil {
			return err
		}
		if end > maxTrailer {
			return errTrailer
		}
		if end > 0 {
			if err := b.keepTrailer(have[:end-2]); err != nil {
				return err
			}
			in.r += skip + end
			b.complete()
			return nil
		}
		if len(have) > maxTrailer {
			return errTrailer
		}
		if !wait {
			return nil
		}
		if err := b.c.more(); err != nil {
			return err
		}
	}
}

// sectionEnd says where a section of lines ends, behind its empty line; 0: not
// yet.
func sectionEnd(b []byte) (int, error) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0, nil
		}
		if i == 0 || b[at+i-1] != '\r' {
			return 0, errTrailer
		}
		if i == 1 {
			return at + 2, nil
		}
		at += i + 1
	}
}

func (b *body) keepTrailer(section []byte) error {
	for rest := string(section); rest != ""; {
		end := strings.IndexByte(rest, '\n')
		name, value, f := splitField(rest[:end-1])
		if f.status != 0 || framesMessage(name) {
			return errTrailer
		}
		if b.request.Trailer == nil {
			b.request.Trailer = http.Header{}
		}
		b.request.Trailer[name] = append(b.request.Trailer[name], value)
		rest = rest[end+1:]
	}
	return nil
}

// isExtension says whether b is nothing, or a chunk's extensions by RFC 9112,
// section 7.1.1, without the blanks that it only tolerates.
func isExtension(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		name, rest := cutToken(b[1:])
		if name == 0 {
			return false
		}
		b = rest
		if len(b) == 0 || b[0] != '=' {
			continue
		}
		if len(b) > 1 && b[1] == '"' {
			end := quotedEnd(b[2:])
			if end < 0 {
				return false
			}
			b = b[2+end:]
			continue
		}
		value, rest := cutToken(b[1:])
		if value == 0 {
			return false
		}
		b = rest
	}
	return true
}

func cutToken(b []byte) (length int, rest []byte) {
	for length < len(b) && among(tokenLow, tokenHigh, b[length]) {
		length++
	}
	return length, b[length:]
}

// quotedEnd says where a quoted string ends whose first quote is before b,
// behind its last; negative: nowhere.
func quotedEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\' && i+1 < len(b):
			i++
		case (c < ' ' && c != '\t') || c == 0x7f:
			return -1
		}
	}
	return -1
}
