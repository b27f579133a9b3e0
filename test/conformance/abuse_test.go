package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// abuse is a client of HTTP/2 that costs more than it pays. pour says what it
// sends, piece by piece, up to an empty one.
type abuse struct {
	name  string
	deaf  bool // it reads nothing
	pour  func(i int) []byte
	ended bool // the proxy ends its connection without waiting
}

const (
	framePriority, frameWindow = 2, 8
	errorCancel                = 8
)

// literals is a header block whose fields are not indexed.
func literals(fields []string) (block []byte) {
	for i := 0; i < len(fields); i += 2 {
		block = appendText(appendText(append(block, 0), fields[i]), fields[i+1])
	}
	return block
}

// stream is the number of a client's i-th stream.
func stream(i int) uint32 { return uint32(2*i + 1) }

func word(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// times has a piece sent so often.
func times(n int, piece func(i int) []byte) func(int) []byte {
	return func(i int) []byte {
		if i >= n {
			return nil
		}
		return piece(i)
	}
}

// after has the first piece be another one.
func after(first []byte, n int, piece []byte) func(int) []byte {
	return times(n, func(i int) []byte {
		if i == 0 {
			return first
		}
		return piece
	})
}

// abuses are the ways that have brought down servers of HTTP/2. n is how often a
// client does it.
func abuses(n int) []abuse {
	get, upload := literals(plain("GET", "/hold/x")), literals(plain("POST", "/hold/x"))
	open := frame(frameHeaders, flagEndHeaders, 1, upload)
	much := bomb()
	begun := frame(frameHeaders, flagEndStream, 1, get) // its header goes on
	pair := func(flags byte, block []byte, kind byte, value uint32) func(int) []byte {
		return times(n, func(i int) []byte {
			return append(frame(frameHeaders, flags, stream(i), block), frame(kind, 0, stream(i), word(value))...)
		})
	}
	return []abuse{
		{name: "streams that are reset at once", pour: pair(flagEndStream|flagEndHeaders, get, frameReset, errorCancel)}, // CVE-2023-44487
		{name: "uploads that are reset at once", pour: pair(flagEndHeaders, upload, frameReset, errorCancel)},
		{name: "streams that the proxy has to reset", pour: pair(flagEndHeaders, upload, frameWindow, 0)}, // CVE-2025-8671
		{name: "more streams than are allowed", pour: times(n, func(i int) []byte { return frame(frameHeaders, flagEndHeaders, stream(i), upload) })},
		{name: "a header without end", pour: after(begun, 5*n, frame(frameContinuation, 0, 1, literals([]string{"x-a", "0123456789abcdef"}))), ended: true}, // CVE-2023-45288
		{name: "a header without end that says nothing", pour: after(begun, 5*n, frame(frameContinuation, 0, 1, nil))},
		{name: "a header that unpacks to much", pour: times(n/50, func(i int) []byte {
			return frame(frameHeaders, flagEndStream|flagEndHeaders, stream(i), much)
		})},
		{name: "settings whose answers are not read", deaf: true, pour: times(5*n, func(int) []byte { return frame(frameSettings, 0, 0, nil) })},                     // CVE-2019-9515
		{name: "pings whose answers are not read", deaf: true, pour: times(400*n, func(int) []byte { return frame(framePing, 0, 0, make([]byte, 8)) }), ended: true}, // CVE-2019-9512
		{name: "priorities for ever", pour: times(5*n, func(i int) []byte { return frame(framePriority, 0, stream(i), append(word(0), 1)) })},                        // CVE-2019-9513
		{name: "data of nothing for ever", pour: after(open, 5*n, frame(frameData, 0, 1, nil))},                                                                      // CVE-2019-9518
		{name: "data beyond the window", pour: after(open, 100, frame(frameData, 0, 1, make([]byte, 16<<10)))},
		{name: "a window beyond all", pour: times(2, func(int) []byte { return frame(frameWindow, 0, 0, word(1<<31-1)) }), ended: true},
	}
}

// bomb is a header block of few bytes that means 12 MB.
func bomb() []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	fields := append(plain("GET", "/hold/x"), strings.Fields(strings.Repeat("x-a "+strings.Repeat("x", 3000)+" ", 4000))...)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a buffer takes everything
	}
	return block.Bytes()
}

