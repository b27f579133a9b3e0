package h2_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/h2"
)

// begin makes a request, and returns its response when the header is there.
func begin(t *testing.T, c *h2.Conn, r *http.Request) *http.Response {
	t.Helper()
	if !c.Reserve() {
		t.Fatal("no stream")
	}
	res, err := c.RoundTrip(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// TestNothingWaitsForMore holds that each event is told when it comes, also
// where the beginning of the next frame has come with it, and that Ready says
// which have come together.
func TestNothingWaitsForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := play(t, func(p *peer, id uint32) { p.header(id, false, ":status", "200") })
		res := begin(t, c, request(t.Context(), http.MethodGet, nil))
		body := res.Body.(*h2.Body)
		b := make([]byte, 100)
		read := func(want string, end error) {
			t.Helper()
			if n, err := body.Read(b); string(b[:n]) != want || !errors.Is(err, end) {
				t.Errorf("%q, %v, want %q, %v", b[:n], err, want, end)
			}
		}
		synctest.Wait()
		if body.Ready() {
			t.Error("it has more, with nothing there")
		}
		p.data(1, false, "one")
		read("one", nil)
		// A whole frame and a part of the next.
		_, _ = p.nc.Write([]byte("\x00\x00\x03\x00\x00\x00\x00\x00\x01two\x00\x00\x05\x00"))
		read("two", nil)
		_, _ = p.nc.Write([]byte("\x00\x00\x00\x00\x01thr"))
		synctest.Wait()
		if body.Ready() {
			t.Error("it has more, with half a frame there")
		}
		_, _ = p.nc.Write([]byte("ee"))
		p.header(1, true, "a", "b")
		synctest.Wait()
		if !body.Ready() {
			t.Error("it has no more")
		}
		read("three", io.EOF)
		if res.Trailer.Get("A") != "b" {
			t.Errorf("trailers %v", res.Trailer)
		}
	})
}

// TestReadyIsNotSaidOfABreak holds that what comes before a stream breaks off is
// not kept back: it would be lost with the rest.
func TestReadyIsNotSaidOfABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := play(t, func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			p.data(id, false, "part")
			p.raw(http2.FrameRSTStream, 0, id, "\x00\x00\x00\x02")
		})
		res := begin(t, c, request(t.Context(), http.MethodGet, nil))
		synctest.Wait()
		b := make([]byte, 100)
		if n, err := res.Body.Read(b); string(b[:n]) != "part" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if res.Body.(*h2.Body).Ready() {
			t.Error("there is more, after a reset")
		}
		if _, err := res.Body.Read(b); word(err) != "reset INTERNAL_ERROR" {
			t.Error(err)
		}
	})
}

func TestRequestsThatEnd(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(p *peer, id uint32)
		want  string
		told  string
	}{
		"before there is an answer": {func(*peer, uint32) {}, "late", "RST 1 CANCEL"},
		"in the midst of one":       {func(p *peer, id uint32) { p.header(id, false, ":status", "200"); p.data(id, false, "part") }, "200 part, then late", "RST 1 CANCEL"},
		"after one":                 {func(p *peer, id uint32) { p.header(id, true, ":status", "200") }, "200 ", "RST 1 NO_ERROR"},
	} {
		for _, body := range []io.ReadCloser{nil, newIdleBody()} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					conn, p := play(t, c.serve)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					r := request(ctx, http.MethodPost, nil)
					told := c.told
					if body != nil {
						idle := newIdleBody()
						r.Body, r.ContentLength = idle, -1
					} else if strings.HasSuffix(told, "NO_ERROR") {
						told = ""
					}
					if got := call(conn, r); got != c.want {
						t.Errorf("%q, want %q", got, c.want)
					}
					synctest.Wait()
					if got := p.told(); got != told {
						t.Errorf("the server is told %q, want %q", got, told)
					}
					if !conn.CanTake() {
						t.Error("the connection takes no more")
					}
				})
			})
		}
	}
}

// idleBody has nothing to be read until it is closed.
type idleBody struct{ closed chan struct{} }

func newIdleBody() *idleBody { return &idleBody{make(chan struct{})} }

func (b *idleBody) Read([]byte) (int, error) {
	<-b.closed
	return 0, io.ErrClosedPipe
}

func (b *idleBody) Close() error {
	close(b.closed) // panics the second time
	return nil
}

// TestWindowsOfTheServer holds that no more of a body is sent than the server
// has room for, on the stream and on the connection, also when its settings
// change meanwhile.
func TestWindowsOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := play(t, func(*peer, uint32) {}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		body := strings.Repeat("0123456789", 7000)
		got := make(chan string)
		go func() { got <- call(c, request(t.Context(), http.MethodPost, strings.NewReader(body))) }()
		for _, step := range []struct {
			do   func(f *http2.Framer) error
			want int
		}{
			{func(*http2.Framer) error { return nil }, 10},
			{func(f *http2.Framer) error { return f.WriteWindowUpdate(1, 5) }, 15},
			{func(f *http2.Framer) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20})
			}, 25},
			{func(f *http2.Framer) error {
				return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			}, 25},
			{func(f *http2.Framer) error { return f.WriteWindowUpdate(1, 30) }, 35},
			{func(f *http2.Framer) error { return f.WriteWindowUpdate(1, 1<<20) }, 1<<16 - 1},
			{func(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1) }, 1 << 16},
			{func(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1<<20) }, len(body)},
		} {
			p.write(step.do)
			synctest.Wait()
			if n := len(p.body()); n != step.want {
				t.Fatalf("%d bytes were sent, want %d", n, step.want)
			}
		}
		ok(p, 1)
		if got := <-got; got != "200 " || p.body() != body {
			t.Errorf("%q", got)
		}
	})
}

func TestAsManyStreamsAsTheServerTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := play(t, nil, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		for _, want := range []bool{true, true, false} {
			if c.Reserve() != want {
				t.Fatal("two are to be had")
			}
		}
		got := make(chan string)
		go func() {
			res, err := c.RoundTrip(request(t.Context(), http.MethodGet, nil), nil)
			if err == nil {
				_ = res.Body.Close()
			}
			got <- errWord(err)
		}()
		synctest.Wait()
		if c.CanTake() {
			t.Error("a third is to be had")
		}
		ok(p, 1)
		if got := <-got; got != "" || !c.CanTake() {
			t.Errorf("%q", got)
		}
		p.write(func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		})
		synctest.Wait()
		if _, err := c.RoundTrip(request(t.Context(), http.MethodGet, nil), nil); errWord(err) != "not taken" {
			t.Error(err)
		}
	})
}

func errWord(err error) string {
	if err == nil {
		return ""
	}
	return word(err)
}

// TestRequestsThatCannotBeSent holds that nothing of them reaches the server.
func TestRequestsThatCannotBeSent(t *testing.T) {
	for name, change := range map[string]func(r *http.Request){
		"a method with a space":      func(r *http.Request) { r.Method = "GE T" },
		"CONNECT":                    func(r *http.Request) { r.Method = http.MethodConnect },
		"an authority with a break":  func(r *http.Request) { r.Host = "a\r\nb" },
		"a path without its slash":   func(r *http.Request) { r.URL.Opaque = "path" },
		"a path with a break":        func(r *http.Request) { r.URL.Opaque = "/\n" },
		"a header with a space":      func(r *http.Request) { r.Header["A b"] = []string{"c"} },
		"a header with a break":      func(r *http.Request) { r.Header["A"] = []string{"b\r\nc: d"} },
		"a header of the connection": func(r *http.Request) { r.Header["Connection"] = []string{"x"} },
		"a pseudo-header":            func(r *http.Request) { r.Header[":path"] = []string{"/"} },
		"a trailer like that":        func(r *http.Request) { r.Trailer = http.Header{"Transfer-Encoding": nil} },
		"a header that is too large": func(r *http.Request) { r.Header["A"] = []string{strings.Repeat("x", 3<<10)} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := play(t, func(p *peer, id uint32) { p.header(id, true, ":status", "200") }, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 2 << 10})
				r := request(t.Context(), http.MethodPost, strings.NewReader("x"))
				change(r)
				if got := call(c, r); !strings.Contains(got, "cannot be sent") && !strings.Contains(got, "the server takes") {
					t.Errorf("%q", got)
				}
				if got := call(c, request(t.Context(), http.MethodGet, nil)); got != "200 " || p.body() != "" {
					t.Errorf("the next: %q", got)
				}
			})
		})
	}
}

// TestNotTakenLeavesTheBody holds that who gets ErrNotTaken may read the body again:
// nobody else does any more.
func TestNotTakenLeavesTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := play(t, func(p *peer, _ uint32) { p.raw(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00") })
		body := &slowBody{}
		r := request(t.Context(), http.MethodPost, nil)
		r.Body, r.ContentLength = body, -1
		if got := call(c, r); got != "not taken" || body.reading {
			t.Errorf("%q, being read: %v", got, body.reading)
		}
	})
}

// slowBody takes a second for each byte, whether it is closed or not.
type slowBody struct{ reading bool }

func (b *slowBody) Read(p []byte) (int, error) {
	b.reading = true
	time.Sleep(time.Second) // of the bubble
	b.reading = false
	return copy(p, "x"), nil
}

func (*slowBody) Close() error { return nil }

// TestPaddingIsNoBody holds that padding takes nothing of the window for good:
// nobody reads it.
func TestPaddingIsNoBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := play(t, func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			for range 400 {
				p.write(func(f *http2.Framer) error { return f.WriteDataPadded(id, false, []byte("x"), make([]byte, 255)) })
			}
			p.data(id, true, "")
		})
		if got := call(c, request(t.Context(), http.MethodGet, nil)); got != "200 "+strings.Repeat("x", 400) {
			t.Errorf("%q", got)
		}
	})
}

// TestEndOfARequestIsSeenInAFlood holds that a response which always has more
// ends with its request all the same.
func TestEndOfARequestIsSeenInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := play(t, func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			p.data(id, false, strings.Repeat("x", 16<<10))
		})
		ctx, cancel := context.WithCancel(t.Context())
		res := begin(t, c, request(ctx, http.MethodGet, nil))
		synctest.Wait()
		cancel()
		if n, err := res.Body.Read(make([]byte, 10)); n > 0 || word(err) != "cancelled" {
			t.Errorf("%d bytes, %v", n, err)
		}
		synctest.Wait()
		if p.told() != "RST 1 CANCEL" {
			t.Errorf("the server is told %q", p.told())
		}
	})
}
