package h1

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestRefused holds what never reaches the handler.
func TestRefused(t *testing.T) {
	t.Parallel()
	served := make(chan string, 100)
	_, addr := serveTCP(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { served <- r.URL.Path }))
	long := strings.Repeat("a", 70<<10)
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"Content-Length and Transfer-Encoding", "POST / HTTP/1.1\nHost: a\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n", 400},
		{"the other way round", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 3\n\n0\n\n", 400},
		{"two lengths", "POST / HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 4\n\nabcd", 400},
		{"two lengths that agree", "POST / HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 3\n\nabc", 400},
		{"a list of lengths", "POST / HTTP/1.1\nHost: a\nContent-Length: 3, 3\n\nabc", 400},
		{"a signed length", "POST / HTTP/1.1\nHost: a\nContent-Length: +3\n\nabc", 400},
		{"a negative length", "POST / HTTP/1.1\nHost: a\nContent-Length: -1\n\n", 400},
		{"a hexadecimal length", "POST / HTTP/1.1\nHost: a\nContent-Length: 0x3\n\nabc", 400},
		{"an empty length", "POST / HTTP/1.1\nHost: a\nContent-Length:\n\n", 400},
		{"a huge length", "POST / HTTP/1.1\nHost: a\nContent-Length: 18446744073709551617\n\n", 400},
		{"a length with a blank", "POST / HTTP/1.1\nHost: a\nContent-Length: 1 0\n\n", 400},
		{"another coding", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\n\n", 400},
		{"two codings", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n0\n\n", 400},
		{"chunked twice", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 400},
		{"chunked, chunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked\n\n0\n\n", 400},
		{"identity", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: identity\n\n", 400},
		{"Chunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\n\n0\n\n", 400},
		{"xchunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n0\n\n", 400},
		{"a vertical tab before chunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \vchunked\n\n0\n\n", 400},
		{"an empty coding", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding:\n\n0\n\n", 400},
		{"a coding in HTTP/1.0", "POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n", 400},
		{"a folded header", "GET / HTTP/1.1\nHost: a\nX-A: 1\n 2\n\n", 400},
		{"a header folded with a tab", "GET / HTTP/1.1\nHost: a\nX-A: 1\n\t2\n\n", 400},
		{"a fold before the first header", "GET / HTTP/1.1\n Host: a\n\n", 400},
		{"a bare LF after the request line", "GET / HTTP/1.1\x00Host: a\n\n", 400},
		{"a bare LF after a header", "GET / HTTP/1.1\nHost: a\x00X: b\n\n", 400},
		{"a bare LF at the end", "GET / HTTP/1.1\nHost: a\n\x00", 400},
		{"a bare CR in a header", "GET / HTTP/1.1\nHost: a\nX: b\x01c\n\n", 400},
		{"a bare CR in the request line", "GET /\x01 HTTP/1.1\nHost: a\n\n", 400},
		{"two CRs", "GET / HTTP/1.1\x01\nHost: a\n\n", 400},
		{"NUL in a value", "GET / HTTP/1.1\nHost: a\nX: b\x02c\n\n", 400},
		{"DEL in a value", "GET / HTTP/1.1\nHost: a\nX: b\x7fc\n\n", 400},
		{"a bell in a value", "GET / HTTP/1.1\nHost: a\nX: b\ac\n\n", 400},
		{"a blank before the colon", "GET / HTTP/1.1\nHost: a\nX : b\n\n", 400},
		{"a tab before the colon", "GET / HTTP/1.1\nHost: a\nX\t: b\n\n", 400},
		{"no name", "GET / HTTP/1.1\nHost: a\n: b\n\n", 400},
		{"no colon", "GET / HTTP/1.1\nHost: a\nX\n\n", 400},
		{"a name in quotes", "GET / HTTP/1.1\nHost: a\n\"X\": b\n\n", 400},
		{"a name beyond ASCII", "GET / HTTP/1.1\nHost: a\nX\xe9: b\n\n", 400},
		{"no Host", "GET / HTTP/1.1\n\n", 400},
		{"two Hosts", "GET / HTTP/1.1\nHost: a\nHost: b\n\n", 400},
		{"two Hosts that agree", "GET / HTTP/1.1\nHost: a\nHost: a\n\n", 400},
		{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\nHost: a\nHost: a\n\n", 400},
		{"a Host with a path", "GET / HTTP/1.1\nHost: a/b\n\n", 400},
		{"a Host with a user", "GET / HTTP/1.1\nHost: u@a\n\n", 400},
		{"a Host with a blank", "GET / HTTP/1.1\nHost: a b\n\n", 400},
		{"a target of another host", "GET http://evil/x HTTP/1.1\nHost: a\n\n", 400},
		{"a target without Host", "GET http://a/x HTTP/1.1\n\n", 400},
		{"a target with a user", "GET http://u@a/x HTTP/1.1\nHost: a\n\n", 400},
		{"a target without a host", "GET http:///x HTTP/1.1\nHost: a\n\n", 400},
		{"a target of another scheme", "GET ftp://a/x HTTP/1.1\nHost: a\n\n", 400},
		{"a target without a slash", "GET x HTTP/1.1\nHost: a\n\n", 400},
		{"a star for GET", "GET * HTTP/1.1\nHost: a\n\n", 400},
		{"a target with a fragment", "GET /#x HTTP/1.1\nHost: a\n\n", 400},
		{"a target beyond ASCII", "GET /\xc3\xa9 HTTP/1.1\nHost: a\n\n", 400},
		{"a target with NUL", "GET /\x02 HTTP/1.1\nHost: a\n\n", 400},
		{"a target with a broken escape", "GET /%zz HTTP/1.1\nHost: a\n\n", 400},
		{"no target", "GET  HTTP/1.1\nHost: a\n\n", 400},
		{"CONNECT of a path", "CONNECT a/x HTTP/1.1\nHost: a\n\n", 400},
		{"CONNECT of another host", "CONNECT b:1 HTTP/1.1\nHost: a\n\n", 400},
		{"two blanks in the request line", "GET  / HTTP/1.1\nHost: a\n\n", 400},
		{"a tab in the request line", "GET\t/ HTTP/1.1\nHost: a\n\n", 400},
		{"a blank after the version", "GET / HTTP/1.1 \nHost: a\n\n", 400},
		{"a method in parentheses", "(GET) / HTTP/1.1\nHost: a\n\n", 400},
		{"no method", " / HTTP/1.1\nHost: a\n\n", 400},
		{"an empty first line", "\nGET / HTTP/1.1\nHost: a\n\n", 400},
		{"HTTP/0.9", "GET /\n", 400},
		{"HTTP/0.9 by name", "GET / HTTP/0.9\n\n", 505},
		{"HTTP/1.2", "GET / HTTP/1.2\nHost: a\n\n", 505},
		{"HTTP/2.0", "GET / HTTP/2.0\nHost: a\n\n", 505},
		{"the preface, which nobody takes", "PRI * HTTP/2.0\n\nSM\n\n", 505},
		{"http/1.1", "GET / http/1.1\nHost: a\n\n", 400},
		{"HTTP/1.1x", "GET / HTTP/1.1x\nHost: a\n\n", 400},
		{"HTTP/01.1", "GET / HTTP/01.1\nHost: a\n\n", 400},
		{"TLS to a port that has none", "\x16\x03\x02\x02", 400},
		{"a header that is too large", "GET / HTTP/1.1\nHost: a\nX: " + long + "\n\n", 431},
		{"a header that is too large and has no end", "GET / HTTP/1.1\nHost: a\nX: " + long, 431},
		{"a thousand headers and one", "GET / HTTP/1.1\nHost: a\n" + strings.Repeat("X:b\n", maxFields+1) + "\n", 431},
		{"many headers", "GET / HTTP/1.1\nHost: a\n" + strings.Repeat("X: b\n", 12<<10) + "\n", 431},
		{"a target that is too long", "GET /" + long + " HTTP/1.1\nHost: a\n\n", 414},
		{"a target that has no end", "GET /" + long, 414},
		{"another expectation", "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: cake\n\n", 417},
		{"two expectations", "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 100-continue\nExpect: cake\n\n", 417},
		{"a trailer that frames", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: Content-Length\n\n0\n\n", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw := strings.NewReplacer("\n", "\r\n", "\x00", "\n", "\x01", "\r", "\x02", "\x00").Replace(tt.request)
			got, rest := answers(talk(t, addr, raw+"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
			if len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("HTTP/1.1 %d close=true", tt.status)) || rest != "" {
				t.Errorf("got %q and then %q", got, rest)
			}
			select {
			case path := <-served:
				t.Errorf("the handler got %q", path)
			default:
			}
		})
	}
}

// TestBrokenChunks has bodies whose handler must see an error, and whose
// connection must not be used again.
func TestBrokenChunks(t *testing.T) {
	t.Parallel()
	type result struct {
		body string
		err  error
	}
	read := make(chan result, 1)
	_, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		read <- result{string(b), err}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	for name, body := range map[string]string{
		"a sign":                            "+5\nhello\n0\n\n",
		"a minus":                           "-5\nhello\n0\n\n",
		"0x":                                "0x5\nhello\n0\n\n",
		"a size that is too long":           "0000000000000005\nhello\n0\n\n",
		"a size that wraps":                 "ffffffffffffffff5\nhello\n0\n\n",
		"no size":                           "\nhello\n0\n\n",
		"a blank before the size":           " 5\nhello\n0\n\n",
		"a blank after the size":            "5 \nhello\n0\n\n",
		"a tab after the size":              "5\t\nhello\n0\n\n",
		"a word":                            "five\nhello\n0\n\n",
		"an underscore":                     "1_0\nhello\n0\n\n",
		"no CRLF after the chunk":           "5\nhello0\n\n",
		"more after the chunk":              "5\nhello!\n0\n\n",
		"a bare LF after the size":          "5\x00hello\n0\n\n",
		"a bare LF after the chunk":         "5\nhello\x000\n\n",
		"a bare CR after the size":          "5\x01hello\n0\n\n",
		"a NUL in an extension":             "5;a=\x02\nhello\n0\n\n",
		"an LF in an extension":             "5;a\x00b\nhello\n0\n\n",
		"a CR in an extension":              "5;a\x01b\nhello\n0\n\n",
		"an extension without a name":       "5;\nhello\n0\n\n",
		"an extension without a value":      "5;a=\nhello\n0\n\n",
		"an extension with a blank":         "5; a=b\nhello\n0\n\n",
		"an extension that is not ended":    "5;a=\"b\nhello\n0\n\n",
		"an extension that is too long":     "5;a=" + strings.Repeat("b", 600) + "\nhello\n0\n\n",
		"many extensions":                   strings.Repeat("1;a="+strings.Repeat("b", 400)+"\nx\n", 50) + "0\n\n",
		"a folded trailer":                  "5\nhello\n0\nX: a\n b\n\n",
		"a trailer with a bare LF":          "5\nhello\n0\nX: a\x00\n",
		"a trailer with NUL":                "5\nhello\n0\nX: \x02\n\n",
		"a trailer without a colon":         "5\nhello\n0\nX\n\n",
		"a trailer with a length":           "5\nhello\n0\nContent-Length: 5\n\n",
		"a trailer with a coding":           "5\nhello\n0\nTransfer-Encoding: chunked\n\n",
		"a trailer that is too large":       "5\nhello\n0\nX: " + strings.Repeat("b", 5<<10) + "\n\n",
		"an end without an empty line, EOF": "5\nhello\n0\n",
		"an end too soon":                   "5\nhel",
	} {
		raw := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.NewReplacer("\n", "\r\n", "\x00", "\n", "\x01", "\r", "\x02", "\x00").Replace(body)
		if !strings.Contains(name, "EOF") && !strings.Contains(name, "too soon") {
			raw += "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
		}
		got, _ := answers(talk(t, addr, raw))
		if r := <-read; r.err == nil {
			t.Errorf("%s: the handler got %q", name, r.body)
		}
		if len(got) != 1 {
			t.Errorf("%s: got %q", name, got)
		}
		select {
		case r := <-read:
			t.Errorf("%s: a second request: %v", name, r)
		default:
		}
	}
}

// TestTaken holds what must be served although it is near to what is not.
func TestTaken(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s|%s|%s|%d|%s|%v|%v|%v", r.Method, r.RequestURI, r.URL, r.Host, r.Header.Get("X"), r.ContentLength, b, r.Trailer, r.Close, err)
	}))
	for name, tt := range map[string]struct{ request, want string }{
		"plain":              {"GET /x HTTP/1.1\nHost: a\n\n", "GET /x /x|a||0||map[]|false|<nil>"},
		"an empty Host":      {"GET / HTTP/1.1\nHost:\n\n", "GET / /|||0||map[]|false|<nil>"},
		"absolute":           {"GET http://A:1/x?y HTTP/1.1\nHost: a:1\n\n", "GET http://A:1/x?y http://A:1/x?y|A:1||0||map[]|false|<nil>"},
		"blanks around":      {"GET / HTTP/1.1\nHost: a\nX: \t v w\t \n\n", "GET / /|a|v w|0||map[]|false|<nil>"},
		"obs-text":           {"GET / HTTP/1.1\nHost: a\nX: \xff\n\n", "GET / /|a|\xff|0||map[]|false|<nil>"},
		"no blank":           {"GET / HTTP/1.1\nhost:a\nx:b\n\n", "GET / /|a|b|0||map[]|false|<nil>"},
		"a zero before":      {"POST / HTTP/1.1\nHost: a\nContent-Length: 03\n\nabc", "POST / /|a||3|abc|map[]|false|<nil>"},
		"chunks":             {"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nabc\nA\n0123456789\n0\n\n", "POST / /|a||-1|abc0123456789|map[]|false|<nil>"},
		"extensions":         {"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3;a;b=c;d=\"e\\\"f\"\nabc\n0;x\n\n", "POST / /|a||-1|abc|map[]|false|<nil>"},
		"a trailer":          {"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: T\n\n3\nabc\n0\nT: 1\nU: 2\n\n", "POST / /|a||-1|abc|map[T:[1] U:[2]]|false|<nil>"},
		"escapes":            {"GET /a%2fb/%e9?q=%zz HTTP/1.1\nHost: a\n\n", "GET /a%2fb/%e9?q=%zz /a%2fb/%e9?q=%zz|a||0||map[]|false|<nil>"},
		"two slashes":        {"GET //b/c HTTP/1.1\nHost: a\n\n", "GET //b/c //b/c|a||0||map[]|false|<nil>"},
		"HTTP/1.0":           {"GET / HTTP/1.0\n\n", "GET / /|||0||map[]|true|<nil>"},
		"another method":     {"BREW / HTTP/1.1\nHost: a\n\n", "BREW / /|a||0||map[]|false|<nil>"},
		"CONNECT":            {"CONNECT a:1 HTTP/1.1\nHost: a:1\n\n", "CONNECT a:1 //a:1|a:1||0||map[]|false|<nil>"},
		"a query of nothing": {"GET /? HTTP/1.1\nHost: a\n\n", "GET /? /?|a||0||map[]|false|<nil>"},
	} {
		got, _ := answers(talk(t, addr, strings.ReplaceAll(tt.request, "\n", "\r\n")))
		if len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf("%q", tt.want)) {
			t.Errorf("%s: got %s\nwant %q", name, got, tt.want)
		}
	}
}
