package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serve-nomad/serve-nomad/routes"
)

// h2Replica starts a server that speaks HTTP/2 alone. conns counts its
// connections.
func h2Replica(tb testing.TB, h http.HandlerFunc) (address string, conns *atomic.Int32) {
	tb.Helper()
	conns = &atomic.Int32{}
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed:
			conns.Add(-1)
		default:
		}
	}
	s.Start()
	tb.Cleanup(s.Close)
	return s.Listener.Addr().String(), conns
}

// h2cRig is a proxy before one such replica.
func h2cRig(tb testing.TB, a app, h http.HandlerFunc) *rig {
	tb.Helper()
	address, _ := h2Replica(tb, h)
	a.addresses = []string{address}
	return start(tb, speaking(routes.ProtocolH2C, a))
}

// h2Client is a client that speaks HTTP/2 to the proxy.
func h2Client(tb testing.TB) *http.Client {
	tb.Helper()
	t := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	t.Protocols.SetUnencryptedHTTP2(true)
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

func TestH2CReplica(t *testing.T) {
	r := h2cRig(t, app{ongoing: 5, queued: -1}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", strings.Join([]string{r.Proto, r.Method, r.RequestURI, r.Host, r.Header.Get("X-Forwarded-Prefix"), "secret" + r.Header.Get("X-Secret")}, " "))
		w.Header().Set("X-Serve-Error", "queue-full")
		w.Header()["Content-Type"] = nil
		if r.URL.Path == "/length" {
			_, _ = io.WriteString(w, "12345")
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		n, err := io.Copy(w, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Sum", fmt.Sprint(n, " ", r.Trailer.Get("X-Tail")))
		w.Header().Set(http.TrailerPrefix+"X-Late", "1")
	})
	for name, client := range map[string]*http.Client{"over HTTP/1.1": r.client, "over HTTP/2": h2Client(t)} {
		t.Run(name, func(t *testing.T) {
			res, body := get(t, client, r.url+"/app/length?a=%2F")
			if want := "HTTP/2.0 GET /length?a=%2F " + r.addr + " /app secret"; body != "12345" || res.Header.Get("X-Seen") != want || res.ContentLength != 5 {
				t.Errorf("%q, %q, want %q", body, res.Header.Get("X-Seen"), want)
			}
			if res.Header.Get("X-Serve-Error") != "" || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("headers %v", res.Header)
			}
			if res, _ := do(t, client, http.MethodHead, r.url+"/app/length", nil); res.StatusCode != 200 || res.ContentLength != 5 {
				t.Errorf("HEAD: %d, length %d", res.StatusCode, res.ContentLength)
			}
			for _, size := range []int{0, 1, 5 << 20} {
				sent := strings.Repeat("x", size)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/app/echo", io.MultiReader(strings.NewReader(sent)))
				if err != nil {
					t.Fatal(err)
				}
				req.Trailer = http.Header{"X-Tail": {"tail"}}
				req.Header.Set("Connection", "X-Secret")
				req.Header.Set("X-Secret", "1")
				if client != r.client {
					req.Header.Del("Connection")
					req.Header.Del("X-Secret")
				}
				res, got := send(t, client, req)
				if got != sent {
					t.Errorf("%d bytes came back of %d", len(got), size)
				}
				if sum, want := res.Trailer.Get("X-Sum"), fmt.Sprint(size, " tail"); sum != want || res.Trailer.Get("X-Late") != "1" {
					t.Errorf("%d bytes: trailers %v, want X-Sum %q", size, res.Trailer, want)
				}
				if seen := res.Header.Get("X-Seen"); !strings.HasSuffix(seen, " secret") {
					t.Errorf("a header of the connection was passed on: %q", seen)
				}
			}
		})
	}
	r.waitIdle(t)
}

func TestH2CStreams(t *testing.T) {
	next := make(chan string)
	gone := make(chan struct{}, 1)
	r := h2cRig(t, app{ongoing: 1, queued: -1}, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case text := <-next:
				if text == "break" {
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(w, text)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				gone <- struct{}{}
				return
			}
		}
	})
	for name, client := range map[string]*http.Client{"over HTTP/1.1": r.client, "over HTTP/2": h2Client(t)} {
		t.Run(name, func(t *testing.T) {
			open := func() (*http.Response, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/app", nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				return res, cancel
			}
			res, cancel := open()
			buf := make([]byte, 10)
			for _, text := range []string{"one", "two", "three"} {
				next <- text
				n, err := res.Body.Read(buf)
				if err != nil || string(buf[:n]) != text {
					t.Fatalf("%q, %v", buf[:n], err)
				}
			}
			cancel()
			_ = res.Body.Close()
			<-gone
			r.waitIdle(t)

			res, cancel = open()
			defer cancel()
			next <- "part"
			next <- "break"
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err == nil || string(got) != "part" {
				t.Errorf("a response that breaks off is %q, %v", got, err)
			}
			r.waitIdle(t)
		})
	}
}

