package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/proxy"
)

const (
	switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	upgrading = "GET /app HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// switchingReplica takes every change of protocol and then does as told.
func switchingReplica(tb testing.TB, with string, serve func(nc *net.TCPConn, br *bufio.Reader)) string {
	tb.Helper()
	return rawReplica(tb, func(nc *net.TCPConn) {
		br := bufio.NewReader(nc)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		if _, err := io.WriteString(nc, switching+with); err == nil {
			serve(nc, br)
		}
	})
}

// openTunnel changes the protocol, with bytes that are sent in the same breath.
func openTunnel(tb testing.TB, addr, with string) (*net.TCPConn, *bufio.Reader) {
	tb.Helper()
	nc := dial(tb, addr)
	write(tb, nc, upgrading+with)
	br := bufio.NewReader(nc)
	if res := readHead(tb, br); res.StatusCode != http.StatusSwitchingProtocols {
		tb.Fatalf("the change of protocol got %d", res.StatusCode)
	}
	return nc, br
}

// TestTunnels sends through a changed connection what is not HTTP.
func TestTunnels(t *testing.T) {
	t.Parallel()
	t.Run("bytes that come with the heads", func(t *testing.T) {
		t.Parallel()
		r := start(t, viewOf(app(1, switchingReplica(t, "hello", func(nc *net.TCPConn, br *bufio.Reader) {
			_, _ = io.Copy(nc, br)
		}))))
		nc, br := openTunnel(t, r.addr, "early ")
		write(t, nc, "late")
		_ = nc.CloseWrite()
		if b, err := io.ReadAll(br); string(b) != "helloearly late" || err != nil {
			t.Errorf("got %q %v", b, err)
		}
		r.waitIdle(t)
	})
	t.Run("the replica ends its side first", func(t *testing.T) {
		t.Parallel()
		got := make(chan string, 1)
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(nc *net.TCPConn, br *bufio.Reader) {
			_, _ = io.WriteString(nc, "bye")
			_ = nc.CloseWrite()
			b, _ := io.ReadAll(br)
			got <- string(b)
		}))))
		nc, br := openTunnel(t, r.addr, "")
		if b, err := io.ReadAll(br); string(b) != "bye" || err != nil {
			t.Errorf("got %q %v", b, err)
		}
		write(t, nc, "after the end")
		_ = nc.CloseWrite()
		if b := <-got; b != "after the end" {
			t.Errorf("the replica got %q", b)
		}
		r.waitIdle(t)
	})
	t.Run("the client resets", func(t *testing.T) {
		t.Parallel()
		ended := make(chan struct{})
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(_ *net.TCPConn, br *bufio.Reader) {
			_, _ = io.Copy(io.Discard, br)
			close(ended)
		}))))
		nc, _ := openTunnel(t, r.addr, "")
		_ = nc.SetLinger(0)
		nc.Close()
		<-ended
		r.waitIdle(t)
	})
	t.Run("the replica resets", func(t *testing.T) {
		t.Parallel()
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(nc *net.TCPConn, _ *bufio.Reader) { _ = nc.SetLinger(0) }))))
		_, br := openTunnel(t, r.addr, "")
		if _, err := io.ReadAll(br); isTimeout(err) {
			t.Error("the client was not told")
		}
		r.waitIdle(t)
	})
	t.Run("who does not read holds up the other", func(t *testing.T) {
		t.Parallel()
		sent := make(chan int64, 1)
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(nc *net.TCPConn, _ *bufio.Reader) {
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			n, _ := io.Copy(nc, zeros{})
			sent <- n
		}))))
		before := heap()
		nc, _ := openTunnel(t, r.addr, "")
		n := <-sent
		if after := heap(); after > before+32<<20 {
			t.Errorf("%d bytes were sent and memory went from %d to %d", n, before, after)
		}
		if n > 64<<20 { // the sockets' buffers take some
			t.Errorf("the replica could send %d bytes that nobody read", n)
		}
		nc.Close()
		r.waitIdle(t)
	})
	t.Run("much both ways at once", func(t *testing.T) {
		t.Parallel()
		const size = 8 << 20
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(nc *net.TCPConn, br *bufio.Reader) {
			_, _ = io.CopyN(nc, br, size)
		}))))
		nc, br := openTunnel(t, r.addr, "")
		out := sha256.New()
		var sending sync.WaitGroup
		sending.Go(func() { _, _ = io.CopyN(io.MultiWriter(nc, out), noise(1), size) })
		in := sha256.New()
		n, err := io.Copy(in, br)
		sending.Wait()
		if n != size || err != nil || !bytes.Equal(sum(in), sum(out)) {
			t.Errorf("%d of %d bytes came back, %v", n, size, err)
		}
		nc.Close()
		r.waitIdle(t)
	})
	t.Run("a tunnel holds its slot", func(t *testing.T) {
		t.Parallel()
		r := start(t, viewOf(app(1, switchingReplica(t, "", func(_ *net.TCPConn, br *bufio.Reader) { _, _ = br.ReadByte() }))))
		nc, _ := openTunnel(t, r.addr, "")
		if ongoing, _ := r.ongoing(); ongoing != 1 {
			t.Errorf("%d slots are taken", ongoing)
		}
		nc.Close()
		r.waitIdle(t)
	})
}

