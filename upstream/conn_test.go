package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDeadlineIsTheExchanges has a connection keep the deadline of an earlier
// exchange, which nobody must notice.
func TestDeadlineIsTheExchanges(t *testing.T) {
	t.Parallel()
	type step struct {
		at    time.Duration // since the beginning
		do    func(c *Conn, far net.Conn)
		armed time.Duration // nc's deadline afterwards; 0: none
	}
	begin := func(left time.Duration) func(*Conn, net.Conn) {
		return func(c *Conn, _ net.Conn) {
			now := time.Now()
			deadline := now.Add(left)
			if left == 0 {
				deadline = time.Time{}
			}
			if err := c.Begin(now, deadline, 0); err != nil {
				t.Error(err)
			}
		}
	}
	// Reads until a byte comes or the time is over.
	reads := func(begun time.Time, until time.Duration, comes bool) func(*Conn, net.Conn) {
		return func(c *Conn, _ net.Conn) {
			_, err := c.R.ReadByte()
			if took := time.Since(begun); took != until || (err == nil) != comes || (err != nil && !errors.Is(err, os.ErrDeadlineExceeded)) {
				t.Errorf("read returned %v after %s, want %s", err, took, until)
			}
		}
	}
	synctest.Test(t, func(*testing.T) {
		begun := time.Now()
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		c := NewConn(near, 1<<20)
		for _, s := range []step{
			{do: begin(0)},
			{at: 0, do: begin(100), armed: 100},
			{at: 40, do: begin(100), armed: 100}, // until 140: more than half is left
			{at: 41, do: func(*Conn, net.Conn) { sendAt(far, begun.Add(120)) }, armed: 100}, // a byte
			{at: 41, do: reads(begun, 120, true), armed: 140},
			{at: 120, do: reads(begun, 140, false), armed: 140},
			{at: 150, do: begin(100), armed: 250},
			{at: 210, do: begin(100), armed: 310}, // less than half is left
			{at: 220, do: begin(10), armed: 230},  // which is earlier
			{at: 225, do: begin(0)},
			{at: 226, do: begin(1000), armed: 1226},
			{at: 230, do: begin(990), armed: 1220},
			{at: 240, do: func(c *Conn, _ net.Conn) { c.HalfClose(5) }, armed: 1220},
			{at: 240, do: reads(begun, 245, false), armed: 1220},
		} {
			time.Sleep(time.Until(begun.Add(s.at)))
			s.do(c, far)
			want := begun.Add(s.armed)
			if s.armed == 0 {
				want = time.Time{}
			}
			if !c.armed.Equal(want) {
				t.Errorf("at %s: armed for %s, want %s", s.at, c.armed.Sub(begun), s.armed)
			}
		}
		if c.Reusable() {
			t.Error("a connection that was half closed would be used again")
		}
	})
}

// sendAt writes a byte at that time.
func sendAt(w io.Writer, at time.Time) {
	go func() {
		time.Sleep(time.Until(at))
		_, _ = w.Write([]byte{'x'})
	}()
}

// TestWokenReaderDoesNotReadOn has somebody end a read whose deadline is an
// earlier exchange's.
func TestWokenReaderDoesNotReadOn(t *testing.T) {
	t.Parallel()
	for name, wake := range map[string]func(*Conn){
		"reader": (*Conn).WakeReader, "writer": (*Conn).WakeWriter, "nobody waits": func(c *Conn) { c.HalfClose(0) },
	} {
		synctest.Test(t, func(*testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			c := NewConn(near, 1<<20)
			now := time.Now()
			if err := c.Begin(now, now.Add(time.Hour), 0); err != nil {
				t.Fatal(err)
			}
			var both sync.WaitGroup
			if name != "writer" {
				both.Go(func() {
					if _, err := c.R.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%s: read got %v", name, err)
					}
				})
			}
			if name != "reader" {
				both.Go(func() {
					if _, err := (connWriter{c}).Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%s: write got %v", name, err)
					}
				})
			}
			synctest.Wait()
			wake(c)
			both.Wait()
			if took := time.Since(now); took != 0 || c.Reusable() {
				t.Errorf("%s: after %s", name, took)
			}
		})
	}
}

// TestDeadlineThatComesBeforeTheRequest has an earlier exchange's deadline end
// before anything of a request was sent: it must be sent all the same.
func TestDeadlineThatComesBeforeTheRequest(t *testing.T) {
	t.Parallel()
	far, near := tcpPair(t)
	c := NewConn(near, 1<<20)
	c.deadline, c.armed = time.Now().Add(5*time.Second), time.Now().Add(-time.Second)
	if err := near.SetDeadline(c.armed); err != nil {
		t.Fatal(err)
	}
	c.SendBeforeRead([]byte("request"), nil, nil)
	go func() {
		if _, err := io.ReadFull(far, make([]byte, len("request"))); err == nil {
			_, _ = far.Write([]byte("!"))
		}
	}()
	if b, err := c.R.ReadByte(); err != nil || b != '!' {
		t.Errorf("got %q %v", b, err)
	}
}

// TestAskOfWhatTheKernelTakesInParts has a socket that is too small for the
// request.
func TestAskOfWhatTheKernelTakesInParts(t *testing.T) {
	t.Parallel()
	request := bytes.Repeat([]byte("request "), 4<<10)
	for _, follows := range []bool{false, true} {
		far, near := tcpPair(t)
		if err := near.SetWriteBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		c := NewConn(near, 1<<20)
		took, parts := false, 0
		var short func([]byte) error
		sent := make(chan error, 1)
		if follows {
			short = func(rest []byte) error {
				parts = len(rest)
				go func() {
					_, err := connWriter{c}.Write(rest)
					sent <- err
				}()
				return nil
			}
		} else {
			sent <- nil
		}
		c.SendBeforeRead(request, func() { took = true }, short)
		got := make(chan []byte, 1)
		go func() {
			b := make([]byte, len(request))
			_, _ = io.ReadFull(far, b)
			_, _ = far.Write([]byte("!"))
			got <- b
		}()
		if b, err := c.R.ReadByte(); err != nil || b != '!' {
			t.Errorf("got %q %v", b, err)
		}
		if err := <-sent; err != nil || !bytes.Equal(<-got, request) || c.Sent != int64(len(request)) {
			t.Errorf("sent %d of %d: %v", c.Sent, len(request), err)
		}
		if follows && (parts == 0 || took) {
			t.Errorf("%d bytes were to follow, taken: %v", parts, took)
		}
	}
}

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (far, near *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn), dialled.(*net.TCPConn)
}
