package conformance

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serve-nomad/serve-nomad/proxy"
	"github.com/serve-nomad/serve-nomad/routes"
)

// http2Hostility is an answer that no replica of HTTP/2 should give.
type http2Hostility struct {
	name   string
	answer func(stream uint32) []byte // frames
	want   string                     // as for hostility
	body   string
	closes bool // the replica closes after it
}

// headOf is a frame of an answer's header.
func headOf(flags byte, fields ...string) func(uint32) []byte {
	return func(stream uint32) []byte { return blockFrames(flags, stream, literals(fields)) }
}

func blockFrames(flags byte, stream uint32, block []byte) (frames []byte) {
	const most = 16 << 10
	for kind := byte(frameHeaders); ; kind, flags = frameContinuation, 0 {
		if len(block) <= most {
			return append(frames, frame(kind, flags|flagEndHeaders, stream, block)...)
		}
		frames = append(frames, frame(kind, flags, stream, block[:most])...)
		block = block[most:]
	}
}

func dataOf(flags byte, body string) func(uint32) []byte {
	return func(stream uint32) []byte { return frame(frameData, flags, stream, []byte(body)) }
}

func frameOf(kind, flags byte, payload []byte) func(uint32) []byte {
	return func(stream uint32) []byte { return frame(kind, flags, stream, payload) }
}

// onConnection is a frame of the connection.
func onConnection(kind, flags byte, payload []byte) func(uint32) []byte {
	return func(uint32) []byte { return frame(kind, flags, 0, payload) }
}

func inOrder(parts ...func(uint32) []byte) func(uint32) []byte {
	return func(stream uint32) (out []byte) {
		for _, part := range parts {
			out = append(out, part(stream)...)
		}
		return out
	}
}

