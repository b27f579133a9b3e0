package conformance

import (
	"fmt"
	"strings"
)

// pathVectors play the router against what is forwarded: /app is one
// application and /app/admin another.
func pathVectors() []vector {
	var vs []vector
	for target, seen := range map[string]string{
		"/app":                  "app: GET /",
		"/app/":                 "app: GET /",
		"/app/x/":               "app: GET /x/",
		"/app/admin":            "admin: GET /",
		"/app/admin/x":          "admin: GET /x",
		"/app/adminx":           "app: GET /adminx",
		"/app/%61dmin/x":        "admin: GET /x", // routed and forwarded by what it means
		"/ap%70/x":              "app: GET /x",
		"/app/x%20y":            "app: GET /x%20y",
		"/app/x?a=/../b&c=%2f":  "app: GET /x?a=/../b&c=%2f",
		"/app?":                 "app: GET /?",
		"/app/%0d%0aX:%20y":     "app: GET /%0d%0aX:%20y",
		"/app/x?%0d%0aX:%20y":   "app: GET /x?%0d%0aX:%20y",
		"/app/x;v=1":            "app: GET /x;v=1",
		"/app/%252e%252e/x":     "app: GET /%252e%252e/x",
		"/app/...":              "app: GET /...",
		"/app/.x":               "app: GET /.x",
		"/app/x..":              "app: GET /x..",
		"/app//admin/x":         "app: GET /admin/x",
		"//app/x":               "app: GET /x",
		"/app/%C3%A4":           "app: GET /%C3%A4",
		"/app/a:b@c,d=e$!'()*+": "app: GET /a:b@c,d=e$!'()*+",
	} {
		vs = append(vs, vector{name: "path " + target, send: "GET " + target + " HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200", seen: seen})
	}
	for _, target := range []string{
		"/app/..", "/app/../x", "/app/./x", "/app/.", "/app/x/..", "/app/%2e%2e/x", "/app/%2E./x", "/app/.%2e", "/app/..;/x", "/app/..;a=b/x",
		"/app/.;/x", "/app/..%3b/x", "/app/%2e%2e%3Bx/y", "/app/admin/../x", "/app/x/../admin/y", "/../app/x", "/./app", "/%2e/app", "//../app",
		"/app%2fx", "/app/x%2Fy", "/app/..%2fadmin", "/app%5cx", "/app/x%5C..%5cy", "/app\\x", "/app/..\\admin", "/app/%00", "/app/x%00.html",
		"/app/%", "/app/%2", "/app/%zz", "/app/%u002e", "/app/x%\xff", "/app/x\x01y", "/app/x\x7fy", "/app/x?a b", "/app/x?a\x01b", "/app/x\ty", "/app/x?a\x7fb",
	} {
		vs = append(vs, vector{name: fmt.Sprintf("path %q", target), send: "GET " + target + " HTTP/1.1\nHost: a\nConnection: close\n\n", want: "400"})
	}
	for target, seen := range map[string]string{
		"/app/x#y": "app: GET /x%23y", "/app/\xe4": "app: GET /%E4", "/app/<x>": "app: GET /%3Cx%3E", "/app/x|y": "app: GET /x%7Cy", "/app/\"x\"": "app: GET /%22x%22",
		"/app/{x}": "app: GET /%7Bx%7D", "/app/x^y`": "app: GET /x%5Ey%60",
	} {
		vs = append(vs, vector{name: fmt.Sprintf("path %q, which must be encoded", target), send: "GET " + target + " HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200|400", seen: seen})
	}
	vs = append(vs, vector{name: "a query with bytes above 127", send: "GET /app?\xe4 HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200|400", seen: "app: GET /?\xe4"})
	return vs
}

// sizeVectors are too much of something.
func sizeVectors() []vector {
	return []vector{
		{name: "a target of 4 kB", send: "GET /app/" + strings.Repeat("x", 4<<10) + " HTTP/1.1\nHost: a\nConnection: close\n\n", want: "200", seen: "app: GET /" + strings.Repeat("x", 4<<10)},
		{name: "a target of 200 kB", send: "GET /app/" + strings.Repeat("x", 200<<10) + " HTTP/1.1\nHost: a\n\n", want: "400|414|431"},
		{name: "a request line without an end", send: "GET /app/" + strings.Repeat("x", 200<<10), want: "400|414|431"},
		{name: "a method of 200 kB", send: strings.Repeat("G", 200<<10) + " /app HTTP/1.1\nHost: a\n\n", want: "400|414|431|501"},
		{name: "a header of 20 kB", send: fetch + "X: " + strings.Repeat("x", 20<<10) + "\n\n", want: "200", seen: "app: GET /"},
		{name: "a value of 200 kB", send: fetch + "X: " + strings.Repeat("x", 200<<10) + "\n\n", want: "431"},
		{name: "a value without an end", send: fetch + "X: " + strings.Repeat("x", 200<<10), want: "431"},
		{name: "a name of 200 kB", send: fetch + strings.Repeat("x", 200<<10) + ": x\n\n", want: "400|431"},
		{name: "200 kB of headers", send: fetch + strings.Repeat("X: 1234567890\n", 200<<10/15) + "\n", want: "431"},
		{name: "60 headers", send: fetch + strings.Repeat("X: y\n", 60) + "\n", want: "200", seen: "app: GET /"},
		{name: "5,000 short headers", send: fetch + strings.Repeat("X: y\n", 5000) + "\n", want: "200|400|431", seen: "app: GET /"},
		{name: "empty lines for ever", send: strings.Repeat("\n", 100<<10), want: "400|431|"},
	}
}

