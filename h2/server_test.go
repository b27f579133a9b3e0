package h2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/h2"
)

// servers are real ones, by how each serves a handler: their addresses.
func servers(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	std := httptest.NewUnstartedServer(h)
	std.Config.Protocols = new(http.Protocols)
	std.Config.Protocols.SetUnencryptedHTTP2(true)
	std.Start()
	t.Cleanup(std.Close)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		small := &http2.Server{MaxConcurrentStreams: 50, MaxUploadBufferPerStream: 1 << 10, MaxUploadBufferPerConnection: 1 << 16}
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go small.ServeConn(nc, &http2.ServeConnOpts{Handler: h})
		}
	}()
	return map[string]string{"net/http": std.Listener.Addr().String(), "x/net with small windows": l.Addr().String()}
}

func connect(t *testing.T, address string) *h2.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h2.New(t.Context(), nc, h2.Config{MaxHeader: 1 << 20, StreamBuffer: 64 << 10, WriteStall: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo answers with what it is sent, as it comes, and with its sum at the end.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	w.Header()["X-Many"] = r.Header["X-Many"]
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(flushing{w}, sum), r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Sum", fmt.Sprintf("%x %s", sum.Sum(nil), r.Trailer.Get("X-Tail")))
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.w.(http.Flusher).Flush()
	return n, err
}

// TestManyStreams has streams of all sizes at once on one connection, of which
// some are given up.
func TestManyStreams(t *testing.T) {
	for name, address := range servers(t, http.HandlerFunc(echo)) {
		t.Run(name, func(t *testing.T) {
			c := connect(t, address)
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					for j := range 5 {
						exchange(t, c, i, i%7 == 0 && j%2 == 0)
					}
				})
			}
			wg.Wait()
			if !c.CanTake() {
				t.Error("the connection has ended")
			}
		})
	}
}

func exchange(t *testing.T, c *h2.Conn, i int, cancelled bool) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := make([]byte, rand.IntN(1<<(i%20))) //nolint:gosec // any will do
	for n := range body {
		body[n] = byte(i + n)
	}
	r := request(ctx, http.MethodPost, io.MultiReader(bytes.NewReader(body)))
	r.Trailer = http.Header{"X-Tail": {"tail"}}
	for n := range i {
		r.Header.Add("X-Many", strings.Repeat("m", n*30))
	}
	if !c.Reserve() {
		t.Error("no stream")
		return
	}
	if cancelled {
		time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel) //nolint:gosec // as above
	}
	res, err := c.RoundTrip(r, nil)
	if err == nil {
		defer res.Body.Close()
		var got []byte
		if got, err = io.ReadAll(res.Body); err == nil {
			if sum := fmt.Sprintf("%x tail", sha256.Sum256(body)); !bytes.Equal(got, body) || res.Trailer.Get("X-Sum") != sum || len(res.Header["X-Many"]) != i {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(body), res.Trailer)
			}
		}
	}
	if err != nil && (!cancelled || word(err) != "cancelled") {
		t.Error(err)
	}
}

// TestResponses holds that a response is what net/http's own client says it is.
func TestResponses(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, r.Host, r.RequestURI, r.ContentLength, r.Header))
		switch r.URL.Path {
		case "/length":
			_, _ = io.WriteString(w, "12345")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.WriteHeader(http.StatusNotModified)
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "A, B")
			_, _ = io.WriteString(flushing{w}, "first")
			w.Header().Set("A", "1")
			w.Header().Set(http.TrailerPrefix+"Late", "2")
		case "/abort":
			_, _ = io.WriteString(flushing{w}, "part")
			panic(http.ErrAbortHandler)
		}
	})
	for name, address := range servers(t, handler) {
		other := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		other.Protocols.SetUnencryptedHTTP2(true)
		defer other.CloseIdleConnections()
		c := connect(t, address)
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
			for _, path := range []string{"/length", "/none", "/same", "/early", "/abort", "/nothing?a=%2F&b"} {
				ask := func() *http.Request {
					r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Header["User-Agent"], r.Header["X-A"] = nil, []string{"1", "2"}
					return r
				}
				if !c.Reserve() {
					t.Fatal("no stream")
				}
				got, want := story(c.RoundTrip(ask(), nil)), story(other.RoundTrip(ask()))
				if got != want {
					t.Errorf("%s: %s %s:\n%s\n%s", name, method, path, got, want)
				}
			}
		}
	}
}

// story is all that there is to a response, but for the time of day.
func story(res *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	end := ""
	if err != nil {
		end, _, _ = strings.Cut(err.Error(), ";") // a stream's number differs
		end = end[:12]
	}
	res.Header.Del("Date")
	return fmt.Sprint(res.Status, res.Proto, res.ContentLength, res.Header, res.Trailer, string(body), end)
}

// TestRefusedByHTTP1 holds what is said where nobody speaks HTTP/2.
func TestRefusedByHTTP1(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := h2.New(t.Context(), nc, testConfig); err == nil {
		_ = c.Close()
		t.Error("it was greeted")
	}
}