func http2Hostilities() []http2Hostility {
	ok, hi := headOf(0, ":status", "200"), dataOf(flagEndStream, "hi")
	hs := []http2Hostility{
		{name: "an answer in order", answer: inOrder(ok, hi), want: "200", body: "hi"},
		{name: "no status", answer: inOrder(headOf(0, "x-a", "b"), hi), want: "502"},
		{name: "two statuses", answer: inOrder(headOf(0, ":status", "200", ":status", "500"), hi), want: "502"},
		{name: "a status after the others", answer: inOrder(headOf(0, "x-a", "b", ":status", "200"), hi), want: "502"},
		{name: "a path", answer: inOrder(headOf(0, ":status", "200", ":path", "/evil"), hi), want: "502"},
		{name: "a change of protocol", answer: inOrder(headOf(0, ":status", "101", "upgrade", "evil"), hi), want: "502"},
		{name: "headers about the connection", answer: inOrder(headOf(0, ":status", "200", "connection", "x-evil", "x-evil", "1", "keep-alive", "evil", "transfer-encoding", "chunked"), hi), want: "200|502", body: "hi"},
		{name: "the proxy's own word", answer: inOrder(headOf(0, ":status", "503", "x-serve-error", "queue-full", "x-serve-evil", "1"), hi), want: "503", body: "hi"},

		{name: "a body that is too short", answer: inOrder(headOf(0, ":status", "200", "content-length", "9"), hi), want: "cut|502"},
		{name: "a body that is too long", answer: inOrder(headOf(0, ":status", "200", "content-length", "1"), hi), want: "200|cut|502", body: "h"},
		{name: "two lengths", answer: inOrder(headOf(0, ":status", "200", "content-length", "2", "content-length", "3"), hi), want: "200|cut|502", body: "hi"},
		{name: "a length that is none", answer: inOrder(headOf(0, ":status", "200", "content-length", "+2"), hi), want: "200|502", body: "hi"},
		{name: "a length of nothing, and no end", answer: inOrder(headOf(0, ":status", "204", "content-length", "7"), dataOf(flagEndStream, "")), want: "204|502|cut"},
		{name: "a body where there is none", answer: inOrder(headOf(0, ":status", "304"), hi), want: "304|502"},
		{name: "data before the header", answer: inOrder(dataOf(0, "evil"), ok, hi), want: "502"},
		{name: "data after the end", answer: inOrder(ok, hi, dataOf(flagEndStream, "evil")), want: "200", body: "hi"},
		{name: "more padding than data", answer: inOrder(ok, frameOf(frameData, 8|flagEndStream, []byte{200, 'h', 'i'})), want: "cut|502"},
		{name: "a trailer with a status", answer: inOrder(ok, dataOf(0, "hi"), headOf(flagEndStream, ":status", "500")), want: "cut|502"},
		{name: "a trailer that does not end it", answer: inOrder(ok, dataOf(0, "hi"), headOf(0, "x-a", "b"), dataOf(flagEndStream, "evil")), want: "cut|502"},
		{name: "hints without end", answer: func(stream uint32) []byte {
			return bytes.Repeat(headOf(0, ":status", "103", "link", "a")(stream), 100_000)
		}, want: "502|" + strings.Repeat("103 ", 16) + "502"},

		{name: "a reset", answer: frameOf(frameReset, 0, word(2)), want: "502"},
		{name: "a reset in the body", answer: inOrder(ok, dataOf(0, "hi"), frameOf(frameReset, 0, word(2))), want: "cut|502"},
		{name: "a reset without an error in the body", answer: inOrder(ok, dataOf(0, "hi"), frameOf(frameReset, 0, word(0))), want: "cut|502"},
		{name: "a refusal each time", answer: frameOf(frameReset, 0, word(7)), want: "502"},
		{name: "a goodbye each time", answer: onConnection(frameGoAway, 0, make([]byte, 8)), closes: true, want: "502"},
		{name: "a goodbye with an error", answer: onConnection(frameGoAway, 0, append(word(0), word(2)...)), closes: true, want: "502"},
		{name: "the end", answer: func(uint32) []byte { return nil }, closes: true, want: "502"},
		{name: "the end in a header", answer: func(stream uint32) []byte { return ok(stream)[:10] }, closes: true, want: "502"},
		{name: "the end in the body", answer: inOrder(ok, dataOf(0, "hi")), closes: true, want: "cut|502"},
		{name: "HTTP/1.1", answer: func(uint32) []byte { return []byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") }, closes: true, want: "502"},
		{name: "a promise", answer: inOrder(frameOf(5, flagEndHeaders, append(word(2), literals(plain("GET", "/evil"))...)), ok, hi), want: "502"},
		{name: "a window of nothing more", answer: inOrder(frameOf(frameWindow, 0, word(0)), ok, hi), want: "502"},
		{name: "a window beyond all", answer: inOrder(onConnection(frameWindow, 0, word(1<<31-1)), ok, hi), want: "502|200", body: "hi"},
		{name: "settings that cannot be", answer: inOrder(onConnection(frameSettings, 0, append([]byte{0, 5}, word(1)...)), ok, hi), want: "502"},
		{name: "a continuation of nothing", answer: inOrder(frameOf(frameContinuation, flagEndHeaders, nil), ok, hi), want: "502"},
		{name: "another frame in a header", answer: inOrder(frameOf(frameHeaders, 0, literals([]string{":status", "200"})), hi), want: "502"},
		{name: "a header that is no HPACK", answer: inOrder(frameOf(frameHeaders, flagEndHeaders, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), hi), want: "502"},
		{name: "a frame beyond its size", answer: func(stream uint32) []byte { return append(ok(stream), 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, byte(stream)) }, closes: true, want: "502|cut"},
		{name: "a header of 3 MB", answer: inOrder(headOf(0, ":status", "200", "x-a", strings.Repeat("x", 3<<20)), hi), want: "502"},
		{name: "the answer to another", answer: func(stream uint32) []byte { return append(ok(stream+2), hi(stream+2)...) }, want: "502"},
		{name: "a frame that nobody knows", answer: inOrder(frameOf(0x77, 0xff, []byte("evil")), ok, hi), want: "200", body: "hi"},
	}
	for _, status := range []string{"", "2", "20", "2000", "000", "099", "abc", "+20", "-20", "200 ", "1e2"} {
		hs = append(hs, http2Hostility{name: "status " + status, answer: inOrder(headOf(0, ":status", status), hi), want: "502"})
	}
	for _, name := range []string{"X-Evil", "x evil", "x-evil:", "", "x\r\nevil", "x-evil\x00"} {
		hs = append(hs, http2Hostility{name: "a header named " + name, answer: inOrder(headOf(0, ":status", "200", name, "1"), hi), want: "502"})
	}
	for _, value := range []string{"a\r\nset-cookie: evil=1", "a\nset-cookie: evil=1", "a\x00b"} {
		hs = append(hs,
			http2Hostility{name: "a value " + value, answer: inOrder(headOf(0, ":status", "200", "x-a", value), hi), want: "502"},
			http2Hostility{name: "a trailer's value " + value, answer: inOrder(ok, dataOf(0, "hi"), headOf(flagEndStream, "x-a", value)), want: "cut|502"},
		)
	}
	return hs
}

// TestHostileHTTP2Replicas has a replica give each of them, as TestHostileReplicas
// does.
func TestHostileHTTP2Replicas(t *testing.T) {
	t.Parallel()
	for _, h := range http2Hostilities() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			a := app(1, rawReplica(t, h.serve))
			a.timeout = 5 * time.Second
			r := start(t, speaks(viewOf(a), "app", routes.ProtocolH2C), func(c *proxy.Config) { c.Linger = time.Second })
			got := ask(t, r.addr, "POST /app/evil HTTP/1.1\nHost: a\nContent-Length: 4\nConnection: close\n\nbody")
			if !oneOf(got.statuses(), h.want) {
				t.Errorf("the client got %q, want %q\n%.500q", got.statuses(), h.want, got.raw)
			}
			if !got.cut && got.last() < http.StatusBadGateway && string(got.body) != h.body {
				t.Errorf("the client got the body %.200q, want %q", got.body, h.body)
			}
			if bytes.Contains(bytes.ToLower(got.raw), []byte("evil")) || bytes.Contains(got.raw, []byte("queue-full")) {
				t.Errorf("the client got %.500q", got.raw)
			}
			r.waitIdle(t)
			if res, body := r.get(t, "/app/good"); res.StatusCode != http.StatusOK || body != "good" {
				t.Errorf("the next request got %d %q", res.StatusCode, body)
			}
			r.waitIdle(t)
		})
	}
}

// serve answers /evil with the hostility and the rest in order.
func (h http2Hostility) serve(nc *net.TCPConn) {
	if _, err := io.CopyN(io.Discard, nc, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	if _, err := nc.Write(frame(frameSettings, 0, 0, nil)); err != nil {
		return
	}
	paths := hpack.NewDecoder(4<<10, nil)
	for {
		var head [9]byte
		if _, err := io.ReadFull(nc, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:])>>8)
		if _, err := io.ReadFull(nc, payload); err != nil {
			return
		}
		var out []byte
		evil := false
		switch kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:]); {
		case kind == framePing && flags&flagAck == 0:
			out = frame(framePing, flagAck, 0, payload)
		case kind == frameHeaders:
			fields, err := paths.DecodeFull(payload)
			if err != nil {
				return
			}
			for _, f := range fields {
				evil = evil || (f.Name == ":path" && f.Value == "/evil")
			}
			if out = append(headOf(0, ":status", "200")(stream), dataOf(flagEndStream, "good")(stream)...); evil {
				out = h.answer(stream)
			}
		}
		if _, err := nc.Write(out); err != nil || (evil && h.closes) {
			return
		}
	}
}
