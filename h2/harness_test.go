package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serve-nomad/serve-nomad/h2"
)

var testConfig = h2.Config{MaxHeader: 4 << 10, StreamBuffer: 64 << 10, WriteStall: 30 * time.Second}

// peer is a server that a test plays frame by frame, over a connection in
// memory.
type peer struct {
	nc net.Conn

	writing sync.Mutex
	f       *http2.Framer

	mu    sync.Mutex
	heard []string // RST_STREAM and GOAWAY frames
	sent  []byte   // the bodies of all requests
}

// play starts a connection to a peer, which calls serve for each header of a
// request, on a goroutine of its own. It must be in a bubble of synctest, which
// also finds goroutines that are left.
func play(t *testing.T, serve func(p *peer, id uint32), settings ...http2.Setting) (*h2.Conn, *peer) {
	t.Helper()
	client, server := net.Pipe()
	p := &peer{nc: server, f: http2.NewFramer(server, server)}
	go p.read(serve, settings)
	c, err := h2.New(t.Context(), client, testConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = server.Close()
		synctest.Wait()
	})
	return c, p
}

// write writes frames. Errors show as what the client then lacks.
func (p *peer) write(write func(f *http2.Framer) error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	_ = write(p.f)
}

func (p *peer) read(serve func(p *peer, id uint32), settings []http2.Setting) {
	if _, err := io.ReadFull(p.nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	p.write(func(f *http2.Framer) error { return f.WriteSettings(settings...) })
	for {
		frame, err := p.f.ReadFrame()
		if err != nil {
			_ = p.nc.Close()
			return
		}
		switch frame := frame.(type) {
		case *http2.PingFrame:
			data := frame.Data
			go p.write(func(f *http2.Framer) error { return f.WritePing(true, data) })
		case *http2.HeadersFrame:
			if id := frame.StreamID; serve != nil && !p.hasBegun(id) {
				go serve(p, id)
			}
		case *http2.DataFrame:
			p.note("", frame.Data())
		case *http2.RSTStreamFrame:
			p.note(fmt.Sprint("RST ", frame.StreamID, " ", frame.ErrCode), nil)
		case *http2.GoAwayFrame:
			p.note("GOAWAY "+frame.ErrCode.String(), nil)
		}
	}
}

// hasBegun says whether a header of the stream came before: this one is its
// trailers.
func (p *peer) hasBegun(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark := fmt.Sprint("begun ", id)
	if slices.Contains(p.heard, mark) {
		return true
	}
	p.heard = append(p.heard, mark)
	return false
}

func (p *peer) note(what string, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what != "" {
		p.heard = append(p.heard, what)
	}
	p.sent = append(p.sent, data...)
}

// told is what the client said when it gave up.
func (p *peer) told() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(slices.DeleteFunc(slices.Clone(p.heard), func(s string) bool { return strings.HasPrefix(s, "begun") }), ", ")
}

func (p *peer) body() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.sent)
}

// block is a header.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0) // blocks do not depend on each other
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func (p *peer) header(id uint32, end bool, fields ...string) {
	p.write(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(fields...), EndHeaders: true, EndStream: end})
	})
}

func (p *peer) data(id uint32, end bool, text string) {
	p.write(func(f *http2.Framer) error { return f.WriteData(id, end, []byte(text)) })
}

func (p *peer) raw(t http2.FrameType, flags http2.Flags, id uint32, payload string) {
	p.write(func(f *http2.Framer) error { return f.WriteRawFrame(t, flags, id, []byte(payload)) })
}

// ok answers a request.
func ok(p *peer, id uint32) { p.header(id, true, ":status", "200") }

func request(ctx context.Context, method string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, "http://server/path", body)
	if err != nil {
		panic(err)
	}
	return r
}

// call makes a request, and says what came of it.
func call(c *h2.Conn, r *http.Request) string {
	if !c.Reserve() {
		return "no stream"
	}
	res, err := c.RoundTrip(r, nil)
	if err != nil {
		return word(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Sprintf("%d %s, then %s", res.StatusCode, body, word(err))
	}
	text := fmt.Sprintf("%d %s", res.StatusCode, body)
	for name, values := range res.Trailer {
		text += fmt.Sprint(" ", name, "=", strings.Join(values, ","))
	}
	return text
}

// word is the kind of an error.
func word(err error) string {
	if reset, ok := errors.AsType[http2.StreamError](err); ok {
		return "reset " + reset.Code.String()
	}
	if fault, ok := errors.AsType[http2.ConnectionError](err); ok {
		return "fault " + http2.ErrCode(fault).String()
	}
	for text, kind := range map[string]error{
		"not taken": h2.ErrNotTaken, "too large": http2.ErrFrameTooLarge, "cut": io.ErrUnexpectedEOF, "cancelled": context.Canceled, "late": context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return text
		}
	}
	return err.Error()
}
