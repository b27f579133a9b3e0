package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// headersFrame is an HTTP/2 HEADERS frame that opens stream 1 and ends it, with
// fields that no client library would write.
func headersFrame(fields ...string) []byte {
	var block []byte
	for i := 0; i < len(fields); i += 2 {
		block = append(block, 0, byte(len(fields[i])))
		block = append(block, fields[i]...)
		block = append(block, byte(len(fields[i+1])))
		block = append(block, fields[i+1]...)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(block))<<8|1) // length, HEADERS
	frame = append(frame, 0x5)                                           // END_STREAM, END_HEADERS
	frame = binary.BigEndian.AppendUint32(frame, 1)
	return append(frame, block...)
}

// TestHTTP2RequestLine sends what HTTP/1.1 could not say, and what would be
// another request if it were written down as it is.
func TestHTTP2RequestLine(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 10)
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		for line, err := br.ReadString('\n'); err == nil; line, err = br.ReadString('\n') {
			lines <- strings.TrimSpace(line)
			for line != "\r\n" && err == nil {
				line, err = br.ReadString('\n')
			}
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	for _, tt := range []struct{ name, method, path string }{
		{"a method with a target", "GET /admin HTTP/1.1", "/app/x"},
		{"a method with a space", "GET ", "/app/x"},
		{"a method with a colon", "GET:", "/app/x"},
		{"a path with a space", "GET", "/app/x HTTP/1.0"},
		{"a query with a space", "GET", "/app?x HTTP/1.0"},
		{"no path", "OPTIONS", "*"},
	} {
		nc := dial(t, r.addr)
		if _, err := io.WriteString(nc, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(headersFrame(":method", tt.method, ":scheme", "http", ":authority", "a", ":path", tt.path)); err != nil {
			t.Fatal(err)
		}
		waitStreamEnd(t, nc)
		select {
		case line := <-lines:
			if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(line + "\r\nHost: a\r\n\r\n"))); err != nil || strings.Count(line, " ") != 2 {
				t.Errorf("%s: the replica saw %q", tt.name, line)
			}
		default:
		}
	}
}

// waitStreamEnd reads frames until stream 1 has ended.
func waitStreamEnd(t *testing.T, r io.Reader) {
	t.Helper()
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return // the whole connection has ended
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:])>>8)); err != nil {
			return
		}
		const reset = 3
		stream := binary.BigEndian.Uint32(head[5:])
		if stream == 1 && (head[3] == reset || (head[3] <= 1 && head[4]&1 != 0)) {
			return
		}
	}
}

// TestStatusOutOfRange has a replica send a status that HTTP does not have.
func TestStatusOutOfRange(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"000", "050", "099"} {
		address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
			if _, _, ok := readRequest(br); ok {
				fmt.Fprint(nc, "HTTP/1.1 "+status+" Odd\r\nContent-Length: 0\r\n\r\n")
			}
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			res, _ := do(t, r.client, method, r.url+"/app", strings.NewReader("x"))
			if res.StatusCode != http.StatusBadGateway || res.Header.Get(errorHeader) != codeBadResponse {
				t.Errorf("%s: got %d %v", status, res.StatusCode, res.Header)
			}
		}
		r.waitIdle(t)
	}
}

// TestSlowSenderDoesNotKeepTheSlot has clients promise a body that does not come.
func TestSlowSenderDoesNotKeepTheSlot(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Early") != "" { // nobody is kept waiting
			_ = http.NewResponseController(w).EnableFullDuplex()
			_ = http.NewResponseController(w).Flush()
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write(b)
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view(), func(c *Config) {
		c.ClientStall = 100 * time.Millisecond
	})
	for _, body := range []string{"Content-Length: 10\n\nhalf", "Transfer-Encoding: chunked\n\n4\nhalf\n", "Content-Length: 10\nExpect: 100-continue\n\n"} {
		request := "POST /app HTTP/1.1\nHost: a\n" + body
		nc := dial(t, r.addr)
		fmt.Fprint(nc, strings.ReplaceAll(request, "\n", "\r\n"))
		br := bufio.NewReader(nc)
		res, err := http.ReadResponse(br, nil)
		if err == nil && res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		// The replica is told at once, and may be the first to say something.
		if (res.Header.Get(errorHeader) != codeStalled && res.StatusCode != http.StatusBadRequest) || !res.Close {
			t.Errorf("%q: got %d %v", body, res.StatusCode, res.Header)
		}
		r.waitIdle(t)
	}
	t.Run("but may take its time once it is answered", func(t *testing.T) {
		nc := dial(t, r.addr)
		fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\nX-Early: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		past := time.NewTimer(3 * 100 * time.Millisecond)
		<-past.C
		fmt.Fprint(nc, "1\r\nb\r\n0\r\n\r\n")
		if b, err := io.ReadAll(res.Body); string(b) != "ab" || err != nil {
			t.Errorf("got %q %v", b, err)
		}
	})
	t.Run("and what it sent in time is served as ever", func(t *testing.T) {
		free := make(chan struct{})
		slow := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			<-free
			_, _ = w.Write(b)
		})
		r := start(t, app{ongoing: 1, queued: -1, addresses: []string{slow}}.view(), func(c *Config) {
			c.ClientStall = 50 * time.Millisecond
		})
		past := time.AfterFunc(3*50*time.Millisecond, func() { close(free) })
		defer past.Stop()
		if res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader("whole")); res.StatusCode != 200 || body != "whole" {
			t.Errorf("got %d %q", res.StatusCode, body)
		}
	})
}

