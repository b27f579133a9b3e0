package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fakeConn is a connection from which only can be read.
type fakeConn struct {
	net.Conn
	io.Reader
}

func (f fakeConn) Read(p []byte) (int, error) { return f.Reader.Read(p) }

// read is what came of reading one response.
type read struct {
	Status  int
	Proto   string
	Header  http.Header
	Length  int64
	Close   bool
	Body    string
	Trailer http.Header
	Rest    string // what follows on the connection
}

// readOurs reads a response with our own reader; broken says that the head was
// good and the body was not.
func readOurs(from io.Reader, method string) (got read, broken, err error) {
	c := NewConn(fakeConn{Reader: from}, 64<<10)
	res, err := c.ReadResponse(method)
	if err != nil {
		return read{}, nil, err
	}
	return readWhole(res, c.R)
}

func readTheirs(from io.Reader, method string) (got read, broken, err error) {
	br := bufio.NewReader(from)
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return read{}, nil, err
	}
	return readWhole(res, br)
}

func readWhole(res *http.Response, br *bufio.Reader) (got read, broken, err error) {
	got = read{
		Status: res.StatusCode, Proto: res.Proto, Header: res.Header, Length: res.ContentLength, Close: res.Close,
	}
	body, broken := io.ReadAll(res.Body)
	got.Body, got.Trailer = string(body), res.Trailer
	if broken == nil {
		rest, _ := io.ReadAll(br)
		got.Rest = string(rest)
	}
	return got, broken, nil
}

// same compares what was read, where both were content with it.
func same(tb testing.TB, from string, theirs, ours read) {
	tb.Helper()
	for _, r := range []*read{&theirs, &ours} {
		for _, key := range []string{"Transfer-Encoding", "Trailer", "Connection"} { // of the last net/http keeps less
			delete(r.Header, key) // none is forwarded
		}
		if len(r.Trailer) == 0 {
			r.Trailer = nil
		}
		if r.Status < 200 || r.Status == http.StatusNoContent {
			delete(r.Header, "Content-Length") // it has none, and what says so ends the connection
			r.Close = ours.Close
		}
		if len(r.Header["Content-Length"]) > 1 {
			r.Header["Content-Length"] = r.Header["Content-Length"][:1]
		}
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		tb.Errorf("%q (-net/http +ours):\n%s", from, diff)
	}
}

var answers = []string{
	"HTTP/1.1 200 OK\n\n",
	"HTTP/1.1 200\n\nto the end",
	"HTTP/1.1 200 \nContent-Length: 2\n\nok and more",
	"HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 2\nserver:uvicorn\nDATE:\t x \t\n\nok",
	"HTTP/1.1 200 OK\nContent-Length: 9\n\nshort",
	"HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n2\nok\n0\n\nHTTP/1.1 200 OK\n",
	"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum, x-more\n\n2;ext=1\nok\n0\nx-sum: 1\nX-Other: 2\n\nrest",
	"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\nbad\n\n",
	"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok!\n0\n\n",
	"HTTP/1.0 200 OK\n\nto the end",
	"HTTP/1.0 200 OK\nConnection: Keep-Alive\nContent-Length: 1\n\nx",
	"HTTP/1.1 204 No Content\nContent-Length: 5\n\nhello",
	"HTTP/1.1 304 Not Modified\nContent-Length: 5\n\nhello",
	"HTTP/1.1 103 Early Hints\nLink: a\nLink: b\n\nHTTP/1.1 200 OK\n\n",
	"HTTP/1.1 101 Switching Protocols\nConnection: Upgrade, close\nUpgrade: x\n\nraw",
	"HTTP/1.1 299 \x80dd\nX: caf\xe9\nEmpty:\n\n",
	"HTTP/1.1 200 OK\nX: " + strings.Repeat("long ", 3000) + "\nContent-Length: 2\n\nok",
}

// TestAnswerRead reads what is in order as net/http does, however it comes.
func TestAnswerRead(t *testing.T) {
	t.Parallel()
	for _, answer := range answers {
		answer = strings.ReplaceAll(answer, "\n", "\r\n")
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			theirs, theirsBroken, err := readTheirs(strings.NewReader(answer), method)
			if err != nil {
				t.Fatalf("%q: %v", answer, err)
			}
			for _, from := range []io.Reader{strings.NewReader(answer), iotest.OneByteReader(strings.NewReader(answer)), iotest.DataErrReader(strings.NewReader(answer))} {
				ours, oursBroken, err := readOurs(from, method)
				if err != nil || (oursBroken == nil) != (theirsBroken == nil) {
					t.Errorf("%q: %v, broken %v, for net/http %v", answer, err, oursBroken, theirsBroken)
					continue
				}
				same(t, answer, theirs, ours)
			}
		}
	}
}

