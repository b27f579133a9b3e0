package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// http2Vector is one HTTP/2 request that no client library would send. Its
// fields are names and values in turn, pseudo-headers among them.
type http2Vector struct {
	name    string
	fields  []string
	body    string   // sent as DATA; "": the stream ends with its header
	trailer []string // sent after the body
	reset   bool     // the client resets the stream after the body
	want    string   // as for vector; "reset" is the stream's end without an answer, "gone" the connection's
	seen    string
	absent  string
}

// plain is the pseudo-headers of a request in order, and what else it has.
func plain(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", path}, more...)
}

func http2Vectors() []http2Vector {
	const refused = "400|reset|gone"
	get := func(more ...string) []string { return plain("GET", "/app/x", more...) }
	upload := func(more ...string) []string { return plain("POST", "/app/x", more...) }
	vs := []http2Vector{
		{name: "a request in order", fields: get("x-a", "b"), want: "200", seen: "app: GET /x"},
		{name: "a body in order", fields: upload("content-length", "3"), body: "abc", want: "200", seen: "app: POST /x abc"},
		{name: "a body without a length", fields: upload(), body: "abc", want: "200", seen: "app: POST /x abc"},
		{name: "trailers", fields: upload("trailer", "x-sum"), body: "abc", trailer: []string{"x-sum", "1"}, want: "200", seen: "app: POST /x abc"},
		{name: "cookies in pieces", fields: get("cookie", "a=1", "cookie", "b=2"), want: "200", seen: "app: GET /x"},
		{name: "trailers wanted", fields: get("te", "trailers"), want: "200", seen: "app: GET /x"},
		{name: "a host in place of an authority", fields: []string{":method", "GET", ":scheme", "http", ":path", "/app/x", "host", "a"}, want: "200|400|reset", seen: "app: GET /x"},
		{name: "a host beside the authority", fields: get("host", "evil"), want: "200|400|reset", seen: "app: GET /x", absent: "evil"},

		{name: "no method", fields: []string{":scheme", "http", ":authority", "a", ":path", "/app/x"}, want: refused},
		{name: "no scheme", fields: []string{":method", "GET", ":authority", "a", ":path", "/app/x"}, want: refused},
		{name: "no path", fields: []string{":method", "GET", ":scheme", "http", ":authority", "a"}, want: refused},
		{name: "an empty path", fields: plain("GET", ""), want: refused},
		{name: "two methods", fields: append([]string{":method", "POST"}, get()...), want: refused},
		{name: "two paths", fields: append([]string{":path", "/app/y"}, get()...), want: refused},
		{name: "two authorities", fields: append([]string{":authority", "b"}, get()...), want: refused},
		{name: "a pseudo-header after the others", fields: []string{":method", "GET", ":scheme", "http", "x-a", "b", ":path", "/app/x", ":authority", "a"}, want: refused},
		{name: "an unknown pseudo-header", fields: append([]string{":evil", "1"}, get()...), want: refused},
		{name: "an answer's pseudo-header", fields: append([]string{":status", "200"}, get()...), want: refused},
		{name: "a pseudo-header as trailer", fields: upload(), body: "abc", trailer: []string{":path", "/app/y"}, want: refused},
		{name: "a protocol without CONNECT", fields: append([]string{":protocol", "websocket"}, get()...), want: refused},
		{name: "CONNECT", fields: []string{":method", "CONNECT", ":authority", "a:80"}, want: refused + "|405"},
		{name: "CONNECT with a protocol", fields: append([]string{":protocol", "websocket"}, plain("CONNECT", "/app/x")...), want: refused + "|405"},

		{name: "a length above the body", fields: upload("content-length", "9"), body: "abc", want: refused},
		{name: "a length below the body", fields: upload("content-length", "1"), body: "abc", want: refused},
		{name: "a length and no body", fields: upload("content-length", "9"), want: refused},
		{name: "two lengths", fields: upload("content-length", "3", "content-length", "4"), body: "abc", want: refused},
		{name: "a signed length", fields: upload("content-length", "+3"), body: "abc", want: refused},
		{name: "a length that is none", fields: upload("content-length", "3, 3"), body: "abc", want: refused},
		{name: "a request after a length of nothing", fields: upload("content-length", "0"), body: "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n", want: refused, seen: "app: POST /x"},
		{name: "a request as body", fields: upload(), body: "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n", want: "200", seen: "app: POST /x 0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"},
		{name: "a length as trailer", fields: upload("trailer", "content-length"), body: "abc", trailer: []string{"content-length", "9"}, want: refused + "|200", seen: "app: POST /x abc", absent: "content-length: 9"},
		{name: "a coding as trailer", fields: upload("trailer", "transfer-encoding"), body: "abc", trailer: []string{"transfer-encoding", "gzip"}, want: refused + "|200", seen: "app: POST /x abc", absent: "gzip"},
		{name: "a body that is reset", fields: upload("content-length", "9"), body: "abc", reset: true, want: refused},
	}
	// What is about a connection is malformed here, whatever becomes of it:
	// it must not reach the replica's connection.
	for name, value := range map[string]string{
		"transfer-encoding": "chunked", "connection": "close, x-evil", "keep-alive": "evil", "proxy-connection": "evil", "upgrade": "evil", "te": "gzip, evil", "http2-settings": "evil",
	} {
		vs = append(vs, http2Vector{name: "a header " + name, fields: upload(name, value), body: "abc", want: refused + "|200", seen: "app: POST /x abc", absent: "evil"})
	}
	for _, name := range []string{"X-Upper", "x a", "x:a", "x\r\ny", "x\x00", "x\x7f", "", "\xe4", "x-a\r\ntransfer-encoding: chunked\r\nx"} {
		vs = append(vs, http2Vector{name: fmt.Sprintf("a header named %q", name), fields: get(name, "1"), want: refused})
	}
	for _, value := range []string{"a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\x00b", "a\x7fb", "a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"} {
		vs = append(vs,
			http2Vector{name: fmt.Sprintf("a value %q", value), fields: get("x-a", value), want: refused},
			http2Vector{name: fmt.Sprintf("an authority %q", value), fields: []string{":method", "GET", ":scheme", "http", ":authority", value, ":path", "/app/x"}, want: refused},
			http2Vector{name: fmt.Sprintf("a path with %q", value), fields: plain("GET", "/app/"+value), want: refused},
			http2Vector{name: fmt.Sprintf("a query with %q", value), fields: plain("GET", "/app?"+value), want: refused},
			http2Vector{name: fmt.Sprintf("a method %q", value), fields: plain(value, "/app/x"), want: refused},
			http2Vector{name: fmt.Sprintf("a scheme %q", value), fields: []string{":method", "GET", ":scheme", value, ":authority", "a", ":path", "/app/x"}, want: refused + "|200", seen: "app: GET /x", absent: "x-evil"},
			http2Vector{name: fmt.Sprintf("a trailer %q", value), fields: upload("trailer", "x-sum"), body: "abc", trailer: []string{"x-sum", value}, want: refused + "|200", seen: "app: POST /x abc", absent: "evil: 1"},
		)
	}
	for _, path := range []string{"/app/../x", "/app/%2e%2e/x", "/app/..;/x", "/app%2fx", "/app\\x", "/app/%00", "app", "*", "http://evil/app/x", "?x"} {
		vs = append(vs, http2Vector{name: fmt.Sprintf("path %q", path), fields: plain("GET", path), want: refused})
	}
	for path, seen := range map[string]string{"/app/x y": "app: GET /x%20y", "/app/x HTTP/1.0": "app: GET /x%20HTTP/1.0"} {
		vs = append(vs, http2Vector{name: fmt.Sprintf("path %q", path), fields: plain("GET", path), want: refused + "|200", seen: seen})
	}
	for _, method := range []string{"GET ", " GET", "GET /app/y HTTP/1.1", "GE(T", "GET:", ""} {
		vs = append(vs, http2Vector{name: fmt.Sprintf("method %q", method), fields: plain(method, "/app/x"), want: refused})
	}
	for _, authority := range []string{"a b", "u@a", "a/b", "a?b", "a#b"} {
		vs = append(vs, http2Vector{name: fmt.Sprintf("authority %q", authority), fields: []string{":method", "GET", ":scheme", "http", ":authority", authority, ":path", "/app/x"}, want: refused})
	}
	return append(vs,
		http2Vector{name: "a header of 200 kB", fields: get("x-a", strings.Repeat("x", 200<<10)), want: refused + "|431"},
		http2Vector{name: "a client that plays the proxy", fields: get("x-forwarded-for", "6.6.6.6", "x_forwarded_for", "6.6.6.6", "x-serve-x", "6.6.6.6", "forwarded", "for=6.6.6.6"), want: "200", seen: "app: GET /x", absent: "6.6.6.6"},
	)
}

