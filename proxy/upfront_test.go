package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestSmallBodies sends bodies of all sizes in all kinds of pieces: whatever
// was there when the head was sent, the replica gets what the client sent.
func TestSmallBodies(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(b)) {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b)
	})
	r := start(t, app{ongoing: 2, queued: -1, addresses: []string{address}}.view())
	nc := dial(t, r.addr)
	br := bufio.NewReader(nc)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(3000, 10000), rapid.IntRange(upfrontBody-2, upfrontBody+2)).Draw(t, "size")
		long := rapid.OneOf(rapid.Just(0), rapid.IntRange(upfrontHead-300, upfrontHead+300)).Draw(t, "header")
		body := bytes.Repeat([]byte{'0', '1', '2', '3', '4', '5', '6'}, size/7+1)[:size]
		message := fmt.Appendf(nil, "POST /app/x HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\nContent-Length: %d\r\n\r\n%s", strings.Repeat("x", long), size, body)
		for len(message) > 0 {
			n := min(len(message), rapid.OneOf(rapid.Just(len(message)), rapid.IntRange(1, 9000)).Draw(t, "piece"))
			if _, err := nc.Write(message[:n]); err != nil {
				t.Fatal(err)
			}
			message = message[n:]
			runtime.Gosched()
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
			t.Fatalf("got %d, %d bytes of %d, %v", res.StatusCode, len(got), len(body), err)
		}
	})
	r.waitIdle(t)
}

// TestSmallBodyGoesWithItsHead has a replica count in how many pieces it gets
// one: a body that has come with its head costs no write of its own.
func TestSmallBodyGoesWithItsHead(t *testing.T) {
	t.Parallel()
	pieces := make(chan int, 1)
	const size = 3000
	address := rawReplica(t, func(nc net.Conn, _ *bufio.Reader) {
		for {
			buf := make([]byte, 64<<10)
			n, reads := 0, 0
			for !bytes.Contains(buf[:n], []byte("\r\n\r\n"+strings.Repeat("b", size))) {
				more, err := nc.Read(buf[n:])
				if err != nil {
					return
				}
				n += more
				reads++
			}
			pieces <- reads
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	nc := dial(t, r.addr)
	br := bufio.NewReader(nc)
	for range 3 { // over a new connection, and over a kept one
		fmt.Fprintf(nc, "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("b", size))
		if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		if n := <-pieces; n != 1 {
			t.Errorf("it came in %d pieces", n)
		}
	}
}

// TestSlowBodyTakesNoSlot has a client send a small body slowly, of an application
// with one slot: others are served meanwhile.
func TestSlowBodyTakesNoSlot(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	for name, client := range map[string]*http.Client{"HTTP/1.1": r.client, "HTTP/2": h2Client(t)} {
		t.Run(name, func(t *testing.T) {
			pr, pw := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/app", pr)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 8
			slow := make(chan string, 1)
			go func() {
				res, err := client.Do(req)
				if err != nil {
					slow <- err.Error()
					return
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				slow <- res.Status + " " + string(b)
			}()
			if _, err = io.WriteString(pw, "half"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("quick")); res.StatusCode != http.StatusOK || body != "quick" {
					t.Errorf("meanwhile: %s %q", res.Status, body)
				}
			}
			if _, err = io.WriteString(pw, "half"); err != nil {
				t.Fatal(err)
			}
			if err = pw.Close(); err != nil {
				t.Fatal(err)
			}
			if got := <-slow; got != "200 OK halfhalf" {
				t.Errorf("the slow one: %s", got)
			}
		})
	}
}

// TestBodiesThatWaitAreCounted holds what the queue says of its bytes to what is
// read ahead of bodies.
func TestBodiesThatWaitAreCounted(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1}.view())
	client := h2Client(t)
	for _, body := range []struct {
		name   string
		length int64
		least  int64
	}{
		{"small, and all here", 100, copyBufferSize},
		{"large", 1 << 20, frontBuffer},
		{"of any length", -1, frontBuffer},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		size := body.length
		if size < 0 {
			size = 1000
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/app", strings.NewReader(strings.Repeat("x", int(size))))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = body.length
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := client.Do(req); err == nil {
				_ = res.Body.Close()
			}
		}()
		eventually(t, body.name+" is queued", func() bool { _, queued := r.load(); return queued == 1 })
		if n := r.Status().Deployments[0].QueuedBytes; n < body.least {
			t.Errorf("%s: %d bytes count, want %d or more", body.name, n, body.least)
		}
		cancel()
		<-done
		r.waitIdle(t)
	}
}
