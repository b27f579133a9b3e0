package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// vector is bytes that somebody may send to the proxy, and what may come of
// them. In send "\n" stands for CR LF, and "␊" and "␍" for a LF and a CR alone.
type vector struct {
	name string
	send string
	// want is the statuses of the answers, in order; "|" parts alternatives
	// and "" stands for a connection closed without a word. After them the
	// proxy has closed the connection.
	want string
	// seen is what reached replicas when every answer is below 400. It is the
	// part before a refused request otherwise. "" is nothing; a request that
	// was broken off is not seen.
	seen   string
	header string // a line of the header that the replica saw, in lower case; "": not looked at
	absent string // what nothing that a replica saw has in it, in lower case
	end    bool   // the client ends its side, because the proxy would wait for more
}

const (
	post    = "POST /app HTTP/1.1\nHost: a\nConnection: close\n"
	fetch   = "GET /app HTTP/1.1\nHost: a\nConnection: close\n"
	chunked = post + "Transfer-Encoding: chunked\n\n"
	next    = "GET /app/smuggled HTTP/1.1\nHost: a\nConnection: close\n\n"
)

func allVectors() []vector {
	return slices.Concat(lengthVectors(), codingVectors(), chunkVectors(), trailerVectors(), fieldVectors(),
		lineVectors(), hostVectors(), pathVectors(), sizeVectors(), pipelineVectors(), expectVectors(), hopVectors())
}

// lengthVectors play with Content-Length.
func lengthVectors() []vector {
	vs := []vector{
		{name: "a length", send: post + "Content-Length: 3\n\nabc", want: "200", seen: "app: POST / abc"},
		{name: "a length between spaces", send: post + "Content-Length: \t 3 \t\n\nabc", want: "200", seen: "app: POST / abc"},
		{name: "a length of nothing on a GET", send: fetch + "Content-Length: 0\n\n", want: "200", seen: "app: GET /"},
		{name: "a length on a GET", send: fetch + "Content-Length: 3\n\nabc", want: "200", seen: "app: GET / abc"},
		{name: "zeros before a length", send: post + "Content-Length: 0003\n\nabc", want: "200|400", seen: "app: POST / abc"},
		{name: "a length that the body does not reach", send: post + "Content-Length: 9\n\nabc", want: "400", end: true},
		{name: "a body that goes on", send: "POST /app HTTP/1.1\nHost: a\nContent-Length: 3\n\nabcdef", want: "200 400|200 ", seen: "app: POST / abc", end: true},
		{name: "two lengths", send: post + "Content-Length: 3\nContent-Length: 4\n\nabcd", want: "400"},
		{name: "one length twice", send: post + "Content-Length: 3\nContent-Length: 3\n\nabc", want: "400"},
		{name: "two lengths in two cases", send: post + "content-length: 3\nCONTENT-LENGTH: 4\n\nabcd", want: "400"},
		{name: "no length and a length", send: post + "Content-Length:\nContent-Length: 3\n\nabc", want: "400"},
	}
	for _, length := range []string{
		"3, 3", "3,4", "+3", "-3", "-0", "3.0", "3e0", "0x3", "1 2", "3;", "\"3\"", "abc", "", "٣", "３", "3\v", "1_0",
		"18446744073709551619", "9223372036854775808", "99999999999999999999999999",
	} {
		vs = append(vs, vector{name: fmt.Sprintf("a length of %q", length), send: post + "Content-Length: " + length + "\n\nabc", want: "400|413"})
	}
	return vs
}