// pipelineVectors are several requests at once.
func pipelineVectors() []vector {
	first := func(n int) string { return fmt.Sprintf("GET /app/%d HTTP/1.1\nHost: a\n\n", n) }
	return []vector{
		{name: "three at once", send: first(1) + first(2) + next, want: "200 200 200", seen: "app: GET /1, app: GET /2, app: GET /smuggled"},
		{name: "a body and the next", send: "POST /app HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc" + next, want: "200 200", seen: "app: POST / abc, app: GET /smuggled"},
		{name: "chunks and the next", send: "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n" + next, want: "200 200", seen: "app: POST / abc, app: GET /smuggled"},
		{name: "an empty line between", send: first(1) + "\n" + next, want: "200 200|200 400", seen: "app: GET /1, app: GET /smuggled"},
		{name: "after an error", send: "GET /app HTTP/1.1\nHost: a b\n\n" + next, want: "400"},
		{name: "after a bad path", send: "GET /app/.. HTTP/1.1\nHost: a\nConnection: close\n\n" + next, want: "400"},
		{name: "a good one, then a bad one", send: first(1) + "GET /app HTTP/1.1\nHost: a\nX : y\n\n" + next, want: "200 400", seen: "app: GET /1"},
		{name: "after one that closes", send: fetch + "\n" + next, want: "200", seen: "app: GET /"},
		{name: "after both framings, kept alive", send: "POST /app HTTP/1.1\nHost: a\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n" + next, want: "400"},
		{name: "after a bad chunk", send: "POST /app HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\nx\n" + next, want: "400"},
		{name: "a body without a length is the next request", send: "POST /app HTTP/1.1\nHost: a\n\n" + next, want: "200 200", seen: "app: POST /, app: GET /smuggled"},
		{name: "in the body of one that has no route", send: fmt.Sprintf("POST /none HTTP/1.1\nHost: a\nContent-Length: %d\nConnection: close\n\n", crlf(next)) + next, want: "404"},
		{name: "in a body that no route awaits", send: fmt.Sprintf("POST /none HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: %d\n\n", crlf(next)) + next, want: "404"},
		{name: "in the body of a GET", send: fmt.Sprintf("GET /app HTTP/1.1\nHost: a\nConnection: close\nContent-Length: %d\n\n", crlf(next)) + next, want: "200", seen: "app: GET / " + wire(next)},
		{name: "in the body of a HEAD", send: fmt.Sprintf("HEAD /app HTTP/1.1\nHost: a\nConnection: close\nContent-Length: %d\n\n", crlf(next)) + next, want: "200", seen: "app: HEAD / " + wire(next)},
		{name: "in the body of a TRACE", send: fmt.Sprintf("TRACE /app HTTP/1.1\nHost: a\nConnection: close\nContent-Length: %d\n\n", crlf(next)) + next, want: "200|400|405|501", seen: "app: TRACE / " + wire(next)},
		{name: "in the body for the proxy itself", send: fmt.Sprintf("GET /-/healthz HTTP/1.1\nHost: a\nConnection: close\nContent-Length: %d\n\n", crlf(next)) + next, want: "200"},
	}
}

// expectVectors play with Expect.
func expectVectors() []vector {
	return []vector{
		{name: "a body that waits for 100, and does not wait", send: post + "Expect: 100-continue\nContent-Length: 3\n\nabc", want: "200|100 200", seen: "app: POST / abc"},
		{name: "100 in capitals", send: post + "Expect: 100-Continue\nContent-Length: 3\n\nabc", want: "200|100 200", seen: "app: POST / abc"},
		{name: "100 in HTTP/1.0", send: "POST /app HTTP/1.0\nHost: a\nExpect: 100-continue\nContent-Length: 3\n\nabc", want: "200", seen: "app: POST / abc"},
		{name: "100 without a body", send: fetch + "Expect: 100-continue\n\n", want: "200|100 200", seen: "app: GET /"},
		{name: "100 twice", send: post + "Expect: 100-continue\nExpect: 100-continue\nContent-Length: 3\n\nabc", want: "200|100 200|400|417", seen: "app: POST / abc"},
		{name: "another expectation", send: post + "Expect: x\nContent-Length: 3\n\nabc", want: "417"},
		{name: "100 and another expectation", send: post + "Expect: 100-continue, x\nContent-Length: 3\n\nabc", want: "400|417"},
		{name: "100 and a suffix", send: post + "Expect: 100-continuex\nContent-Length: 3\n\nabc", want: "417"},
		{name: "an empty expectation", send: post + "Expect:\nContent-Length: 3\n\nabc", want: "200|400|417", seen: "app: POST / abc"},
		{name: "a bad path with 100, and a request for a body", send: fmt.Sprintf("POST /app/../x HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: %d\n\n", crlf(next)) + next, want: "400"},
		{name: "an unknown expectation, and a request for a body", send: fmt.Sprintf("POST /app HTTP/1.1\nHost: a\nExpect: y\nContent-Length: %d\n\n", crlf(next)) + next, want: "417"},
	}
}