func TestH2CTimeout(t *testing.T) {
	gone := make(chan struct{}, 1)
	r := h2cRig(t, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	})
	res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("a"))
	if res.StatusCode != http.StatusGatewayTimeout || res.Header.Get(errorHeader) != codeTimeout {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	<-gone
	r.waitIdle(t)
}

// TestH2CAnswersEarly holds that a replica may answer without the request's
// body, and that the client's connection is not used for what is left of it.
func TestH2CAnswersEarly(t *testing.T) {
	r := h2cRig(t, app{ongoing: 1, queued: -1}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	})
	nc := dial(t, r.addr)
	fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusTeapot || !res.Close {
		t.Errorf("%d, close %v", res.StatusCode, res.Close)
	}
	r.waitIdle(t)
}

// framed is a replica that a test plays frame by frame. serve gets each request,
// numbered over all connections.
func framed(tb testing.TB, serve func(f *http2.Framer, stream uint32, n int)) string {
	tb.Helper()
	var count atomic.Int32
	return rawReplica(tb, func(nc net.Conn, br *bufio.Reader) {
		if _, err := io.ReadFull(br, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(nc, br)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.PingFrame:
				if !frame.IsAck() {
					_ = f.WritePing(true, frame.Data)
				}
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					_ = f.WriteSettingsAck()
				}
			case *http2.DataFrame:
				if frame.StreamEnded() {
					serve(f, frame.StreamID, int(count.Add(1)))
				}
			case *http2.HeadersFrame:
				if frame.StreamEnded() {
					serve(f, frame.StreamID, int(count.Add(1)))
				}
			}
		}
	})
}

// block is the header block of a response.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func answerH2(f *http2.Framer, stream uint32, fields ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(fields...), EndHeaders: true, EndStream: true})
}

func TestH2StreamsNotTaken(t *testing.T) {
	small, large := strings.Repeat("s", 1000), strings.Repeat("l", copyBufferSize+1)
	for name, c := range map[string]struct {
		first  func(f *http2.Framer, stream uint32)
		body   string
		status int
		code   string
	}{
		"a refused stream is sent again":          {refuse(http2.ErrCodeRefusedStream), small, 200, ""},
		"one that came after a GOAWAY too":        {func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }, small, 200, ""},
		"without a body too":                      {refuse(http2.ErrCodeRefusedStream), "", 200, ""},
		"a body that is not kept is not":          {refuse(http2.ErrCodeRefusedStream), large, 502, codeReplicaDied},
		"a stream that was reset is not":          {refuse(http2.ErrCodeInternal), small, 502, codeBadResponse},
		"a response without a status is none":     {func(f *http2.Framer, stream uint32) { answerH2(f, stream, "a", "b") }, small, 502, codeBadResponse},
		"a response with an odd status is none":   {func(f *http2.Framer, stream uint32) { answerH2(f, stream, ":status", "x") }, small, 502, codeBadResponse},
		"a response with status 0 is none":        {func(f *http2.Framer, stream uint32) { answerH2(f, stream, ":status", "0") }, small, 502, codeBadResponse},
		"a response with status 1000 is none":     {func(f *http2.Framer, stream uint32) { answerH2(f, stream, ":status", "1000") }, small, 502, codeBadResponse},
		"a response with a bad header is none":    {func(f *http2.Framer, stream uint32) { answerH2(f, stream, ":status", "200", "a", "b\r\nc: d") }, small, 502, codeBadResponse},
		"a frame of nonsense ends the connection": {func(f *http2.Framer, _ uint32) { _ = f.WriteRawFrame(http2.FrameHeaders, 0, 0, []byte("x")) }, small, 502, codeReplicaDied},
	} {
		t.Run(name, func(t *testing.T) {
			address := framed(t, func(f *http2.Framer, stream uint32, n int) {
				if n == 1 {
					c.first(f, stream)
					return
				}
				answerH2(f, stream, ":status", "200", "content-length", "0")
			})
			r := start(t, speaking(routes.ProtocolH2C, app{ongoing: 5, queued: -1, addresses: []string{address}}))
			res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader(c.body))
			if res.StatusCode != c.status || res.Header.Get(errorHeader) != c.code {
				t.Errorf("%d %s, want %d %s", res.StatusCode, body, c.status, c.code)
			}
			if res, _ := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("next")); res.StatusCode != 200 {
				t.Errorf("the next request: %d", res.StatusCode)
			}
			r.waitIdle(t)
		})
	}
}

