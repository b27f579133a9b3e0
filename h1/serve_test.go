package h1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func handle(f func(w http.ResponseWriter, r *http.Request)) http.Handler { return http.HandlerFunc(f) }

func read(tb testing.TB, br *bufio.Reader, method string) (*http.Response, string) {
	tb.Helper()
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(b)
}

// TestContinue holds when a client is asked for the body that it holds back.
func TestContinue(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}))
	for _, framing := range []string{"Content-Length: 5\r\n\r\n|hello", "Transfer-Encoding: chunked\r\n\r\n|5\r\nhello\r\n0\r\n\r\n"} {
		head, body, _ := strings.Cut(framing, "|")
		nc := dial(t, addr)
		br := bufio.NewReader(nc)
		for range 2 {
			fmt.Fprint(nc, "POST /yes HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"+head)
			line, _ := br.ReadString('\n')
			if line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("got %q", line)
			}
			_, _ = br.ReadString('\n')
			fmt.Fprint(nc, body)
			if res, got := read(t, br, "POST"); got != "hello" || res.Close {
				t.Errorf("got %q, close %v", got, res.Close)
			}
		}
		fmt.Fprint(nc, "POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"+head)
		if res, _ := read(t, br, "POST"); res.StatusCode != 403 || !res.Close {
			t.Errorf("got %d, close %v", res.StatusCode, res.Close)
		}
	}
}

// TestAnsweredBeforeContinue has a handler read the body only after it has
// answered: no 100 may follow.
func TestAnsweredBeforeContinue(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	got := talk(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	if strings.Contains(got, "100 Continue") || !strings.Contains(got, "hello") {
		t.Errorf("got %q", got)
	}
}

// TestUsedWork holds that what a connection has left half done is not the next
// one's.
func TestUsedWork(t *testing.T) {
	t.Parallel()
	s := &Server{}
	left := newWork()
	left.in.r, left.in.w, left.in.lines, left.in.line, left.in.first, left.in.scanned = 10, 70, 3, 50, 20, 60
	s.works.Put(left)
	got := s.takeWork()
	got.in.w = copy(got.in.room(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if end, f := got.in.scan(&got.line, 1000); f.status != 0 || end != len("GET / HTTP/1.1\r\nHost: a\r\n") || got.in.first != len("GET / HTTP/1.1") {
		t.Errorf("the head ends at %d, %v", end, f)
	}
}

// TestUnreadBody holds what becomes of a body that the handler has left.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(http.ResponseWriter, *http.Request) {}))
	small, large := strings.Repeat("x", maxRest-1), strings.Repeat("x", maxRest+1)
	for _, tt := range []struct {
		name, request string
		responses     int
		said          bool // the response says that the connection ends
	}{
		{"small", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(small), small), 2, false},
		{"large", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large), 1, true},
		{"small, in chunks", fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(small), small), 2, false},
		{"large, in chunks", fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s%s\r\n0\r\n\r\n", 2*len(large), large, large), 1, false},
		{"malformed", "Transfer-Encoding: chunked\r\n\r\nx\r\n", 1, false},
	} {
		got, _ := answers(talk(t, addr, "POST / HTTP/1.1\r\nHost: a\r\n"+tt.request+"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		if len(got) != tt.responses || strings.Contains(got[0], "close=true") != tt.said {
			t.Errorf("%s: got %q", tt.name, got)
		}
	}
}

// TestClientLeaves has the context end, whoever waits for it.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(r *http.Request){
		"on Done":    func(r *http.Request) { <-r.Context().Done() },
		"on a child": func(r *http.Request) { ctx, cancel := context.WithCancel(r.Context()); defer cancel(); <-ctx.Done() },
		"on AfterFunc": func(r *http.Request) {
			c := make(chan struct{})
			context.AfterFunc(r.Context(), func() { close(c) })
			<-c
		},
		"on its own": func(r *http.Request) {
			c := make(chan struct{})
			r.Context().(*requestContext).AfterFunc(func() { close(c) })
			<-c
		},
		"reading the body":   func(r *http.Request) { _, _ = io.ReadAll(r.Body); <-r.Context().Done() },
		"on Done, the error": func(r *http.Request) { <-r.Context().Done(); _ = context.Cause(r.Context()).Error() },
	} {
		for request, half := range map[string]bool{
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                   false,
			"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next":                          false,
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx":            true,
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nnot all": false,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				started, done := make(chan struct{}), make(chan struct{})
				_, addr := serveTCP(t, handle(func(_ http.ResponseWriter, r *http.Request) {
					close(started)
					wait(r)
					close(done)
				}))
				nc := dial(t, addr)
				fmt.Fprint(nc, request)
				<-started
				if half {
					_ = nc.CloseWrite()
				} else {
					nc.Close()
				}
				<-done
			})
		}
	}
}

