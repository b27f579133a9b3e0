package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// hostility is an answer that no replica should give, and what the client may
// get to see of it.
type hostility struct {
	name   string
	answer string // "\n" stands for CR LF, "␊" and "␍" for a LF and a CR alone
	// want is the client's statuses; "|" parts alternatives. "cut" is an answer
	// that breaks off, so that nobody takes it for the whole.
	want   string
	body   string // of the last answer, where it is not cut
	closes bool   // the replica closes after it
	keeps  bool   // the connection to the replica may be used again
}

const ok = "HTTP/1.1 200 OK\n"

func hostilities() []hostility {
	return []hostility{
		{name: "an answer in order", answer: ok + "Content-Length: 2\n\nhi", want: "200", body: "hi", keeps: true},
		{name: "chunks in order", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\n\n", want: "200", body: "hi", keeps: true},
		{name: "a body up to the end", answer: ok + "\nhi", closes: true, want: "200", body: "hi"},
		{name: "hints, then an answer", answer: "HTTP/1.1 103 Early Hints\nLink: a\n\n" + ok + "Content-Length: 2\n\nhi", want: "103 200", body: "hi", keeps: true},

		{name: "nothing", closes: true, want: "502"},
		{name: "garbage", answer: "\x00\x01\x02 garbage \xff\xfe\n\n", closes: true, want: "502"},
		{name: "garbage, and it stays open", answer: "garbage\n\n", want: "502"},
		{name: "TLS", answer: "\x15\x03\x01\x00\x02\x02\x16", closes: true, want: "502"},
		{name: "HTTP/2", answer: "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", closes: true, want: "502"},
		{name: "a request", answer: "GET / HTTP/1.1\nHost: a\n\n", want: "502"},
		{name: "half a status line", answer: "HTTP/1.1 20", closes: true, want: "502"},
		{name: "half a header", answer: ok + "Content-Le", closes: true, want: "502"},
		{name: "no empty line", answer: ok + "Content-Length: 0\n", closes: true, want: "502"},
		{name: "HTTP/0.9", answer: "<html>hi</html>", closes: true, want: "502"},
		{name: "HTTP/2.0 in words", answer: "HTTP/2.0 200 OK\nContent-Length: 2\n\nhi", want: "502"},
		{name: "HTTP/9.9", answer: "HTTP/9.9 200 OK\nContent-Length: 2\n\nhi", want: "502"},
		{name: "no version", answer: "200 OK\n\n", want: "502"},
		{name: "another protocol", answer: "ICY 200 OK\n\n", want: "502"},
		{name: "a status of two digits", answer: "HTTP/1.1 20 OK\nContent-Length: 0\n\n", want: "502"},
		{name: "a status of four digits", answer: "HTTP/1.1 2000 OK\nContent-Length: 0\n\n", want: "502"},
		{name: "status 000", answer: "HTTP/1.1 000 OK\nContent-Length: 0\n\n", want: "502"},
		{name: "status 099", answer: "HTTP/1.1 099 OK\nContent-Length: 0\n\n", want: "502"},
		{name: "a signed status", answer: "HTTP/1.1 +20 OK\nContent-Length: 0\n\n", want: "502"},
		{name: "a status in letters", answer: "HTTP/1.1 abc OK\nContent-Length: 0\n\n", want: "502"},

		{name: "a body that is too short", answer: ok + "Content-Length: 9\n\nhi", closes: true, want: "502"},
		{name: "a body that is too long", answer: ok + "Content-Length: 2\n\nhi and more", want: "200", body: "hi"},
		{name: "two answers", answer: ok + "Content-Length: 2\n\nhi" + ok + "Content-Length: 5\n\nother", want: "200", body: "hi"},
		{name: "a second answer to HEAD's like", answer: "HTTP/1.1 204 No Content\n\n" + ok + "Content-Length: 5\n\nother", want: "204"},
		{name: "chunks where there is no body", answer: "HTTP/1.1 304 Not Modified\nTransfer-Encoding: chunked\n\n5\nother\n0\n\n", want: "304"},
		{name: "chunks where there can be no body", answer: "HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n\n5\nother\n0\n\n", want: "204"},
		{name: "a reset of the form, with a body", answer: "HTTP/1.1 205 Reset Content\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n", want: "205", body: "hi", keeps: true},
		{name: "a status that nobody knows", answer: "HTTP/1.1 999 Odd\nContent-Length: 2\n\nhi", want: "999", body: "hi", keeps: true},
		{name: "a length that Connection names", answer: ok + "Connection: Content-Length\nContent-Length: 2\n\nhi", want: "200", body: "hi", keeps: true},
		{name: "chunks that Connection names", answer: ok + "Connection: Transfer-Encoding\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n", want: "200", body: "hi", keeps: true},
		{name: "a trailer about the connection", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\nConnection: X-Evil\nKeep-Alive: x\nX-Serve-Evil: 1\n\n", want: "200", body: "hi", keeps: true},
		{name: "a coding of identity", answer: ok + "Transfer-Encoding: identity\nContent-Length: 2\n\nhi", want: "502"},
		{name: "a body where there is none", answer: "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\nother", want: "304"},
		{name: "two lengths", answer: ok + "Content-Length: 2\nContent-Length: 3\n\nhi!", want: "502"},
		{name: "a list of lengths", answer: ok + "Content-Length: 2, 3\n\nhi!", want: "502"},
		{name: "a negative length", answer: ok + "Content-Length: -2\n\nhi", want: "502"},
		{name: "a signed length", answer: ok + "Content-Length: +2\n\nhi", want: "502"},
		{name: "a length beyond all", answer: ok + "Content-Length: 99999999999999999999\n\nhi", closes: true, want: "502"},
		{name: "a huge length", answer: ok + "Content-Length: 9223372036854775807\n\nhi", closes: true, want: "502"},
		{name: "a length and chunks", answer: ok + "Content-Length: 2\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n", want: "502"},
		{name: "chunks and a length", answer: ok + "Transfer-Encoding: chunked\nContent-Length: 30\n\n2\nhi\n0\n\n", want: "502"},
		{name: "an unknown coding", answer: ok + "Transfer-Encoding: gzip\n\nhi", closes: true, want: "502"},
		{name: "two codings", answer: ok + "Transfer-Encoding: gzip, chunked\n\n2\nhi\n0\n\n", want: "502"},
		{name: "chunks in HTTP/1.0", answer: "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n", closes: true, want: "200|502|cut", body: "2\r\nhi\r\n0\r\n\r\n"},

		{name: "a bad chunk size", answer: ok + "Transfer-Encoding: chunked\n\nx\nhi\n0\n\n", want: "502"},
		{name: "a negative chunk size", answer: ok + "Transfer-Encoding: chunked\n\n-2\nhi\n0\n\n", want: "502"},
		{name: "a huge chunk size", answer: ok + "Transfer-Encoding: chunked\n\n7fffffffffffffff\nhi", closes: true, want: "cut"},
		{name: "a chunk size beyond all", answer: ok + "Transfer-Encoding: chunked\n\n10000000000000002\nhi\n0\n\n", want: "502"},
		{name: "a chunk too long", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi!\n0\n\n", want: "502"},
		{name: "no last chunk", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n", closes: true, want: "cut"},
		{name: "no end of the last chunk", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\n", closes: true, want: "cut|502"},
		{name: "more after the last chunk", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\n\nmore", want: "200", body: "hi"},
		{name: "a bad trailer", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\nbad\n\n", want: "502"},
		{name: "trailers without end", answer: ok + "Transfer-Encoding: chunked\n\n2\nhi\n0\n" + strings.Repeat("X-Trailer: 0123456789\n", 200_000), closes: true, want: "cut|502"},

		{name: "a switch that nobody asked for", answer: "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\nraw", want: "502"},
		{name: "a switch to nothing that nobody asked for", answer: "HTTP/1.1 101 Switching Protocols\n\nraw", want: "502"},
		{name: "100 that nobody asked for", answer: "HTTP/1.1 100 Continue\n\n" + ok + "Content-Length: 2\n\nhi", want: "200|100 200", body: "hi", keeps: true},
		{name: "informational answers without end", answer: strings.Repeat("HTTP/1.1 103 Early Hints\nLink: a\n\n", 10_000), closes: true, want: strings.Repeat("103 ", 16) + "502"},
		{name: "informational answers alone", answer: "HTTP/1.1 102 Processing\n\n", closes: true, want: "102 502"},
		{name: "informational answers that have a length", answer: "HTTP/1.1 103 Early Hints\nContent-Length: 4\n\n" + ok + "Content-Length: 2\n\nhi", want: "103 200", body: "hi", keeps: true},
		{name: "a header without end", answer: ok + strings.Repeat("X: 0123456789\n", 400_000), closes: true, want: "502"},
		{name: "a line without end", answer: ok + "X: " + strings.Repeat("x", 4<<20), closes: true, want: "502"},
		{name: "a status line without end", answer: "HTTP/1.1 200 " + strings.Repeat("x", 4<<20), closes: true, want: "502"},

		{name: "a NUL in a value", answer: ok + "X: a\x00b\nContent-Length: 2\n\nhi", want: "502"},
		{name: "a bare CR in a value", answer: ok + "X: a␍Set-Cookie: evil=1\nContent-Length: 2\n\nhi", want: "502"},
		{name: "a space before a colon", answer: ok + "Content-Length : 9\n\n", closes: true, want: "502"},
		{name: "a name that is no word", answer: ok + "X Y: 1\nContent-Length: 2\n\nhi", want: "502"},
		{name: "no colon", answer: ok + "X\nContent-Length: 2\n\nhi", want: "502"},
		{name: "a folded line", answer: ok + "X: a\n b\nContent-Length: 2\n\nhi", want: "200|502", body: "hi", keeps: true},
		{name: "bare LFs", answer: "HTTP/1.1 200 OK␊Content-Length: 2␊␊hi", want: "200|502", body: "hi", keeps: true},
		{name: "headers about the connection", answer: ok + "Connection: X-Evil, close\nX-Evil: 1\nKeep-Alive: x\nProxy-Authenticate: x\nContent-Length: 2\n\nhi", want: "200", body: "hi"},
		{name: "the proxy's own word", answer: "HTTP/1.1 503 No\nX-Serve-Error: queue-full\nX-Serve-Evil: 1\nContent-Length: 2\n\nhi", want: "503", body: "hi", keeps: true},
	}
}

// TestHostileReplicas has a replica give each of them. Whatever it is, the
// client gets 502 or an answer that is cut off, nobody else gets a byte of it,
// the connection is not used again and the next request is served.
func TestHostileReplicas(t *testing.T) {
	t.Parallel()
	for _, h := range hostilities() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			h.run(t)
		})
	}
}

// run has the replica give the answer and looks at what comes of it.
func (h hostility) run(t *testing.T) {
	villain := &villain{answer: wire(h.answer), closes: h.closes}
	r := start(t, viewOf(app(1, rawReplica(t, villain.serve))), func(c *proxy.Config) {
		// A client that the replica keeps in the middle of something.
		c.Linger = time.Second
	})
	got := ask(t, r.addr, "POST /app/evil HTTP/1.1\nHost: a\nContent-Length: 4\nConnection: close\n\nbody")
	if !oneOf(got.statuses(), h.want) {
		t.Errorf("the client got %q, want %q\n%.500q", got.statuses(), h.want, got.raw)
	}
	if !got.cut && got.last() < http.StatusBadGateway && string(got.body) != h.body {
		t.Errorf("the client got the body %.200q, want %q", got.body, h.body)
	}
	for _, evil := range []string{"x-evil", "x-serve-evil", "queue-full", "\r\nset-cookie", "\rset-cookie", "\x00", "keep-alive: x", "other"} {
		if bytes.Contains(bytes.ToLower(got.raw), []byte(evil)) {
			t.Errorf("the client got %q in %.500q", evil, got.raw)
		}
	}
	r.waitIdle(t)
	before := villain.connections()
	res, body := r.get(t, "/app/good")
	if res.StatusCode != http.StatusOK || body != "good" {
		t.Errorf("the next request got %d %q", res.StatusCode, body)
	}
	if after := villain.connections(); after == before && !h.keeps {
		t.Errorf("the connection was used again")
	}
	r.waitIdle(t)
}

// villain is a replica that answers /evil with anything and the rest in order.
type villain struct {
	answer string
	closes bool

	mu    sync.Mutex
	conns int
}

func (v *villain) connections() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conns
}

func (v *villain) serve(nc *net.TCPConn) {
	v.mu.Lock()
	v.conns++
	v.mu.Unlock()
	br := bufio.NewReader(nc)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
		evil := strings.HasPrefix(req.URL.Path, "/evil")
		if evil {
			answer = v.answer
		}
		if _, err := io.WriteString(nc, answer); err != nil || (evil && v.closes) {
			return
		}
	}
}

// answers is what a client got on one connection, up to its end.
type answers struct {
	raw   []byte
	codes []int  // of those that are whole
	body  []byte // of the last
	cut   bool   // one more broke off
}

func (a answers) statuses() string {
	var words []string
	for _, code := range a.codes {
		words = append(words, fmt.Sprint(code))
	}
	if a.cut {
		words = append(words, "cut")
	}
	return strings.Join(words, " ")
}

func (a answers) last() int {
	if len(a.codes) == 0 {
		return 0
	}
	return a.codes[len(a.codes)-1]
}

// ask sends a request that closes, and reads to the connection's end.
func ask(tb testing.TB, addr, request string) answers {
	tb.Helper()
	nc := dial(tb, addr)
	write(tb, nc, wire(request))
	raw, err := io.ReadAll(nc)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		tb.Errorf("the connection stays open after %.500q", raw)
	}
	return parseAnswers(tb, raw)
}

// parseAnswers reads responses as a client does.
func parseAnswers(tb testing.TB, raw []byte) (a answers) {
	tb.Helper()
	a.raw = raw
	br := bufio.NewReader(bytes.NewReader(raw))
	for {
		if _, err := br.Peek(1); err != nil {
			a.cut = a.cut || len(a.codes) == 0 || a.last() < 200
			return a
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				tb.Errorf("the client got no HTTP: %v: %.500q", err, raw)
			}
			a.cut = true
			return a
		}
		if a.body, err = io.ReadAll(res.Body); err != nil {
			a.cut = true
			return a
		}
		a.codes = append(a.codes, res.StatusCode)
	}
}