func sum(h hash.Hash) []byte { return h.Sum(nil) }

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// noise is bytes that look like nothing.
func noise(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// TestEventsComeOneByOne has a replica send an event only when the one before
// has reached the client: a proxy that held one back would wait for ever.
func TestEventsComeOneByOne(t *testing.T) {
	t.Parallel()
	for name, protocols := range clientProtocols() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan struct{})
			r := start(t, viewOf(app(1, replica(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				control := http.NewResponseController(w)
				for i := range 50 {
					fmt.Fprintf(w, "data: %d\n\n", i)
					if control.Flush() != nil {
						return
					}
					<-seen
				}
			}))))
			client := clientOf(t, protocols)
			res, err := client.Get(r.url + "/app")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			br := bufio.NewReader(res.Body)
			for i := range 50 {
				line, err := br.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d\n", i) {
					t.Fatalf("event %d: %q %v", i, line, err)
				}
				if _, err := br.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				seen <- struct{}{}
			}
		})
	}
}

// clientProtocols are the protocols that a client may speak.
func clientProtocols() map[string]*http.Protocols {
	h1, h2 := new(http.Protocols), new(http.Protocols)
	h1.SetHTTP1(true)
	h2.SetUnencryptedHTTP2(true)
	return map[string]*http.Protocols{"HTTP/1.1": h1, "h2c": h2}
}