// hopVectors play with what is about one connection alone, and with headers that
// the proxy writes itself.
func hopVectors() []vector {
	vs := []vector{
		{name: "a header that Connection names", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, X-Secret\nX-Secret: 1\n\n", want: "200", seen: "app: GET /", absent: "x-secret"},
		{name: "framing that Connection names", send: "POST /app HTTP/1.1\nHost: a\nConnection: close, Content-Length, Transfer-Encoding\nContent-Length: 3\n\nabc", want: "200|400", seen: "app: POST / abc"},
		{name: "chunked that Connection names", send: "POST /app HTTP/1.1\nHost: a\nConnection: close, Transfer-Encoding\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n", want: "200|400", seen: "app: POST / abc"},
		{name: "a host that Connection names", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Host, X-Forwarded-For, X-Request-Id\n\n", want: "200|400", seen: "app: GET /", header: "host: a"},
		{name: "what the proxy says, when Connection names it", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, X-Forwarded-Host\n\n", want: "200|400", seen: "app: GET /", header: "x-forwarded-host: a"},
		{name: "Proxy-Connection and Keep-Alive", send: fetch + "Proxy-Connection: keep-alive\nKeep-Alive: timeout=9\nProxy-Authorization: x\n\n", want: "200", seen: "app: GET /", absent: "keep-alive"},
		{name: "codings that the client takes", send: fetch + "TE: trailers, gzip\n\n", want: "200", seen: "app: GET /", header: "te: trailers"},
		{name: "a change to h2c", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n", want: "200", seen: "app: GET /", absent: "h2c"},
		{name: "a change to h2c with a body", send: "POST /app HTTP/1.1\nHost: a\nConnection: close, Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\nContent-Length: 3\n\nabc", want: "200", seen: "app: POST / abc", absent: "h2c"},
		{name: "a change to h2c, unnamed in Connection", send: fetch + "Upgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n", want: "200", seen: "app: GET /", absent: "h2c"},
		{name: "a change to h2c, twice in Connection", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Upgrade\nConnection: HTTP2-Settings\nUpgrade: H2C\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n", want: "200", seen: "app: GET /", absent: "h2c"},
		{name: "a change to one of several", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Upgrade\nUpgrade: websocket, h2c\n\n", want: "200", seen: "app: GET /", absent: "h2c"},
		{name: "a change in two lines, h2c the second", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Upgrade\nUpgrade: websocket\nUpgrade: h2c\n\n", want: "200|400", seen: "app: GET /", absent: "h2c"},
		{name: "a change with bad bytes", send: "GET /app HTTP/1.1\nHost: a\nConnection: close, Upgrade\nUpgrade: web socket\n\n", want: "200|400", seen: "app: GET /", absent: "web socket"},
		{name: "a change that the replica does not take, and the next", send: "GET /app/1 HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n" + next, want: "200 200|200", seen: "app: GET /1, app: GET /smuggled"},
		{name: "a change with a body is none", send: "POST /app HTTP/1.1\nHost: a\nConnection: close, Upgrade\nUpgrade: websocket\nContent-Length: 3\n\nabc", want: "200|400", seen: "app: POST / abc", absent: "websocket"},
		{name: "a method that another header names", send: post + "X-HTTP-Method-Override: DELETE\nContent-Length: 0\n\n", want: "200", seen: "app: POST /"},
	}
	for _, line := range []string{
		"X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: 6.6.6.6", "X-Forwarded-Prefix: 6.6.6.6", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Server: 6.6.6.6",
		"X_Forwarded_For: 6.6.6.6", "x-forwarded_for: 6.6.6.6", "X_REAL_IP: 6.6.6.6", "Content_Length: 6.6.6.6", "Connection_: x\nTransfer_Encoding: 6.6.6.6", "X-Serve-Anything: 6.6.6.6", "X_Serve_Anything: 6.6.6.6", "Ho_st: x\nExpect_: x\nTrailer: 6.6.6.6",
	} {
		vs = append(vs, vector{name: "a client that says " + strings.ReplaceAll(line, "\n", ", "), send: fetch + line + "\n\n", want: "200|400", seen: "app: GET /", absent: "6.6.6.6"})
	}
	return vs
}

// wire is what s is on the wire.
func wire(s string) string {
	return strings.NewReplacer("\n", "\r\n", "␊", "\n", "␍", "\r").Replace(s)
}

// crlf is the length of s on the wire.
func crlf(s string) int { return len(wire(s)) }
