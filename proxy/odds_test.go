package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// stuckWriter is a client's connection of which it is known how much was written
// to it without a bound.
type stuckWriter struct {
	*httptest.ResponseRecorder
	wrote   chan<- struct{}
	client  net.Conn // what Hijack takes over
	bounded bool
	free    int // bytes written without a bound
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	if !w.bounded {
		w.free += len(b)
	}
	w.wrote <- struct{}{}
	return w.ResponseRecorder.Write(b)
}

func (w *stuckWriter) SetWriteDeadline(t time.Time) error {
	w.bounded = !t.IsZero()
	return nil
}

func (w *stuckWriter) SetReadDeadline(time.Time) error { return nil }

func (w *stuckWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.client, bufio.NewReadWriter(bufio.NewReader(w.client), bufio.NewWriter(w.client)), nil
}

// TestManySmallWritesAreBounded has a replica send a long body in small pieces,
// or a small one behind a long head: each of them could be the one that a client
// does not read.
func TestManySmallWritesAreBounded(t *testing.T) {
	t.Parallel()
	const pieces, size = 10, 1000
	for name, field := range map[string]string{"a short head": "", "a long head": "X-A: " + strings.Repeat("a", 3000) + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			wrote := make(chan struct{}, pieces)
			for range 3 { // as much as may be held back before the first write
				wrote <- struct{}{}
			}
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				if _, _, ok := readRequest(br); !ok {
					return
				}
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", field, pieces*size)
				for range pieces {
					<-wrote
					fmt.Fprint(nc, strings.Repeat("x", size))
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			w := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), wrote: wrote}
			r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/app", nil))
			if n := w.Body.Len(); n != pieces*size {
				t.Errorf("%d bytes came", n)
			}
			if limit := max(0, unbounded-len(field)); w.free > limit {
				t.Errorf("%d bytes were written without a bound, want at most %d", w.free, limit)
			}
		})
	}
}

// TestSwitchThatIsNotRead has a client change the protocol and not read that it
// has been changed.
func TestSwitchThatIsNotRead(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
		fmt.Fprint(nc, switched)
		_, _ = io.Copy(io.Discard, br)
	})}}.view(), func(c *Config) { c.ClientStall = 50 * time.Millisecond })
	near, far := net.Pipe()
	defer near.Close()
	req := httptest.NewRequest(http.MethodGet, "/app", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Handler().ServeHTTP(&stuckWriter{ResponseRecorder: httptest.NewRecorder(), client: far}, req)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the replica's slot is taken for ever")
		near.Close()
		<-done
	}
	r.waitIdle(t)
}

// TestAnswerWithoutABodyThatSaysItHasOne has a replica contradict itself. What it
// sends next is nobody's.
func TestAnswerWithoutABodyThatSaysItHasOne(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
			for _, _, ok := readRequest(br); ok; _, _, ok = readRequest(br) {
				fmt.Fprintf(nc, "HTTP/1.1 204 No Content\r\n%s\r\n\r\n", field)
			}
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s: got %d", field, res.StatusCode)
		}
		r.waitIdle(t)
		if n := idleConnections(r); n != 0 {
			t.Errorf("%s: %d connections are kept", field, n)
		}
	}
}

// TestStreamOutlivesItsRequest holds that what is sent over HTTP/2 does not
// change with the memory of a request that has ended.
func TestStreamOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	req := httptest.NewRequest(http.MethodGet, "/app", nil)
	req.Header = http.Header{"Authorization": {"mine"}, "X-A": {"1", "2"}, "Tracestate": {"a"}}
	h := head{request: req, traceparent: "b", tracestate: req.Header["Tracestate"]}
	out := h.header()
	for _, values := range req.Header {
		for i := range values {
			values[i] = "another's"
		}
	}
	if got := fmt.Sprint(out["Authorization"], out["X-A"], out["Tracestate"]); got != "[mine] [1 2] [a]" {
		t.Errorf("it would send %s", got)
	}
}

// TestBodyBegunElsewhere has a body of which a part was read for a replica that
// did not get it.
func TestBodyBegunElsewhere(t *testing.T) {
	t.Parallel()
	for rest, whole := range map[string]bool{"": true, " rest": false} {
		control := http.NewResponseController(&deadlines{ResponseWriter: httptest.NewRecorder()})
		b := &streamBody{
			request: httptest.NewRequest(http.MethodPost, "/", strings.NewReader(rest)), buffers: &buffers{},
			limit: bodyLimit{control: control},
		}
		b.begin([]byte("first"), whole)
		for range 2 {
			if got, err := io.ReadAll(b); err != nil || string(got) != "first"+rest || b.received() != int64(len(got)) {
				t.Errorf("got %q %v", got, err)
			}
			if !b.rewind() {
				t.Error("it cannot be sent again")
			}
		}
		b.end()
	}
}

// TestControlIsNotRead bounds what is written to somebody who asks the proxy
// itself and reads nothing.
func TestControlIsNotRead(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1}.view())
	w := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), wrote: make(chan struct{}, 1)}
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/-/status", nil))
	if w.Code != http.StatusOK || w.free > 0 {
		t.Errorf("%d: %d bytes were written without a bound", w.Code, w.free)
	}
}
