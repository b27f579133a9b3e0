package h1

import (
	"bytes"
	"net/http"
)

// bufferSize is what is read and written at once, unless it is more.
const bufferSize = 4 << 10

// input is what has been read of a connection and not been used yet.
type input struct {
	b    []byte
	r, w int // b[r:w] is unused

	lines   int // of the head under way, that have been seen
	line    int // where the line under way begins
	first   int // where the first line ends, without its CRLF
	scanned int // up to where it has been looked at
}

func (in *input) buffered() int { return in.w - in.r }

// next makes ready for a head.
func (in *input) next() {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.r > 0 {
		in.w = copy(in.b, in.b[in.r:in.w])
		in.r = 0
	}
	in.lines, in.line, in.first, in.scanned = 0, 0, 0, 0
}

// room returns where to read to; there is always some. A head may make the
// buffer grow.
func (in *input) room() []byte {
	if in.r == in.w && in.lines == 0 {
		in.r, in.w, in.line, in.scanned = 0, 0, 0, 0
	}
	if in.w == len(in.b) && in.r > 0 {
		in.move()
	}
	if in.w == len(in.b) {
		grown := make([]byte, max(bufferSize, 2*len(in.b)))
		copy(grown, in.b)
		in.b = grown
	}
	return in.b[in.w:]
}

// move brings what is unused to the front.
func (in *input) move() {
	by := in.r
	in.w = copy(in.b, in.b[in.r:in.w])
	in.r = 0
	in.line, in.first, in.scanned = in.line-by, in.first-by, in.scanned-by
}

// skipBlank drops the empty lines that some clients send after a body.
func (in *input) skipBlank() {
	for range 2 {
		if in.w-in.r >= 2 && in.b[in.r] == '\r' && in.b[in.r+1] == '\n' {
			in.r += 2
		}
	}
	in.line, in.scanned = in.r, in.r
}

// scan looks for the end of a head of at most limit bytes, and reads its first
// line as soon as it is there. It says where the header section ends; 0: more
// bytes are needed.
func (in *input) scan(l *requestLine, limit int) (end int, f fault) {
	for {
		i := bytes.IndexByte(in.b[in.scanned:in.w], '\n')
		if i < 0 {
			break
		}
		i += in.scanned
		if i == in.line || in.b[i-1] != '\r' {
			return 0, bad("a line ends without a carriage return")
		}
		start := in.line
		in.line, in.scanned = i+1, i+1
		in.lines++
		switch {
		case i+1-in.r > limit && in.lines > 1:
			return 0, tooLarge()
		case i-1 == start && in.lines > 1:
			return start, fault{}
		case in.lines == 1:
			in.first = i - 1
			if f := in.parseFirst(l, limit); f.status != 0 {
				return 0, f
			}
		}
	}
	in.scanned = in.w
	if in.w > in.r && in.lines == 0 && !isStart(in.b[in.r]) {
		return 0, bad("it does not begin as a request does")
	}
	return 0, in.oversize(limit)
}

// take uses up a head whose header section ends at end.
func (in *input) take(end int) {
	in.r, in.lines = end+len("\r\n"), 0
}

func (in *input) parseFirst(l *requestLine, limit int) fault {
	if in.first-in.r > limit {
		return tooLong()
	}
	return l.parse(in.b[in.r:in.first])
}

func (in *input) oversize(limit int) fault {
	switch {
	case in.w-in.r <= limit:
		return fault{}
	case in.lines == 0:
		return tooLong()
	}
	return tooLarge()
}

func tooLong() fault {
	return fault{http.StatusRequestURITooLong, "the request line is too long"}
}

func tooLarge() fault {
	return fault{http.StatusRequestHeaderFieldsTooLarge, "the headers are too large"}
}

// isStart says whether a request may begin with b. The carriage return is
// refused with its line.
func isStart(b byte) bool { return b == '\r' || among(tokenLow, tokenHigh, b) }
