package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestReadReady asks bodies for what is there, without waiting.
func TestReadReady(t *testing.T) {
	t.Parallel()
	steps := make(chan string) // what the client is to send next
	seen := make(chan string)
	done := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ready := r.Body.(interface{ ReadReady(p []byte) (int, error) })
		p := make([]byte, 100)
		for {
			n, err := ready.ReadReady(p)
			for n == 0 && err == nil && r.Header.Get("X-Wait") != "" {
				n, err = ready.ReadReady(p) // until it has arrived
			}
			if n == 0 && err == nil { // only Read can tell
				rest, err := io.ReadAll(r.Body)
				seen <- fmt.Sprintf("read %q %v", rest, err)
				return
			}
			seen <- fmt.Sprintf("ready %q %v", p[:n], err)
			if errors.Is(err, io.EOF) {
				n, err := ready.ReadReady(p)
				m, again := r.Body.Read(p)
				seen <- fmt.Sprint(n, err, m, again)
				return
			}
		}
	})}
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for text := range steps {
			_, _ = io.WriteString(nc, text)
		}
	}()
	for _, tt := range []struct{ send, want string }{
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", `ready "hello" EOF`},
		{"", "0 <nil> 0 EOF"},
		{"POST / HTTP/1.1\r\nHost: a\r\nX-Wait: 1\r\nContent-Length: 5\r\n\r\nhe", `ready "he" <nil>`},
		{"llo", `ready "llo" EOF`},
		{"", "0 <nil> 0 EOF"},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", `ready "hello" EOF`},
		{"", "0 <nil> 0 EOF"},
		{"", `ready "x" EOF`},
		{"", "0 <nil> 0 EOF"},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", `read "ok" <nil>`},
		{"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok", `read "ok" <nil>`},
	} {
		if tt.send != "" {
			steps <- tt.send
		}
		if got := <-seen; got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.send, got, tt.want)
		}
	}
	close(steps)
	nc.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
}