// TestContextOfTheNext holds that a context that was asked about stays ended
// while the connection serves on, and that one that was not can do its work
// again.
func TestContextOfTheNext(t *testing.T) {
	t.Parallel()
	var kept []context.Context
	_, addr := serveTCP(t, handle(func(_ http.ResponseWriter, r *http.Request) {
		if err := r.Context().Err(); err != nil {
			t.Errorf("ended before it began: %v", err)
		}
		if r.Context().Value(http.LocalAddrContextKey) == nil {
			t.Error("no local address")
		}
		stop := r.Context().(*requestContext).AfterFunc(func() { t.Error("not stopped") })
		if r.URL.Path == "/keep" {
			kept = append(kept, r.Context())
			_ = r.Context().Done()
		}
		if !stop() || stop() {
			t.Error("stop does not say whether it has stopped")
		}
	}))
	nc := dial(t, addr)
	br := bufio.NewReader(nc)
	for _, path := range []string{"/", "/keep", "/", "/keep", "/keep", "/"} {
		fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		read(t, br, "GET")
	}
	if len(kept) != 3 || kept[0] == kept[1] || kept[1] == kept[2] {
		t.Errorf("kept %v", kept)
	}
	for _, ctx := range kept {
		<-ctx.Done()
		called := make(chan struct{})
		context.AfterFunc(ctx, func() { close(called) })
		<-called
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	logged := &syncBuffer{}
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			fmt.Fprint(w, "part")
			w.(http.Flusher).Flush()
		}
		if r.URL.Path == "/quietly" {
			panic(fmt.Errorf("wrapped: %w", http.ErrAbortHandler))
		}
		panic("oh no")
	}), logTo(logged))
	if got := talk(t, addr, "GET /quietly HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" || logged.take() != "" {
		t.Errorf("got %q", got)
	}
	if got := talk(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" || !strings.Contains(logged.take(), "oh no") {
		t.Errorf("got %q", got)
	}
	if got := talk(t, addr, "GET /begun HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasSuffix(got, "4\r\npart\r\n") {
		t.Errorf("got %q", got)
	}
	nc := dial(t, addr)
	fmt.Fprint(nc, "GET /begun HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(nc); err == nil {
		t.Errorf("HTTP/1.0 took %q for the whole", b)
	}
}

func TestHijack(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("twice: %v", err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("write: %v", err)
		}
		if rw.Reader.Buffered() != len("ahead") {
			t.Errorf("%d bytes are buffered", rw.Reader.Buffered())
		}
		if _, ok := nc.(*net.TCPConn); !ok {
			t.Errorf("it is a %T", nc)
		}
		fmt.Fprint(nc, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		line, _ := rw.ReadString('\n')
		fmt.Fprintf(rw, "%s %s", r.Host, line)
		_ = rw.Flush()
	}))
	nc := dial(t, addr)
	fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nahead")
	br := bufio.NewReader(nc)
	for range 2 {
		_, _ = br.ReadString('\n')
	}
	fmt.Fprint(nc, " of time\n")
	if b, err := io.ReadAll(br); string(b) != "a ahead of time\n" || err != nil {
		t.Errorf("got %q %v", b, err)
	}
}

// TestDeadlines has a handler give up on its client, and the connection's next
// request be free of that.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/read":
			_ = control.SetReadDeadline(time.Now().Add(-time.Second))
			if _, err := r.Body.Read(make([]byte, 1)); !isTimeout(err) {
				t.Errorf("read: %v", err)
			}
			_ = control.SetReadDeadline(time.Time{})
			free <- struct{}{}
			b, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(b), err)
		case "/set":
			_ = control.SetReadDeadline(time.Now().Add(-time.Second))
			_ = control.SetWriteDeadline(time.Now().Add(time.Hour))
		case "/write":
			_ = control.SetWriteDeadline(time.Now().Add(-time.Second))
			fmt.Fprint(w, "never")
			if err := control.Flush(); !isTimeout(err) || r.Context().Err() == nil {
				t.Errorf("write: %v, %v", err, r.Context().Err())
			}
			close(free)
		}
	}))
	nc := dial(t, addr)
	br := bufio.NewReader(nc)
	fmt.Fprint(nc, "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
	<-free
	fmt.Fprint(nc, "ok")
	if _, got := read(t, br, "POST"); got != "ok<nil>" {
		t.Errorf("got %q", got)
	}
	fmt.Fprint(nc, "GET /set HTTP/1.1\r\nHost: a\r\n\r\n")
	read(t, br, "GET")
	fmt.Fprint(nc, "GET /write HTTP/1.1\r\nHost: a\r\n\r\n")
	<-free
	if b, _ := io.ReadAll(br); len(b) > 0 {
		t.Errorf("got %q", b)
	}
}