// run sends all that the client has. It says whether the proxy ended the
// connection, which a client that has to be is given time for.
func (a abuse) run(addr string) (ended bool, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return false, err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience)) // an error shows at the next write
	closed := make(chan error, 1)
	if !a.deaf {
		go func() {
			_, err := io.Copy(io.Discard, nc)
			closed <- err
		}()
	}
	out := []byte(preface)
	for i, more := 0, true; more; i++ {
		piece := a.pour(i)
		more = len(piece) > 0
		if out = append(out, piece...); len(out) < 32<<10 && more {
			continue
		}
		if _, err := nc.Write(out); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded), nil
		}
		out = out[:0]
	}
	if !a.ended {
		return false, nil
	}
	if a.deaf {
		_, err := io.Copy(io.Discard, nc)
		closed <- err
	}
	return !errors.Is(<-closed, os.ErrDeadlineExceeded), nil
}

// TestHTTP2Abuse has several clients do each of them at once. Those who ask
// meanwhile for another application are served, the memory is bounded, and no
// slot stays behind.
func TestHTTP2Abuse(t *testing.T) {
	n := 2_000
	if long() {
		n = 50_000
	}
	for _, a := range abuses(n) {
		t.Run(a.name, func(t *testing.T) {
			held := replica(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // else the server does not look whether its client is there
				<-r.Context().Done()
			})
			hold := application{name: "hold", prefix: "/hold", ongoing: 2, queued: 100, timeout: 2 * time.Second, replicas: []string{held}}
			r := start(t, viewOf(app(10, replica(t, answerPath)), hold), func(c *proxy.Config) {
				c.ClientStall, c.Linger = time.Second, time.Second
			})
			before := heap()
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					if ended, err := a.run(r.addr); err != nil || (a.ended && !ended) {
						t.Errorf("ended by the proxy: %v, %v", ended, err)
					}
				})
			}
			all := bystander(t, r, span(t, 300*time.Millisecond))
			clients.Wait()
			r.waitIdle(t)
			t.Logf("others' p99 %v (%d requests)", all.quantile("200", 0.99), all.count("200"))
			if after := heap(); after > before+32<<20 {
				t.Errorf("memory went from %d to %d bytes", before, after)
			}
		})
	}
}

// TestHTTP2AnswerThatIsNotTaken has clients open windows for none of an answer,
// or for it byte by byte: neither keeps the replica's only slot.
func TestHTTP2AnswerThatIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, drops := range map[string]bool{"none of it": false, "byte by byte": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, viewOf(app(1, replica(t, bigAnswer))), func(c *proxy.Config) {
				c.ClientStall, c.Linger = 500*time.Millisecond, 500*time.Millisecond
			})
			nc := dial(t, r.addr)
			noWindow := frame(frameSettings, 0, 0, append([]byte{0, 4}, word(0)...))
			out := append([]byte(strings.TrimSuffix(preface, string(frame(frameSettings, 0, 0, nil)))), noWindow...)
			write(t, nc, string(append(out, headerFrames(flagEndStream, plain("GET", "/app"))...)))
			heard := make(chan string, 1)
			go func() { heard <- readStream(t, nc, false) }()
			if drops {
				stop := make(chan struct{})
				var dropping sync.WaitGroup
				dropping.Go(func() { openByteByByte(nc, stop) })
				defer dropping.Wait()
				defer close(stop)
			}
			if got := <-heard; got != "200" && got != "reset" {
				t.Errorf("the stream ended with %q", got)
			}
			r.waitIdle(t)
		})
	}
}

// openByteByByte opens the first stream's window a little more every now and then.
func openByteByByte(w io.Writer, stop <-chan struct{}) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			if _, err := fmt.Fprintf(w, "%s", frame(frameWindow, 0, 1, word(1))); err != nil {
				return
			}
		}
	}
}
