package h2_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serve-nomad/serve-nomad/h2"
)

// FuzzServer has a server send anything at all, as frames and as bytes. Two
// requests are under way meanwhile: both end, with no more of a body than the
// window lets through, and nothing is left behind.
func FuzzServer(f *testing.F) {
	header := func(fields ...string) []byte { return block(fields...) }
	for _, frames := range [][]byte{
		frame(1, 4, 1, header(":status", "200")), frame(1, 5, 1, header(":status", "204")),
		join(frame(1, 4, 1, header(":status", "200", "trailer", "a")), frame(0, 0, 1, []byte("data")), frame(1, 5, 1, header("a", "b"))),
		join(frame(1, 0, 3, header(":status", "200")), frame(9, 4, 3, header("content-length", "3")), frame(0, 9, 3, []byte("\x01abcd"))),
		join(frame(1, 4, 1, header(":status", "103")), frame(3, 0, 1, []byte{0, 0, 0, 7}), frame(7, 0, 0, make([]byte, 8))),
		join(frame(4, 0, 0, []byte{0, 4, 0, 0, 0, 0}), frame(8, 0, 1, []byte{0, 0, 0, 9}), frame(8, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})),
		join(frame(6, 0, 0, make([]byte, 8)), frame(5, 4, 1, []byte{0, 0, 0, 2}), frame(0, 1, 9, nil)),
		[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	} {
		f.Add(frames)
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() { _, _ = io.Copy(io.Discard, server) }()
		go func() {
			fr := http2.NewFramer(server, nil)
			_ = fr.WriteSettings()
			_ = fr.WritePing(true, [8]byte{})
			runtime.Gosched()
			_, _ = server.Write(frames)
			_ = server.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := h2.New(ctx, client, testConfig)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		for _, body := range []io.Reader{nil, bytes.NewReader(make([]byte, 100_000))} {
			wg.Go(func() {
				if c.Reserve() {
					fuzzCall(t, c, request(ctx, http.MethodPost, body))
				}
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			t.Error("a request hangs")
		}
		_ = c.Close()
	})
}

func fuzzCall(t *testing.T, c *h2.Conn, r *http.Request) {
	res, err := c.RoundTrip(r, nil)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 999 {
		t.Errorf("status %d", res.StatusCode)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && res.ContentLength > 0 && n != res.ContentLength && res.StatusCode != http.StatusNoContent && res.StatusCode != http.StatusNotModified {
		t.Errorf("%d bytes of %d", n, res.ContentLength)
	}
}

// frame is a frame as it is on the wire.
func frame(kind, flags byte, id uint32, payload []byte) []byte {
	var b bytes.Buffer
	_ = http2.NewFramer(&b, nil).WriteRawFrame(http2.FrameType(kind), http2.Flags(flags), id, payload)
	return b.Bytes()
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
