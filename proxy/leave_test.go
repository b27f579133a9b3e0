package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBodyThatNobodyReads has clients promise a body for a request that is
// refused: they are answered, and do not keep their connection for ever.
func TestBodyThatNobodyReads(t *testing.T) {
	t.Parallel()
	full := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, app{ongoing: 1, queued: 0, addresses: []string{full}}.view(), func(c *Config) {
		c.Limits.ClientStall = 50 * time.Millisecond
	})
	for request, status := range map[string]int{
		"POST /none HTTP/1.1\nHost: a\nContent-Length: 9\n\n":                       http.StatusNotFound,
		"POST /none HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\n":           http.StatusNotFound,
		"POST /app/../x HTTP/1.1\nHost: a\nContent-Length: 9\n\nx":                  http.StatusBadRequest,
		"GET /-/healthz HTTP/1.1\nHost: a\nContent-Length: 9\n\n":                   http.StatusOK,
		"POST /none HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 9\n\n": http.StatusNotFound,
	} {
		nc := dial(t, r.addr)
		if _, err := io.WriteString(nc, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(nc)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != status {
			t.Fatalf("%q: got %v %v", request, res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		// dial has set a deadline.
		if _, err := br.ReadByte(); err == nil || timedOut(err) {
			t.Errorf("%q: the connection was kept: %v", request, err)
		}
	}
	nc := dial(t, r.addr)
	if _, err := io.WriteString(nc, "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /-/healthz HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	for _, status := range []int{http.StatusNotFound, http.StatusOK} {
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != status {
			t.Fatalf("on a connection that could be kept: got %v %v", res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
	}
}