func clientOf(tb testing.TB, protocols *http.Protocols) *http.Client {
	tb.Helper()
	transport := &http.Transport{Protocols: protocols, DisableCompression: true, ExpectContinueTimeout: patience}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestContinue lets a body be asked for, and not be asked for.
func TestContinue(t *testing.T) {
	t.Parallel()
	r := start(t, viewOf(app(4, rawReplica(t, func(nc *net.TCPConn) {
		br := bufio.NewReader(nc)
		req, err := http.ReadRequest(br)
		switch {
		case err != nil:
			return
		case req.Header.Get("Expect") != "100-continue":
			_, _ = io.WriteString(nc, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
		case req.URL.Path == "/refuse":
			_, _ = io.WriteString(nc, "HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		case req.URL.Path == "/ask":
			_, _ = io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\n")
			b, _ := io.ReadAll(req.Body)
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		case req.URL.Path == "/silent": // it never asks, and wants it all the same
			b, _ := io.ReadAll(req.Body)
			fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}
		_, _ = br.ReadByte()
	}))), func(c *proxy.Config) { c.ContinueTimeout = 100 * time.Millisecond })
	for path, want := range map[string]string{"/ask": "100 200", "/silent": "100 200", "/refuse": "413"} {
		nc := dial(t, r.addr)
		br := bufio.NewReader(nc)
		write(t, nc, "POST /app"+path+" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		res := readHead(t, br)
		got := fmt.Sprint(res.StatusCode)
		if res.StatusCode == http.StatusContinue {
			write(t, nc, "body")
			res = readHead(t, br)
			b, _ := io.ReadAll(res.Body)
			got += fmt.Sprint(" ", res.StatusCode)
			if string(b) != "body" {
				t.Errorf("%s: got the body %q", path, b)
			}
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
		nc.Close()
	}
	r.waitIdle(t)
}

// TestTrailersAndHEAD sends trailers both ways, and asks for no body.
func TestTrailersAndHEAD(t *testing.T) {
	t.Parallel()
	r := start(t, viewOf(app(4, replica(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodHead {
			w.Header().Set("Content-Length", "12345")
			return
		}
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.Copy(io.Discard, req.Body)
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("X-Announced", req.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Sudden", "yes")
	}))))
	for name, protocols := range clientProtocols() {
		client := clientOf(t, protocols)
		req, err := http.NewRequest(http.MethodPost, r.url+"/app", io.MultiReader(strings.NewReader("some"), strings.NewReader("thing")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Sum": {"42"}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != "body" || err != nil || res.Trailer.Get("X-Announced") != "42" || res.Trailer.Get("X-Sudden") != "yes" {
			t.Errorf("%s: got %q %v and the trailers %v", name, b, err, res.Trailer)
		}
		if res, err = client.Head(r.url + "/app"); err != nil || res.ContentLength != 12345 {
			t.Errorf("%s: HEAD got %v %v", name, res, err)
		}
		if res != nil {
			res.Body.Close()
		}
	}
	r.waitIdle(t)
}

// TestClientThatLeaves holds that the replica learns of it, and keeps its slot
// until it has finished.
func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	for name, protocols := range clientProtocols() {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				began, told, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
				r := start(t, viewOf(app(1, replica(t, func(_ http.ResponseWriter, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
					close(began)
					<-req.Context().Done()
					close(told)
					<-finish
				}))))
				ctx, leave := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, method, r.url+"/app", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				client := clientOf(t, protocols)
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					res, err := client.Do(req)
					if err == nil {
						res.Body.Close()
					}
				}()
				<-began
				leave()
				<-gone
				<-told
				if ongoing, _ := r.ongoing(); ongoing != 1 {
					t.Errorf("%d slots are taken while the replica works", ongoing)
				}
				close(finish)
				r.waitIdle(t)
			})
		}
	}
}

// TestLargeBodies sends much both ways and looks at the memory that it takes.
func TestLargeBodies(t *testing.T) {
	const size = 10 << 20
	r := start(t, viewOf(app(16, replica(t, func(w http.ResponseWriter, req *http.Request) {
		in := sha256.New()
		if n, err := io.Copy(in, req.Body); n != size || err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum(in)))
		_, _ = io.CopyN(w, noise(3), size)
	}))))
	want := sha256.New()
	_, _ = io.CopyN(want, noise(3), size)
	count := 2
	if long() {
		count = 8
	}
	for name, protocols := range clientProtocols() {
		client := clientOf(t, protocols)
		before := heap()
		var most uint64
		var clients sync.WaitGroup
		stop := make(chan struct{})
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			most = highWater(stop)
		}()
		for i := range count {
			clients.Go(func() {
				out, in := sha256.New(), sha256.New()
				body := io.TeeReader(io.LimitReader(noise(byte(i)), size), out)
				res, err := client.Post(r.url+"/app", "application/octet-stream", body)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				defer res.Body.Close()
				n, err := io.Copy(in, res.Body)
				if n != size || err != nil || !bytes.Equal(sum(in), sum(want)) || res.Header.Get("X-Sum") != fmt.Sprintf("%x", sum(out)) {
					t.Errorf("%s: %d of %d bytes, status %d, %v", name, n, size, res.StatusCode, err)
				}
			})
		}
		clients.Wait()
		close(stop)
		<-watching
		t.Logf("%s: %d x %d MB up and down took at most %d kB more memory", name, count, size>>20, (int64(most)-int64(before))/1024)
		if most > before+uint64(count)*5<<20+16<<20 {
			t.Errorf("%s: memory went from %d to %d bytes", name, before, most)
		}
	}
	r.waitIdle(t)
}

// highWater looks at the memory in use until stop is closed.
func highWater(stop <-chan struct{}) (most uint64) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return most
		case <-ticker.C:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
		}
	}
}