// TestResetAtEachByte has a replica reset the connection after each byte of an
// answer: the client gets all of the answer, or knows that it has not.
func TestResetAtEachByte(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	} {
		for n := range len(answer) {
			replica := rawReplica(t, func(nc *net.TCPConn) {
				req, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(nc, answer[:n])
				_ = nc.SetLinger(0)
			})
			r := start(t, viewOf(app(1, replica)))
			got := ask(t, r.addr, "POST /app HTTP/1.1\nHost: a\nContent-Length: 4\nConnection: close\n\nbody")
			if whole := !got.cut && got.last() < 500; whole && n < len(answer)-len("A: b\r\n\r\n") {
				t.Errorf("after %q the client took %q for the whole", answer[:n], got.raw)
			}
			r.waitIdle(t)
		}
	}
}

// TestAnswerBeforeTheRequest has a replica say something on a connection that
// nobody has asked anything on, as servers do that give up waiting: it is nobody's
// answer.
func TestAnswerBeforeTheRequest(t *testing.T) {
	t.Parallel()
	spoken := make(chan struct{}, 1)
	address := rawReplica(t, func(nc *net.TCPConn) {
		br := bufio.NewReader(nc)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
			if req.URL.Path == "/last" {
				_, _ = io.WriteString(nc, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nearly")
				spoken <- struct{}{}
			}
		}
	})
	r := start(t, viewOf(app(1, address)))
	for range 20 {
		for _, path := range []string{"/first", "/last"} {
			if res, body := r.get(t, "/app"+path); res.StatusCode != http.StatusOK || body != path {
				t.Fatalf("the request for %s got %d %q", path, res.StatusCode, body)
			}
		}
		<-spoken
	}
	r.waitIdle(t)
}

