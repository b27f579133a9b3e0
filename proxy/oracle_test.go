package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// oracle is httputil.ReverseProxy, told to do what the proxy promises.
func oracle(tb testing.TB, address string) *httptest.Server {
	tb.Helper()
	to, err := url.Parse("http://" + address)
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1000}
	rp := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/app")
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, "/app")
			if r.Out.URL.Path == "" {
				r.Out.URL.Path = "/"
			}
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.SetXForwarded()
			r.Out.Header.Set("X-Forwarded-Prefix", "/app")
			if _, ok := r.Out.Header["User-Agent"]; !ok {
				r.Out.Header["User-Agent"] = nil
			}
		},
		ModifyResponse: func(res *http.Response) error {
			res.Header.Set("X-Request-Id", res.Request.Header.Get("X-Request-Id"))
			return nil
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil // or the server would guess one
		rp.ServeHTTP(w, r)
	}))
	tb.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s
}

// seen is what one side of an exchange saw.
type seen struct {
	Line    string
	Framing string
	Header  http.Header
	Body    string
	Trailer http.Header
}

// TestSameAsReverseProxy sends the same bytes through the proxy and through
// httputil.ReverseProxy, and compares what the replica and the client see.
func TestSameAsReverseProxy(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"GET":                   "GET /app/a%20b/c?x=%20&y HTTP/1.1\nHost: h:1\nX-A: 1\nX-A: 2\nAccept-Encoding: br\n",
		"GET of the root":       "GET /app HTTP/1.1\nHost: h\nUser-Agent: me\n",
		"HEAD":                  "HEAD /app/x HTTP/1.1\nHost: h\n",
		"OPTIONS":               "OPTIONS /app/x HTTP/1.1\nHost: h\n",
		"an unknown method":     "BREW /app/x HTTP/1.1\nHost: h\n",
		"DELETE":                "DELETE /app/x HTTP/1.1\nHost: h\n",
		"POST without a body":   "POST /app/x HTTP/1.1\nHost: h\nContent-Length: 0\n",
		"POST with a length":    "POST /app/x HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Type: text/plain\n\nhello",
		"GET with a body":       "GET /app/x HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello",
		"PUT in chunks":         "PUT /app/x HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n1\n!\n0\n\n",
		"PUT with a trailer":    "PUT /app/x HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n5\nhello\n0\nX-Sum: 1\n\n",
		"hop-by-hop headers":    "GET /app/x HTTP/1.1\nHost: h\nConnection: keep-alive, X-Hop\nX-Hop: 1\nKeep-Alive: 1\nProxy-Connection: x\nTe: trailers, gzip\n",
		"no upgrade without it": "GET /app/x HTTP/1.1\nHost: h\nUpgrade: websocket\n",
		"an absolute form":      "GET http://h/app/x HTTP/1.1\nHost: h\n",
		"HTTP/1.0":              "GET /app/x HTTP/1.0\nHost: h\n",
		"a cookie":              "GET /app/x HTTP/1.1\nHost: h\nCookie: a=1\nCookie: b=2\n",
	}
	responses := map[string]string{
		"with a length":            "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Type: text/plain\n\nhello",
		"empty":                    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"in chunks":                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n2\n??\n0\n\n",
		"with an announced trail":  "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n5\nhello\n0\nX-Sum: 1\n\n",
		"with a trail unannounced": "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX-Sum: 1\n\n",
		"to the connection's end":  "HTTP/1.1 200 OK\nConnection: close\n\nhello",
		"in HTTP/1.0":              "HTTP/1.0 200 OK\n\nhello",
		"no content":               "HTTP/1.1 204 No Content\nX-A: 1\n\n",
		"not modified":             "HTTP/1.1 304 Not Modified\nEtag: \"a\"\n\n",
		"an error":                 "HTTP/1.1 500 Oops\nContent-Length: 4\nRetry-After: 3\n\noops",
		"an odd status":            "HTTP/1.1 299 Odd\nContent-Length: 0\n\n",
		"a redirect":               "HTTP/1.1 302 Found\nLocation: /x\nContent-Length: 0\n\n",
		"hop-by-hop headers":       "HTTP/1.1 200 OK\nConnection: X-Hop\nX-Hop: 1\nKeep-Alive: timeout=1\nContent-Length: 2\n\nok",
		"cookies":                  "HTTP/1.1 200 OK\nSet-Cookie: a=1\nSet-Cookie: b=2\nContent-Length: 2\nDate: Thu, 01 Jan 1970 00:00:00 GMT\nServer: x\n\nok",
		"early hints first":        "HTTP/1.1 103 Early Hints\nLink: a\n\nHTTP/1.1 200 OK\nContent-Type: text/x\nContent-Length: 2\n\nok",
	}
	var answer string
	replica := make(chan seen, 1)
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for {
			req, body, ok := readRequest(br)
			if !ok {
				return
			}
			s := seen{
				Line:    fmt.Sprint(req.Method, " ", req.RequestURI, " ", req.Proto, " ", req.Host),
				Framing: fmt.Sprint(req.ContentLength, req.TransferEncoding), Header: req.Header, Body: body, Trailer: req.Trailer,
			}
			full := answer
			if head, _, _ := strings.Cut(full, "\r\n\r\n"); req.Method == http.MethodHead && !strings.HasPrefix(full, "HTTP/1.1 103") {
				full = head + "\r\n\r\n"
			}
			fmt.Fprint(nc, full)
			replica <- s
			if strings.Contains(full, "Connection: close") || strings.HasPrefix(full, "HTTP/1.0") {
				return
			}
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	o := oracle(t, address)

	exchange := func(t *testing.T, addr, request string) (client, server seen) {
		t.Helper()
		nc := dial(t, addr)
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(request, " ")
		br := bufio.NewReader(nc)
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		for err == nil && res.StatusCode < 200 {
			res, err = http.ReadResponse(br, &http.Request{Method: method})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		client = seen{Line: fmt.Sprint(res.Proto, " ", res.StatusCode), Framing: fmt.Sprint(res.ContentLength, res.TransferEncoding, res.Close), Header: res.Header, Body: string(b), Trailer: res.Trailer}
		server = <-replica
		if !strings.Contains(answer, "Date:") {
			client.Header.Del("Date")
		}
		return client, server
	}
	for requestName, request := range requests {
		for responseName, response := range responses {
			t.Run(requestName+", answered "+responseName, func(t *testing.T) {
				head, body, _ := strings.Cut(request, "\n\n")
				full := strings.ReplaceAll(strings.TrimSuffix(head, "\n")+"\nX-Request-Id: id\n\n"+body, "\n", "\r\n")
				answer = strings.ReplaceAll(response, "\n", "\r\n")
				if requestName == "HEAD" && strings.HasPrefix(response, "HTTP/1.1 103") {
					t.Skip("the test's replica would send a body")
				}
				wantClient, wantServer := exchange(t, o.Listener.Addr().String(), full)
				gotClient, gotServer := exchange(t, r.addr, full)
				if requestName == "PUT with a trailer" {
					// The oracle announces it and then loses it.
					wantServer.Trailer = http.Header{"X-Sum": {"1"}}
				}
				if got := gotClient.Header.Get("Content-Length"); got == fmt.Sprint(len(gotClient.Body)) && strings.HasPrefix(wantClient.Framing, "-1") {
					// A stream that had ended before it was passed on has a length.
					gotClient.Framing = wantClient.Framing
					gotClient.Header.Del("Content-Length")
				}
				if requestName == "hop-by-hop headers" {
					// The oracle does not say that TE is about the connection.
					wantServer.Header.Set("Connection", "TE")
				}
				if diff := cmp.Diff(wantServer, gotServer); diff != "" {
					t.Errorf("the replica saw (-oracle +proxy):\n%s", diff)
				}
				if diff := cmp.Diff(wantClient, gotClient); diff != "" {
					t.Errorf("the client saw (-oracle +proxy):\n%s", diff)
				}
			})
		}
	}
}