func TestMalformedHTTP2(t *testing.T) {
	t.Parallel()
	for _, v := range http2Vectors() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			b := startBench(t)
			got := v.exchange(t, b.addr)
			summary, _, raw := b.all(t)
			refused := got != "200"
			if !oneOf(got, v.want) || (summary != v.seen && (!refused || summary != "")) {
				t.Errorf("the client got %q, want %q; the replicas got %q, want %q", got, v.want, summary, v.seen)
			}
			if v.absent != "" && strings.Contains(strings.ToLower(raw), v.absent) {
				t.Errorf("%q reached a replica in %.1000q", v.absent, raw)
			}
		})
	}
}

// The frames of HTTP/2, and their flags, by RFC 9113, section 6.
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway, frameContinuation = 0, 1, 3, 4, 6, 7, 9
	flagEndStream, flagEndHeaders, flagAck                                                        = 1, 4, 1
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// headerFrames carry fields as literals that are not indexed, by RFC 7541,
// section 6.2.2, in frames of at most 16 kB.
func headerFrames(flags byte, fields []string) (frames []byte) {
	var block []byte
	for i := 0; i < len(fields); i += 2 {
		block = append(block, 0)
		block = appendText(appendText(block, fields[i]), fields[i+1])
	}
	const most = 16 << 10
	for kind := byte(frameHeaders); ; kind, flags = frameContinuation, 0 {
		if len(block) <= most {
			return append(frames, frame(kind, flags|flagEndHeaders, 1, block)...)
		}
		frames = append(frames, frame(kind, flags, 1, block[:most])...)
		block = block[most:]
	}
}

