package listeners

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// generation is one of the processes that follow each other on a port; here they
// are in one process.
type generation struct {
	listeners map[string]*Listener
	taken     chan error // what came of its Offer
	resumed   atomic.Int64
}

func ports() map[string]string {
	return map[string]string{"public": "127.0.0.1:0", "handle": "localhost:0"}
}

// first is a generation with none before it, which waits at path.
func first(t *testing.T, path, state string) *generation {
	t.Helper()
	g, _, err := follow(t, path, state, &Inheritance{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// next takes over from the one that waits at path, and waits there itself.
func next(t *testing.T, path, state string) (*generation, string, error) {
	t.Helper()
	return follow(t, path, state, takeOver(t, path))
}

// takeOver asks the one that waits at path, as soon as one does.
func takeOver(t *testing.T, path string) (i *Inheritance) {
	t.Helper()
	eventually(t, "one waits", func() bool {
		var err error
		if i, err = TakeOver(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		return i.Found()
	})
	return i
}

func follow(t *testing.T, path, state string, i *Inheritance) (*generation, string, error) {
	t.Helper()
	g := &generation{listeners: map[string]*Listener{}, taken: make(chan error, 1)}
	offer := &Offer{Path: path, State: func() []byte { return []byte(state) }, Log: hclog.NewNullLogger()}
	offer.Resume = func(told []byte) {
		if string(told) != state {
			t.Errorf("it goes on with the state %q", told)
		}
		g.resumed.Add(1)
	}
	var all []*Listener
	offer.Listeners = func() []*Listener { return all }
	for name, address := range ports() {
		l, err := i.Open(t.Context(), name, address, Options{}, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		g.listeners[name] = l
		all = append(all, l)
	}
	before, err := i.Ready()
	if err == nil {
		err = i.Serving()
	}
	if err != nil {
		return nil, "", errors.Join(err, i.Close())
	}
	for _, l := range g.listeners {
		running(t, l)
		serve(t, l, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, state)
		})
	}
	if err := offer.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { g.taken <- offer.Serve(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return g, string(before), nil
}

func TestPortsGoFromProcessToProcessUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upgrade.sock")
	g := first(t, path, "0")
	address := g.listeners["public"].Addr()
	stop, seen := make(chan struct{}), [4]atomic.Int64{}
	var load sync.WaitGroup
	for n := range seen {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := say(t, address, plainRequest); !strings.HasPrefix(got, "HTTP/1.1 200") {
					t.Errorf("lost: %q", got)
					return
				}
				seen[n].Add(1)
			}
		})
	}
	for n := range 20 {
		old := g
		now, before, err := next(t, path, fmt.Sprint(n+1))
		if err != nil || before != fmt.Sprint(n) {
			t.Fatalf("take-over %d: %q, %v", n, before, err)
		}
		g = now
		if err := <-old.taken; err != nil {
			t.Fatal(err)
		}
		for name, l := range g.listeners {
			if l.Addr().String() != old.listeners[name].Addr().String() {
				t.Errorf("%s moved from %s to %s", name, old.listeners[name].Addr(), l.Addr())
			}
		}
		for i := range seen {
			had := seen[i].Load()
			eventually(t, "requests go on", func() bool { return seen[i].Load() > had || t.Failed() })
		}
	}
	close(stop)
	load.Wait()
	if got := say(t, address, plainRequest); !strings.HasSuffix(got, "20") {
		t.Errorf("at last: %q", got)
	}
}

func TestAFailedTakeOverLeavesTheOldOneServing(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, i *Inheritance){
		"it dies after it has the ports": func(*testing.T, *Inheritance) {},
		"it says that it cannot":         func(_ *testing.T, i *Inheritance) { i.Fail(errors.New("no table")) },
		"it dies when the old one has stopped": func(t *testing.T, i *Inheritance) {
			if state, err := i.Ready(); err != nil || string(state) != "old" {
				t.Errorf("state %q, %v", state, err)
			}
		},
		"it says something else": func(t *testing.T, i *Inheritance) {
			if err := send(i.conn, message{Kind: kindServing}); err != nil {
				t.Error(err)
			}
			if _, err := receive(i.conn, kindGoodbye); err == nil {
				t.Error("the old one has gone")
			}
		},
		"it says nonsense": func(t *testing.T, i *Inheritance) {
			if _, err := io.WriteString(i.conn, "\xff\xff\xff\xffGET / HTTP/1.1\r\n\r\n"); err != nil {
				t.Error(err)
			}
			var failed *failedError
			if _, err := receive(i.conn, kindStopped); !errors.As(err, &failed) {
				t.Errorf("got %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			g := first(t, path, "old")
			for range 3 {
				i := takeOver(t, path)
				fail(t, i)
				if err := i.Close(); err != nil {
					t.Error(err)
				}
				if got := say(t, g.listeners["public"].Addr(), plainRequest); !strings.HasSuffix(got, "old") {
					t.Errorf("got %q", got)
				}
			}
			want := int64(0)
			if name == "it dies when the old one has stopped" {
				want = 3
			}
			eventually(t, "it goes on with what it had told", func() bool { return g.resumed.Load() == want })
			if _, before, err := next(t, path, "new"); err != nil || before != "old" {
				t.Errorf("a good one then: %q, %v", before, err)
			}
			if err := <-g.taken; err != nil {
				t.Error(err)
			}
		})
	}
}

// oldProcess plays the process before at path, up to where serving is said.
func oldProcess(t *testing.T, path string, end func(conn *net.UnixConn)) {
	t.Helper()
	socket, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	t.Cleanup(func() { _ = socket.Close(); run.Wait() })
	run.Go(func() {
		conn, err := socket.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		_, err = receive(conn, kindHello)
		err = errors.Join(err, send(conn, message{Kind: kindPorts}), sendSockets(conn, nil))
		_, ready := receive(conn, kindReady)
		if err := errors.Join(err, ready, send(conn, message{Kind: kindStopped})); err != nil {
			t.Error(err)
		}
		end(conn)
	})
}

func TestWhoServesIsNeverInDoubt(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(conn *net.UnixConn)
		serves bool // the new process does
	}{
		{"the old one dies", func(*net.UnixConn) {}, true},
		{"the old one dies later", func(c *net.UnixConn) { _, _ = receive(c, kindServing) }, true},
		{"the old one goes on", func(c *net.UnixConn) { _ = giveUp(c, errors.New("too late")) }, false},
		{"the old one says nonsense", func(c *net.UnixConn) { _ = send(c, message{Kind: kindHello}) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			oldProcess(t, path, c.end)
			i, err := TakeOver(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := i.Ready(); err != nil {
				t.Fatal(err)
			}
			if err := i.Serving(); (err == nil) != c.serves {
				t.Errorf("got %v", err)
			}
			_ = i.Close()
		})
	}
}

func TestANewProcessThatSpeaksAnotherVersionIsToldSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first(t, path, "old")
	var conn net.Conn
	eventually(t, "it waits", func() (ok bool) {
		c, err := net.Dial("unix", path)
		conn = c
		return err == nil
	})
	defer conn.Close()
	if err := send(conn, message{Kind: kindHello, Protocol: protocol + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(conn, kindPorts); err == nil || !strings.Contains(err.Error(), "ordinary way") {
		t.Errorf("got %v", err)
	}
}

func TestNobodyToTakeOverFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	check := func(what, path string) {
		t.Helper()
		i, err := TakeOver(t.Context(), path)
		if err != nil || i.Found() {
			t.Fatalf("%s: %v", what, err)
		}
		l, err := i.Open(t.Context(), "public", "127.0.0.1:0", Options{}, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		running(t, l)
		state, ready := i.Ready()
		if err := errors.Join(ready, i.Serving(), i.Close()); err != nil || state != nil {
			t.Errorf("%s: %q, %v", what, state, err)
		}
	}
	check("no file", path)
	socket, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	check("left behind by a dead process", path)
	long := filepath.Join(t.TempDir(), strings.Repeat("a", 120))
	check("a path that no socket can have", long)
	if err := (&Offer{Path: long, Log: hclog.NewNullLogger()}).Bind(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("to wait there: %v", err)
	}
}

func TestASocketThatIsNoTCPPortIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	socket, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	var run sync.WaitGroup
	defer run.Wait()
	run.Go(func() {
		conn, err := socket.AcceptUnix()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, err = receive(conn, kindHello)
		// One port, and no socket with it.
		if err := errors.Join(err, send(conn, message{Kind: kindPorts, Ports: []port{{"public", "a"}}})); err != nil {
			t.Error(err)
		}
		_, _ = conn.Write([]byte{0})
	})
	if _, err := TakeOver(ctx, path); err == nil || !strings.Contains(err.Error(), "0 sockets") {
		t.Errorf("got %v", err)
	}
}
