package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const switchRequest = "GET /app HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"

const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"

// switching is a replica that changes to the protocol that serve speaks.
func switching(t *testing.T, serve func(nc net.Conn, br *bufio.Reader)) string {
	t.Helper()
	return rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		req, _, ok := readRequest(br)
		if !ok {
			return
		}
		if req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Connection") != "Upgrade" {
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain")
			return
		}
		serve(nc, br)
	})
}

// open dials the proxy and sends what changes the protocol, with bytes behind it.
func open(t *testing.T, r *rig, behind string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	nc := dial(t, r.addr)
	if _, err := io.WriteString(nc, switchRequest+behind); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(nc)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-Websocket-Accept") != "y" ||
		res.Header.Get("Connection") != "Upgrade" || res.Header.Get("X-Request-Id") == "" {
		t.Fatalf("got %d %v", res.StatusCode, res.Header)
	}
	return nc, br
}

func readString(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTunnel(t *testing.T) {
	t.Parallel()
	t.Run("passes what came together with the change, both ways", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched+"welcome")
			_, _ = io.Copy(nc, br)
		})}}.view())
		nc, br := open(t, r, "early")
		if got := readString(t, br, 12); got != "welcomeearly" {
			t.Errorf("got %q", got)
		}
		for i := range 50 {
			fmt.Fprintf(nc, "%03d", i)
			if got := readString(t, br, 3); got != fmt.Sprintf("%03d", i) {
				t.Fatalf("got %q", got)
			}
		}
		if ongoing, _ := r.load(); ongoing != 1 {
			t.Errorf("an open tunnel holds %d slots", ongoing)
		}
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
			t.Errorf("at the end %q %v", rest, err)
		}
		r.waitIdle(t)
	})
	t.Run("passes on that the client has ended, and then what the replica still sends", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			b, _ := io.ReadAll(br)
			fmt.Fprintf(nc, "you said %s", b)
		})}}.view())
		nc, br := open(t, r, "")
		fmt.Fprint(nc, "this")
		if err := nc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(br); err != nil || string(got) != "you said this" {
			t.Errorf("got %q %v", got, err)
		}
		r.waitIdle(t)
	})
	t.Run("passes on that the replica has ended, and then what the client still sends", func(t *testing.T) {
		t.Parallel()
		got := make(chan string, 1)
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched+"bye")
			_ = nc.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(br)
			got <- string(b)
		})}}.view())
		nc, br := open(t, r, "")
		if b, err := io.ReadAll(br); err != nil || string(b) != "bye" {
			t.Errorf("the client got %q %v", b, err)
		}
		fmt.Fprint(nc, "late")
		nc.Close()
		if b := <-got; b != "late" {
			t.Errorf("the replica got %q", b)
		}
		r.waitIdle(t)
	})
	t.Run("carries much both ways at once", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			_, _ = io.Copy(nc, br)
		})}}.view())
		nc, br := open(t, r, "")
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		go func() {
			_, _ = nc.Write(want)
			_ = nc.CloseWrite()
		}()
		if got, err := io.ReadAll(br); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
		}
		r.waitIdle(t)
	})
	t.Run("holds back a sender whose other side does not read", func(t *testing.T) {
		t.Parallel()
		free := make(chan struct{})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			<-free
			_, _ = io.Copy(io.Discard, br)
		})}}.view())
		nc, _ := open(t, r, "")
		if err := nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(nc, io.LimitReader(endless{}, 1<<30)); !timedOut(err) {
			t.Errorf("%d bytes went nowhere: %v", n, err)
		}
		nc.Close()
		close(free)
		r.waitIdle(t)
	})
	t.Run("keeps the slot of a client that vanished until the replica has ended", func(t *testing.T) {
		t.Parallel()
		free := make(chan struct{})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			_, _ = io.Copy(io.Discard, br) // it sees the end
			<-free
		})}}.view())
		nc, _ := open(t, r, "")
		if err := nc.SetLinger(0); err != nil { // a reset
			t.Fatal(err)
		}
		nc.Close()
		if ongoing, _ := r.load(); ongoing != 1 {
			t.Errorf("%d slots while the replica works", ongoing)
		}
		close(free)
		r.waitIdle(t)
	})
	t.Run("does not wait for ever for a replica that does not end", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			<-t.Context().Done()
		})}}.view(), func(c *Config) { c.Linger = 50 * time.Millisecond })
		nc, _ := open(t, r, "")
		nc.Close()
		r.waitIdle(t)
	})
	t.Run("outlives the request's timeout", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, timeout: 100 * time.Millisecond, addresses: []string{switching(t, func(nc net.Conn, br *bufio.Reader) {
			fmt.Fprint(nc, switched)
			time.AfterFunc(300*time.Millisecond, func() { fmt.Fprint(nc, "late"); nc.Close() })
			_, _ = io.Copy(io.Discard, br)
		})}}.view())
		_, br := open(t, r, "")
		if got := readString(t, br, 4); got != "late" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("is not begun when the replica answers otherwise", func(t *testing.T) {
		t.Parallel()
		address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUpgradeRequired) })
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		res, _ := rawRequest(t, r.addr, strings.ReplaceAll(switchRequest, "\r", ""))
		if res.StatusCode != 426 {
			t.Errorf("got %d", res.StatusCode)
		}
	})
	t.Run("to another protocol than was asked for is a bad answer", func(t *testing.T) {
		t.Parallel()
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, _ *bufio.Reader) {
			fmt.Fprint(nc, strings.Replace(switched, "websocket", "other", 1))
		})}}.view())
		res, _ := rawRequest(t, r.addr, strings.ReplaceAll(switchRequest, "\r", ""))
		if res.StatusCode != 502 {
			t.Errorf("got %d", res.StatusCode)
		}
		r.waitIdle(t)
	})
}

// TestSilentFlowHoldsNoBuffer sends little, much and little again.
func TestSilentFlowHoldsNoBuffer(t *testing.T) {
	t.Parallel()
	const size, small = 5*copyBufferSize + 1, 4 << 10
	far, near := tcpPair(t)
	f := flow{r: bufio.NewReaderSize(near, small), buffers: &buffers{}}
	for _, n := range []int{1, 100, size, 1, 100} {
		sent := strings.Repeat("x", n)
		go func() { _, _ = io.WriteString(far, sent) }()
		for got := 0; got < n; {
			b, err := f.next()
			if err != nil {
				t.Fatal(err)
			}
			got += len(b)
			if held := f.buf != nil; held && n < small && f.much {
				t.Errorf("of %d bytes: the buffer is held", n)
			}
		}
	}
	far.Close()
	if b, err := f.next(); err == nil || len(b) > 0 || f.buf != nil {
		t.Errorf("at the end: %d bytes, %v", len(b), err)
	}
}

// TestUpgradeInHTTP10 asks for what HTTP/1.0 does not have.
func TestUpgradeInHTTP10(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(net.Conn, *bufio.Reader) {})}}.view())
	res, body := rawRequest(t, r.addr, "GET /app HTTP/1.0\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
	if res.StatusCode != http.StatusOK || body != "plain" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	r.waitIdle(t)
}
