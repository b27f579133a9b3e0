package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/routes"
)

// clients are one of each protocol.
func clients(tb testing.TB, r *rig) map[string]*http.Client {
	tb.Helper()
	return map[string]*http.Client{"HTTP/1.1": r.client, "HTTP/2": h2Client(tb)}
}

// TestBrokenAnswerIsAnError has a replica send what turns out to be broken
// before anything of it has been passed on.
func TestBrokenAnswerIsAnError(t *testing.T) {
	t.Parallel()
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for name, answer := range map[string]string{
		"a bad chunk":            chunked + "zz\r\nhalf\r\n",
		"a bad chunk later":      chunked + "4\r\nhalf\r\nzz\r\nhalf\r\n",
		"a chunk too long":       chunked + "2\r\nhalf\r\n",
		"a bad trailer":          chunked + "4\r\nhalf\r\n0\r\nX-Bad\r\n\r\n",
		"less than its length":   "Content-Length: 100\r\n\r\nhalf",
		"nothing of its length":  "Content-Length: 100\r\n\r\n",
		"a header that is large": "Content-Length: 100\r\nX-Large: " + strings.Repeat("x", 10_000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				if _, _, ok := readRequest(br); ok {
					fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nX-A: 1\r\nTrailer: X-B\r\n"+answer)
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			for protocol, client := range clients(t, r) {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					res, _ := do(t, client, method, r.url+"/app", strings.NewReader("x"))
					if res.StatusCode != http.StatusBadGateway || res.Header.Get(errorHeader) != codeBadResponse || res.Header.Get("X-A") != "" || len(res.Trailer) > 0 {
						t.Errorf("%s, %s: got %d %v", protocol, method, res.StatusCode, res.Header)
					}
				}
			}
			r.waitIdle(t)
		})
	}
}

// TestHeaderOfAStreamComesAtOnce has a replica send the header of a stream with
// all sorts of beginnings behind it, and nothing more until the client has it.
func TestHeaderOfAStreamComesAtOnce(t *testing.T) {
	t.Parallel()
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct{ head, rest string }{
		{chunked, "4\r\nbody\r\n0\r\n\r\n"},
		{chunked + "4", "\r\nbody\r\n0\r\n\r\n"},
		{chunked + "4\r", "\nbody\r\n0\r\n\r\n"},
		{chunked + "4\r\n", "body\r\n0\r\n\r\n"},
		{chunked + "4\r\nb", "ody\r\n0\r\n\r\n"},
		{chunked + "2\r\nbo\r\n", "2\r\ndy\r\n0\r\n\r\n"},
		{chunked + "2\r\nbo\r\n2\r\nd", "y\r\n0\r\n\r\n"},
		{chunked + "4\r\nbody\r\n0\r\n", "\r\n"},
		{chunked + "4\r\nbody\r\n0\r\nX-A", ": 1\r\n\r\n"},
		{"Connection: close\r\n\r\n", "body"},
		{"Connection: close\r\n\r\nb", "ody"},
	} {
		t.Run(fmt.Sprintf("%q", tt.head), func(t *testing.T) {
			t.Parallel()
			seen := make(chan struct{}, 1)
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				for {
					if _, _, ok := readRequest(br); !ok {
						return
					}
					fmt.Fprint(nc, "HTTP/1.1 200 OK\r\n"+tt.head)
					<-seen
					fmt.Fprint(nc, tt.rest)
					if strings.HasPrefix(tt.head, "Connection") {
						return
					}
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			for protocol, client := range clients(t, r) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(req)
				seen <- struct{}{}
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(body) != "body" {
					t.Errorf("%s: got %q, %v", protocol, body, err)
				}
			}
		})
	}
}

// hinted makes a request, and returns the 1xx responses before the last, and that.
func hinted(tb testing.TB, client *http.Client, method, url string) (hints []string, res *http.Response) {
	tb.Helper()
	ctx := httptrace.WithClientTrace(tb.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h["Link"], h["Content-Length"], h["X-Serve-Error"]))
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("body"))
	if err != nil {
		tb.Fatal(err)
	}
	res, _ = send(tb, client, req)
	return hints, res
}