// codingVectors play with Transfer-Encoding.
func codingVectors() []vector {
	const body = "\n3\nabc\n0\n\n"
	vs := []vector{
		{name: "chunked", send: chunked + "3\nabc\n0\n\n", want: "200", seen: "app: POST / abc"},
		{name: "chunked after a tab", send: post + "TRANSFER-ENCODING:\tchunked \n" + body, want: "200", seen: "app: POST / abc"},
		{name: "chunked in capitals", send: post + "Transfer-Encoding: CHUNKED\n" + body, want: "200|400|501", seen: "app: POST / abc"},
		{name: "chunked on a GET", send: fetch + "Transfer-Encoding: chunked\n" + body, want: "200", seen: "app: GET / abc"},
		{name: "a length and chunked", send: post + "Content-Length: 3\nTransfer-Encoding: chunked\n" + body, want: "400"},
		{name: "chunked and a length", send: post + "Transfer-Encoding: chunked\nContent-Length: 3\n" + body, want: "400"},
		{name: "chunked and a length of nothing, and a request in the body", send: post + "Transfer-Encoding: chunked\nContent-Length: 0\n" + body + next, want: "400"},
		{name: "a bad length and chunked", send: post + "Content-Length: x\nTransfer-Encoding: chunked\n" + body, want: "400"},
		{name: "chunked twice", send: post + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n" + body, want: "400|501"},
		{name: "chunked, then identity", send: post + "Transfer-Encoding: chunked\nTransfer-Encoding: identity\n" + body, want: "400|501"},
		{name: "identity and a length", send: post + "Transfer-Encoding: identity\nContent-Length: 3\n\nabc", want: "400|501"},
		{name: "chunked in HTTP/1.0", send: "POST /app HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n" + body, want: "400|501"},
		{name: "chunked and a length in HTTP/1.0", send: "POST /app HTTP/1.0\nHost: a\nConnection: keep-alive\nContent-Length: 3\nTransfer-Encoding: chunked\n" + body + next, want: "400|501"},
		{name: "chunked in a folded line", send: post + "Transfer-Encoding:\n chunked\n" + body, want: "400"},
		{name: "chunked after a bare CR", send: post + "X: y␍Transfer-Encoding: chunked\nContent-Length: 3\n\nabc", want: "400"},
		{name: "chunked after a bare LF", send: post + "X: y␊Transfer-Encoding: chunked\n" + body, want: "400"},
		{name: "chunked with an underscore", send: post + "Transfer_Encoding: chunked\nContent-Length: 3\n\nabc", want: "200|400", seen: "app: POST / abc", absent: "transfer_encoding"},
	}
	for _, coding := range []string{
		"xchunked", "chunkedx", "x, chunked", "chunked, x", "chunked, chunked", "chunked,", ",chunked", "gzip, chunked", "gzip",
		"identity", "identity, chunked", "chunked;q=1", "\"chunked\"", "chunked\v", "chun ked", "", "chunKed\x00", "chunked\x80", "ｃhunked",
	} {
		vs = append(vs, vector{name: fmt.Sprintf("a coding %q", coding), send: post + "Transfer-Encoding: " + coding + "\n" + body, want: "400|501"})
	}
	return vs
}

// chunkVectors play with the framing of chunks.
func chunkVectors() []vector {
	vs := []vector{
		{name: "chunks of every case", send: chunked + "A\n0123456789\nb\n0123456789a\n0\n\n", want: "200", seen: "app: POST / 01234567890123456789a"},
		{name: "zeros before a chunk size", send: chunked + "0003\nabc\n000\n\n", want: "200|400", seen: "app: POST / abc"},
		{name: "a chunk extension", send: chunked + "3;a=b\nabc\n0;c\n\n", want: "200|400", seen: "app: POST / abc"},
		{name: "a quoted chunk extension", send: chunked + "3;a=\"b;c\"\nabc\n0\n\n", want: "200|400", seen: "app: POST / abc"},
		{name: "a bare LF in a chunk extension", send: chunked + "3;a␊abc\n0\n\n", want: "400"},
		{name: "a bare CR in a chunk extension", send: chunked + "3;a␍b\nabc\n0\n\n", want: "400"},
		{name: "a request in a chunk extension", send: chunked + "3;\"␊abc␊0␊␊GET /app/smuggled HTTP/1.1␊Host: a␊␊\"\nabc\n0\n\n", want: "400"},
		{name: "a NUL in a chunk extension", send: chunked + "3;a\x00\nabc\n0\n\n", want: "400"},
		{name: "a chunk extension of 100 kB", send: chunked + "3;" + strings.Repeat("x", 100<<10) + "\nabc\n0\n\n", want: "400|413"},
		{name: "much more framing than data", send: chunked + strings.Repeat("1;"+strings.Repeat("x", 200)+"\na\n", 1000) + "0\n\n", want: "400|413"},
		{name: "a bare LF after a chunk size", send: chunked + "3␊abc\n0\n\n", want: "400"},
		{name: "a bare LF after a chunk size of two digits", send: chunked + "30␊abc\n0\n\n", want: "400"},
		{name: "a bare CR after a chunk size", send: chunked + "3␍abc\n0\n\n", want: "400", end: true},
		{name: "a bare LF after chunk data", send: chunked + "3\nabc␊0\n\n", want: "400", end: true},
		{name: "bare LFs around chunks", send: chunked + "3␊abc␊0␊␊", want: "400", end: true},
		{name: "a bare LF after the last chunk", send: chunked + "3\nabc\n0␊\n", want: "400", end: true},
		{name: "a bare LF at the end", send: chunked + "3\nabc\n0\n␊", want: "400", end: true},
		{name: "more data than the chunk has", send: chunked + "3\nabcd\n0\n\n", want: "400"},
		{name: "less data than the chunk has", send: chunked + "4\nabc\n0\n\n", want: "400", end: true},
		{name: "no CRLF after a chunk", send: chunked + "3\nabc3\nabc\n0\n\n", want: "400"},
		{name: "no last chunk", send: chunked + "3\nabc\n", want: "400", end: true},
		{name: "no end after the last chunk", send: chunked + "3\nabc\n0\n", want: "400", end: true},
		{name: "a request where the end belongs", send: chunked + "3\nabc\n0\n" + next, want: "400"},
		{name: "an empty line among chunks", send: chunked + "3\nabc\n\n0\n\n", want: "400"},
	}
	for _, size := range []string{
		"0x3", "+3", "-3", " 3", "\t3", "3 ", "3\t", "3 ;a", "3,", "3.", "", ";a", "g", "3 3", "３", "\x003", "3\x00",
		"10000000000000003", "ffffffffffffffff", "fffffffffffffffd", "8000000000000003", "100000000000000000000000000000003",
	} {
		want, seen := "400|413", ""
		if size == "3 " || size == "3\t" || size == "3 ;a" {
			want, seen = "200|400", "app: POST / abc" // space that old servers put there
		}
		vs = append(vs, vector{name: fmt.Sprintf("a chunk size of %q", size), send: chunked + size + "\nabc\n0\n\n", want: want, seen: seen, end: true})
	}
	return vs
}

// trailerVectors play with what follows the last chunk.
func trailerVectors() []vector {
	vs := []vector{
		{name: "a trailer", send: post + "Transfer-Encoding: chunked\nTrailer: X-Sum\n\n3\nabc\n0\nX-Sum: 1\n\n", want: "200", seen: "app: POST / abc"},
		{name: "a trailer that nobody announced", send: chunked + "3\nabc\n0\nX-Sum: 1\n\n", want: "200", seen: "app: POST / abc"},
		{name: "a trailer with a space before the colon", send: chunked + "3\nabc\n0\nX-Sum : 1\n\n", want: "400"},
		{name: "a trailer Content-Length with a space", send: chunked + "3\nabc\n0\nContent-Length : 77\n\n", want: "400", absent: " : 77"},
		{name: "a trailer Transfer-Encoding with a space", send: chunked + "3\nabc\n0\nTransfer-Encoding : 77\n\n", want: "400", absent: " : 77"},
		{name: "a trailer without a colon", send: chunked + "3\nabc\n0\nsum\n\n", want: "400"},
		{name: "a folded trailer", send: chunked + "3\nabc\n0\nX-Sum: 1\n 2\n\n", want: "400"},
		{name: "a trailer that ends in a bare LF", send: chunked + "3\nabc\n0\nX-Sum: 1␊\n", want: "400", end: true},
		{name: "a NUL in a trailer", send: chunked + "3\nabc\n0\nX-Sum: \x00\n\n", want: "400"},
		{name: "a bare CR in a trailer", send: chunked + "3\nabc\n0\nX-Sum: a␍b\n\n", want: "400"},
		{name: "trailers of 200 kB", send: chunked + "3\nabc\n0\n" + strings.Repeat("X-Sum: 1234567890\n", 200<<10/19) + "\n", want: "400|413|431", end: true},
	}
	for _, name := range []string{
		"Content-Length", "Transfer-Encoding", "Host", "Connection", "Trailer", "Content_Length", "X-Forwarded-For",
		"X-Request-Id", "X-Serve-Priority", "Te", "Upgrade", "Expect", "Authorization",
	} {
		v := vector{
			name: "a trailer " + name, send: post + "Transfer-Encoding: chunked\nTrailer: " + name + "\n\n3\nabc\n0\n" + name + ": 77\n\n",
			want: "200|400", seen: "app: POST / abc", absent: strings.ToLower(name) + ": 77",
		}
		if name == "Authorization" {
			v.absent = "" // not framing; servers keep trailers apart
		}
		vs = append(vs, v)
	}
	return vs
}

// fieldVectors play with header lines.
func fieldVectors() []vector {
	vs := []vector{
		{name: "a tab and bytes above 127 in a value", send: fetch + "X: a\tb\xe4\n\n", want: "200", seen: "app: GET /", header: "x: a\tb\xe4"},
		{name: "an empty value", send: fetch + "X:\n\n", want: "200", seen: "app: GET /"},
		{name: "a folded line", send: fetch + "X: a\n b\n\n", want: "400"},
		{name: "a line folded by a tab", send: fetch + "X: a\n\tb\n\n", want: "400"},
		{name: "an empty folded line", send: fetch + "X: a\n \n\n", want: "400"},
		{name: "a folded length", send: post + "Content-Length: 1\n 3\n\nabc", want: "400"},
		{name: "a first line that begins with a space", send: "GET /app HTTP/1.1\n Host: a\nHost: b\n\n", want: "400"},
		{name: "a line that ends in a bare LF", send: "GET /app HTTP/1.1\nHost: a␊X: b\nConnection: close\n\n", want: "400"},
		{name: "lines that end in bare LFs", send: "GET /app HTTP/1.1␊Host: a␊Connection: close␊␊", want: "400"},
		{name: "a header that ends in a bare LF", send: "GET /app HTTP/1.1\nHost: a\nConnection: close\n␊", want: "400"},
		{name: "a bare CR in a value", send: fetch + "X: a␍b\n\n", want: "400"},
		{name: "a CR too many", send: fetch + "X: a␍\n\n", want: "400"},
		{name: "lines that end in bare CRs", send: "GET /app HTTP/1.1␍Host: a␍␍", want: "400", end: true},
		{name: "a request after bare CRs in a value", send: fetch + "X: a␍␍GET /app/smuggled HTTP/1.1␍Host: a␍␍\n\n", want: "400"},
		{name: "no colon", send: fetch + "X\n\n", want: "400"},
		{name: "a colon alone", send: fetch + ": x\n\n", want: "400"},
		{name: "a NUL in the request line", send: "GET /app\x00 HTTP/1.1\nHost: a\n\n", want: "400"},
	}
	for _, b := range []byte{0, 1, 8, 0x0b, 0x0c, 0x1b, 0x7f} {
		vs = append(vs,
			vector{name: fmt.Sprintf("byte %#02x in a value", b), send: fetch + "X: a" + string([]byte{b}) + "b\n\n", want: "400"},
			vector{name: fmt.Sprintf("byte %#02x in a name", b), send: fetch + "X" + string([]byte{b}) + "Y: a\n\n", want: "400"},
		)
	}
	for _, name := range []string{"Content-Length ", "Content-Length\t", "Transfer-Encoding ", "Host ", "X ", "(X)", "X Y", "X,Y", "X\"", "X/Y", "[X]", "Ä", "\xc4", "X@Y", "X;Y", "{X}"} {
		vs = append(vs, vector{name: fmt.Sprintf("a header named %q", name), send: fetch + name + ": 3\n\nabc", want: "400"})
	}
	return vs
}

// lineVectors play with the request line.
func lineVectors() []vector {
	vs := []vector{
		{name: "a method in small letters is another method", send: "get /app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200|400|405|501", seen: "app: get /"},
		{name: "a method that nobody knows", send: "BREW /app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200", seen: "app: BREW /"},
		{name: "an empty line first", send: "\n" + fetch + "\n", want: "200|400", seen: "app: GET /"},
		{name: "HTTP/0.9", send: "GET /app\n", want: "400|505|", end: true},
		{name: "HTTP/0.9 with a bare LF", send: "GET /app␊", want: "400|505|", end: true},
		{name: "HTTP/1.0", send: "GET /app HTTP/1.0\n\n", want: "200", seen: "app: GET /"},
		{name: "HTTP/1.0 kept alive", send: "GET /app/1 HTTP/1.0\nConnection: keep-alive\n\nGET /app/2 HTTP/1.0\nHost: a\n\n", want: "200 200", seen: "app: GET /1, app: GET /2"},
		{name: "HTTP/1.0 is not kept alive unasked", send: "GET /app/1 HTTP/1.0\nHost: a\n\n" + next, want: "200", seen: "app: GET /1"},
		{name: "nothing", send: "", want: "", end: true},
		{name: "the beginning of TLS", send: "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("\x00", 100) + "\n\n", want: "400|"},
		{name: "an HTTP/2 preface that goes wrong", send: "PRI * HTTP/2.0\n\nXX\n\n", want: "400|505|", end: true},
		{name: "an HTTP/2 preface with a header", send: "PRI * HTTP/2.0\nHost: a\n\nSM\n\n", want: "400|505||400 400", end: true},
	}
	for _, version := range []string{"HTTP/1.2", "HTTP/1.9"} {
		vs = append(vs, vector{name: "version " + version, send: "GET /app " + version + "\nHost: a\nConnection: close\n\n", want: "200|400|505", seen: "app: GET /"})
	}
	for _, version := range []string{"HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "http/1.1", "HTP/1.1", "HTTP/1.1 x", "HTTP/ 1.1", "HTTP/1.1\t", "HTTP/-1.1", "HTTP/1.x", "ICY/1.1", "HTTPS/1.1"} {
		vs = append(vs, vector{name: fmt.Sprintf("version %q", version), send: "GET /app " + version + "\nHost: a\nConnection: close\n\n", want: "400|505"})
	}
	for _, line := range []string{" GET /app HTTP/1.1", "GET  /app HTTP/1.1", "GET /app  HTTP/1.1", "GET /app HTTP/1.1 ", "GET\t/app\tHTTP/1.1", "GET /app\vHTTP/1.1", "GET /app x HTTP/1.1", "GET", "GET ", " ", "/app HTTP/1.1", "GE(T /app HTTP/1.1", "GET: /app HTTP/1.1", "GÄT /app HTTP/1.1", "GET\x00 /app HTTP/1.1"} {
		vs = append(vs, vector{name: fmt.Sprintf("request line %q", line), send: line + "\nHost: a\nConnection: close\n\n", want: "400"})
	}
	return vs
}

// hostVectors play with Host and with the forms of the request's target.
func hostVectors() []vector {
	vs := []vector{
		{name: "a host with a port", send: "GET /app HTTP/1.1\nhOST: a.b:80\nConnection: close\n\n", want: "200", seen: "app: GET /", header: "host: a.b:80"},
		{name: "no host", send: "GET /app HTTP/1.1\nConnection: close\n\n", want: "400"},
		{name: "two hosts", send: "GET /app HTTP/1.1\nHost: a\nHost: b\n\n", want: "400"},
		{name: "one host twice", send: "GET /app HTTP/1.1\nHost: a\nhost: a\n\n", want: "400"},
		{name: "no host in HTTP/1.0", send: "GET /app HTTP/1.0\n\n", want: "200", seen: "app: GET /"},
		{name: "two hosts in HTTP/1.0", send: "GET /app HTTP/1.0\nHost: a\nHost: b\n\n", want: "400"},
		{name: "a folded host", send: "GET /app HTTP/1.1\nConnection: close\nHost:\n a\n\n", want: "400"},
		{name: "a host and one behind a bare LF", send: "GET /app HTTP/1.1\nHost: a␊Host: b\n\n", want: "400"},
		{name: "an empty host", send: "GET /app HTTP/1.1\nHost:\nConnection: close\n\n", want: "200|400", seen: "app: GET /"},
		{name: "an absolute target", send: "GET http://a/app/x HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200", seen: "app: GET /x", header: "host: a"},
		{name: "an absolute target against the host", send: "GET http://evil/app/x HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "an absolute target against the host's port", send: "GET http://a:81/app/x HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "an absolute target and no host", send: "GET http://a/app/x HTTP/1.1\nConnection: close\n\n", want: "400"},
		{name: "an absolute target with a user", send: "GET http://u@a/app/x HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "an absolute target without a path", send: "GET http://a HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400|404"},
		{name: "an absolute target without a host", send: "GET http:///app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "an absolute target of another scheme", send: "GET ftp://a/app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "an absolute target with dots", send: "GET http://a/x/../app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "a star with GET", send: "GET * HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "a star with OPTIONS", send: "OPTIONS * HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200|400|404"},
		{name: "an authority with GET", send: "GET a:80 HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "a tunnel", send: "CONNECT a:80 HTTP/1.1\nHost: a:80\nConnection: close\n\n", want: "400|405|501"},
		{name: "a tunnel to a path", send: "CONNECT /app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400|405|501"},
		{name: "a path without a slash", send: "GET app HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
		{name: "a scheme in place of a path", send: "GET app:x/y HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"},
	}
	for _, host := range []string{"a b", "a/b", "a@b", "a\x00", "a\tb", "a?b", "a#b", "a\\b", "a\x80", "ä", "<a>", "a\"", "a, b"} {
		want, seen := "400", ""
		if host == "a, b" { // a comma is allowed in a name, a space is not
			want = "400"
		}
		vs = append(vs, vector{name: fmt.Sprintf("a host %q", host), send: "GET /app HTTP/1.1\nHost: " + host + "\nConnection: close\n\n", want: want, seen: seen})
	}
	return vs
}
