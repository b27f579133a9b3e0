package h1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, which have a test's own time.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// inTime runs f with a server over pipes, in a time of its own.
func inTime(t *testing.T, h http.HandlerFunc, f func(t *testing.T, s *Server, p *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		s := &Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		p := newPipes()
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := s.Serve(p); !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		f(t, s, p)
		_ = s.Close()
		serving.Wait()
		time.Sleep(time.Minute) // clients learn of it
	})
}

// lasts says for how long a connection stays open, and what comes until then.
func lasts(nc net.Conn) (time.Duration, string) {
	began := time.Now()
	b, _ := io.ReadAll(nc)
	return time.Since(began), string(b)
}

func within(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+2*tickLength {
		t.Errorf("%s: took %v, want %v", what, got, want)
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	ok := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	t.Run("a client that says nothing", func(t *testing.T) {
		inTime(t, ok, func(t *testing.T, _ *Server, p *pipes) {
			took, got := lasts(p.dial())
			within(t, "silence", took, 10*time.Second)
			if got != "" {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a head that comes byte by byte", func(t *testing.T) {
		inTime(t, ok, func(t *testing.T, _ *Server, p *pipes) {
			nc := p.dial()
			go func() {
				for _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\nX: "); err == nil; _, err = nc.Write([]byte("x")) {
					time.Sleep(time.Second)
				}
			}()
			took, got := lasts(nc)
			within(t, "slow head", took, 10*time.Second)
			if !strings.HasPrefix(got, "HTTP/1.1 408 ") {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a connection that is idle", func(t *testing.T) {
		inTime(t, ok, func(t *testing.T, _ *Server, p *pipes) {
			nc := p.dial()
			br := bufio.NewReader(nc)
			for range 3 {
				fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				read(t, br, "GET")
				time.Sleep(30 * time.Second)
			}
			took, _ := lasts(nc)
			within(t, "idle", took, 30*time.Second)
		})
	})
	t.Run("a request may take its time", func(t *testing.T) {
		inTime(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			time.Sleep(time.Hour)
			_, _ = w.Write(b)
		}, func(t *testing.T, _ *Server, p *pipes) {
			nc := p.dial()
			go func() {
				fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
				time.Sleep(time.Hour)
				fmt.Fprint(nc, "b")
			}()
			if _, got := read(t, bufio.NewReader(nc), "POST"); got != "ab" {
				t.Errorf("got %q", got)
			}
			nc.Close()
		})
	})
	t.Run("a deadline of the handler ends with its request", func(t *testing.T) {
		inTime(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/0" {
				return
			}
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		}, func(t *testing.T, _ *Server, p *pipes) {
			nc := p.dial()
			br := bufio.NewReader(nc)
			for i := range 3 {
				fmt.Fprintf(nc, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
				read(t, br, "GET")
				time.Sleep(5 * time.Second)
			}
			nc.Close()
		})
	})
	t.Run("a body that nobody wants and that does not come", func(t *testing.T) {
		inTime(t, func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, _ *Server, p *pipes) {
			nc := p.dial()
			fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
			took, got := lasts(nc)
			within(t, "rest", took, 10*time.Second)
			if !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a response that is not read", func(t *testing.T) {
		done := make(chan struct{})
		inTime(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, func(t *testing.T, s *Server, p *pipes) {
			nc := p.dial()
			fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			began := time.Now()
			go func() {
				defer close(done)
				_ = s.Shutdown(context.Background())
				within(t, "response", time.Since(began), 10*time.Second)
			}()
			time.Sleep(time.Minute)
			nc.Close()
		})
		<-done
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	slow := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(3 * time.Second)
		fmt.Fprint(w, "done")
	}
	t.Run("finishes what is under way and closes the rest", func(t *testing.T) {
		inTime(t, slow, func(t *testing.T, s *Server, p *pipes) {
			idle, busy, fresh := p.dial(), p.dial(), p.dial()
			fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			read(t, bufio.NewReader(idle), "GET")
			fmt.Fprint(busy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			synctest.Wait()
			began := time.Now()
			stopped := make(chan error, 1)
			go func() { stopped <- s.Shutdown(context.Background()) }()
			if took, _ := lasts(idle); took > tickLength {
				t.Errorf("the idle one was left for %v", took)
			}
			if took, _ := lasts(fresh); took > time.Second+2*tickLength {
				t.Errorf("the new one was left for %v", took)
			}
			res, body := read(t, bufio.NewReader(busy), "GET")
			if body != "done" || !res.Close {
				t.Errorf("got %q, close %v", body, res.Close)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			within(t, "shutdown", time.Since(began), 3*time.Second)
			if err := s.Serve(newPipes()); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve after it: %v", err)
			}
		})
	})
	t.Run("gives up with its context", func(t *testing.T) {
		inTime(t, slow, func(t *testing.T, s *Server, p *pipes) {
			nc := p.dial()
			fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			_ = s.Close()
			if took, got := lasts(nc); took > 0 || got != "" {
				t.Errorf("Close left it for %v with %q", took, got)
			}
			time.Sleep(5 * time.Second) // the handler
		})
	})
	t.Run("keep-alives can be switched off", func(t *testing.T) {
		inTime(t, slow, func(t *testing.T, s *Server, p *pipes) {
			idle, busy := p.dial(), p.dial()
			fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			read(t, bufio.NewReader(idle), "GET")
			fmt.Fprint(busy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			synctest.Wait()
			s.SetKeepAlivesEnabled(false)
			if took, _ := lasts(idle); took > tickLength {
				t.Errorf("the idle one was left for %v", took)
			}
			for _, nc := range []net.Conn{busy, p.dial()} {
				if nc != busy {
					fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				}
				if res, body := read(t, bufio.NewReader(nc), "GET"); body != "done" || !res.Close {
					t.Errorf("got %q, close %v", body, res.Close)
				}
				if took, _ := lasts(nc); took > 0 {
					t.Errorf("left for %v", took)
				}
			}
		})
	})
}

// TestAcceptFails has the machine run out of what a connection needs.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	s := &Server{}
	if err := s.Serve(failing{errors.New("gone")}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Accept() (net.Conn, error) { return nil, f.err }
func (f failing) Close() error              { return nil }
func (f failing) Addr() net.Addr            { return &net.TCPAddr{} }

// TestWhenClientsAreLookedAfter holds that a request which waits to be told that
// its client has left is looked at each time.
func TestWhenClientsAreLookedAfter(t *testing.T) {
	t.Parallel()
	for awaited, want := range map[bool]string{false: "2 7 12 ", true: "1 2 3 4 5 6 7 8 9 10 11 12 "} {
		got := ""
		for age := range int64(13) {
			if looksAt(age, awaited) {
				got += fmt.Sprint(age, " ")
			}
		}
		if got != want {
			t.Errorf("awaited %v: looked at %q, want %q", awaited, got, want)
		}
	}
	c := &requestContext{}
	if c.AfterFunc(func() {}); c.awaited() {
		t.Error("AfterFunc counts as waiting, which every request does")
	}
	if c.Done(); !c.awaited() {
		t.Error("Done does not count as waiting")
	}
}