// TestEarlyAnswerReachesAClientThatGoesOnSending has a replica refuse a body
// while its client, as most do, reads no answer before it has sent it all.
func TestEarlyAnswerReachesAClientThatGoesOnSending(t *testing.T) {
	t.Parallel()
	address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			fmt.Fprint(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		}
	})
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	body := make([]byte, 8<<20)
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)),
		fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(body)),
	} {
		nc := dial(t, r.addr)
		if _, err := io.WriteString(nc, "POST /app HTTP/1.1\r\nHost: a\r\n"+framing); err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(body) // it may be cut off, but not from the answer
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || string(b) != "big" {
			t.Errorf("got %d %q %v", res.StatusCode, b, err)
		}
		r.waitIdle(t)
	}
}

// TestAnswerThatClaimsTooMuch has a replica speak as the proxy does, and give
// lengths to answers that have no body.
func TestAnswerThatClaimsTooMuch(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"an error of the proxy's":   "HTTP/1.1 503 No\nX-Serve-Error: queue-full\nX-Serve-Anything: 1\nContent-Length: 0\n\n",
		"a trailer of the proxy's":  "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Serve-Error, X-Request-Id\n\n0\nX-Serve-Error: x\nX-Request-Id: x\n\n",
		"a length of nothing":       "HTTP/1.1 204 No Content\nContent-Length: 5\n\n",
		"a length of nothing, sent": "HTTP/1.1 204 No Content\nContent-Length: 5\n\nhello",
		"a length of early hints":   "HTTP/1.1 103 Early Hints\nContent-Length: 5\nX-Serve-Error: x\n\nHTTP/1.1 204 No Content\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
				for {
					if _, _, ok := readRequest(br); !ok {
						return
					}
					fmt.Fprint(nc, strings.ReplaceAll(answer, "\n", "\r\n"))
				}
			})
			r := start(t, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
			nc := dial(t, r.addr)
			fmt.Fprint(nc, "GET /app HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\nGET /app HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(nc)
			if err != nil {
				t.Fatal(err)
			}
			seen := string(b)
			for _, lie := range []string{"X-Serve-", "Content-Length: 5", "hello", "X-Request-Id: x"} {
				if strings.Contains(seen, lie) {
					t.Errorf("the client got %q in %q", lie, seen)
				}
			}
			if n := strings.Count(seen, "HTTP/1.1 2") + strings.Count(seen, "HTTP/1.1 5"); n != 2 {
				t.Errorf("%d answers to two requests: %q", n, seen)
			}
		})
	}
}

// TestTunnelWhoseClientReadsNothing has a replica say much and end, and a
// client that neither reads nor leaves.
func TestTunnelWhoseClientReadsNothing(t *testing.T) {
	t.Parallel()
	r := start(t, app{ongoing: 1, queued: -1, addresses: []string{switching(t, func(nc net.Conn, _ *bufio.Reader) {
		fmt.Fprint(nc, switched)
		_, _ = io.CopyN(nc, endless{}, 100<<20)
	})}}.view(), func(c *Config) { c.ClientStall = 100 * time.Millisecond })
	open(t, r, "")
	r.waitIdle(t)
}

// breaksOff says whether an answer begins in order and has not all of its body:
// the client may be cut off then.
func breaksOff(answer []byte) bool {
	br := bufio.NewReader(bytes.NewReader(answer))
	for {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			return false
		}
		if res.StatusCode >= 200 {
			_, err := io.Copy(io.Discard, res.Body)
			return err != nil
		}
	}
}

// FuzzReplica has a replica answer with anything and then close. Whatever it is,
// the client gets an answer in HTTP and the slot is free again.
func FuzzReplica(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw", "HTTP/1.0 999 X\r\nA : b\r\n\r\n", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	answers := make(chan []byte, 1)
	address := rawReplica(f, func(nc net.Conn, br *bufio.Reader) {
		if _, _, ok := readRequest(br); ok {
			select {
			case answer := <-answers:
				_, _ = nc.Write(answer)
			default: // sent again
			}
		}
	})
	r := start(f, app{ongoing: 1, queued: -1, addresses: []string{address}}.view())
	f.Fuzz(func(t *testing.T, answer []byte, post bool) {
		select {
		case <-answers:
		default:
		}
		answers <- answer
		request := "GET /app HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
		if post {
			request = "POST /app HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
		}
		nc := dial(t, r.addr)
		if _, err := io.WriteString(nc, request); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(nc)
		for {
			res, err := http.ReadResponse(br, nil)
			if err != nil && !breaksOff(answer) {
				t.Fatalf("no answer to the client after %q: %v", answer, err)
			}
			if err != nil {
				break
			}
			if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
				break
			}
		}
		nc.Close()
		r.waitIdle(t)
	})
}
