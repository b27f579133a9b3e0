package h1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusalIsNotRead has clients that are refused and do not read why.
func TestRefusalIsNotRead(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"no request": "nonsense\r\n", "headers that never end": "GET / HTTP/1.1\r\nHost: a\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, s *Server, p *pipes) {
				nc := p.dial()
				fmt.Fprint(nc, request)
				time.Sleep(15 * time.Second)
				synctest.Wait()
				s.mu.Lock()
				n := len(s.conns)
				s.mu.Unlock()
				if n != 0 {
					t.Error("the connection is still there")
				}
				nc.Close()
			})
		})
	}
}

// TestSilentClientHoldsNoBuffers has clients that connect and say nothing, for
// longer than an idle one keeps its buffers, and then ask after all.
func TestSilentClientHoldsNoBuffers(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
		var nc net.Conn = dial(t, addr)
		if secure {
			s, addr = serveTLS(t, s.Handler)
			client := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is our own
			if err := client.HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			nc = client
		}
		br := bufio.NewReader(nc)
		for i := range 3 {
			waitFor(t, "it has no buffers", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.conns) != 1 {
					return false
				}
				c := s.conns[0]
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.phase != shaking && c.work == nil
			})
			fmt.Fprintf(nc, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			if _, body := read(t, br, "GET"); body != fmt.Sprint("/", i) {
				t.Errorf("got %q", body)
			}
		}
	}
}

// TestHintsBeforeContinue sends a client that waits to be asked for its body
// other news first.
func TestHintsBeforeContinue(t *testing.T) {
	t.Parallel()
	for status, want := range map[int][]int{
		http.StatusEarlyHints: {http.StatusEarlyHints, http.StatusContinue, http.StatusOK},
		http.StatusContinue:   {http.StatusContinue, http.StatusOK},
	} {
		_, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
		}))
		nc := dial(t, addr)
		br := bufio.NewReader(nc)
		fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		for _, code := range want {
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != code {
				t.Fatalf("after %d: got %v %v, want %d", status, res, err, code)
			}
			if code == http.StatusContinue {
				fmt.Fprint(nc, "body")
			}
		}
	}
}

// TestFaultEndsOneConnection has what is not a handler's own panic, and a
// handler that ends its goroutine: the server goes on, and the client learns it.
func TestFaultEndsOneConnection(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exit" {
			runtime.Goexit()
		}
		fmt.Fprint(w, "hello")
	}), func(s *Server) {
		first := true
		s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			if first {
				first = false
				panic("a fault")
			}
			return ctx
		}
	})
	for _, path := range []string{"/", "/exit"} {
		if got := talk(t, addr, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" {
			t.Errorf("got %q", got)
		}
	}
	if got := talk(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasSuffix(got, "hello") {
		t.Errorf("another client got %q", got)
	}
}

// TestAbortSendsNothing breaks off responses whose head is not complete: what
// has been sent of it would be of no use to anybody.
func TestAbortSendsNothing(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.NewResponseController(w), r.URL.Path)
	}))
	for _, way := range []string{"/abortnothing", "/aborthead", "/abortsoon"} {
		if got := talk(t, addr, "GET "+way+" HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" {
			t.Errorf("%s: got %q", way, got)
		}
	}
}

// TestAbortOverTLS breaks off a response whose end is the connection's.
func TestAbortOverTLS(t *testing.T) {
	t.Parallel()
	_, addr := serveTLS(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 5000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	nc := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is our own
	fmt.Fprint(nc, "GET / HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(nc); err == nil {
		t.Errorf("a part looks like the whole: %d bytes", len(b))
	}
}

// TestAClientWithoutTLSIsToldSo sends what does not begin a handshake to a port
// of TLS, also more than is read at once.
func TestAClientWithoutTLSIsToldSo(t *testing.T) {
	t.Parallel()
	_, addr := serveTLS(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
	long := "X-Long: " + strings.Repeat("a", 100_000) + "\r\n"
	for name, c := range map[string]struct{ sent, want string }{
		"a GET":                     {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 "},
		"a POST with a long head":   {"POST /x HTTP/1.1\r\nHost: a\r\n" + long + "\r\n", "HTTP/1.1 400 "},
		"the beginning of a method": {"DELET", "HTTP/1.1 400 "},
		"too little":                {"GET", ""},
		"bytes":                     {"\x00\x01\x02\x03\x04\x05\x06\x07", ""},
	} {
		got := talk(t, addr, c.sent)
		if (c.want == "") != (got == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q", name, got)
		}
		if c.want != "" && (!strings.Contains(got, "https://") || !strings.Contains(got, "Connection: close\r\n")) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// serveTLS serves h over TLS on a port of its own.
func serveTLS(t *testing.T, h http.Handler) (*Server, string) {
	t.Helper()
	s := &Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate(t)}}))
	}()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// waitFor waits until what is to be has come.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.Now().Add(10 * time.Second); !ok(); <-ticker.C {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