// TestAnswerRefused has heads that net/http takes, in part, and we do not.
func TestAnswerRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer string
		want   error
	}{
		{"", io.ErrUnexpectedEOF},
		{"HTTP/1.1 200 OK\r\nX: 1\r\n", io.ErrUnexpectedEOF},
		{"HTTP/1.1 200 OK\nX: 1\n\n", errBareLF},
		{"\r\nHTTP/1.1 200 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\n X: 1\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nX\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\n: 1\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nX: a\x7f\r\n\r\n", errField},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nok", errLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", errAmbiguous},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", errCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", errCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", errCoding},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n", errTrailer},
		{"HTTP/1.2 200 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/2.0 200 OK\r\n\r\n", ErrNotHTTP},
		{"http/1.1 200 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1  200 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 20 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 2000 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 -20 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 099 OK\r\n\r\n", ErrNotHTTP},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", errHeadTooLarge},
	} {
		if _, _, err := readOurs(strings.NewReader(tt.answer), http.MethodGet); !errors.Is(err, tt.want) {
			t.Errorf("%.80q: got %v, want %v", tt.answer, err, tt.want)
		}
	}
	const chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
	for _, trailer := range []string{"", "X: 1\r\n", "X\r\n\r\n", "X: 1\n\n", "Content-Length: 1\r\n\r\n", strings.Repeat("X: 0123456789\r\n", 10000) + "\r\n"} {
		if _, broken, err := readOurs(strings.NewReader(chunks+trailer), http.MethodGet); broken == nil || err != nil {
			t.Errorf("a body with the trailer %.40q: got %v %v", trailer, broken, err)
		}
	}
}

// TestAnswerLeavesNothingBehind reads answers one after the other on one
// connection: none has anything of the one before.
func TestAnswerLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all bytes.Buffer
		var want []read
		for i := range rapid.IntRange(1, 5).Draw(t, "answers") {
			body := strings.Repeat("b", rapid.IntRange(0, 9000).Draw(t, "body"))
			w := read{Status: 210 + i, Proto: "HTTP/1.1", Header: http.Header{}, Length: int64(len(body)), Body: body}
			fmt.Fprintf(&all, "HTTP/1.1 %d Some\r\n", w.Status)
			for range rapid.IntRange(0, 5).Draw(t, "fields") {
				key := fmt.Sprint("X-", rapid.IntRange(0, 5).Draw(t, "key"))
				value := strings.Repeat("v", rapid.IntRange(0, 3000).Draw(t, "value"))
				w.Header[key] = append(w.Header[key], value)
				fmt.Fprintf(&all, "%s: %s\r\n", strings.ToLower(key), value)
			}
			if rapid.Bool().Draw(t, "chunked") {
				w.Length = -1
				fmt.Fprint(&all, "Transfer-Encoding: chunked\r\n\r\n")
				if body != "" {
					fmt.Fprintf(&all, "%x\r\n%s\r\n", len(body), body)
				}
				fmt.Fprint(&all, "0\r\n")
				if rapid.Bool().Draw(t, "trailer") {
					w.Trailer = http.Header{"X-Sum": {"1"}}
					fmt.Fprint(&all, "x-sum: 1\r\n")
				}
				fmt.Fprint(&all, "\r\n")
			} else {
				w.Header["Content-Length"] = []string{fmt.Sprint(len(body))}
				fmt.Fprintf(&all, "Content-Length: %d\r\n\r\n%s", len(body), body)
			}
			want = append(want, w)
		}
		c := NewConn(fakeConn{Reader: &all}, 64<<10)
		var kept []http.Header
		for _, w := range want {
			res, err := c.ReadResponse(http.MethodGet)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := read{Status: res.StatusCode, Proto: res.Proto, Header: res.Header.Clone(), Length: res.ContentLength, Body: string(body), Trailer: res.Trailer}
			if diff := cmp.Diff(w, got); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			passed := http.Header{} // as it is passed on, without copies
			maps.Copy(passed, res.Header)
			kept = append(kept, passed)
		}
		for i, w := range want {
			if diff := cmp.Diff(w.Header, kept[i]); diff != "" {
				t.Fatalf("changed by a later answer (-want +got):\n%s", diff)
			}
		}
	})
}

// FuzzAnswer holds that what we take net/http takes as well, and understands in
// the same way.
func FuzzAnswer(f *testing.F) {
	for _, answer := range answers {
		f.Add([]byte(strings.ReplaceAll(answer, "\n", "\r\n")), false)
		f.Add([]byte(strings.ReplaceAll(answer, "\n", "\r\n")), true)
		f.Add([]byte(answer), false)
	}
	f.Fuzz(func(t *testing.T, answer []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		ours, oursBroken, err := readOurs(bytes.NewReader(answer), method)
		if err != nil {
			return
		}
		theirs, theirsBroken, err := readTheirs(bytes.NewReader(answer), method)
		if err != nil {
			t.Fatalf("%q: we take what net/http does not: %v", answer, err)
		}
		if oursBroken != nil {
			return // which net/http may be content with
		}
		if theirsBroken != nil {
			t.Fatalf("%q: we take a body that net/http does not: %v", answer, theirsBroken)
		}
		same(t, string(answer), theirs, ours)
	})
}