func refuse(code http2.ErrCode) func(f *http2.Framer, stream uint32) {
	return func(f *http2.Framer, stream uint32) { _ = f.WriteRSTStream(stream, code) }
}

func TestH2ReplicaThatDiesOverAGet(t *testing.T) {
	dies := framed(t, func(f *http2.Framer, _ uint32, _ int) { _ = f.WriteRawFrame(http2.FrameHeaders, 0, 0, []byte("x")) })
	lives := framed(t, func(f *http2.Framer, stream uint32, _ int) { answerH2(f, stream, ":status", "200") })
	r := start(t, speaking(routes.ProtocolH2C, app{ongoing: 5, queued: -1, addresses: []string{dies, lives}}))
	for range 10 {
		if res, body := get(t, r.client, r.url+"/app"); res.StatusCode != 200 {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	r.waitIdle(t)
}

func TestH2ReplicaThatSaysNothing(t *testing.T) {
	address := rawReplica(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
	v := speaking(routes.ProtocolH2C, app{ongoing: 1, queued: -1, addresses: []string{address, address, address}})
	r := start(t, v, func(c *Config) { c.DialTimeout = 20 * time.Millisecond })
	if res, _ := get(t, r.client, r.url+"/app"); res.Header.Get(errorHeader) != codeUnreachable {
		t.Errorf("%d %s", res.StatusCode, res.Header.Get(errorHeader))
	}
	r.waitIdle(t)
}

func TestH2Connections(t *testing.T) {
	hold := make(chan struct{})
	var ongoing atomic.Int32
	address, conns := h2Replica(t, func(http.ResponseWriter, *http.Request) {
		ongoing.Add(1)
		defer ongoing.Add(-1)
		<-hold
	})
	v := speaking(routes.ProtocolH2C, app{ongoing: 100, queued: -1, addresses: []string{address}})
	r := start(t, v)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != 200 {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
	eventually(t, "all are at the replica", func() bool { return ongoing.Load() == 100 })
	if n := conns.Load(); n < 2 || n > 8 {
		t.Errorf("100 streams on %d connections, want 2 to 8", n)
	}
	t.Run("of a replica that leaves end when they are idle", func(t *testing.T) {
		without := v
		without.Endpoints = nil
		r.discovery.set(without)
		eventually(t, "it leaves", func() bool {
			s := r.Status().Deployments[0].Replicas
			return len(s) == 1 && s[0].Leaving
		})
		if n := conns.Load(); n == 0 {
			t.Error("connections ended under their streams")
		}
		close(hold)
		wg.Wait()
		eventually(t, "they have ended", func() bool { return conns.Load() == 0 })
		r.waitIdle(t)
	})
}

func TestH2IdleConnectionsEnd(t *testing.T) {
	address, conns := h2Replica(t, func(http.ResponseWriter, *http.Request) {})
	v := speaking(routes.ProtocolH2C, app{ongoing: 1, queued: -1, addresses: []string{address}})
	r := start(t, v, func(c *Config) { c.IdleTimeout = 30 * time.Millisecond })
	for range 2 {
		if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	eventually(t, "it has ended", func() bool { return conns.Load() == 0 })
	if res, _ := get(t, r.client, r.url+"/app"); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
}
