package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveTCP serves h on a port of its own.
func serveTCP(tb testing.TB, h http.Handler, configure ...func(*Server)) (*Server, string) {
	tb.Helper()
	s := &Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	for _, f := range configure {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	tb.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			tb.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

func dial(tb testing.TB, addr string) *net.TCPConn {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return nc.(*net.TCPConn)
}

// talk sends bytes, says that no more will come, and reads all that comes back.
func talk(tb testing.TB, addr, request string) string {
	tb.Helper()
	nc := dial(tb, addr)
	defer nc.Close()
	_, _ = io.WriteString(nc, request) // the server may have closed already
	_ = nc.CloseWrite()
	b, _ := io.ReadAll(nc)
	return string(b)
}

func logTo(w io.Writer) func(*Server) {
	return func(s *Server) { s.ErrorLog = log.New(w, "", 0) }
}

// answers reads all responses to requests of the methods from raw bytes.
func answers(raw string, methods ...string) (out []string, rest string) {
	br := bufio.NewReader(bytes.NewReader([]byte(raw)))
	for i := 0; ; {
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			b, _ := io.ReadAll(br)
			return out, string(b)
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode >= 200 {
			i++
		}
		res.Header.Del("Date")
		out = append(out, fmt.Sprintf("%s %d close=%v length=%d %v %q %v %v %v", res.Proto, res.StatusCode, res.Close, res.ContentLength, res.TransferEncoding, body, res.Header, res.Trailer, err))
	}
}