// TestHintsOfHTTP2 has a replica that speaks HTTP/2 send 1xx responses.
func TestHintsOfHTTP2(t *testing.T) {
	t.Parallel()
	inform := func(f *http2.Framer, stream uint32, fields ...string) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(fields...), EndHeaders: true})
	}
	many := func(n int) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("103 [%d] [] []", i)
		}
		return all
	}
	for name, tt := range map[string]struct {
		hints  int
		want   []string
		status int
	}{
		"none":     {0, nil, 204},
		"some":     {2, many(2), 204},
		"as many":  {16, many(16), 204},
		"too many": {17, many(16), 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := framed(t, func(f *http2.Framer, stream uint32, _ int) {
				for i := range tt.hints {
					inform(f, stream, ":status", "103", "link", fmt.Sprint(i), "content-length", "5", "x-serve-error", "queue-full")
				}
				answerH2(f, stream, ":status", "204")
			})
			r := start(t, speaking(routes.ProtocolH2C, app{ongoing: 1, queued: -1, addresses: []string{address}}))
			for protocol, client := range clients(t, r) {
				hints, res := hinted(t, client, http.MethodPost, r.url+"/app")
				if diff := cmp.Diff(tt.want, hints); diff != "" || res.StatusCode != tt.status || res.Header.Get("Link") != "" {
					t.Errorf("%s: %d %v\n%s", protocol, res.StatusCode, res.Header, diff)
				}
			}
			r.waitIdle(t)
		})
	}
	t.Run("100", func(t *testing.T) {
		t.Parallel()
		address := framed(t, func(f *http2.Framer, stream uint32, _ int) {
			inform(f, stream, ":status", "100")
			answerH2(f, stream, ":status", "204")
		})
		r := start(t, speaking(routes.ProtocolH2C, app{ongoing: 1, queued: -1, addresses: []string{address}}))
		for _, minor := range []int{0, 1} {
			nc := dial(t, r.addr)
			fmt.Fprintf(nc, "GET /app HTTP/1.%d\r\nHost: a\r\n\r\n", minor)
			line, err := bufio.NewReader(nc).ReadString('\n')
			if err != nil || !strings.Contains(line, " 204 ") {
				t.Errorf("HTTP/1.%d: the first line is %q, %v", minor, line, err)
			}
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		t.Parallel()
		address := framed(t, func(f *http2.Framer, stream uint32, _ int) {
			inform(f, stream, ":status", "103", "link", "a")
			answerH2(f, stream, ":status", "204")
		})
		r := start(t, speaking(routes.ProtocolH2C, app{ongoing: 1, queued: -1, addresses: []string{address}}))
		if res, _ := rawRequest(t, r.addr, "GET /app HTTP/1.0\nHost: a\n\n"); res.StatusCode != http.StatusNoContent {
			t.Errorf("got %d", res.StatusCode)
		}
	})
}

// TestUpgradeRequired has a replica ask for another protocol.
func TestUpgradeRequired(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "upgrade, X-Hop")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("X-Hop", "1")
		w.WriteHeader(map[bool]int{true: http.StatusUpgradeRequired, false: http.StatusOK}[r.URL.Path == "/ws"])
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	for protocol, client := range clients(t, r) {
		for path, want := range map[string]string{"/app/ws": "426 [websocket] [upgrade] []", "/app/other": "200 [] [] []"} {
			if protocol == "HTTP/2" {
				want = want[:3] + " [] [] []"
			}
			res, _ := get(t, client, r.url+path)
			if got := fmt.Sprint(res.StatusCode, res.Header["Upgrade"], " ", res.Header["Connection"], " ", res.Header["X-Hop"]); got != want {
				t.Errorf("%s, %s: got %q, want %q", protocol, path, got, want)
			}
		}
	}
}

// TestTEIsOfTheConnection holds that a replica is told that trailers are welcome,
// with the option that says whose word it is.
func TestTEIsOfTheConnection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ sent, want string }{
		{"Te: trailers\n", "[trailers] [TE]"},
		{"Te: gzip, trailers\nConnection: TE, X-A\n", "[trailers] [TE]"},
		{"Te: gzip\nConnection: TE\n", "[] []"},
		{"", "[] []"},
		{"Te: trailers\nConnection: TE, Upgrade\nUpgrade: websocket\n", "[] [Upgrade]"},
	} {
		address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
			if r, _, ok := readRequest(br); ok {
				body := fmt.Sprint(r.Header["Te"], " ", r.Header["Connection"])
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		if _, body := rawRequest(t, r.addr, "GET /app HTTP/1.1\nHost: a\n"+tt.sent+"\n"); body != tt.want {
			t.Errorf("%q: the replica saw %s, want %s", tt.sent, body, tt.want)
		}
	}
}
