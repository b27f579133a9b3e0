package raftnode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// childEnv makes a process of this test binary a server: its value is a
// childConfig.
const childEnv = "RAFTNODE_TEST_CHILD"

type childConfig struct {
	DataDir string
	Bind    string
	Peers   []string
}

// runChild is a server's process. It ends when its standard input does, which
// is when the test's process ends.
func runChild(config string) int {
	var c childConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx := context.Background()
	n, err := Open(ctx, Config{
		DataDir: c.DataDir, Bind: c.Bind, Peers: c.Peers, BootstrapExpect: len(c.Peers),
	}, raftstate.NewFSM())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	paths := http.NewServeMux()
	paths.HandleFunc("POST /write/{name}", func(w http.ResponseWriter, r *http.Request) {
		result, err := n.Propose(r.Context(), deploy(r.PathValue("name")))
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case result.Err() != nil:
			http.Error(w, result.Error, http.StatusConflict)
		}
	})
	paths.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, slices.Collect(maps.Keys(n.State().Applications)))
	})
	n.SetHandler(paths)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := n.Shutdown(ctx); err != nil {
		return 1
	}
	return 0
}

type child struct {
	config childConfig
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer
}

func (c *child) start(t *testing.T) {
	t.Helper()
	config, err := json.Marshal(c.config)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.CommandContext(context.Background(), os.Args[0], "-test.run=^$")
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	c.cmd.Stderr = &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends the process in good order.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if c.cmd.ProcessState != nil {
		return
	}
	_ = c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("server at %s: %v\n%s", c.config.Bind, err, c.stderr.String())
	}
}

// kill ends the process as a crash does.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // it says that it was killed
}

// peerClient speaks HTTP to the servers' port.
func peerClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: time.Second}
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		_, err = conn.Write([]byte{byte(protocolHTTP)})
		return conn, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 3 * time.Second}
}

func call(t *testing.T, client *http.Client, method, url string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}

// writers write names of their own, each until it is acknowledged, by one
// server after the other. A write that was refused as done already was applied
// twice.
type writers struct {
	client  *http.Client
	servers []*child
	stop    chan struct{}
	running sync.WaitGroup

	mu    sync.Mutex
	acked map[string]time.Time
}

func (w *writers) run(t *testing.T, number int) {
	t.Helper()
	server := number
	tick := time.NewTicker(20 * time.Millisecond) // paces it: the machine is shared
	defer tick.Stop()
	for i := 0; ; i++ {
		name := fmt.Sprintf("w%d-%d", number, i)
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
			address := w.servers[server%len(w.servers)].config.Bind
			status, body := call(t, w.client, http.MethodPost, "http://"+address+"/write/"+name)
			if status == http.StatusOK {
				w.mu.Lock()
				w.acked[name] = time.Now()
				w.mu.Unlock()
				break
			}
			if status == http.StatusConflict {
				t.Errorf("%s was refused: %s", name, body)
				return
			}
			server++
		}
	}
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// gap returns the longest time without an acknowledged write.
func (w *writers) gap() time.Duration {
	times := slices.SortedFunc(maps.Values(w.acked), time.Time.Compare)
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i].Sub(times[i-1]))
	}
	return longest
}

func TestNoAcknowledgedWriteIsLostWhenTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	var peers []string
	for range 3 {
		peers = append(peers, freeAddress(t))
	}
	dir := t.TempDir()
	var servers []*child
	for i, address := range peers {
		c := &child{config: childConfig{DataDir: filepath.Join(dir, fmt.Sprint(i)), Bind: address, Peers: peers}}
		c.start(t)
		t.Cleanup(func() { c.stop(t) })
		servers = append(servers, c)
	}
	w := &writers{client: peerClient(t), servers: servers, stop: make(chan struct{}), acked: map[string]time.Time{}}
	for i := range 4 {
		w.running.Go(func() { w.run(t, i) })
	}
	stop := sync.OnceFunc(func() {
		close(w.stop)
		w.running.Wait()
	})
	defer stop()
	eventually(t, "writes go through", func() bool { return w.count() >= 40 })

	killed := killLeader(t, w.client, servers)
	before := w.count()
	eventually(t, "writes go through again", func() bool { return w.count() >= before+40 })
	stop()
	t.Logf("%d writes acknowledged, the longest gap is %s", len(w.acked), w.gap())

	killed.start(t)
	for _, server := range servers {
		var missing []string
		eventually(t, "the server at "+server.config.Bind+" has every acknowledged write", func() bool {
			missing = w.missing(t, server)
			return len(missing) == 0
		})
	}
}

// missing returns what was acknowledged and is not in the server's state.
func (w *writers) missing(t *testing.T, server *child) []string {
	t.Helper()
	status, body := call(t, w.client, http.MethodGet, "http://"+server.config.Bind+"/state")
	var names []string
	if status != http.StatusOK || json.Unmarshal(body, &names) != nil {
		return []string{"all"}
	}
	var missing []string
	for name := range w.acked {
		if !slices.Contains(names, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// killLeader kills the server that the others believe in.
func killLeader(t *testing.T, client *http.Client, servers []*child) *child {
	t.Helper()
	var killed *child
	eventually(t, "the servers name a leader", func() bool {
		status, body := call(t, client, http.MethodGet, "http://"+servers[0].config.Bind+identityPath)
		var who identity
		if status != http.StatusOK || json.Unmarshal(body, &who) != nil {
			return false
		}
		for _, server := range servers {
			if server.config.Bind == who.LeaderAddress {
				killed = server
			}
		}
		return killed != nil
	})
	killed.kill(t)
	return killed
}
