package raftnode

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// lived is the config of a server that founded a cluster, wrote and stopped.
func lived(t *testing.T) Config {
	t.Helper()
	cfg := single(t)
	n := open(t, cfg)
	leaderOf(t, n)
	write(t, "a", n)
	eventually(t, "its membership is written down", func() bool {
		_, err := os.Stat(filepath.Join(cfg.DataDir, memberFile))
		return err == nil
	})
	shutdown(t, n)
	return cfg
}

func TestADataDirectoryThatLostItsLogIsRefused(t *testing.T) {
	t.Parallel()
	overwrite := func(name string, size int64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		damage func(t *testing.T, dir string)
		says   string
	}{
		"missing log":   {remove(storeFile), "raft.db is missing"},
		"empty log":     {overwrite(storeFile, 0), "raft.db is empty"},
		"log cut short": {overwrite(storeFile, 8192), "raft.db"},
		"log replaced by a fresh one": {func(t *testing.T, dir string) {
			t.Helper()
			remove(storeFile)(t, dir)
			store, err := openStore(filepath.Join(dir, storeFile))
			if err == nil {
				err = store.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "was a member of a cluster"},
		"missing id": {remove(serverIDFile), "server-id is missing"},
		"empty id":   {overwrite(serverIDFile, 0), "invalid UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := lived(t)
			test.damage(t, cfg.DataDir)
			n, err := Open(t.Context(), cfg, raftstate.NewFSM())
			if err == nil {
				shutdown(t, n)
			}
			if !errors.Is(err, ErrDataDir) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestADamagedSnapshotIsPassedOver(t *testing.T) {
	cfg := single(t)
	n := open(t, cfg)
	leaderOf(t, n)
	for _, name := range []string{"a", "b"} {
		write(t, name, n)
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "c", n)
	want := encoded(t, n)
	shutdown(t, n)
	made, err := filepath.Glob(filepath.Join(cfg.DataDir, "snapshots", "*"))
	if err != nil || len(made) != 2 {
		t.Fatalf("snapshots are %q, %v", made, err)
	}
	if err := os.Truncate(filepath.Join(made[1], "state.bin"), 20); err != nil {
		t.Fatal(err)
	}
	n = open(t, cfg)
	leaderOf(t, n)
	if got := encoded(t, n); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAFirstStartThatDiedIsBegunAgain(t *testing.T) {
	cfg := single(t)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := openStore(filepath.Join(cfg.DataDir, storeFile))
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	leaderOf(t, open(t, cfg))
}

func TestTheDataDirectoryIsOurs(t *testing.T) {
	cfg := single(t)
	n := open(t, cfg)
	info, err := os.Stat(cfg.DataDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	cfg.Bind = freeAddress(t)
	second, err := Open(t.Context(), cfg, raftstate.NewFSM())
	if err == nil {
		shutdown(t, second)
	}
	if !errors.Is(err, ErrDataDir) || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	shutdown(t, n)
	open(t, cfg)
}

func TestAPortInUseIsNamed(t *testing.T) {
	cfg := single(t)
	open(t, cfg)
	cfg.DataDir = t.TempDir()
	n, err := Open(t.Context(), cfg, raftstate.NewFSM())
	if err == nil {
		shutdown(t, n)
		t.Fatal("it opened")
	}
	if !strings.Contains(err.Error(), "listen on "+cfg.Bind+": the port is in use") {
		t.Errorf("got %v", err)
	}
	if runtime.GOOS == "linux" && !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("it does not say by whom: %v", err)
	}
}

func TestAConfigIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no data directory":      {func(c *Config) { c.DataDir = "" }, "data directory"},
		"nothing to do":          {func(c *Config) { c.BootstrapExpect = 0 }, "neither found a cluster nor join one"},
		"fewer than none":        {func(c *Config) { c.BootstrapExpect = -1 }, "cannot be -1"},
		"too few peers":          {func(c *Config) { c.BootstrapExpect = 3 }, "all 3 servers"},
		"a peer without a port":  {func(c *Config) { c.Peers = []string{"host"} }, `peer "host"`},
		"a peer at any port":     {func(c *Config) { c.Peers = []string{"host:0"} }, "a port that peers can reach"},
		"an address of nobody":   {func(c *Config) { c.Advertise = "[::]:1" }, "a host that peers can reach"},
		"bound to all addresses": {func(c *Config) { c.Bind = "0.0.0.0:0" }, "an advertise address is needed"},
		"a log cut too short":    {func(c *Config) { c.Timing.TrailingLogs = 10 }, "at least twice"},
		"a lease too long":       {func(c *Config) { c.Timing.Lease = time.Minute }, "LeaderLeaseTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := single(t)
			test.change(&cfg)
			n, err := Open(t.Context(), cfg, raftstate.NewFSM())
			if err == nil {
				shutdown(t, n)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func TestThePortDropsWhatItDoesNotKnow(t *testing.T) {
	n := open(t, single(t))
	for name, first := range map[string]string{
		"another protocol": "GET / HTTP/1.1\r\n\r\n",
		"Raft for another": "\x01" + uuid.NewString(),
		"noise for Raft":   "\x01" + n.ID() + "\xff\xff\xff\xff",
		"noise for HTTP":   "\x02\x00\x00\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialRaw(t, n.Address(), first)
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			_, err := io.Copy(io.Discard, conn)
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the connection is kept")
			}
		})
	}
	dialRaw(t, n.Address(), "") // says nothing; must not keep Shutdown waiting
	leaderOf(t, n)
}

func TestTheListenerOutlivesAFailedAccept(t *testing.T) {
	l := &flaky{incoming: make(chan net.Conn), closed: make(chan struct{}), fail: 3}
	m := newMux(l, "x:1", "id", hclog.NewNullLogger())
	ours, theirs := net.Pipe()
	l.incoming <- theirs
	if _, err := ours.Write([]byte{byte(protocolHTTP)}); err != nil {
		t.Fatal(err)
	}
	conn, err := m.listenerFor(protocolHTTP).Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("a closed mux leaves connections open")
	}
	if _, err := m.listenerFor(protocolRaft).Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
}

// flaky is a listener whose first few accepts fail, as when no file
// descriptor is left.
type flaky struct {
	incoming chan net.Conn
	closed   chan struct{}
	fail     int
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.fail > 0 {
		l.fail--
		return nil, errors.New("too many open files")
	}
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *flaky) Close() error   { close(l.closed); return nil }
func (l *flaky) Addr() net.Addr { return namedAddr("flaky:1") }

func dialRaw(t *testing.T, address, first string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, first); err != nil {
		t.Fatal(err)
	}
	return conn
}
