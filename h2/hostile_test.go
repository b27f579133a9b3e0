package h2_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/h2"
)

// TestServersThatBreakRules holds what becomes of a request, and of another one
// on the same connection, and what the server is told.
func TestServersThatBreakRules(t *testing.T) {
	const lives = "200 "
	long := strings.Repeat("x", 3<<10)
	for name, c := range map[string]struct {
		method string
		serve  func(p *peer, id uint32)
		first  string
		next   string // what comes of the next request
		told   string
	}{
		"an answer":                   {"", func(p *peer, id uint32) { p.header(id, false, ":status", "200"); p.data(id, true, "hello") }, "200 hello", lives, ""},
		"an answer of a header alone": {"", ok, "200 ", lives, ""},
		"a padded one": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			p.raw(http2.FrameData, 9, id, "\x02hi..")
		}, "200 hi", lives, ""},
		"interim ones are skipped": {"", func(p *peer, id uint32) { p.header(id, false, ":status", "103"); p.header(id, true, ":status", "200") }, lives, lives, ""},
		"trailers": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200", "trailer", "a")
			p.header(id, true, "a", "b")
		}, "200  A=b", lives, ""},
		"a name in capitals":        {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "A", "b") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a value with a line's end": {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "a", "b\nc") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"no status":                 {"", func(p *peer, id uint32) { p.header(id, true, "a", "b") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"two":                       {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", ":status", "200") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a short one":               {"", func(p *peer, id uint32) { p.header(id, true, ":status", "20") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"one that is no number":     {"", func(p *peer, id uint32) { p.header(id, true, ":status", "+20") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a status after a header":   {"", func(p *peer, id uint32) { p.header(id, true, "a", "b", ":status", "200") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a request's pseudo-header": {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", ":path", "/") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"an unknown pseudo-header":  {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", ":x", "/") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"connection":                {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "connection", "close") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"transfer-encoding":         {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "transfer-encoding", "chunked") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"101":                       {"", func(p *peer, id uint32) { p.header(id, false, ":status", "101") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"an interim one that ends":  {"", func(p *peer, id uint32) { p.header(id, true, ":status", "103") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"interim ones without end": {"", func(p *peer, id uint32) {
			for range 20 {
				p.header(id, false, ":status", "103")
			}
		}, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a length that is none": {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "content-length", "+1") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"two lengths": {"", func(p *peer, id uint32) {
			p.header(id, true, ":status", "200", "content-length", "1", "content-length", "1")
		}, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"more than its length": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200", "content-length", "1")
			p.data(id, true, "12")
		}, "200 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"less than its length": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200", "content-length", "3")
			p.data(id, true, "12")
		}, "200 12, then cut", lives, ""},
		"nothing of its length": {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "content-length", "3") }, "200 , then cut", lives, ""},
		"less, and trailers": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200", "content-length", "3")
			p.header(id, true, "a", "b")
		}, "200 , then cut", lives, ""},
		"HEAD with a length":         {"HEAD", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "content-length", "3") }, lives, lives, ""},
		"HEAD with a body":           {"HEAD", func(p *peer, id uint32) { p.header(id, false, ":status", "200"); p.data(id, true, "1") }, "200 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"204 with a body":            {"", func(p *peer, id uint32) { p.header(id, false, ":status", "204"); p.data(id, true, "1") }, "204 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a body without a header":    {"", func(p *peer, id uint32) { p.data(id, true, "1") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a second header":            {"", func(p *peer, id uint32) { p.header(id, false, ":status", "200"); p.header(id, false, "a", "b") }, "200 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"trailers with a status":     {"", func(p *peer, id uint32) { p.header(id, false, ":status", "200"); p.header(id, true, ":status", "200") }, "200 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a header that is too large": {"", func(p *peer, id uint32) { p.header(id, true, ":status", "200", "a", long, "b", long) }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"trailers that are too large": {"", func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			p.header(id, true, "a", long, "b", long)
		}, "200 , then reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a reset":                    {"", func(p *peer, id uint32) { p.raw(http2.FrameRSTStream, 0, id, "\x00\x00\x00\x08") }, "reset CANCEL", lives, ""},
		"a reset after the end":      {"", func(p *peer, id uint32) { ok(p, id); p.raw(http2.FrameRSTStream, 0, id, "\x00\x00\x00\x08") }, lives, lives, ""},
		"a frame after the end":      {"", func(p *peer, id uint32) { ok(p, id); p.data(id, false, "x") }, lives, lives, ""},
		"an empty window":            {"", func(p *peer, id uint32) { p.raw(http2.FrameWindowUpdate, 0, id, "\x00\x00\x00\x00") }, "reset PROTOCOL_ERROR", lives, "RST 1 PROTOCOL_ERROR"},
		"a window that overflows":    {"", func(p *peer, id uint32) { p.raw(http2.FrameWindowUpdate, 0, id, "\x7f\xff\xff\xff") }, "reset FLOW_CONTROL_ERROR", lives, "RST 1 FLOW_CONTROL_ERROR"},
		"a frame of an unknown kind": {"", func(p *peer, id uint32) { p.raw(0xee, 0xff, 77, "x"); ok(p, id) }, lives, lives, ""},
		"a refusal":                  {"", func(p *peer, id uint32) { p.raw(http2.FrameRSTStream, 0, id, "\x00\x00\x00\x07") }, "reset REFUSED_STREAM", lives, ""},
		"it goes away":               {"", func(p *peer, _ uint32) { p.raw(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00") }, "not taken", "no stream", ""},
		"it goes away, but answers": {"", func(p *peer, id uint32) {
			p.raw(http2.FrameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00")
			ok(p, id)
		}, lives, "no stream", ""},
		"it closes":                      {"", func(p *peer, _ uint32) { _ = p.nc.Close() }, "cut", "no stream", ""},
		"all windows overflow":           {"", func(p *peer, _ uint32) { p.raw(http2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff") }, "fault FLOW_CONTROL_ERROR", "no stream", "GOAWAY FLOW_CONTROL_ERROR"},
		"a frame of an idle stream":      {"", func(p *peer, _ uint32) { p.raw(http2.FrameRSTStream, 0, 99, "\x00\x00\x00\x08") }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"a header of one":                {"", func(p *peer, _ uint32) { ok(p, 99) }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"of a stream of its own":         {"", func(p *peer, _ uint32) { ok(p, 2) }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"a push":                         {"", func(p *peer, id uint32) { p.raw(http2.FramePushPromise, 4, id, "\x00\x00\x00\x02") }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"pushing switched on":            {"", func(p *peer, _ uint32) { p.raw(http2.FrameSettings, 0, 0, "\x00\x02\x00\x00\x00\x01") }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"a setting that is out of range": {"", func(p *peer, _ uint32) { p.raw(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x00\x01") }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"a window of settings":           {"", func(p *peer, _ uint32) { p.raw(http2.FrameSettings, 0, 0, "\x00\x04\xff\xff\xff\xff") }, "fault FLOW_CONTROL_ERROR", "no stream", "GOAWAY FLOW_CONTROL_ERROR"},
		"compression that is none":       {"", func(p *peer, id uint32) { p.raw(http2.FrameHeaders, 5, id, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }, "fault COMPRESSION_ERROR", "no stream", "GOAWAY COMPRESSION_ERROR"},
		"a header that goes on for ever": {"", func(p *peer, id uint32) {
			p.raw(http2.FrameHeaders, 0, id, "")
			for range 3 {
				p.raw(http2.FrameContinuation, 0, id, string(block("a", long)))
			}
		}, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"another frame within a header": {"", func(p *peer, id uint32) { p.raw(http2.FrameHeaders, 0, id, ""); p.data(id, false, "") }, "fault PROTOCOL_ERROR", "no stream", "GOAWAY PROTOCOL_ERROR"},
		"a frame that is too large":     {"", func(p *peer, id uint32) { p.raw(http2.FrameData, 0, id, strings.Repeat("x", 17<<10)) }, "too large", "no stream", "GOAWAY FRAME_SIZE_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, p := play(t, func(p *peer, id uint32) {
					if id == 1 {
						c.serve(p, id)
					} else {
						ok(p, id)
					}
				})
				if got := call(conn, request(t.Context(), c.method, nil)); got != c.first {
					t.Errorf("%q, want %q", got, c.first)
				}
				synctest.Wait()
				if got := call(conn, request(t.Context(), http.MethodGet, nil)); got != c.next {
					t.Errorf("the next is %q, want %q", got, c.next)
				}
				synctest.Wait()
				if got := p.told(); got != c.told {
					t.Errorf("the server is told %q, want %q", got, c.told)
				}
			})
		})
	}
}

// A server that sends more than it may is stopped, so that what is held of a
// response that nobody reads is bounded.
func TestServerThatOverrunsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := play(t, func(p *peer, id uint32) {
			p.header(id, false, ":status", "200")
			for range 5 {
				p.data(id, false, strings.Repeat("x", 16<<10))
			}
		})
		c.Reserve()
		res, err := c.RoundTrip(request(t.Context(), http.MethodGet, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		got, err := io.ReadAll(res.Body)
		if len(got) != 64<<10 || word(err) != "reset FLOW_CONTROL_ERROR" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		synctest.Wait()
		if got := p.told(); got != "RST 1 FLOW_CONTROL_ERROR" {
			t.Errorf("the server is told %q", got)
		}
	})
}

// A server that asks and reads no answers must not fill the memory with them.
func TestServerThatAsksWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go func() {
			f := http2.NewFramer(server, server)
			_, _ = io.ReadFull(server, make([]byte, len(http2.ClientPreface)))
			_ = f.WriteSettings()
			_ = f.WritePing(true, [8]byte{})
			for f.WritePing(false, [8]byte{}) == nil {
			}
		}()
		c, err := h2.New(t.Context(), client, testConfig)
		if err != nil {
			t.Fatal(err)
		}
		if got := call(c, request(t.Context(), http.MethodGet, nil)); !strings.HasPrefix(got, "not taken") && !strings.Contains(got, "answers") {
			t.Errorf("%q", got)
		}
		_ = server.Close()
	})
}

// A server that reads nothing for too long is given up.
func TestServerThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		begun := time.Now()
		go func() {
			f := http2.NewFramer(server, io.LimitReader(server, 200)) // about the greeting
			_, _ = io.ReadFull(server, make([]byte, len(http2.ClientPreface)))
			_ = f.WriteSettings()
			_ = f.WritePing(true, [8]byte{})
			for {
				if _, err := f.ReadFrame(); err != nil {
					return
				}
			}
		}()
		c, err := h2.New(t.Context(), client, testConfig)
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan string)
		go func() {
			time.Sleep(time.Second) // of the bubble: the first is being written
			next <- call(c, request(t.Context(), http.MethodGet, nil))
		}()
		got := call(c, request(t.Context(), http.MethodPost, strings.NewReader(strings.Repeat("x", 1000))))
		if after := time.Since(begun); !strings.Contains(got, "timeout") || after > time.Minute {
			t.Errorf("%q after %v", got, after)
		}
		if got := <-next; got != "not taken" {
			t.Errorf("the one that was not written: %q", got)
		}
		_ = server.Close()
	})
}

func TestGreeting(t *testing.T) {
	for name, c := range map[string]struct {
		server func(nc net.Conn, f *http2.Framer)
		want   string
	}{
		"silence":             {func(net.Conn, *http2.Framer) {}, "late"},
		"settings alone":      {func(_ net.Conn, f *http2.Framer) { _ = f.WriteSettings() }, "late"},
		"another frame first": {func(_ net.Conn, f *http2.Framer) { _ = f.WritePing(true, [8]byte{}) }, "fault PROTOCOL_ERROR"},
		"it closes":           {func(nc net.Conn, _ *http2.Framer) { _ = nc.Close() }, ""},
		"HTTP/1.1":            {func(nc net.Conn, _ *http2.Framer) { _, _ = nc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				go func() {
					go func() { _, _ = io.Copy(io.Discard, server) }()
					c.server(server, http2.NewFramer(server, nil))
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := h2.New(ctx, client, testConfig)
				if err == nil || !strings.HasPrefix(word(err), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				synctest.Wait()
				if _, err := client.Write(nil); err == nil {
					t.Error("its connection is open")
				}
				_ = server.Close()
			})
		})
	}
}