// TestFullDuplex has the body and the response go on together.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = control.Flush()
			if err != nil {
				return
			}
		}
	}))
	nc := dial(t, addr)
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 5 {
		word := fmt.Sprintf("word %d", i)
		fmt.Fprintf(nc, "%x\r\n%s\r\n", len(word), word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
			t.Errorf("got %q %v", got, err)
		}
	}
	fmt.Fprint(nc, "0\r\n\r\n")
	if b, err := io.ReadAll(res.Body); len(b) > 0 || err != nil {
		t.Errorf("got %q %v", b, err)
	}
}

// TestLateBody has a handler read its body after it has returned.
func TestLateBody(t *testing.T) {
	t.Parallel()
	var body io.Reader
	_, addr := serveTCP(t, handle(func(_ http.ResponseWriter, r *http.Request) { body = r.Body }))
	nc := dial(t, addr)
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
	read(t, bufio.NewReader(nc), "POST")
	if n, err := body.Read(make([]byte, 2)); n > 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %d %v", n, err)
	}
}

// TestLarge passes bodies of many sizes through, cut into pieces by the network.
func TestLarge(t *testing.T) {
	t.Parallel()
	_, addr := serveTCP(t, handle(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r.Body}, make([]byte, 5000))
	}))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, size := range []int{0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 5000, 10000, 1 << 20, 5 << 20} {
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		for _, body := range []io.Reader{bytes.NewReader(want), struct{ io.Reader }{bytes.NewReader(want)}} {
			res, err := client.Post("http://"+addr, "", body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes: got %d, %v", size, len(got), err)
			}
		}
	}
}

// TestEveryCut sends a pipeline of requests cut in two at each place.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, r.URL.Path, len(r.Header), string(b), r.Trailer, err)
	}
	raw := "GET /1 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	inTime(t, echo, func(t *testing.T, _ *Server, p *pipes) {
		var want []string
		for i := range len(raw) {
			nc := p.dial()
			go func() {
				_, _ = io.WriteString(nc, raw[:i]) // returns when it has been read
				_, _ = io.WriteString(nc, raw[i:])
			}()
			b, err := io.ReadAll(nc)
			nc.Close()
			got, _ := answers(string(b))
			if i == 0 {
				want = got
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != 4 || err != nil {
				t.Errorf("cut at %d: got %q, want %q", i, got, want)
			}
		}
	})
}

// certificate makes one for 127.0.0.1.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestFallback speaks every version to one server, with and without TLS.
func TestFallback(t *testing.T) {
	t.Parallel()
	h := handle(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil, " ", string(b))
	})
	fallback := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	fallback.Protocols.SetHTTP1(true)
	fallback.Protocols.SetHTTP2(true)
	fallback.Protocols.SetUnencryptedHTTP2(true)
	s := &Server{Handler: h, Fallback: fallback, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	addrs := map[string]string{}
	for _, scheme := range []string{"http", "https"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs[scheme] = scheme + "://" + l.Addr().String()
		if scheme == "https" {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2", "http/1.1"}})
		}
		serving.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	for _, tt := range []struct {
		scheme, want string
		protocols    func(*http.Protocols)
	}{
		{"http", "HTTP/1.1 false body", func(p *http.Protocols) { p.SetHTTP1(true) }},
		{"http", "HTTP/2.0 false body", func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }},
		{"https", "HTTP/1.1 true body", func(p *http.Protocols) { p.SetHTTP1(true) }},
		{"https", "HTTP/2.0 true body", func(p *http.Protocols) { p.SetHTTP2(true) }},
	} {
		protocols := new(http.Protocols)
		tt.protocols(protocols)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		for range 3 {
			res, err := client.Post(addrs[tt.scheme], "", strings.NewReader("body"))
			if err != nil {
				t.Fatalf("%v: %v", tt, err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(b) != tt.want {
				t.Errorf("got %q, want %q", b, tt.want)
			}
			if tt.want[:8] == "HTTP/1.1" {
				time.Sleep(4 * tickLength) // so that its buffers are taken from it
			}
		}
		client.CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	serving.Wait()
}