// TestEarlyAnswerWhileTheBodyIsSent has a replica answer and close, or reset,
// before it has the body.
func TestEarlyAnswerWhileTheBodyIsSent(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Content-Length: 33554432\n\n", "Transfer-Encoding: chunked\n\n2000000\n"} {
		address := rawReplica(t, func(nc *net.TCPConn) {
			br := bufio.NewReader(nc)
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(nc, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			_, _ = io.CopyN(io.Discard, br, 1000)
		})
		r := start(t, viewOf(app(1, address)))
		for range 3 {
			nc := dial(t, r.addr)
			write(t, nc, wire("POST /app HTTP/1.1\nHost: a\n"+framing))
			var sending sync.WaitGroup
			sending.Go(func() { _, _ = io.CopyN(nc, zeros{}, 32<<20) })
			raw, _ := io.ReadAll(nc)
			nc.Close()
			sending.Wait()
			if got := parseAnswers(t, raw); !oneOf(got.statuses(), "413|502|413 400") {
				t.Errorf("%q: got %q", framing, got.raw)
			}
			r.waitIdle(t)
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestNoCrossTalk has clients whose bodies carry their name ask replicas that
// break the rules at random: each gets what is its own, or an error.
func TestNoCrossTalk(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	address := rawReplica(t, func(nc *net.TCPConn) {
		liar(nc, rand.New(rand.NewPCG(seed, uint64(nc.RemoteAddr().(*net.TCPAddr).Port))))
	})
	r := start(t, viewOf(app(8, address, address)))
	until := time.Now().Add(span(t, 2*time.Second))
	var clients sync.WaitGroup
	var mu sync.Mutex
	whole, broken := 0, 0
	for c := range 16 {
		clients.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := 0; time.Now().Before(until); i++ {
				tag := fmt.Sprintf("client-%d-%d-", c, i)
				got, err := tagged(client, r.url+"/app/x", tag, i%2 == 0)
				mu.Lock()
				if err != nil || got == "" {
					broken++
				} else {
					whole++
				}
				mu.Unlock()
				if rest := strings.ReplaceAll(got, tag, ""); !strings.HasPrefix(tag, rest) || (err == nil && rest != "") {
					t.Errorf("%s got %.200q", tag, got)
					return
				}
			}
		})
	}
	clients.Wait()
	t.Logf("%d answers, %d errors", whole, broken)
	if whole == 0 || broken == 0 {
		t.Error("the test shows nothing: the replicas must both answer and break the rules")
	}
	r.waitIdle(t)
}

// tagged sends a request that names its sender and returns what came for it, also
// when it broke off; "" when the answer is the proxy's own.
func tagged(client *http.Client, url, tag string, post bool) (got string, err error) {
	method, body := http.MethodGet, io.Reader(nil)
	if post {
		method, body = http.MethodPost, strings.NewReader(tag)
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Tag", tag)
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.Header.Get("X-Serve-Error") != "" {
		return "", nil
	}
	if header := res.Header.Get("X-Tag"); header != tag {
		return "the header of " + header, nil
	}
	return string(b), err
}

// liar answers with the request's tag, many times over, and breaks a rule after
// some of its answers.
func liar(nc *net.TCPConn, dice *rand.Rand) {
	br := bufio.NewReader(nc)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		tag := req.Header.Get("X-Tag")
		// In one piece: what comes later than an answer's end, after the next
		// request has been sent, is an answer to it for all that HTTP/1.1 says.
		body := strings.Repeat(tag, 1+dice.IntN(1000))
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Tag: %s\r\n", tag)
		length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
		switch dice.IntN(12) {
		case 0: // the answer twice
			_, _ = io.WriteString(nc, head+length+body+head+length+body)
		case 1: // more than the length
			_, _ = io.WriteString(nc, head+length+body+tag)
		case 2: // broken off
			_, _ = io.WriteString(nc, head+length+body[:len(body)/2])
			return
		case 3: // reset
			_, _ = io.WriteString(nc, head+length+body)
			_ = nc.SetLinger(0)
			return
		case 4: // chunks that go wrong
			_, _ = fmt.Fprintf(nc, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n", head, len(body), body)
		default:
			_, _ = io.WriteString(nc, head+length+body)
			continue
		}
	}
}

// TestMutatedAnswers changes valid answers at random. Whatever comes out, the
// client gets HTTP, the slot is free again and the next request is served.
func TestMutatedAnswers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	current := ""
	r := start(t, viewOf(app(1, rawReplica(t, func(nc *net.TCPConn) {
		mu.Lock()
		v := &villain{answer: current, closes: true}
		mu.Unlock()
		v.serve(nc)
	}))))
	rapid.Check(t, func(rt *rapid.T) {
		answer := []byte(rapid.SampledFrom([]string{
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
			"HTTP/1.0 302 Found\r\nLocation: /\r\nSet-Cookie: a=b\r\n\r\nbody",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		}).Draw(rt, "answer"))
		for range rapid.IntRange(0, 4).Draw(rt, "changes") {
			answer = mutate(rt, answer)
		}
		mu.Lock()
		current = string(answer)
		mu.Unlock()
		got := ask(t, r.addr, "POST /app/evil HTTP/1.1\nHost: a\nContent-Length: 4\nConnection: close\n\nbody")
		if t.Failed() {
			rt.Fatalf("after %q the client got %q", answer, got.raw)
		}
		r.waitIdle(t)
		if res, body := r.get(t, "/app/good"); res.StatusCode != http.StatusOK || body != "good" {
			rt.Fatalf("after %q the next request got %d %q", answer, res.StatusCode, body)
		}
	})
}

// mutate makes one change: bytes lost, doubled, put in or put in place of others.
func mutate(rt *rapid.T, b []byte) []byte {
	at := rapid.IntRange(0, len(b)).Draw(rt, "at")
	to := min(len(b), at+rapid.IntRange(0, 8).Draw(rt, "bytes"))
	piece := []byte(rapid.SampledFrom([]string{
		"", "\r\n", "\n", "\r", "\x00", " ", ":", "0", "-1", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
		"HTTP/1.1 200 OK\r\n\r\n", "\r\n\r\n", "Connection: close\r\n", "ffffffffffffffff\r\n", "\xff",
	}).Draw(rt, "piece"))
	if rapid.Bool().Draw(rt, "doubled") {
		piece = b[at:to]
		to = at
	}
	return append(append(append([]byte{}, b[:at]...), piece...), b[to:]...)
}