// appendText appends a string and its length, by RFC 7541, sections 5.1 and 5.2.
func appendText(b []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		return append(append(b, byte(n)), s...)
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n /= 128 {
		b = append(b, byte(n%128+128))
	}
	return append(append(b, byte(n)), s...)
}

// exchange sends the request and says what became of its stream.
func (v http2Vector) exchange(t *testing.T, addr string) string {
	t.Helper()
	nc := dial(t, addr)
	end := byte(flagEndStream)
	if v.body != "" {
		end = 0
	}
	sent := append([]byte(preface), headerFrames(end, v.fields)...)
	if v.body != "" {
		flags := byte(flagEndStream)
		if v.trailer != nil || v.reset {
			flags = 0
		}
		sent = append(sent, frame(frameData, flags, 1, []byte(v.body))...)
	}
	if v.trailer != nil {
		sent = append(sent, headerFrames(flagEndStream, v.trailer)...)
	}
	if v.reset {
		sent = append(sent, frame(frameReset, 0, 1, []byte{0, 0, 0, 8})...)
		// An answer to it shows that the reset has been heard.
		sent = append(sent, frame(framePing, 0, 0, make([]byte, 8))...)
	}
	if _, err := nc.Write(sent); err != nil {
		return "gone"
	}
	return readStream(t, nc, v.reset)
}

// readStream reads up to the end of stream 1, or to the answer to a ping.
func readStream(t *testing.T, r io.Reader, pinged bool) string {
	t.Helper()
	status := ""
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if isTimeout(err) {
				return "open"
			}
			return "gone"
		}
		payload, kind, stream := make([]byte, binary.BigEndian.Uint32(head[:])>>8), head[3], binary.BigEndian.Uint32(head[5:])
		if _, err := io.ReadFull(r, payload); err != nil {
			return "gone"
		}
		switch {
		case kind == framePing && pinged && head[4]&flagAck != 0:
			return "reset"
		case kind == frameGoAway && stream == 0 && len(payload) >= 8 && binary.BigEndian.Uint32(payload[4:]) != 0:
			return "gone"
		case stream != 1:
		case kind == frameReset && status == "":
			return "reset"
		case kind == frameReset:
			return status
		case kind == frameHeaders && status == "":
			var err error
			if status, err = statusOf(payload); err != nil {
				t.Fatal(err)
			}
		}
		if stream == 1 && (kind == frameData || kind == frameHeaders) && head[4]&flagEndStream != 0 {
			return status
		}
	}
}

// statusOf reads the status of an answer's header.
func statusOf(block []byte) (string, error) {
	fields, err := hpack.NewDecoder(4<<10, nil).DecodeFull(block)
	if err != nil {
		return "", err
	}
	for _, f := range fields {
		if f.Name == ":status" {
			return f.Value, nil
		}
	}
	return "", errors.New("an answer without a status")
}
